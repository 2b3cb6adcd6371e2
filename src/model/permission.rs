//! The six permissions, spelled as in the config.

use super::status::words;
use serde::{Deserialize, Serialize};
use std::fmt;

words! {
    /// One thing a route may ask for.
    Permission {
        /// See runbooks, executions and decisions.
        Read = "read",
        /// Start and control executions.
        Execute = "execute",
        /// Change runbooks and mappings.
        Edit = "edit",
        /// Store credentials (never read them back).
        Secrets = "secrets",
        /// Read the audit log.
        Audit = "audit",
        /// See the whole configuration, shut the daemon down.
        Admin = "admin",
    }
}
