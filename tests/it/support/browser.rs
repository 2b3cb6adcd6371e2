//! A real Chromium, driven over WebDriver on loopback.
//!
//! It starts empty, resolves no name but loopback's addresses, and is gone when this is. May import: the standard
//! library, `serde_json`, `tempfile`, its neighbours here. Must never: hide what a page wrote to the console.

use super::http;
use super::process::{Process, eventually, free_address, program};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const START: Duration = Duration::from_secs(60);
/// How long a page may take to show what a test waits for.
const PATIENCE: Duration = Duration::from_secs(30);
/// The key under which WebDriver names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// One window.
pub(crate) struct Browser {
    driver: String,
    session: String,
    _process: Process,
    // Last, so that the browser is gone before its directory.
    _dir: TempDir,
}

/// An element of the page.
#[derive(Debug, Clone)]
pub(crate) struct Element(String);

impl Browser {
    /// An empty one.
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let driver = free_address();
        let port = driver.rsplit(':').next().unwrap();
        let mut command = Command::new(program("chromedriver", "chromium-driver"));
        command.arg(format!("--port={port}")).env("HOME", dir.path()).current_dir(dir.path());
        let mut process = Process::start("chromedriver", command, dir.path());
        process.wait_until(START, || {
            http::send_kept(&driver, "GET", "/status", "").is_ok_and(|answer| answer.status == 200)
        });
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
        ];
        let mut args: Vec<String> = args.map(str::to_owned).into();
        args.push(format!("--user-data-dir={}", dir.path().join("profile").display()));
        let wish = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "binary": program("chromium", "chromium"), "args": args },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let answer = http::send_kept(&driver, "POST", "/session", &wish.to_string()).unwrap().json();
        let session = answer["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {answer}"));
        let session = format!("/session/{session}");
        Self { driver, session, _process: process, _dir: dir }
    }

    fn try_ask(&self, path: &str, body: &Value) -> Result<Value, String> {
        let path = format!("{}{path}", self.session);
        let mut answer = http::send_kept(&self.driver, "POST", &path, &body.to_string()).unwrap().json();
        let value = answer["value"].take();
        if value.get("error").is_some() { Err(value.to_string()) } else { Ok(value) }
    }

    fn ask(&self, path: &str, body: &Value) -> Value {
        self.try_ask(path, body).unwrap_or_else(|error| panic!("{path} {body}: {error}"))
    }

    /// Goes to an address, and waits until it is loaded.
    pub(crate) fn open(&self, url: &str) {
        self.ask("/url", &json!({ "url": url }));
    }

    /// Shows the page as on a screen of this size, in CSS pixels, to somebody who likes it light or dark.
    pub(crate) fn look(&self, (width, height): (u32, u32), scheme: &str) {
        let tell = |cmd: &str, params: Value| {
            self.ask("/goog/cdp/execute", &json!({ "cmd": cmd, "params": params }));
        };
        let screen =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        tell("Emulation.setDeviceMetricsOverride", screen);
        let likes = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        tell("Emulation.setEmulatedMedia", json!({ "features": likes }));
    }

    /// What a script of our own says of the page: the body of a function.
    pub(crate) fn script(&self, body: &str, arguments: &[Value]) -> Value {
        self.ask("/execute/sync", &json!({ "script": body, "args": arguments }))
    }

    /// The first element that fits, as soon as there is one.
    pub(crate) fn find(&self, css: &str) -> Element {
        eventually(css, PATIENCE, || {
            let found = self.try_ask("/element", &json!({ "using": "css selector", "value": css })).ok()?;
            Some(Element(found[ELEMENT].as_str()?.to_owned()))
        })
    }

    /// Clicks on what fits, as a person would: it must be seen and nothing may be in front of it.
    pub(crate) fn click(&self, css: &str) {
        let Element(id) = self.find(css);
        self.ask(&format!("/element/{id}/click"), &json!({}));
    }

    /// Puts a text into a field, in place of what is there.
    pub(crate) fn fill(&self, css: &str, text: &str) {
        let Element(id) = self.find(css);
        self.ask(&format!("/element/{id}/clear"), &json!({}));
        self.ask(&format!("/element/{id}/value"), &json!({ "text": text }));
    }

    /// Presses keys, as WebDriver spells them, wherever the focus is.
    pub(crate) fn press(&self, keys: &str) {
        let each =
            |key: char| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})];
        let actions: Vec<Value> = keys.chars().flat_map(each).collect();
        self.ask("/actions", &json!({ "actions": [{ "type": "key", "id": "keys", "actions": actions }] }));
    }

    /// The text of what fits, once `wanted` holds for it.
    pub(crate) fn text(&self, css: &str, wanted: impl Fn(&str) -> bool) -> String {
        eventually(&format!("the text of {css}"), PATIENCE, || {
            let found =
                self.script("return document.querySelector(arguments[0])?.textContent", &[json!(css)]);
            found.as_str().filter(|text| wanted(text)).map(str::to_owned)
        })
    }

    /// What was written to the console since the last call: source, level and text of each line.
    pub(crate) fn console(&self) -> Vec<(String, String, String)> {
        let lines = self.ask("/se/log", &json!({ "type": "browser" }));
        let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let lines = lines.as_array().cloned().unwrap_or_default();
        lines.iter().map(|line| (text(line, "source"), text(line, "level"), text(line, "message"))).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser; both are killed with their group if it does not.
        drop(http::send_kept(&self.driver, "DELETE", &self.session, ""));
    }
}
