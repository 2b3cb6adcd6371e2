//! The real Prometheus, with times short enough for a test.
//!
//! May import: the standard library, `tempfile`, its neighbours here. Must never: judge what it says.

use super::http;
use super::process::{Process, free_address, program};
use serde_json::Value;
use std::fs;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// A running Prometheus. It sees its targets about five seconds after its start, which is its own pace.
pub(crate) struct Prometheus {
    _process: Process,
    address: String,
    _dir: TempDir,
}

impl Prometheus {
    /// An address for one that is started later, because others must know it first.
    pub(crate) fn reserve() -> String {
        free_address()
    }

    /// Starts one on `address` that scrapes `exporter`, evaluates `rules` and tells `alertmanager`.
    pub(crate) fn start(address: &str, exporter: &str, alertmanager: &str, rules: &str) -> Self {
        Self::start_with(address, exporter, alertmanager, rules, &[])
    }

    /// The same, with more arguments.
    pub(crate) fn start_with(
        address: &str,
        exporter: &str,
        alertmanager: &str,
        rules: &str,
        more: &[&str],
    ) -> Self {
        Self::start_labelled(address, exporter, alertmanager, rules, more, "{}")
    }

    /// The same, with external labels (YAML, such as `{ cluster: eu }`), which alerts get and series do not.
    pub(crate) fn start_labelled(
        address: &str,
        exporter: &str,
        alertmanager: &str,
        rules: &str,
        more: &[&str],
        external: &str,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "global: {{ scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms, external_labels: {external} }}\n\
             rule_files: [rules.yml]\n\
             alerting: {{ alertmanagers: [ {{ static_configs: [ {{ targets: ['{alertmanager}'] }} ] }} ] }}\n\
             scrape_configs: [ {{ job_name: test, static_configs: [ {{ targets: ['{exporter}'] }} ] }} ]\n"
        );
        fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        fs::write(dir.path().join("rules.yml"), rules).unwrap();
        let mut command = Command::new(program("prometheus", "prometheus"));
        command
            .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(more);
        let mut process = Process::start("prometheus", command, dir.path());
        process.wait_until(Duration::from_secs(60), || {
            http::get(address, "/-/ready").is_ok_and(|answer| answer.status == 200)
        });
        Self { _process: process, address: address.to_owned(), _dir: dir }
    }

    /// `GET path`, which must be answered 200.
    pub(crate) fn json(&self, path: &str) -> Value {
        let answer = http::get(&self.address, path).unwrap();
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text());
        answer.json()
    }

    /// The series that a query has now; a query it cannot read is a panic.
    pub(crate) fn query(&self, promql: &str) -> Vec<Value> {
        let quoted: String = promql.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.json(&format!("/api/v1/query?query={quoted}"));
        answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{promql}: {answer:#}")).clone()
    }
}
