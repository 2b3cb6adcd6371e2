//! `[[schedules]]`: which runbook runs by the clock.
//!
//! May import: `model`, `document`, `schedule`. Must never: know which runbooks exist; `Config::check_runbooks` is told.

use super::source::{Source, Sources};
use crate::document::{Place, Problem, Severity, Table, Value};
use crate::model::RunbookId;
use crate::schedule::{Cron, Schedule, Zone};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The longest a missed run may be made up for.
const MAX_CATCH_UP: Duration = Duration::from_secs(7 * 24 * 3600);

/// One of `[[schedules]]`, in the order of the file.
#[derive(Debug, Clone)]
pub struct ScheduleEntry {
    /// What it says.
    pub schedule: Schedule,
    place: Place,
}

/// Why a schedule will not do what it looks like, though nothing of it is wrong.
#[derive(Debug)]
pub struct Doubt {
    /// What will happen.
    pub what: String,
    /// What to do.
    pub help: &'static str,
}

impl ScheduleEntry {
    /// The problem that its runbook does not exist.
    pub(super) fn unknown_runbook(&self) -> Problem {
        let Schedule { name, runbook, .. } = &self.schedule;
        let message =
            format!("the schedule {name:?} starts the runbook {:?}, which does not exist", runbook.as_str());
        let help = format!("add {runbook}.toml to the runbooks, or correct the name");
        self.place.problem(Severity::Error, message, help)
    }

    /// That its runbook cannot begin with what it gives it.
    pub(super) fn unfit(&self, why: &str) -> Problem {
        let Schedule { name, runbook, .. } = &self.schedule;
        let message = format!("the schedule {name:?} cannot start the runbook {:?}: {why}", runbook.as_str());
        let help = "correct the inputs of the schedule; labels of an alert are not there";
        self.place.problem(Severity::Error, message, help)
    }

    /// That it will not do what it looks like.
    pub(super) fn doubt(&self, doubt: &Doubt) -> Problem {
        let message = format!("the schedule {:?}: {}", self.schedule.name, doubt.what);
        self.place.problem(Severity::Warning, message, doubt.help)
    }

    fn show(&self) -> String {
        let Schedule { name, cron, zone, runbook, .. } = &self.schedule;
        format!("{name}: {cron} {} -> {runbook}", zone.name())
    }
}

/// Reads all schedules; wrong ones are noted and left out.
pub(super) fn read<'d>(sources: &Sources<'d>, root: &mut Table<'d>) -> Vec<ScheduleEntry> {
    let mut names = BTreeSet::new();
    let values = root.take("schedules").and_then(Value::array).unwrap_or_default();
    let from = if values.is_empty() { Source::Default } else { Source::File };
    let schedules: Vec<ScheduleEntry> =
        values.into_iter().filter_map(|value| read_one(value, &mut names)).collect();
    if schedules.is_empty() {
        sources.item("schedules", "", from);
    }
    for (index, schedule) in schedules.iter().enumerate() {
        sources.item(format!("schedules[{index}]"), schedule.show(), Source::File);
    }
    schedules
}

fn read_one(value: Value<'_>, names: &mut BTreeSet<String>) -> Option<ScheduleEntry> {
    let mut table = value.table()?;
    let name = table.require("name", "give the schedule a name of its own, such as name = \"redis backup\"");
    let cron = table.require("cron", "write cron = \"0 2 * * *\": minute, hour, day, month, weekday");
    let zone =
        table.require("zone", "write zone = \"UTC\", or whose clocks count, such as \"Europe/Berlin\"");
    let runbook = table.require("runbook", "write the id of a runbook: the name of its file without .toml");
    let inputs = table.take("inputs").map_or_else(|| Some(BTreeMap::new()), read_inputs);
    let catch_up = table.take("catch_up").map(|value| value.duration(Duration::ZERO..=MAX_CATCH_UP));
    let name = name.and_then(|value| {
        let name = value.parsed("write 1 to 128 characters without / and control characters", check_name)?;
        if !names.insert(name.clone()) {
            value.error(
                format!("another schedule is called {name:?}"),
                "give each schedule a name of its own",
            );
        }
        Some(name)
    });
    let cron = cron.and_then(|value| {
        value.parsed("write 5 fields, such as \"0 2 * * *\" for two o'clock at night", Cron::parse)
    });
    let zone =
        zone.and_then(|value| value.parsed("write a name such as \"UTC\" or \"Europe/Berlin\"", Zone::named));
    let runbook = runbook.and_then(|value| {
        let id = value.parsed("write the name of the runbook's file without .toml", RunbookId::new)?;
        Some((id, value.place()))
    });
    table.finish();
    let (runbook, place) = runbook?;
    let catch_up = match catch_up {
        None => None,
        Some(read) => Some(read?),
    };
    let schedule = Schedule { name: name?, cron: cron?, zone: zone?, runbook, inputs: inputs?, catch_up };
    Some(ScheduleEntry { schedule, place })
}

fn read_inputs(value: Value<'_>) -> Option<BTreeMap<String, String>> {
    let entries = value.table()?.take_all();
    let count = entries.len();
    let inputs = entries.into_iter().filter_map(|(key, value)| Some((key.value, value.string()?.value)));
    let inputs: BTreeMap<_, _> = inputs.collect();
    (inputs.len() == count).then_some(inputs)
}

fn check_name(text: &str) -> Result<String, String> {
    if (1..=128).contains(&text.len()) && !text.contains(|c: char| c == '/' || c.is_control()) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not a name for a schedule"))
}
