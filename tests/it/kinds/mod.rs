//! The kinds that reach beyond this machine's processes, against the real programs they reach.
//!
//! The runner is used as the daemon uses it, but for being the subreaper of this process: its other tests have
//! children too.

mod silence;
mod ssh;

use runbookd::app::SystemClock;
use runbookd::model::{ExecutionId, Part, RunbookId, StepId};
use runbookd::step::{
    AttemptContext, Call, Dirs, Finished, HttpClient, KillSignal, OutgoingPolicy, Runner, Ways,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use ulid::Ulid;

/// A runner with a directory of its own.
struct Bench {
    root: TempDir,
    runner: Runner,
    execution: ExecutionId,
}

impl Bench {
    fn new(client: HttpClient, ways: impl FnOnce(Ways) -> Ways) -> Self {
        let root = tempfile::tempdir().unwrap();
        let dirs = Arc::new(Dirs::prepare(root.path()).unwrap());
        let allowed = OutgoingPolicy::parse_entry("127.0.0.1").unwrap();
        let policy = Arc::new(OutgoingPolicy::new(vec![allowed]));
        let runner = Runner::new(dirs, client, policy, ways(Ways::none(Arc::new(SystemClock))));
        let execution = ExecutionId::of(&RunbookId::new("kinds").unwrap(), Ulid::generate());
        Self { root, runner, execution }
    }

    fn context(&self, timeout: Duration) -> AttemptContext {
        AttemptContext {
            execution: self.execution.clone(),
            step: StepId::new("step").unwrap(),
            part: Part::MAIN,
            attempt: 1,
            idempotency_key: format!("{}.step.1", self.execution),
            timeout,
            amx: BTreeMap::new(),
        }
    }

    async fn run(&self, call: Call) -> Finished {
        self.run_for(call, Duration::from_secs(60)).await
    }

    async fn run_for(&self, call: Call, timeout: Duration) -> Finished {
        let finished = self.runner.run(&self.context(timeout), &call, KillSignal::never()).await;
        let left = std::fs::read_dir(self.root.path().join("work")).unwrap().count();
        assert_eq!(left, 0, "a private directory is left");
        finished
    }

    /// All of what an attempt printed.
    fn stdout(&self, finished: &Finished) -> Vec<u8> {
        finished.stdout.file.as_ref().map_or_else(
            || finished.stdout.head.clone(),
            |name| std::fs::read(self.root.path().join("outputs").join(name)).unwrap(),
        )
    }
}
