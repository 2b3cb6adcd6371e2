//! What happened beside what was wanted.

use super::script::{Case, End, Suite};
use super::stage::{Played, Ran};
use crate::journal::{Event, Skip};
use crate::model::{Role, StepId};
use crate::step::Call;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// One thing that is not as wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What: a key of `[tests.expect]`, or `play`.
    pub what: String,
    /// What was wanted.
    pub expected: String,
    /// What there was.
    pub got: String,
}

fn difference(what: &str, expected: impl ToString, got: impl ToString) -> Difference {
    Difference { what: what.to_owned(), expected: expected.to_string(), got: got.to_string() }
}

/// Where `played` is not what `case` wants.
pub(super) fn differences(suite: &Suite, case: &Case, played: &Played) -> Vec<Difference> {
    let wanted = &case.wanted;
    let mut found = Vec::new();
    let message = match (played, &wanted.end) {
        (Played::Refused(reason, why), End::Refused(wanted)) => {
            if reason != wanted {
                found.push(difference("refused", wanted, format!("{reason}: {why}")));
            }
            why.clone()
        }
        (Played::Refused(reason, why), End::Status(status, _)) => {
            return vec![difference("status", status, format!("refused as {reason}: {why}"))];
        }
        (Played::Ran(ran), End::Refused(reason)) => {
            return vec![difference("refused", reason, format!("it ran: {}", ran.state.status))];
        }
        (Played::Ran(ran), End::Status(status, reason)) => {
            let said = ran.state.message.clone().unwrap_or_default();
            if ran.state.status != *status {
                found.push(difference("status", status, format!("{}{}", ran.state.status, why(ran))));
            }
            if reason.is_some() && *reason != ran.state.reason {
                let words =
                    |reason: Option<crate::model::Reason>| reason.map_or("none", |reason| reason.as_str());
                found.push(difference("reason", words(*reason), words(ran.state.reason)));
            }
            path(case, ran, &mut found);
            facts_of(suite, case, ran, &mut found);
            said
        }
    };
    if let Some(wanted) = wanted.message.as_ref().filter(|wanted| !message.contains(wanted.as_str())) {
        found.push(difference("message", format!("a text with {wanted:?}"), format!("{message:?}")));
    }
    found
}

/// Why it ended so, as far as it is known.
fn why(ran: &Ran) -> String {
    let steps = ran.state.created.steps.iter().zip(&ran.state.steps);
    let failed = steps.filter(|(_, seen)| seen.has_failed()).filter_map(|(head, seen)| {
        let error = seen.error.clone().or_else(|| seen.last()?.result.error.clone())?;
        Some(format!("{}: {error}", head.id))
    });
    let all: Vec<String> = ran.state.message.clone().into_iter().chain(failed).collect();
    if all.is_empty() { String::new() } else { format!(" ({})", all.join("; ")) }
}

fn ids(steps: &[&StepId]) -> String {
    let words: Vec<&str> = steps.iter().map(|step| step.as_str()).collect();
    format!("[{}]", words.join(", "))
}

/// Which steps ran, were skipped, failed and were undone.
fn path(case: &Case, ran: &Ran, found: &mut Vec<Difference>) {
    let wanted = &case.wanted;
    let began = ran.in_order(|event| match event {
        Event::StepIntended { step, part, .. } if part.role == Role::Main => Some(step),
        Event::TimerStarted { step, .. } | Event::ApprovalRequested { step, .. } => Some(step),
        _ => None,
    });
    let skipped = ran.in_order(|event| match event {
        // What an execution never came to was not left out, it ended before.
        Event::StepSkipped { step, why, .. } if *why != Skip::Ended => Some(step),
        _ => None,
    });
    let undone = ran.in_order(|event| match event {
        Event::StepIntended { step, part, .. } if part.role == Role::Undo => Some(step),
        _ => None,
    });
    let heads = ran.state.created.steps.iter().zip(&ran.state.steps);
    let failed: Vec<&StepId> =
        heads.filter(|(_, seen)| seen.has_failed()).map(|(head, _)| &head.id).collect();
    let lists = [
        ("ran", wanted.ran.as_ref(), began),
        ("skipped", wanted.skipped.as_ref(), skipped),
        ("failed", wanted.failed.as_ref(), failed),
        ("undone", Some(&wanted.undone), undone),
    ];
    for (what, wanted, got) in lists {
        let Some(wanted) = wanted.map(|wanted| wanted.iter().collect::<Vec<_>>()) else { continue };
        if wanted != got {
            found.push(difference(what, ids(&wanted), ids(&got)));
        }
    }
    for trouble in &ran.trouble {
        found.push(difference("play", "everybody can say what they are to say, and it ends", trouble));
    }
}

/// Target, inputs, numbers of attempts and what the world was asked to do.
fn facts_of(suite: &Suite, case: &Case, ran: &Ran, found: &mut Vec<Difference>) {
    let (wanted, state) = (&case.wanted, &ran.state);
    let target = ran.created.target.as_ref().map_or("none", |target| target.as_str());
    if let Some(wanted) = wanted.target.as_ref().filter(|wanted| *wanted != target) {
        found.push(difference("target", wanted, target));
    }
    for (name, value) in &wanted.inputs {
        let got = state.inputs.get(name);
        if got != Some(value) {
            let got = got.map_or("none".to_owned(), |got| format!("{got:?}"));
            found.push(difference(&format!("inputs.{name}"), format!("{value:?}"), got));
        }
    }
    for (step, count) in &wanted.attempts {
        let seen = state.index_of(step).map(|index| &state.steps[index]);
        let main = |seen: &crate::journal::StepState| {
            seen.attempts.iter().filter(|attempt| attempt.part.role == Role::Main).count()
        };
        let got = seen.map_or(0, main);
        if got != *count {
            found.push(difference(&format!("attempts.{step}"), count, got));
        }
    }
    for (role, name, calls) in
        [(Role::Main, "calls", &wanted.calls), (Role::Undo, "undo_calls", &wanted.undo_calls)]
    {
        let done = ran.last_calls(role);
        for (step, wanted) in calls {
            let what = format!("{name}.{step}");
            match done.get(step) {
                None => found.push(difference(&what, "a call", "none")),
                Some(done) => compare(&what, wanted, &facts(suite, ran, step, role, &done.call), found),
            }
        }
    }
}

/// Every key that `wanted` has; environment, headers and JSON may have more, all else must be equal.
fn compare(what: &str, wanted: &Value, got: &Value, found: &mut Vec<Difference>) {
    let Some(wanted) = wanted.as_object() else { return };
    for (key, value) in wanted {
        let (what, seen) = (format!("{what}.{key}"), got.get(key));
        let Some(seen) = seen else {
            found.push(difference(&what, value, "none"));
            continue;
        };
        match (value, seen) {
            (Value::Object(_), Value::Object(_)) => compare(&what, value, seen, found),
            _ if value == seen => {}
            _ => found.push(difference(&what, value, seen)),
        }
    }
}

/// A call in the words of a test file.
fn facts(suite: &Suite, ran: &Ran, step: &StepId, role: Role, call: &Call) -> Value {
    let text =
        |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let mut facts = match call {
        Call::Command(call) => json!({
            "program": call.program, "args": call.args, "env": call.env, "stdin": text(&call.stdin),
        }),
        Call::Script(call) => json!({ "script": call.text, "env": call.env, "stdin": text(&call.stdin) }),
        Call::Http(call) => {
            let headers: BTreeMap<&str, &str> =
                call.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let body: Option<Value> = call.body.as_ref().map(|body| {
                let plain = || Value::String(String::from_utf8_lossy(body).into_owned());
                serde_json::from_slice(body).unwrap_or_else(|_| plain())
            });
            json!({ "method": call.method, "url": call.url, "headers": headers, "json": body })
        }
        Call::Promql(call) => json!({ "query": call.query }),
        Call::Silence(call) => json!({ "matchers": call.matchers }),
        Call::ExpireSilence(_) => json!({}),
        Call::Ssh(call) => json!({ "program": call.program, "args": call.args }),
        Call::Notify(call) => json!({ "to": call.to, "message": call.message }),
    };
    let plan = suite.runbook().step_index(step).and_then(|index| {
        let seen = &ran.state.steps[index];
        seen.attempts
            .iter()
            .rev()
            .find(|attempt| attempt.part.role == role)
            .map(|attempt| attempt.plan.clone())
    });
    if let (Some(facts), Some(plan)) = (facts.as_object_mut(), plan) {
        facts.insert("plan".to_owned(), plan.into());
    }
    without_nothing(facts)
}

fn without_nothing(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept: Map<String, Value> = map.into_iter().filter(|(_, value)| !value.is_null()).collect();
            Value::Object(kept)
        }
        other => other,
    }
}
