//! Secrets on the real program: stored, handed out, rotated, and kept out of everything that leaves.
//!
//! May import: `support`. Must never: print a canary in a message of a failure.

use crate::support::alerts::{LIMIT, config, finished, fire};
use crate::support::daemon::{BINARY, Daemon, touch};
use crate::support::http;
use crate::support::process::{eventually, free_address};
use crate::support::receiver::Receiver;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

const KEY_A: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
const KEY_B: &str = "JYaCi_3kRSJUJDXmqRyKEcLXPhI3sQhyQ3OlCnHdQzs=";
const KEYS: &[(&str, &str)] = &[("KEY_A", KEY_A), ("KEY_B", KEY_B)];
const TOKEN: &str = "canary-4b1d/stored+token";

const USER: &str = r#"
mode = "auto"
alerts = ["Use"]
target = "{{ labels.target }}"
[[steps]]
id = "use"
script = { text = '''
cp "$TOKEN_FILE" @dir@/copy
stat -c '%a' "$TOKEN_FILE" > @dir@/mode
env > @dir@/env
cat "$TOKEN_FILE"
''', secrets = { TOKEN = "chat" } }
"#;

fn ask(daemon: &Daemon, method: &str, path: &str, body: &Value) -> http::Answer {
    http::send(daemon.address(), method, path, &body.to_string()).unwrap()
}

fn store(daemon: &Daemon, name: &str, secret: &str) -> http::Answer {
    ask(daemon, "POST", "/api/credentials", &json!({ "name": name, "type": "api", "secret": secret }))
}

/// Writes another config, for the next start.
fn rewrite(daemon: &Daemon, text: &str) {
    let text = crate::support::daemon::without_guards(&config(text));
    fs::write(daemon.dir().join("runbookd.toml"), text).unwrap();
}

fn restart(daemon: &mut Daemon, text: &str) {
    assert_eq!(daemon.terminate().code(), Some(0));
    rewrite(daemon, text);
    daemon.start_again();
}

/// Every file below `dir` that has `needle` in it.
fn holders(dir: &Path, needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holders(&path, needle));
        } else if fs::read(&path).unwrap().windows(needle.len()).any(|part| part == needle.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn t29_a_stored_credential_is_ciphertext_survives_and_is_handed_out_as_a_file() {
    let mut daemon = Daemon::start_at(
        &free_address(),
        &config("[vault]\nkey = { env = \"KEY_A\" }"),
        &[("user", USER)],
        KEYS,
    );
    let unknown = finished(&daemon, &fire(&daemon, "Use", "t0"));
    let why = unknown["steps"][0]["attempts"][0]["error"].as_str().unwrap();
    assert!(why.starts_with("there is no secret \"chat\""), "{why}");
    let made = store(&daemon, "chat", TOKEN);
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(store(&daemon, "chat", TOKEN).status, 200, "set again");
    for wrong in [
        json!({ "name": "a b", "type": "api", "secret": TOKEN }),
        json!({ "name": "x", "type": "other", "secret": TOKEN }),
        json!({ "name": "x", "type": "ssh", "secret": TOKEN }),
        json!({ "name": "x", "type": "api", "secret": [TOKEN] }),
        json!({ "name": TOKEN, "type": "api" }),
    ] {
        let refused = ask(&daemon, "POST", "/api/credentials", &wrong);
        assert_eq!(refused.status, 422, "{}", refused.text());
        assert!(!refused.text().contains("canary"));
    }
    let used = |daemon: &Daemon, target: &str| {
        let execution = finished(daemon, &fire(daemon, "Use", target));
        assert_eq!(execution["status"], "succeeded", "{execution:#}");
        let attempt = &execution["steps"][0]["attempts"][0];
        assert_eq!(attempt["stdout"], "(secret)", "{execution:#}");
        let read = |name: &str| fs::read_to_string(daemon.dir().join(name)).unwrap();
        assert!(read("copy") == TOKEN && read("mode").trim() == "600");
        let env = read("env");
        assert!(env.contains("TOKEN_FILE=/") && !env.contains("canary"));
        fs::remove_file(daemon.dir().join("copy")).unwrap();
    };
    used(&daemon, "t1");
    restart(&mut daemon, "[vault]\nkey = { env = \"KEY_A\" }");
    used(&daemon, "t2");
    // The new key first: what the old one opened is encrypted anew, and then the old one can go.
    restart(&mut daemon, "[vault]\nkey = [{ env = \"KEY_B\" }, { env = \"KEY_A\" }]");
    used(&daemon, "t3");
    restart(&mut daemon, "[vault]\nkey = { env = \"KEY_B\" }");
    used(&daemon, "t4");
    // With a key that does not fit nothing ends but what asks for it, and it says why.
    restart(&mut daemon, "[vault]\nkey = { env = \"KEY_A\" }");
    assert_eq!(daemon.json("/api/credentials")["credentials"][0]["usable"], false);
    let sealed = finished(&daemon, &fire(&daemon, "Use", "t5"));
    let why = sealed["steps"][0]["attempts"][0]["error"].as_str().unwrap();
    assert!(why.starts_with("the credential \"chat\" is stored, but no key of [vault] opens it"), "{why}");
    let actions: Vec<Value> = daemon.json("/api/audit?target=chat")["audit"].as_array().unwrap().clone();
    let actions: Vec<&str> = actions.iter().map(|record| record["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["credential.rotate", "credential.set", "credential.set"]);
    assert_eq!(ask(&daemon, "DELETE", &format!("/api/credentials/{id}"), &json!({})).status, 200);
    assert_eq!(ask(&daemon, "DELETE", &format!("/api/credentials/{id}"), &json!({})).status, 404);
    assert_eq!(daemon.json("/api/credentials")["credentials"], json!([]));
    assert_eq!(daemon.json("/api/audit/verify")["ok"], true);
    assert_eq!(daemon.terminate().code(), Some(0));
    assert_eq!(holders(&daemon.dir().join("data"), TOKEN), [] as [String; 0]);
    assert!(!daemon.log().contains("canary"));
}

#[test]
fn without_a_key_nothing_is_stored_and_a_config_that_lacks_its_credential_is_refused() {
    let mut daemon = Daemon::start_at(&free_address(), &config(""), &[("user", USER)], KEYS);
    let refused = store(&daemon, "chat", TOKEN);
    assert_eq!((refused.status, &refused.json()["code"]), (503, &"vault_not_configured".into()));
    let receiver = Receiver::start(&[]);
    let with_hook = "[vault]\nkey = { env = \"KEY_A\" }\n[automation]\nescalate_to = [\"hook\"]\n\
         [notifiers.hook]\nkind = \"webhook\"\nurl = { secret = \"address\" }\nsecret = { secret = \"signs\" }\n\
         [secrets.signs]\nstore = \"signing\"\n";
    restart(&mut daemon, "[vault]\nkey = { env = \"KEY_A\" }");
    assert_eq!(store(&daemon, "address", &receiver.url("/in?t=canary-in-a-url")).status, 201);
    assert_eq!(daemon.terminate().code(), Some(0));
    rewrite(&daemon, with_hook);
    let output = Command::new(BINARY)
        .arg("serve")
        .arg(format!("--config.file={}", daemon.dir().join("runbookd.toml").display()))
        .arg("--web.listen-address=127.0.0.1:0")
        .arg(format!("--storage.path={}", daemon.dir().join("data").display()))
        .arg(format!("--runbooks.dir={}", daemon.dir().join("runbooks").display()))
        .envs(KEYS.iter().copied())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("a stored credential is called \"signing\""), "{said}");
    rewrite(&daemon, "[vault]\nkey = { env = \"KEY_A\" }");
    daemon.start_again();
    assert_eq!(store(&daemon, "signing", "canary-that-signs").status, 201);
    restart(&mut daemon, with_hook);
    // It lacks the secret `chat`, so it fails and people are told, by what was stored.
    finished(&daemon, &fire(&daemon, "Use", "t1"));
    let told = receiver.wait_for(1);
    assert_eq!(told[0].path, "/in?t=canary-in-a-url");
    assert!(told[0].header("x-runbookd-signature").starts_with("sha256="));
    assert!(!daemon.json("/api/config").to_string().contains("canary"));
    assert!(!daemon.log().contains("canary"));
}

#[test]
fn t30_every_secret_file_that_others_can_read_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("runbooks")).unwrap();
    fs::write(dir.path().join("k"), KEY_A).unwrap();
    let keys = [
        "[webhook]\nbearer = { file = \"k\" }\n",
        "[vault]\nkey = { file = \"k\" }\n",
        "[secrets.a]\nfile = \"k\"\n",
        "[auth]\njwt = { secret = { file = \"k\" }, issuer = \"i\", audience = \"a\" }\n",
        "[notifiers.p]\nkind = \"pagerduty\"\nrouting_key = { file = \"k\" }\n",
    ];
    for key in keys {
        for (mode, fits) in [(0o600, true), (0o640, true), (0o604, false), (0o601, false), (0o666, false)] {
            fs::set_permissions(dir.path().join("k"), fs::Permissions::from_mode(mode)).unwrap();
            let open =
                if key.contains("[webhook]") { "" } else { "[webhook]\nallow_unauthenticated = true\n" };
            let text = format!("{open}{key}[runbooks]\ndir = \"runbooks\"\n");
            fs::write(dir.path().join("c.toml"), text).unwrap();
            let check = Command::new(BINARY)
                .args(["check", "--config.file=c.toml"])
                .current_dir(dir.path())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&check.stdout);
            assert_eq!(check.status.code(), Some(if fits { 0 } else { 1 }), "{key} {mode:o}: {said}");
            assert_eq!(said.contains(&format!("mode {mode:04o}")), !fits, "{said}");
        }
    }
}

/// What a child of the execution shows to everybody on the machine.
fn visible(id: &str) -> Vec<u8> {
    let mut seen = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environ.windows(id.len()).any(|part| part == id.as_bytes()) {
            seen.extend(fs::read(entry.path().join("cmdline")).unwrap_or_default());
            seen.extend(environ);
        }
    }
    seen
}

#[test]
fn t29_no_canary_reaches_any_sink() {
    // A header carries what the webhook asks for.
    let canary = |of: &str| match of {
        "hook" => "canary-hook/p+s-w-d".to_owned(),
        _ => format!("canary-{of}/p+s w\"d"),
    };
    let names = ["jwt-secret-that-is-long-enough-to-be-one", "hook", "basic", "named", "mail", "signing"];
    let env: Vec<(String, String)> =
        names.iter().enumerate().map(|(at, of)| (format!("C{at}"), canary(of))).collect();
    let receiver = Receiver::start(&[]);
    let text = format!(
        "[webhook]\nbearer = {{ env = \"C1\" }}\nbasic = {{ user = \"am\", password = {{ env = \"C2\" }} }}\n\
         [auth]\njwt = {{ secret = {{ env = \"C0\" }}, issuer = \"test\", audience = \"runbookd\" }}\n\
         [secrets.named]\nenv = \"C3\"\n[vault]\nkey = {{ env = \"KEY_A\" }}\n\
         [automation]\nescalate_to = [\"hook\", \"mail\"]\n\
         [notifiers.hook]\nkind = \"webhook\"\nurl = \"{}\"\nsecret = {{ env = \"C5\" }}\n\
         [notifiers.mail]\nkind = \"email\"\nsmtp = \"localhost:1\"\ntls = \"none\"\n\
         auth = {{ user = \"u\", password = {{ env = \"C4\" }} }}\nfrom = \"a@b.test\"\nto = [\"c@d.test\"]\n",
        receiver.url("/in")
    );
    // The child is not given the others; it is told them here, as if it had found them elsewhere.
    let runbook = r#"
mode = "auto"
alerts = ["Tell"]
target = "{{ labels.target }}"
[[steps]]
id = "tell"
script = { text = '''
for file in "$NAMED_FILE" @dir@/others/*; do
  cat "$file"; echo
  base64 -w0 < "$file"; echo
  (printf 'ab'; cat "$file") | base64 -w0; echo
  od -An -v -tx1 < "$file" | tr -d ' \n'; echo
  cat "$file" >&2
done
yes "$(cat "$NAMED_FILE")" | head -c 100000
while [ ! -e @dir@/gate ]; do sleep 0.05; done
cat "$NAMED_FILE" >&2
exit 7
''', secrets = { NAMED = "named" } }
"#;
    let mut pairs: Vec<(&str, &str)> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    pairs.extend(KEYS);
    let mut daemon = Daemon::start(&text, &[("tell", runbook)], &pairs);
    fs::create_dir(daemon.dir().join("others")).unwrap();
    for (name, value) in &env {
        fs::write(daemon.dir().join("others").join(name), value).unwrap();
    }
    let token = Command::new(BINARY)
        .args(["token", "--subject", "ada", "--role", "admin", "--issuer", "test", "--audience", "runbookd"])
        .args(["--secret-env", "C0"])
        .env("C0", &env[0].1)
        .output()
        .unwrap();
    let bearer = format!("Bearer {}", String::from_utf8(token.stdout).unwrap().trim());
    let get = |path: &str| {
        let headers = [("Authorization", bearer.as_str())];
        http::request(daemon.address(), "GET", path, &headers, b"").unwrap().text()
    };
    let alert = crate::support::alerts::body("Tell", "firing", &["t"]);
    let hook = format!("Bearer {}", env[1].1);
    let headers = [("Content-Type", "application/json"), ("Authorization", hook.as_str())];
    let answer =
        http::request(daemon.address(), "POST", "/api/sre/alerts/webhook", &headers, alert.as_bytes())
            .unwrap();
    let id = answer.json()["execution_ids"][0].as_str().unwrap().to_owned();
    let live = format!("/api/executions/{id}/output/tell/1/stdout");
    let live = eventually("what it printed, while it runs", LIMIT, || {
        let text = get(&live);
        (text.len() > 30_000).then_some(text)
    });
    let seen = String::from_utf8_lossy(&visible(&id)).into_owned();
    assert!(seen.contains("NAMED_FILE=/"));
    touch(&daemon, "gate");
    let path = format!("/api/executions/{id}");
    let ended = eventually("its end", LIMIT, || {
        let text = get(&path);
        text.contains("\"finished_at\"").then_some(text)
    });
    let told = receiver.wait_for(1);
    let message = String::from_utf8_lossy(&told[0].body).into_owned();
    let mut sinks =
        vec![("live output", live), ("the child", seen), ("the execution", ended), ("a message", message)];
    for path in ["/metrics", "/api/config", "/api/decisions", "/api/escalations", "/api/audit"] {
        sinks.push((path, get(path)));
    }
    for stream in ["stdout", "stderr"] {
        sinks.push((stream, get(&format!("{path}/output/tell/1/{stream}"))));
    }
    assert_eq!(daemon.terminate().code(), Some(0));
    sinks.push(("the log", daemon.log()));
    for (name, secret) in env.iter().map(|(_, value)| value).zip(names).map(|(value, name)| (name, value)) {
        let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
        let json = serde_json::to_string(secret).unwrap();
        let shifted = STANDARD.encode(format!("ab{secret}"));
        let forms = [
            secret.clone(),
            json.trim_matches('"').to_owned(),
            STANDARD.encode(secret)[..12].to_owned(),
            hex,
        ];
        for form in forms.into_iter().chain([shifted[4..16].to_owned()]) {
            for (sink, text) in &sinks {
                assert!(!text.contains(&form), "a form of {name} is in {sink}");
            }
            assert_eq!(holders(&daemon.dir().join("data"), &form), [] as [String; 0], "{name}");
        }
    }
    let printed = &sinks.iter().find(|(sink, _)| *sink == "stdout").unwrap().1;
    assert!(printed.contains("(secret)"), "something was printed and taken out");
}

#[test]
fn t29_what_people_write_is_kept_and_answered_without_secrets() {
    let text = "[webhook]\nallow_unauthenticated = true\n[secrets.named]\nenv = \"NAMED\"\n\
        [vault]\nkey = { env = \"KEY_A\" }\n";
    let named = "canary-7d/named word";
    let mut env = vec![("NAMED", named)];
    env.extend(KEYS);
    let runbook = "target = \"a\"\n[[steps]]\nid = \"s\"\ncommand = { program = \"true\" }\n";
    let mut daemon = Daemon::start(text, &[("r", runbook)], &env);
    let why = format!("it is {named}, I think");
    let order = json!({ "state": "draining", "reason": why });
    assert_eq!(ask(&daemon, "PUT", "/api/automation", &order).status, 200);
    let mapping = json!({ "matchers": ["alertname=\"A\""], "runbook": "r", "reason": why });
    assert_eq!(ask(&daemon, "PUT", "/api/mappings/m", &mapping).status, 200);
    let credential = json!({ "name": "n", "type": "api", "secret": TOKEN, "reason": format!("now {TOKEN}") });
    assert_eq!(ask(&daemon, "POST", "/api/credentials", &credential).status, 201);
    let refused = [
        ask(&daemon, "POST", "/api/explain", &json!({ named: 1 })).text(),
        ask(
            &daemon,
            "PUT",
            "/api/mappings/x",
            &json!({ "matchers": [named], "runbook": TOKEN, "reason": "r" }),
        )
        .text(),
    ];
    assert!(refused.iter().all(|text| text.contains("(secret)")), "{refused:?}");
    let kept = daemon.json("/api/audit").to_string() + &daemon.json("/api/automation").to_string();
    assert_eq!(kept.matches("it is (secret), I think").count(), 4, "{kept}");
    assert!(kept.contains("now (secret)"), "{kept}");
    assert_eq!(daemon.terminate().code(), Some(0));
    for canary in [named, TOKEN] {
        assert!(
            !refused.concat().contains(canary) && !kept.contains(canary) && !daemon.log().contains(canary)
        );
        assert_eq!(holders(&daemon.dir().join("data"), canary), [] as [String; 0]);
    }
}
