//! The execution an alert or a person would start: inputs resolved, target rendered, version pinned.

use super::context::{Subject, context};
use crate::journal::{Created, StepHead, Trigger};
use crate::model::{ExecutionId, Timestamp, after};
use crate::runbook::{Pinned, inputs};
use std::collections::BTreeMap;
use std::time::Duration;

/// Why no execution can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// Inputs without a value, or with one that does not fit; a sentence each.
    #[error("{}", .0.join("; "))]
    Input(Vec<String>),
    /// The target or the lock is missing, blank or a pattern.
    #[error("{0}")]
    Target(String),
}

/// What is asked for.
#[derive(Debug)]
pub struct Request<'r> {
    /// The runbook in its pinned version.
    pub pinned: &'r Pinned,
    /// What asks.
    pub trigger: Trigger,
    /// Values the caller gives for inputs.
    pub given: BTreeMap<String, String>,
    /// Variables the caller gives for `from = "env.NAME"`.
    pub env: BTreeMap<String, String>,
    /// Only the steps at these positions.
    pub range: Option<(usize, usize)>,
    /// The id it would have.
    pub id: ExecutionId,
    /// How long it may wait in the queue.
    pub queue_deadline: Duration,
    /// The source of its randomness.
    pub seed: u64,
    /// The instance that accepts it.
    pub instance: &'r str,
    /// Now.
    pub now: Timestamp,
}

/// The creation of the execution asked for.
///
/// # Errors
/// [`Denial`] with a sentence for each thing that does not fit.
pub fn plan(request: Request<'_>) -> Result<Created, Denial> {
    let Request { pinned, trigger, given, env, range, id, queue_deadline, seed, instance, now } = request;
    let runbook = &pinned.runbook;
    let values = inputs::resolve(runbook, &trigger.labels, &trigger.annotations, &env, &given)
        .map_err(|problems| Denial::Input(problems.iter().map(ToString::to_string).collect()))?;
    let subject =
        Subject { id: &id, runbook: &runbook.id, version: pinned.version, target: None, started_at: None };
    let seen = context(&trigger, &values, &subject, serde_json::json!({}));
    let target = inputs::target(runbook, &seen).map_err(Denial::Target)?;
    let lock = inputs::lock(runbook, target.as_ref(), &seen).map_err(Denial::Target)?;
    let steps = runbook.steps.iter().map(|step| StepHead {
        id: step.id.clone(),
        title: step.title.clone(),
        kind: step.kind.as_str().to_owned(),
        effect: step.effect,
    });
    Ok(Created {
        id,
        runbook: runbook.id.clone(),
        version: pinned.version,
        hash: pinned.hash.clone(),
        title: runbook.title.clone(),
        target,
        lock,
        inputs: values,
        steps: steps.collect(),
        range,
        timeout_ms: u64::try_from(runbook.timeout.as_millis()).unwrap_or(u64::MAX),
        queue_deadline: after(now, queue_deadline),
        seed,
        parent: None,
        inherited: Vec::new(),
        decision: None,
        instance: instance.to_owned(),
        trigger,
    })
}
