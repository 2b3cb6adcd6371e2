//! The cookie of a session, and whether a request that carries one was made by a page of our own.
//!
//! Over HTTPS the cookie is `__Host-runbookd`: bound to this very host, sent over HTTPS only, hidden from scripts,
//! and never sent by another site's page. Browsers refuse that name over plain HTTP, so on this machine's loopback
//! address, and only there, it is called `runbookd_session` and goes without `Secure`. May import: `auth` (failures).
//! Must never: accept the plain name over HTTPS, where another program of the same host could have set it.

use crate::auth::Failure;
use hyper::header::{COOKIE, HOST, HeaderMap, HeaderValue, ORIGIN};
use std::net::IpAddr;
use std::time::Duration;

/// Over HTTPS.
pub(super) const HOST_COOKIE: &str = "__Host-runbookd";
/// Over plain HTTP on a loopback address.
pub(super) const LOCAL_COOKIE: &str = "runbookd_session";
/// What our own pages send with every change; no form can, and no other site's script may.
const MARK: (&str, &str) = ("x-requested-with", "runbookd");

/// Where our own pages come from.
pub(super) struct Origin<'o> {
    /// Whether the client spoke HTTPS.
    pub(super) https: bool,
    /// What the config says, where a proxy hides the real host.
    pub(super) configured: Option<&'o str>,
}

fn name(https: bool, peer: IpAddr) -> Option<&'static str> {
    match https {
        true => Some(HOST_COOKIE),
        false => peer.to_canonical().is_loopback().then_some(LOCAL_COOKIE),
    }
}

/// The session's cookie of a request. Sent twice it is refused: which of them is ours would be a guess.
pub(super) fn session(headers: &HeaderMap, https: bool, peer: IpAddr) -> Result<Option<&str>, Failure> {
    let Some(name) = name(https, peer) else { return Ok(None) };
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = pairs.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut ours = pairs.filter(|(known, _)| *known == name).map(|(_, value)| value);
    match (ours.next(), ours.next()) {
        (_, Some(_)) => Err(Failure::Malformed),
        (first, None) => Ok(first),
    }
}

/// The header that sets the cookie, or with no time left takes it away. `None` where a cookie would go over the
/// network in the clear.
pub(crate) fn set(value: &str, left: Duration, https: bool, peer: IpAddr) -> Option<HeaderValue> {
    let name = name(https, peer)?;
    let secure = if https { "; Secure" } else { "" };
    let text =
        format!("{name}={value}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict{secure}", left.as_secs());
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Whether the browser says that another site's page made the request.
pub(super) fn is_foreign(headers: &HeaderMap, own: &Origin<'_>) -> bool {
    let sites = headers.get_all("sec-fetch-site").iter();
    let strange_site = sites.into_iter().any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"));
    strange_site || headers.get_all(ORIGIN).iter().any(|origin| !is_ours(origin, headers, own))
}

/// Whether a page of our own made the request.
pub(super) fn is_own_page(headers: &HeaderMap, own: &Origin<'_>) -> bool {
    let (name, value) = MARK;
    let marked = headers.get(name).is_some_and(|given| given.as_bytes() == value.as_bytes());
    marked && !is_foreign(headers, own)
}

fn is_ours(origin: &HeaderValue, headers: &HeaderMap, own: &Origin<'_>) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    if own.configured.is_some_and(|configured| origin.eq_ignore_ascii_case(configured)) {
        return true;
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let scheme = if own.https { "https" } else { "http" };
    !host.is_empty() && origin.eq_ignore_ascii_case(&format!("{scheme}://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderName;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        headers
    }

    const LOOPBACK: [u8; 4] = [127, 0, 0, 1];
    const LAN: [u8; 4] = [10, 0, 0, 1];

    #[test]
    fn t16_the_cookie_counts_by_its_name_for_the_way_it_came() {
        let check = |cookies: &[(&'static str, &str)], https, peer: [u8; 4], expected| {
            assert_eq!(
                session(&headers(cookies), https, peer.into()),
                expected,
                "{cookies:?} {https} {peer:?}"
            );
        };
        let (host, local) = ([("cookie", "a=1; __Host-runbookd=h")], [("cookie", "runbookd_session=l")]);
        check(&host, true, LAN, Ok(Some("h")));
        check(&local, true, LAN, Ok(None));
        check(&local, false, LOOPBACK, Ok(Some("l")));
        check(&host, false, LOOPBACK, Ok(None));
        check(&local, false, LAN, Ok(None));
        check(&[], true, LAN, Ok(None));
        check(&[("cookie", "__Host-runbookd=a; __Host-runbookd=b")], true, LAN, Err(Failure::Malformed));
        let twice = [("cookie", "__Host-runbookd=a"), ("cookie", "__Host-runbookd=a")];
        check(&twice, true, LAN, Err(Failure::Malformed));
        check(&[("cookie", "x__Host-runbookd=a; ; =;__host-runbookd=b")], true, LAN, Ok(None));
    }

    #[test]
    fn t16_the_cookie_is_hidden_bound_and_never_sent_in_the_clear() {
        let set = |https, peer: [u8; 4]| {
            let value = set("v", Duration::from_secs(60), https, peer.into());
            value.map(|value| value.to_str().unwrap().to_owned())
        };
        let common = "=v; Path=/; Max-Age=60; HttpOnly; SameSite=Strict";
        assert_eq!(set(true, LAN), Some(format!("__Host-runbookd{common}; Secure")));
        assert_eq!(set(false, LOOPBACK), Some(format!("runbookd_session{common}")));
        assert_eq!(set(false, LAN), None);
    }

    #[test]
    fn t16_only_our_own_pages_may_change_something_with_a_cookie() {
        const HOST: (&str, &str) = ("host", "runbookd.example:8443");
        const MARKED: (&str, &str) = ("x-requested-with", "runbookd");
        let own = Origin { https: true, configured: Some("https://runbookd.example.org") };
        let check = |more: &[(&'static str, &str)], expected| {
            let all = [&[HOST, MARKED], more].concat();
            assert_eq!(is_own_page(&headers(&all), &own), expected, "{more:?}");
        };
        check(&[], true);
        check(&[("origin", "https://runbookd.example:8443")], true);
        check(&[("origin", "https://runbookd.example.org")], true);
        check(&[("origin", "https://runbookd.example:8443"), ("sec-fetch-site", "same-origin")], true);
        check(&[("sec-fetch-site", "none")], true);
        for origin in [
            "http://runbookd.example:8443",
            "https://runbookd.example",
            "https://runbookd.example:8443.evil.example",
            "https://evil.example",
            "https://www.runbookd.example.org",
            "null",
            "",
        ] {
            check(&[("origin", origin)], false);
        }
        for site in ["cross-site", "same-site", "", "SAME-ORIGIN"] {
            check(&[("sec-fetch-site", site)], false);
        }
        check(&[("origin", "https://runbookd.example:8443"), ("origin", "https://evil.example")], false);
        assert!(!is_own_page(&headers(&[HOST]), &own), "without the mark");
        assert!(!is_own_page(&headers(&[HOST, ("x-requested-with", "XMLHttpRequest")]), &own));
        assert!(!is_foreign(&headers(&[HOST]), &own), "a program sends neither");
        let nowhere = Origin { https: true, configured: None };
        assert!(!is_own_page(&headers(&[MARKED, ("origin", "https://")]), &nowhere));
    }
}
