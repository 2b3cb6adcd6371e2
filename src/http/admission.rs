//! Whether the sender of a request may use its route, and who it is. Every refusal is counted, and said in the log.
//!
//! May import: `auth`. Must never: look at a body, or at a credential other than through `auth`.

use super::doors::Doors;
use super::edge::Edge;
use super::observe::Forbidden;
use super::route::{Access, Method, Route};
use super::users::Users;
use super::{ApiError, cookie};
use crate::auth::{Auth, Failure, Permission, Presented, Principal, Via};
use hyper::header::HeaderMap;
use std::net::IpAddr;
use std::time::Duration;

/// When one whose credential could not be checked may come again.
const AGAIN: Duration = Duration::from_secs(5);

/// What is known of a request before its body.
pub(super) struct Asked<'r> {
    pub(super) route: &'r Route,
    pub(super) method: Method,
    pub(super) params: &'r [(String, String)],
    pub(super) headers: &'r HeaderMap,
    /// The names in the client's verified certificate.
    pub(super) names: &'r [String],
    pub(super) id: &'r str,
    /// The other end of the connection.
    pub(super) peer: IpAddr,
    /// The client behind it.
    pub(super) client: IpAddr,
    pub(super) https: bool,
    /// Whether it was let in before and is looked at again while its answer is on its way.
    pub(super) again: bool,
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
    pub(super) async fn admit(&self, asked: &Asked<'_>) -> Result<Option<Principal>, ApiError> {
        let (auth, doors, route) = (self.auth(), self.doors(), asked.route);
        let own = cookie::Origin { https: asked.https, configured: auth.origin.as_deref() };
        let is_foreign = cookie::is_foreign(asked.headers, &own);
        let needed = match route.access {
            Access::Open if doors.users.is_some() && route.is_for_users() => Some(Permission::Read),
            Access::OwnPages if is_foreign => return Err(self.refuse(Failure::CrossSite, false)),
            Access::Open | Access::OwnPages => {
                self.count("", asked, &doors)?;
                return Ok(None);
            }
            Access::Webhook | Access::SignedIn => None,
            Access::Needs(permission) => Some(permission),
        };
        let takes_passwords = route.access == Access::Webhook || doors.users.is_some();
        let authorization =
            one(asked.headers, "authorization").map_err(|failure| self.refuse(failure, takes_passwords))?;
        if route.access == Access::Webhook {
            if is_foreign {
                return Err(self.refuse(Failure::CrossSite, true));
            }
            let checked = doors.check_webhook(&auth, asked.names, authorization);
            return checked.map(|()| None).map_err(|failure| self.refuse(failure, true));
        }
        let (principal, by_cookie) = self.identify(&auth, &doors, authorization, asked).await?;
        self.count(&principal.subject, asked, &doors)?;
        let changes = asked.method != Method::Get;
        // On an open server it is the page of another site that must not act for the person who looks at it, nor
        // hold streams open.
        let is_strange = match principal.via {
            Via::Nobody => is_foreign,
            _ => by_cookie && changes && !cookie::is_own_page(asked.headers, &own),
        };
        if is_strange {
            let why = Failure::CrossSite.sentence();
            let denied = Denied { failure: Failure::CrossSite, why, permission: "" };
            return Err(self.forbid(asked, &principal, denied));
        }
        if let Some(permission) = needed.filter(|permission| !principal.permissions.allow(*permission)) {
            let why = format!("this needs the permission {permission}");
            let denied = Denied { failure: Failure::Forbidden, why: &why, permission: permission.as_str() };
            return Err(self.forbid(asked, &principal, denied));
        }
        Ok(Some(principal))
    }

    /// Who asks, and whether only a cookie says so. Failures are counted by address: whoever guesses gets as many
    /// guesses a minute as others get requests, and a password is only computed while there are some left.
    pub(super) async fn identify(
        &self,
        auth: &Auth,
        doors: &Doors,
        authorization: Option<&[u8]>,
        asked: &Asked<'_>,
    ) -> Result<(Principal, bool), ApiError> {
        let known = match (&doors.users, authorization) {
            (Some(users), Some(header)) if Users::is_meant(header) => match users.read(header) {
                Err(failure) => Err(failure),
                Ok(question) => match users.remembered(&question) {
                    Some(answer) => answer,
                    None => {
                        if !asked.again {
                            self.has_guesses_left(asked, doors)?;
                        }
                        users.compute(question).await
                    }
                },
            }
            .map(|principal| (principal, false)),
            _ => match self.presented(asked, authorization) {
                Err(failure) => Err(failure),
                Ok(presented) => {
                    let by_cookie = presented.cookie.is_some();
                    let found = auth.identify(presented, self.clock.now()).await;
                    found.map(|principal| (principal, by_cookie))
                }
            },
        };
        known.or_else(|failure| {
            // That nothing else is configured is no news to whoever shows no password.
            let nothing = failure == Failure::NotConfigured && doors.users.is_some();
            let failure = if nothing { Failure::Missing } else { failure };
            if !asked.again {
                self.count_failure(asked, doors)?;
            }
            Err(self.refuse(failure, doors.users.is_some()))
        })
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
        Ok(Presented { authorization, api_key, cookie, again: asked.again })
    }

    fn refuse(&self, failure: Failure, takes_passwords: bool) -> ApiError {
        self.observer.auth_failure(failure);
        match failure {
            Failure::Unavailable => {
                ApiError::unavailable("credentials_unavailable", failure.sentence(), AGAIN)
            }
            Failure::CrossSite => ApiError::forbidden(failure.sentence()),
            _ => ApiError::unauthorized(failure, takes_passwords),
        }
    }

    fn forbid(&self, asked: &Asked<'_>, who: &Principal, denied: Denied<'_>) -> ApiError {
        let Denied { failure, why, permission } = denied;
        self.observer.auth_failure(failure);
        let about = asked.params.iter().find(|(name, _)| name == "id").map_or("", |(_, value)| value);
        let (client, request_id, route) = (asked.client, asked.id, asked.route.path);
        let reads = asked.method == Method::Get;
        self.observer.forbidden(Forbidden { who, route, about, reads, client, request_id, why });
        tracing::warn!(
            user = %who.subject, request_id, route, %permission, why, %client, "RBAC failure"
        );
        ApiError::forbidden(why)
    }
}

/// The one value of a header; two are a trick.
pub(super) fn one<'r>(headers: &'r HeaderMap, name: &'static str) -> Result<Option<&'r [u8]>, Failure> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(|value| value.as_bytes());
    if values.next().is_some() { Err(Failure::Malformed) } else { Ok(first) }
}
