//! What every answer says, and what is refused before anybody is asked who they are.

use super::*;
use crate::access::ROUTES;
use crate::support::daemon::Daemon;
use crate::support::http;

const CONFIG: &str = "[webhook]\nallow_unauthenticated = true\n";

#[test]
fn t15_every_route_and_every_error_says_what_a_browser_must_not_do() {
    let daemon = Daemon::start(CONFIG, &[], &[]);
    let mut statuses = std::collections::BTreeSet::new();
    let no_route = [
        ("GET", "/nothing"),
        ("POST", "/-/healthy"),
        ("TRACE", "/metrics"),
        ("GET", HOOK),
        ("GET", "/api/%ff"),
    ];
    let routes = ROUTES.iter().map(|(method, path, ..)| (*method, *path)).chain(no_route);
    for (method, path) in routes {
        for body in [&b"{}"[..], b"{"] {
            let headers = [("Content-Type", "application/json")];
            let answer = http::request(daemon.address(), method, path, &headers, body).unwrap();
            statuses.insert(answer.status);
            let policy = answer.header("content-security-policy").unwrap();
            let shut = "frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
            if path == "/docs/explorer.html" && answer.status == 200 {
                // The one page: its own script and style by their hashes, requests to nobody else.
                assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
                assert!(policy.contains("; connect-src 'self'; ") && policy.contains(shut), "{policy}");
                assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
            } else {
                assert_eq!(
                    policy,
                    format!("default-src 'none'; {shut}"),
                    "{method} {path}: {}",
                    answer.status
                );
            }
            for (name, value) in [
                ("x-content-type-options", "nosniff"),
                ("referrer-policy", "no-referrer"),
                ("cross-origin-opener-policy", "same-origin"),
                ("cross-origin-resource-policy", "same-origin"),
                ("cache-control", "no-store"),
            ] {
                assert_eq!(answer.header(name), Some(value), "{method} {path}: {}", answer.status);
            }
            assert!(answer.header("x-request-id").is_some(), "{method} {path}");
            assert_eq!(
                answer.header("strict-transport-security"),
                None,
                "{method} {path}: not over plain HTTP"
            );
            assert_eq!(answer.header("access-control-allow-origin"), None, "{method} {path}");
        }
    }
    for status in [200, 400, 404, 405, 422] {
        assert!(statuses.contains(&status), "{statuses:?}");
    }
}

#[test]
fn t25_methods_nobody_uses_are_405_and_nothing_is_echoed_or_redirected() {
    let daemon = Daemon::start(CONFIG, &[], &[]);
    for method in ["TRACE", "OPTIONS", "CONNECT", "PROPFIND", "DELETE", "PATCH", "GET", "HEAD"] {
        for path in [HOOK, "/api/sre/alerts/webhook/"] {
            let head = format!(
                "{method} {path} HTTP/1.1\r\nHost: evil.example\r\nX-Canary: canary\r\nConnection: close\r\n\r\n"
            );
            let answer = http::raw(daemon.address(), head.as_bytes()).unwrap();
            let expected = if method == "CONNECT" { [400, 405] } else { [405, 405] };
            assert!(expected.contains(&answer.status), "{method} {path}: {}", answer.status);
            assert_eq!(answer.header("location"), None);
            assert!(!answer.text().contains("canary"), "{method} {path}");
            if answer.status == 405 {
                assert!(answer.header("allow").unwrap().contains("POST"), "{method} {path}");
            }
        }
    }
}

#[test]
fn t25_the_host_header_and_forwarded_headers_of_a_stranger_change_nothing() {
    let daemon = Daemon::start(CONFIG, &[], &[]);
    for host in ["127.0.0.1", "evil.example", "evil.example:80@x", "[::1]:1"] {
        let head = format!(
            "GET /-/healthy HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: https\r\n\
             X-Forwarded-For: 203.0.113.9\r\nForwarded: for=203.0.113.9;proto=https\r\nConnection: close\r\n\r\n"
        );
        let answer = http::raw(daemon.address(), head.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{host}");
        assert_eq!(answer.header("strict-transport-security"), None, "nobody trusted said https");
        assert!(
            !answer.text().contains("evil")
                && answer.headers.iter().all(|(_, value)| !value.contains("evil"))
        );
    }
}
