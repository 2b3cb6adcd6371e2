//! What an attempt is asked to do: plain values whose templates are rendered, one type per kind.
//!
//! May import: `model`. Must never: do anything, or hold a secret that a plan for people could show.

use super::StatusRange;
use crate::model::{Confinement, Expect};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A program with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandCall {
    /// An absolute path, or a name found in [`super::SEARCH_PATH`].
    pub program: String,
    /// Its arguments, each passed on byte for byte.
    pub args: Vec<String>,
    /// Variables beside the standard ones; see [`crate::model::env_name_problem`].
    pub env: BTreeMap<String, String>,
    /// Names of secrets, by the `NAME` whose `NAME_FILE` holds the path of a file with the secret in it.
    pub secrets: BTreeMap<String, String>,
    /// An absolute directory; the private one when absent.
    pub cwd: Option<PathBuf>,
    /// Standard input; `/dev/null` when absent.
    pub stdin: Option<Vec<u8>>,
    /// Exit codes that mean success beside 0.
    pub ok_exit: Vec<i32>,
    /// Bytes kept of each stream.
    pub max_output: u64,
    /// How its process is held.
    pub confinement: Box<Confinement>,
}

/// A script: a literal text run by a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptCall {
    /// The shell and its options; the script's path comes after them.
    pub shell: Vec<String>,
    /// The text, never a template.
    pub text: String,
    /// As in [`CommandCall`]; the only way for values to get in.
    pub env: BTreeMap<String, String>,
    /// As in [`CommandCall`].
    pub secrets: BTreeMap<String, String>,
    /// As in [`CommandCall`].
    pub cwd: Option<PathBuf>,
    /// As in [`CommandCall`].
    pub stdin: Option<Vec<u8>>,
    /// As in [`CommandCall`].
    pub ok_exit: Vec<i32>,
    /// As in [`CommandCall`].
    pub max_output: u64,
    /// As in [`CommandCall`].
    pub confinement: Box<Confinement>,
}

impl ScriptCall {
    /// The shell of a script that names none: `/bin/sh -eu`.
    pub fn default_shell() -> Vec<String> {
        ["/bin/sh", "-eu"].map(String::from).into()
    }
}

/// One HTTP request.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpCall {
    /// The method, in capitals.
    pub method: String,
    /// The whole address, `http` or `https`.
    pub url: String,
    /// Whether host or port came out of a template, so that [`super::OutgoingPolicy`] has a say.
    pub templated_authority: bool,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Option<Vec<u8>>,
    /// Statuses that mean success; 2xx when empty.
    pub expect_status: Vec<StatusRange>,
    /// What the body must contain as JSON: every key named must be there with that value.
    pub expect_json: Option<serde_json::Value>,
    /// The name of the secret for `Authorization: Bearer`.
    pub bearer: Option<String>,
    /// Whether redirects are followed, within the same authority only.
    pub follow_redirects: bool,
    /// Whether it can change something, so that it carries an `Idempotency-Key`.
    pub changing: bool,
    /// Bytes kept of the body.
    pub max_output: u64,
}

/// One question to Prometheus.
#[derive(Debug, Clone, PartialEq)]
pub struct PromqlCall {
    /// The query.
    pub query: String,
    /// What every sample must satisfy.
    pub expect: Expect,
    /// How far the samples reach back; only now when absent.
    pub range: Option<Duration>,
}

/// One silence to make in Alertmanager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SilenceCall {
    /// Alertmanager's matchers as text, such as `instance="a"`; at least one.
    pub matchers: Vec<String>,
    /// How long it lasts from now on.
    pub duration: Duration,
    /// Why, for people.
    pub comment: String,
    /// By which the silence is found again: one word, the same for every attempt and for its undo.
    pub key: String,
}

/// The silence to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpireSilenceCall {
    /// The key of its [`SilenceCall`].
    pub key: String,
}

/// A program on another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshCall {
    /// A name or an address.
    pub host: String,
    /// Whether the host came out of a template, so that [`super::OutgoingPolicy`] has a say.
    pub templated_host: bool,
    /// Its port.
    pub port: u16,
    /// Who to be there.
    pub user: String,
    /// The program there.
    pub program: String,
    /// Its arguments, each passed on byte for byte.
    pub args: Vec<String>,
    /// The name of the secret that holds the private key.
    pub key: String,
    /// The file of host keys that are accepted; absolute.
    pub known_hosts: PathBuf,
    /// Exit codes that mean success beside 0; 255 never does.
    pub ok_exit: Vec<i32>,
    /// Bytes kept of each stream.
    pub max_output: u64,
}

/// One message to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyCall {
    /// Notifiers and policies by name; each must take it.
    pub to: Vec<String>,
    /// What is said.
    pub message: String,
}

/// What to do in one attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// Run a program.
    Command(CommandCall),
    /// Run a script.
    Script(ScriptCall),
    /// Send a request.
    Http(HttpCall),
    /// Ask Prometheus.
    Promql(PromqlCall),
    /// Make a silence in Alertmanager, or find the one that was made for the same key.
    Silence(SilenceCall),
    /// End a silence.
    ExpireSilence(ExpireSilenceCall),
    /// Run a program on another host.
    Ssh(SshCall),
    /// Tell people.
    Notify(NotifyCall),
}
