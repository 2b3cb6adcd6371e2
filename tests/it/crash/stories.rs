//! The stories of the crash tests: which runbook, how it may end, what each step comes to, and what people do to it.
//!
//! Both the failpoints (`points`) and the random kills (`random`) play all of [`STORIES`]: a new feature is one more
//! line here and a runbook in `texts`. May import: its neighbours here.

use super::people::{self, People};
use super::{ledger, texts};
use serde_json::Value;

/// A runbook and what may become of it.
pub(super) struct Story {
    /// The runbook's id; its alert has the same name.
    pub(super) id: &'static str,
    /// The runbook, but for `mode`, `alerts` and `target`, which are the same in all.
    text: &'static str,
    /// How it may end, `status` or `status:reason`; more where something is unknown, see `verdict`.
    pub(super) ends: &'static [&'static str],
    /// What the attempts of a step (`step`) or its undo (`step/undo`) come to where nothing is unknown, apart from
    /// interrupted ones.
    pub(super) comes_to: &'static [(&'static str, &'static str)],
    /// What people and senders do when they see it like this; asked again and again, also after a crash.
    pub(super) nudge: Option<fn(&People, &Value)>,
    /// Whether no alert starts it, but another story.
    pub(super) is_child: bool,
}

const PLAIN: Story =
    Story { id: "", text: "", ends: &["succeeded"], comes_to: &[], nudge: None, is_child: false };

const OK: &str = "succeeded";

/// All of them.
pub(super) const STORIES: &[Story] = &[
    Story { id: "classes", text: texts::CLASSES, ..PLAIN },
    Story { id: "far", text: texts::FAR, ..PLAIN },
    Story { id: "graph", text: texts::GRAPH, ..PLAIN },
    Story { id: "probed", text: texts::PROBED, ..PLAIN },
    Story { id: "parent", text: texts::PARENT, ..PLAIN },
    Story { id: "child", text: texts::CHILD, is_child: true, ..PLAIN },
    Story {
        id: "failing",
        text: texts::FAILING,
        ends: &["failed:step_failed"],
        comes_to: &[("unlucky", "failed"), ("only_if_fine", ""), ("slow", "timed_out"), ("never", "")],
        ..PLAIN
    },
    Story {
        id: "retried",
        text: texts::RETRIED,
        comes_to: &[
            ("flaky", "failed succeeded"),
            ("late", "timed_out timed_out"),
            ("wrong", "failed"),
            ("careful", "failed succeeded"),
        ],
        ..PLAIN
    },
    Story {
        id: "undone",
        text: texts::UNDONE,
        ends: &["rolled_back:step_failed"],
        comes_to: &[
            ("a/undo", OK),
            ("b/undo", "failed succeeded"),
            ("c/undo", OK),
            ("d", "failed"),
            ("d/undo", OK),
            ("never", ""),
            ("sweep", OK),
        ],
        ..PLAIN
    },
    Story {
        id: "final",
        text: texts::FINAL,
        ends: &["failed:step_failed"],
        comes_to: &[("a", OK), ("a/undo", ""), ("b", OK), ("c", "failed"), ("sweep", OK)],
        ..PLAIN
    },
    Story {
        id: "unproven",
        text: texts::UNPROVEN,
        ends: &["rolled_back:not_verified"],
        comes_to: &[("hush", OK), ("hush/undo", OK), ("act", OK), ("act/undo", OK)],
        ..PLAIN
    },
    Story {
        id: "each",
        text: texts::EACH,
        ends: &["rolled_back:step_failed"],
        comes_to: &[
            ("spread", "succeeded succeeded succeeded succeeded"),
            ("spread/undo", "succeeded succeeded succeeded succeeded"),
            ("some", "succeeded succeeded"),
            ("fails", "failed"),
        ],
        ..PLAIN
    },
    Story { id: "consent", text: texts::CONSENT, nudge: Some(people::consent), ..PLAIN },
    Story {
        id: "held",
        text: texts::HELD,
        comes_to: &[("slow", OK), ("balky", "failed succeeded"), ("then", OK)],
        nudge: Some(people::hold_and_retry),
        ..PLAIN
    },
    Story {
        id: "taken_back",
        text: texts::TAKEN_BACK,
        ends: &["rolled_back:stopped"],
        comes_to: &[("first/undo", OK), ("held/undo", OK), ("sweep", OK)],
        nudge: Some(people::take_back),
        ..PLAIN
    },
    Story {
        id: "proven",
        text: texts::PROVEN,
        comes_to: &[("act", OK)],
        nudge: Some(people::resolve_when_proving),
        ..PLAIN
    },
    Story {
        id: "stopped",
        text: texts::STOPPED,
        ends: &["stopped:stopped"],
        nudge: Some(people::stop_when_held),
        ..PLAIN
    },
];

impl Story {
    /// The one with this id.
    pub(super) fn of(runbook: &str) -> &'static Self {
        STORIES.iter().find(|story| story.id == runbook).expect("an execution of no story")
    }

    /// The whole runbook.
    fn runbook(&self, far: &str) -> String {
        let Self { id, text, .. } = self;
        let head = format!("mode = \"auto\"\nalerts = [\"{id}\"]\ntarget = \"{{{{ labels.target }}}}\"\n");
        ledger::fill(&format!("{head}{text}")).replace("@far@", far)
    }

    /// What its steps are told to be, read from its text.
    pub(super) fn plan(&self) -> Plan {
        Plan::read(&self.runbook("127.0.0.1"))
    }
}

/// The runbooks of all stories, id and text.
pub(super) fn runbooks(far: &str) -> Vec<(&'static str, String)> {
    STORIES.iter().map(|story| (story.id, story.runbook(far))).collect()
}

/// What a runbook says of its steps, in its order.
pub(super) struct Plan(pub(super) Vec<PlannedStep>);

/// What a runbook says of a step, as far as a crash may touch it.
pub(super) struct PlannedStep {
    pub(super) id: String,
    /// Those that are over before it begins.
    pub(super) after: Vec<String>,
    /// How many of its items may be in progress.
    pub(super) concurrency: usize,
    /// The effect class of its undo, where it has one.
    pub(super) undo: Option<String>,
    pub(super) is_irreversible: bool,
    /// Whether its failure is nothing to stop for.
    pub(super) is_optional: bool,
    pub(super) is_finally: bool,
}

impl Plan {
    fn read(text: &str) -> Self {
        let runbook: toml::Table = toml::from_str(text).unwrap();
        let mut plan: Vec<PlannedStep> = Vec::new();
        for step in runbook["steps"].as_array().unwrap() {
            let flag = |key: &str| step.get(key).and_then(toml::Value::as_bool).unwrap_or(false);
            let is_finally = flag("finally");
            let word = |value: &toml::Value| value.as_str().unwrap().to_owned();
            let before = plan.iter().rev().find(|step| step.is_finally == is_finally);
            let after = match step.get("after") {
                Some(names) => names.as_array().unwrap().iter().map(word).collect(),
                None => before.map(|step| step.id.clone()).into_iter().collect(),
            };
            let undo = match (step.get("undo"), step.get("silence")) {
                (Some(undo), _) => Some(undo.get("effect").map_or("at_most_once".to_owned(), word)),
                // A silence is ended without being told to.
                (None, silence) => silence.map(|_| "idempotent".to_owned()),
            };
            let concurrency = step.get("for_each").and_then(|each| each.get("concurrency")?.as_integer());
            plan.push(PlannedStep {
                id: word(&step["id"]),
                after,
                concurrency: concurrency.map_or(1, |count| usize::try_from(count).unwrap()),
                undo,
                is_irreversible: flag("irreversible"),
                is_optional: step.get("on_failure").is_some_and(|what| what.as_str() == Some("continue")),
                is_finally,
            });
        }
        Self(plan)
    }

    /// The step with this id.
    pub(super) fn step(&self, id: &str) -> &PlannedStep {
        self.0.iter().find(|step| step.id == id).expect("a step that is not in the runbook")
    }
}
