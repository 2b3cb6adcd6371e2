//! Addresses people write: where to listen, and the URLs of other programs.
//!
//! May import: nothing of this crate. Must never: resolve a name or open a connection.

use std::net::{Ipv4Addr, SocketAddr};

/// Reads where to listen: `IP:PORT`, `localhost:PORT` (127.0.0.1), or `:PORT` (every IPv4 address).
pub(super) fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let wrong = || format!("{text:?} is not an address with a port");
    let named = |port: &str, ip: Ipv4Addr| {
        let port = port.parse::<u16>().map_err(|_| wrong())?;
        Ok(SocketAddr::from((ip, port)))
    };
    if let Some(port) = text.strip_prefix(':') {
        return named(port, Ipv4Addr::UNSPECIFIED);
    }
    if let Some(port) = text.strip_prefix("localhost:") {
        return named(port, Ipv4Addr::LOCALHOST);
    }
    text.parse().map_err(|_| wrong())
}

/// Why a text is not the URL of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum UrlError {
    /// Not a URL at all. The text is not repeated: it may hold a password.
    #[error("this is not a URL: {0}")]
    Syntax(String),
    /// Neither http nor https.
    #[error("the scheme {0:?} is neither http nor https")]
    Scheme(String),
    /// A user or password.
    #[error("the URL holds a user or a password, which would be shown wherever it is")]
    Credential,
    /// A query or fragment.
    #[error("the URL has a query or a fragment, and paths are appended to it")]
    Tail,
}

/// Reads the URL of a server: http or https, a host, perhaps a path; given without a final slash.
pub(super) fn parse_server_url(text: &str) -> Result<String, UrlError> {
    let url = reqwest::Url::parse(text).map_err(|error| UrlError::Syntax(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(UrlError::Scheme(url.scheme().to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::Credential);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(UrlError::Tail);
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_with_a_password_is_refused_without_repeating_it() {
        for bad in
            ["http://me:hunter2@host", "http://me:hunter2@host:port", "ftp://hunter2", "http://h/?hunter2"]
        {
            let error = parse_server_url(bad).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert_eq!(
            parse_server_url("http://127.0.0.1:9090/prom/").as_deref(),
            Ok("http://127.0.0.1:9090/prom")
        );
    }
}
