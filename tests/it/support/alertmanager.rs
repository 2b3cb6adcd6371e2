//! The real Alertmanager, with times short enough for a test.
//!
//! May import: the standard library, `tempfile`, its neighbours here. Must never: judge what it says.

use super::http;
use super::process::{Process, free_address, program};
use std::fs;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// A running Alertmanager.
pub(crate) struct Alertmanager {
    _process: Process,
    address: String,
    _dir: TempDir,
}

impl Alertmanager {
    /// Starts one that posts to the daemon at `receiver`, grouped by `group_by` (YAML, such as `['...']`),
    /// and again every four seconds while an alert fires.
    pub(crate) fn start(receiver: &str, group_by: &str) -> Self {
        Self::start_with(receiver, group_by, "")
    }

    /// The same, with more lines in its config.
    pub(crate) fn start_with(receiver: &str, group_by: &str, more: &str) -> Self {
        Self::start_from(&format!(
            "route: {{ receiver: runbookd, group_by: {group_by}, group_wait: 1s, group_interval: 1s, repeat_interval: 4s }}\n\
             receivers:\n\
             - name: runbookd\n  webhook_configs:\n  - url: http://{receiver}/api/sre/alerts/webhook\n    send_resolved: true\n{more}"
        ))
    }

    /// One with this config.
    pub(crate) fn start_from(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = free_address();
        fs::write(dir.path().join("alertmanager.yml"), config).unwrap();
        let mut command = Command::new(program("prometheus-alertmanager", "prometheus-alertmanager"));
        command
            .arg(format!("--config.file={}", dir.path().join("alertmanager.yml").display()))
            .arg(format!("--storage.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=");
        let mut process = Process::start("alertmanager", command, dir.path());
        process.wait_until(Duration::from_secs(60), || {
            http::get(&address, "/-/ready").is_ok_and(|answer| answer.status == 200)
        });
        Self { _process: process, address, _dir: dir }
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// How many requests to the webhook have failed.
    pub(crate) fn failed_requests(&self) -> f64 {
        let text = http::get(&self.address, "/metrics").unwrap().text();
        let sample = "alertmanager_notification_requests_failed_total{integration=\"webhook\"} ";
        text.lines().find_map(|line| line.strip_prefix(sample)).map_or(0.0, |value| value.parse().unwrap())
    }
}
