//! What several subjects need to put the program under test.
//!
//! May import: the library, the standard library. Must never: assert anything about the program itself.

pub(crate) mod alertmanager;
pub(crate) mod alerts;
pub(crate) mod browser;
pub(crate) mod daemon;
pub(crate) mod exporter;
pub(crate) mod files;
pub(crate) mod http;
pub(crate) mod lives;
pub(crate) mod postgres;
pub(crate) mod powercut;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod receiver;
pub(crate) mod redis;
pub(crate) mod schema;
pub(crate) mod service;
pub(crate) mod small;
pub(crate) mod sshd;
