//! Whether the sender of a request may use its route, and who it is. Every refusal is counted, and said in the log.
//!
//! May import: `auth`. Must never: look at a body, or at a credential other than through `auth`.

use super::edge::Edge;
use super::observe::Forbidden;
use super::route::{Access, Route};
use super::{ApiError, cookie};
use crate::auth::{Failure, Presented, Principal, Via};
use hyper::header::HeaderMap;
use std::net::IpAddr;
use std::time::Duration;

/// When one whose credential could not be checked may come again.
const AGAIN: Duration = Duration::from_secs(5);

/// What is known of a request before its body.
pub(super) struct Asked<'r> {
    pub(super) params: &'r [(String, String)],
    pub(super) headers: &'r HeaderMap,
    pub(super) id: &'r str,
    /// The other end of the connection.
    pub(super) peer: IpAddr,
    /// The client behind it.
    pub(super) client: IpAddr,
    pub(super) https: bool,
}

/// Why somebody who is known is refused.
struct Denied<'r> {
    failure: Failure,
    why: &'r str,
    /// What is missing, if that is a permission.
    permission: &'static str,
}

impl Edge {
    /// Whether the sender may use the route, and who it is.
    pub(super) async fn admit(
        &self,
        route: &Route,
        asked: &Asked<'_>,
        method: &hyper::Method,
    ) -> Result<Option<Principal>, ApiError> {
        let webhook = route.access == Access::Webhook;
        let auth = self.auth();
        let own = cookie::Origin { https: asked.https, configured: auth.origin.as_deref() };
        let needed = match route.access {
            Access::Open => return Ok(None),
            Access::OwnPages if cookie::is_foreign(asked.headers, &own) => {
                return Err(self.refuse(Failure::CrossSite, false));
            }
            Access::OwnPages => return Ok(None),
            Access::Webhook | Access::SignedIn => None,
            Access::Needs(permission) => Some(permission),
        };
        let authorization =
            one(asked.headers, "authorization").map_err(|failure| self.refuse(failure, webhook))?;
        if webhook {
            if cookie::is_foreign(asked.headers, &own) {
                return Err(self.refuse(Failure::CrossSite, true));
            }
            auth.webhook.check(authorization).map_err(|failure| self.refuse(failure, true))?;
            return Ok(None);
        }
        let presented =
            self.presented(asked, authorization).map_err(|failure| self.refuse(failure, false))?;
        let principal = auth.identify(presented, self.clock.now()).await;
        let principal = principal.map_err(|failure| self.refuse(failure, false))?;
        let by_cookie = presented.authorization.is_none()
            && presented.api_key.is_none()
            && matches!(principal.via, Via::Session(_));
        let changes = !matches!(*method, hyper::Method::GET | hyper::Method::HEAD);
        // On an open server it is the page of another site that must not act for the person who looks at it.
        let is_strange = match principal.via {
            Via::Nobody => cookie::is_foreign(asked.headers, &own),
            _ => by_cookie && !cookie::is_own_page(asked.headers, &own),
        };
        if changes && is_strange {
            let why = Failure::CrossSite.sentence();
            let denied = Denied { failure: Failure::CrossSite, why, permission: "" };
            return Err(self.forbid(route, asked, &principal, changes, denied));
        }
        if let Some(permission) = needed.filter(|permission| !principal.permissions.allow(*permission)) {
            let why = format!("this needs the permission {permission}");
            let denied = Denied { failure: Failure::Forbidden, why: &why, permission: permission.as_str() };
            return Err(self.forbid(route, asked, &principal, changes, denied));
        }
        Ok(Some(principal))
    }

    fn presented<'r>(
        &self,
        asked: &Asked<'r>,
        authorization: Option<&'r [u8]>,
    ) -> Result<Presented<'r>, Failure> {
        let api_key = one(asked.headers, "x-api-key")?;
        let cookie = if authorization.is_none() && api_key.is_none() {
            cookie::session(asked.headers, asked.https, asked.peer)?
        } else {
            None
        };
        Ok(Presented { authorization, api_key, cookie })
    }

    fn refuse(&self, failure: Failure, webhook: bool) -> ApiError {
        self.observer.auth_failure(failure);
        match failure {
            Failure::Unavailable => {
                ApiError::unavailable("credentials_unavailable", failure.sentence(), AGAIN)
            }
            Failure::CrossSite => ApiError::forbidden(failure.sentence()),
            _ => ApiError::unauthorized(failure, webhook),
        }
    }

    fn forbid(
        &self,
        route: &Route,
        asked: &Asked<'_>,
        who: &Principal,
        changes: bool,
        denied: Denied<'_>,
    ) -> ApiError {
        let Denied { failure, why, permission } = denied;
        self.observer.auth_failure(failure);
        let about = asked.params.iter().find(|(name, _)| name == "id").map_or("", |(_, value)| value);
        let (client, request_id) = (asked.client, asked.id);
        let reads = !changes;
        self.observer.forbidden(Forbidden { who, route: route.path, about, reads, client, request_id, why });
        tracing::warn!(
            user = %who.subject, request_id, route = route.path, %permission, why, %client, "RBAC failure"
        );
        ApiError::forbidden(why)
    }
}

/// The one value of a header; two are a trick.
fn one<'r>(headers: &'r HeaderMap, name: &'static str) -> Result<Option<&'r [u8]>, Failure> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(|value| value.as_bytes());
    if values.next().is_some() { Err(Failure::Malformed) } else { Ok(first) }
}
