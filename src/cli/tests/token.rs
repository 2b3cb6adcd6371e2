//! Tokens made here, read by the server's own check.

use super::*;
use crate::auth::{Expected, Roles, Verifier, VerifyingKey};
use crate::model::Secret;
use std::os::unix::fs::PermissionsExt as _;

const SECRET: &str = "0123456789abcdef0123456789abcdef-test";
const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/keys");

fn file(text: &str, mode: u32) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    file
}

#[test]
fn the_server_takes_the_token_until_it_expires() {
    let secret = file(&format!("{SECRET}\n"), 0o600);
    let path = secret.path().to_str().unwrap();
    let got = outcome(&[
        "token",
        "--subject",
        "ada",
        "--role",
        "operator",
        "--role",
        "team lead",
        "--ttl",
        "10m",
        "--issuer",
        "i",
        "--audience",
        "a",
        "--claim",
        "team=platform=1",
        "--secret-file",
        path,
    ]);
    assert_eq!((got.code, got.err.as_str()), (0, ""));
    let token = got.out.strip_suffix('\n').unwrap();
    let expected = Expected { issuer: Some("i".into()), audience: Some("a".into()), ..Expected::default() };
    let key = VerifyingKey::secret(&Secret::new(SECRET)).unwrap();
    let verifier = Verifier::new(vec![key], expected).unwrap();
    let who = verifier.verify(token, &Roles::default(), now()).unwrap();
    assert_eq!((who.subject.as_str(), who.roles), ("ada", vec!["operator".to_owned(), "team lead".into()]));
    assert_eq!(who.claims["team"], "platform=1");
    let later = now() + jiff::SignedDuration::from_mins(11);
    assert!(verifier.verify(token, &Roles::default(), later).is_err());
}

#[test]
fn a_private_key_or_a_variable_signs_as_well() {
    for (private, public) in [
        ("test-rsa-private.pem", "test-rsa-public.pem"),
        ("test-ec-private.pem", "test-ec-public.pem"),
        ("test-ed25519-private.pem", "test-ed25519-public.pem"),
    ] {
        let path = format!("{KEYS}/{private}");
        let got = outcome(&["token", "--subject=ada", "--role=viewer", "--private-key-file", &path]);
        assert_eq!(got.code, 0, "{}", got.err);
        let public = std::fs::read_to_string(format!("{KEYS}/{public}")).unwrap();
        let key = VerifyingKey::public_pem(&public).unwrap();
        let verifier = Verifier::new(vec![key], Expected::default()).unwrap();
        assert!(verifier.verify(got.out.trim(), &Roles::default(), now()).is_ok(), "{private}");
    }
    let env = environment(&[("JWT", SECRET)], false);
    assert_eq!(outcome_in(&env, &["token", "--subject=ada", "--role=viewer", "--secret-env=JWT"]).code, 0);
}

#[test]
fn a_key_that_cannot_be_used_is_refused_and_never_shown() {
    let short = file("too-short-secret", 0o600);
    let short = short.path().to_str().unwrap();
    let check = |flags: &[&str], code: i32, message: &str| {
        let got = outcome(&[&["token", "--subject=ada", "--role=viewer"], flags].concat());
        assert_eq!((got.code, got.out.as_str()), (code, ""), "{flags:?}: {}", got.err);
        assert!(got.err.contains(message), "{flags:?}: {}", got.err);
        assert!(!got.err.contains("too-short-secret"));
    };
    check(&["--secret-file", short], 1, "the JWT secret has 16 bytes");
    check(&["--private-key-file", short], 1, "not a PEM private key");
    check(&["--secret-file", "/nowhere/key"], 1, "/nowhere/key cannot be read: No such file");
    check(&["--secret-file", "/dev/zero"], 1, "longer than 65536 bytes");
    check(&["--secret-env", "NOT_SET"], 1, "the variable NOT_SET is not set");
    check(&[], 2, "--secret-file <FILE>");
    check(&["--secret-file", short, "--secret-env", "X"], 2, "cannot be used with");
    check(&["--secret-file", short, "--ttl", "0s"], 2, "at least 1s");
    check(&["--secret-file", short, "--ttl", "8"], 2, "write a duration such as 8h");
    check(&["--secret-file", short, "--ttl", "9000000y"], 2, "beyond the end of time");
    check(&["--secret-file", short, "--claim", "roles=admin"], 2, "must not set roles");
    check(&["--secret-file", short, "--claim", "a=1", "--claim", "a=2"], 2, "twice");
    let got = outcome(&["token", "--subject=ada", "--secret-file", short]);
    assert_eq!(got.code, 2, "neither role nor claim");
    assert_eq!(outcome(&["token", "--subject=\n", "--role=viewer", "--secret-file", short]).code, 2);
}

#[test]
fn a_key_file_that_others_may_read_is_warned_of() {
    let open = file(SECRET, 0o644);
    let got = outcome(&[
        "token",
        "--subject=a",
        "--claim=groups=x,y",
        "--secret-file",
        open.path().to_str().unwrap(),
    ]);
    assert_eq!((got.code, got.out.lines().count()), (0, 1));
    assert!(got.err.contains("others may read"), "{}", got.err);
}
