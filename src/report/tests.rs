//! Who is told when, held to what must be true for any order of answers; and what is said, whatever an alert holds.

use super::*;
use crate::journal::{Created, State, StepHead, Trigger, TriggerKind};
use crate::model::{
    Effect, ExecutionId, ExecutionStatus, Labels, MAX_MESSAGES, Reason, RunbookId, StepId, Timestamp, after,
    is_unseen,
};
use proptest::prelude::*;
use std::time::Duration;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn directory() -> Directory {
    let level = |minutes: u64, to: &[&str]| Level {
        after: Duration::from_secs(60 * minutes),
        to: to.iter().map(ToString::to_string).collect(),
    };
    Directory {
        notifiers: [("a", false), ("b", true), ("c", false)].map(|(name, can)| (name.to_owned(), can)).into(),
        policies: [("team".to_owned(), vec![level(0, &["a", "b"]), level(15, &["c"])])].into(),
        escalate_to: vec!["team".to_owned()],
    }
}

fn escalation() -> Escalation {
    Escalation {
        id: EscalationId::of(at(1000), "x"),
        at: at(1000),
        cause: Cause::Finished,
        runbook: RunbookId::new("bad").unwrap(),
        title: "Restart it".into(),
        execution: Some(ExecutionId::new("bad_01J9ZQ5K3M8N7P6R5S4T3V2W1X").unwrap()),
        step: None,
        status: Some(ExecutionStatus::Failed),
        reason: Some(Reason::StepFailed),
        message: None,
        target: Some("db-1".into()),
        alertname: Some("Down".into()),
        source_url: "http://prometheus/graph".into(),
        alert_url: String::new(),
        done: vec!["restart: failed (exit 1)".into()],
        totals: None,
        to: None,
        due: at(1000),
        standing: Standing::Open,
        closed: None,
        deliveries: None,
        revision: 0,
    }
}

fn planned() -> Escalation {
    let mut escalation = escalation();
    escalation.deliveries = Some(plan(&escalation, &directory()));
    escalation
}

fn failure(permanent: bool) -> Told {
    Err(Failure { why: "no".into(), permanent, retry_after: None, status: None })
}

fn closed(now: Timestamp) -> Closed {
    Closed { by: Some("ada".into()), reason: "mine".into(), at: now }
}

#[test]
fn the_first_channel_is_asked_and_the_second_when_it_says_no() {
    let (mut escalation, directory) = (planned(), directory());
    assert_eq!(due(&escalation, &directory, &Quiet::default(), at(1000)).acts, [Act::Send(0)]);
    assert_eq!(due(&escalation, &directory, &Quiet::default(), at(1000)).wake, Some(at(1900)));
    told(&mut escalation, Act::Send(0), &failure(true), at(1001));
    assert_eq!(due(&escalation, &directory, &Quiet::default(), at(1001)).acts, [Act::Send(1)]);
    told(&mut escalation, Act::Send(1), &Ok(None), at(1002));
    let wait = due(&escalation, &directory, &Quiet::default(), at(1002));
    assert_eq!((wait.acts, wait.wake), (vec![], Some(at(1900))));
    assert_eq!(due(&escalation, &directory, &Quiet::default(), at(1900)).acts, [Act::Send(2)]);
}

#[test]
fn a_channel_that_hangs_is_joined_after_three_tries_and_one_acceptance_is_enough() {
    let (mut escalation, directory) = (planned(), directory());
    let mut now = at(1000);
    for _ in 0..3 {
        assert!(!due(&escalation, &directory, &Quiet::default(), now).acts.contains(&Act::Send(1)));
        told(&mut escalation, Act::Send(0), &failure(false), now);
        now = escalation.deliveries()[0].next;
    }
    assert!(due(&escalation, &directory, &Quiet::default(), now).acts.contains(&Act::Send(1)));
    told(&mut escalation, Act::Send(1), &Ok(None), now);
    assert_eq!(escalation.deliveries()[0].state, DeliveryState::Cancelled);
}

#[test]
fn a_level_that_is_lost_does_not_make_the_next_one_wait() {
    let (mut escalation, directory) = (planned(), directory());
    for index in 0..2 {
        told(&mut escalation, Act::Send(index), &failure(true), at(1001));
    }
    assert_eq!(due(&escalation, &directory, &Quiet::default(), at(1001)).acts, [Act::Send(2)]);
}

#[test]
fn what_is_taken_is_told_to_nobody_else_and_taken_back_where_that_can_be() {
    let (mut escalation, directory) = (planned(), directory());
    told(&mut escalation, Act::Send(0), &failure(true), at(1001));
    // On its way while a person takes it: accepted all the same, so it is taken back.
    assert!(close(&mut escalation, Standing::Acknowledged, closed(at(1002))));
    assert!(due(&escalation, &directory, &Quiet::default(), at(1002)).is_nothing());
    told(&mut escalation, Act::Send(1), &Ok(None), at(1003));
    assert_eq!(due(&escalation, &directory, &Quiet::default(), at(1003)).acts, [Act::Resolve(1)]);
    told(&mut escalation, Act::Resolve(1), &failure(false), at(1004));
    let again = due(&escalation, &directory, &Quiet::default(), at(1004));
    assert!(again.acts.is_empty() && again.wake.is_some());
    told(&mut escalation, Act::Resolve(1), &Ok(None), at(1010));
    assert!(due(&escalation, &directory, &Quiet::default(), at(9999)).is_nothing());
    assert!(!close(&mut escalation, Standing::Resolved, closed(at(1011))), "once");
    assert_eq!(escalation.standing, Standing::Acknowledged);
}

#[test]
fn a_name_that_leads_nowhere_shows_as_failed_and_a_far_side_cannot_put_a_try_off_for_ever() {
    let mut escalation = Escalation { to: Some(vec!["gone".into(), "a".into()]), ..escalation() };
    escalation.deliveries = Some(plan(&escalation, &directory()));
    assert_eq!(escalation.deliveries()[0].state, DeliveryState::Failed);
    assert_eq!(due(&escalation, &directory(), &Quiet::default(), at(1000)).acts, [Act::Send(1)]);
    let asks =
        Failure { why: "later".into(), permanent: false, retry_after: Some(GIVE_UP), status: Some(429) };
    told(&mut escalation, Act::Send(1), &Err(asks), at(1000));
    assert_eq!(escalation.deliveries()[1].next, at(1000 + 3600));
    told(&mut escalation, Act::Send(1), &failure(false), after(at(1000), GIVE_UP));
    assert_eq!(escalation.deliveries()[1].state, DeliveryState::Failed);
}

/// The names, levels and channels of what is planned for `names`.
fn planned_for(names: &[&str], directory: &Directory) -> Vec<(String, u32, String)> {
    let to = names.iter().map(ToString::to_string).collect();
    let deliveries = plan(&Escalation { to: Some(to), ..escalation() }, directory);
    deliveries.into_iter().map(|one| (one.name, one.level, one.notifier)).collect()
}

#[test]
fn a_channel_in_two_places_is_told_once_at_a_time() {
    let directory = directory();
    let check = |names: &[&str], expected: &[(&str, u32, &str)]| {
        let expected: Vec<_> =
            expected.iter().map(|(name, level, to)| ((*name).into(), *level, (*to).into())).collect();
        assert_eq!(planned_for(names, &directory), expected, "{names:?}");
    };
    let team = [("team", 1, "a"), ("team", 1, "b"), ("team", 2, "c")];
    check(&["team", "a"], &team);
    check(&["a", "team"], &team);
    check(&["team", "team"], &team);
    // Who would stand in is told anyway.
    check(&["team", "b"], &[("team", 1, "a"), ("team", 2, "c"), ("b", 1, "b")]);
    // At another time it is another message.
    check(&["c", "team"], &[("c", 1, "c"), ("team", 1, "a"), ("team", 1, "b"), ("team", 2, "c")]);
}

#[test]
fn a_later_level_through_the_same_channel_is_a_message_of_its_own() {
    let mut directory = directory();
    let pager = |minutes: u64| Level { after: Duration::from_secs(60 * minutes), to: vec!["b".into()] };
    directory.policies.insert("pager".into(), vec![pager(0), pager(60)]);
    let mut escalation = Escalation { to: Some(vec!["pager".into()]), ..escalation() };
    escalation.deliveries = Some(plan(&escalation, &directory));
    let id = escalation.id.clone();
    assert_eq!((key(&escalation, 0), key(&escalation, 1)), (format!("{id}.b"), format!("{id}.b.2")));
    // Each that was sent is taken back.
    told(&mut escalation, Act::Send(0), &Ok(None), at(1001));
    told(&mut escalation, Act::Send(1), &Ok(None), at(4600));
    close(&mut escalation, Standing::Acknowledged, closed(at(4700)));
    let due = due(&escalation, &directory, &Quiet::default(), at(4700));
    assert_eq!(due.acts, [Act::Resolve(0), Act::Resolve(1)]);
}

#[test]
fn what_is_cut_off_shows() {
    let mut directory = directory();
    let level = |minutes: u64| Level {
        after: Duration::from_secs(60 * minutes),
        to: ["a", "b", "c"].map(str::to_owned).into(),
    };
    directory.policies.insert("many".into(), (0..30).map(level).collect());
    let to = vec!["many".to_owned()];
    let deliveries = plan(&Escalation { to: Some(to), ..escalation() }, &directory);
    assert_eq!(deliveries.len(), MAX_MESSAGES + 1);
    let last = deliveries.last().unwrap();
    assert_eq!(last.state, DeliveryState::Failed);
    assert!(last.error.as_ref().unwrap().starts_with("26 more messages"), "{last:?}");
}

#[test]
fn a_message_whose_answer_was_lost_is_taken_back_too() {
    let directory = Directory { escalate_to: vec!["b".into()], ..directory() };
    let try_once = |result: &Told, is_there| {
        let mut escalation = escalation();
        escalation.deliveries = Some(plan(&escalation, &directory));
        told(&mut escalation, Act::Send(0), result, at(1001));
        close(&mut escalation, Standing::Resolved, closed(at(1002)));
        let now = due(&escalation, &directory, &Quiet::default(), at(1002));
        assert_eq!(now.acts, if is_there { vec![Act::Resolve(0)] } else { vec![] }, "{result:?}");
        told(&mut escalation, Act::Resolve(0), &Ok(None), at(1003));
        assert!(due(&escalation, &directory, &Quiet::default(), at(9999)).is_nothing());
    };
    let answered =
        |status| Err(Failure { why: "no".into(), permanent: false, retry_after: None, status: Some(status) });
    try_once(&failure(false), true);
    try_once(&answered(502), true);
    try_once(&answered(429), false);
    try_once(&failure(true), false);
}

#[test]
fn a_channel_that_wants_to_be_left_alone_is_left_alone_and_stood_in_for() {
    let (escalation, directory) = (planned(), directory());
    let mut quiet = Quiet::default();
    quiet.heed("a", Duration::from_secs(10), at(1000));
    let soon = due(&escalation, &directory, &quiet, at(1000));
    assert_eq!((soon.acts, soon.wake), (vec![], Some(at(1010))), "for a moment it is waited for");
    quiet.heed("a", Duration::from_secs(7200), at(1000));
    quiet.heed("a", Duration::from_secs(5), at(1001));
    assert_eq!(quiet.until("a"), Some(at(4600)), "an hour at most, and a shorter wish does not shorten it");
    assert_eq!(due(&escalation, &directory, &quiet, at(1000)).acts, [Act::Send(1)]);
    assert_eq!(due(&escalation, &directory, &quiet, at(4600)).acts, [Act::Send(0), Act::Send(2)]);
}

#[test]
fn denials_end_when_their_hour_is_over_and_no_later_level_is_told_of_what_has_resolved() {
    let directory = directory();
    let of = |firing, resolved| {
        let totals = Totals { count: 1, firing, resolved, ..Totals::default() };
        let mut one = Escalation { cause: Cause::Denied, totals: Some(totals), ..escalation() };
        one.deliveries = Some(plan(&one, &directory));
        told(&mut one, Act::Send(0), &Ok(None), at(1001));
        one
    };
    let due_of = |one: &Escalation, now| due(one, &directory, &Quiet::default(), at(now));
    let over = of(0, 1);
    assert_eq!((due_of(&over, 1900).acts, due_of(&over, 1900).wake), (vec![], Some(at(1000 + 3600))));
    assert!(due_of(&over, 4600).is_over);
    // What still fires is told further, and is not over with its hour.
    let mut fires = of(1, 1);
    assert_eq!(due_of(&fires, 1900).acts, [Act::Send(2)]);
    told(&mut fires, Act::Send(2), &Ok(None), at(1900));
    assert!(!due_of(&fires, 4600).is_over);
    assert!(due_of(&fires, 1000 + 8 * 24 * 3600).is_over, "for ever is too long");
    // A schedule's denial has no alert that could resolve.
    let mut clock = of(0, 0);
    assert_eq!(due_of(&clock, 1900).acts, [Act::Send(2)]);
    told(&mut clock, Act::Send(2), &Ok(None), at(1900));
    assert!(due_of(&clock, 4600).is_over);
}

proptest! {
    /// Whatever the channels answer and whenever it is taken: it comes to an end, nobody is told after it was taken,
    /// no level accepts twice, and a wake lies in the future.
    #[test]
    fn every_course_ends(answers in prop::collection::vec(0..4_u8, 1..200), taken in 0..400_usize) {
        let (mut escalation, directory) = (planned(), directory());
        let (mut now, mut answers) = (at(1000), answers.into_iter().cycle());
        let mut sent = Vec::new();
        for round in 0..5000 {
            if round == taken {
                close(&mut escalation, Standing::Acknowledged, closed(now));
            }
            let Due { acts, wake, .. } = due(&escalation, &directory, &Quiet::default(), now);
            prop_assert!(wake.is_none_or(|wake| wake > now));
            if acts.is_empty() {
                let Some(wake) = wake else { return Ok(()) };
                now = wake;
                continue;
            }
            for act in acts {
                let result = match answers.next() {
                    Some(0) => Ok(None),
                    Some(1) => failure(true),
                    _ => failure(false),
                };
                if let Act::Send(index) = act {
                    prop_assert!(escalation.is_open());
                    if result.is_ok() {
                        let delivery = &escalation.deliveries()[index];
                        sent.push((delivery.name.clone(), delivery.level));
                    }
                }
                told(&mut escalation, act, &result, now);
                if result.is_ok() {
                    break;
                }
            }
        }
        prop_assert!(false, "no end: {escalation:#?}");
    }

    /// No text of an alert gets a control character or a second line into a subject, nor a letter over its limit.
    #[test]
    fn a_letter_is_plain_and_bounded(target in "\\PC{0,300}|[\\x00-\\x20]{0,40}", message in any::<String>()) {
        let escalation = Escalation {
            target: Some(cut(&target, 200)),
            message: Some(cut(&message, 1000)),
            source_url: message.clone(),
            ..escalation()
        };
        let letter = letter(&escalation, "http://runbookd:1/");
        prop_assert!(!letter.subject.chars().any(is_unseen), "{:?}", letter.subject);
        prop_assert!(letter.subject.chars().count() <= 150 && letter.body.len() <= 2800);
        prop_assert!(!letter.body.chars().any(|c| is_unseen(c) && c != '\n' && c != '\t'));
    }

    #[test]
    fn a_link_is_a_web_address_that_ends_no_markup(text in any::<String>(), tail in any::<String>()) {
        for text in [text.clone(), format!("http://host/{tail}"), format!("javascript:{tail}")] {
            if let Some(link) = web_link(&text) {
                prop_assert!(link.starts_with("http") && !link.contains(['<', '>', '|', '"', '`', '\n', ' ']));
            }
        }
    }
}

#[test]
fn damage_is_more_urgent_than_any_other_news() {
    let failed = escalation();
    let undone = Escalation { status: Some(ExecutionStatus::RollbackFailed), ..escalation() };
    let unknown = Escalation { reason: Some(Reason::UnknownOutcome), ..escalation() };
    let asks = Escalation { cause: Cause::Approval, ..escalation() };
    for damage in [&undone, &unknown] {
        assert!(damage.urgency() < asks.urgency() && asks.urgency() < failed.urgency());
    }
}

#[test]
fn the_link_to_an_alert_finds_it_by_its_labels() {
    let labels = |pairs: &[(&str, &str)]| -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let down = labels(&[("alertname", "Down"), ("path", "/a \"b\"\\c&d")]);
    assert_eq!(
        alert_url("https://am.example/prefix/", &down),
        "https://am.example/prefix/#/alerts?filter=%7Balertname%3D%22Down%22%2Cpath%3D%22%2Fa%20%5C%22b%5C%22%5C%5Cc%26d%22%7D"
    );
    // Of labels that make too long a link, the name is left.
    let long = labels(&[("alertname", "Down"), ("x", &"y".repeat(2000))]);
    let named = "http://am/#/alerts?filter=%7Balertname%3D%22Down%22%7D";
    assert_eq!(alert_url("http://am", &long), named);
    for bad in ["", "javascript:alert(1)", "http://a b"] {
        assert_eq!(alert_url(bad, &down), "", "{bad}");
    }
}

#[test]
fn a_letter_leads_to_what_it_is_about() {
    let mut one = Escalation { alert_url: "http://am/#/alerts".into(), ..escalation() };
    let id = one.id.clone();
    let said = letter(&one, "http://runbookd/");
    assert_eq!(
        said.links.iter().map(|link| (link.text, link.href.as_str())).collect::<Vec<_>>(),
        [
            ("execution", "http://runbookd/api/executions/bad_01J9ZQ5K3M8N7P6R5S4T3V2W1X"),
            ("alert", "http://am/#/alerts"),
            ("graph", "http://prometheus/graph"),
        ]
    );
    one.execution = None;
    let said = letter(&one, "http://runbookd/");
    assert_eq!(said.links[0].href, format!("http://runbookd/api/escalations/{id}"));
    assert_eq!(said.links[0].text, "escalation");
}

#[test]
fn every_end_but_success_speaks_unless_it_was_asked_for() {
    use ExecutionStatus as S;
    for status in ExecutionStatus::ALL.iter().copied() {
        for reason in Reason::ALL.iter().copied().map(Some).chain([None]) {
            let asked =
                [Reason::Resolved, Reason::Stopped, Reason::Rejected, Reason::NotFiring, Reason::Silenced];
            let asked = reason.is_some_and(|reason| asked.contains(&reason));
            let expected = match status {
                S::RollbackFailed | S::Failed | S::NotVerified => true,
                S::RolledBack => !asked && reason.is_some(),
                S::Rejected | S::Expired => !asked,
                _ => false,
            };
            assert_eq!(speaks(status, reason), expected, "{status} {reason:?}");
        }
    }
}

/// A state of a runbook with one step that has begun.
fn state(runbook: &crate::runbook::Runbook) -> State {
    let created = Created {
        id: ExecutionId::new("r_01J9ZQ5K3M8N7P6R5S4T3V2W1X").unwrap(),
        runbook: runbook.id.clone(),
        version: 1,
        hash: String::new(),
        title: "R".into(),
        trigger: Trigger {
            kind: TriggerKind::Alert,
            alertname: Some("Down".into()),
            fingerprint: None,
            starts_at: None,
            generator_url: "x".repeat(5000),
            external_url: String::new(),
            labels: Labels::new(),
            annotations: Labels::new(),
            by: "alert:Down".into(),
            reason: None,
            of: None,
        },
        target: None,
        lock: None,
        inputs: Default::default(),
        steps: vec![StepHead {
            id: StepId::new("s").unwrap(),
            title: "s".into(),
            kind: "command".into(),
            effect: Effect::AtMostOnce,
        }],
        range: None,
        timeout_ms: 1,
        queue_deadline: at(0),
        seed: 1,
        parent: None,
        inherited: Vec::new(),
        decision: None,
        instance: String::new(),
    };
    State::new(Box::new(created), at(1))
}

#[test]
fn an_end_is_one_word_with_a_stable_id_and_a_silent_runbook_says_none() {
    use crate::journal::Event;
    let parse = |more: &str| {
        let text = format!(
            "mode = \"auto\"\ntarget = \"t\"\n[[steps]]\nid = \"s\"\ncommand = {{ program = \"true\" }}\non_failure = \"continue\"\n{more}"
        );
        let parsed = crate::runbook::parse(&RunbookId::new("r").unwrap(), "r.toml", &text);
        parsed.runbook.unwrap_or_else(|| panic!("{:?}", parsed.problems))
    };
    let (runbook, silent) = (parse(""), parse("[escalate]\nto = []\n"));
    let state = state(&runbook);
    let end =
        |reason| Event::Finished { status: ExecutionStatus::Failed, reason: Some(reason), message: None };
    let said = |runbook: &_, event: Event| words(runbook, &state, &state, &[event], at(5));
    let first = said(&runbook, end(Reason::StepFailed));
    let [Word::Close(_, Which::Waiting), Word::Open(one)] = &first[..] else { panic!("{first:?}") };
    assert_eq!(first, said(&runbook, end(Reason::StepFailed)), "said twice it is one");
    assert_eq!((one.cause, one.source_url.as_str()), (Cause::Finished, ""), "half a link leads elsewhere");
    assert_eq!(said(&silent, end(Reason::StepFailed)), []);
    let unknown = Event::StepFinished {
        step: StepId::new("s").unwrap(),
        status: crate::model::StepStatus::Unknown,
        reason: None,
        error: None,
    };
    let said_of_unknown = said(&runbook, unknown);
    assert!(matches!(&said_of_unknown[..], [Word::Open(one)] if one.cause == Cause::UnknownOutcome));
    let expired = Event::Finished {
        status: ExecutionStatus::Expired,
        reason: Some(Reason::QueueExpired),
        message: None,
    };
    assert!(matches!(&said(&runbook, expired)[..], [Word::Close(..), Word::Denied(_)]));
}

#[test]
fn a_rollback_says_what_was_undone_and_what_the_verify_saw_last() {
    use crate::journal::{Event, VerifyState};
    use crate::model::{Part, Role, StepStatus};
    let text = "mode = \"auto\"\ntarget = \"t\"\n[[steps]]\nid = \"s\"\ncommand = { program = \"true\" }\n";
    let runbook = crate::runbook::parse(&RunbookId::new("r").unwrap(), "r.toml", text).runbook.unwrap();
    let check = |undos: &[StepStatus], reason, line: &str, message: Option<&str>| {
        let mut state = state(&runbook);
        state.verify = Some(VerifyState {
            started_at: at(1),
            until: at(2),
            holds_since: None,
            detail: Some("violated: 7".into()),
        });
        state.steps[0].status = StepStatus::Succeeded;
        for (item, status) in undos.iter().enumerate() {
            let part = Part::item(item);
            state.steps[0].begun.push((1, part));
            state.steps[0].ended.insert(part.with(Role::Undo), (*status, None));
        }
        let end =
            Event::Finished { status: ExecutionStatus::RollbackFailed, reason: Some(reason), message: None };
        let said = words(&runbook, &state, &state, &[end], at(5));
        let [_, Word::Open(one)] = &said[..] else { panic!("{said:?}") };
        assert_eq!((one.done[0].as_str(), one.message.as_deref()), (line, message));
    };
    let (good, bad) = (StepStatus::Succeeded, StepStatus::Failed);
    check(&[], Reason::StepFailed, "s: succeeded", None);
    check(&[good, good], Reason::NotVerified, "s: succeeded, undone", Some("violated: 7"));
    check(&[good, bad], Reason::NotVerified, "s: succeeded, not undone", Some("violated: 7"));
}
