//! The kind `http`: one request, its answer read up to a limit.
//!
//! No proxy from the environment, no pool (so that a checked connection is never shared with an unchecked one), no
//! retry, no decompression, no redirect unless asked for. May import: `model`. Must never: send a credential to
//! another authority than the one named, or put one into a sentence.

pub(super) use client::describe;

mod client;
mod expect;
pub(super) mod retry_after;
#[cfg(test)]
mod tests;

pub use client::{HttpClient, HttpClientError, Posted};
pub use expect::StatusRange;

use super::{AttemptContext, Finished, HttpCall, KillSignal, Runner, Streams, Ways, lookup};
use crate::model::AttemptOutcome;
use client::Pin;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// More redirects than this are a loop.
const REDIRECTS_MAX: usize = 5;

/// A body that is compared as JSON may be as large as this, in bytes.
const JSON_MAX: usize = 1024 * 1024;

/// Headers that belong to the connection or to the framing of the request.
const RESERVED: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// How far a request came; kept outside of its future, so that it is known when time runs out.
struct Progress {
    phase: &'static str,
    status: Option<u16>,
    retry_after: Option<Duration>,
}

struct Request {
    method: Method,
    url: Url,
    headers: HeaderMap,
}

/// Runs an `http` attempt.
pub(super) async fn run(
    runner: &Runner,
    context: &AttemptContext,
    call: &HttpCall,
    mut kill: KillSignal,
) -> Finished {
    let request = match prepare(&runner.ways, context, call) {
        Ok(request) => request,
        Err(sentence) => return Finished::refused(sentence),
    };
    let streams = runner.streams(context, call.max_output);
    let progress = Mutex::new(Progress { phase: "looking up the host", status: None, retry_after: None });
    let (outcome, error) = tokio::select! {
        biased;
        result = exchange(runner, request, call, &streams, &progress) => match result {
            Ok(note) => (AttemptOutcome::Succeeded, note),
            Err(sentence) => (AttemptOutcome::Failed, Some(sentence)),
        },
        _ = kill.asked() => (AttemptOutcome::Stopped, Some("it was stopped on request".to_owned())),
        () = tokio::time::sleep(context.timeout) => {
            let phase = read(&progress, |progress| progress.phase);
            let after = humantime::format_duration(context.timeout);
            (AttemptOutcome::TimedOut, Some(format!("its timeout of {after} passed while {phase}")))
        }
    };
    let (stdout, stderr, problems) = streams.finish().await;
    let sentences: Vec<String> = error.into_iter().chain(problems).collect();
    Finished {
        outcome,
        exit_code: None,
        signal: None,
        http_status: read(&progress, |progress| progress.status),
        retry_after: read(&progress, |progress| progress.retry_after)
            .filter(|_| outcome != AttemptOutcome::Succeeded),
        stdout,
        stderr,
        error: (!sentences.is_empty()).then(|| sentences.join("; ")),
    }
}

fn read<T>(progress: &Mutex<Progress>, get: impl FnOnce(&mut Progress) -> T) -> T {
    get(&mut progress.lock().unwrap_or_else(PoisonError::into_inner))
}

fn prepare(ways: &Ways, context: &AttemptContext, call: &HttpCall) -> Result<Request, String> {
    let method = Method::from_bytes(call.method.as_bytes())
        .ok()
        .filter(|method| *method != Method::CONNECT)
        .ok_or_else(|| format!("{:?} is not a method that can be sent", call.method))?;
    let mut headers = HeaderMap::new();
    for (name, value) in &call.headers {
        let checked = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("{name:?} is not the name of a header"))?;
        if RESERVED.contains(&checked.as_str()) {
            return Err(format!("the header {name:?} is set by runbookd itself"));
        }
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
            format!("the value of the header {name:?} has a line end or control character in it")
        })?;
        headers.append(checked, value);
    }
    if let Some(name) = &call.bearer {
        let bearer = ways.secret(name)?;
        let mut value = HeaderValue::from_str(&format!("Bearer {}", bearer.expose()))
            .map_err(|_| "the bearer secret has a character in it that no header can carry".to_owned())?;
        value.set_sensitive(true);
        if headers.insert(AUTHORIZATION, value).is_some() {
            return Err("both a bearer secret and a header Authorization are given".into());
        }
    }
    if call.changing && !headers.contains_key("idempotency-key") {
        let value = HeaderValue::from_str(&context.idempotency_key)
            .map_err(|_| "the idempotency key cannot be carried by a header".to_owned())?;
        headers.insert("idempotency-key", value);
    }
    Ok(Request { method, url: parse_url(&call.url)?, headers })
}

/// An address without anything a parser would quietly drop or a server could be misled by.
fn parse_url(text: &str) -> Result<Url, String> {
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("the url has a blank or a control character in it".into());
    }
    let url = Url::parse(text).map_err(|cause| format!("the url cannot be read: {cause}"))?;
    check_url(&url)?;
    Ok(url)
}

fn check_url(url: &Url) -> Result<(), String> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("the url's scheme is {:?}; only http and https are sent to", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the url has a user or password in it; use auth or a header".into());
    }
    Ok(())
}

/// The whole exchange. `Ok` is success, with a note when something is worth saying.
async fn exchange(
    runner: &Runner,
    request: Request,
    call: &HttpCall,
    streams: &Streams,
    progress: &Mutex<Progress>,
) -> Result<Option<String>, String> {
    let _pin = if call.templated_authority { admit(runner, &request.url).await? } else { None };
    let response = send(&runner.http, request, call, progress).await?;
    let status = response.status().as_u16();
    let wait = retry_after::of(response.headers(), runner.ways.clock.now());
    read(progress, |progress| {
        progress.phase = "reading the body";
        progress.status = Some(status);
        progress.retry_after = wait.filter(|_| !(200..300).contains(&status));
    });
    let (note, json) = receive(response, call, streams).await?;
    judge_status(call, status)?;
    if call.expect_json.is_some() && (note.is_some() || json.len() > JSON_MAX) {
        return Err("the body is too long to be compared as JSON".into());
    }
    judge_body(call, &json)?;
    Ok(note)
}

/// Whether an answer with this status and body is what `call` expects.
///
/// # Errors
/// A sentence: what of it is not.
pub fn judge_answer(call: &HttpCall, status: u16, body: &[u8]) -> Result<(), String> {
    judge_status(call, status)?;
    judge_body(call, body)
}

fn judge_status(call: &HttpCall, status: u16) -> Result<(), String> {
    let expected = |pattern: &StatusRange| pattern.matches(status);
    let as_expected = match call.expect_status.is_empty() {
        true => (200..300).contains(&status),
        false => call.expect_status.iter().any(expected),
    };
    if as_expected {
        return Ok(());
    }
    Err(format!("the answer was {status}, expected was {}", expect::list(&call.expect_status)))
}

fn judge_body(call: &HttpCall, body: &[u8]) -> Result<(), String> {
    let Some(expected) = &call.expect_json else { return Ok(()) };
    let found = serde_json::from_slice(body).map_err(|cause| format!("the body is not JSON: {cause}"))?;
    expect::difference(expected, &found).map_or(Ok(()), Err)
}

/// Asks the allow-list about the authority, with every address its name has now, and pins these.
async fn admit(runner: &Runner, url: &Url) -> Result<Option<Pin>, String> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    let allowed =
        lookup::allowed(&*runner.names, &runner.outgoing, host, port, "the url's authority").await?;
    Ok(allowed.map(|addresses| runner.http.pin(host, addresses)))
}

async fn send(
    client: &HttpClient,
    request: Request,
    call: &HttpCall,
    progress: &Mutex<Progress>,
) -> Result<Response, String> {
    let Request { mut method, mut url, headers } = request;
    let mut body = call.body.clone();
    for _ in 0..=REDIRECTS_MAX {
        read(progress, |progress| progress.phase = "connecting or waiting for the answer");
        let mut builder = client.inner().request(method.clone(), url.clone()).headers(headers.clone());
        if let Some(body) = &body {
            builder = builder.body(body.clone());
        }
        let response = builder.send().await.map_err(|cause| describe(cause, &url))?;
        let next = if call.follow_redirects { target(&response, &url)? } else { None };
        let Some(next) = next else { return Ok(response) };
        // As browsers do it: 307 and 308 repeat the request, the others ask for the result.
        let repeats =
            matches!(response.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
        if !repeats && method != Method::HEAD {
            method = Method::GET;
            body = None;
        }
        url = next;
    }
    Err(format!("more than {REDIRECTS_MAX} redirects"))
}

/// Where a redirect leads, if the answer is one.
fn target(response: &Response, from: &Url) -> Result<Option<Url>, String> {
    let Some(location) = response.headers().get(LOCATION).filter(|_| response.status().is_redirection())
    else {
        return Ok(None);
    };
    let next = location
        .to_str()
        .ok()
        .and_then(|text| from.join(text).ok())
        .ok_or("the answer redirects to something that is no address")?;
    check_url(&next)?;
    if next.origin() != from.origin() {
        let to = next.origin().ascii_serialization();
        return Err(format!("the answer redirects to another authority, {to}, and that is not followed"));
    }
    Ok(Some(next))
}

/// Reads the body into the stream. Gives a note when it was longer than is kept, and its bytes if JSON is expected.
async fn receive(
    mut response: Response,
    call: &HttpCall,
    streams: &Streams,
) -> Result<(Option<String>, Vec<u8>), String> {
    let url = response.url().clone();
    let mut total = 0_u64;
    let mut json = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|cause| describe(cause, &url))? {
        total += chunk.len() as u64;
        if call.expect_json.is_some() && json.len() <= JSON_MAX {
            json.extend_from_slice(&chunk);
        }
        let count = chunk.len();
        streams.stdout.take(chunk.to_vec(), count).await;
        if total > call.max_output {
            let note =
                format!("the body is longer than {} bytes and was not read to its end", call.max_output);
            return Ok((Some(note), json));
        }
    }
    Ok((None, json))
}
