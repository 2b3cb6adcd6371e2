//! Who comes in: which credential opens which route, and how often.
//!
//! | route | opens to |
//! |---|---|
//! | health | everybody |
//! | other open ones | everybody; where users are named in `--web.config.file`, they and who may read |
//! | webhook | its own credentials, or a verified certificate with one of its names; nothing else opens it, and these open nothing else |
//! | the rest | tokens with the permission; users may read |
//!
//! Who asks is found out in `admission`, which asks here. May import: `auth`. Must never: count a webhook.

use super::admission::Asked;
use super::edge::Edge;
use super::users::Users;
use super::{ApiError, Budget, RateLimit, Rates};
use crate::auth::{Auth, Failure};
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
    /// Header fields of every answer, which an answer's own override.
    pub headers: Vec<(String, String)>,
}

impl Doors {
    /// Whether a certificate with these names, or this header, opens the webhook.
    pub(super) fn check_webhook(
        &self,
        auth: &Auth,
        names: &[String],
        authorization: Option<&[u8]>,
    ) -> Result<(), Failure> {
        if names.iter().any(|name| self.webhook_sans.contains(name)) {
            return Ok(());
        }
        auth.webhook.check(authorization).map_err(|failure| {
            // That nothing else is configured is no news to whoever shows no certificate.
            let has_sans = !self.webhook_sans.is_empty();
            if failure == Failure::NotConfigured && has_sans { Failure::Missing } else { failure }
        })
    }
}

impl Edge {
    /// Counts a request of `user` against the budget of its route.
    pub(super) fn count(&self, user: &str, asked: &Asked<'_>, doors: &Doors) -> Result<(), ApiError> {
        let budget = asked.route.budget(asked.method);
        budget.map_or(Ok(()), |budget| self.count_as(user, budget, asked, doors))
    }

    /// Counts a credential that was refused.
    pub(super) fn count_failure(&self, asked: &Asked<'_>, doors: &Doors) -> Result<(), ApiError> {
        self.count_as("", Budget::Requests, asked, doors)
    }

    /// Whether the sender may guess once more.
    pub(super) fn has_guesses_left(&self, asked: &Asked<'_>, doors: &Doors) -> Result<(), ApiError> {
        let Some(rates) = &doors.rates else { return Ok(()) };
        let left = self.limiter.peek("", asked.client, Budget::Requests, rates, self.clock.now());
        left.map_err(|rate| self.too_many(rate, "", asked))
    }

    fn count_as(&self, user: &str, budget: Budget, asked: &Asked<'_>, doors: &Doors) -> Result<(), ApiError> {
        let Some(rates) = &doors.rates else { return Ok(()) };
        let counted = self.limiter.ask(user, asked.client, budget, rates, self.clock.now());
        counted.map_err(|rate| self.too_many(rate, user, asked))
    }

    fn too_many(&self, rate: RateLimit, user: &str, asked: &Asked<'_>) -> ApiError {
        self.observer.rate_limited(asked.route.path);
        if let Some(passed_over) = self.refusals.due(429, asked.client, Instant::now()) {
            tracing::warn!(
                user, client = %asked.client, route = asked.route.path, request_id = asked.id,
                limit = rate.limit, passed_over, "Rate limit exceeded"
            );
        }
        ApiError::rate_limited(rate)
    }
}
