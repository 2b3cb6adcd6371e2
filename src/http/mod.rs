//! The edge: our own accept loop over hyper, HTTP/1.1 on plain TCP, and the only place that knows status codes.
//!
//! ```text
//! server (accept, cap, drain) -> connection (phases, limits) -> edge (route, auth, body, handler, answer)
//! ```
//! The route table is data ([`Table`]): router, access tests and API documents are read from it. May import:
//! `model`, `auth`; handlers also what they serve. Must never: redirect, or run a handler that a client can cancel.

mod admission;
mod body;
mod connection;
pub(crate) mod cookie;
mod edge;
mod error;
pub mod handler;
mod limits;
mod observe;
mod proxy;
mod reply;
mod request;
mod route;
mod server;

pub use edge::Edge;
pub use error::{ApiError, FieldError, RateLimit};
pub use limits::Limits;
pub use observe::{Forbidden, Observer, Silent, UNMATCHED};
pub use proxy::TrustedProxies;
pub use reply::{Event, KEEP_ALIVE, Reply};
pub use request::{Query, Request};
pub use route::{Access, BodyLimit, Handler, Method, Route, Table, TableError, handler};
pub use server::Server;

#[cfg(test)]
mod tests;
