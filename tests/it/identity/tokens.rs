//! Forged tokens against the real program: each must be refused, and an honest one beside them accepted.

use super::{ENV, SECRET, With, config, reads};
use crate::support::daemon::Daemon;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::crypto::sign;
use jsonwebtoken::{Algorithm, EncodingKey};
use runbookd::app::SystemClock;
use runbookd::auth::install_crypto;
use runbookd::model::Clock as _;
use serde_json::{Value, json};

const RSA: &str = include_str!("../../fixtures/keys/test-rsa-private.pem");
const RSA_PUBLIC: &str = include_str!("../../fixtures/keys/test-rsa-public.pem");
const EC: &str = include_str!("../../fixtures/keys/test-ec-private.pem");
const ED: &str = include_str!("../../fixtures/keys/test-ed25519-private.pem");

fn now() -> i64 {
    SystemClock.now().as_second()
}

fn claims() -> Value {
    json!({ "sub": "ada", "iss": "test", "aud": "runbookd", "exp": now() + 600, "nbf": now() - 5, "roles": ["admin"] })
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn signed(header: &Value, claims: &Value, algorithm: Algorithm, key: &EncodingKey) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let signature = sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

/// A token by HS256 with `key`; `changes` go over its claims, null removes one.
fn hmac(key: &str, header: &Value, changes: &Value) -> String {
    let mut all = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => all.as_object_mut().unwrap().remove(name),
            // A null claim is written as this text, because null takes one away here.
            Value::String(text) if text == "\0null" => {
                all.as_object_mut().unwrap().insert(name.clone(), Value::Null)
            }
            value => all.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    signed(header, &all, Algorithm::HS256, &EncodingKey::from_secret(key.as_bytes()))
}

/// Wrong claims under a good signature; null stands for a claim that is not there.
fn wrong_claims() -> Vec<(String, String)> {
    let good = json!({ "alg": "HS256", "typ": "JWT" });
    let (now, nil) = (now(), "\0null");
    let later = now + 3600;
    let wrong = json!({
        "exp": [nil, later.to_string(), true, [later], { "$date": later }, -1, 0, 1.5, now - 600, "", Value::Null],
        "nbf": [nil, "0", "9999999999", false, [], {}, later, 1e300, -5],
        "iat": [nil, "now", [1]],
        "iss": [nil, "", "Test", "test/", ["test"], { "test": 1 }, true, Value::Null],
        "aud": [nil, "", "runbook", "Runbookd", [], ["other"], [["runbookd"]], { "runbookd": 1 }, 7, Value::Null],
        "sub": [nil, "", "  ", 7, ["ada"], "ada\nadmin", "a".repeat(257), "signup:ada", Value::Null],
    });
    let mut all = Vec::new();
    for (name, values) in wrong.as_object().unwrap() {
        for value in values.as_array().unwrap() {
            all.push((format!("{name} = {value}"), hmac(SECRET, &good, &json!({ name: value }))));
        }
    }
    all
}

/// Tokens whose header asks to be believed.
fn wrong_headers() -> Vec<(String, String)> {
    let theirs = "an attacker's secret of more than thirty-two bytes";
    let none = json!({});
    let mut all = Vec::new();
    // Signed with a key the token brings, names or describes.
    for extra in [
        json!({ "jwk": { "kty": "oct", "k": URL_SAFE_NO_PAD.encode(theirs) } }),
        json!({ "jku": "http://127.0.0.1:1/keys" }),
        json!({ "x5u": "http://127.0.0.1:1/cert" }),
        json!({ "x5c": [STANDARD.encode(theirs)] }),
        json!({ "kid": "../../../../dev/null" }),
        json!({ "kid": "' UNION SELECT 'x' --" }),
        json!({ "kid": "|/usr/bin/id" }),
        json!({ "kid": ["a"] }),
        json!({ "kid": "k".repeat(3000) }),
    ] {
        let mut header = json!({ "alg": "HS256", "typ": "JWT" });
        header.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        all.push((format!("their key, {extra}").chars().take(80).collect(), hmac(theirs, &header, &none)));
    }
    // The empty key of a `kid` that leads to an empty file.
    all.push(("the empty key".into(), hmac("", &json!({ "alg": "HS256", "kid": "/dev/null" }), &none)));
    // A good signature under a header that is not to be believed.
    for extra in [
        json!({ "crit": ["exp"] }),
        json!({ "crit": [] }),
        json!({ "crit": null }),
        json!({ "b64": false }),
        json!({ "zip": "DEF" }),
        json!({ "enc": "A128GCM" }),
        json!({ "typ": "JWE" }),
        json!({ "typ": 1 }),
        json!({ "typ": null }),
        json!({ "alg": ["HS256"] }),
        json!({ "alg": null }),
        json!({ "alg": "hs256" }),
    ] {
        let mut header = json!({ "alg": "HS256", "typ": "JWT" });
        header.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        all.push((format!("our key, {extra}"), hmac(SECRET, &header, &none)));
    }
    all
}

/// Tokens by another algorithm than the key's.
fn wrong_algorithms() -> Vec<(String, String)> {
    let mut all = Vec::new();
    let honest = hmac(SECRET, &json!({ "alg": "HS256" }), &json!({}));
    let signature = honest.rsplit('.').next().unwrap();
    for alg in ["none", "None", "NONE", "nOnE", "", "HS384", "HS512", "RS256", "PS256", "ES256", "EdDSA"] {
        for signature in ["", signature] {
            let token = format!("{}.{}.{signature}", part(&json!({ "alg": alg })), part(&claims()));
            all.push((format!("alg {alg:?}"), token));
        }
    }
    let pem = |text: &str| text.as_bytes().to_vec();
    for (name, algorithm, key) in [
        ("RS256", Algorithm::RS256, EncodingKey::from_rsa_pem(&pem(RSA)).unwrap()),
        ("ES256", Algorithm::ES256, EncodingKey::from_ec_pem(&pem(EC)).unwrap()),
        ("EdDSA", Algorithm::EdDSA, EncodingKey::from_ed_pem(&pem(ED)).unwrap()),
    ] {
        for says in [name, "HS256"] {
            let token = signed(&json!({ "alg": says }), &claims(), algorithm, &key);
            all.push((format!("a signature by {name} that says {says}"), token));
        }
    }
    for key in [RSA_PUBLIC, RSA_PUBLIC.trim_end(), "", "secret", &SECRET[..32]] {
        all.push(("another secret".into(), hmac(key, &json!({ "alg": "HS256" }), &json!({}))));
    }
    all
}

/// Texts that are no token, or not the one that was signed.
fn wrong_texts() -> Vec<(String, String)> {
    let honest = hmac(SECRET, &json!({ "alg": "HS256" }), &json!({}));
    let parts: Vec<&str> = honest.split('.').collect();
    let [head, body, signature] = parts[..] else { unreachable!() };
    let admin = part(
        &json!({ "sub": "eve", "iss": "test", "aud": "runbookd", "exp": now() + 600, "roles": ["admin"] }),
    );
    let deep = URL_SAFE_NO_PAD.encode(format!("{}1{}", "[".repeat(2000), "]".repeat(2000)));
    let twice = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","alg":"HS256"}"#);
    let huge = hmac(SECRET, &json!({ "alg": "HS256" }), &json!({ "padding": "x".repeat(8 << 10) }));
    [
        ("a changed body", format!("{head}.{admin}.{signature}")),
        ("a changed header", format!("{twice}.{body}.{signature}")),
        ("no signature", format!("{head}.{body}.")),
        ("half a signature", format!("{head}.{body}.{}", &signature[..20])),
        ("a longer signature", format!("{honest}AAAA")),
        ("a signature of nothing", format!("{head}.{body}.{}", "A".repeat(signature.len()))),
        ("two parts", format!("{head}.{body}")),
        ("four parts", format!("{honest}.x")),
        ("five parts", "a.b.c.d.e".to_owned()),
        ("dots", "..".to_owned()),
        ("padding", format!("{head}=.{body}.{signature}")),
        ("standard base64", format!("{}.{body}.{signature}", STANDARD.encode(r#"{"alg":"HS256"}  "#))),
        ("a list as header", format!("{}.{body}.{signature}", part(&json!(["HS256"])))),
        ("an empty header", format!("e30.{body}.{signature}")),
        ("deep nesting", format!("{deep}.{body}.{signature}")),
        ("more than 8 KiB", huge),
    ]
    .map(|(name, token)| (name.to_owned(), token))
    .into()
}

#[test]
fn t22_every_forged_token_is_refused_and_the_honest_one_beside_them_accepted() {
    install_crypto();
    let daemon = Daemon::start(&config(""), &[], ENV);
    let honest = hmac(SECRET, &json!({ "alg": "HS256", "typ": "JWT", "kid": "any" }), &json!({}));
    assert_eq!(reads(&daemon, &With::Bearer(honest)), 200);
    let mut forged = wrong_claims();
    forged.extend(wrong_headers());
    forged.extend(wrong_algorithms());
    forged.extend(wrong_texts());
    assert!(forged.len() >= 80, "{}", forged.len());
    let before = daemon.metric("runbookd_auth_failures_total{reason=\"malformed\"}");
    let accepted: Vec<_> = forged
        .iter()
        .filter(|(_, token)| reads(&daemon, &With::Bearer(token.clone())) != 401)
        .map(|(name, _)| name)
        .collect();
    assert!(accepted.is_empty(), "{accepted:#?}");
    let sum: f64 = ["missing", "malformed", "invalid", "expired"]
        .iter()
        .map(|reason| daemon.metric(&format!("runbookd_auth_failures_total{{reason=\"{reason}\"}}")))
        .sum();
    assert_eq!(sum - before, forged.len() as f64, "each is counted");
    let log = daemon.log();
    assert!(forged.iter().all(|(_, token)| token.len() < 20 || !log.contains(token)), "none is logged");
}

#[test]
fn t22_two_credentials_at_once_are_refused() {
    let daemon = Daemon::start(&config(""), &[], ENV);
    let token = super::token("ada", &["viewer"], &[]);
    let with = With::Bearer(token.clone());
    let (_, key) = super::make_key(&daemon, &with, &["viewer"], "1h");
    let With::Key(key) = key else { unreachable!() };
    let bearer = format!("Bearer {token}");
    for more in
        [vec![("X-API-KEY", key.as_str())], vec![("Authorization", bearer.as_str())], vec![("X-API-KEY", "")]]
    {
        let answer = super::send(&daemon, "GET", "/api/runbooks", &with, &more, "");
        assert_eq!(answer.status, 401, "{more:?}");
    }
    let twice = [("X-API-KEY", key.as_str()), ("X-API-KEY", key.as_str())];
    assert_eq!(super::send(&daemon, "GET", "/api/runbooks", &With::Nothing, &twice, "").status, 401);
}
