//! Tests of `config`.

mod people;

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

const SHIPPED: &str = include_str!("../../config/runbookd.toml");
/// Forty bytes that no message, no `Debug` and no item may show.
const CANARY: &str = "canary-7f3a-canary-7f3a-canary-7f3a-7f3a";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn load_text(text: &str, variables: &[(&str, &str)], flags: &Overrides) -> Loaded {
    load("f.toml", Path::new("conf/f.toml"), text, &env(variables), flags)
}

fn loaded(text: &str, variables: &[(&str, &str)], flags: &Overrides) -> Config {
    let loaded = load_text(text, variables, flags);
    assert!(loaded.config.is_some(), "{:#?}", loaded.problems);
    loaded.config.unwrap()
}

fn check_problems(text: &str, variables: &[(&str, &str)], flags: &Overrides, expected: &[&str]) {
    let found: Vec<String> =
        load_text(text, variables, flags).problems.iter().map(ToString::to_string).collect();
    assert_eq!(found, expected);
}

fn item<'c>(items: &'c [Item], name: &str) -> (&'c str, &'static str) {
    let item = items.iter().find(|item| item.name == name);
    item.map(|item| (item.value.as_str(), item.from.as_str())).unwrap_or_else(|| panic!("no item {name}"))
}

#[test]
fn every_shipped_file_has_no_problem() {
    let dir = root().join("config");
    let mut files = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = read(&path).unwrap();
        let loaded = load(&path.display().to_string(), &path, &text, &BTreeMap::new(), &Overrides::default());
        assert_eq!(loaded.problems, [], "{}", Problems::render(&loaded.problems, &text));
        assert!(loaded.config.is_some());
        files += 1;
    }
    assert!(files >= 1);
}

fn is_header(line: &str) -> bool {
    line.starts_with('[') && line.ends_with(']')
}

fn is_setting(line: &str) -> bool {
    line.split_once(" = ").is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
}

#[test]
fn the_shipped_file_names_every_key_and_shows_its_default() {
    let shipped = loaded(SHIPPED, &[], &Overrides::default());
    let built_in = loaded("", &[], &Overrides::default());
    // What has no built-in value, or a safer one than a first start on this machine wants.
    let differs = ["webhook.allow_unauthenticated", "prometheus.url"];
    for (item, default) in shipped.effective().iter().zip(built_in.effective()) {
        assert_eq!(item.name, default.name);
        assert_eq!(item.value != default.value, differs.contains(&item.name.as_str()), "{item:?}");
    }
    for key in schema::KEYS {
        let (section, name) = key.name.rsplit_once('.').unwrap_or((key.name, key.name));
        let section = if section == "auth.jwt" { "auth" } else { section };
        let headers = [format!("[{section}]"), format!("[[{section}]]"), format!("[{section}.")];
        let body = SHIPPED.lines().map(|line| line.trim_start_matches("# "));
        let body: Vec<&str> = body
            .skip_while(|line| !headers.iter().any(|header| line.starts_with(header.as_str())))
            .enumerate()
            .take_while(|(at, line)| *at == 0 || !is_header(line))
            .map(|(_, line)| line)
            .collect();
        let as_key = format!("{name} = ");
        let named =
            name == section || key.name == "auth.roles" || body.iter().any(|line| line.contains(&as_key));
        assert!(named && !body.is_empty(), "{} is not in config/runbookd.toml", key.name);
    }
}

#[test]
fn the_commented_examples_are_valid_too() {
    let uncommented: String = SHIPPED
        .lines()
        .filter(|line| {
            !line.contains("public_key_file")
                && !line.contains("jwks_url")
                && *line != "allow_unauthenticated = true"
        })
        .map(|line| {
            let example = line.strip_prefix("# ").filter(|rest| is_header(rest) || is_setting(rest));
            format!("{}\n", example.unwrap_or(line))
        })
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    fs::write(&token, CANARY).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let token = token.display().to_string();
    let users = dir.path().join("users.toml");
    fs::write(&users, "ada = { password_hash = \"$argon2id$canary-7f3a\", roles = [\"operator\"] }\n")
        .unwrap();
    fs::set_permissions(&users, fs::Permissions::from_mode(0o600)).unwrap();
    let text = uncommented
        .replace("users.toml", &users.display().to_string())
        .replace("/run/secrets/webhook-token", &token)
        .replace("/run/secrets/pagerduty", &token)
        .replace("/usr/bin/pass", "/bin/echo");
    let variables = [
        ("RUNBOOKD_WEBHOOK_PASSWORD", CANARY),
        ("RUNBOOKD_JWT_SECRET", CANARY),
        ("RUNBOOKD_ALERTMANAGER_PASSWORD", CANARY),
        ("RUNBOOKD_SLACK_URL", "https://slack.example/canary-7f3a"),
        ("RUNBOOKD_VAULT_KEY", "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="),
    ];
    check_problems(&text, &variables, &Overrides::default(), &[]);
    let config = loaded(&text, &variables, &Overrides::default());
    assert_eq!((config.webhook.bearer.len(), config.webhook.basic.len()), (1, 1));
    assert!(config.auth.jwt.is_some() && config.auth.roles.contains_key("oncall"));
    assert_eq!(config.auth.users.as_ref().map(|users| users[0].name.as_str()), Some("ada"));
    assert_eq!((config.mappings.len(), config.secrets.len()), (1, 3));
    assert_eq!((config.people.notifiers.len(), config.people.policies.len()), (5, 1));
    assert_eq!((config.secrets["wiki"].expose(), config.vault.has_key()), ("show wiki", true));
    assert_eq!(config.wanted.iter().collect::<Vec<_>>(), ["chat-token"]);
    assert!(!format!("{config:?}").contains("slack.example"), "an address that is a secret is not shown");
    let alertmanager = config.alertmanager.unwrap();
    assert_eq!(alertmanager.urls, ["http://127.0.0.1:9093"]);
    assert!(
        matches!(alertmanager.auth, Some(AlertmanagerAuth::Basic(Basic { user, .. })) if user == "runbookd")
    );
    assert_eq!(alertmanager.headers, [("X-Scope-OrgID".to_owned(), "tenant".to_owned())]);
}

#[test]
fn each_broken_file_has_exactly_the_problem_written_beside_it() {
    let dir = root().join("tests/corpus/broken-config");
    let variables = env(&[("LONG", CANARY), ("SHORT", "too short"), ("EMPTY", "\n")]);
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        names.insert(path.with_extension(""));
    }
    assert!(names.len() >= 25, "{}", names.len());
    for name in names {
        let path = name.with_extension("toml");
        let text = fs::read_to_string(&path).unwrap();
        let expected = fs::read_to_string(name.with_extension("expected"))
            .unwrap_or_else(|error| panic!("{}: no expectation: {error}", path.display()));
        let loaded = load("f.toml", &path, &text, &variables, &Overrides::default());
        let found: String = loaded
            .problems
            .iter()
            .map(|problem| format!("{}\n", problem.to_string().trim_start_matches("f.toml:")))
            .collect();
        assert_eq!(found, expected, "{}", path.display());
        assert!(loaded.config.is_none(), "{}", path.display());
        let shown = format!("{loaded:?}{}", Problems::render(&loaded.problems, &loaded.text));
        assert!(!shown.contains("hunter2") && !shown.contains(CANARY), "{shown}");
    }
}

#[test]
fn the_strongest_origin_counts() {
    const FILE: &str = "[server]\nlisten = \"127.0.0.1:1\"\n";
    let flag = Overrides { listen: Some("127.0.0.1:3".to_owned()), ..Overrides::default() };
    let none = Overrides::default();
    let variable: &[(&str, &str)] = &[("RUNBOOKD_SERVER__LISTEN", "127.0.0.1:2")];
    for (text, variables, flags, expected) in [
        ("", &[][..], &none, ("127.0.0.1:9796", "default")),
        (FILE, &[], &none, ("127.0.0.1:1", "file")),
        (FILE, variable, &none, ("127.0.0.1:2", "environment")),
        ("", variable, &none, ("127.0.0.1:2", "environment")),
        (FILE, variable, &flag, ("127.0.0.1:3", "flag")),
        ("", &[], &flag, ("127.0.0.1:3", "flag")),
    ] {
        let config = loaded(text, variables, flags);
        assert_eq!(item(&config.effective(), "server.listen"), expected);
        assert_eq!(config.server.listen.to_string(), expected.0);
        assert_eq!(config.server.external_url(config.server.listen, false), format!("http://{}", expected.0));
    }
}

#[test]
fn paths_are_relative_to_who_wrote_them() {
    let paths = |text: &str, variables: &[(&str, &str)], flags: &Overrides| {
        let config = loaded(text, variables, flags);
        [config.store.path, config.runbooks.dir].map(|path| path.display().to_string())
    };
    let flags = Overrides { storage_path: Some("d".to_owned()), ..Overrides::default() };
    let file = "[store]\npath = \"data\"\n[runbooks]\ndir = \"/abs\"\n";
    assert_eq!(paths("", &[], &Overrides::default()), ["conf/../data", "conf/../runbooks"]);
    assert_eq!(paths(file, &[], &Overrides::default()), ["conf/data", "/abs"]);
    assert_eq!(paths(file, &[("RUNBOOKD_RUNBOOKS__DIR", "r")], &flags), ["d", "r"]);
}

#[test]
fn variables_set_every_kind_of_scalar_and_lists() {
    let config = loaded(
        "[automation]\nmapping_order = []\n",
        &[
            ("RUNBOOKD_SERVER__TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
            ("RUNBOOKD_SERVER__MAX_BODY", "1MiB"),
            ("RUNBOOKD_SERVER__MAX_CONNECTIONS", "7"),
            ("RUNBOOKD_SERVER__DRAIN_TIMEOUT", "1m 5s"),
            ("RUNBOOKD_RUNBOOKS__WATCH", "false"),
            ("RUNBOOKD_AUTOMATION__MAPPING_ORDER", "runbook,config"),
            ("RUNBOOKD_OUTGOING__ALLOW", ""),
            ("RUNBOOKD_PROMETHEUS__URL", "https://prometheus.example.org/"),
            ("RUNBOOKD_URL", "http://not.for.the.daemon"),
            ("RUNBOOKD_TOKEN", "not for the daemon"),
            ("PATH", "/bin"),
        ],
        &Overrides::default(),
    );
    let server = &config.server;
    assert_eq!(server.trusted_proxies.len(), 2);
    assert_eq!((server.max_body, server.max_connections), (1 << 20, 7));
    assert_eq!(server.drain_timeout, Duration::from_secs(65));
    assert!(!config.runbooks.watch);
    assert_eq!(config.automation.mapping_order, [MappingSource::Runbook, MappingSource::Config]);
    assert_eq!(config.prometheus.as_ref().unwrap().url, "https://prometheus.example.org");
    let items = config.effective();
    assert_eq!(item(&items, "server.trusted_proxies"), ("[\"10.0.0.0/8\", \"::1\"]", "environment"));
    assert_eq!(item(&items, "server.max_body"), ("1MiB", "environment"));
    assert_eq!(item(&items, "outgoing.allow"), ("[]", "environment"));
    assert_eq!(item(&items, "server.drain_timeout"), ("1m 5s", "environment"));
    assert_eq!(item(&items, "automation.queue_limit"), ("10000", "default"));
}

#[test]
fn problems_of_flags_and_variables_name_them() {
    let flags = Overrides { listen: Some("here".to_owned()), ..Overrides::default() };
    check_problems(
        "[webhook]\nallow_unauthenticated = true\n[runbooks]\nwatch = 1\n",
        &[
            ("RUNBOOKD_AUTH__JWT__SECRET", CANARY),
            ("RUNBOOKD_SERVER__LISTN", "x"),
            ("RUNBOOKD_WEBHOOK__BEARER", CANARY),
            ("RUNBOOKD_SERVER__MAX_CONNECTIONS", "many"),
            ("RUNBOOKD_RUNBOOKS__WATCH", "true"),
        ],
        &flags,
        &[
            "RUNBOOKD_AUTH__JWT__SECRET: this key cannot be set by a variable (help: set `auth.jwt.secret` in the config file; its secrets may come from { env = \"NAME\" })",
            "RUNBOOKD_SERVER__LISTN: this variable belongs to no key of the config (help: did you mean RUNBOOKD_SERVER__LISTEN?)",
            "RUNBOOKD_WEBHOOK__BEARER: this key cannot be set by a variable (help: set `webhook.bearer` in the config file; its secrets may come from { env = \"NAME\" })",
            "--web.listen-address: \"here\" is not an address with a port (help: write IP:PORT such as \"127.0.0.1:9796\", or :PORT for every IPv4 address)",
            "RUNBOOKD_SERVER__MAX_CONNECTIONS: expected a whole number, found string (help: write digits without quotes)",
            "f.toml:4:9: expected true or false, found integer (help: write true or false, without quotes)",
        ],
    );
}

#[test]
fn a_variable_that_the_file_refers_to_may_have_any_name() {
    let text = "[webhook]\nbearer = { env = \"RUNBOOKD_WEBHOOK__BEARER\" }\n";
    check_problems(text, &[("RUNBOOKD_WEBHOOK__BEARER", CANARY)], &Overrides::default(), &[]);
}

#[test]
fn an_open_address_from_a_flag_is_refused_there() {
    let flags = Overrides { listen: Some(":9796".to_owned()), ..Overrides::default() };
    check_problems(
        "",
        &[],
        &flags,
        &[
            "--web.listen-address: 0.0.0.0:9796 is not a loopback address, and the webhook needs no credential (help: set webhook.bearer or webhook.basic, or listen on 127.0.0.1)",
            "--web.listen-address: 0.0.0.0:9796 is not a loopback address, and the API has no authentication (help: set auth.jwt or auth.users_file, or listen on 127.0.0.1)",
        ],
    );
    let text = "[webhook]\nbearer = { env = \"K\" }\n[auth]\njwt = { secret = { env = \"K\" }, issuer = \"i\", audience = \"a\" }\n";
    check_problems(text, &[("K", CANARY)], &flags, &[]);
}

#[test]
fn a_webhook_nobody_can_use_is_a_warning() {
    check_problems(
        "",
        &[],
        &Overrides::default(),
        &[
            "f.toml:1:1: the webhook has no credential and is not open: every alert will be refused (help: set webhook.bearer or webhook.basic, or webhook.allow_unauthenticated = true)",
        ],
    );
    check_problems(
        "[webhook]\nbearer = { env = \"K\" }\nallow_unauthenticated = true\n",
        &[("K", CANARY)],
        &Overrides::default(),
        &[
            "f.toml:3:25: the webhook is open to all: its credentials are not asked for (help: remove allow_unauthenticated, or the credentials)",
        ],
    );
}

#[test]
fn a_secret_file_open_to_others_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.toml");
    let token = dir.path().join("token");
    fs::write(&token, format!("{CANARY}\n")).unwrap();
    for (mode, is_refused) in
        [(0o600, false), (0o440, false), (0o660, false), (0o644, true), (0o601, true), (0o602, true)]
    {
        fs::set_permissions(&token, fs::Permissions::from_mode(mode)).unwrap();
        let text = "[webhook]\nbearer = { secret = \"t\" }\n[secrets.t]\nfile = \"token\"\n";
        let loaded = load("f.toml", &path, text, &BTreeMap::new(), &Overrides::default());
        let found: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
        if is_refused {
            let message = format!(
                "f.toml:4:8: the secret file \"token\" is open to others (mode {mode:04o}) (help: run chmod o= on it (in Kubernetes: defaultMode: 0440))"
            );
            assert_eq!(found, [message]);
        } else {
            assert_eq!(found, [""; 0]);
            assert_eq!(loaded.config.unwrap().webhook.bearer[0].expose(), CANARY);
        }
    }
}

#[test]
fn a_pipe_and_a_huge_file_do_not_hold_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.toml");
    let pipe = std::process::Command::new("mkfifo").arg(dir.path().join("pipe")).status().unwrap();
    assert!(pipe.success());
    let huge = fs::File::create(dir.path().join("huge")).unwrap();
    huge.set_len(1 << 40).unwrap();
    huge.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(dir.path().join("pipe"), fs::Permissions::from_mode(0o600)).unwrap();
    let text = "[webhook]\nbearer = [{ file = \"pipe\" }, { file = \"huge\" }]\n";
    let loaded = load("f.toml", &path, text, &BTreeMap::new(), &Overrides::default());
    let messages: Vec<&str> = loaded.problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "the secret file \"pipe\" cannot be read: it is not a regular file",
            "the secret file \"huge\" cannot be read: it is larger than 65536 bytes"
        ]
    );
}

#[test]
fn a_private_key_in_place_of_a_public_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let check = |pem: &str, expected: &[&str]| {
        fs::write(dir.path().join("idp.pem"), pem).unwrap();
        let text = "[webhook]\nallow_unauthenticated = true\n[auth]\njwt = { public_key_file = \"idp.pem\", issuer = \"i\", audience = \"a\" }\n";
        let loaded =
            load("f.toml", &dir.path().join("f.toml"), text, &BTreeMap::new(), &Overrides::default());
        let messages: Vec<&str> = loaded.problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(messages, expected);
        loaded.config
    };
    check("-----BEGIN PRIVATE KEY-----\n", &["the key file \"idp.pem\" holds a private key"]);
    check("ssh-ed25519 AAAA\n", &["the key file \"idp.pem\" holds no public key"]);
    let config = check("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", &[]).unwrap();
    assert!(matches!(config.auth.jwt.unwrap().key, JwtKey::PublicKey(pem) if pem.contains("AAAA")));
}

#[test]
fn a_secret_is_shown_nowhere() {
    let text = "[webhook]\nbearer = [{ env = \"K\" }, { secret = \"k\" }]\nbasic = { user = \"am\", password = { env = \"K\" } }\n\
        [auth]\njwt = { secret = { env = \"K\" }, issuer = \"i\", audience = \"a\" }\n[secrets.k]\nenv = \"K\"\n";
    let loaded = load_text(text, &[("K", CANARY)], &Overrides::default());
    assert!(!format!("{loaded:#?}").contains("canary"));
    let config = loaded.config.unwrap();
    let items = config.effective();
    assert!(!format!("{items:?}").contains("canary"));
    assert_eq!(item(&items, "webhook.bearer"), ("[secret, secret]", "file"));
    assert_eq!(item(&items, "webhook.basic"), ("[{ user = \"am\", password = secret }]", "file"));
    assert_eq!(item(&items, "auth.jwt.secret"), ("secret", "file"));
    assert_eq!(item(&items, "secrets.k"), ("secret", "file"));
    assert_eq!(config.webhook.basic[0].password.expose(), CANARY);
    assert_eq!(config.secrets["k"].expose(), CANARY);
}

#[test]
fn the_effective_values_are_the_schema_in_its_order() {
    let items = loaded("", &[], &Overrides::default()).effective();
    let names: Vec<&str> = items.iter().map(|item| item.name.as_str()).collect();
    let keys: Vec<&str> = schema::KEYS.iter().map(|key| key.name).collect();
    assert_eq!(names, keys);
    assert!(items.iter().all(|item| item.from == Source::Default));
    let text = "[auth.roles]\noncall = [\"read\"]\n[secrets.k]\nenv = \"K\"\n[[mappings]]\nname = \"m\"\nmatchers = ['a=\"b\"']\nrunbook = \"r\"\n";
    let items = loaded(text, &[("K", CANARY)], &Overrides::default()).effective();
    assert_eq!(item(&items, "auth.roles.oncall"), ("[read]", "file"));
    assert_eq!(item(&items, "mappings[0]"), ("m: [a=\"b\"] -> r", "file"));
    assert_eq!(items.last().unwrap().name, "secrets.k");
}

#[test]
fn what_only_other_rooms_know_is_placed_by_the_config() {
    let text = "[outgoing]\nallow = [\"10.0.0.0/8\", \"*.*\"]\n[[mappings]]\nname = \"m\"\nmatchers = ['a=\"b\"']\nrunbook = \"gone\"\n";
    let config = loaded(text, &[("RUNBOOKD_OUTGOING__ALLOW", "x")], &Overrides::default());
    let shown = |problems: Vec<Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        shown(config.check_runbooks(|id| id.as_str() != "gone")),
        [
            "f.toml:6:11: the mapping \"m\" selects the runbook \"gone\", which does not exist (help: add gone.toml to the runbooks, or correct the name)"
        ]
    );
    assert_eq!(config.check_runbooks(|_| true), []);
    let refuse = |text: &str| if text == "10.0.0.0/8" { Ok(()) } else { Err("too wide".to_owned()) };
    let help = "write a network or a host, such as \"10.0.0.0/8\" or \"*.svc.cluster.local:8080\"";
    assert_eq!(
        shown(config.check_outgoing(refuse)),
        [format!("RUNBOOKD_OUTGOING__ALLOW: too wide (help: {help})")]
    );
    let config = loaded(text, &[], &Overrides::default());
    assert_eq!(shown(config.check_outgoing(refuse)), [format!("f.toml:2:24: too wide (help: {help})")]);
}

#[test]
fn schedules_are_read_with_everything_wrong_in_them_named() {
    let text = "[[schedules]]\nname = \"a\"\ncron = \"0  2 * * *\"\nzone = \"europe/berlin\"\nrunbook = \"gone\"\n\
        inputs = { x = \"1\" }\ncatch_up = \"2h\"\n";
    let config = loaded(text, &[], &Overrides::default());
    let schedule = &config.schedules[0].schedule;
    assert_eq!((schedule.cron.to_string().as_str(), schedule.zone.name()), ("0 2 * * *", "Europe/Berlin"));
    assert_eq!(schedule.catch_up, Some(std::time::Duration::from_secs(7200)));
    assert_eq!(schedule.inputs["x"], "1");
    let items = config.effective();
    assert_eq!(item(&items, "schedules[0]"), ("a: 0 2 * * * Europe/Berlin -> gone", "file"));
    let unknown = config.check_runbooks(|_| false);
    assert_eq!(
        unknown[0].to_string(),
        "f.toml:5:11: the schedule \"a\" starts the runbook \"gone\", which does not exist (help: add gone.toml to the runbooks, or correct the name)"
    );
    let wrong = "[[schedules]]\nname = \"a/b\"\ncron = \"0 25 * * *\"\nzone = \"Berlin\"\nrunbook = \"r\"\ninputs = { x = 1 }\nevery = 5\n";
    let loaded = load_text(wrong, &[], &Overrides::default());
    let mut messages: Vec<&str> = loaded.problems.iter().map(|problem| problem.message.as_str()).collect();
    messages.retain(|message| !message.contains("webhook"));
    assert_eq!(
        messages,
        [
            "\"a/b\" is not a name for a schedule",
            "the hour \"25\" is not from 0 to 23",
            "\"Berlin\" is not a time zone of the IANA table",
            "expected a text, found integer",
            "unknown key `every`",
        ]
    );
    assert!(loaded.config.is_none());
}

#[test]
fn a_missing_config_file_is_an_error_that_names_it() {
    let error = read(Path::new("/nonexistent/runbookd.toml")).unwrap_err().to_string();
    assert_eq!(
        error,
        "the config file /nonexistent/runbookd.toml cannot be read (No such file or directory (os error 2)); name the right one with --config.file"
    );
}

#[test]
fn deep_nesting_is_a_problem_and_no_crash() {
    let deep = "[".repeat(100_000);
    let dotted = "a.".repeat(100_000);
    for text in [deep.clone(), format!("a = {deep}"), format!("[{dotted}b]"), format!("{dotted}b = 1")] {
        assert!(load_text(&text, &[], &Overrides::default()).config.is_none());
    }
}

proptest! {
    #[test]
    fn random_edits_of_the_shipped_file_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, "[\\[\\]{}=\"'#.,a-z0-9 \n\u{e9}\u{1F600}]{0,6}"), 1..8),
        variable in "[A-Z_]{0,12}", value in any::<String>(),
    ) {
        let mut chars: Vec<char> = SHIPPED.chars().collect();
        for (at, removed, inserted) in edits {
            let at = at.index(chars.len() + 1);
            let end = (at + removed).min(chars.len());
            chars.splice(at..end, inserted.chars());
        }
        let text: String = chars.into_iter().collect();
        let name = format!("RUNBOOKD_SERVER__{variable}");
        let flags = Overrides { external_url: Some(value.clone()), ..Overrides::default() };
        let loaded = load_text(&text, &[(&name, &value), ("RUNBOOKD_SERVER__LISTEN", &value)], &flags);
        prop_assert_eq!(loaded.text.len(), text.len());
        Problems::render(&loaded.problems, &loaded.text);
    }
}

#[test]
fn backups_by_the_clock_have_defaults_and_belong_elsewhere() {
    let config = loaded("[store]\nbackup = { path = \"../b\" }\n", &[], &Overrides::default());
    let backup = config.store.backup.unwrap();
    assert_eq!(backup.path, PathBuf::from("conf/../b"));
    assert_eq!((backup.every, backup.keep), (Duration::from_secs(24 * 3600), 7));
    let text = "[store]\npath = \"data\"\nbackup = { path = \"data/backups\", every = \"1h\", keep = 2 }\n[webhook]\nallow_unauthenticated = true\n";
    let said = "f.toml:3:19: these backups lie in the data directory: what destroys the one destroys the other (help: name a directory on another disk)";
    check_problems(text, &[], &Overrides::default(), &[said]);
    let shown = "conf/data/backups, every 1h, 2 are kept";
    assert_eq!(item(&loaded(text, &[], &Overrides::default()).effective(), "store.backup"), (shown, "file"));
}
