//! Through a real nginx: whose address counts, and that the two agree on where a request ends.

use super::*;
use crate::support::http;
use crate::support::process::{free_address, program};

#[test]
fn t25_through_nginx_the_clients_address_counts_and_two_lengths_never_reach_us() {
    let nginx = program("nginx", "nginx");
    let dir = tempfile::tempdir().unwrap();
    let config = "[server]\ntrusted_proxies = [\"127.0.0.1\"]\nmax_connections_per_peer = 1\n\
        [webhook]\nallow_unauthenticated = true\n[limits.http]\nper_minute = 3\n";
    let server = Server::start(dir.path(), config, &[]);
    let front = free_address();
    let text = format!(
        "daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/error.log;\nevents {{ worker_connections 64; }}\n\
         http {{ access_log off; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f; \
         uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n\
         server {{ listen {front}; location / {{ proxy_pass http://{address}; proxy_set_header Host $host;\n\
         proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto https; }} }} }}\n",
        dir = dir.path().display(),
        address = server.address,
    );
    fs::write(dir.path().join("nginx.conf"), text).unwrap();
    let mut command = Command::new(nginx);
    command.arg("-c").arg(dir.path().join("nginx.conf")).arg("-p").arg(dir.path());
    let mut proxy = Process::start("nginx", command, dir.path());
    proxy.wait_until(START, || TcpStream::connect(&front).is_ok());

    // Connections of the proxy are not counted as those of one peer, and what it says of the scheme is believed.
    let mut held: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(&server.address).unwrap()).collect();
    held.iter_mut().for_each(|stream| stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHos").unwrap());
    let healthy = http::get(&front, "/-/healthy").unwrap();
    assert_eq!(
        (healthy.status, healthy.header("strict-transport-security")),
        (200, Some("max-age=31536000"))
    );

    // A forged hop is replaced by nginx, so one client is one client, whoever it claims to be.
    let ask = |from: &str, claim: &str| {
        let mut socket = TcpStream::connect(from).unwrap();
        write!(
            socket,
            "GET /api/executions HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: {claim}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        status(&answer).to_owned()
    };
    let statuses: Vec<_> = (1..=5).map(|claim| ask(&front, &format!("203.0.113.{claim}"))).collect();
    assert_eq!(statuses, ["200", "200", "200", "429", "429"]);
    // Straight to us, from the address we trust, each claim is another client.
    let statuses: Vec<_> = (1..=5).map(|claim| ask(&server.address, &format!("203.0.113.{claim}"))).collect();
    assert_eq!(statuses, ["200"; 5]);

    for framing in
        ["Content-Length: 4\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 4"]
    {
        let smuggled = format!(
            "POST {HOOK} HTTP/1.1\r\nHost: t\r\n{framing}\r\n\r\n0\r\n\r\nGET /api/smuggled HTTP/1.1\r\nHost: t\r\n\r\n"
        );
        let answer = http::raw(&front, smuggled.as_bytes()).unwrap();
        assert_eq!(answer.status, 400, "{framing}");
    }
    let metrics = http::get(&server.address, "/metrics").unwrap().text();
    let smuggled = metrics
        .lines()
        .filter(|line| line.starts_with("runbookd_http_requests_total") && line.contains("(unmatched)"));
    assert_eq!(smuggled.filter(|line| line.contains(r#"code="404""#)).count(), 0);
}
