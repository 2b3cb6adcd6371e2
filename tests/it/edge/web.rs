//! `--web.config.file`: the file every exporter takes, here too.

use super::*;
use crate::support::http::{self, Answer};
use base64::Engine as _;

const CONFIG: &str = "[webhook]\nbearer = { env = \"HOOK\" }\n";

fn ask(server: &Server, method: &str, path: &str, pair: &str) -> Answer {
    let header = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    let mut headers = vec![("Content-Type", "application/json")];
    if !pair.is_empty() {
        headers.push(("Authorization", &header));
    }
    http::request(&server.address, method, path, &headers, b"{}").unwrap()
}

#[test]
fn users_of_the_web_config_read_metrics_and_the_api_and_do_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let hash = bcrypt::hash_with_salt("right", 4, [9; 16]).unwrap().to_string();
    let web = format!(
        "basic_auth_users:\n  prometheus: {hash}\nhttp_server_config:\n  headers:\n    X-Frame-Options: deny\n"
    );
    fs::write(dir.path().join("web.yml"), web).unwrap();
    let server = Server::start(dir.path(), CONFIG, &["--web.config.file=web.yml", "--web.enable-lifecycle"]);
    for path in [
        "/metrics",
        "/api/executions",
        "/api/runbooks",
        "/api/decisions",
        "/docs/explorer.html",
        "/docs/openapi.json",
        "/docs/openapi.yaml",
    ] {
        assert_eq!(ask(&server, "GET", path, "prometheus:right").status, 200, "{path}");
        for wrong in ["", "prometheus:wrong", "nobody:right"] {
            let answer = ask(&server, "GET", path, wrong);
            assert_eq!(answer.status, 401, "{path} as {wrong:?}");
            assert!(answer.header("www-authenticate").unwrap().contains("Basic"));
            assert_eq!(answer.header("x-frame-options"), Some("deny"));
        }
    }
    for path in ["/-/healthy", "/-/ready", "/health"] {
        assert_eq!(ask(&server, "GET", path, "").status, 200, "{path} is asked by whoever restarts us");
    }
    for (method, path) in [
        ("PUT", "/api/automation"),
        ("POST", "/api/runbooks/x/execute"),
        ("POST", "/api/executions/x_1/stop"),
        ("GET", "/api/audit"),
        ("GET", "/api/config"),
    ] {
        assert_eq!(ask(&server, method, path, "prometheus:right").status, 403, "{method} {path}");
        assert_eq!(ask(&server, method, path, "").status, 401, "{method} {path}");
    }
    assert_eq!(ask(&server, "POST", HOOK, "prometheus:right").status, 401, "the webhook has its own door");
    assert_eq!(ask(&server, "POST", "/-/reload", "").status, 401);
    assert_eq!(ask(&server, "POST", "/-/reload", "prometheus:right").status, 200);
}

#[test]
fn tls_of_the_web_config_is_served_and_asks_for_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.sign(&["localhost"], 2090).write(dir.path(), "server");
    fs::write(dir.path().join("ca.crt"), &authority.cert).unwrap();
    let web = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  \
        client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n  \
        client_allowed_sans: [prometheus.example]\n  min_version: TLS13\nhttp_server_config:\n  http2: false\n";
    fs::write(dir.path().join("web.yml"), web).unwrap();
    let server = Server::start(dir.path(), CONFIG, &["--web.config.file=web.yml"]);
    let ask = |pair: Option<&Pair>, only_12| {
        let config = client(&authority, pair, only_12);
        let answer = ask_tls(&server.address, &config, "GET /metrics HTTP/1.1", "");
        answer.is_ok_and(|answer| status(&answer) == "200")
    };
    let good = authority.sign(&["prometheus.example"], 2090);
    assert!(ask(Some(&good), false));
    assert!(!ask(None, false), "without a certificate");
    assert!(!ask(Some(&good), true), "over TLS 1.2");
    assert!(!ask(Some(&authority.sign(&["other.example"], 2090)), false), "with another name");
    assert!(!ask(Some(&Authority::new().sign(&["prometheus.example"], 2090)), false), "of another authority");
}

#[test]
fn a_web_config_that_asks_for_what_is_not_honoured_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("runbooks")).unwrap();
    fs::write(dir.path().join("c.toml"), CONFIG).unwrap();
    for (web, said) in [
        ("basic_auth_users:\n  ada: hunter2\n", "web.yml:2:8: this is not a bcrypt hash"),
        ("rate_limit:\n  interval: 1s\n", "web.yml:1:1: "),
        ("tls_server_config:\n  cert_file: a\n  key_file: b\n", "web.yml:2:3: a cannot be read"),
    ] {
        fs::write(dir.path().join("web.yml"), web).unwrap();
        for verb in ["serve", "check"] {
            let mut command = Command::new(BINARY);
            command
                .args([
                    verb,
                    "--config.file=c.toml",
                    "--web.config.file=web.yml",
                    "--web.listen-address=127.0.0.1:0",
                ])
                .args(["--storage.path=data", "--runbooks.dir=runbooks"])
                .env("HOOK", "hook-token")
                .current_dir(dir.path());
            let output = command.output().unwrap();
            let all = [output.stdout, output.stderr].concat();
            let all = String::from_utf8_lossy(&all);
            assert_eq!(output.status.code(), Some(1), "{all}");
            assert!(all.contains(said) && !all.contains("hunter2"), "{verb}: {all}");
        }
    }
}
