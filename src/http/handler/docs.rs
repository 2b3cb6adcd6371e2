//! `/docs`: the API's description, and the page that reads it.

use crate::http::docs::{self, Shelf, Written};
use crate::http::{ApiError, Handler, Reply, Request, handler};
use bytes::Bytes;
use hyper::header::CONTENT_SECURITY_POLICY;
use std::sync::Arc;

/// One of its writings.
pub(super) fn document(shelf: &Arc<Shelf>, media: &'static str, which: fn(&Written) -> &Bytes) -> Handler {
    let shelf = Arc::clone(shelf);
    handler(move |_: Request| {
        let shelf = Arc::clone(&shelf);
        async move {
            let written = match shelf.ready() {
                Some(written) => Some(which(written).clone()),
                None => {
                    let made = tokio::task::spawn_blocking(move || shelf.written().map(which).cloned()).await;
                    made.map_err(|_| ApiError::internal())?
                }
            };
            written.map(|bytes| Reply::bytes(media, bytes)).ok_or_else(ApiError::internal)
        }
    })
}

/// The page; it may do what its own policy says, and not less, as other answers.
pub(super) fn explorer() -> Handler {
    handler(|_: Request| async {
        let reply = Reply::bytes("text/html; charset=utf-8", docs::page());
        Ok(match docs::policy() {
            Some(policy) => reply.header(CONTENT_SECURITY_POLICY, policy),
            None => reply,
        })
    })
}
