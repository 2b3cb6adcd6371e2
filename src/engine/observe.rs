//! Asking whether it helped: the verify query, and what its answer means.

use super::Shared;
use crate::model::Expect;
use crate::runbook::Verify;
use crate::step::judge;
use std::time::Duration;

/// Between two questions: often enough for `within` and `hold`, never more than one a second.
pub(super) fn pause(verify: &Verify) -> Duration {
    let wanted =
        if verify.hold.is_zero() { verify.within / 20 } else { (verify.within / 20).min(verify.hold / 4) };
    wanted.clamp(Duration::from_secs(1), Duration::from_secs(15))
}

/// Asks Prometheus; whatever is not a plain yes is a no that says why.
pub(super) async fn ask(shared: &Shared, query: &str, expect: Expect) -> (bool, String) {
    match shared.world.query(query.to_owned()).await {
        Ok(answer) => {
            let seen = judge(expect, &answer.samples, shared.clock.now());
            (seen.holds, format!("{}: {} (wanted {expect})", seen.reason, seen.value))
        }
        Err(why) => (false, format!("error: {why}")),
    }
}
