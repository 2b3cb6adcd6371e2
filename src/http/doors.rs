//! Who comes in: which credential opens which route, and how often.
//!
//! | route | opens to |
//! |---|---|
//! | health | everybody |
//! | other open ones | everybody; where users are named in `--web.config.file`, they and who may read |
//! | webhook | its own credentials, or a verified certificate with one of its names; nothing else opens it, and these open nothing else |
//! | the rest | tokens with the permission; users may read |
//!
//! What another site makes a browser send is refused where a credential counts: on a loopback address without
//! authentication, the browser of whoever sits there would be the credential. May import: `auth`. Must never: count a webhook.

use super::edge::Edge;
use super::route::Route;
use super::users::Users;
use super::{Access, ApiError, Budget, Method, Rates};
use crate::auth::{Failure, Permission, Principal};
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, ORIGIN};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// What decides who comes in beside [`crate::auth::Auth`]; replaced as a whole on reload.
#[derive(Debug, Default)]
pub struct Doors {
    /// Subject alternative names; a verified certificate with one of them opens the webhook.
    pub webhook_sans: Vec<String>,
    /// The users of `--web.config.file`, if any are named.
    pub users: Option<Arc<Users>>,
    /// How much a caller may ask; `None` is without limit.
    pub rates: Option<Rates>,
    /// The origin under which people know this server, such as `https://runbookd.example`.
    pub origin: Option<String>,
    /// Header fields of every answer, which an answer's own override.
    pub headers: Vec<(String, String)>,
}

/// One request at the door.
struct Knock<'r> {
    route: &'r Route,
    method: Method,
    authorization: Option<&'r [u8]>,
    id: &'r str,
    client: IpAddr,
    doors: &'r Doors,
}

impl Edge {
    /// Whether the sender may use the route, and who it is.
    pub(super) async fn admit(
        &self,
        route: &Route,
        method: Method,
        headers: &HeaderMap,
        names: &[String],
        id: &str,
        client: IpAddr,
    ) -> Result<Option<Principal>, ApiError> {
        let doors = self.doors();
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let authorization = values.next().map(|value| value.as_bytes());
        let knock = Knock { route, method, authorization, id, client, doors: &doors };
        let is_closed = route.access != Access::Open || (doors.users.is_some() && route.is_for_users());
        if !is_closed {
            self.count("", &knock)?;
            return Ok(None);
        }
        if values.next().is_some() {
            return Err(self.refuse(Failure::Malformed, &knock));
        }
        if is_cross_site(headers, doors.origin.as_deref()) {
            return Err(ApiError::forbidden("another site asks for this"));
        }
        let permission = match route.access {
            Access::Webhook => return self.admit_webhook(names, &knock).map(|()| None),
            Access::Open => Permission::Read,
            Access::Needs(permission) => permission,
        };
        let principal = self.identify(&knock).await?;
        self.count(&principal.subject, &knock)?;
        if !principal.permissions.allow(permission) {
            self.observer.auth_failure(Failure::Forbidden);
            return Err(forbidden(&principal, permission, &knock));
        }
        Ok(Some(principal))
    }

    fn admit_webhook(&self, names: &[String], knock: &Knock<'_>) -> Result<(), ApiError> {
        if names.iter().any(|name| knock.doors.webhook_sans.contains(name)) {
            return Ok(());
        }
        self.auth().webhook.check(knock.authorization).map_err(|failure| {
            // That nothing else is configured is no news to whoever shows no certificate.
            let has_sans = !knock.doors.webhook_sans.is_empty();
            let failure =
                if failure == Failure::NotConfigured && has_sans { Failure::Missing } else { failure };
            self.observer.auth_failure(failure);
            ApiError::unauthorized(failure, true)
        })
    }

    /// Who asks, by password or token. Failures are counted by address: whoever guesses gets as many guesses a
    /// minute as others get requests, and a password is only computed while there are some left.
    async fn identify(&self, knock: &Knock<'_>) -> Result<Principal, ApiError> {
        let found = match (&knock.doors.users, knock.authorization) {
            (Some(_), None) => Err(Failure::Missing),
            (Some(users), Some(header)) if Users::is_meant(header) => match users.read(header) {
                Err(failure) => Err(failure),
                Ok(asked) => match users.remembered(&asked) {
                    Some(answer) => answer,
                    None => {
                        if let Some(rates) = &knock.doors.rates {
                            let now = self.clock.now();
                            let left = self.limiter.peek("", knock.client, Budget::Requests, rates, now);
                            left.map_err(|rate| self.too_many(rate, "", knock))?;
                        }
                        users.compute(asked).await
                    }
                },
            },
            (_, header) => self.auth().principal(header, self.clock.now()),
        };
        found.or_else(|failure| {
            self.count_as("", Budget::Requests, knock)?;
            Err(self.refuse(failure, knock))
        })
    }

    fn refuse(&self, failure: Failure, knock: &Knock<'_>) -> ApiError {
        self.observer.auth_failure(failure);
        let takes_passwords = knock.route.access == Access::Webhook || knock.doors.users.is_some();
        ApiError::unauthorized(failure, takes_passwords)
    }

    fn count(&self, user: &str, knock: &Knock<'_>) -> Result<(), ApiError> {
        knock.route.budget(knock.method).map_or(Ok(()), |budget| self.count_as(user, budget, knock))
    }

    fn count_as(&self, user: &str, budget: Budget, knock: &Knock<'_>) -> Result<(), ApiError> {
        let Some(rates) = &knock.doors.rates else { return Ok(()) };
        let asked = self.limiter.ask(user, knock.client, budget, rates, self.clock.now());
        asked.map_err(|rate| self.too_many(rate, user, knock))
    }

    fn too_many(&self, rate: super::RateLimit, user: &str, knock: &Knock<'_>) -> ApiError {
        self.observer.rate_limited(knock.route.path);
        if let Some(passed_over) = self.refusals.due(429, knock.client, Instant::now()) {
            tracing::warn!(
                user, client = %knock.client, route = knock.route.path, request_id = knock.id,
                limit = rate.limit, passed_over, "Rate limit exceeded"
            );
        }
        ApiError::rate_limited(rate)
    }
}

fn forbidden(principal: &Principal, permission: Permission, knock: &Knock<'_>) -> ApiError {
    tracing::warn!(
        user = %principal.subject, request_id = knock.id, route = knock.route.path, permission = %permission,
        client = %knock.client, "RBAC failure"
    );
    ApiError::forbidden(format!("this needs the permission {permission}"))
}

/// Whether a browser says that a page of another origin made it send this. Programs say neither.
fn is_cross_site(headers: &HeaderMap, own: Option<&str>) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        // `none` is a person who typed the address.
        return !matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let host = headers.get(HOST).map(|host| host.as_bytes()).unwrap_or_default();
    let bare = |scheme: &[u8]| origin.as_bytes().strip_prefix(scheme);
    let is_host = bare(b"http://").or_else(|| bare(b"https://")).is_some_and(|origin| origin == host);
    !is_host && own.is_none_or(|own| own.as_bytes() != origin.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t17_what_another_site_makes_a_browser_send_is_known_by_its_own_words() {
        for (headers, expected) in [
            (&[][..], false),
            (&[("sec-fetch-site", "same-origin")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("sec-fetch-site", "same-site")], true),
            (&[("origin", "http://evil.example"), ("host", "127.0.0.1:9796")], true),
            (&[("origin", "null"), ("host", "127.0.0.1:9796")], true),
            (&[("origin", "http://127.0.0.1:9796"), ("host", "127.0.0.1:9796")], false),
            (&[("origin", "https://runbookd.example"), ("host", "10.0.0.1")], false),
            (&[("origin", "https://runbookd.example.evil"), ("host", "10.0.0.1")], true),
            (&[("sec-fetch-site", "cross-site"), ("origin", "https://runbookd.example")], true),
        ] {
            let map = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            let map: HeaderMap = map.collect();
            assert_eq!(is_cross_site(&map, Some("https://runbookd.example")), expected, "{headers:?}");
        }
    }
}
