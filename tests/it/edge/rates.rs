//! How often people may ask, what a refusal says, and that it outlives a restart.

use super::*;
use crate::support::http::{self, Answer};
use crate::support::process::eventually;

const CONFIG: &str = "[webhook]\nallow_unauthenticated = true\n\
    [limits.http]\nper_minute = 20\nexecute_per_minute = 3\n";

const RUNBOOK: &str = "mode = \"auto\"\n[[steps]]\nid = \"look\"\ncheck = { expr = \"true\" }\n";

fn ask(server: &Server, method: &str, path: &str) -> Answer {
    let body = if path == HOOK { r#"{"alerts":[]}"# } else { r#"{"reason":"test"}"# };
    http::send(&server.address, method, path, body).unwrap()
}

fn start(dir: &Path) -> Server {
    fs::create_dir_all(dir.join("runbooks")).unwrap();
    fs::write(dir.join("runbooks/look.toml"), RUNBOOK).unwrap();
    Server::start(dir, CONFIG, &[])
}

#[test]
fn more_requests_than_allowed_are_429_and_alerts_health_metrics_and_the_brake_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    let statuses: Vec<u16> = (0..25).map(|_| ask(&server, "GET", "/api/executions").status).collect();
    assert_eq!(statuses, [[200; 20].to_vec(), [429; 5].to_vec()].concat());
    let refused = ask(&server, "GET", "/api/runbooks");
    assert_eq!((refused.status, refused.json()["code"].as_str()), (429, Some("rate_limited")));
    let number = |name: &str| refused.header(name).unwrap().parse::<u64>().unwrap();
    assert_eq!((number("x-ratelimit-limit"), number("x-ratelimit-remaining")), (20, 0));
    assert!((1..=65).contains(&number("retry-after")));
    assert_eq!(number("x-ratelimit-reset"), number("retry-after"));
    for _ in 0..30 {
        assert_eq!(ask(&server, "POST", HOOK).status, 200);
        assert_eq!(ask(&server, "GET", "/-/healthy").status, 200);
        assert_eq!(ask(&server, "GET", "/metrics").status, 200);
    }
    assert_eq!(ask(&server, "POST", "/api/executions/look_01ARZ3NDEKTSV4RRFFQ69G5FAV/stop").status, 404);
    let executed: Vec<u16> =
        (0..5).map(|_| ask(&server, "POST", "/api/runbooks/look/execute").status).collect();
    assert_eq!(executed, [202, 202, 202, 429, 429]);
    let metrics = ask(&server, "GET", "/metrics").text();
    assert!(metrics.contains(r#"runbookd_http_rate_limited_total{route="/api/executions"} 5"#), "{metrics}");
    assert!(metrics.contains(r#"runbookd_http_rate_limited_total{route="/api/runbooks/{id}/execute"} 2"#));
    let log = server.process.logged("Rate limit exceeded", 1);
    let lines: Vec<_> = log.lines().filter(|line| line.contains("Rate limit exceeded")).collect();
    assert_eq!(lines.len(), 1, "one caller is one line a minute: {lines:?}");
    assert!(lines[0].contains("request_id") && lines[0].contains("127.0.0.1"), "{lines:?}");
}

#[test]
fn a_restart_gives_nobody_a_new_minute() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = start(dir.path());
    for _ in 0..20 {
        ask(&server, "GET", "/api/executions");
    }
    assert_eq!(ask(&server, "GET", "/api/executions").status, 429);
    assert!(server.process.terminate(START).success());
    let server = Server::again(dir.path(), &[]);
    let refused = ask(&server, "GET", "/api/executions");
    assert_eq!((refused.status, refused.header("x-ratelimit-limit")), (429, Some("20")));
}

#[test]
fn a_guesser_of_tokens_gets_as_many_guesses_as_others_get_requests() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[webhook]\nallow_unauthenticated = true\n[limits.http]\nper_minute = 5\n\
        [auth]\njwt = { secret = { file = \"jwt\" }, issuer = \"i\", audience = \"a\" }\n";
    fs::write(dir.path().join("jwt"), "x".repeat(40)).unwrap();
    fs::set_permissions(dir.path().join("jwt"), fs::Permissions::from_mode(0o600)).unwrap();
    let server = Server::start(dir.path(), config, &[]);
    let guesses: Vec<u16> = (0..8).map(|_| ask(&server, "GET", "/api/executions").status).collect();
    assert_eq!(guesses, [401, 401, 401, 401, 401, 429, 429, 429]);
    assert_eq!(ask(&server, "POST", HOOK).status, 200);
}

#[test]
fn the_command_line_says_when_to_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    for _ in 0..20 {
        ask(&server, "GET", "/api/executions");
    }
    let mut command = Command::new(BINARY);
    let refused = command.args(["status", "--url", &format!("http://{}", server.address)]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.contains("too many requests (429, rate_limited)") && said.contains("try again in "),
        "{said}"
    );
}

#[test]
fn t17_one_user_holds_so_many_streams_and_a_page_of_another_site_none() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("runbooks")).unwrap();
    let slow = "mode = \"auto\"\n[[steps]]\nid = \"s\"\nwait = { for = \"10m\" }\n";
    fs::write(dir.path().join("runbooks/slow.toml"), slow).unwrap();
    let server = Server::start(dir.path(), "[webhook]\nallow_unauthenticated = true\n", &[]);
    let begun = ask(&server, "POST", "/api/runbooks/slow/execute").json();
    let path = format!("/api/executions/{}/events", begun["execution_id"].as_str().unwrap());
    let open = |more: &str| {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\n{more}\r\n", server.address).unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).unwrap();
        (String::from_utf8_lossy(&start[9..]).into_owned(), stream)
    };
    assert_eq!(open("Origin: http://evil.example\r\n").0, "403");
    assert_eq!(open("Sec-Fetch-Site: cross-site\r\n").0, "403");
    let mut held: Vec<_> = (0..16).map(|_| open("")).collect();
    assert!(held.iter().all(|(status, _)| status == "200"));
    assert_eq!(open("").0, "429");
    held.clear();
    eventually("room for a stream", START, || (open("").0 == "200").then_some(()));
}

#[test]
fn the_kill_switch_has_no_limit_and_stops_have_one_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    let stop = "/api/executions/look_01ARZ3NDEKTSV4RRFFQ69G5FAV/stop";
    let stops: Vec<u16> = (0..25).map(|_| ask(&server, "POST", stop).status).collect();
    assert_eq!(stops, [[404; 20].to_vec(), [429; 5].to_vec()].concat());
    let order = r#"{"state":"halted","reason":"test"}"#;
    for _ in 0..25 {
        assert_eq!(http::send(&server.address, "PUT", "/api/automation", order).unwrap().status, 200);
    }
    assert_eq!(ask(&server, "GET", "/api/automation").status, 200, "looking is a request as any other");
}
