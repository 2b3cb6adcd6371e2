//! One request as a handler sees it: matched, authenticated, with its whole bounded body.
//!
//! May import: `auth` (who asks), `secret`. Must never: hand out a header that only a trusted proxy may set, other than
//! through [`Request::client`] and [`Request::https`].

use super::body::Held;
use super::{ApiError, FieldError, Method};
use crate::auth::Principal;
use crate::secret::Secrets;
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Instant;

/// Deepest nesting of a JSON body.
const MAX_DEPTH: usize = 32;
/// Most characters of what a parser says that are passed on.
const MAX_DETAIL: usize = 200;
/// Longest text of a person that is kept, in characters.
const MAX_WORDS: usize = 1000;

/// A request.
#[derive(Debug)]
pub struct Request {
    /// The method; [`Method::Get`] for HEAD too.
    pub method: Method,
    /// Whether it is a HEAD: the body of the answer will not be sent.
    pub head: bool,
    /// The matched route's path, such as `/api/executions/{id}`.
    pub route: &'static str,
    /// The path's parameters, decoded.
    pub params: Vec<(String, String)>,
    /// The query, decoded.
    pub query: Query,
    /// All header fields as sent.
    pub headers: HeaderMap,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// The client: the peer, or what trusted proxies say.
    pub client: IpAddr,
    /// Whether a trusted proxy says that the client spoke HTTPS.
    pub https: bool,
    /// The whole body.
    pub body: Bytes,
    /// The request's id, sent or made; it is in the answer and in the log.
    pub id: String,
    /// Who asks; `None` on open routes and on the webhook.
    pub principal: Option<Principal>,
    /// When its head had arrived.
    pub received: Instant,
    /// What must not be kept of what people write.
    pub secrets: Secrets,
    pub(super) _held: Held,
}

impl Request {
    /// What somebody wrote for other people, as it is kept: at most [`MAX_WORDS`] characters, and no secret.
    pub fn words(&self, text: &str) -> String {
        self.secrets.hide(text.trim()).chars().take(MAX_WORDS).collect()
    }

    /// A parameter of the path; empty when the route has none of that name.
    pub fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Who asks, for the audit: the subject, or `anonymous`.
    pub fn user(&self) -> &str {
        self.principal.as_ref().map_or("anonymous", |who| &who.subject)
    }

    /// Accepts a JSON content type, or none at all.
    ///
    /// # Errors
    /// 415.
    pub fn require_json(&self) -> Result<(), ApiError> {
        let mut types = self.headers.get_all(CONTENT_TYPE).iter();
        let Some(first) = types.next() else { return Ok(()) };
        let essence = first.to_str().unwrap_or("").split(';').next().unwrap_or("").trim();
        let json = essence.eq_ignore_ascii_case("application/json")
            || essence
                .to_ascii_lowercase()
                .strip_prefix("application/")
                .is_some_and(|t| t.ends_with("+json"));
        if json && types.next().is_none() {
            Ok(())
        } else {
            Err(ApiError::unsupported_media_type("the body must be application/json"))
        }
    }

    /// The body as JSON, at most 32 levels deep.
    ///
    /// # Errors
    /// 415; 400 for what is no JSON; 422 for JSON of another shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        self.require_json()?;
        if deeper_than(&self.body, MAX_DEPTH) {
            return Err(ApiError::malformed(format!("the body is nested deeper than {MAX_DEPTH} levels")));
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            if error.is_data() {
                return ApiError::invalid_field("", shape(&error.to_string()));
            }
            let (line, column) = (error.line(), error.column());
            ApiError::malformed(format!("the body is no JSON: line {line}, column {column}"))
        })
    }
}

/// What serde says, without the value it found: that may be a secret in the wrong place.
fn shape(message: &str) -> String {
    let text = match message.find("expected ") {
        Some(at) if message.starts_with("invalid ") => &message[at..],
        _ => message,
    };
    text.chars().take(MAX_DETAIL).collect()
}

/// Whether brackets outside strings nest deeper than `most`.
fn deeper_than(json: &[u8], most: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > most {
                    return true;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// The decoded query of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=b&c`; `None` where an escape is broken or the result is no UTF-8.
    pub(super) fn read(text: &str) -> Option<Self> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(&name.replace('+', " "))?, decode(&value.replace('+', " "))?))
        });
        pairs.collect::<Option<_>>().map(Self)
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Every value of `name`.
    pub fn all<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Refuses names other than these, so that a misspelt filter does not silently select everything.
    ///
    /// # Errors
    /// 422 naming every unknown one, and every one that is given more than once: which would count?
    pub fn only(&self, names: &[&str]) -> Result<(), ApiError> {
        let unknown = self.0.iter().filter(|(name, _)| !names.contains(&name.as_str()));
        let twice = names
            .iter()
            .filter(|name| self.all(name).count() > 1)
            .map(|name| FieldError { path: (*name).to_owned(), message: "given more than once".to_owned() });
        let errors: Vec<FieldError> = unknown
            .map(|(name, _)| FieldError {
                path: name.chars().take(64).collect(),
                message: format!("unknown; known are: {}", names.join(", ")),
            })
            .chain(twice)
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(ApiError::invalid(errors)) }
    }

    /// The value of `name` as a `T`; absent or empty is `None`.
    ///
    /// # Errors
    /// 422 for a value that is none, or for several.
    pub fn filter<T>(&self, name: &str) -> Result<Option<T>, ApiError>
    where
        T: FromStr,
        T::Err: Display,
    {
        let mut values = self.all(name);
        let (first, second) = (values.next(), values.next());
        if second.is_some() {
            return Err(ApiError::invalid_field(name, "given more than once"));
        }
        let Some(text) = first.filter(|text| !text.is_empty()) else { return Ok(None) };
        text.parse().map(Some).map_err(|why: T::Err| {
            let why: String = why.to_string().chars().take(MAX_DETAIL).collect();
            ApiError::invalid_field(name, why)
        })
    }

    /// `limit` of a list: 1 to 500, 100 when absent.
    ///
    /// # Errors
    /// 422 for anything else.
    pub fn limit(&self) -> Result<usize, ApiError> {
        let limit = self.filter::<usize>("limit")?.unwrap_or(100);
        if (1..=500).contains(&limit) {
            Ok(limit)
        } else {
            Err(ApiError::invalid_field("limit", "must be 1 to 500"))
        }
    }
}

/// Undoes percent-encoding; `None` where an escape is broken or the result is no UTF-8.
pub(super) fn decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if *byte == b'%' {
            let digit = |byte: &u8| char::from(*byte).to_digit(16);
            let (high, low) = (bytes.get(at + 1).and_then(digit)?, bytes.get(at + 2).and_then(digit)?);
            decoded.push((high * 16 + low) as u8);
            at += 3;
        } else {
            decoded.push(*byte);
            at += 1;
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(body: &str, content_type: &[&str]) -> Request {
        let mut headers = HeaderMap::new();
        for value in content_type {
            headers.append(CONTENT_TYPE, value.parse().unwrap());
        }
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        Request {
            method: Method::Post,
            head: false,
            route: "/",
            params: vec![("id".into(), "x".into())],
            query: Query::default(),
            headers,
            peer,
            client: peer.ip(),
            https: false,
            body: Bytes::copy_from_slice(body.as_bytes()),
            id: "1".into(),
            principal: None,
            received: Instant::now(),
            secrets: Secrets::default(),
            _held: Held::default(),
        }
    }

    fn check(body: &str, expected: Result<u32, (u16, &str)>) {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Body {
            n: u32,
        }
        let got = request(body, &[]).json::<Body>().map(|body| body.n);
        let got = got.map_err(|error| (error.status(), error.message().to_owned()));
        assert_eq!(got, expected.map_err(|(status, message)| (status, message.to_owned())), "{body}");
    }

    #[test]
    fn a_body_is_json_of_the_right_shape_or_the_fault_is_named() {
        check(r#"{"n": 7}"#, Ok(7));
        check("", Err((400, "the body is no JSON: line 1, column 0")));
        check("{\n\"n\": 7", Err((400, "the body is no JSON: line 2, column 6")));
        check(r#"{"n": 7} x"#, Err((400, "the body is no JSON: line 1, column 10")));
        check(r#"{"n": "hunter2"}"#, Err((422, "expected u32 at line 1 column 15")));
        check("{}", Err((422, "missing field `n` at line 1 column 2")));
        check(r#"{"m": 1}"#, Err((422, "unknown field `m`, expected `n` at line 1 column 4")));
        let deep = format!("{}{}", "[".repeat(33), "]".repeat(33));
        check(&deep, Err((400, "the body is nested deeper than 32 levels")));
    }

    #[test]
    fn brackets_inside_strings_do_not_count_as_nesting() {
        assert!(!deeper_than(br#"{"a": "[[[[[[[[\"[[["}"#, 2));
        assert!(deeper_than(br#"{"a\\": [[1]]}"#, 2));
        assert!(!deeper_than(b"]]]]]]", 1));
        assert!(!deeper_than(b"[][][][]", 1));
    }

    #[test]
    fn only_json_or_no_content_type_is_taken() {
        for good in
            [&[][..], &["application/json"], &["Application/JSON; charset=utf-8"], &["application/x+json"]]
        {
            assert!(request("", good).require_json().is_ok(), "{good:?}");
        }
        for bad in [&["text/plain"][..], &[""], &["application/jsonx"], &["application/json", "text/plain"]] {
            assert_eq!(request("", bad).require_json().unwrap_err().status(), 415, "{bad:?}");
        }
    }

    #[test]
    fn a_query_is_decoded_or_refused_as_a_whole() {
        let query = Query::read("a=1&b=x%20y+z&c&a=2&=e&d=%C3%BC").unwrap();
        assert_eq!(query.get("b"), Some("x y z"));
        assert_eq!(query.get("c"), Some(""));
        assert_eq!(query.get("d"), Some("ü"));
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(query.get("z"), None);
        assert_eq!(Query::read(""), Some(Query::default()));
        for bad in ["a=%", "a=%1", "a=%zz", "a=%ff", "%=1", "a=%+1"] {
            assert_eq!(Query::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_filter_is_typed_and_a_bad_one_is_422() {
        let status = |text: &str| {
            let query = Query::read(text).unwrap();
            query.limit().map_err(|error| error.status())
        };
        assert_eq!(status(""), Ok(100));
        assert_eq!(status("limit=500"), Ok(500));
        for bad in ["limit=0", "limit=501", "limit=-1", "limit=x", "limit=1&limit=2"] {
            assert_eq!(status(bad), Err(422), "{bad}");
        }
        let query = Query::read("status=a&stauts=b").unwrap();
        let error = query.only(&["status", "limit"]).unwrap_err();
        assert_eq!(error.message(), "stauts: unknown; known are: status, limit");
        assert!(query.only(&["status", "stauts"]).is_ok());
        let error = Query::read("status=a&status=a&limit=1").unwrap().only(&["status", "limit"]).unwrap_err();
        assert_eq!((error.status(), error.message()), (422, "status: given more than once"));
        assert_eq!(query.filter::<u8>("absent"), Ok(None));
    }

    #[test]
    fn a_parameter_is_found_by_name() {
        let request = request("", &[]);
        assert_eq!((request.param("id"), request.param("no"), request.user()), ("x", "", "anonymous"));
    }
}
