//! Where keys are made.
//!
//! Pure. Must never: give two kinds of record one prefix.

use crate::model::{DecisionId, EpisodeKey, Labels, RunbookId, hex};
use sha2::{Digest, Sha256};

fn join(prefix: &str, parts: &[&str]) -> Vec<u8> {
    format!("{prefix}{}", parts.join("/")).into_bytes()
}

/// Of an execution's header.
pub fn header(ulid: &str) -> Vec<u8> {
    join("x/", &[ulid])
}

/// Of one journal entry.
pub fn entry(ulid: &str, seq: u64) -> Vec<u8> {
    join("j/", &[ulid, &format!("{seq:010}")])
}

/// Of a whole journal, as a prefix.
pub fn journal(ulid: &str) -> Vec<u8> {
    join("j/", &[ulid, ""])
}

/// That an execution is live.
pub fn live(ulid: &str) -> Vec<u8> {
    join("l/", &[ulid])
}

/// Of the signal that its alert resolved.
pub fn resolved(ulid: &str) -> Vec<u8> {
    join("n/", &[ulid, "resolved"])
}

/// Of the signal that a child is over.
pub fn child_ended(parent: &str, child: &str) -> Vec<u8> {
    join("n/", &[parent, child])
}

/// Of the last execution that does the execution `of` again or takes it back; `kind` says which.
pub fn anew(of: &str, kind: &str) -> Vec<u8> {
    join("y/", &[of, kind])
}

/// Of a decision.
pub fn decision(id: &DecisionId) -> Vec<u8> {
    join("d/", &[id.as_str()])
}

/// Of an element that is no alert.
pub fn rejected(element: &[u8]) -> Vec<u8> {
    join("b/", &[&short_hash(element)])
}

/// Of an episode.
pub fn episode(key: &EpisodeKey) -> Vec<u8> {
    join("e/", &[&key.fingerprint.to_string(), &label_hash(&key.labels)])
}

/// All breakers, as a prefix.
pub const BREAKER: &[u8] = b"k/";
/// All breakers that are not closed, as a prefix.
pub const TRIPPED: &[u8] = b"ko/";
/// All quarantined targets, as a prefix.
pub const QUARANTINE: &[u8] = b"q/";
/// All orders of the kill switch, as a prefix.
pub const SWITCH: &[u8] = b"s/";
/// All mappings that people set, as a prefix.
pub const MAPPING: &[u8] = b"m/";
/// All schedules that are remembered, as a prefix.
pub const SCHEDULE: &[u8] = b"c/";
/// What all instances have counted of requests, as a prefix.
pub const REQUESTS: &[u8] = b"hr/";
/// The whole audit log, as a prefix.
pub const AUDIT: &[u8] = b"a/";

/// Of a breaker; strangers choose the key, so it is hashed to a bounded length.
pub fn breaker(key: &str) -> Vec<u8> {
    breaker_of_hash(&short_hash(key.as_bytes()))
}

/// Of the breaker whose key has this hash.
pub fn breaker_of_hash(hash: &str) -> Vec<u8> {
    join("k/", &[hash])
}

/// That a breaker is not closed.
pub fn tripped(key: &str) -> Vec<u8> {
    join("ko/", &[&short_hash(key.as_bytes())])
}

/// Of the quarantine of a target.
pub fn quarantine(target: &str) -> Vec<u8> {
    join("q/", &[&short_hash(target.as_bytes())])
}

/// Of the order that stands for one scope of the kill switch.
pub fn switch(scope: &str) -> Vec<u8> {
    join("s/", &[&short_hash(scope.as_bytes())])
}

/// Of the mapping called `name`.
pub fn mapping(name: &str) -> Vec<u8> {
    join("m/", &[&short_hash(name.as_bytes())])
}

/// Of the schedule called `name`.
pub fn schedule(name: &str) -> Vec<u8> {
    join("c/", &[&short_hash(name.as_bytes())])
}

/// Of what an instance has counted of requests.
pub fn requests(instance: &str) -> Vec<u8> {
    join("hr/", &[&short_hash(instance.as_bytes())])
}

/// Of the automatic starts of a runbook on a target.
pub fn runs(book: &str, runbook: &RunbookId, target: Option<&str>) -> Vec<u8> {
    let target = target.map_or_else(|| "-".to_owned(), |target| short_hash(target.as_bytes()));
    join("gr/", &[book, runbook.as_str(), &target])
}

/// Of the targets a runbook started on.
pub fn targets(book: &str, runbook: &RunbookId) -> Vec<u8> {
    join("gt/", &[book, runbook.as_str()])
}

/// Of how many episodes began.
pub fn storm() -> Vec<u8> {
    b"g-storm".to_vec()
}

/// Of what a runbook would have done in shadow mode.
pub fn tally(runbook: &RunbookId) -> Vec<u8> {
    join("gw/", &[runbook.as_str()])
}

/// All escalations, as a prefix.
pub const ESCALATION: &[u8] = b"o/";
/// All escalations of which something is still to be sent, as a prefix.
pub const PENDING: &[u8] = b"op/";
/// How much is still to be sent, by runbook, as a prefix.
pub const BACKLOG: &[u8] = b"oc/";

/// Of an escalation.
pub fn escalation(id: &str) -> Vec<u8> {
    join("o/", &[id])
}

/// That something of an escalation is still to be sent.
pub fn pending(id: &str) -> Vec<u8> {
    join("op/", &[id])
}

/// Of the list of an execution's escalations.
pub fn escalations_of(ulid: &str) -> Vec<u8> {
    join("ox/", &[ulid])
}

/// Of the escalation that counts the denials of a runbook.
pub fn denials(runbook: &RunbookId, reason: &str) -> Vec<u8> {
    join("od/", &[runbook.as_str(), reason])
}

/// Of the list of escalations that count the denials of one alert or execution; `subject` is the rest of its own key.
pub fn counted(subject: &[u8]) -> Vec<u8> {
    [b"oe/", subject].concat()
}

/// Of how much of a runbook is still to be sent.
pub fn backlog(runbook: &RunbookId) -> Vec<u8> {
    join("oc/", &[runbook.as_str()])
}

/// Of one record of the audit log.
pub fn audit(seq: u64) -> Vec<u8> {
    join("a/", &[&format!("{seq:010}")])
}

/// Of the end of the audit log.
pub fn audit_head() -> Vec<u8> {
    b"a-head".to_vec()
}

/// Of the stored text of a runbook's version.
pub fn version(runbook: &RunbookId, version: u64) -> Vec<u8> {
    join("v/", &[runbook.as_str(), &format!("{version:010}")])
}

/// Of the version that has this hash.
pub fn version_of_hash(runbook: &RunbookId, hash: &str) -> Vec<u8> {
    join("h/", &[runbook.as_str(), hash])
}

/// Of a runbook's latest version number.
pub fn latest_version(runbook: &RunbookId) -> Vec<u8> {
    join("w/", &[runbook.as_str()])
}

/// Of an execution in one of the lists; `value` is hashed where strangers choose it.
pub fn index(list: &str, value: &str, ulid: &str) -> Vec<u8> {
    join("i", &[list, value, ulid])
}

/// 128 bits of SHA-256, in hexadecimal.
pub fn short_hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..16])
}

fn label_hash(labels: &Labels) -> String {
    let mut bytes = Vec::new();
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend((text.len() as u64).to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    short_hash(&bytes)
}
