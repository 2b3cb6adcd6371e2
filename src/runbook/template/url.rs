//! Addresses with values in them: a value stays within the part of the address it stands in.
//!
//! A value that begins the address is its beginning, and may be a whole one. Pure. Must never: correct a value.

/// The parts of an address that a value can stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Authority,
    Path,
    Query,
    Fragment,
}

impl Part {
    /// What would end it, or make the rest mean something else.
    fn ends(self) -> &'static [char] {
        match self {
            Self::Authority => &['/', '?', '#', '\\', '@'],
            Self::Path => &['/', '?', '#', '\\'],
            Self::Query => &['&', '#'],
            Self::Fragment => &[],
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Authority => "authority",
            Self::Path => "path",
            Self::Query => "query",
            Self::Fragment => "fragment",
        }
    }
}

/// The address of `marked`, in which every value stands between `marks`.
pub(super) fn checked(marked: &str, marks: [char; 2]) -> Result<String, String> {
    let mut url = String::with_capacity(marked.len());
    let (mut part, mut within, mut slashes) = (Part::Authority, false, 0);
    // The segment so far, and whether a value has a share in it.
    let (mut segment, mut shared) = (String::new(), false);
    let begins = marked.starts_with(marks[0]);
    let mut is_first = begins;
    for c in marked.chars() {
        if c == marks[0] {
            within = true;
            shared |= !is_first;
            continue;
        }
        if c == marks[1] {
            (within, is_first) = (false, false);
            continue;
        }
        url.push(c);
        if within && !is_first {
            if part.ends().contains(&c) {
                let part = part.as_str();
                return Err(format!(
                    "a value in the url's {part} has {c:?} in it, which would change where the request goes"
                ));
            }
            segment.push(c);
            continue;
        }
        // The two slashes behind the scheme do not end the authority.
        slashes += usize::from(c == '/');
        let next = match (part, c) {
            (Part::Authority, '/') if slashes > 2 => Part::Path,
            (Part::Authority | Part::Path, '?') => Part::Query,
            (Part::Authority | Part::Path | Part::Query, '#') => Part::Fragment,
            _ => part,
        };
        if part == Part::Path && (c == '/' || next != part) {
            climbs(&segment, shared)?;
        }
        if c == '/' || next != part {
            segment.clear();
            shared = false;
        } else {
            segment.push(c);
        }
        part = next;
    }
    if part == Part::Path {
        climbs(&segment, shared)?;
    }
    Ok(url)
}

/// A segment of dots is no name; a value must not make one.
fn climbs(segment: &str, shared: bool) -> Result<(), String> {
    let plain = segment.to_ascii_lowercase().replace("%2e", ".");
    if shared && matches!(plain.as_str(), "." | "..") {
        return Err(format!(
            "a value makes the segment {segment:?} of the url's path, which would change where the request goes"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: [char; 2] = ['<', '>'];

    fn check(marked: &str, expected: Result<&str, &str>) {
        match (checked(marked, MARKS), expected) {
            (Ok(url), Ok(expected)) => assert_eq!(url, expected),
            (Err(why), Err(part)) => assert!(why.contains(part), "{marked}: {why}"),
            (found, _) => panic!("{marked}: {found:?}"),
        }
    }

    #[test]
    fn t09_a_value_stays_in_its_part_of_the_url() {
        check("http://<a:9100>/health", Ok("http://a:9100/health"));
        check("http://<[::1]:9>/<x>/<y.z>?of=<a/b?c>#<d&e>", Ok("http://[::1]:9/x/y.z?of=a/b?c#d&e"));
        check("<http://a/base?x>/<y>", Ok("http://a/base?x/y"));
        check("http://h/v<1>.<2>/..", Ok("http://h/v1.2/.."));
        check("http://<a/evil>/health", Err("authority has '/'"));
        check("http://<me@evil>/", Err("authority has '@'"));
        check("http://<evil#>/", Err("authority has '#'"));
        check("http://<evil\\>/", Err("authority has '\\\\'"));
        check("http://h/<../admin>", Err("path has '/'"));
        check("http://h/<a?x=1>", Err("path has '?'"));
        check("http://h/a/<..>/b", Err("segment \"..\""));
        check("http://h/a/<.>.", Err("segment \"..\""));
        check("http://h/a/%2E<%2e>?x", Err("segment \"%2E%2e\""));
        check("<http://h>/<..>", Err("segment \"..\""));
        check("http://h/?of=<a&admin=1>", Err("query has '&'"));
        check("http://h/?of=<a#b>", Err("query has '#'"));
    }
}
