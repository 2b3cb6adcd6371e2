//! What a step may use up, as the config's `[steps]` and a step's own `limits` write it alike.
//!
//! May import: `model`, `document`. Must never: keep a limit.

use crate::document::{Table, Value};
use crate::model::StepLimits;
use std::fmt::Display;

/// The most of one processor, in percent: a thousand processors.
const CPU_MAX: f64 = 100_000.0;
const CPU_HELP: &str =
    "write a share of one processor such as \"50%\", or a number of processors such as 1.5";

/// Reads `processes`, `memory`, `cpu` and `files`.
pub fn step_limits(mut table: Table<'_>) -> StepLimits {
    let count = |value: Value<'_>, low| value.integer(low..=1_000_000)?.try_into().ok();
    let limits = StepLimits {
        processes: table.take("processes").and_then(|value| count(value, 1)),
        memory: table.take("memory").and_then(|value| value.size(1 << 20..=1 << 44)),
        cpu: table.take("cpu").and_then(|value| cpu(&value)),
        // Fewer, and nothing can even be started.
        files: table.take("files").and_then(|value| count(value, 16)),
    };
    table.finish();
    limits
}

/// In percent of one processor.
fn cpu(value: &Value<'_>) -> Option<u32> {
    let percent = if value.is_string() {
        value.parsed(CPU_HELP, |text| {
            let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
            let number = number.filter(|number| (1.0..=CPU_MAX).contains(number));
            number.ok_or_else(|| not_a_share(&format!("{text:?}")))
        })?
    } else {
        value.number(0.01..=CPU_MAX / 100.0)? * 100.0
    };
    // Between 1 and 100,000, so it fits.
    Some(percent.round() as u32)
}

fn not_a_share(what: &impl Display) -> String {
    format!("{what} is not a share of a processor")
}
