//! What the attempts of an execution wrote, also while they run.

use super::{Services, header, state};
use crate::http::{ApiError, Reply, Request};
use crate::journal::Output;
use crate::model::{Part, Role, StepId};
use crate::step::OutputStream;
use futures_util::stream::{self, Stream};
use std::sync::Arc;

/// One stream of one attempt, whole or as far as it is.
pub(in crate::http::handler) async fn output(
    services: Arc<Services>,
    request: Request,
) -> Result<Reply, ApiError> {
    let header = header(&services, &request).await?;
    let nothing = || ApiError::not_found("output");
    let part = part(&request)?;
    let step = StepId::new(request.param("step")).map_err(|_| nothing())?;
    let attempt: u32 = request.param("attempt").parse().map_err(|_| nothing())?;
    let stream = match request.param("stream") {
        "stdout" => OutputStream::Stdout,
        "stderr" => OutputStream::Stderr,
        _ => return Err(nothing()),
    };
    if let Some(live) = services.runner.live(&header.id, &step, part, attempt) {
        return Ok(Reply::stream("text/plain; charset=utf-8", while_it_runs(live, stream)));
    }
    let state = state(&services, &header.id).await?;
    let index = state.index_of(&step).ok_or_else(nothing)?;
    // Of an interrupted attempt and its re-run, which share a number, the later one.
    let ended = state.steps[index]
        .attempts
        .iter()
        .rev()
        .find(|ended| ended.part == part && ended.attempt == attempt)
        .ok_or_else(nothing)?;
    let kept: &Output = match stream {
        OutputStream::Stdout => &ended.result.stdout,
        OutputStream::Stderr => &ended.result.stderr,
    };
    match &kept.file {
        None => Ok(Reply::text(kept.head.clone())),
        Some(name) => {
            let path = services.outputs.join(name);
            let file = tokio::fs::File::open(&path).await.map_err(|_| nothing())?;
            Ok(Reply::stream("text/plain; charset=utf-8", chunks(file)))
        }
    }
}

/// Which part of the step is meant: the step itself, unless `part` names its undo or its probe, and of a step that
/// is done for a list, the item at the position `item`.
fn part(request: &Request) -> Result<Part, ApiError> {
    let query = &request.query;
    query.only(&["part", "item"])?;
    let role = match query.filter::<String>("part")?.as_deref() {
        None => Role::Main,
        Some("undo") => Role::Undo,
        Some("probe") => Role::Probe,
        Some(_) => return Err(ApiError::invalid_field("part", "must be undo or probe, or absent")),
    };
    Ok(Part { role, item: query.filter("item")? })
}

/// What an attempt in progress has written so far; a client asks again for more.
fn while_it_runs(live: crate::step::LiveOutput, which: OutputStream) -> impl Stream<Item = bytes::Bytes> {
    stream::unfold((live, 0_u64), move |(live, offset)| async move {
        let piece = live.read(which, offset, 64 << 10).ok()?;
        let next = piece.start + piece.bytes.len() as u64;
        if piece.bytes.is_empty() { None } else { Some((piece.bytes.into(), (live, next))) }
    })
}

fn chunks(file: tokio::fs::File) -> impl Stream<Item = bytes::Bytes> {
    use tokio::io::AsyncReadExt as _;
    stream::unfold(file, |mut file| async move {
        let mut chunk = bytes::BytesMut::with_capacity(64 << 10);
        match file.read_buf(&mut chunk).await {
            Ok(read) if read > 0 => Some((chunk.freeze(), file)),
            _ => None,
        }
    })
}
