//! One story for each thing a step can be told.

use super::*;
use crate::model::Role;

const HEAD: &str = "mode = \"auto\"\ntarget = \"t\"\ntimeout = \"10m\"\n";

fn bench(steps: &str) -> Bench {
    let mut bench = Bench::new(&format!("{HEAD}{steps}"));
    bench.start();
    bench
}

fn command(id: &str, more: &str) -> String {
    format!("[[steps]]\nid = \"{id}\"\ncommand = {{ program = \"true\" }}\n{more}\n")
}

fn with_undo(id: &str, more: &str) -> String {
    command(id, &format!("{more}\n[steps.undo]\ncommand = {{ program = \"undo-{id}\" }}"))
}

impl Bench {
    /// Ends the attempt of one part in progress.
    fn end(&mut self, step: &str, part: Part, outcome: AttemptOutcome) {
        let index = self.index(step);
        let attempt = self.state.steps[index].open_of(part).expect("it is in progress").attempt;
        let result = Box::new(AttemptResult::plain(outcome, String::new(), None));
        let step = StepId::new(step).unwrap();
        self.record(Event::AttemptFinished { step, part, attempt, result }).unwrap();
        self.settle();
    }

    fn succeed(&mut self, step: &str) {
        self.end(step, Part::MAIN, AttemptOutcome::Succeeded);
    }

    fn fail(&mut self, step: &str) {
        self.end(step, Part::MAIN, AttemptOutcome::Failed);
    }

    fn undo(&mut self, step: &str, outcome: AttemptOutcome) {
        self.end(step, Part::MAIN.with(Role::Undo), outcome);
    }

    fn index(&self, step: &str) -> usize {
        self.state.index_of(&StepId::new(step).unwrap()).unwrap()
    }

    fn say(&mut self, event: Event) {
        self.record(event).unwrap();
        self.settle();
    }

    fn open(&self) -> Vec<String> {
        let steps = self.state.created.steps.iter().zip(&self.state.steps);
        steps
            .flat_map(|(head, step)| {
                step.open.iter().map(move |open| format!("{}{}", head.id, tail(open.part)))
            })
            .collect()
    }

    fn undone(&self) -> Vec<String> {
        let intents = self.journal.iter().filter_map(|entry| match &entry.event {
            Event::StepIntended { step, part, .. } if part.role == Role::Undo => {
                Some(format!("{step}{}", tail(*part)))
            }
            _ => None,
        });
        intents.collect()
    }
}

fn tail(part: Part) -> String {
    if part == Part::MAIN { String::new() } else { format!(".{part}") }
}

fn stop(rollback: bool) -> Event {
    Event::StopRequested { actor: "me".into(), reason: "enough".into(), rollback }
}

fn pause() -> Event {
    Event::Paused { actor: Some("me".into()), reason: "wait".into(), code: None }
}

fn resumed() -> Event {
    Event::Resumed { actor: "me".into(), reason: "on".into() }
}

const RETRY: &str = "retry = { attempts = 3, initial = \"8s\", max = \"60s\" }";

#[test]
fn a_failed_attempt_is_tried_again_after_a_pause_within_its_cap() {
    let mut bench = bench(&command("a", RETRY));
    for attempt in 1..=2_u32 {
        bench.fail("a");
        let planned = bench.state.steps[0].retries[&Part::MAIN];
        assert_eq!(planned.attempt, attempt + 1);
        assert!(planned.at <= after(bench.now, Duration::from_secs(8 << (attempt - 1))));
        assert_eq!(bench.statuses(), ["waiting"]);
        bench.advance(60);
        assert_eq!(bench.state.steps[0].open[0].attempt, attempt + 1);
    }
    bench.fail("a");
    bench.check_end(ExecutionStatus::Failed, Some(Reason::StepFailed), &["failed"]);
}

#[test]
fn a_retry_that_would_begin_after_the_total_timeout_is_not_planned() {
    let mut bench = bench(&command("a", &format!("timeout = \"5s\"\ntotal_timeout = \"6s\"\n{RETRY}")));
    bench.now = after(bench.now, Duration::from_secs(6));
    bench.fail("a");
    assert_eq!(bench.state.status, ExecutionStatus::Failed);
    assert!(bench.state.steps[0].error.as_deref().unwrap().contains("the time is up"));
}

#[test]
fn what_is_no_longer_wanted_is_not_tried_again() {
    let mut bench = bench(&command("a", RETRY));
    bench.fail("a");
    bench.say(Event::AlertResolved);
    assert_eq!(bench.state.steps[0].reason, Some(Reason::Resolved));
    bench.check_end(ExecutionStatus::Succeeded, None, &["stopped"]);
}

#[test]
fn a_rollback_undoes_in_the_reverse_order_the_failed_step_first_and_never_what_never_began() {
    let steps = with_undo("a", "") + &command("b", "") + &with_undo("c", "") + &with_undo("d", "");
    let mut bench = bench(&steps);
    bench.succeed("a");
    bench.succeed("b");
    bench.fail("c");
    assert_eq!(bench.state.status, ExecutionStatus::RollingBack);
    assert_eq!(bench.open(), ["c.undo"]);
    bench.undo("c", AttemptOutcome::Succeeded);
    assert_eq!(bench.open(), ["a.undo"]);
    bench.crash();
    // An undo of unknown outcome may not be run blindly again: this one is at most once.
    assert_eq!(bench.state.status, ExecutionStatus::RollbackFailed);
    assert_eq!(bench.undone(), ["c.undo", "a.undo"]);
    assert_eq!(bench.state.reason, Some(Reason::StepFailed), "the reason is kept");
}

#[test]
fn an_idempotent_undo_goes_on_after_a_crash_and_ends_as_rolled_back() {
    let mut bench = bench(
        &(with_undo("a", "").replace("undo-a\" }", "undo-a\" }\neffect = \"idempotent\"")
            + &command("b", "")),
    );
    bench.succeed("a");
    bench.fail("b");
    bench.crash();
    assert_eq!(bench.open(), ["a.undo"]);
    bench.undo("a", AttemptOutcome::Succeeded);
    bench.check_end(ExecutionStatus::RolledBack, Some(Reason::StepFailed), &["succeeded", "failed"]);
}

#[test]
fn a_rollback_with_nothing_to_undo_ends_as_failed() {
    let mut bench = bench(&(command("a", "") + &with_undo("b", "")));
    bench.fail("a");
    bench.check_end(ExecutionStatus::Failed, Some(Reason::StepFailed), &["failed", "skipped"]);
}

#[test]
fn a_plain_stop_undoes_nothing_and_one_that_asks_for_it_undoes_all() {
    for (rollback, status) in [(false, ExecutionStatus::Stopped), (true, ExecutionStatus::RolledBack)] {
        let mut bench = bench(&(with_undo("a", "") + &command("b", "")));
        bench.succeed("a");
        bench.say(stop(rollback));
        bench.end("b", Part::MAIN, AttemptOutcome::Stopped);
        if rollback {
            bench.undo("a", AttemptOutcome::Succeeded);
        }
        bench.check_end(status, Some(Reason::Stopped), &["succeeded", "stopped"]);
    }
}

#[test]
fn after_an_irreversible_step_there_is_only_forward() {
    let mut bench = bench(&(with_undo("a", "") + &command("b", "irreversible = true") + &command("c", "")));
    bench.succeed("a");
    bench.succeed("b");
    bench.fail("c");
    bench.check_end(ExecutionStatus::Failed, Some(Reason::StepFailed), &["succeeded", "succeeded", "failed"]);
    assert!(bench.state.message.as_deref().unwrap().contains("step b is irreversible"));
}

#[test]
fn a_failed_verify_and_a_passed_deadline_go_the_rollback_way() {
    let verify = "[verify]\npromql = \"up\"\nexpect = \"== 1\"\nwithin = \"1m\"\n";
    let mut unproved = bench(&(with_undo("a", "") + verify));
    unproved.succeed("a");
    unproved.advance(60);
    unproved.undo("a", AttemptOutcome::Succeeded);
    unproved.check_end(ExecutionStatus::RolledBack, Some(Reason::NotVerified), &["succeeded"]);

    let mut late = bench(&with_undo("a", ""));
    late.advance(600);
    late.end("a", Part::MAIN, AttemptOutcome::TimedOut);
    late.undo("a", AttemptOutcome::Succeeded);
    late.check_end(ExecutionStatus::RolledBack, Some(Reason::Timeout), &["timed_out"]);
}

#[test]
fn an_undo_is_tried_again_as_it_says_and_its_failure_stops_the_chain() {
    let undo = with_undo("b", "") + "retry = { attempts = 2, initial = \"1s\" }\n";
    let mut bench = bench(&(with_undo("a", "") + &undo));
    bench.succeed("a");
    bench.fail("b");
    bench.undo("b", AttemptOutcome::Failed);
    assert_eq!(bench.state.status, ExecutionStatus::RollingBack);
    bench.advance(2);
    bench.undo("b", AttemptOutcome::Failed);
    assert_eq!(bench.state.status, ExecutionStatus::RollbackFailed);
    assert_eq!(bench.undone(), ["b.undo", "b.undo"], "a is not undone on top of half an undo");
}

#[test]
fn steps_that_do_not_wait_for_each_other_run_side_by_side() {
    let steps =
        command("a", "after = []") + &command("b", "after = []") + &command("c", "after = [\"a\", \"b\"]");
    let mut bench = bench(&steps);
    assert_eq!(bench.open(), ["a", "b"]);
    bench.succeed("b");
    assert_eq!(bench.open(), ["a"]);
    bench.succeed("a");
    assert_eq!(bench.open(), ["c"]);
    bench.succeed("c");
    bench.check_end(ExecutionStatus::Succeeded, None, &["succeeded"; 3]);
}

#[test]
fn a_failure_lets_what_runs_beside_it_end_and_then_undoes_both() {
    let mut bench =
        bench(&(with_undo("a", "after = []") + &with_undo("b", "after = []") + &command("c", "")));
    bench.fail("a");
    assert_eq!(bench.open(), ["b"], "nothing is cut that may be half done");
    assert_eq!(bench.state.status, ExecutionStatus::Running);
    bench.succeed("b");
    bench.undo("b", AttemptOutcome::Succeeded);
    bench.undo("a", AttemptOutcome::Succeeded);
    bench.check_end(
        ExecutionStatus::RolledBack,
        Some(Reason::StepFailed),
        &["failed", "succeeded", "skipped"],
    );
}

#[test]
fn finally_runs_whatever_happened_after_any_rollback_and_a_second_stop_ends_it() {
    let steps = with_undo("a", "") + &command("f", "finally = true");
    let mut failed = bench(&steps);
    failed.fail("a");
    failed.undo("a", AttemptOutcome::Succeeded);
    assert_eq!(failed.open(), ["f"]);
    failed.succeed("f");
    failed.check_end(ExecutionStatus::RolledBack, Some(Reason::StepFailed), &["failed", "succeeded"]);

    let mut stopped = bench(&steps);
    stopped.say(stop(false));
    stopped.end("a", Part::MAIN, AttemptOutcome::Stopped);
    assert_eq!(stopped.open(), ["f"], "also after a stop");
    stopped.say(stop(false));
    stopped.end("f", Part::MAIN, AttemptOutcome::Stopped);
    stopped.check_end(ExecutionStatus::Stopped, Some(Reason::Stopped), &["stopped", "stopped"]);

    let mut broken = bench(&steps);
    broken.succeed("a");
    broken.fail("f");
    broken.check_end(ExecutionStatus::Failed, Some(Reason::StepFailed), &["succeeded", "failed"]);
}

#[test]
fn a_list_is_worked_on_a_few_at_a_time_and_undone_item_by_item_in_reverse() {
    let list = "for_each = { items = [\"x\", \"y\", \"z\"], concurrency = 2 }";
    let mut bench = bench(&(with_undo("a", list) + &command("b", "")));
    assert_eq!(bench.open(), ["a.item0", "a.item1"]);
    bench.end("a", Part::item(1), AttemptOutcome::Succeeded);
    assert_eq!(bench.open(), ["a.item0", "a.item2"]);
    bench.end("a", Part::item(0), AttemptOutcome::Succeeded);
    bench.end("a", Part::item(2), AttemptOutcome::Succeeded);
    bench.fail("b");
    for item in [2, 1, 0] {
        bench.end("a", Part::item(item).with(Role::Undo), AttemptOutcome::Succeeded);
    }
    bench.check_end(ExecutionStatus::RolledBack, Some(Reason::StepFailed), &["succeeded", "failed"]);
    assert_eq!(bench.undone(), ["a.undo-item2", "a.undo-item1", "a.undo-item0"]);
}

#[test]
fn a_failed_item_lets_no_further_one_begin() {
    let list = "for_each = { items = [\"x\", \"y\", \"z\"] }";
    let mut bench = bench(&command("a", list));
    bench.end("a", Part::item(0), AttemptOutcome::Failed);
    bench.check_end(ExecutionStatus::Failed, Some(Reason::StepFailed), &["failed"]);
    let error = bench.state.steps[0].error.as_deref().unwrap();
    assert_eq!(error, "1 of 3 items failed, first \"x\"; 2 were not tried");
}

#[test]
fn an_empty_list_is_done_at_once() {
    let bench = bench(&command("a", "for_each = { items = \"{{ execution.target | replace('t', ' ') }}\" }"));
    bench.check_end(ExecutionStatus::Succeeded, None, &["succeeded"]);
}

#[test]
fn a_probe_says_what_became_of_an_unknown_outcome() {
    let probe = "probe = { command = { program = \"true\" } }";
    for (outcome, status) in [
        (AttemptOutcome::Succeeded, "succeeded"),
        (AttemptOutcome::Failed, "failed"),
        (AttemptOutcome::TimedOut, "unknown"),
    ] {
        let mut bench = bench(&command("a", probe));
        bench.crash();
        assert_eq!(bench.open(), ["a.probe"]);
        bench.crash();
        assert_eq!(bench.open(), ["a.probe"], "a probe only looks, so it looks again");
        bench.end("a", Part::MAIN.with(Role::Probe), outcome);
        assert_eq!(bench.statuses(), [status]);
    }
}

const WAIT: &str = "[[steps]]\nid = \"w\"\nwait = { for = \"60s\" }\n";

#[test]
fn no_time_passes_while_it_is_paused() {
    let mut bench = bench(WAIT);
    let deadline = bench.state.deadline.unwrap();
    bench.advance(20);
    bench.say(pause());
    bench.advance(3600);
    bench.crash();
    assert_eq!(bench.state.status, ExecutionStatus::Paused);
    bench.say(resumed());
    assert_eq!(bench.state.deadline, Some(after(deadline, Duration::from_secs(3600))));
    bench.advance(39);
    assert_eq!(bench.statuses(), ["waiting"]);
    bench.advance(1);
    bench.check_end(ExecutionStatus::Succeeded, None, &["succeeded"]);
}

#[test]
fn what_is_in_progress_when_it_is_paused_ends_and_nothing_else_begins() {
    let mut bench = bench(&(command("a", "") + &command("b", "")));
    bench.say(pause());
    bench.succeed("a");
    assert_eq!((bench.statuses(), bench.open()), (vec!["succeeded", "pending"], vec![]));
    bench.say(resumed());
    assert_eq!(bench.open(), ["b"]);
}

#[test]
fn a_failure_can_hold_the_execution_until_a_person_retries_or_skips() {
    let actor = || "me".to_owned();
    let mut bench = bench(&(command("a", "on_failure = \"pause\"") + &command("b", "")));
    bench.fail("a");
    assert_eq!((bench.state.status, bench.statuses()), (ExecutionStatus::Paused, vec!["failed", "pending"]));
    let step = StepId::new("a").unwrap();
    bench.say(Event::RetryRequested { step: step.clone(), actor: actor(), reason: String::new() });
    bench.say(resumed());
    assert_eq!(bench.state.steps[0].open[0].attempt, 2);
    bench.fail("a");
    let (why, reason) = (Skip::Person, Some(String::new()));
    bench.say(Event::StepSkipped { step, why, actor: Some(actor()), reason });
    bench.say(resumed());
    bench.succeed("b");
    bench.check_end(ExecutionStatus::Succeeded, None, &["skipped", "succeeded"]);
}

const APPROVE: &str =
    "[[steps]]\nid = \"ok\"\napprove = { message = \"may I?\", count = 2, expires = \"5m\" }\n";

#[test]
fn consent_needs_as_many_people_as_it_says_and_each_counts_once() {
    let mut bench = bench(&(APPROVE.to_owned() + &command("a", "")));
    assert_eq!(bench.state.status, ExecutionStatus::AwaitingApproval);
    let step = StepId::new("ok").unwrap();
    let hash = bench.state.steps[0].approval.as_ref().unwrap().hash.clone();
    let yes = |actor: &str, hash: &str| Event::Approved {
        step: step.clone(),
        actor: actor.into(),
        reason: String::new(),
        hash: hash.into(),
    };
    bench.say(yes("ann", &hash));
    let again = bench.record(yes("ann", &hash));
    assert!(matches!(again, Err(IllegalEvent::Consent { .. })));
    assert!(matches!(bench.record(yes("bob", "another plan")), Err(IllegalEvent::Consent { .. })));
    bench.say(yes("bob", &hash));
    assert_eq!((bench.state.status, bench.open()), (ExecutionStatus::Running, vec!["a".to_owned()]));
}

#[test]
fn refused_expired_and_resolved_consent_end_it_before_anything_changed() {
    let actor = || "ann".to_owned();
    let steps = APPROVE.to_owned() + &command("a", "");
    let step = StepId::new("ok").unwrap();
    let mut refused = bench(&steps);
    refused.say(Event::Rejected { step, actor: actor(), reason: "no".into() });
    refused.check_end(ExecutionStatus::Rejected, Some(Reason::Rejected), &["failed", "skipped"]);
    let mut late = bench(&steps);
    late.advance(300);
    late.check_end(ExecutionStatus::Expired, Some(Reason::ApprovalExpired), &["timed_out", "skipped"]);
    let mut resolved = bench(&steps);
    resolved.say(Event::AlertResolved);
    resolved.check_end(ExecutionStatus::Expired, Some(Reason::Resolved), &["stopped", "skipped"]);
}

#[test]
fn time_spent_waiting_for_people_does_not_count_against_the_whole_timeout() {
    let long = APPROVE.replace("5m", "2h").replace("count = 2", "count = 1");
    let mut bench = bench(&(long + &command("a", "")));
    let deadline = bench.state.deadline.unwrap();
    bench.advance(3600);
    assert_eq!(bench.state.status, ExecutionStatus::AwaitingApproval);
    let (step, actor, reason) = (StepId::new("ok").unwrap(), "ann".to_owned(), String::new());
    let hash = bench.state.steps[0].approval.as_ref().unwrap().hash.clone();
    bench.say(Event::Approved { step, actor, reason, hash });
    assert_eq!(bench.open(), ["a"]);
    assert_eq!(bench.state.deadline, Some(after(deadline, Duration::from_secs(3600))));
}

#[test]
fn consent_is_void_once_what_was_consented_to_is_changed() {
    let mut bench = bench(&(APPROVE.replace("count = 2", "count = 1") + &command("a", "")));
    let (step, actor, reason) = (StepId::new("ok").unwrap(), "ann".to_owned(), String::new());
    let hash = bench.state.steps[0].approval.as_ref().unwrap().hash.clone();
    bench.say(pause());
    bench.say(Event::Approved { step, actor: actor.clone(), reason: reason.clone(), hash });
    let change = crate::journal::Change { from: None, to: vec!["--force".to_owned()] };
    let args = BTreeMap::from([(StepId::new("a").unwrap(), change)]);
    bench.say(Event::Modified { actor, reason, inputs: BTreeMap::new(), args });
    bench.say(resumed());
    assert_eq!(bench.statuses(), ["waiting", "pending"], "it is asked for anew");
}

#[test]
fn an_instruction_waits_for_its_acknowledgement_and_times_out_without() {
    let text =
        "[[steps]]\nid = \"i\"\ninstruct = { text = \"look\", acknowledge = true }\ntimeout = \"1m\"\n";
    let mut done = bench(text);
    done.succeed("i");
    assert_eq!(done.statuses(), ["waiting"]);
    done.crash();
    let step = StepId::new("i").unwrap();
    done.say(Event::Acknowledged { step, actor: "me".into(), reason: String::new() });
    done.check_end(ExecutionStatus::Succeeded, None, &["succeeded"]);
    let mut alone = bench(text);
    alone.succeed("i");
    alone.advance(60);
    alone.check_end(ExecutionStatus::Failed, Some(Reason::StepFailed), &["timed_out"]);
}

#[test]
fn a_wait_for_a_condition_ends_with_it_or_with_its_timeout() {
    let text = "[[steps]]\nid = \"w\"\nwait = { until = { promql = \"up\", expect = \"== 1\", every = \"5s\" } }\ntimeout = \"1m\"\n";
    let step = StepId::new("w").unwrap();
    let seen = |holds| Event::StepObserved { step: step.clone(), holds, detail: "seen".into() };
    let mut good = bench(text);
    good.say(seen(false));
    good.say(seen(true));
    good.check_end(ExecutionStatus::Succeeded, None, &["succeeded"]);
    let mut bad = bench(text);
    bad.say(seen(false));
    bad.advance(60);
    bad.check_end(ExecutionStatus::Failed, Some(Reason::StepFailed), &["timed_out"]);
    assert!(bad.state.steps[0].error.as_deref().unwrap().ends_with("last seen: seen"));
}

#[test]
fn a_child_execution_outlives_a_crash() {
    let mut bench = bench("[[steps]]\nid = \"c\"\nrunbook = { id = \"other\" }\n");
    // The driver names the child in the intent; without one the attempt would be the step's own.
    bench.state.steps[0].open[0].child = ExecutionId::new("other_01ARZ3NDEKTSV4RRFFQ69G5FAV").ok();
    assert!(resume(&bench.runbook, &bench.state).is_empty(), "its own journal tells how it ends");
}

#[test]
fn a_child_is_told_of_a_stop_again_after_a_crash() {
    let text = |more| format!("[[steps]]\nid = \"c\"\nrunbook = {{ id = \"other\" }}\n{more}");
    let child = ExecutionId::new("other_01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap();
    let begun = |more| {
        let mut bench = bench(&text(more));
        bench.state.steps[0].open[0].child = Some(child.clone());
        bench
    };
    let doomed = |bench: &Bench| doomed(&bench.runbook, &bench.state);
    let mut proper = begun("");
    assert!(doomed(&proper).is_empty());
    proper.say(stop(false));
    assert_eq!(doomed(&proper), std::slice::from_ref(&child));
    let mut late = begun("timeout = \"1h\"\n");
    late.advance(600);
    assert_eq!(doomed(&late), std::slice::from_ref(&child));
    // What tidies up goes on, until it is stopped too.
    let mut tidy = begun("finally = true\n");
    tidy.state.stop = proper.state.stop.clone();
    assert!(doomed(&tidy).is_empty());
    tidy.say(stop(false));
    assert_eq!(doomed(&tidy), [child]);
}

#[test]
fn a_rollback_of_a_finished_execution_undoes_what_that_one_began() {
    let text = format!("{HEAD}{}{}", with_undo("a", ""), with_undo("b", ""));
    let mut first = Bench::new(&text);
    first.start();
    first.succeed("a");
    first.succeed("b");
    let ask =
        crate::engine::verb::Ask::new(crate::engine::verb::Verb::Rollback, Default::default(), "undo it");
    let id = ExecutionId::new("r_01ARZ3NDEKTSV4RRFFQ69G5FAX").unwrap();
    let (what, patience) = (crate::engine::verb::Anew::Rollback, Duration::from_secs(600));
    let created =
        crate::engine::verb::created(&first.runbook, &first.state, what, &ask, id, 1, first.now, patience);
    let mut second = Bench::new(&text);
    let created = Box::new(created);
    second.journal = vec![Entry { seq: 1, at: second.now, event: Event::Created(created.clone()) }];
    second.state = State::new(created, second.now);
    second.start();
    assert_eq!(second.open(), ["b.undo"]);
    second.undo("b", AttemptOutcome::Succeeded);
    second.undo("a", AttemptOutcome::Succeeded);
    second.check_end(ExecutionStatus::RolledBack, None, &["succeeded", "succeeded"]);
}

#[test]
fn a_finally_step_may_ask_for_consent_after_a_rollback() {
    let ask = "[[steps]]\nid = \"c\"\napprove = { message = \"Page the owner?\" }\nfinally = true\n";
    let mut bench = bench(&format!("{}{}{ask}", with_undo("a", ""), command("b", "")));
    bench.succeed("a");
    bench.fail("b");
    bench.undo("a", AttemptOutcome::Succeeded);
    assert_eq!(bench.state.status, ExecutionStatus::RollingBack);
    let hash = bench.state.steps[2].approval.as_ref().expect("it asks").hash.clone();
    let (step, actor, reason) = (StepId::new("c").unwrap(), "me".into(), "yes".into());
    bench.say(Event::Approved { step, actor, reason, hash });
    bench.check_end(
        ExecutionStatus::RolledBack,
        Some(Reason::StepFailed),
        &["succeeded", "failed", "succeeded"],
    );
}

#[test]
fn a_child_that_has_not_begun_waits_for_no_time() {
    let mut bench = Bench::new(&format!("{HEAD}{}", command("a", "")));
    let created = &mut bench.state.created;
    created.queue_deadline = bench.now;
    let (id, root) = (created.id.clone(), created.id.clone());
    created.parent = Some(crate::journal::Parent {
        id,
        index: 0,
        part: Part::MAIN,
        attempt: 1,
        depth: 1,
        root,
        automatic: true,
    });
    // A time that has passed would have it looked at again at once, and again.
    assert_eq!(bench.settle(), Next::Idle { wake: None });
}

#[test]
fn a_step_waits_for_what_comes_before_a_step_that_a_person_skipped() {
    let mut bench = bench(&format!("{}{}{}", command("a", ""), command("b", ""), command("c", "")));
    bench.say(pause());
    let (step, actor) = (StepId::new("b").unwrap(), Some("me".into()));
    bench.say(Event::StepSkipped { step, why: Skip::Person, actor, reason: None });
    bench.say(resumed());
    assert_eq!(bench.open(), ["a"]);
    bench.succeed("a");
    assert_eq!(bench.open(), ["c"]);
}

#[test]
fn what_waits_for_a_slot_holds_up_neither_timers_nor_people() {
    let ask = "[[steps]]\nid = \"c\"\napprove = { message = \"May I?\", expires = \"1h\" }\nafter = []\n";
    let mut bench = Bench::new(&format!("{HEAD}{}{ask}", command("a", "")));
    let deadline = after(bench.now, Duration::from_secs(600));
    bench.record(Event::Started { deadline }).unwrap();
    assert!(matches!(next(&bench.runbook, &bench.state, bench.now), Next::Begin { index: 0, .. }));
    assert_eq!(next_beside(&bench.runbook, &bench.state, bench.now), Next::Ask { index: 1 });
    let (step, until) = (StepId::new("c").unwrap(), after(bench.now, Duration::from_secs(3600)));
    let (plan, hash) = (String::new(), String::new());
    bench.record(Event::ApprovalRequested { step, plan, hash, until }).unwrap();
    // The time people take is not the runbook's: its own deadline is no reason to look again.
    bench.now = after(bench.now, Duration::from_secs(700));
    let idle = next_beside(&bench.runbook, &bench.state, bench.now);
    assert_eq!(idle, Next::Idle { wake: Some(until) });
}
