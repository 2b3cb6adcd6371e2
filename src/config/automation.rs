//! `[automation]`: how much at once, how long to wait, who selects.
//!
//! May import: `document`, `guard` (its settings). Must never: decide about an alert.

use super::source::{Section, Source, Sources, show_list};
use crate::document::{Place, Severity, Table, Value};
use crate::guard::{self, Limit, Settings, StormLimit};
use std::time::Duration;

/// `[automation]` after checking.
#[derive(Debug, Clone)]
pub struct Automation {
    /// Executions with a step in progress, 1 to 10,000.
    pub max_running: usize,
    /// Queued executions, 1 to 1,000,000; a request that would exceed it gets 503 and leaves nothing.
    pub queue_limit: usize,
    /// How long an execution may wait in the queue, 1 s to 7 days.
    pub queue_deadline: Duration,
    /// Who is asked for the runbook of an alert, in this order; the first answer counts.
    pub mapping_order: Vec<MappingSource>,
    /// How long an episode lives without a delivery, 1 minute to 90 days.
    pub episode_ttl: Duration,
    /// What makes a storm; `None` where that guard is off.
    pub storm: Option<StormLimit>,
    /// The guards of runbooks that say nothing else.
    pub guard: Settings,
    /// Who is told what automation does not settle, by notifiers and policies, unless the runbook says; empty: nobody.
    pub escalate_to: Vec<String>,
}

/// Who may select the runbook of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MappingSource {
    /// `[[mappings]]`.
    Config,
    /// The alert's annotation.
    Annotation,
    /// A runbook's own `alerts`.
    Runbook,
}

impl MappingSource {
    const WORDS: [(&'static str, Self); 3] =
        [("config", Self::Config), ("annotation", Self::Annotation), ("runbook", Self::Runbook)];

    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Annotation => "annotation",
            Self::Runbook => "runbook",
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Automation {
    /// Reads the section; the names in `escalate_to` come with their places, to be checked when all are known.
    pub(super) fn read<'d>(sources: &Sources<'d>, root: &mut Table<'d>) -> (Self, Vec<(String, Place)>) {
        let mut section = Section::open(sources, root, "automation");
        let mut automation = Self {
            max_running: section.number("max_running", 32, 1..=10_000),
            queue_limit: section.number("queue_limit", 10_000, 1..=1_000_000),
            queue_deadline: section.duration("queue_deadline", 10 * MINUTE, Duration::from_secs(1)..=7 * DAY),
            mapping_order: read_order(&mut section),
            episode_ttl: section.duration("episode_ttl", DAY, MINUTE..=90 * DAY),
            storm: read_storm(&mut section),
            guard: read_guard(&mut section),
            escalate_to: Vec::new(),
        };
        let read = |value: Value<'_>| Some((value.string()?.value, value.place()));
        let named = section.list("escalate_to", Vec::new, |(name, _)| format!("{name:?}"), read).value;
        section.finish();
        for (name, place) in &named {
            if automation.escalate_to.contains(name) {
                let message = format!("{name:?} stands here twice");
                sources.problems.add(place.problem(Severity::Error, message, "name each at most once"));
            } else {
                automation.escalate_to.push(name.clone());
            }
        }
        (automation, named)
    }
}

fn read_order(section: &mut Section<'_, '_>) -> Vec<MappingSource> {
    let sources = section.sources;
    let read = |value: Value<'_>| Some((value.one_of(&MappingSource::WORDS)?, value.place()));
    let all = || MappingSource::WORDS.map(|(_, word)| (word, sources.problems.place(0..0, ""))).to_vec();
    let order = section.list("mapping_order", all, |(word, _)| format!("{:?}", word.as_str()), read);
    if order.value.is_empty() {
        sources.problems.add(order.place.problem(
            Severity::Warning,
            "no alert will ever select a runbook",
            "write some of \"config\", \"annotation\", \"runbook\"",
        ));
    }
    let mut seen = Vec::new();
    for (word, place) in order.value {
        if seen.contains(&word) {
            let message = format!("{:?} stands here twice", word.as_str());
            sources.problems.add(place.problem(Severity::Error, message, "name each at most once"));
        } else {
            seen.push(word);
        }
    }
    seen
}

fn read_storm(section: &mut Section<'_, '_>) -> Option<StormLimit> {
    let default = StormLimit::default();
    let value = section.take("storm");
    let is_set = value.is_some();
    let storm = match value {
        Some(value) if value.is_bool() => {
            if value.boolean() == Some(true) {
                let help =
                    "write { episodes_per_minute = 500, cooldown = \"10m\" }, or false to turn the guard off";
                value.error("true says not how much", help);
            }
            None
        }
        Some(value) => Some(value.table().map_or(default, storm_limit)),
        None => Some(default),
    };
    section.item("storm", storm.map_or_else(|| "false".to_owned(), show_storm), is_set);
    storm
}

fn storm_limit(mut table: Table<'_>) -> StormLimit {
    let default = StormLimit::default();
    let count = table.take("episodes_per_minute").and_then(|value| value.integer(1..=1_000_000));
    let cooldown = table.take("cooldown").and_then(|value| value.duration(Duration::from_secs(1)..=DAY));
    table.finish();
    StormLimit {
        episodes_per_minute: count
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(default.episodes_per_minute),
        cooldown: cooldown.unwrap_or(default.cooldown),
    }
}

fn show_storm(storm: StormLimit) -> String {
    let cooldown = humantime::format_duration(storm.cooldown);
    format!("{} episodes per minute, cooldown {cooldown}", storm.episodes_per_minute)
}

fn read_guard(section: &mut Section<'_, '_>) -> Settings {
    let table = section.take("guard").and_then(Value::table);
    let given = table.map(|mut table| {
        let given = guard::overrides(&mut table);
        table.finish();
        given
    });
    let given = given.unwrap_or_default();
    let settings = given.over(&Settings::default());
    let limit = |limit: &Limit| format!("{} in {}", limit.count, humantime::format_duration(limit.within));
    let off = || "false".to_owned();
    let max_runs = match settings.max_runs.is_empty() {
        true => off(),
        false => show_list(settings.max_runs.iter().map(limit)),
    };
    let cooldown = settings.cooldown.map(|wait| humantime::format_duration(wait).to_string());
    let confirm =
        settings.confirm.map_or_else(|| "where [alertmanager] is configured".to_owned(), |c| c.to_string());
    for (key, value, is_set) in [
        ("cooldown", cooldown.unwrap_or_else(off), given.cooldown.is_some()),
        ("max_runs", max_runs, given.max_runs.is_some()),
        (
            "max_concurrent",
            settings.max_concurrent.map_or_else(off, |count| count.to_string()),
            given.max_concurrent.is_some(),
        ),
        ("max_targets", settings.max_targets.as_ref().map_or_else(off, limit), given.max_targets.is_some()),
        ("flapping", settings.flapping.as_ref().map_or_else(off, limit), given.flapping.is_some()),
        ("confirm", confirm, given.confirm.is_some()),
    ] {
        let from = if is_set { Source::File } else { Source::Default };
        section.sources.item(format!("automation.guard.{key}"), value, from);
    }
    settings
}
