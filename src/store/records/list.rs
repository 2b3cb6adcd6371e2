//! Lists, newest first, by cursor: their cost does not grow with the history.

use super::{Header, Records, Scan, from_bytes, key, last_part, listed};
use crate::model::{Decision, ExecutionStatus, Reason, RunbookId, Timestamp, Verdict};
use crate::store::ReadError;
use serde::de::DeserializeOwned;

/// How many entries one request looks at before it gives what it has found, with a cursor to go on.
const LOOKED_AT: usize = 20_000;
/// How many keys are read at once, at most: the first look is for one page, and only a filter makes it go on.
const STRIDE: usize = 256;

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The items, newest first.
    pub items: Vec<T>,
    /// Where to go on; `None` at the end. A page may be short, or empty, and still have one.
    pub next_cursor: Option<String>,
}

/// Which executions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExecutionFilter {
    /// In this status.
    pub status: Option<ExecutionStatus>,
    /// Of this runbook.
    pub runbook: Option<RunbookId>,
    /// Triggered by an alert of this name.
    pub alertname: Option<String>,
    /// Acting on exactly this.
    pub target: Option<String>,
    /// Created at or after.
    pub since: Option<Timestamp>,
    /// Created before.
    pub until: Option<Timestamp>,
}

impl ExecutionFilter {
    fn admits(&self, header: &Header) -> bool {
        self.status.is_none_or(|status| header.status == status)
            && self.runbook.as_ref().is_none_or(|runbook| header.runbook == *runbook)
            && self.alertname.as_ref().is_none_or(|name| header.alertname.as_ref() == Some(name))
            && self
                .target
                .as_ref()
                .is_none_or(|target| header.target.as_ref().map(crate::model::Target::as_str) == Some(target))
            && self.until.is_none_or(|until| header.created_at < until)
    }

    /// The shortest list that holds everything wanted.
    fn prefix(&self) -> Vec<u8> {
        if let Some(target) = &self.target {
            return key::index("t", &listed(target), "");
        }
        if let Some(alertname) = &self.alertname {
            return key::index("a", &listed(alertname), "");
        }
        match self.status {
            Some(status) if status.is_final() => return key::index("s", status.as_str(), ""),
            Some(_) => return b"l/".to_vec(),
            None => {}
        }
        match &self.runbook {
            Some(runbook) => key::index("r", runbook.as_str(), ""),
            None => b"x/".to_vec(),
        }
    }
}

/// Which decisions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DecisionFilter {
    /// With this reason.
    pub reason: Option<Reason>,
    /// With this verdict.
    pub verdict: Option<Verdict>,
    /// On an alert of this name.
    pub alertname: Option<String>,
    /// That selected this runbook.
    pub runbook: Option<RunbookId>,
    /// First made at or after.
    pub since: Option<Timestamp>,
}

impl DecisionFilter {
    fn admits(&self, decision: &Decision) -> bool {
        self.reason.is_none_or(|reason| decision.reason == reason)
            && self.verdict.is_none_or(|verdict| decision.verdict == verdict)
            && self.alertname.as_ref().is_none_or(|name| decision.alertname == *name)
            && self.runbook.as_ref().is_none_or(|runbook| decision.runbook.as_ref() == Some(runbook))
    }
}

impl Records {
    /// Every record below `prefix`, behind `cursor`, a page of them.
    pub(super) async fn page_of<T: DeserializeOwned>(
        &self,
        prefix: Vec<u8>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<T>, ReadError> {
        let mut walk = Walk::new(prefix, cursor, limit);
        while let Some(scan) = walk.next_scan() {
            let pairs = self.store.scan(scan).await?;
            walk.saw(pairs.len());
            for (key, bytes) in pairs {
                if !walk.take(&last_part(&key), Some(from_bytes(&key, &bytes)?)) {
                    break;
                }
            }
        }
        Ok(walk.page())
    }

    /// The executions `filter` admits, behind `cursor`.
    ///
    /// # Errors
    /// As [`crate::store::Store::scan`].
    pub async fn executions(
        &self,
        filter: &ExecutionFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<Header>, ReadError> {
        let prefix = filter.prefix();
        let mut walk = Walk::new(prefix, cursor, limit);
        while let Some(scan) = walk.next_scan() {
            let pairs = self.store.scan(scan).await?;
            walk.saw(pairs.len());
            for (key, bytes) in pairs {
                let ulid = last_part(&key);
                let header = if key.starts_with(b"x/") {
                    Some(from_bytes::<Header>(&key, &bytes)?)
                } else {
                    self.header(&ulid).await?
                };
                let Some(header) = header else { continue };
                if filter.since.is_some_and(|since| header.created_at < since) {
                    walk.end();
                    break;
                }
                if !walk.take(&ulid, filter.admits(&header).then_some(header)) {
                    break;
                }
            }
        }
        Ok(walk.page())
    }

    /// The decisions `filter` admits, behind `cursor`.
    ///
    /// # Errors
    /// As [`crate::store::Store::scan`].
    pub async fn decisions(
        &self,
        filter: &DecisionFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<Decision>, ReadError> {
        let mut walk = Walk::new(b"d/".to_vec(), cursor, limit);
        while let Some(scan) = walk.next_scan() {
            let pairs = self.store.scan(scan).await?;
            walk.saw(pairs.len());
            for (key, bytes) in pairs {
                let decision: Decision = from_bytes(&key, &bytes)?;
                if filter.since.is_some_and(|since| decision.at < since) {
                    walk.end();
                    break;
                }
                if !walk.take(&last_part(&key), filter.admits(&decision).then_some(decision)) {
                    break;
                }
            }
        }
        Ok(walk.page())
    }
}

/// A bounded walk from the newest key to older ones.
pub(super) struct Walk<T> {
    prefix: Vec<u8>,
    position: Option<String>,
    items: Vec<T>,
    limit: usize,
    looked_at: usize,
    stride: usize,
    ended: bool,
    full: bool,
}

impl<T> Walk<T> {
    pub(super) fn new(prefix: Vec<u8>, cursor: Option<&str>, limit: usize) -> Self {
        let position = cursor.map(str::to_owned);
        let stride = limit.saturating_add(1).min(STRIDE);
        Self { prefix, position, items: Vec::new(), limit, looked_at: 0, stride, ended: false, full: false }
    }

    pub(super) fn next_scan(&self) -> Option<Scan> {
        if self.ended || self.full || self.looked_at >= LOOKED_AT {
            return None;
        }
        let after = self.position.as_ref().map(|ulid| [&self.prefix[..], ulid.as_bytes()].concat());
        Some(Scan { prefix: self.prefix.clone(), after, reverse: true, limit: self.stride })
    }

    pub(super) fn saw(&mut self, pairs: usize) {
        self.looked_at += pairs;
        self.ended = pairs < self.stride;
        self.stride = STRIDE;
    }

    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Notes one key looked at; false when the page has no room for what it held.
    pub(super) fn take(&mut self, ulid: &str, item: Option<T>) -> bool {
        if let Some(item) = item {
            if self.items.len() == self.limit {
                self.full = true;
                return false;
            }
            self.items.push(item);
        }
        self.position = Some(ulid.to_owned());
        true
    }

    pub(super) fn page(self) -> Page<T> {
        let more = self.full || !self.ended;
        Page { next_cursor: self.position.filter(|_| more), items: self.items }
    }
}
