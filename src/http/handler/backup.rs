//! `POST /api/backup`: everything durable, as one stream.

use super::guard::person;
use super::{Services, not_durable};
use crate::backup::{self, Head};
use crate::http::{ApiError, Reply, Request};
use crate::journal::AuditEntry;
use crate::store::records::Person;
use bytes::Bytes;
use futures_util::stream;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Bytes handed over at a time, and how often before the client must take some.
const CHUNK: usize = 64 << 10;
const CHUNKS: usize = 8;

pub(super) async fn take(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    request.query.only(&[])?;
    let Person { user, reason } = person(&request, false)?;
    let copy = services.records.store().copy().ok_or_else(|| {
        ApiError::conflict("backup_in_progress", "another backup is being taken; try again when it is done")
    })?;
    let (at, target) = (services.clock.now(), "store".to_owned());
    let entry = AuditEntry {
        at,
        user: user.clone(),
        action: "backup.take",
        target,
        reason: reason.clone(),
        detail: BTreeMap::new(),
    };
    services.records.note(entry).await.map_err(|error| not_durable(&error))?;
    tracing::warn!(user, reason, "a backup is being taken");
    let head = Head::new(&services.instance, at);
    let (sender, mut receiver) = mpsc::channel(CHUNKS);
    let outputs = services.outputs.clone();
    // Its end is the end of the stream; a client that hangs up ends it too.
    tokio::task::spawn_blocking(move || {
        let out = BufWriter::with_capacity(CHUNK, Chunks(sender));
        match backup::take(copy, &outputs, &head, out, &|| true) {
            Ok(contents) => {
                tracing::info!(records = contents.records, outputs = contents.files, "a backup was sent")
            }
            Err(error) => tracing::error!(%error, "a backup was given up"),
        }
    });
    let chunks = stream::poll_fn(move |context| receiver.poll_recv(context));
    Ok(Reply::stream("application/octet-stream", chunks))
}

/// Hands bytes over to a client, at the client's pace.
struct Chunks(mpsc::Sender<Bytes>);

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Bytes::copy_from_slice(bytes));
        sent.map(|()| bytes.len()).map_err(|_| io::Error::new(ErrorKind::BrokenPipe, "its reader went away"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
