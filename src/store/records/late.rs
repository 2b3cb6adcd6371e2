//! A denial after the execution was made: the record of it, and an episode that has no execution again.

use super::{key, read, to_bytes};
use crate::journal::Created;
use crate::model::{Decision, Episode, EpisodeKey, Fingerprint, Verdict};
use crate::store::{CommitError, Txn};

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
    txn.put(key::decision(&decision.id), to_bytes(decision)?);
    Ok(())
}
