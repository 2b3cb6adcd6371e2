//! What lies in `deploy/`: every name in it is one the program knows, the tools that read it take it, and what is
//! promised about privileges stands there. Of systemd's unit there is a test in `children`.

use crate::access::ROUTES;
use crate::support::daemon::{BINARY, Daemon, is_final};
use crate::support::http;
use crate::support::process::{Process, eventually, free_address, program};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

const HOOK: &str = "/api/sre/alerts/webhook";
const ALERT: &str = r#"{"version":"4","alerts":[{"status":"firing","labels":{"alertname":"Deployed"}}]}"#;

/// Goes on for longer than the test.
const SLEEPER: &str = r#"
mode = "auto"
alerts = ["Deployed"]
target = "here"
[[steps]]
id = "sleep"
command = { program = "sleep", args = ["120"] }
"#;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    said(&output)
}

/// Every file below `deploy/`, with its path there.
fn files() -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(&root().join("deploy"), &mut found);
    // Whoever tries the composition out has secrets there.
    found.retain(|path| !path.starts_with(root().join("deploy/compose/secrets")));
    found.sort();
    let name = |path: &Path| path.strip_prefix(root()).unwrap().display().to_string();
    found.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The words in `text` that begin with `start`, as far as `part` goes.
fn words<'t>(text: &'t str, start: &str, part: impl Fn(char) -> bool + Copy) -> BTreeSet<&'t str> {
    let found = text.match_indices(start).map(|(at, _)| text[at..].split(|c| !part(c)).next().unwrap());
    found.collect()
}

fn container(deployment: &Value) -> &Value {
    deployment
        .pointer("/spec/template/spec/containers/0")
        .unwrap_or_else(|| panic!("no container: {deployment}"))
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().unwrap_or_else(|| panic!("no list: {list}")).iter().filter_map(Value::as_str).collect()
}

/// A config with its secrets in `dir` instead of where the container has them.
fn with_secrets(config: &str, place: &str, dir: &Path) -> PathBuf {
    for name in ["webhook-token", "jwt-secret"] {
        let file = dir.join(name);
        fs::write(&file, "AtLeastThirtyTwoBytesOfIt+ByAllMeans/As==").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o440)).unwrap();
    }
    let text = read(config);
    let moved = text.replace(place, dir.to_str().unwrap());
    assert!(moved.matches(dir.to_str().unwrap()).count() == 2, "{config} has its secrets elsewhere: {text}");
    let file = dir.join("runbookd.toml");
    fs::write(&file, moved).unwrap();
    file
}

fn check(config: &Path, runbooks: &str, env: &[(&str, &str)]) -> Output {
    Command::new(BINARY)
        .args(["check", &format!("--config.file={}", config.display())])
        .arg(format!("--runbooks.dir={}", root().join(runbooks).display()))
        .env_clear()
        .envs(env.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn every_config_and_runbook_that_is_mounted_passes_the_check() {
    for (config, secrets, runbooks) in [
        ("deploy/docker/runbookd.toml", "/run/secrets", "deploy/compose/runbooks"),
        ("deploy/kubernetes/base/runbookd.toml", "/run/secrets/runbookd", "deploy/kubernetes/base/runbooks"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = with_secrets(config, secrets, dir.path());
        let checked = check(&file, runbooks, &[]);
        assert!(checked.status.success(), "{config}: {}", said(&checked));
        assert!(said(&checked).contains("1 runbooks are good"), "{}", said(&checked));
    }
    // One example, in the two places that must each have it.
    let example = |place: &str| read(&format!("deploy/{place}/runbooks/http_probe.toml"));
    assert_eq!(example("compose"), example("kubernetes/base"));
}

#[test]
fn every_variable_is_one_that_the_program_knows() {
    let dir = tempfile::tempdir().unwrap();
    let file = with_secrets("deploy/docker/runbookd.toml", "/run/secrets", dir.path());
    let is_known = |name: &str| {
        let output = check(&file, "deploy/compose/runbooks", &[(name, "?")]);
        // What it is set to is wrong for most of them, and that is all that may be wrong.
        !["belongs to no key", "cannot be set by a variable"]
            .iter()
            .any(|words| said(&output).contains(words))
    };
    assert!(!is_known("RUNBOOKD_SERVER__LISTENS"), "a wrong name is not noticed");
    let mut count = 0;
    for (name, text) in files() {
        for variable in
            words(&text, "RUNBOOKD_", |c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        {
            if variable.contains("__") && variable.ends_with(|c: char| c != '_') {
                assert!(is_known(variable), "{name}: {variable}");
                count += 1;
            }
        }
    }
    assert!(count >= 4, "{count}");
}

#[test]
fn every_flag_is_one_that_serve_has() {
    let help = run(Command::new(BINARY).args(["serve", "--help"]));
    let known = words(&help, "--", |c| c.is_ascii_lowercase() || ".-".contains(c));
    let mut commands = Vec::new();
    for name in
        ["compose/compose.yml", "kubernetes/base/deployment.yaml", "kubernetes/overlays/dev/deployment.yaml"]
    {
        let file = yaml(&format!("deploy/{name}"));
        let args = file.pointer("/services/runbookd/command").unwrap_or_else(|| &container(&file)["args"]);
        commands.push(texts(args).join(" "));
    }
    let is_start = |line: &&str| line.starts_with("CMD [\"serve\"") || line.starts_with("ExecStart=/");
    for name in ["docker/Dockerfile", "systemd/runbookd.service", "deb/packaged.conf"] {
        let text = read(&format!("deploy/{name}"));
        commands.extend(text.lines().filter(is_start).map(str::to_owned));
    }
    assert_eq!(commands.len(), 6, "{commands:?}");
    for command in commands {
        let flags: Vec<_> = command
            .split([' ', '"'])
            .filter(|word| word.starts_with("--"))
            .map(|word| word.split('=').next().unwrap())
            .collect();
        assert!(flags.len() >= 3, "{command}");
        let unknown: Vec<_> = flags.iter().filter(|flag| !known.contains(*flag)).collect();
        assert!(unknown.is_empty(), "{command}: {unknown:?}");
    }
}

#[test]
fn every_path_that_is_asked_for_is_a_route() {
    let is_route = |path: &str| ROUTES.iter().any(|(_, _, known, _)| *known == path);
    for (name, text) in files() {
        for path in words(&text, "/-/", |c| c.is_ascii_lowercase() || "/-".contains(c)) {
            assert!(is_route(path), "{name}: {path}");
        }
    }
    let nginx = read("deploy/nginx/runbookd.conf");
    let exact: Vec<_> =
        nginx.lines().filter_map(|line| line.trim().strip_prefix("location = ")?.split(' ').next()).collect();
    assert!(exact.contains(&HOOK) && exact.contains(&"/-/reload"), "{exact:?}");
    assert!(exact.iter().all(|path| is_route(path)), "{exact:?}");
    assert!(ROUTES.iter().any(|(_, _, path, _)| *path == "/api/executions/{id}/events"));
}

#[test]
fn t44_the_image_starts_as_a_number_that_is_not_roots() {
    let text = read("deploy/docker/Dockerfile");
    let last = text.rsplit("\nFROM ").next().unwrap();
    for line in [
        "USER 65532:65532",
        "VOLUME [\"/var/lib/runbookd\"]",
        "STOPSIGNAL SIGTERM",
        "ENTRYPOINT [\"/usr/local/bin/runbookd\"]",
    ] {
        assert!(last.lines().any(|known| known == line), "no {line} in the last stage");
    }
    assert!(!text.contains(":latest") && last.contains("org.opencontainers.image.licenses=\"Apache-2.0\""));
    // What is copied exists, and the context holds it.
    let ignored = read(".dockerignore");
    for source in last.lines().filter(|line| line.starts_with("COPY ") && !line.contains("--from=")) {
        let source = source.split(' ').rev().nth(1).unwrap();
        assert!(root().join(source).exists(), "{source}");
        let is_kept = |kept: &str| source == kept || source.starts_with(&format!("{kept}/"));
        assert!(ignored.lines().filter_map(|line| line.strip_prefix('!')).any(is_kept), "{source}");
    }
    assert!(ignored.lines().any(|line| line == "*"), "everything else must stay out");
    for kept in ignored.lines().filter_map(|line| line.strip_prefix('!')) {
        assert!(root().join(kept).exists(), "{kept}");
    }
}

#[test]
fn t44_the_composition_gives_no_privilege_and_opens_no_port_to_others() {
    let (one, around) = (yaml("deploy/compose/compose.yml"), yaml("deploy/compose/monitoring.yml"));
    let of = |file: &Value| file["services"].as_object().unwrap().clone();
    let services: Vec<_> = of(&one).into_iter().chain(of(&around)).collect();
    assert_eq!(services.len(), 4, "{services:?}");
    for (name, service) in &services {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(texts(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        assert!(service.get("privileged").is_none() && service.get("cap_add").is_none(), "{name}");
        assert!(service["mem_limit"].is_string() && service["pids_limit"].is_number(), "{name}");
        assert_eq!(service["restart"], "unless-stopped", "{name}");
        assert!(texts(&service["ports"]).iter().all(|port| port.starts_with("127.0.0.1:")), "{name}");
        for volume in texts(&service["volumes"]) {
            assert!(!volume.contains("docker.sock"), "{name}: {volume}");
            let (source, rest) = volume.split_once(':').unwrap();
            if source.starts_with('.') {
                assert!(root().join("deploy/compose").join(source).exists(), "{name}: {source}");
                assert!(rest.ends_with(":ro"), "{name}: {volume}");
            }
        }
        let known = |secret: &str| [&one, &around].iter().any(|file| file["secrets"].get(secret).is_some());
        let secrets = service.get("secrets").map(texts).unwrap_or_default();
        assert!(secrets.iter().all(|secret| known(secret)), "{name}: {secrets:?}");
    }
    let ours = &one["services"]["runbookd"];
    assert_eq!(ours["user"], "65532:65532");
    assert_eq!(texts(&ours["healthcheck"]["test"]), ["CMD", "runbookd-healthcheck", "/-/ready"]);
    assert!(ours.get("deploy").is_none() && ours.get("scale").is_none(), "there is one runbookd");
}

#[test]
fn what_stands_around_the_composition_is_what_is_shipped() {
    // Alertmanager's config is the shipped one, but for the two lines of which it says that they must change.
    let shipped = read("alerting/alertmanager.yml");
    let changed = shipped.replace("http://127.0.0.1:9796/", "http://runbookd:9796/").replace(
        "          # authorization:\n          #   credentials_file: /etc/alertmanager/runbookd-token\n",
        "          authorization:\n            credentials_file: /run/secrets/webhook-token\n",
    );
    assert_eq!(read("deploy/compose/alertmanager.yml"), changed);
    let own = root().join("deploy/compose/alertmanager.yml");
    run(Command::new(program("amtool", "prometheus-alertmanager")).arg("check-config").arg(own));

    // Prometheus, as the volumes of its container lay its files out.
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("prometheus.yml"), read("deploy/compose/prometheus.yml")).unwrap();
    fs::create_dir(dir.path().join("rules")).unwrap();
    fs::write(dir.path().join("rules/runbookd.yml"), read("alerting/rules/runbookd.yml")).unwrap();
    let promtool = program("promtool", "prometheus");
    run(Command::new(promtool).args(["check", "config"]).arg(dir.path().join("prometheus.yml")));

    // Grafana finds the dashboards where the volume puts them.
    let provider = yaml("deploy/compose/grafana/dashboards.yml");
    let path = provider["providers"][0]["options"]["path"].as_str().unwrap();
    let around = yaml("deploy/compose/monitoring.yml");
    let volumes = texts(&around["services"]["grafana"]["volumes"]);
    assert!(volumes.contains(&format!("../../alerting/dashboards:{path}:ro").as_str()), "{volumes:?}");
    assert_eq!(yaml("deploy/compose/grafana/datasources.yml")["datasources"][0]["type"], "prometheus");
}

/// The kinds of what a kustomization lists, which must be there.
fn resources(dir: &str) -> Vec<String> {
    let kustomization = yaml(&format!("{dir}/kustomization.yaml"));
    let listed = texts(&kustomization["resources"]).into_iter().filter(|name| name.ends_with(".yaml"));
    listed.map(|name| yaml(&format!("{dir}/{name}"))["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_manifest_of_kubernetes_is_listed_and_an_overlay_changes_what_is_there() {
    let base = "deploy/kubernetes/base";
    let mut kinds = resources(base);
    kinds.sort_unstable();
    let expected = [
        "Deployment",
        "NetworkPolicy",
        "PersistentVolumeClaim",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
    ];
    assert_eq!(kinds, expected);
    let listed = yaml(&format!("{base}/kustomization.yaml"));
    for generated in listed["configMapGenerator"].as_array().unwrap() {
        for file in texts(&generated["files"]) {
            assert!(root().join(base).join(file).is_file(), "{file}");
        }
    }
    let runbooks = fs::read_dir(root().join(base).join("runbooks")).unwrap().count();
    assert_eq!(texts(&listed["configMapGenerator"][1]["files"]).len(), runbooks, "a runbook is not mounted");
    // The example of the Secret holds what the config reads, and is applied by nobody.
    let secret = yaml(&format!("{base}/secret.example.yaml"));
    assert_eq!((&secret["kind"], &secret["metadata"]["name"]), (&"Secret".into(), &"runbookd".into()));
    let config = read(&format!("{base}/runbookd.toml"));
    for name in secret["stringData"].as_object().unwrap().keys() {
        assert!(config.contains(&format!("/run/secrets/runbookd/{name}")), "{name}");
    }
    assert!(!texts(&listed["resources"]).contains(&"secret.example.yaml"));
    for overlay in ["dev", "production"] {
        let dir = format!("deploy/kubernetes/overlays/{overlay}");
        assert_eq!(
            texts(&yaml(&format!("{dir}/kustomization.yaml"))["resources"]),
            ["../../base"],
            "{overlay}"
        );
        let patch = yaml(&format!("{dir}/deployment.yaml"));
        assert_eq!(patch["kind"], "Deployment", "{overlay}");
        assert_eq!(
            (&patch["metadata"]["name"], &container(&patch)["name"]),
            (&"runbookd".into(), &"runbookd".into())
        );
        for key in ["securityContext", "volumeMounts", "livenessProbe", "readinessProbe"] {
            assert!(container(&patch).get(key).is_none(), "{overlay} weakens {key}");
        }
        assert!(patch["spec"].get("replicas").is_none(), "{overlay}: there is one runbookd");
    }
}

#[test]
fn t44_the_pod_is_one_without_privileges_and_is_asked_how_it_is() {
    let deployment = yaml("deploy/kubernetes/base/deployment.yaml");
    let spec = &deployment["spec"];
    assert_eq!((&spec["replicas"], &spec["strategy"]["type"]), (&1.into(), &"Recreate".into()));
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    for key in ["hostNetwork", "hostPID", "hostIPC"] {
        assert!(pod.get(key).is_none(), "{key}");
    }
    let context = &pod["securityContext"];
    assert_eq!(context["runAsNonRoot"], true);
    assert_eq!((&context["runAsUser"], &context["fsGroup"]), (&65532.into(), &65532.into()));
    assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
    let container = container(&deployment);
    let context = &container["securityContext"];
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert_eq!(texts(&context["capabilities"]["drop"]), ["ALL"]);
    let port = &container["ports"][0];
    for (probe, path) in
        [("startupProbe", "/-/healthy"), ("livenessProbe", "/-/healthy"), ("readinessProbe", "/-/ready")]
    {
        assert_eq!(container[probe]["httpGet"]["path"], path, "{probe}");
        assert_eq!(container[probe]["httpGet"]["port"], port["name"], "{probe}");
    }
    assert!(container["resources"]["limits"]["memory"].is_string());
    // What must outlive the pod is on the claim, and each mount has its volume.
    let volumes: Vec<_> = pod["volumes"].as_array().unwrap().iter().map(|volume| &volume["name"]).collect();
    let mounts = container["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().all(|mount| volumes.contains(&&mount["name"])), "{volumes:?}");
    let data = mounts.iter().find(|mount| mount["name"] == "data").unwrap()["mountPath"].as_str().unwrap();
    let storage =
        texts(&container["args"]).into_iter().find_map(|arg| arg.strip_prefix("--storage.path=")).unwrap();
    assert!(storage.starts_with(data), "{storage} is not on {data}");
    let claim = yaml("deploy/kubernetes/base/persistentvolumeclaim.yaml");
    assert_eq!(pod["volumes"][0]["persistentVolumeClaim"]["claimName"], claim["metadata"]["name"]);
    // Octal to Kubernetes, whatever else reads it.
    assert!(read("deploy/kubernetes/base/deployment.yaml").contains("defaultMode: 0440"));
    let account = yaml("deploy/kubernetes/base/serviceaccount.yaml");
    assert_eq!(account["automountServiceAccountToken"], false);
    assert_eq!(account["metadata"]["name"], pod["serviceAccountName"]);
}

#[test]
fn the_healthcheck_of_the_image_says_what_the_daemon_says() {
    let daemon = Daemon::start("[webhook]\nallow_unauthenticated = true\n", &[], &[]);
    let script = root().join("deploy/docker/healthcheck");
    let ask = |path: &str, address: &str| {
        Command::new(&script).arg(path).env("HEALTHCHECK_ADDRESS", address).output().unwrap()
    };
    for path in ["/-/healthy", "/-/ready"] {
        let output = ask(path, daemon.address());
        assert!(output.status.success(), "{path}: {}", said(&output));
    }
    assert_eq!(ask("/api/none", daemon.address()).status.code(), Some(1));
    assert_eq!(ask("/-/healthy", &free_address()).status.code(), Some(1), "nobody listens there");
}

/// The shipped config with its addresses and places exchanged, and a whole nginx around it, in `dir`.
fn nginx_config(dir: &Path, address: &str, plain: &str, tls: &str) -> PathBuf {
    let place = dir.to_str().unwrap();
    let text = read("deploy/nginx/runbookd.conf")
        .replace("/etc/nginx/tls", place)
        .replace("server 127.0.0.1:9796;", &format!("server {address};"))
        .replace("listen 80;", &format!("listen {plain};"))
        .replace("listen 443 ssl;", &format!("listen {tls} ssl;"));
    // Where there is no IPv6, there is none to listen on.
    let text: String =
        text.lines().filter(|line| !line.contains("listen [::]")).map(|line| format!("{line}\n")).collect();
    let around = format!(
        "daemon off; master_process off; pid {place}/nginx.pid; error_log {place}/error.log;\n\
         events {{ worker_connections 64; }}\nhttp {{ access_log off; client_body_temp_path {place}/body;\n\
         proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u;\n\
         scgi_temp_path {place}/s;\n{text}\n}}\n"
    );
    let file = dir.join("nginx.conf");
    fs::write(&file, around).unwrap();
    file
}

#[test]
fn nginx_takes_its_config_and_leads_a_webhook_through_tls() {
    let config = "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[webhook]\nallow_unauthenticated = true\n";
    let daemon = Daemon::start(config, &[("deployed", SLEEPER)], &[]);
    let (nginx, curl) = (program("nginx", "nginx"), program("curl", "curl"));
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().display();
    run(Command::new(program("openssl", "openssl"))
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "1",
        ])
        .args(["-subj", "/CN=runbookd.example.org", "-addext", "subjectAltName=DNS:runbookd.example.org"])
        .args(["-keyout", &format!("{place}/runbookd.key"), "-out", &format!("{place}/runbookd.crt")]));
    let (plain, tls) = (free_address(), free_address());
    let port = |address: &str| address.rsplit(':').next().unwrap().to_owned();
    let file = nginx_config(dir.path(), daemon.address(), &plain, &tls);
    run(Command::new(&nginx).args(["-t", "-p"]).arg(dir.path()).arg("-c").arg(&file));

    let mut command = Command::new(&nginx);
    command.arg("-p").arg(dir.path()).arg("-c").arg(&file);
    let mut front = Process::start("nginx", command, dir.path());
    front.wait_until(Duration::from_secs(30), || TcpStream::connect(&tls).is_ok());
    let ask = |path: &str, more: &[&str]| {
        run(Command::new(&curl)
            .args(["-sS", "--max-time", "20", "-o", "-", "-w", "\n%{http_code}"])
            .args(["--cacert", &format!("{place}/runbookd.crt")])
            .args(["--resolve", &format!("runbookd.example.org:{}:127.0.0.1", port(&tls))])
            .args(more)
            .arg(format!("https://runbookd.example.org:{}{path}", port(&tls))))
    };
    let delivered = ask(HOOK, &["-H", "Content-Type: application/json", "-d", ALERT]);
    assert!(delivered.ends_with("\n200") && delivered.contains("decision"), "{delivered}");
    assert!(ask("/-/ready", &[]).ends_with("\n200"));
    assert!(ask("/-/reload", &["-X", "POST"]).ends_with("\n403"));
    assert!(ask("/metrics", &[]).ends_with("\n200"), "this machine may read them");

    // Events pass as they happen, long before the execution ends.
    let id = daemon.executions()[0]["id"].as_str().unwrap().to_owned();
    let mut command = Command::new(&curl);
    command.args(["-sSN", "-k", &format!("https://{tls}/api/executions/{id}/events")]);
    let events = Process::start("events", command, dir.path());
    eventually("an event through nginx", Duration::from_secs(30), || {
        events.log().contains("event: ").then_some(())
    });
    assert!(!is_final(&daemon.execution(&id)), "the stream was passed on at its end alone");

    // Without TLS a webhook fails where all else is led on.
    assert_eq!(http::post(&plain, HOOK, ALERT).unwrap().status, 403);
    assert_eq!(http::get(&plain, "/-/ready").unwrap().status, 301);
}

#[test]
fn the_package_holds_what_is_there_and_starts_the_same_command_from_its_own_place() {
    let cargo: toml::Table = read("Cargo.toml").parse().unwrap();
    let deb = &cargo["package"]["metadata"]["deb"];
    let assets = deb["assets"].as_array().unwrap();
    assert!(assets.len() > 10, "{assets:?}");
    for asset in assets {
        let source = asset[0].as_str().unwrap();
        let found = match source.split_once('*') {
            Some((dir, end)) => fs::read_dir(root().join(dir))
                .unwrap()
                .any(|entry| entry.unwrap().file_name().to_string_lossy().ends_with(end)),
            None => source == "target/release/runbookd" || root().join(source).is_file(),
        };
        assert!(found, "{source}");
    }
    for script in ["postinst", "postrm"] {
        let file = root().join(deb["maintainer-scripts"].as_str().unwrap()).join(script);
        run(Command::new("sh").arg("-n").arg(&file));
        assert!(fs::read_to_string(&file).unwrap().contains("\n#DEBHELPER#\n"), "{script}");
    }
    assert!(
        root()
            .join(deb["systemd-units"]["unit-scripts"].as_str().unwrap())
            .join("runbookd.service")
            .is_file()
    );
    let start = |name: &str| {
        let text = read(name);
        let line = text.lines().find(|line| line.starts_with("ExecStart=/")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{name} starts nothing"))
    };
    let (unit, packaged) = (start("deploy/systemd/runbookd.service"), start("deploy/deb/packaged.conf"));
    assert_eq!(packaged, unit.replace("/usr/local/bin/", "/usr/bin/"));
}

#[test]
fn t44_systemd_takes_the_unit_of_the_package() {
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("runbookd.service");
    // What both start lies elsewhere here.
    let local =
        |text: String| text.replace("/usr/local/bin/runbookd", BINARY).replace("/usr/bin/runbookd", BINARY);
    fs::write(&unit, local(read("deploy/systemd/runbookd.service"))).unwrap();
    let place = dir.path().join("runbookd.service.d");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("packaged.conf"), local(read("deploy/deb/packaged.conf"))).unwrap();
    let analyze = program("systemd-analyze", "systemd");
    let words = run(Command::new(analyze).args(["verify", "--man=no"]).arg(&unit));
    assert!(!words.contains("runbookd"), "{words}");
}

#[test]
fn t44_the_config_of_the_image_opens_its_doors_to_its_secrets_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = with_secrets("deploy/docker/runbookd.toml", "/run/secrets", dir.path());
    let token = fs::read_to_string(dir.path().join("webhook-token")).unwrap();
    let daemon = Daemon::start(&fs::read_to_string(file).unwrap(), &[], &[]);
    let deliver = |credential: Option<&str>| {
        let bearer = credential.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(bearer.as_deref().map(|value| ("Authorization", value)));
        http::request(daemon.address(), "POST", HOOK, &headers, ALERT.as_bytes()).unwrap().status
    };
    assert_eq!((deliver(None), deliver(Some("another"))), (401, 401));
    assert_eq!(deliver(Some(&token)), 200);
    assert_eq!(http::get(daemon.address(), "/api/executions").unwrap().status, 401);
    assert_eq!(http::get(daemon.address(), "/-/ready").unwrap().status, 200);
}

/// A linter of `.ci/requirements.txt`.
fn linter(name: &str) -> Command {
    let path = root().join("target/linters/bin").join(name);
    assert!(path.exists(), "{name} is not installed: `make test` does it, by .ci/linters");
    Command::new(path)
}

#[test]
fn hadolint_has_nothing_to_say_of_the_image_and_much_of_a_bad_one() {
    run(linter("hadolint").arg(root().join("deploy/docker/Dockerfile")));
    let dir = tempfile::tempdir().unwrap();
    let bad = dir.path().join("Dockerfile");
    fs::write(&bad, "FROM debian\nRUN cd /tmp && apt-get install curl\n").unwrap();
    let output = linter("hadolint").arg(&bad).output().unwrap();
    assert!(!output.status.success() && said(&output).contains("DL3006"), "{}", said(&output));
}

#[test]
fn kubernetes_takes_every_manifest_and_no_field_that_does_not_exist() {
    let dir = tempfile::tempdir().unwrap();
    let check = |name: &str, manifest: &Value| {
        let file = dir.path().join(name.replace('/', "_"));
        fs::write(&file, manifest.to_string()).unwrap();
        linter("kubernetes-validate").arg("--strict").arg(&file).output().unwrap()
    };
    // What kustomize adds to each.
    let labels = yaml("deploy/kubernetes/base/kustomization.yaml")["labels"][0].clone();
    assert_eq!(labels["includeSelectors"], true, "{labels}");
    let is_one = |name: &String| name.starts_with("deploy/kubernetes/") && name.ends_with(".yaml");
    let names = files().into_iter().map(|(name, _)| name).filter(is_one);
    let names: Vec<String> = names.filter(|name| !name.contains("kustomization")).collect();
    assert!(names.len() >= 8, "only {} manifests", names.len());
    for name in names {
        let mut manifest = yaml(&name);
        if manifest["kind"] == "Deployment" {
            manifest["spec"]["selector"]["matchLabels"] = labels["pairs"].clone();
            manifest["spec"]["template"]["metadata"]["labels"] = labels["pairs"].clone();
        }
        let output = check(&name, &manifest);
        assert!(output.status.success(), "{name}: {}", said(&output));
        manifest["strange"] = 1.into();
        let output = check(&name, &manifest);
        assert!(!output.status.success() && said(&output).contains("strange"), "{name}: {}", said(&output));
    }
}
