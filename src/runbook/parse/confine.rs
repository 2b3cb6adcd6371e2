//! How the process of a step is held: `user`, `sandbox` and `limits`.
//!
//! All of it literal: nothing that an alert says decides as whom something runs. May import: `document`, `guard` (how
//! limits are written), `model`. Must never: ask this machine whether it can give that.

use super::templates;
use crate::document::{Table, Value};
use crate::guard::step_limits;
use crate::model::{Confinement, Sandbox};

/// More paths than anyone names; each is a mount of its own.
const WRITABLE_MAX: usize = 16;

pub(super) fn read(table: &mut Table<'_>) -> Confinement {
    Confinement {
        user: table.take("user").and_then(|value| user(&value)),
        sandbox: table.take("sandbox").and_then(Value::table).map(sandbox).unwrap_or_default(),
        limits: table.take("limits").and_then(Value::table).map(step_limits).unwrap_or_default(),
    }
}

fn user(value: &Value<'_>) -> Option<String> {
    const HELP: &str = "write the name or the number of an account, such as \"backup\"";
    let name = templates::literal(value, "the user is literal: no alert decides as whom a step runs")?.value;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
    if name.is_empty() || name.starts_with('-') || !name.chars().all(is_name) {
        value.error(format!("{name:?} is no name of an account"), HELP);
        return None;
    }
    Some(name)
}

fn sandbox(mut table: Table<'_>) -> Sandbox {
    let network = table.take("network").and_then(|value| value.boolean()).unwrap_or(true);
    let read_only = table.take("read_only").and_then(|value| value.boolean()).unwrap_or(false);
    let given = table.take("writable");
    let place = given.as_ref().map(Value::place);
    let paths = given.and_then(Value::array).unwrap_or_default();
    let writable: Vec<String> = paths.iter().filter_map(path).collect();
    let problems = table.problems();
    let wrong = |message: &str, help: &str| {
        if let Some(place) = &place {
            problems.add(place.problem(crate::document::Severity::Error, message, help));
        }
    };
    if !read_only {
        wrong("only of what is read-only can a part stay writable", "add `read_only = true`, or remove it");
    } else if writable.len() > WRITABLE_MAX {
        wrong("these are too many paths", &format!("name at most {WRITABLE_MAX}, or a directory above them"));
    }
    table.finish();
    Sandbox { no_network: !network, read_only, writable }
}

fn path(value: &Value<'_>) -> Option<String> {
    let path = templates::literal(value, "what stays writable is literal")?.value;
    let plain = path.starts_with('/') && path.split('/').all(|part| !matches!(part, "." | ".."));
    if !plain || path.chars().any(char::is_control) || path.trim_matches('/').is_empty() {
        let message = format!("{path:?} is no directory or file that could stay writable");
        value.error(message, "write an absolute path below /, such as \"/var/backups\"");
        return None;
    }
    Some(path)
}
