//! Speaking to a server: one request, one bounded answer, every refusal as a sentence with a way out.
//!
//! May import: `model` (the secret). Must never: follow a redirect or use a proxy (the token would go where nobody
//! said), retry what a person asked for once, or read an answer without a bound.

use super::args::{Server, Shape};
use super::quit::Quit;
use super::{Environment, field, json};
use crate::model::Secret;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;
use std::error::Error;
use std::time::Duration;

/// Where a server listens by default.
const DEFAULT_URL: &str = "http://127.0.0.1:9796";
/// The longest answer read: 500 executions with all that a journal holds of their outputs.
pub(super) const MAX_ANSWER: usize = 64 << 20;
/// The longest error body read.
const MAX_ERROR: usize = 64 << 10;
const CONNECT: Duration = Duration::from_secs(5);
/// For a whole answer that is not a stream.
const ANSWER: Duration = Duration::from_secs(30);
/// Between two bytes of a stream, which says that it lives every 15 s.
const SILENCE: Duration = Duration::from_secs(45);

/// A server, and who asks.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    /// The header that says who asks.
    credential: Option<(HeaderName, HeaderValue)>,
    /// How its answers are to be shown.
    pub(super) shape: Shape,
}

/// A JSON answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// As it was sent.
    text: String,
    /// Decoded.
    pub(super) value: Value,
}

impl Answer {
    /// As it was sent, indented.
    pub(super) fn pretty(&self) -> String {
        json::pretty(&self.text)
    }
}

/// What the server said, or that it did not.
pub(super) enum Failed {
    /// Nothing came, or it broke off; asking again may help.
    Lost(Quit),
    /// Asked too often; asking again helps after so long.
    TooOften(Quit, Duration),
    /// An answer that will be the same next time.
    Final(Quit),
}

impl From<Failed> for Quit {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Lost(quit) | Failed::TooOften(quit, _) | Failed::Final(quit) => quit,
        }
    }
}

impl Client {
    /// The client that flags and variables ask for.
    pub(super) fn new(server: &Server, env: &Environment) -> Result<Self, Quit> {
        let url = server.url.as_deref().or_else(|| env.get("RUNBOOKD_URL")).unwrap_or(DEFAULT_URL);
        let base = base(url).map_err(Quit::Usage)?;
        let token = server.token.as_deref().or_else(|| env.get("RUNBOOKD_TOKEN"));
        let credential = token.map(|token| credential(&Secret::new(token.trim())));
        let credential = credential.transpose().map_err(Quit::Usage)?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("runbookd/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE);
        if base.scheme() == "http" {
            // Certificates that are not needed may be absent, and take time to read.
            builder = builder.tls_certs_only([]);
        }
        let http =
            builder.build().map_err(|cause| Quit::no(format!("no HTTPS is possible: {}", root(&cause))))?;
        Ok(Self { http, base, credential, shape: server.output })
    }

    /// GETs a JSON answer; empty parameters are left out.
    pub(super) async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Answer, Quit> {
        let query: Vec<_> = query.iter().filter(|(_, value)| !value.is_empty()).collect();
        let request = self.request(Method::GET, path).query(&query).timeout(ANSWER);
        self.answer(request.header(ACCEPT, "application/json")).await
    }

    /// POSTs a JSON body.
    pub(super) async fn post(&self, path: &[&str], body: &Value) -> Result<Answer, Quit> {
        self.tell(Method::POST, path, body).await
    }

    /// POSTs a JSON body with parameters; empty ones are left out.
    pub(super) async fn post_with(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        body: &Value,
    ) -> Result<Answer, Quit> {
        let query: Vec<_> = query.iter().filter(|(_, value)| !value.is_empty()).collect();
        self.send_body(self.request(Method::POST, path).query(&query), body).await
    }

    /// PUTs a JSON body.
    pub(super) async fn put(&self, path: &[&str], body: &Value) -> Result<Answer, Quit> {
        self.tell(Method::PUT, path, body).await
    }

    /// DELETEs, with a JSON body that says why.
    pub(super) async fn delete(&self, path: &[&str], body: &Value) -> Result<Answer, Quit> {
        self.tell(Method::DELETE, path, body).await
    }

    async fn tell(&self, method: Method, path: &[&str], body: &Value) -> Result<Answer, Quit> {
        self.send_body(self.request(method, path), body).await
    }

    async fn send_body(&self, request: RequestBuilder, body: &Value) -> Result<Answer, Quit> {
        let request = request.timeout(ANSWER).body(body.to_string());
        self.answer(request.header(ACCEPT, "application/json").header(CONTENT_TYPE, "application/json")).await
    }

    /// GETs an answer of any length, to be read with [`Client::next`]; empty parameters are left out.
    pub(super) async fn open(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        accept: &'static str,
        last_event: Option<&str>,
    ) -> Result<Response, Failed> {
        let query: Vec<_> = query.iter().filter(|(_, value)| !value.is_empty()).collect();
        let mut request = self.request(Method::GET, path).query(&query).header(ACCEPT, accept);
        if let Some(id) = last_event {
            request = request.header("Last-Event-ID", id);
        }
        self.send(request).await
    }

    /// POSTs a JSON body for an answer of any length, to be read with [`Client::next`].
    pub(super) async fn draw(
        &self,
        path: &[&str],
        body: &Value,
        accept: &'static str,
    ) -> Result<Response, Failed> {
        let request = self.request(Method::POST, path).body(body.to_string());
        self.send(request.header(ACCEPT, accept).header(CONTENT_TYPE, "application/json")).await
    }

    /// The next bytes of an answer; `None` at its end.
    pub(super) async fn next(&self, response: &mut Response) -> Result<Option<Vec<u8>>, Quit> {
        let chunk = response.chunk().await.map_err(|cause| self.unreachable(&cause))?;
        Ok(chunk.map(|chunk| chunk.to_vec()))
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let request = self.http.request(method, url);
        match self.credential.clone() {
            Some((name, value)) => request.header(name, value),
            None => request,
        }
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Answer, Quit> {
        let mut response = self.send(request).await?;
        let bytes = self.read(&mut response, MAX_ANSWER).await?;
        let text = String::from_utf8(bytes).map_err(|_| self.stranger("it is not UTF-8"))?;
        match serde_json::from_str(&text) {
            Ok(value) => Ok(Answer { text, value }),
            Err(_) => Err(self.stranger("it is not JSON")),
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Failed> {
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(cause) => return Err(Failed::Lost(self.unreachable(&cause))),
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after =
            response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = self.read(&mut response, MAX_ERROR).await.unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let quit = self.refusal(status, &body, retry_after.as_deref());
        let seconds = retry_after.and_then(|after| after.parse().ok()).unwrap_or(1);
        Err(match status {
            StatusCode::TOO_MANY_REQUESTS => Failed::TooOften(quit, Duration::from_secs(seconds)),
            status if status.is_server_error() => Failed::Lost(quit),
            _ => Failed::Final(quit),
        })
    }

    async fn read(&self, response: &mut Response, most: usize) -> Result<Vec<u8>, Quit> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.next(response).await? {
            if bytes.len() + chunk.len() > most {
                return Err(self.stranger(&format!("it is longer than {most} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// What an answer that is no success means. Its code decides, its sentence is shown.
    fn refusal(&self, status: StatusCode, body: &Value, retry_after: Option<&str>) -> Quit {
        let ours = body["error"].is_string();
        let mut message = match field::text(body, "error") {
            sentence if sentence.is_empty() => format!("the server answered {status}"),
            sentence => format!("{sentence} ({}, {})", status.as_u16(), field::text(body, "code")),
        };
        for error in field::list(body, "errors") {
            message += &match (field::text(error, "path"), field::text(error, "message")) {
                (path, sentence) if path.is_empty() => format!("\n  {}{sentence}", field::scalar(error)),
                (path, sentence) => format!("\n  {path}: {sentence}"),
            };
        }
        let hint = match status.as_u16() {
            401 if self.credential.is_none() => "pass --token or set RUNBOOKD_TOKEN".to_owned(),
            401 => "pass --token or set RUNBOOKD_TOKEN to one that is valid; `runbookd token` makes one"
                .to_owned(),
            403 => "your roles do not allow it; ask somebody whose roles do".to_owned(),
            404 if !ours => format!("is {} the URL of runbookd?", self.base),
            429 | 503 => retry_after.map(|after| format!("try again in {after} s")).unwrap_or_default(),
            _ => String::new(),
        };
        match status.as_u16() {
            401 | 403 => Quit::Unauthorized { message, hint },
            300..=399 => self.stranger(&format!("it redirects ({status}), which runbookd never does")),
            // Something before the server says that it cannot reach it either.
            502..=504 if !ours => self.stranger(&format!("it answers {status}")),
            _ => Quit::No { message, hint },
        }
    }

    fn unreachable(&self, cause: &reqwest::Error) -> Quit {
        let base = &self.base;
        let message = match cause {
            cause if cause.is_connect() => format!("cannot connect to {base}: {}", root(cause)),
            cause if cause.is_timeout() => format!("{base} did not answer in time"),
            cause => format!("the connection to {base} broke: {}", root(cause)),
        };
        let hint = "is the server running? pass --url or set RUNBOOKD_URL for another one".to_owned();
        Quit::Unreachable { message, hint }
    }

    /// What answers is not a runbookd.
    pub(super) fn stranger(&self, why: &str) -> Quit {
        Quit::Unreachable {
            message: format!("the answer of {} is not one of runbookd: {why}", self.base),
            hint: "pass --url or set RUNBOOKD_URL".to_owned(),
        }
    }
}

/// The cause at the end of the chain: what the system said.
fn root(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}

fn base(text: &str) -> Result<Url, String> {
    let wrong = |why: &str| format!("the server's URL {text:?} {why}");
    match Url::parse(text) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            Err("the server's URL holds a user or a password: use --token or RUNBOOKD_TOKEN".to_owned())
        }
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            Err(wrong("does not begin with http:// or https://"))
        }
        Ok(url) if url.query().is_some() || url.fragment().is_some() => Err(wrong("holds a ? or a #")),
        Ok(url) => Ok(url),
        Err(_) if !text.contains("://") => Err(wrong("does not begin with http:// or https://")),
        Err(why) => Err(wrong(&format!("is not one: {why}"))),
    }
}

/// A token, or an API key: the prefix tells.
fn credential(token: &Secret) -> Result<(HeaderName, HeaderValue), String> {
    let text = token.expose();
    let (name, text) = if text.starts_with("rbk_") {
        (HeaderName::from_static("x-api-key"), text.to_owned())
    } else {
        (AUTHORIZATION, format!("Bearer {text}"))
    };
    let value = HeaderValue::from_str(&text);
    let mut value = value.map_err(|_| "the token holds a character that no token has".to_owned())?;
    value.set_sensitive(true);
    Ok((name, value))
}
