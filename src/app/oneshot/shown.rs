//! One execution as the terminal shows it: its events in words, its output as it comes, its end as an exit code.
//!
//! Nobody can be asked here: what would wait for a person says so, and Ctrl-C stops it. May import: as its parent.
//! Must never: hold anything up because its reader is gone.

use super::say;
use crate::engine::Engine;
use crate::engine::verb::Actor;
use crate::journal::{Event, State};
use crate::model::{ExecutionId, ExecutionStatus, Part, StepId, StepStatus};
use crate::runbook::{Kind, Runbook};
use crate::step::{LiveOutput, OutputStream, Runner};
use crate::store::records::Records;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long output may wait to be shown.
const PACE: Duration = Duration::from_millis(50);

/// The execution as the terminal shows it.
pub(super) struct Shown {
    engine: Engine,
    records: Records,
    runner: Arc<Runner>,
    outputs: PathBuf,
    runbook: Runbook,
    id: ExecutionId,
    /// The number of the last event shown.
    after: u64,
    /// What has been shown of the attempts in progress.
    live: BTreeMap<(StepId, Part), Live>,
}

/// What has been shown of an attempt in progress.
struct Live {
    attempt: u32,
    output: Option<LiveOutput>,
    stdout: u64,
    stderr: u64,
}

impl Shown {
    pub(super) fn new(
        engine: Engine,
        records: Records,
        runner: Arc<Runner>,
        outputs: PathBuf,
        runbook: Runbook,
        id: ExecutionId,
    ) -> Self {
        Self { engine, records, runner, outputs, runbook, id, after: 0, live: BTreeMap::new() }
    }

    /// Shows it to its end; the exit code.
    pub(super) async fn follow(
        mut self,
        mut news: tokio::sync::broadcast::Receiver<ExecutionId>,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<i32, String> {
        loop {
            let entries =
                self.records.journal(&self.id, self.after, 1000).await.map_err(|error| error.to_string())?;
            for entry in entries {
                self.after = entry.seq;
                self.pump(out, err);
                self.show(&entry.event, out, err);
                if matches!(entry.event, Event::Finished { .. }) {
                    return self.code(err).await;
                }
            }
            tokio::select! {
                // Lagging or not, the journal is read again.
                _ = news.recv() => {}
                () = tokio::time::sleep(PACE) => self.pump(out, err),
                // A second one also ends what runs whatever happens.
                _ = tokio::signal::ctrl_c() => {
                    let (engine, id) = (self.engine.clone(), self.id.clone());
                    let you = Actor { subject: "command line".to_owned(), ..Actor::default() };
                    tokio::spawn(async move { engine.stop(&id, you, "interrupted").await.map(|_| ()) });
                }
            }
        }
    }

    fn show(&mut self, event: &Event, out: &mut dyn Write, err: &mut dyn Write) {
        match event {
            Event::StepIntended { step, part, attempt, plan, .. } => {
                say(err, &format!("==> {}: {plan}\n", named(step, *part)));
                let fresh = Live { attempt: *attempt, output: None, stdout: 0, stderr: 0 };
                self.live.insert((step.clone(), *part), fresh);
                self.pump(out, err);
            }
            Event::AttemptFinished { step, part, result, .. } => {
                let seen = self.live.remove(&(step.clone(), *part));
                let (stdout, stderr) = seen.map_or((0, 0), |seen| (seen.stdout, seen.stderr));
                self.rest(&result.stdout, stdout, out);
                self.rest(&result.stderr, stderr, err);
                if let Some(error) = &result.error {
                    say(err, &format!("    {error}\n"));
                }
            }
            event => {
                let text = sentence(&self.runbook, event);
                if !text.is_empty() {
                    say(err, &text);
                }
            }
        }
    }

    /// What has not been shown of an output that is complete.
    fn rest(&self, kept: &crate::journal::Output, seen: u64, to: &mut dyn Write) {
        let all = match &kept.file {
            Some(name) => std::fs::read(self.outputs.join(name)).unwrap_or_default(),
            None => kept.head.clone().into_bytes(),
        };
        let rest = all.get(usize::try_from(seen).unwrap_or(usize::MAX)..).unwrap_or_default();
        let _gone = to.write_all(rest).and_then(|()| to.flush());
    }

    /// Shows what has come since the last time.
    fn pump(&mut self, out: &mut dyn Write, err: &mut dyn Write) {
        for ((step, part), live) in &mut self.live {
            if live.output.is_none() {
                live.output = self.runner.live(&self.id, step, *part, live.attempt);
            }
            if let Some(output) = &live.output {
                copy(output, OutputStream::Stdout, &mut live.stdout, out);
                copy(output, OutputStream::Stderr, &mut live.stderr, err);
            }
        }
    }

    /// The failed command's exit code, else 0 for success and 1 for anything else.
    async fn code(&self, err: &mut dyn Write) -> Result<i32, String> {
        let entries =
            self.records.journal(&self.id, 0, usize::MAX).await.map_err(|error| error.to_string())?;
        let state = State::replay(entries).map_err(|error| error.to_string())?;
        let reason = state.reason.map(|reason| format!(": {}", reason.sentence())).unwrap_or_default();
        say(err, &format!("==> {}{reason}\n", state.status));
        if state.status == ExecutionStatus::Succeeded {
            return Ok(0);
        }
        let failed = state.steps.iter().rev().find(|step| step.status == StepStatus::Failed);
        let code = failed.and_then(|step| step.last()).and_then(|attempt| attempt.result.exit_code);
        Ok(code.filter(|code| *code != 0).unwrap_or(1))
    }
}

/// An event in words; nothing for one that another line tells.
fn sentence(runbook: &Runbook, event: &Event) -> String {
    match event {
        Event::StepSkipped { step, why, .. } => format!("==> {step}: skipped ({})\n", why.as_str()),
        Event::ItemsListed { step, items } => format!("==> {step}: for each of: {}\n", items.join(", ")),
        Event::StepFinished { step, status, error, .. } => {
            let error = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            format!("    {step} {status}{error}\n")
        }
        Event::PartFinished { step, part, status, error } => {
            let error = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            format!("    {} {status}{error}\n", named(step, *part))
        }
        Event::RetryScheduled { step, part, attempt, at } => {
            format!("    {}: attempt {attempt} at {at}\n", named(step, *part))
        }
        Event::TimerStarted { step, until } => {
            let asks = runbook.steps.iter().any(|known| {
                known.id == *step && matches!(known.kind, Kind::Instruct { acknowledge: true, .. })
            });
            if asks {
                unanswered(&format!("{step}: an acknowledgement is awaited until {until}"))
            } else {
                format!("==> {step}: waits until {until}\n")
            }
        }
        Event::ApprovalRequested { step, plan, until, .. } => {
            let plan: String = plan.lines().map(|line| format!("    {line}\n")).collect();
            plan + &unanswered(&format!("{step}: consent is awaited until {until}"))
        }
        Event::Paused { reason, .. } => unanswered(&format!("paused: {reason}; a person must decide")),
        Event::DeadlinePassed => "==> the whole timeout passed\n".to_owned(),
        Event::RollbackStarted => "==> rollback: what was done is undone, the last first\n".to_owned(),
        Event::StopRequested { .. } => "==> stopping\n".to_owned(),
        Event::VerifyStarted { until } => format!("==> verify, until {until}\n"),
        Event::VerifyObserved { detail, .. } | Event::StepObserved { detail, .. } => {
            format!("    {detail}\n")
        }
        _ => String::new(),
    }
}

/// Nobody can answer a run without a server.
fn unanswered(what: &str) -> String {
    format!("==> {what}, which only a server can be given: Ctrl-C stops\n")
}

/// The step, and which part of it where that is not the step itself.
fn named(step: &StepId, part: Part) -> String {
    if part.is_main() { step.to_string() } else { format!("{step} {part}") }
}

/// Writes what has come since `offset`.
fn copy(output: &LiveOutput, which: OutputStream, offset: &mut u64, to: &mut dyn Write) {
    while let Ok(piece) = output.read(which, *offset, 64 << 10)
        && !piece.bytes.is_empty()
    {
        *offset = piece.start + piece.bytes.len() as u64;
        let _gone = to.write_all(&piece.bytes).and_then(|()| to.flush());
    }
}
