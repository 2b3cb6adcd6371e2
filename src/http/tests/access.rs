//! Who may use what, and in which order a request is refused.

use super::*;

/// A path that matches the route.
fn example(path: &str) -> String {
    path.replace("{id}", "x")
}

#[tokio::test]
async fn every_route_is_open_to_exactly_the_credentials_it_names() {
    let live = live().await;
    let bearer = |role: &str| format!("Bearer {}", token(role));
    let hook = ["Bearer hook-token", "Basic YW06aG9vay1wYXNzd29yZA=="];
    let mut checked = 0;
    for route in
        live.edge.table().iter().filter(|route| !["/stream", "/wait", "/panic", "/big"].contains(&route.path))
    {
        for method in route.methods {
            let (method, path) = (method.as_str(), example(route.path));
            let cases = [
                (String::new(), None, 401),
                ("Bearer wrong".into(), None, 401),
                ("Bearer".into(), None, 401),
                ("Basic d3Jvbmc6d3Jvbmc=".into(), None, 401),
                (hook[0].into(), Some("hook"), 401),
                (hook[1].into(), Some("hook"), 401),
                (bearer("nobody"), Some("nobody"), 403),
                (bearer("viewer"), Some("viewer"), 403),
                (bearer("operator"), Some("operator"), 403),
                (bearer("editor"), Some("editor"), 403),
                (bearer("sre"), Some("sre"), 403),
                (bearer("admin"), Some("admin"), 403),
            ];
            for (authorization, who, refused) in cases {
                let allowed = match route.access {
                    Access::Open | Access::OwnPages => true,
                    Access::SignedIn => who.is_some_and(|role| role != "hook"),
                    Access::Webhook => who == Some("hook"),
                    Access::Needs(permission) => who.is_some_and(|role| {
                        Roles::default().permissions(&[role.to_owned()]).allow(permission)
                    }),
                };
                let expected = match (allowed, route.access) {
                    (true, _) => 200,
                    (false, Access::Webhook) => 401,
                    (false, _) => refused,
                };
                let answer =
                    ask(&live, method, &path, &authorization, if method == "GET" { "" } else { "{}" }).await;
                assert_eq!(answer.status, expected, "{method} {path} as {who:?}: {}", answer.text());
                if expected == 401 {
                    let challenge = answer.header("www-authenticate").unwrap();
                    assert!(challenge.starts_with(r#"Bearer realm="runbookd""#));
                    assert_eq!(challenge.contains("Basic"), route.access == Access::Webhook);
                }
                checked += 1;
            }
        }
    }
    assert!(checked >= 150, "only {checked} combinations");
    assert!(live.recorder.failures.lock().unwrap().contains(&Failure::Forbidden));
}

#[tokio::test]
async fn t25_an_unknown_path_is_404_and_another_method_405_before_any_credential_is_asked_for() {
    let live = live().await;
    for path in
        ["/", "/nothing", "/open/", "/open/x/y", "/needs", "//open", "/needs/read/../audit", "/%6fpen"]
    {
        let answer = ask(&live, "GET", path, "", "").await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (404, Some("not_found")), "{path}");
    }
    for (method, path, allow) in [
        ("POST", "/open", "GET, HEAD"),
        ("OPTIONS", "/open", "GET, HEAD"),
        ("TRACE", "/open", "GET, HEAD"),
        ("PROPFIND", "/needs/edit/x", "PUT, DELETE"),
        ("GET", HOOK, "POST, PUT"),
        ("HEAD", HOOK, "POST, PUT"),
        ("HEAD", "/api/sre/alerts/webhook/", "POST, PUT"),
        ("DELETE", HOOK, "POST, PUT"),
        ("OPTIONS", HOOK, "POST, PUT"),
        ("HEAD", "/needs/execute", "POST"),
        ("OPTIONS", "*", "GET, HEAD, POST, PUT, PATCH, DELETE"),
        ("CONNECT", "test:443", "GET, HEAD, POST, PUT, PATCH, DELETE"),
    ] {
        let answer = ask(&live, method, path, "", "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{method} {path}");
    }
    assert_eq!(live.gate.ran.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn t25_no_request_is_ever_answered_with_a_redirect() {
    let live = live().await;
    let admin = format!("Bearer {}", token("admin"));
    for path in
        ["/open", "/open/", "//", HOOK, "/api/sre/alerts/webhook/", "/api/sre/alerts/webhook//", "/./open"]
    {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE"] {
            for authorization in ["", "Bearer hook-token", &admin] {
                let answer = ask(&live, method, path, authorization, "").await;
                assert!(!(300..400).contains(&answer.status), "{method} {path}");
                assert_eq!(answer.header("location"), None);
            }
        }
    }
}

#[tokio::test]
async fn head_is_answered_like_get_without_its_body() {
    let live = live().await;
    let mut client = Client::new(&live).await;
    client.send(&request("HEAD", "/open", "", "")).await;
    let head = client.head().await;
    assert_eq!(head.status, 200);
    assert!(head.header("content-length").unwrap().parse::<usize>().unwrap() > 10);
    // The next answer follows at once: no body came in between.
    client.send(&request("GET", "/open", "", "")).await;
    assert_eq!(client.answer().await.json()["head"], false);
    assert!(live.recorder.requests.lock().unwrap().contains(&("/open", "HEAD", 200)));
}

#[tokio::test]
async fn t15_every_answer_has_the_security_headers_and_an_id() {
    let live = live().await;
    for (method, path, body) in [
        ("GET", "/open", ""),
        ("GET", "/nothing", ""),
        ("GET", "/needs/audit", ""),
        ("POST", HOOK, "{}"),
        ("PUT", "/open", ""),
        ("POST", "/json", "{"),
        ("POST", "/panic", ""),
    ] {
        let answer = ask(&live, method, path, "", body).await;
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
            (
                "content-security-policy",
                "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
            ),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("content-type", "application/json"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{method} {path}");
        }
        assert_eq!(answer.header("x-request-id").map(str::len), Some(26), "{method} {path}");
    }
}

#[tokio::test]
async fn a_request_id_is_echoed_only_if_it_is_short_visible_ascii() {
    let live = live().await;
    let long = "a".repeat(129);
    let fits = "b".repeat(128);
    for (given, echoed) in [
        ("abc-123", true),
        (&fits, true),
        (&long, false),
        ("a b", false),
        ("a\tb", false),
        ("ü", false),
        ("", false),
    ] {
        let mut client = Client::new(&live).await;
        client.send(&format!("GET /open HTTP/1.1\r\nHost: t\r\nX-Request-Id: {given}\r\n\r\n")).await;
        let answer = client.answer().await;
        let id = answer.header("x-request-id").unwrap();
        assert_eq!(id == given, echoed, "{given:?} became {id:?}");
        assert!(echoed || id.len() == 26);
    }
}

#[tokio::test]
async fn an_open_server_lets_everybody_in_and_an_unconfigured_one_nobody() {
    let nobody =
        |people| Auth { people, roles: Roles::default(), webhook: WebhookAuth::default(), origin: None };
    let live = live_with(Limits::default(), nobody(People::Open)).await;
    let answer = ask(&live, "GET", "/needs/admin", "", "").await;
    assert_eq!((answer.status, answer.json()["user"].as_str()), (200, Some("anonymous")));
    assert_eq!(ask(&live, "POST", HOOK, "", "{}").await.status, 401, "the webhook has its own door");

    live.edge.replace_auth(nobody(People::NotConfigured));
    for authorization in [String::new(), format!("Bearer {}", token("admin"))] {
        let answer = ask(&live, "GET", "/needs/admin", &authorization, "").await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.json()["error"], "authentication is not configured on this server");
    }
}

#[tokio::test]
async fn several_authorization_headers_are_refused() {
    let live = live().await;
    let mut client = Client::new(&live).await;
    let good = token("admin");
    client
        .send(&format!(
            "GET /needs/audit HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {good}\r\nAuthorization: Bearer {good}\r\n\r\n"
        ))
        .await;
    assert_eq!(client.answer().await.status, 401);
}

#[tokio::test]
async fn t25_forwarded_headers_of_an_unlisted_peer_are_ignored_and_of_a_listed_one_believed() {
    let live = live().await;
    for (source, client, https) in [("127.0.0.1", "127.0.0.1", false), ("127.0.0.2", "203.0.113.5", true)] {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
        let stream = socket.connect(live.address).await.unwrap();
        let mut connection = Client { stream, buffer: Vec::new() };
        let forwarded = "X-Forwarded-For: 10.0.0.1, 203.0.113.5\r\nX-Forwarded-Proto: https\r\n";
        connection.send(&format!("GET /open HTTP/1.1\r\nHost: t\r\n{forwarded}\r\n")).await;
        let answer = connection.answer().await.json();
        assert_eq!((answer["client"].as_str(), answer["https"].as_bool()), (Some(client), Some(https)));
    }
}

#[tokio::test]
async fn path_parameters_and_queries_are_decoded_or_refused() {
    let live = live().await;
    let answer = ask(&live, "POST", "/open/a%2Fb%20c", "", "{}").await;
    assert_eq!(answer.json()["id"], "a/b c");
    for path in ["/open/%ff", "/open/%zz", "/open/x?a=%ff", "/open/x?%"] {
        assert_eq!(ask(&live, "POST", path, "", "{}").await.status, 400, "{path}");
    }
}

/// What is logged while `work` runs, at debug and above. The tests' runtime has one thread, so it is all there.
async fn logged(work: impl Future<Output = ()>) -> String {
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // While there is a single subscriber, tracing asks only the thread that first reaches a log line whether the
    // line is wanted, and remembers a no for all. A second one makes it ask every subscriber.
    let second = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(std::io::sink);
    let second = tracing::Dispatch::new(second.finish());
    let guard = tracing::subscriber::set_default(subscriber);
    work.await;
    drop((guard, second));
    let bytes = sink.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn refusals_are_logged_with_who_and_where_once_a_minute_for_the_webhook_and_never_with_a_credential() {
    let live = live().await;
    let viewer = token("viewer");
    let log = logged(async {
        let mut client = Client::new(&live).await;
        let question = request("POST", "/needs/execute?token=hunter2", &format!("Bearer {viewer}"), "{}");
        client.send(&question.replace("Host:", "X-Request-Id: r-1\r\nHost:")).await;
        assert_eq!(client.answer().await.status, 403);
        for _ in 0..5 {
            assert_eq!(ask(&live, "POST", HOOK, "Bearer wrong-secret", "{}").await.status, 401);
        }
    })
    .await;
    let lines = |what: &str| log.lines().filter(|line| line.contains(what)).collect::<Vec<_>>();
    let rbac = lines("RBAC failure");
    assert_eq!(rbac.len(), 1, "{log}");
    for part in ["WARN", "user=ada", r#"request_id="r-1""#, r#"route="/needs/execute""#, "permission=execute"]
    {
        assert!(rbac[0].contains(part), "{part} is not in {}", rbac[0]);
    }
    let refused = lines("webhook refused");
    assert_eq!(refused.len(), 1, "{log}");
    assert!(refused[0].contains("WARN") && refused[0].contains("status=401"), "{}", refused[0]);
    for secret in [viewer.as_str(), "wrong-secret", "hunter2", SECRET] {
        assert!(!log.contains(secret), "{log}");
    }
    let counted = live.recorder.failures.lock().unwrap().len();
    assert_eq!(counted, 6, "what is not logged is counted");
}
