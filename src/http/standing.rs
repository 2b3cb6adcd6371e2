//! Whether somebody to whom an answer is still on its way may still see it.
//!
//! A stream can outlive the credential it was opened with: a key that is revoked, a token that expires, a role that
//! is taken away must end it. May import: nothing of this crate but the edge. Must never: count as a use of the
//! credential, or a page that only listens would keep its session alive for ever.

use super::admission::{Asked, one};
use super::edge::Edge;
use super::route::{Access, Found, Method};
use hyper::header::HeaderMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How often is looked. What is revoked must be refused within a second.
const EVERY: Duration = Duration::from_millis(500);

/// The request behind a stream, as far as it says who asked.
pub(super) struct Standing {
    path: String,
    headers: HeaderMap,
    names: Arc<[String]>,
    id: String,
    peer: IpAddr,
    client: IpAddr,
    https: bool,
}

impl Standing {
    /// What there is to know of a request that reads; nothing else has an answer that lasts.
    pub(super) fn of(asked: &Asked<'_>, path: &str, names: &Arc<[String]>) -> Option<Self> {
        (asked.method == Method::Get).then(|| Self {
            path: path.to_owned(),
            headers: asked.headers.clone(),
            names: Arc::clone(names),
            id: asked.id.to_owned(),
            peer: asked.peer,
            client: asked.client,
            https: asked.https,
        })
    }
}

impl Edge {
    /// Ends when whoever asked may no longer see the answer.
    pub(super) async fn lapse(self: Arc<Self>, standing: Standing) {
        while self.stands(&standing).await {
            sleep(EVERY).await;
        }
        let Standing { id, path, .. } = standing;
        tracing::info!(request_id = id, path, "a stream was ended: its credential no longer opens it");
    }

    async fn stands(&self, standing: &Standing) -> bool {
        let Found::Route(route, params) = self.table().find(Some((Method::Get, false)), &standing.path)
        else {
            return false;
        };
        let Ok(authorization) = one(&standing.headers, "authorization") else { return false };
        let asked = Asked {
            route,
            method: Method::Get,
            params: &params,
            headers: &standing.headers,
            names: &standing.names,
            id: &standing.id,
            peer: standing.peer,
            client: standing.client,
            https: standing.https,
            again: true,
        };
        match self.identify(&self.auth(), &self.doors(), authorization, &asked).await {
            Ok((principal, _)) => match route.access {
                Access::Needs(permission) => principal.permissions.allow(permission),
                _ => true,
            },
            // What cannot be found out now ends nothing: the credential was good when it was last asked about.
            Err(error) => error.status() != 401,
        }
    }
}
