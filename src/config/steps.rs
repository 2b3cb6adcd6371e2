//! `[steps]`: how the processes of steps are held, whatever a runbook says.
//!
//! May import: `document`, `guard` (how limits are written), `model`. Must never: ask this machine what it can give.

use super::source::{Section, Sources};
use crate::document::{Table, Value};
use crate::guard::step_limits;
use crate::model::StepLimits;

/// `[steps]` after checking.
#[derive(Debug, Clone)]
pub struct Steps {
    /// How everything a step starts is found again.
    pub containment: Containment,
    /// Whether a step may run as root.
    pub allow_root: bool,
    /// Accounts no step may run as, by name or number.
    pub deny_users: Vec<String>,
    /// Whether nothing that a step starts can gain privileges, by set-user-ID programs such as sudo.
    pub no_new_privileges: bool,
    /// The limits of steps that name none.
    pub limits: StepLimits,
}

/// How everything a step starts is found again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Containment {
    /// By a control group for each attempt where one can be made, else as [`Containment::Processes`].
    Auto,
    /// By a control group, or runbookd does not start.
    Cgroup,
    /// By looking at all processes.
    Processes,
}

impl Containment {
    const WORDS: [(&'static str, Self); 3] =
        [("auto", Self::Auto), ("cgroup", Self::Cgroup), ("processes", Self::Processes)];

    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cgroup => "cgroup",
            Self::Processes => "processes",
        }
    }
}

/// More than a runbook's step should ever need at once, and far less than a machine has.
const DEFAULT_PROCESSES: u32 = 1024;

impl Steps {
    /// Reads the section.
    pub(super) fn read<'d>(sources: &Sources<'d>, root: &mut Table<'d>) -> Self {
        let mut section = Section::open(sources, root, "steps");
        let show = |word: &Containment| word.as_str().to_owned();
        let read = |value: Value<'_>, _| value.one_of(&Containment::WORDS);
        let containment = section.setting("containment", || Containment::Auto, show, read).value;
        let allow_root = section.boolean("allow_root", false).value;
        let account = |value: Value<'_>| {
            value.parsed("write names or numbers of accounts, such as [\"postgres\", \"33\"]", |text| {
                let fits = !text.is_empty() && !text.contains(char::is_whitespace) && !text.contains('\0');
                if fits { Ok(text.to_owned()) } else { Err(format!("{text:?} is no account")) }
            })
        };
        let deny_users = section.list("deny_users", Vec::new, |name| format!("{name:?}"), account).value;
        let no_new_privileges = section.boolean("no_new_privileges", true).value;
        let defaults = StepLimits { processes: Some(DEFAULT_PROCESSES), ..StepLimits::default() };
        let given = section.take("limits").and_then(Value::table).map(step_limits);
        let limits = given.unwrap_or_default().over(defaults);
        section.item("limits", limits.to_string(), given.is_some());
        section.finish();
        Self { containment, allow_root, deny_users, no_new_privileges, limits }
    }
}
