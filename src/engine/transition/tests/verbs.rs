//! What each verb answers in each status, and what is wrong with a request.

use super::*;
use crate::engine::verb::{Actor, Anew, Answer, Ask, Verb, answer};

const RUNBOOK: &str = r#"
mode = "auto"
target = "t"
timeout = "10m"
[inputs.unit]
default = "nginx"
pattern = "[a-z]+"
[[steps]]
id = "ask"
approve = { message = "may I?", roles = ["sre"], expires = "5m" }
[[steps]]
id = "a"
command = { program = "true" }
on_failure = "pause"
[steps.undo]
command = { program = "true" }
[[steps]]
id = "b"
command = { program = "true", args = ["x"] }
on_failure = "stop"
[verify]
promql = "up"
expect = "== 1"
within = "1m"
"#;

fn id(step: &str) -> StepId {
    StepId::new(step).unwrap()
}

fn ask(verb: Verb) -> Ask {
    let roles = ["sre".to_owned()].into();
    Ask::new(verb, Actor { subject: "ann".to_owned(), roles }, "because")
}

impl Bench {
    fn hear(&self, ask: &Ask) -> Answer {
        answer(&self.runbook, &self.state, self.now, ask)
    }

    /// Does what the answer says; it must say something.
    fn obey(&mut self, ask: &Ask) {
        let Answer::Record(events) = self.hear(ask) else { panic!("{:?}: {:?}", ask.verb, self.hear(ask)) };
        for event in events {
            self.record(event).unwrap();
        }
        self.settle();
    }

    fn consent(&mut self) {
        let roles = ["sre".to_owned()].into();
        let actor = Actor { subject: "bob".to_owned(), roles };
        self.obey(&Ask::new(Verb::Approve, actor, "go on"));
    }

    fn succeed_all(&mut self) {
        while self.state.steps.iter().any(|step| !step.open.is_empty()) {
            self.end_attempt(AttemptOutcome::Succeeded);
        }
    }
}

/// An execution that has come to `status` on the shortest way.
fn in_status(status: ExecutionStatus) -> Bench {
    use ExecutionStatus as S;
    let mut bench = Bench::new(RUNBOOK);
    if status == S::Queued {
        return bench;
    }
    bench.start();
    match status {
        S::AwaitingApproval => return check(bench, status),
        S::Rejected => bench.obey(&ask(Verb::Reject)),
        S::Expired => bench.advance(300),
        _ => bench.consent(),
    }
    match status {
        S::Failed => {
            bench.end_attempt(AttemptOutcome::Succeeded);
            bench.end_attempt(AttemptOutcome::Failed);
        }
        S::Stopped => {
            bench.obey(&ask(Verb::Stop));
            bench.end_attempt(AttemptOutcome::Stopped);
        }
        S::Paused => bench.end_attempt(AttemptOutcome::Failed),
        S::Verifying | S::Succeeded | S::NotVerified => bench.succeed_all(),
        S::RollingBack | S::RolledBack | S::RollbackFailed => {
            bench.obey(&ask(Verb::Rollback));
            bench.end_attempt(AttemptOutcome::Stopped);
        }
        _ => {}
    }
    match status {
        S::Succeeded => {
            bench.record(Event::VerifyObserved { holds: true, detail: String::new() }).unwrap();
            bench.settle();
        }
        S::NotVerified => {
            // With an undo it would end as rolled back.
            bench.runbook.steps[1].undo = None;
            bench.advance(60);
        }
        S::RolledBack => bench.end_attempt(AttemptOutcome::Succeeded),
        S::RollbackFailed => bench.end_attempt(AttemptOutcome::Failed),
        _ => {}
    }
    check(bench, status)
}

fn check(bench: Bench, status: ExecutionStatus) -> Bench {
    assert_eq!(bench.state.status, status);
    bench
}

/// One letter for one answer: Record, Same already, anew (`N`), Conflict, Invalid, Forbidden.
fn letter(answer: &Answer) -> char {
    match answer {
        Answer::Record(_) => 'R',
        Answer::AlreadySo => 'S',
        Answer::Anew(_) => 'N',
        Answer::Conflict(_) => 'C',
        Answer::Invalid(_) => 'I',
        Answer::Forbidden(_) => 'F',
    }
}

#[test]
fn every_verb_has_its_answer_in_every_status() {
    use ExecutionStatus as S;
    // In the order of Verb::ALL:
    // stop, rollback, pause, resume, approve, reject, acknowledge, retry a, skip a, modify b.
    let table = [
        (S::Queued, "RRCSCCCCCC"),
        (S::AwaitingApproval, "RRRSRRCCCC"),
        (S::Running, "RRRSCCCCCC"),
        (S::Paused, "RRSCCCCRRR"),
        (S::Verifying, "RRRSCCCCCC"),
        (S::RollingBack, "CSCSCCCCCC"),
        (S::Succeeded, "CNCCCCCNCC"),
        (S::Failed, "CNCCCCCNCC"),
        (S::NotVerified, "CCCCCCCNCC"),
        (S::Stopped, "SNCCCCCNCC"),
        (S::Rejected, "CCCCCSCNCC"),
        (S::Expired, "CCCCCCCNCC"),
        (S::RolledBack, "CSCCCCCNCC"),
        (S::RollbackFailed, "CNCCCCCNCC"),
    ];
    assert_eq!(table.map(|(status, _)| status), ExecutionStatus::ALL);
    for (status, letters) in table {
        let bench = in_status(status);
        let answers: String = Verb::ALL
            .iter()
            .map(|verb| {
                let mut ask = ask(*verb);
                ask.step = match verb {
                    Verb::Retry if !status.is_final() => Some(id("a")),
                    Verb::Skip => Some(id("a")),
                    Verb::Modify => Some(id("b")),
                    _ => None,
                };
                ask.args = (*verb == Verb::Modify).then(|| vec!["y".to_owned()]);
                let answer = bench.hear(&ask);
                if let Answer::Record(events) = &answer {
                    let mut after = bench.state.clone();
                    for (seq, event) in (after.seq + 1..).zip(events) {
                        let entry = Entry { seq, at: bench.now, event: event.clone() };
                        after.apply(&entry).expect("an answer names an event that does not fit");
                    }
                }
                letter(&answer)
            })
            .collect();
        assert_eq!(answers, letters, "{status}");
    }
}

#[test]
fn consent_is_held_to_role_requester_plan_and_step() {
    let bench = in_status(ExecutionStatus::AwaitingApproval);
    let with = |change: &dyn Fn(&mut Ask)| {
        let mut ask = ask(Verb::Approve);
        change(&mut ask);
        letter(&bench.hear(&ask))
    };
    let hash = bench.state.steps[0].approval.as_ref().unwrap().hash.clone();
    assert_eq!(with(&|ask| ask.hash = Some(hash.clone())), 'R');
    assert_eq!(with(&|ask| ask.hash = Some("of another plan".to_owned())), 'C');
    assert_eq!(with(&|ask| ask.actor.roles.clear()), 'F');
    assert_eq!(with(&|ask| ask.actor.subject = "alert:A".to_owned()), 'F', "whoever asked for it");
    assert_eq!(with(&|ask| ask.step = Some(id("ask"))), 'R');
    assert_eq!(with(&|ask| ask.step = Some(id("a"))), 'I', "it asks for no consent");
    assert_eq!(with(&|ask| ask.step = Some(id("nothing"))), 'I');
    let mut rejection = ask(Verb::Reject);
    rejection.actor.subject = "alert:A".to_owned();
    assert_eq!(letter(&bench.hear(&rejection)), 'R', "whoever asked for it may take it back");
}

#[test]
fn a_word_said_twice_is_no_error() {
    let mut bench = in_status(ExecutionStatus::AwaitingApproval);
    bench.obey(&ask(Verb::Approve));
    assert_eq!(letter(&bench.hear(&ask(Verb::Approve))), 'S');
    bench.obey(&ask(Verb::Stop));
    assert_eq!(letter(&bench.hear(&ask(Verb::Stop))), 'S');
    let mut bench = in_status(ExecutionStatus::Verifying);
    bench.obey(&ask(Verb::Pause));
    assert_eq!(letter(&bench.hear(&ask(Verb::Pause))), 'S');
    bench.obey(&ask(Verb::Resume));
    assert_eq!(
        (bench.state.status, letter(&bench.hear(&ask(Verb::Resume)))),
        (ExecutionStatus::Verifying, 'S')
    );
}

#[test]
fn a_step_that_held_it_goes_on_with_the_persons_word() {
    for (verb, statuses) in [
        (Verb::Retry, ["succeeded", "running", "pending"]),
        (Verb::Skip, ["succeeded", "skipped", "running"]),
    ] {
        let mut bench = in_status(ExecutionStatus::Paused);
        let mut ask = ask(verb);
        ask.step = Some(id("a"));
        bench.obey(&ask);
        assert_eq!((bench.state.status, bench.statuses()), (ExecutionStatus::Running, statuses.to_vec()));
    }
}

#[test]
fn nobody_skips_the_question_whether_they_may() {
    let mut bench = in_status(ExecutionStatus::AwaitingApproval);
    bench.obey(&ask(Verb::Pause));
    let mut skip = ask(Verb::Skip);
    skip.step = Some(id("ask"));
    assert_eq!(letter(&bench.hear(&skip)), 'C');
}

#[test]
fn a_change_is_held_to_what_the_runbook_says() {
    let bench = in_status(ExecutionStatus::Paused);
    let with = |step: Option<&str>, input: Option<(&str, &str)>, args: Option<Vec<String>>| {
        let mut ask = ask(Verb::Modify);
        ask.step = step.map(id);
        ask.inputs = input.into_iter().map(|(name, to)| (name.to_owned(), to.to_owned())).collect();
        ask.args = args;
        letter(&bench.hear(&ask))
    };
    let words = |count: usize| Some(vec!["y".to_owned(); count]);
    assert_eq!(with(None, Some(("unit", "redis")), None), 'R');
    assert_eq!(with(None, Some(("unit", "; rm")), None), 'I', "the pattern");
    assert_eq!(with(None, Some(("host", "x")), None), 'I', "no such input");
    assert_eq!(with(Some("b"), None, words(256)), 'R');
    assert_eq!(with(Some("b"), None, words(257)), 'I');
    assert_eq!(with(Some("b"), None, Some(vec!["a\0b".to_owned()])), 'I');
    assert_eq!(with(Some("b"), None, None), 'I', "nothing is said");
    assert_eq!(with(None, None, None), 'I', "nothing is said");
    assert_eq!(with(Some("ask"), None, words(1)), 'I', "it has no arguments");
    assert_eq!(with(Some("a"), None, words(1)), 'C', "it is not pending");
}

#[test]
fn what_is_over_is_done_again_or_taken_back_as_a_new_execution() {
    let over = in_status(ExecutionStatus::Succeeded);
    assert_eq!(over.hear(&ask(Verb::Retry)), Answer::Anew(Anew::Retry));
    assert_eq!(over.hear(&ask(Verb::Rollback)), Answer::Anew(Anew::Rollback));
    let mut one_step = ask(Verb::Retry);
    one_step.step = Some(id("a"));
    assert_eq!(letter(&over.hear(&one_step)), 'C');
    let mut nothing_to_undo = in_status(ExecutionStatus::Paused);
    nothing_to_undo.runbook.steps[1].undo = None;
    nothing_to_undo.obey(&ask(Verb::Stop));
    assert_eq!(nothing_to_undo.state.status, ExecutionStatus::Stopped);
    assert_eq!(letter(&nothing_to_undo.hear(&ask(Verb::Rollback))), 'C');
}

#[test]
fn after_an_irreversible_step_no_verb_goes_back() {
    for status in [ExecutionStatus::Running, ExecutionStatus::Paused, ExecutionStatus::Succeeded] {
        let mut bench = in_status(status);
        bench.runbook.steps[1].irreversible = true;
        assert_eq!(letter(&bench.hear(&ask(Verb::Rollback))), 'C', "{status}");
    }
}
