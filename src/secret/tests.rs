//! The redactor against a simple model: nothing of any form survives, however the bytes are cut.

use super::*;
use crate::model::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn redactor(secrets: &[&str]) -> Redactor {
    let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(secret)).collect();
    Redactor::new(&secrets)
}

fn streamed(redactor: &Redactor, pieces: &[&[u8]]) -> Vec<u8> {
    let (mut stream, mut out) = (redactor.stream(), Vec::new());
    pieces.iter().for_each(|piece| stream.push(piece, &mut out));
    stream.finish(&mut out);
    out
}

#[test]
fn t29_each_form_is_taken_out_wherever_it_stands() {
    let secret = "p/ss w\"rd+ü?\\1";
    let hide = redactor(&[secret]);
    let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
    let json = serde_json::to_string(&format!("a {secret} b")).unwrap();
    for (text, expected) in [
        (format!("a {secret} b"), "a (secret) b"),
        (format!("{secret}{secret}"), "(secret)"),
        (format!("x{hex}y"), "x(secret)y"),
        (format!("x{}y", hex.to_uppercase()), "x(secret)y"),
        ("p%2Fss%20w%22rd%2B%C3%BC%3F%5C1&x".to_owned(), "(secret)&x"),
        ("p%2fss+w%22rd%2b%c3%bc%3f%5c1&x".to_owned(), "(secret)&x"),
        ("p/ss%20w%22rd%2B%C3%BC%3F%5C1".to_owned(), "(secret)"),
        (json.clone(), "\"a (secret) b\""),
        (serde_json::to_string(&json).unwrap(), "\"\\\"a (secret) b\\\"\""),
        (r#""p/ss w\"rd+\u00fc?\\1""#.to_owned(), "\"(secret)\""),
        (r#""p\/ss w\"rd+ü?\\1""#.to_owned(), "\"(secret)\""),
    ] {
        assert_eq!(hide.text(&text), expected, "{text}");
    }
    for before in ["", "a", "ab", "abc"] {
        for alphabet in [&STANDARD, &URL_SAFE] {
            let text = alphabet.encode(format!("{before}{secret}zz"));
            let hidden = hide.text(&text).into_owned();
            assert!(hidden.contains(MARK) && hidden.len() < 20, "{text}: {hidden}");
        }
    }
}

#[test]
fn a_short_secret_is_not_looked_for_and_a_key_is_found_line_by_line() {
    assert_eq!(redactor(&["12345"]).text("12345 12345"), "12345 12345");
    assert_eq!(redactor(&[]).text("nothing is known"), "nothing is known");
    let key = "-----BEGIN KEY-----\nb3BlbnNzaC1rZXktdjEA\nAAAABG5vbmUAAAAEbm9u\n-----END KEY-----\n";
    let hide = redactor(&[key]);
    assert_eq!(hide.text(&format!("<{key}>")), "<(secret)\n>");
    assert_eq!(hide.text("  b3BlbnNzaC1rZXktdjEA\r\n  AAAABG5vbmUAAAAEbm9u"), "  (secret)\r\n  (secret)");
    assert_eq!(hide.text("-----BEGIN KEY-----"), "-----BEGIN KEY-----");
}

#[test]
fn what_cannot_begin_a_secret_is_not_held_back() {
    let hide = redactor(&["correct horse"]);
    let (mut stream, mut out) = (hide.stream(), Vec::new());
    stream.push(b"ready> corr", &mut out);
    assert_eq!(out, b"ready> ");
    stream.push(b"al\n", &mut out);
    assert_eq!(out, b"ready> corral\n");
    stream.push(b"correct hors", &mut out);
    assert_eq!(out, b"ready> corral\n");
    stream.push(b"e!", &mut out);
    assert_eq!(out, b"ready> corral\n(secret)!");
}

#[test]
fn a_replaced_secret_is_still_taken_out_and_none_is_shown() {
    let named = |text: &str| BTreeMap::from([("db".to_owned(), Secret::new(text))]);
    let secrets = Secrets::of_config(named("first-password"), vec![Secret::new("a-hidden-one")]);
    secrets.replace_config(named("second-password"), Vec::new());
    secrets.put_stored("api", Some(Secret::new("third-password")));
    let text = "first-password second-password a-hidden-one third-password";
    assert_eq!(secrets.hide(text), "(secret) (secret) (secret) (secret)");
    assert_eq!(secrets.get("db").unwrap().expose(), "second-password");
    assert!(secrets.is_open("api"));
    secrets.replace_stored(BTreeMap::from([("api".to_owned(), None)]));
    assert_eq!(secrets.get("api"), Err(Unavailable::Sealed("api".to_owned())));
    assert_eq!(secrets.get("no"), Err(Unavailable::Unknown("no".to_owned())));
    assert_eq!(format!("{secrets:?}"), "Secrets { names: [\"db\", \"api\"], .. }");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn t29_how_it_is_cut_changes_nothing_and_nothing_survives(
        secrets in prop::collection::vec("[ab/+ü\" ]{6,9}", 1..4),
        words in prop::collection::vec((0..7_usize, 0..4_usize, "[ab/+ü\" ]{0,4}"), 0..8),
        cuts in prop::collection::vec(0..400_usize, 0..6),
    ) {
        let secrets: Vec<String> = secrets.into_iter().filter(|secret| secret.trim().len() >= 6).collect();
        let known: Vec<Secret> = secrets.iter().map(|secret| Secret::new(secret)).collect();
        let hide = Redactor::new(&known);
        let mut text = String::new();
        for (form, which, between) in words {
            let Some(secret) = secrets.get(which % secrets.len().max(1)) else { continue };
            let secret = secret.trim();
            text.push_str(&between);
            match form {
                0 => text.push_str(secret),
                1 => text.push_str(&STANDARD.encode(secret)),
                2 => text.push_str(&URL_SAFE.encode(format!("a{secret}b"))),
                3 => text.extend(secret.bytes().map(|b| format!("{b:02x}"))),
                4 => text.push_str(&serde_json::to_string(secret).unwrap()),
                5 => text.extend(secret.bytes().map(|b| format!("%{b:02X}"))),
                _ => text.push_str(&secret[..secret.floor_char_boundary(4)]),
            }
        }
        let bytes = text.as_bytes();
        let whole = streamed(&hide, &[bytes]);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        prop_assert_eq!(&streamed(&hide, &pieces), &whole);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&streamed(&hide, &single), &whole);
        // What is left between marks, since a mark and its neighbours are no form.
        let left = String::from_utf8(whole).unwrap();
        for part in left.split(MARK) {
            for form in secrets.iter().flat_map(|secret| super::forms::of(secret)) {
                prop_assert!(!part.as_bytes().windows(form.len()).any(|window| window == form), "{part}");
            }
        }
    }
}
