//! What the command line says, as plain data for the composition root.
//!
//! May import: `model`, `telemetry` (the log format). Must never: read a file or the environment; what is not
//! given stays absent, so that the config's own precedence (flag, environment, file, default) decides.

use crate::telemetry::logging::Format;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where the config is, and the flags that stand above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `--config.file`, relative to the working directory.
    pub file: PathBuf,
    /// Whether a person named the file; the default one may be absent where a verb can do without it.
    pub file_given: bool,
    /// `--web.listen-address`, as typed.
    pub listen_address: Option<String>,
    /// `--web.external-url`, as typed.
    pub external_url: Option<String>,
    /// `--storage.path`, as typed.
    pub storage_path: Option<String>,
    /// `--runbooks.dir`, as typed.
    pub runbooks_dir: Option<String>,
    /// `--web.config.file`, as typed.
    pub web_config_file: Option<String>,
}

/// `runbookd serve`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeOptions {
    /// The config and the flags above it.
    pub settings: Settings,
    /// `--log.level`: a level, or directives of `tracing`; not yet checked.
    pub log_level: String,
    /// `--log.format`.
    pub log_format: Format,
    /// `--web.enable-lifecycle`: whether `POST /-/reload` is served.
    pub enable_lifecycle: bool,
}

/// `runbookd check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckOptions {
    /// The config and the flags above it.
    pub settings: Settings,
}

/// `runbookd execute`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecuteOptions {
    /// The config and the flags above it.
    pub settings: Settings,
    /// The runbook's id, or the path of its file.
    pub runbook: String,
    /// `--label k=v`: what the alert would have said.
    pub labels: BTreeMap<String, String>,
    /// `--annotation k=v`: likewise.
    pub annotations: BTreeMap<String, String>,
    /// `--env K=V`: the values of inputs with `from = "env.K"`.
    pub env: BTreeMap<String, String>,
    /// `--dry-run`: show what would be done, and do nothing.
    pub dry_run: bool,
}

/// `runbookd test`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestOptions {
    /// The config and the flags above it.
    pub settings: Settings,
    /// The test files; none: all of the directory of runbooks.
    pub files: Vec<PathBuf>,
    /// `--coverage`: which ends of which steps no test has seen.
    pub coverage: bool,
    /// `--output json`.
    pub json: bool,
}
