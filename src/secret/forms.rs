//! The forms in which a secret is looked for: as it is, and as programs commonly write it down.
//!
//! Pure. May import: nothing of this crate. Must never: give a form so short that it stands in every text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// A secret of fewer bytes is not looked for: it would be found in what has nothing to do with it.
pub const MIN_LENGTH: usize = 6;
/// The same for a line of a secret that has several, such as a private key.
const MIN_LINE: usize = 16;
/// Of a longer secret only the forms that programs make of files are looked for, to bound what it costs.
const LONG: usize = 8 * 1024;

/// Every form of `secret`; none of a short one.
pub(super) fn of(secret: &str) -> BTreeSet<Vec<u8>> {
    let mut forms = BTreeSet::new();
    add(secret.trim(), MIN_LENGTH, &mut forms);
    if secret.trim().contains('\n') {
        // Programs indent a key, or print it line by line.
        let border = |line: &str| line.starts_with("-----");
        secret.lines().map(str::trim).filter(|line| !border(line)).for_each(|line| {
            add(line, MIN_LINE, &mut forms);
        });
    }
    forms
}

fn add(secret: &str, least: usize, forms: &mut BTreeSet<Vec<u8>>) {
    if secret.len() < least {
        return;
    }
    let mut add = |form: String| {
        forms.insert(form.into_bytes());
    };
    add(secret.to_owned());
    base64_cores(secret.as_bytes()).into_iter().for_each(&mut add);
    add(hex(secret.as_bytes(), |byte| format!("{byte:02x}")));
    if secret.len() > LONG {
        return;
    }
    add(hex(secret.as_bytes(), |byte| format!("{byte:02X}")));
    for escaped in json_escaped(secret) {
        // What is JSON in JSON is escaped twice.
        json_escaped(&escaped).into_iter().for_each(&mut add);
        add(escaped);
    }
    percent_encoded(secret).into_iter().for_each(&mut add);
}

fn hex(bytes: &[u8], digit: impl Fn(&u8) -> String) -> String {
    bytes.iter().map(digit).collect()
}

/// What is the same in every base64 text of something that holds the secret: for each of the three places where it
/// can begin in a group of three bytes, the letters that depend on nothing else; in both alphabets.
fn base64_cores(secret: &[u8]) -> Vec<String> {
    let mut cores = Vec::new();
    for before in 0..3 {
        let padded = [&[0; 2][..before], secret].concat();
        let text = STANDARD_NO_PAD.encode(&padded);
        let (first, behind) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
        let core = &text[first..behind];
        cores.push(core.replace('+', "-").replace('/', "_"));
        cores.push(core.to_owned());
    }
    cores
}

/// As the texts of JSON: with the escapes that must be, with `/` escaped, and in ASCII alone.
fn json_escaped(secret: &str) -> Vec<String> {
    let quoted = serde_json::Value::from(secret).to_string();
    let plain = quoted[1..quoted.len() - 1].to_owned();
    let mut ascii = String::new();
    for c in plain.chars() {
        if c.is_ascii() {
            ascii.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _infallible = write!(ascii, "\\u{unit:04x}");
            }
        }
    }
    vec![plain.replace('/', "\\/"), plain, ascii]
}

/// As parts of a URL or a form; libraries differ in what they leave as it is.
fn percent_encoded(secret: &str) -> Vec<String> {
    const KEPT: [&[u8]; 6] = [b"-_.~", b"-_.~/", b"-_.!~*'()", b"-_.*", b"-_.~!*'();:@&=+$,/?#", b""];
    let mut forms = Vec::new();
    for is_upper in [true, false] {
        let byte = |byte: u8| if is_upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") };
        for kept in KEPT {
            for blank in ["%20", "+"] {
                let letter = |letter: &u8| match *letter {
                    b' ' => blank.to_owned(),
                    b if b.is_ascii_alphanumeric() || kept.contains(&b) => char::from(b).to_string(),
                    b => byte(b),
                };
                forms.push(secret.as_bytes().iter().map(letter).collect());
            }
        }
        forms.push(secret.bytes().map(byte).collect());
    }
    forms
}
