//! Any runbook, any order of what attempts, time, crashes and people do: the promises hold and it ends.

use super::*;
use crate::engine::verb::{self, Actor, Answer, Ask, Verb};
use crate::model::Role;
use proptest::prelude::*;
use std::collections::BTreeSet;

#[derive(Debug, Clone)]
struct Draft {
    kind: usize,
    on_failure: &'static str,
    when: bool,
    after: u8,
    retry: bool,
    undo: u8,
    list: bool,
    special: u8,
}

#[derive(Debug, Clone)]
struct Plan {
    on_resolved: &'static str,
    verify: bool,
    steps: Vec<Draft>,
}

const KINDS: [&str; 8] = [
    "command = { program = \"true\" }",
    "command = { program = \"true\" }\neffect = \"idempotent\"",
    "command = { program = \"true\" }\neffect = \"keyed\"",
    "http = { url = \"http://127.0.0.1/\" }",
    "wait = { for = \"20s\" }",
    "approve = { message = \"may I?\", expires = \"1m\" }",
    "instruct = { text = \"look\", acknowledge = true }",
    "wait = { until = { promql = \"up\", expect = \"== 1\" } }",
];

impl Draft {
    fn text(&self, index: usize, name: &str) -> String {
        let attempts = self.kind < 4;
        let changing = self.kind < 3;
        let is_finally = self.special == 1 && index > 0 && attempts;
        let mut text = format!("[[steps]]\nid = \"{name}\"\n{}\n", KINDS[self.kind]);
        if is_finally {
            return text + "finally = true\n";
        }
        text += &format!("on_failure = \"{}\"\n", self.on_failure);
        match self.after {
            0 => text += "after = []\n",
            1 if self.when && index > 0 => text += &format!("when = \"execution.version == {index}\"\n"),
            _ => {}
        }
        if self.retry && attempts {
            text += "retry = { attempts = 3, initial = \"5s\" }\n";
        }
        if self.list && attempts {
            text += "for_each = { items = [\"x\", \"y\", \"z\"], concurrency = 2 }\n";
        }
        match self.special {
            2 if changing => text += "probe = { command = { program = \"true\" } }\n",
            3 if changing && self.undo == 0 => text += "irreversible = true\n",
            _ => {}
        }
        if changing && self.undo > 0 {
            let effect = if self.undo == 1 { "at_most_once" } else { "idempotent" };
            text += &format!("[steps.undo]\ncommand = {{ program = \"true\" }}\neffect = \"{effect}\"\n");
        }
        text
    }
}

impl Plan {
    fn text(&self) -> String {
        let mut text = format!(
            "mode = \"auto\"\ntarget = \"t\"\ntimeout = \"5m\"\non_resolved = \"{}\"\n",
            self.on_resolved
        );
        for (index, step) in self.steps.iter().enumerate() {
            text += &step.text(index, &format!("s{index}"));
        }
        if self.verify {
            text += "[verify]\npromql = \"up\"\nexpect = \"== 1\"\nwithin = \"1m\"\nhold = \"10s\"\n";
        }
        text
    }
}

fn plans() -> impl Strategy<Value = Plan> {
    let on_failure = prop::sample::select(vec!["continue", "stop", "rollback", "rollback", "pause"]);
    let step = (0..KINDS.len(), on_failure, any::<bool>(), 0..4_u8, any::<bool>(), 0..3_u8, 0..4_u8, 0..5_u8);
    let step = step.prop_map(|(kind, on_failure, when, after, retry, undo, list, special)| Draft {
        kind,
        on_failure,
        when,
        after,
        retry,
        undo,
        list: list == 0,
        special,
    });
    let on_resolved = prop::sample::select(vec!["finish", "continue", "stop", "rollback"]);
    (on_resolved, any::<bool>(), prop::collection::vec(step, 1..5))
        .prop_map(|(on_resolved, verify, steps)| Plan { on_resolved, verify, steps })
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Start,
    End(AttemptOutcome, usize),
    Advance(u64),
    Resolve,
    Observe(bool),
    Crash,
    Say(Verb, usize, bool),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let outcome = prop::sample::select(vec![
        AttemptOutcome::Succeeded,
        AttemptOutcome::Succeeded,
        AttemptOutcome::Failed,
        AttemptOutcome::TimedOut,
    ]);
    let often = vec![Verb::Pause, Verb::Resume, Verb::Approve, Verb::Acknowledge, Verb::Retry, Verb::Skip];
    let verb = prop_oneof![2 => prop::sample::select(often), 1 => prop::sample::select(Verb::ALL.to_vec())];
    let act = prop_oneof![
        2 => Just(Act::Start),
        9 => (outcome, 0..3_usize).prop_map(|(outcome, which)| Act::End(outcome, which)),
        3 => (0..90_u64).prop_map(Act::Advance),
        1 => Just(Act::Resolve),
        2 => any::<bool>().prop_map(Act::Observe),
        2 => Just(Act::Crash),
        4 => (verb, 0..5_usize, any::<bool>()).prop_map(|(verb, step, named)| Act::Say(verb, step, named)),
    ];
    prop::collection::vec(act, 0..50)
}

impl Bench {
    fn act(&mut self, act: Act) {
        match act {
            Act::Start if self.state.status == ExecutionStatus::Queued => self.start(),
            Act::Start => {}
            Act::End(outcome, which) => self.end_some(outcome, which),
            Act::Advance(seconds) => self.advance(seconds),
            Act::Resolve => self.tell(Event::AlertResolved),
            Act::Observe(holds) => self.observe(holds),
            Act::Crash => self.crash(),
            Act::Say(verb, step, named) => self.person(verb, step, named),
        }
    }

    fn tell(&mut self, event: Event) {
        self.record(event).unwrap();
        self.settle();
    }

    fn end_some(&mut self, outcome: AttemptOutcome, which: usize) {
        let open: Vec<(usize, Part, u32)> = self
            .state
            .steps
            .iter()
            .enumerate()
            .flat_map(|(index, step)| step.open.iter().map(move |open| (index, open.part, open.attempt)))
            .collect();
        let Some((index, part, attempt)) = open.get(which % open.len().max(1)).copied() else { return };
        // What was told to end does; undos are left alone.
        let killed = part.role != Role::Undo && (self.state.deadline_passed || self.is_being_killed(index));
        let outcome = if killed { AttemptOutcome::Stopped } else { outcome };
        let step = self.state.created.steps[index].id.clone();
        let result = Box::new(AttemptResult::plain(outcome, String::new(), None));
        self.tell(Event::AttemptFinished { step, part, attempt, result });
    }

    fn is_being_killed(&self, index: usize) -> bool {
        let is_finally = self.runbook.steps[index].is_finally;
        self.state.stop.is_some() && (!is_finally || self.state.cut_short)
    }

    fn observe(&mut self, holds: bool) {
        let detail = String::new();
        if self.state.status == ExecutionStatus::Verifying {
            return self.tell(Event::VerifyObserved { holds, detail });
        }
        let waits = |index: &usize| {
            let until = matches!(self.runbook.steps[*index].kind, Kind::Until(_));
            until && self.state.steps[*index].status == StepStatus::Waiting
        };
        let waiting =
            (0..self.state.steps.len()).find(waits).filter(|_| self.state.status != ExecutionStatus::Paused);
        if let Some(index) = waiting {
            let step = self.state.created.steps[index].id.clone();
            self.tell(Event::StepObserved { step, holds, detail });
        }
    }

    /// What an answer names must always fit.
    fn person(&mut self, verb: Verb, step: usize, named: bool) {
        let actor = Actor { subject: format!("person{step}"), ..Actor::default() };
        let mut ask = Ask::new(verb, actor, "because");
        let needs_step = matches!(verb, Verb::Retry | Verb::Skip | Verb::Modify);
        ask.step = (named || needs_step).then(|| StepId::new(&format!("s{step}")).unwrap());
        ask.args = (verb == Verb::Modify).then(|| vec!["--force".to_owned()]);
        let answer = verb::answer(&self.runbook, &self.state, self.now, &ask);
        if let Answer::Record(events) = answer {
            for event in events {
                self.record(event).expect("a verb names an event that does not fit");
            }
            self.settle();
        }
    }

    /// The journal's intents: step, part and attempt, with what was known when each was made.
    fn check(&self) {
        assert_eq!(State::replay(self.journal.clone()).unwrap(), self.state, "replay tells another story");
        let mut seen: Option<State> = None;
        let mut begun: Vec<(StepId, Part)> = Vec::new();
        let mut undone = Vec::new();
        for entry in &self.journal {
            assert_eq!(&decode(&encode(entry).unwrap()).unwrap(), entry, "stored and read back it differs");
            if let (Event::StepIntended { step, part, attempt, .. }, Some(state)) = (&entry.event, &seen) {
                self.check_intent(state, step, *part, *attempt);
                let list = if part.role == Role::Undo { &mut undone } else { &mut begun };
                let named = (step.clone(), part.with(Role::Main));
                if part.role != Role::Probe && !list.contains(&named) {
                    list.push(named);
                }
            }
            match &mut seen {
                None => seen = Some(State::new(self.state.created.clone(), entry.at)),
                Some(state) => state.apply(entry).unwrap(),
            }
        }
        let order = |named: &(StepId, Part)| begun.iter().position(|begun| begun == named).unwrap();
        let order: Vec<usize> = undone.iter().map(order).collect();
        assert!(
            order.is_sorted_by(|one, next| one > next),
            "not undone in the reverse order: {undone:?} of {begun:?}"
        );
        if self.state.status.is_final() && self.state.started_at.is_some() {
            let is_done = |step: &StepState| step.is_over() && step.open.is_empty();
            assert!(self.state.steps.iter().all(is_done), "a final execution has an open step");
        }
    }

    /// What must be true of every intent in the state it met.
    fn check_intent(&self, state: &State, step: &StepId, part: Part, attempt: u32) {
        let index = state.index_of(step).unwrap();
        let seen = &state.steps[index];
        let is_finally = self.runbook.steps[index].is_finally;
        assert!(state.status != ExecutionStatus::Paused, "it begins while it is held");
        let ending = state.stop.is_some() || state.deadline_passed || state.ending.is_some();
        let allowed = part.role == Role::Undo || (is_finally && !state.cut_short);
        assert!(!ending || allowed, "{step} {part} begins after the execution was to end");
        if part.role == Role::Undo {
            assert_eq!(state.status, ExecutionStatus::RollingBack);
            let irreversible = |index: usize| self.runbook.steps[index].irreversible;
            let begun: BTreeSet<usize> = state.begun().into_iter().map(|(index, _)| index).collect();
            assert!(!begun.into_iter().any(irreversible), "after an irreversible step there is only forward");
        }
        let before = seen.attempts.iter().rev().find(|before| before.part == part);
        let effect = match part.role {
            Role::Main => state.effect(index),
            Role::Probe => Effect::ReadOnly,
            Role::Undo => self.runbook.steps[index].undo.as_ref().unwrap().effect,
        };
        match before.map(|before| (before.result.outcome, before.attempt)) {
            None => assert_eq!(attempt, 1),
            Some((AttemptOutcome::Interrupted, number)) => {
                assert_eq!(attempt, number, "a re-run changed its number");
                assert!(effect != Effect::AtMostOnce, "an at_most_once attempt was begun twice");
            }
            Some((outcome, number)) => {
                assert_eq!(attempt, number + 1, "a number was left out or used again");
                let asked = seen.since > 0;
                assert!(
                    outcome != AttemptOutcome::Unknown || asked || part.role == Role::Probe,
                    "a blind second run"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_order_of_inputs_keeps_the_promises_and_comes_to_an_end(plan in plans(), acts in acts()) {
        let mut bench = Bench::new(&plan.text());
        bench.settle();
        for act in acts {
            if bench.state.status.is_final() {
                break;
            }
            bench.act(act);
        }
        bench.check();
        // Left alone with time passing and attempts ending, every execution comes to an end; one that is held
        // waits for a person.
        for _ in 0..200 {
            if bench.state.status.is_final() { break; }
            if bench.state.status == ExecutionStatus::Paused { bench.person(Verb::Stop, 0, false); }
            if bench.state.has_open_attempt() { bench.end_some(AttemptOutcome::Succeeded, 0); } else { bench.advance(60); }
        }
        prop_assert!(bench.state.status.is_final(), "{:?}", bench.state);
        bench.check();
        prop_assert_eq!(next(&bench.runbook, &bench.state, bench.now), Next::Done);
        let late = bench.record(Event::AlertResolved);
        prop_assert!(matches!(late, Err(IllegalEvent::Final { .. })), "final is final");
    }

    #[test]
    fn apply_never_panics_and_an_illegal_event_changes_nothing(plan in plans(), picks in prop::collection::vec((0..12_u8, 0..6_usize, any::<bool>()), 0..40)) {
        let mut bench = Bench::new(&plan.text());
        for (pick, index, flag) in picks {
            let step = StepId::new(&format!("s{index}")).unwrap();
            let at = bench.now;
            let event = match pick {
                0 => Event::Started { deadline: at },
                1 => Event::StepSkipped { step, why: Skip::When, actor: None, reason: None },
                2 => Event::StepIntended {
                    step, part: Part::MAIN, attempt: u32::from(flag), deadline: at, total: None,
                    plan: String::new(), breaker: None, child: None,
                },
                3 => Event::TimerStarted { step, until: at },
                4 | 5 => Event::AttemptFinished {
                    step,
                    part: Part::MAIN,
                    attempt: u32::from(flag),
                    result: Box::new(AttemptResult::plain(
                        if pick == 4 { AttemptOutcome::Interrupted } else { AttemptOutcome::Failed },
                        String::new(),
                        None,
                    )),
                },
                6 => Event::StepFinished { step, status: StepStatus::Failed, reason: None, error: None },
                7 => Event::AlertResolved,
                8 => Event::DeadlinePassed,
                9 => Event::VerifyStarted { until: at },
                10 => Event::VerifyObserved { holds: flag, detail: String::new() },
                _ => Event::Finished {
                    status: if flag { ExecutionStatus::Failed } else { ExecutionStatus::Running },
                    reason: None, message: None,
                },
            };
            let before = bench.state.clone();
            if bench.record(event).is_err() {
                prop_assert_eq!(&before, &bench.state);
            }
        }
    }
}
