//! Who is told and who has a password: what the config says of people.

use super::*;

#[test]
fn who_is_told_is_checked_by_name_and_no_address_that_is_a_secret_is_shown() {
    let text = r#"
[automation]
escalate_to = ["team", "tema"]
[notifiers.chat]
kind = "slack"
url = "https://hooks.example/canary-7f3a-canary"
[notifiers.page]
kind = "pagerduty"
routing_key = { env = "KEY" }
[notifiers.hook]
kind = "webhook"
url = "https://canary-7f3a@host/"
[notifiers.mail]
kind = "email"
smtp = "mail.example.org"
tls = "none"
from = "runbookd"
to = []
[notifiers.what]
kind = "pigeon"
token = "canary-7f3a"
[policies.team]
levels = [{ to = ["page"] }, { to = ["pag"], after = "0s" }]
[policies.page]
levels = [{ to = ["page"] }]
"#;
    let loaded = load_text(text, &[("KEY", CANARY)], &Overrides::default());
    let found: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
    let has = |place: &str, part: &str| {
        assert!(
            found.iter().any(|line| line.starts_with(place) && line.contains(part)),
            "{place} {part}: {found:#?}"
        );
    };
    has("f.toml:3:24", "there is no notifier and no policy \"tema\" (help: did you mean \"team\"?)");
    has("f.toml:6:7", "a secret is never written into this file");
    has("f.toml:12:7", "a user or a password stands in it");
    has("f.toml:16:7", "mail would go over the network in the clear");
    has("f.toml:17:8", "\"runbookd\" is not a mail address");
    has("f.toml:18:6", "the mail goes to nobody");
    has("f.toml:20:8", "\"pigeon\" is not known here");
    has("f.toml:23:38", "there is no notifier \"pag\" (help: did you mean \"page\"?)");
    has("f.toml:23:30", "the level is not told later than the one before it");
    has("f.toml:24:11", "a notifier is called \"page\" too");
    let shown = Problems::render(&loaded.problems, &loaded.text);
    assert!(!shown.contains("canary-7f3a"), "{shown}");
    let secret = "[notifiers.chat]\nkind = \"slack\"\nurl = { env = \"KEY\" }\n";
    let loaded = load_text(secret, &[("KEY", CANARY)], &Overrides::default());
    let says = loaded.problems.iter().any(|problem| problem.message.contains("the secret is no address"));
    assert!(says, "{:?}", loaded.problems);
}

#[test]
fn mail_goes_in_the_clear_to_this_machine_only_and_ports_follow_tls() {
    let email = |lines: &str| {
        let text = format!(
            "[notifiers.m]\nkind = \"email\"\nfrom = \"a@example.org\"\nto = [\"On call <b@example.org>\"]\n{lines}\n"
        );
        let config = loaded(&text, &[], &Overrides::default());
        let Notifier::Email(email) = config.people.notifiers["m"].clone() else { panic!() };
        (email.host, email.port, email.tls)
    };
    assert_eq!(email("smtp = \"h\""), ("h".into(), 587, EmailTls::StartTls));
    assert_eq!(email("smtp = \"h\"\ntls = \"tls\""), ("h".into(), 465, EmailTls::Tls));
    assert_eq!(email("smtp = \"[::1]:2525\"\ntls = \"none\""), ("::1".into(), 2525, EmailTls::None));
    assert_eq!(email("smtp = \"127.0.0.1\"\ntls = \"none\""), ("127.0.0.1".into(), 25, EmailTls::None));
}

#[test]
fn a_users_file_is_read_whole_and_its_hashes_are_shown_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("users.toml");
    let check = |users: &str, mode: u32, expected: &[&str]| {
        fs::write(&file, users).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let text = format!("[auth]\nusers_file = {:?}\n[webhook]\nallow_unauthenticated = true\n", file);
        let loaded = load_text(&text, &[], &Overrides::default());
        let found: Vec<String> = loaded.problems.iter().map(|problem| problem.message.clone()).collect();
        let name = file.display().to_string();
        let expected: Vec<String> = expected.iter().map(|text| text.replace("FILE", &name)).collect();
        assert_eq!(found, expected);
        let shown = format!("{loaded:?}{}", Problems::render(&loaded.problems, &loaded.text));
        assert!(!shown.contains("canary"), "{shown}");
        loaded.config
    };
    let good = "ada = { password_hash = '$canary', roles = [\"viewer\", \"oncall\"] }\n\"b@c\" = { password_hash = '$canary', roles = [] }\n";
    let config = check(good, 0o640, &[]).unwrap();
    let users = config.auth.users.clone().unwrap();
    assert_eq!((users[0].name.as_str(), users[0].roles.len()), ("ada", 2));
    let refused = config.check_users(|hash| Err(format!("no hash has {} characters", hash.expose().len())));
    assert_eq!(refused.len(), 2);
    assert!(refused[0].to_string().contains("\"ada\" in the users file: no hash has 7"), "{}", refused[0]);
    check("", 0o600, &[]);
    check(good, 0o644, &["the users file \"FILE\" is open to others (mode 0644)"]);
    check("ada = { password_hash = '$canary' }\n", 0o600, &["FILE:1:7: the key `roles` is missing"]);
    check(
        "\"a b\" = { password_hash = '$canary', roles = [] }\n",
        0o600,
        &["FILE:1:1: this is not a name for a user"],
    );
    let more = "ada = { password_hash = '$canary', roles = [], admin = true }\n";
    check(more, 0o600, &["FILE:1:48: unknown key `admin`"]);
    check("ada = '$canary'\n", 0o600, &["FILE:1:7: expected a table, found string"]);
}
