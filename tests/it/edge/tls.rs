//! TLS: versions, rotation under load, what a client's certificate opens, and what it does not.

use super::*;
use crate::support::process::eventually;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

const CONFIG: &str = "[server]\ntls = { cert_file = \"server.crt\", key_file = \"server.key\" }\n\
    [webhook]\nbearer = { env = \"HOOK\" }\n";

fn seconds(year: i32) -> f64 {
    rcgen::date_time_ymd(year, 1, 1).unix_timestamp() as f64
}

/// The value of the expiry in the metrics.
fn expiry(server: &Server, config: &Arc<ClientConfig>) -> f64 {
    let text = ask_tls(&server.address, config, "GET /metrics HTTP/1.1", "").unwrap();
    let name = "runbookd_certificate_expiry_timestamp_seconds ";
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse().unwrap()
}

#[test]
fn t28_tls_is_1_2_or_newer_and_tells_browsers_to_keep_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.sign(&["localhost"], 2090).write(dir.path(), "server");
    let server = Server::start(dir.path(), CONFIG, &[]);
    for only_12 in [false, true] {
        let config = client(&authority, None, only_12);
        let answer = ask_tls(&server.address, &config, "GET /-/healthy HTTP/1.1", "").unwrap();
        assert_eq!(status(&answer), "200", "{answer}");
        assert!(answer.contains("strict-transport-security: max-age=31536000"), "{answer}");
    }
    let stranger = client(&Authority::new(), None, false);
    assert!(ask_tls(&server.address, &stranger, "GET /-/healthy HTTP/1.1", "").is_err());
    assert_eq!(expiry(&server, &client(&authority, None, false)), seconds(2090));
    // What openssl still speaks of older versions is refused, and HTTP/2 is agreed on when it is offered.
    let s_client = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        command
            .args(["s_client", "-connect", &server.address])
            .args(arguments)
            .stdin(std::process::Stdio::null());
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let old = s_client(&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    assert!(old.contains("Cipher is (NONE)"), "{old}");
    assert!(s_client(&["-alpn", "h2,http/1.1"]).contains("ALPN protocol: h2"));
    assert!(s_client(&["-alpn", "http/1.1"]).contains("ALPN protocol: http/1.1"));
}

#[test]
fn h2_through_tls_is_served_to_curl() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.sign(&["localhost"], 2090).write(dir.path(), "server");
    fs::write(dir.path().join("ca.crt"), &authority.cert).unwrap();
    let server = Server::start(dir.path(), CONFIG, &[]);
    let port = server.address.rsplit(':').next().unwrap();
    let curl = |arguments: &[&str]| {
        let mut command = Command::new("curl");
        command.args([
            "-sS",
            "--http2",
            "--cacert",
            "ca.crt",
            "--resolve",
            &format!("localhost:{port}:127.0.0.1"),
        ]);
        let output = command.args(arguments).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let url = format!("https://localhost:{port}");
    let said = curl(&["-i", &format!("{url}/-/healthy")]);
    assert!(said.starts_with("HTTP/2 200"), "{said}");
    let hook = format!("{url}{HOOK}");
    let hook = ["-w", "%{http_version} %{http_code}", "-o", "/dev/null", "-d", r#"{"alerts":[]}"#, &hook];
    let headers = ["-H", "Content-Type: application/json", "-H", "Authorization: Bearer hook-token"];
    assert_eq!(curl(&[&hook[..], &headers[..]].concat()), "2 200");
    assert_eq!(curl(&hook), "2 401");
}

#[test]
fn t28_a_certificate_is_rotated_under_load_with_no_failed_request_and_a_bad_one_is_refused_loudly() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.sign(&["localhost"], 2090).write(dir.path(), "server");
    let server = Server::start(dir.path(), CONFIG, &[]);
    let config = client(&authority, None, false);
    let (ended, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !ended.load(Ordering::SeqCst) {
                    let answer = ask_tls(&server.address, &config, "GET /-/healthy HTTP/1.1", "").unwrap();
                    assert_eq!(status(&answer), "200", "{answer}");
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        authority.sign(&["localhost"], 2091).write(dir.path(), "server");
        eventually("the new certificate", START, || {
            (expiry(&server, &config) == seconds(2091)).then_some(())
        });
        // A certificate of another key.
        fs::write(dir.path().join("server.crt"), authority.sign(&["localhost"], 2092).cert).unwrap();
        eventually("the complaint", START, || {
            let log = server.process.log();
            log.lines()
                .any(|line| line.contains("new certificate is refused") && line.contains("error"))
                .then_some(())
        });
        let metrics = ask_tls(&server.address, &config, "GET /metrics HTTP/1.1", "").unwrap();
        assert!(metrics.contains("\nrunbookd_config_last_reload_successful 0"), "{metrics}");
        assert_eq!(expiry(&server, &config), seconds(2091), "the old one stays");
        authority.sign(&["localhost"], 2093).write(dir.path(), "server");
        eventually("the metric to recover", START, || {
            let metrics = ask_tls(&server.address, &config, "GET /metrics HTTP/1.1", "").unwrap();
            metrics.contains("\nrunbookd_config_last_reload_successful 1").then_some(())
        });
        ended.store(true, Ordering::SeqCst);
    });
    assert!(asked.load(Ordering::SeqCst) > 10);
}

#[test]
fn t28_a_clients_certificate_opens_the_webhook_by_its_name_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.sign(&["localhost"], 2090).write(dir.path(), "server");
    fs::write(dir.path().join("ca.crt"), &authority.cert).unwrap();
    let config = "[server]\ntls = { cert_file = \"server.crt\", key_file = \"server.key\", client_ca_file = \"ca.crt\" }\n\
        [webhook]\nclient_cert_sans = [\"am.example\", \"10.9.8.7\"]\n\
        [auth]\njwt = { secret = { file = \"jwt\" }, issuer = \"i\", audience = \"a\" }\n";
    fs::write(dir.path().join("jwt"), "x".repeat(40)).unwrap();
    fs::set_permissions(dir.path().join("jwt"), fs::Permissions::from_mode(0o600)).unwrap();
    let server = Server::start(dir.path(), config, &[]);
    let hook = format!("POST {HOOK} HTTP/1.1\r\nContent-Type: application/json");
    let ask = |pair: Option<&Pair>, head: &str| {
        let answer = ask_tls(&server.address, &client(&authority, pair, false), head, r#"{"alerts":[]}"#);
        answer.map_or("none".to_owned(), |answer| status(&answer).to_owned())
    };
    let by_name = authority.sign(&["am.example"], 2090);
    let by_address = authority.sign(&["10.9.8.7"], 2090);
    let other = authority.sign(&["other.example", "xam.example"], 2090);
    let stranger = Authority::new().sign(&["am.example"], 2090);
    assert_eq!(ask(Some(&by_name), &hook), "200");
    assert_eq!(ask(Some(&by_address), &hook), "200");
    assert_eq!(ask(Some(&other), &hook), "401");
    assert_eq!(ask(None, &hook), "401");
    assert_eq!(ask(Some(&stranger), &hook), "none", "signed by somebody else");
    for path in ["/api/executions", "/api/audit", "/api/config", "/api/runbooks"] {
        assert_eq!(ask(Some(&by_name), &format!("GET {path} HTTP/1.1")), "401", "{path}");
    }
    assert_eq!(ask(Some(&by_name), "PUT /api/automation HTTP/1.1"), "401");
    assert_eq!(ask(None, "GET /-/healthy HTTP/1.1"), "200", "who needs none shows none");
}

#[test]
fn t28_a_key_others_may_read_and_a_certificate_that_does_not_fit_are_refused_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.sign(&["localhost"], 2090);
    fs::create_dir(dir.path().join("runbooks")).unwrap();
    fs::write(dir.path().join("c.toml"), format!("{CONFIG}[runbooks]\ndir = \"runbooks\"\n")).unwrap();
    let check = || {
        let mut command = Command::new(BINARY);
        let output = command.args(["check", "--config.file=c.toml"]).env("HOOK", "h").current_dir(dir.path());
        let output = output.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let refused = |word: &str| {
        let (code, said) = check();
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("c.toml:2:7") && said.contains(word), "{said}");
    };
    refused("server.crt cannot be read");
    pair.write(dir.path(), "server");
    let (code, said) = check();
    assert_eq!(code, Some(0), "{said}");
    fs::set_permissions(dir.path().join("server.key"), fs::Permissions::from_mode(0o604)).unwrap();
    refused("mode 0604");
    authority.sign(&["localhost"], 2090).write(dir.path(), "server");
    fs::write(dir.path().join("server.crt"), &pair.cert).unwrap();
    refused("cannot be used together");
    fs::write(dir.path().join("server.crt"), "nothing").unwrap();
    refused("holds no certificate");
}
