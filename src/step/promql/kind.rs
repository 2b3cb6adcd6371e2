//! The kind `promql`: a question whose every sample must satisfy the expectation.
//!
//! May import: `model`. Must never: succeed without an answer that says so.

use super::judge::{judge, judge_range, to_json};
use super::{Observation, PromClient, QueryError, Sample, parse, parse_range};
use crate::model::{Clock, Expect};
use crate::step::ask::{Told, failed, supervise};
use crate::step::{AttemptContext, Finished, INLINE, KillSignal, PromqlCall, Runner};
use std::time::Duration;

/// Runs a `promql` attempt.
pub(in super::super) async fn run(
    runner: &Runner,
    context: &AttemptContext,
    call: &PromqlCall,
    kill: KillSignal,
) -> Finished {
    let Some(client) = &runner.ways.prometheus else {
        return Finished::refused("error: there is no [prometheus] url in the config to ask".into());
    };
    supervise(runner, context, kill, ask(client, &*runner.ways.clock, call, context.timeout)).await
}

async fn ask(client: &PromClient, clock: &dyn Clock, call: &PromqlCall, timeout: Duration) -> Told {
    let now = clock.now();
    let reply = match call.range {
        None => client.ask_now(&call.query, timeout, now).await,
        Some(range) => client.ask_range(&call.query, range, timeout, now).await,
    };
    let reply = match reply {
        Ok(reply) => reply,
        Err(error) => return failed(format!("error: {error}")),
    };
    let (status, retry_after) = (Some(reply.status), reply.retry_after);
    let judged = match call.range {
        None => parse(&reply.body, reply.status)
            .map(|answer| (judge(call.expect, &answer.samples, clock.now()), answer.samples)),
        Some(_) => parse_range(&reply.body, reply.status)
            .map(|series| judge_range(call.expect, &series, clock.now())),
    };
    let retry_after = retry_after.filter(|_| !(200..300).contains(&reply.status));
    told(judged, call.expect, Told { status, retry_after, ..Told::default() })
}

fn told(judged: Result<(Observation, Vec<Sample>), QueryError>, expect: Expect, head: Told) -> Told {
    match judged {
        Err(error) => Told { failure: Some(format!("error: {error}")), ..head },
        Ok((seen, samples)) => {
            let failure = (!seen.holds).then(|| format!("{}: {} (wanted {expect})", seen.reason, seen.value));
            Told { stdout: to_json(&samples, INLINE), failure, ..head }
        }
    }
}
