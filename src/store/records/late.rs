//! A denial after the execution was made: the record of it, and an episode that has no execution again.

use super::{key, read, to_bytes};
use crate::journal::Created;
use crate::model::{Decision, Episode, EpisodeKey, Fingerprint, GateReport, Verdict};
use crate::store::{CommitError, Txn};

/// `decision` with what the one that made the execution holds: the answers of the gates that were asked then, and what
/// is kept of the alert.
fn whole(txn: &mut dyn Txn, decision: &Decision) -> Result<Decision, CommitError> {
    let mut whole = decision.clone();
    let Some(id) = &decision.first else { return Ok(whole) };
    let Some(first) = read::<Decision>(txn, &key::decision(id))? else { return Ok(whole) };
    let mut late = decision.gates.clone();
    let mut answer_now = |report: GateReport| match late.iter().position(|late| late.gate == report.gate) {
        Some(place) => late.remove(place),
        None => report,
    };
    whole.gates = first.gates.into_iter().map(&mut answer_now).collect();
    whole.gates.extend(late);
    whole.alert = first.alert;
    Ok(whole)
}

/// Stores `decision`, by which `created` never begins. Its episode has no execution any more, so the next delivery of
/// the alert is decided anew.
///
/// # Errors
/// As [`Txn::get`].
pub fn denied(txn: &mut dyn Txn, created: &Created, decision: &Decision) -> Result<(), CommitError> {
    let labels = created.trigger.labels.clone();
    let key = key::episode(&EpisodeKey { fingerprint: Fingerprint::of(&labels), labels });
    if let Some(mut episode) = read::<Episode>(txn, &key)?
        && episode.execution.as_ref() == Some(&created.id)
    {
        episode.execution = None;
        episode.decision = decision.id.clone();
        (episode.verdict, episode.reason, episode.seen) = (Verdict::Skip, decision.reason, 1);
        txn.put(key, to_bytes(&episode)?);
    }
    let whole = to_bytes(&whole(txn, decision)?)?;
    txn.put(key::decision(&decision.id), whole);
    Ok(())
}
