//! The explorer: one page, with its script and its style in it, that reads the document and sends requests.
//!
//! Nothing of it comes from elsewhere, and its policy lets it run that script and ask this server, and nothing else:
//! both are named by their hashes, so that a script somebody smuggles in does not run. May import: nothing of this
//! crate. Must never: be filled with anything a request says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::HeaderValue;
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;

const HTML: &str = include_str!("page/explorer.html");
const SCRIPT: &str = include_str!("page/explorer.js");
const STYLE: &str = include_str!("page/explorer.css");

static PAGE: LazyLock<Bytes> =
    LazyLock::new(|| HTML.replace("/* style */", STYLE).replace("/* script */", SCRIPT).into());

/// What the page may do.
static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; frame-ancestors 'none'; \
         base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    HeaderValue::from_str(&policy).ok()
});

/// The page.
pub(in crate::http) fn page() -> Bytes {
    PAGE.clone()
}

/// Its policy; without one the edge's own stays, under which it shows nothing.
pub(in crate::http) fn policy() -> Option<HeaderValue> {
    POLICY.clone()
}
