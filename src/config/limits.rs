//! `[limits.http]`: how often people and programs may ask. Webhooks, health and metrics are never counted.
//!
//! May import: `document`. Must never: count anything.

use super::source::{Section, Sources};
use crate::document::{Table, Value};

/// `[limits.http]` after checking; of one user at one address, each within any minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Requests, 1 to 1,000,000.
    pub per_minute: u32,
    /// Executions started by hand, 1 to 1,000,000.
    pub execute_per_minute: u32,
}

impl HttpLimits {
    pub(super) fn read<'d>(sources: &Sources<'d>, root: &mut Table<'d>) -> Self {
        let mut limits = root.take("limits").and_then(Value::table);
        let http = limits.as_mut().and_then(|limits| limits.take("http")).and_then(Value::table);
        let mut section = Section::over(sources, http, "limits.http");
        let mut number = |key, default| {
            let number = section.number(key, default, 1..=1_000_000);
            u32::try_from(number).unwrap_or(u32::MAX)
        };
        let read = Self {
            per_minute: number("per_minute", 60),
            execute_per_minute: number("execute_per_minute", 10),
        };
        section.finish();
        if let Some(limits) = limits {
            limits.finish();
        }
        read
    }
}
