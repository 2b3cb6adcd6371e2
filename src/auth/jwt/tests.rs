//! Forged, broken and honest tokens against every kind of key.

use super::*;
use serde_json::json;

const SECRET: &str = "0123456789abcdef0123456789abcdef-test";
const RSA: &str = include_str!("../../../tests/fixtures/keys/test-rsa-private.pem");
const RSA_PUBLIC: &str = include_str!("../../../tests/fixtures/keys/test-rsa-public.pem");
const EC: &str = include_str!("../../../tests/fixtures/keys/test-ec-private.pem");
const EC_PUBLIC: &str = include_str!("../../../tests/fixtures/keys/test-ec-public.pem");
const ED: &str = include_str!("../../../tests/fixtures/keys/test-ed25519-private.pem");
const ED_PUBLIC: &str = include_str!("../../../tests/fixtures/keys/test-ed25519-public.pem");
const WEAK: &str = include_str!("../../../tests/fixtures/keys/test-weak-rsa1024-public.pem");
const P384: &str = include_str!("../../../tests/fixtures/keys/test-ec-p384-public.pem");
const NOW: i64 = 1_790_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn expected() -> Expected {
    Expected {
        issuer: Some("https://idp.example".into()),
        audience: Some("runbookd".into()),
        roles_claim: "roles".into(),
    }
}

/// The four kinds of verifier, each with the signer that fits and the name of its algorithm.
fn pairs() -> Vec<(&'static str, Signer, Verifier)> {
    let secret = Secret::new(SECRET);
    let verifier = |key| Verifier::new(vec![key], expected()).unwrap();
    vec![
        ("HS256", Signer::secret(&secret).unwrap(), verifier(VerifyingKey::secret(&secret).unwrap())),
        (
            "RS256",
            Signer::private_pem(&Secret::new(RSA)).unwrap(),
            verifier(VerifyingKey::public_pem(RSA_PUBLIC).unwrap()),
        ),
        (
            "ES256",
            Signer::private_pem(&Secret::new(EC)).unwrap(),
            verifier(VerifyingKey::public_pem(EC_PUBLIC).unwrap()),
        ),
        (
            "EdDSA",
            Signer::private_pem(&Secret::new(ED)).unwrap(),
            verifier(VerifyingKey::public_pem(ED_PUBLIC).unwrap()),
        ),
    ]
}

fn claims() -> Map<String, Value> {
    let Value::Object(claims) = json!({
        "sub": "ada", "iss": "https://idp.example", "aud": "runbookd",
        "exp": NOW + 600, "nbf": NOW - 5, "iat": NOW - 5, "roles": ["operator"], "team": "platform"
    }) else {
        unreachable!()
    };
    claims
}

/// The honest claims with `name` set to `value`, or removed where it is `None`.
fn with(name: &str, value: Option<Value>) -> Map<String, Value> {
    let mut claims = claims();
    match value {
        Some(value) => claims.insert(name.to_owned(), value),
        None => claims.remove(name),
    };
    claims
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A token with any header, signed with `algorithm` and `key` whatever the header says.
fn forge(header: &Value, payload: &Value, algorithm: Algorithm, key: &EncodingKey) -> String {
    let message = format!("{}.{}", part(header), part(payload));
    let signature = crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn refused(verifier: &Verifier, token: &str, failure: Failure, what: &str) {
    let got = verifier.verify(token, &Roles::default(), now()).map(|who| who.subject);
    assert_eq!(got, Err(failure), "{what}: {token}");
}

#[test]
fn an_honest_token_of_every_algorithm_is_accepted() {
    for (name, signer, verifier) in pairs() {
        let token = signer.sign(&claims()).unwrap();
        let who = verifier.verify(&token, &Roles::default(), now()).unwrap();
        assert_eq!((who.subject.as_str(), who.roles.as_slice()), ("ada", &["operator".to_owned()][..]));
        assert!(who.permissions.allow(crate::auth::Permission::Execute), "{name}");
        assert!(!who.permissions.allow(crate::auth::Permission::Edit), "{name}");
        assert_eq!(who.claims["team"], "platform");
    }
}

#[test]
fn a_token_for_another_key_or_algorithm_is_refused_by_all_sixteen_pairs() {
    let pairs = pairs();
    for (signed, signer, _) in &pairs {
        let token = signer.sign(&claims()).unwrap();
        for (checked, _, verifier) in &pairs {
            if signed != checked {
                refused(verifier, &token, Failure::Algorithm, &format!("{signed} at {checked}"));
            }
        }
    }
}

#[test]
fn the_algorithm_of_a_token_never_chooses_how_it_is_checked() {
    let payload = Value::Object(claims());
    for (name, signer, verifier) in pairs() {
        let honest = signer.sign(&claims()).unwrap();
        let (message, signature) = honest.rsplit_once('.').unwrap();
        let body = message.split_once('.').unwrap().1;
        for alg in ["none", "None", "NONE", "nOnE", "", "HS384", "HS512", "RS384", "RS512", "PS256", "ES384"]
        {
            let header = part(&json!({ "alg": alg, "typ": "JWT" }));
            for signature in ["", signature] {
                refused(&verifier, &format!("{header}.{body}.{signature}"), Failure::Algorithm, alg);
            }
        }
        // The public key as a shared secret: the confusion of RS256 and HS256, with and without its last line end.
        for public in [RSA_PUBLIC, RSA_PUBLIC.trim_end(), EC_PUBLIC, ED_PUBLIC] {
            let key = EncodingKey::from_secret(public.as_bytes());
            let token = forge(&json!({ "alg": "HS256" }), &payload, Algorithm::HS256, &key);
            let failure = if name == "HS256" { Failure::Signature } else { Failure::Algorithm };
            refused(&verifier, &token, failure, "public key as secret");
            // The header names the right algorithm, the signature is an HMAC.
            let token = forge(&json!({ "alg": name }), &payload, Algorithm::HS256, &key);
            refused(&verifier, &token, Failure::Signature, "an HMAC where a signature belongs");
        }
    }
}

#[test]
fn a_changed_part_breaks_the_signature() {
    for (name, signer, verifier) in pairs() {
        let token = signer.sign(&claims()).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let admin = part(&Value::Object(with("roles", Some(json!(["admin"])))));
        let kid = part(&json!({ "alg": name, "kid": "1" }));
        let other = signer.sign(&with("sub", Some(json!("eve")))).unwrap();
        let foreign = other.rsplit_once('.').unwrap().1;
        for forged in [
            format!("{}.{admin}.{}", parts[0], parts[2]),
            format!("{kid}.{}.{}", parts[1], parts[2]),
            format!("{}.{}.{foreign}", parts[0], parts[1]),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}.{}.{}", parts[0], parts[1], &parts[2][..parts[2].len() - 4]),
            format!("{}.{}.{}AAAA", parts[0], parts[1], parts[2]),
            format!("{}.{}.{}", parts[0], parts[1], "A".repeat(parts[2].len())),
            format!("{}.{}.%%%%", parts[0], parts[1]),
        ] {
            refused(&verifier, &forged, Failure::Signature, name);
        }
    }
}

#[test]
fn headers_that_offer_a_key_are_ignored_and_critical_ones_refused() {
    let (_, _, verifier) = pairs().remove(0);
    let payload = Value::Object(claims());
    let ours = EncodingKey::from_secret(SECRET.as_bytes());
    let theirs = EncodingKey::from_secret(b"an attacker's secret of more than thirty-two bytes");
    for extra in [
        json!({ "jwk": { "kty": "oct", "k": URL_SAFE_NO_PAD.encode("an attacker's secret of more than") } }),
        json!({ "jwk": 7 }),
        json!({ "jku": "http://127.0.0.1:1/keys" }),
        json!({ "x5u": "http://127.0.0.1:1/cert" }),
        json!({ "x5c": ["AAAA"] }),
        json!({ "kid": "../../../dev/null" }),
        json!({ "kid": "' OR 1=1 --" }),
        json!({ "kid": ["a"] }),
    ] {
        let mut header = json!({ "alg": "HS256", "typ": "JWT" });
        header.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let forged = forge(&header, &payload, Algorithm::HS256, &theirs);
        refused(&verifier, &forged, Failure::Signature, "key offered by the token");
        let honest = forge(&header, &payload, Algorithm::HS256, &ours);
        assert!(verifier.verify(&honest, &Roles::default(), now()).is_ok(), "{header}");
    }
    for (extra, failure) in [
        (json!({ "crit": ["exp"], "exp": 1 }), Failure::Algorithm),
        (json!({ "crit": [] }), Failure::Algorithm),
        (json!({ "crit": null }), Failure::Algorithm),
        (json!({ "b64": false }), Failure::Algorithm),
        (json!({ "zip": "DEF" }), Failure::Algorithm),
        (json!({ "enc": "A128GCM" }), Failure::Algorithm),
        (json!({ "typ": "JWE" }), Failure::Malformed),
        (json!({ "typ": 1 }), Failure::Malformed),
        (json!({ "alg": ["HS256"] }), Failure::Malformed),
        (json!({ "alg": null }), Failure::Malformed),
    ] {
        let mut header = json!({ "alg": "HS256" });
        header.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let token = forge(&header, &payload, Algorithm::HS256, &ours);
        refused(&verifier, &token, failure, &header.to_string());
    }
}

#[test]
fn wrong_claims_are_refused_each_with_its_reason() {
    let cases: Vec<(&str, Option<Value>, Failure)> = vec![
        ("exp", None, Failure::Claim),
        ("exp", Some(json!(null)), Failure::Claim),
        ("exp", Some(json!((NOW + 600).to_string())), Failure::Claim),
        ("exp", Some(json!(true)), Failure::Claim),
        ("exp", Some(json!([NOW + 600])), Failure::Claim),
        ("exp", Some(json!({ "$date": NOW + 600 })), Failure::Claim),
        ("exp", Some(json!(-1)), Failure::Claim),
        ("exp", Some(json!(NOW - 600)), Failure::Expired),
        ("exp", Some(json!(NOW - LEEWAY_SECONDS)), Failure::Expired),
        ("exp", Some(json!(0)), Failure::Expired),
        ("exp", Some(json!(1.5)), Failure::Expired),
        ("nbf", Some(json!("9999999999")), Failure::Claim),
        ("nbf", Some(json!(null)), Failure::Claim),
        ("nbf", Some(json!(false)), Failure::Claim),
        ("nbf", Some(json!([])), Failure::Claim),
        ("nbf", Some(json!({})), Failure::Claim),
        ("nbf", Some(json!(NOW + 600)), Failure::NotYetValid),
        ("nbf", Some(json!(NOW + LEEWAY_SECONDS + 1)), Failure::NotYetValid),
        ("nbf", Some(json!(1e300)), Failure::NotYetValid),
        ("iat", Some(json!("now")), Failure::Claim),
        ("iat", Some(json!(null)), Failure::Claim),
        ("iss", None, Failure::Issuer),
        ("iss", Some(json!("https://idp.example/")), Failure::Issuer),
        ("iss", Some(json!("")), Failure::Issuer),
        ("iss", Some(json!(["https://idp.example"])), Failure::Issuer),
        ("aud", None, Failure::Audience),
        ("aud", Some(json!("runbook")), Failure::Audience),
        ("aud", Some(json!("Runbookd")), Failure::Audience),
        ("aud", Some(json!([])), Failure::Audience),
        ("aud", Some(json!(["other", 7])), Failure::Audience),
        ("aud", Some(json!({ "runbookd": true })), Failure::Audience),
        ("sub", None, Failure::Claim),
        ("sub", Some(json!("")), Failure::Claim),
        ("sub", Some(json!("  ")), Failure::Claim),
        ("sub", Some(json!(7)), Failure::Claim),
        ("sub", Some(json!("ada\nadmin")), Failure::Claim),
        ("sub", Some(json!("signup:ada")), Failure::Claim),
        ("sub", Some(json!("a".repeat(257))), Failure::Claim),
    ];
    for (_, signer, verifier) in pairs() {
        for (name, value, failure) in &cases {
            let token = signer.sign(&with(name, value.clone())).unwrap();
            refused(&verifier, &token, *failure, &format!("{name} = {value:?}"));
        }
    }
}

#[test]
fn times_at_the_edge_of_the_leeway_and_fractions_are_accepted() {
    let (_, signer, verifier) = pairs().remove(0);
    for (name, value) in [
        ("exp", json!(NOW - LEEWAY_SECONDS + 1)),
        ("exp", json!(NOW as f64 + 0.5)),
        ("exp", json!(1e300)),
        ("nbf", json!(NOW + LEEWAY_SECONDS)),
        ("aud", json!(["other", "runbookd"])),
        ("sub", json!("a".repeat(256))),
    ] {
        let token = signer.sign(&with(name, Some(value.clone()))).unwrap();
        assert!(verifier.verify(&token, &Roles::default(), now()).is_ok(), "{name} = {value}");
    }
    for name in ["nbf", "iat", "roles"] {
        let token = signer.sign(&with(name, None)).unwrap();
        assert!(verifier.verify(&token, &Roles::default(), now()).is_ok(), "without {name}");
    }
}

#[test]
fn what_is_not_a_token_is_malformed() {
    let (_, signer, verifier) = pairs().remove(0);
    let honest = signer.sign(&claims()).unwrap();
    let parts: Vec<&str> = honest.split('.').collect();
    let list = part(&json!(["HS256"]));
    for bad in [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        "a.b".into(),
        parts[0].into(),
        format!("{}.{}", parts[0], parts[1]),
        format!("{honest}.x"),
        format!(".{honest}"),
        format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
        format!("{list}.{}.{}", parts[1], parts[2]),
        format!("e30.{}.{}", parts[1], parts[2]),
        format!("!!!.{}.{}", parts[1], parts[2]),
        // Five parts: an encrypted token.
        "a.b.c.d.e".into(),
        // Whole header in standard base64 with padding.
        format!("{}.{}.{}", STANDARD.encode(r#"{"alg":"HS256"}  "#), parts[1], parts[2]),
    ] {
        refused(&verifier, &bad, Failure::Malformed, "not a token");
    }
    // A payload that is signed, but no object.
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    for payload in [json!([1]), json!("x"), json!(null), json!(7)] {
        let token = forge(&json!({ "alg": "HS256" }), &payload, Algorithm::HS256, &key);
        refused(&verifier, &token, Failure::Malformed, "payload");
    }
    let deep = format!("{}1{}", "[".repeat(2000), "]".repeat(2000));
    let token = format!("{}.{}.{}", URL_SAFE_NO_PAD.encode(deep), parts[1], parts[2]);
    refused(&verifier, &token, Failure::Malformed, "deep nesting");
}

#[test]
fn a_token_over_eight_kibibytes_is_not_looked_at() {
    let (_, signer, verifier) = pairs().remove(0);
    let token = signer.sign(&with("padding", Some(json!("x".repeat(MAX_TOKEN_BYTES))))).unwrap();
    refused(&verifier, &token, Failure::TooLong, "long");
}

#[test]
fn roles_come_from_a_list_or_a_comma_separated_string_and_from_nothing_else() {
    let (_, signer, verifier) = pairs().remove(0);
    let check = |value: Value, expected: &[&str]| {
        let token = signer.sign(&with("roles", Some(value.clone()))).unwrap();
        let who = verifier.verify(&token, &Roles::default(), now()).unwrap();
        assert_eq!(who.roles, expected, "{value}");
    };
    check(json!(["viewer", "sre"]), &["viewer", "sre"]);
    check(json!("viewer, sre,,"), &["viewer", "sre"]);
    check(json!(["viewer", 7]), &[]);
    check(json!([["admin"]]), &[]);
    check(json!({ "admin": true }), &[]);
    check(json!(true), &[]);
    check(json!(null), &[]);
    check(json!(""), &[]);
}

#[test]
fn several_keys_work_side_by_side_while_one_is_replaced() {
    let old = Secret::new("old-old-old-old-old-old-old-old-old-old");
    let new = Secret::new("new-new-new-new-new-new-new-new-new-new");
    let keys = vec![
        VerifyingKey::secret(&new).unwrap(),
        VerifyingKey::secret(&old).unwrap(),
        VerifyingKey::public_pem(RSA_PUBLIC).unwrap(),
    ];
    let verifier = Verifier::new(keys, expected()).unwrap();
    for signer in [Signer::secret(&old), Signer::secret(&new), Signer::private_pem(&Secret::new(RSA))] {
        let token = signer.unwrap().sign(&claims()).unwrap();
        assert!(verifier.verify(&token, &Roles::default(), now()).is_ok());
    }
    let stranger = Signer::secret(&Secret::new(SECRET)).unwrap().sign(&claims()).unwrap();
    refused(&verifier, &stranger, Failure::Signature, "a third secret");
}

#[test]
fn unusable_keys_are_refused_with_the_way_out() {
    let short = Secret::new("0123456789abcdef0123456789abcde");
    assert_eq!(VerifyingKey::secret(&short).unwrap_err(), KeyError::ShortSecret(31));
    assert_eq!(Signer::secret(&short).unwrap_err(), KeyError::ShortSecret(31));
    assert_eq!(VerifyingKey::public_pem(WEAK).unwrap_err(), KeyError::WeakRsa);
    assert_eq!(VerifyingKey::public_pem(P384).unwrap_err(), KeyError::Curve);
    for private in [RSA, EC, ED, "", "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"] {
        let got = VerifyingKey::public_pem(private).unwrap_err();
        assert_eq!(got, KeyError::NotAKey { wanted: "public key" });
    }
    for public in [RSA_PUBLIC, EC_PUBLIC, ED_PUBLIC, ""] {
        assert!(Signer::private_pem(&Secret::new(public)).is_err());
    }
    assert_eq!(Verifier::new(Vec::new(), expected()).unwrap_err(), KeyError::NoKey);
}

#[test]
fn debug_output_holds_no_key() {
    for (_, signer, verifier) in pairs() {
        let text = format!("{signer:?} {verifier:?}");
        assert!(!text.contains(SECRET) && !text.contains("BEGIN"), "{text}");
    }
}
