//! The edge: our own accept loop over hyper, HTTP/1.1 and HTTP/2, plain or through TLS, and the only place that
//! knows status codes.
//!
//! ```text
//! server (accept, places, drain) -> connection (TLS, phases) -> edge (route, doors, body, handler, answer)
//! ```
//! The route table is data ([`Table`]): router, access tests and API documents are read from it. May import:
//! `model`, `auth`; handlers also what they serve. Must never: redirect, or run a handler that a client can cancel.

mod admission;
mod body;
mod connection;
pub(crate) mod cookie;
mod docs;
mod doors;
mod edge;
mod error;
pub mod handler;
mod limiter;
mod limits;
mod observe;
mod places;
mod proxy;
mod rate;
mod reply;
mod request;
mod route;
mod server;
mod standing;
mod stream;
mod streams;
mod tls;
mod users;
mod watch;

pub use doors::Doors;
pub use edge::Edge;
pub use error::{ApiError, FieldError, RateLimit};
pub use limiter::{Budget, Limiter, Rates, Snapshot};
pub use limits::Limits;
pub use observe::{Forbidden, Observer, Silent, UNMATCHED};
pub use proxy::TrustedProxies;
pub use reply::{Event, KEEP_ALIVE, Reply};
pub use request::{Query, Request};
pub use route::{Access, BodyLimit, Handler, Method, Route, Table, TableError, handler};
pub use server::Server;
pub use tls::{ClientAuth, Look, Tls, TlsError, TlsFiles, TlsVersion};
pub use users::Users;

#[cfg(test)]
mod tests;
