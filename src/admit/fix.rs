//! What would have to change for a gate to pass: one sentence for each code, with the numbers of its answer.
//!
//! Made when it is told, never kept: the commands and keys it names are those of this version. Pure. Must never: promise
//! that nothing else denies.

use crate::model::{Decision, GateReport, GateVerdict, Reason, Verdict};
use serde_json::{Map, Value};

/// Longer names of alerts are left out: nobody types them.
const NAME_MAX: usize = 200;

/// What would have to change for `decision` to be another one; `None` where it is no denial.
pub fn fix_of(decision: &Decision) -> Option<String> {
    if decision.verdict != Verdict::Skip {
        return None;
    }
    let denied = decision.gates.iter().find(|report| report.reason == Some(decision.reason));
    let nothing = Map::new();
    Some(sentence(decision.reason, denied.map_or(&nothing, |report| &report.detail), decision))
}

/// What would have to change for this gate of `decision` to pass; `None` where it does not deny.
pub fn fix(report: &GateReport, decision: &Decision) -> Option<String> {
    (report.verdict == GateVerdict::Deny).then(|| sentence(report.gate, &report.detail, decision))
}

fn sentence(gate: Reason, detail: &Map<String, Value>, about: &Decision) -> String {
    let text = |key: &str| detail.get(key).and_then(Value::as_str);
    let runbook = about.runbook.as_ref().map_or("RUNBOOK", |id| id.as_str());
    let by_hand = format!("runbookd runbooks execute {runbook} --label … --reason '…'");
    match gate {
        Reason::InvalidAlert => {
            "correct the sender, or the template that writes it, as the message says".into()
        }
        Reason::Resolved => "nothing, until it fires again".into(),
        Reason::Stale if text("catch_up").is_some() => {
            format!(
                "the next due time is decided anew; to make up for this one: {by_hand}; or raise catch_up"
            )
        }
        Reason::Stale => match text("last_resolved_at") {
            Some(end) => format!("a firing that began after {end}; if this one did, compare the clocks"),
            None => "a firing that began after the last episode ended".into(),
        },
        Reason::Repeat if about.fingerprint.is_none() => {
            format!(
                "the execution {} has to end, or to be stopped",
                text("execution_id").unwrap_or("before it")
            )
        }
        Reason::Repeat => format!("the alert has to resolve and fire again; to act now: {by_hand}"),
        Reason::NoRunbook
        | Reason::NotAllowed
        | Reason::UnknownRunbook
        | Reason::Disabled
        | Reason::Shadow => of_selection(gate, text("name"), about),
        Reason::Aborted | Reason::Halted | Reason::Draining => of_switch(detail),
        Reason::InvalidInput => format!(
            "give the alert what the input takes, or the input a default or another pattern in {runbook}.toml, as the message says"
        ),
        Reason::InvalidTarget => {
            format!(
                "give the alert the label that target (or lock) of {runbook}.toml uses, with one plain value"
            )
        }
        Reason::Unconfirmed
        | Reason::NotFiring
        | Reason::Silenced
        | Reason::Systemic
        | Reason::PrecheckFailed
        | Reason::QueueExpired => of_world(gate, detail, runbook),
        gate => of_time(gate, detail, runbook),
    }
}

/// Of what passes by itself, or is taken back by a person.
fn of_time(gate: Reason, detail: &Map<String, Value>, runbook: &str) -> String {
    let text = |key: &str| detail.get(key).and_then(Value::as_str);
    match gate {
        Reason::Frozen => until(text("until"), "take the freeze out of the config and reload"),
        Reason::Storm => until(text("until"), "find what they have in common; new episodes put the end off"),
        Reason::Flapping => until(text("quiet_at"), "steady the rule with `for` or `keep_firing_for`"),
        Reason::Quarantined => format!(
            "look at the target and mend it, then: runbookd quarantine clear {} --reason '…'",
            shell(text("target").unwrap_or("TARGET"))
        ),
        Reason::Cooldown if text("execution_id").is_some() => format!(
            "{} has to end, and {} have to pass",
            text("execution_id").unwrap_or_default(),
            text("cooldown").unwrap_or("its cooldown")
        ),
        Reason::Cooldown => until(text("until"), &format!("shorten cooldown in {runbook}.toml")),
        Reason::AttemptsExhausted => until(
            text("until"),
            &format!("find out why it does not help; more is allowed by max_runs in {runbook}.toml"),
        ),
        Reason::BreakerOpen => until(
            text("retry_at"),
            &format!("runbookd breakers reset {} --reason '…'", shell(text("key").unwrap_or("KEY"))),
        ),
        Reason::TooManyTargets => until(
            text("until"),
            &format!("find the cause they share; more is allowed by max_targets in {runbook}.toml"),
        ),
        _ => "see its message".to_owned(),
    }
}

/// Of what selects a runbook, and what the runbook says of itself.
fn of_selection(gate: Reason, name: Option<&str>, about: &Decision) -> String {
    let runbook = about.runbook.as_ref().map_or("RUNBOOK", |id| id.as_str());
    let alert = if about.alertname.len() > NAME_MAX { "NAME" } else { &about.alertname };
    let plain = format!("alertname={alert:?}");
    let matcher = shell(&plain);
    let in_file = if plain.contains('\'') { format!("{plain:?}") } else { format!("'{plain}'") };
    let map = |runbook: &str| {
        format!("runbookd mappings set NAME --matcher {matcher} --runbook {runbook} --reason '…'")
    };
    match gate {
        Reason::NoRunbook => format!("add alerts = [{alert:?}] to a runbook's file, or: {}", map("RUNBOOK")),
        Reason::NotAllowed => format!(
            "add alerts = [{alert:?}] or [allow] matchers = [{in_file}] to {runbook}.toml, or: {}",
            map(runbook)
        ),
        Reason::UnknownRunbook => match name {
            Some(name) => format!("a good file {name}.toml in the runbook directory, or another name there"),
            None => "name a runbook, or take the empty name away".to_owned(),
        },
        Reason::Disabled => format!("set mode in {runbook}.toml to another than \"disabled\""),
        _ => format!("set mode = \"auto\" (or \"approve\") in {runbook}.toml"),
    }
}

/// Of the gates that ask others, and the queue.
fn of_world(gate: Reason, detail: &Map<String, Value>, runbook: &str) -> String {
    let words = |key: &str| -> Vec<&str> {
        let list = detail.get(key).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    };
    match gate {
        Reason::Unconfirmed => {
            "an Alertmanager of [alertmanager] urls has to answer; confirm = false in [guard] does without".to_owned()
        }
        Reason::NotFiring => {
            "Alertmanager has to have an alert with exactly these labels, none more and none fewer".to_owned()
        }
        Reason::Silenced => match (words("silenced_by"), words("inhibited_by")) {
            (silences, _) if !silences.is_empty() => {
                format!("end the silence in Alertmanager: amtool silence expire {}", silences.join(" "))
            }
            (_, inhibiting) => {
                format!("the alerts that inhibit it have to resolve (fingerprints: {})", inhibiting.join(", "))
            }
        },
        Reason::Systemic => match (detail.get("unhealthy"), detail.get("allowed")) {
            (Some(unhealthy), Some(allowed)) => format!(
                "{unhealthy} are unhealthy and have to be {allowed} or fewer, or max_unhealthy in {runbook}.toml has to allow more"
            ),
            _ => format!("the queries of max_unhealthy in {runbook}.toml have to give one fresh number each"),
        },
        Reason::PrecheckFailed => format!("what precheck in {runbook}.toml asks for has to hold"),
        Reason::QueueExpired => {
            "fewer executions before it, a larger automation.max_running, or a longer automation.queue_deadline".to_owned()
        }
        _ => "see its message".to_owned(),
    }
}

/// Of the kill switch: which order, and how it is taken back.
fn of_switch(detail: &Map<String, Value>) -> String {
    let text = |key: &str| detail.get(key).and_then(Value::as_str);
    let scope = text("scope").unwrap_or("global");
    let of = match (scope.strip_prefix("runbook:"), detail.get("matchers").and_then(Value::as_array)) {
        (Some(runbook), _) => format!(" --runbook {runbook}"),
        (None, Some(matchers)) => {
            let each = matchers.iter().filter_map(Value::as_str);
            each.map(|matcher| format!(" --matcher {}", shell(matcher))).collect()
        }
        (None, None) => String::new(),
    };
    let take_back = match scope {
        "file" => "remove the file `halt` from the storage path".to_owned(),
        _ => format!("take the order back: runbookd unhalt{of} --reason '…'"),
    };
    match text("expires_at") {
        Some(end) => format!("{take_back}; or wait until {end}"),
        None => take_back,
    }
}

fn until(end: Option<&str>, or: &str) -> String {
    match end {
        Some(end) => format!("wait until {end}; or: {or}"),
        None => or.to_owned(),
    }
}

/// A word for a shell.
fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DecisionId, Fingerprint, Labels, RunbookId, Timestamp};
    use serde_json::json;

    fn denied(gate: Reason, detail: Value) -> Decision {
        let labels: Labels = [("alertname".to_owned(), "Disk Full".to_owned())].into();
        let gates = vec![GateReport {
            gate,
            verdict: GateVerdict::Deny,
            reason: Some(gate),
            message: gate.sentence().to_owned(),
            detail: detail.as_object().unwrap().clone(),
        }];
        Decision {
            id: DecisionId::of(ulid::Ulid::from_parts(1, 1)),
            at: Timestamp::UNIX_EPOCH,
            verdict: Verdict::Skip,
            reason: gate,
            message: gate.sentence().to_owned(),
            alertname: "Disk Full".to_owned(),
            fingerprint: Some(Fingerprint::of(&labels)),
            labels,
            alert: None,
            runbook: Some(RunbookId::new("act").unwrap()),
            execution_id: None,
            first: None,
            plan: Vec::new(),
            seen: 1,
            last_seen: Timestamp::UNIX_EPOCH,
            gates,
        }
    }

    #[test]
    fn every_code_of_a_denial_says_what_would_have_to_change() {
        let mut all = std::collections::BTreeSet::new();
        for gate in Reason::DECISION.iter().filter(|gate| **gate != Reason::Matched) {
            let decision = denied(*gate, json!({}));
            let said = fix_of(&decision).unwrap();
            assert_eq!(fix(&decision.gates[0], &decision).as_ref(), Some(&said));
            assert!(said.len() > 20 && said != "see its message", "{gate}: {said}");
            all.insert(said);
        }
        // The states of the kill switch are taken back the same way.
        assert_eq!(all.len() + 2, Reason::DECISION.len() - 1, "{all:#?}");
    }

    #[test]
    fn the_numbers_of_the_answer_are_in_it_and_what_is_to_be_typed_can_be_typed() {
        let says = |gate, detail, wanted: &str| {
            let said = fix_of(&denied(gate, detail)).unwrap();
            assert!(said.contains(wanted), "{said}");
        };
        says(Reason::Cooldown, json!({ "until": "2026-01-01T00:00:00Z" }), "wait until 2026-01-01T00:00:00Z");
        says(
            Reason::Cooldown,
            json!({ "execution_id": "act_1", "cooldown": "5m" }),
            "act_1 has to end, and 5m",
        );
        says(Reason::Halted, json!({ "scope": "runbook:act" }), "runbookd unhalt --runbook act --reason");
        says(Reason::Halted, json!({ "scope": "file" }), "remove the file `halt`");
        let order =
            json!({ "scope": "matchers:x", "matchers": ["a=\"b\"", "c=\"it's\""], "expires_at": "T" });
        says(
            Reason::Aborted,
            order,
            r#"unhalt --matcher 'a="b"' --matcher 'c="it'\''s"' --reason '…'; or wait until T"#,
        );
        says(Reason::NotAllowed, json!({}), r#"[allow] matchers = ['alertname="Disk Full"'] to act.toml"#);
        says(Reason::Quarantined, json!({ "target": "db-1" }), "quarantine clear 'db-1'");
        says(Reason::BreakerOpen, json!({ "key": "runbook:act:a" }), "breakers reset 'runbook:act:a'");
        says(Reason::Silenced, json!({ "silenced_by": ["s-1"] }), "amtool silence expire s-1");
        says(Reason::Silenced, json!({ "inhibited_by": ["f1"] }), "fingerprints: f1");
        says(Reason::Systemic, json!({ "unhealthy": 3, "allowed": 2 }), "3 are unhealthy and have to be 2");
    }

    #[test]
    fn what_is_no_denial_needs_no_change() {
        let mut decision = denied(Reason::Frozen, json!({}));
        decision.verdict = Verdict::Execute;
        decision.gates[0].verdict = GateVerdict::Pass;
        assert_eq!((fix_of(&decision), fix(&decision.gates[0], &decision)), (None, None));
    }
}
