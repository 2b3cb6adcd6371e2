//! The runbooks of the stories. `<< … >>` stands for a script that can write lines into the ledger (`ledger::fill`),
//! `@far@` for the far side, `@dir@` for the test's directory.
//!
//! May import: nothing. Must never: take longer than a second or two, or write to the ledger but by `line`.

/// One step of every effect class, one after the other.
pub(super) const CLASSES: &str = r#"
[[steps]]
id = "idem"
effect = "idempotent"
<< line begin; sleep 0.05; line end >>
[[steps]]
id = "once"
<< line begin; sleep 0.03 >>
[[steps]]
id = "nap"
wait = { for = "100ms" }
[[steps]]
id = "keyed"
effect = "keyed"
<< line begin; sleep 0.05; line end >>
[[steps]]
id = "look"
effect = "read_only"
<< line begin; line end >>
[[steps]]
id = "last"
<< line begin >>
"#;

/// What needs no process: requests, checks, a text; requests that change something carry their key.
pub(super) const FAR: &str = r#"
[[steps]]
id = "get"
http = { url = "http://@far@/{{ execution.id }}/get" }
[[steps]]
id = "put"
http = { method = "PUT", url = "http://@far@/{{ execution.id }}/put", body = "x" }
[[steps]]
id = "keyed"
effect = "keyed"
http = { method = "POST", url = "http://@far@/{{ execution.id }}/keyed", json = { target = "{{ labels.target }}" } }
[[steps]]
id = "is_there"
check = { file_exists = "@dir@/runbookd.toml", must = true }
[[steps]]
id = "is_true"
check = { expr = "steps.put.ok", must = true }
[[steps]]
id = "says_yes"
check = { command = { program = "true" }, must = true }
[[steps]]
id = "text"
instruct = { text = "Look at {{ labels.target }}." }
[[steps]]
id = "post"
http = { method = "POST", url = "http://@far@/{{ execution.id }}/post", json = { target = "{{ labels.target }}" } }
[[steps]]
id = "plain"
effect = "idempotent"
command = { program = "true", args = ["{{ labels.target }}"] }
"#;

/// A failure to go on after, one to stop at.
pub(super) const FAILING: &str = r#"
[[steps]]
id = "unlucky"
effect = "idempotent"
on_failure = "continue"
<< line begin; exit 3 >>
[[steps]]
id = "only_if_fine"
when = "steps.unlucky.ok"
effect = "idempotent"
command = { program = "true" }
[[steps]]
id = "slow"
effect = "idempotent"
timeout = "100ms"
on_failure = "stop"
<< line begin; exec sleep 20 >>
[[steps]]
id = "never"
<< line begin >>
"#;

/// Tried again after an exit code, after a timeout, after none that the policy names, and at most once each time.
pub(super) const RETRIED: &str = r#"
[[steps]]
id = "flaky"
effect = "idempotent"
retry = { attempts = 3, initial = "10ms", max = "20ms", retry_on = ["exit:75"] }
<< line begin; [ $RUNBOOKD_ATTEMPT = 1 ] && exit 75; line end >>
[[steps]]
id = "late"
effect = "idempotent"
on_failure = "continue"
timeout = "100ms"
retry = { attempts = 2, initial = "10ms", max = "20ms", retry_on = ["timeout"] }
<< line begin; exec sleep 20 >>
[[steps]]
id = "wrong"
effect = "keyed"
on_failure = "continue"
retry = { attempts = 3, initial = "10ms", retry_on = ["exit:75"] }
<< line begin; exit 1 >>
[[steps]]
id = "careful"
retry = { attempts = 2, initial = "10ms", max = "20ms" }
<< line begin; [ $RUNBOOKD_ATTEMPT = 2 ] >>
"#;

/// A failure undoes what was done, the failed step first; undos have classes and retries of their own.
pub(super) const UNDONE: &str = r#"
[[steps]]
id = "a"
effect = "keyed"
<< line begin >>
[steps.undo]
effect = "keyed"
<< line begin; line end >>
[[steps]]
id = "b"
<< line begin >>
[steps.undo]
effect = "idempotent"
retry = { attempts = 2, initial = "10ms", max = "20ms" }
<< line begin; [ $RUNBOOKD_ATTEMPT = 2 ]; line end >>
[[steps]]
id = "c"
effect = "idempotent"
<< line begin >>
[steps.undo]
<< line begin; line end >>
[[steps]]
id = "d"
effect = "idempotent"
<< line begin; exit 3 >>
[steps.undo]
effect = "idempotent"
<< line begin; line end >>
[[steps]]
id = "never"
<< line begin >>
[[steps]]
id = "sweep"
effect = "idempotent"
finally = true
<< line begin; line end >>
"#;

/// Behind the point of no return nothing is undone.
pub(super) const FINAL: &str = r#"
[[steps]]
id = "a"
effect = "idempotent"
<< line begin >>
[steps.undo]
effect = "idempotent"
<< line begin >>
[[steps]]
id = "b"
effect = "keyed"
irreversible = true
<< line begin; line end >>
[[steps]]
id = "c"
effect = "idempotent"
<< line begin; exit 1 >>
[[steps]]
id = "sweep"
finally = true
<< line begin >>
"#;

/// Questions to Prometheus, a silence, and a proof that fails: all of it is taken back.
pub(super) const UNPROVEN: &str = r#"
[[steps]]
id = "ask"
promql = { query = "up", expect = "== 1" }
[[steps]]
id = "until_up"
wait = { until = { promql = "up", expect = "== 1", every = "100ms" } }
[[steps]]
id = "until_there"
wait = { until = { http = { url = "http://@far@/quiet" }, every = "100ms" } }
[[steps]]
id = "hush"
silence = { matchers = ['target={{ labels.target | promql }}'], for = "10m", comment = "{{ execution.id }}" }
[[steps]]
id = "act"
effect = "idempotent"
<< line begin; line end >>
[steps.undo]
effect = "idempotent"
<< line begin; line end >>
[verify]
promql = "never"
expect = "== 1"
within = "250ms"
"#;

/// Items two at a time, which are undone one by one; items that may run once.
pub(super) const EACH: &str = r#"
[[steps]]
id = "spread"
effect = "keyed"
for_each = { items = ["a", "b", "c", "d"], concurrency = 2 }
<< line begin; sleep 0.02; line end >>
[steps.undo]
effect = "idempotent"
<< line begin; line end >>
[[steps]]
id = "some"
on_failure = "continue"
for_each = { items = ["x", "y"] }
<< line begin; sleep 0.02; line end >>
[[steps]]
id = "fails"
effect = "read_only"
<< line begin; exit 1 >>
"#;

/// Steps beside each other, and one that waits for both; the proof is a query that holds.
pub(super) const GRAPH: &str = r#"
[[steps]]
id = "a"
effect = "idempotent"
<< line begin; line end >>
[[steps]]
id = "b"
effect = "keyed"
<< line begin; sleep 0.05; line end >>
[[steps]]
id = "c"
after = ["a"]
effect = "idempotent"
<< line begin; sleep 0.05; line end >>
[[steps]]
id = "d"
after = ["b", "c"]
effect = "idempotent"
<< line begin; line end >>
[[steps]]
id = "e"
after = []
<< line begin; sleep 0.02 >>
[verify]
promql = "up"
expect = "== 1"
within = "1m"
"#;

/// Another runbook as a step.
pub(super) const PARENT: &str = r#"
[[steps]]
id = "first"
effect = "idempotent"
<< line begin; line end >>
[steps.undo]
effect = "idempotent"
<< line begin; line end >>
[[steps]]
id = "sub"
runbook = { id = "child" }
[[steps]]
id = "then"
effect = "keyed"
<< line begin; line end >>
"#;

/// The other runbook.
pub(super) const CHILD: &str = r#"
[[steps]]
id = "work"
effect = "idempotent"
<< line begin; sleep 0.05; line end >>
[[steps]]
id = "nap"
wait = { for = "50ms" }
[[steps]]
id = "once"
<< line begin >>
"#;

/// A person consents, and says that something is done.
pub(super) const CONSENT: &str = r#"
[[steps]]
id = "ask"
approve = { message = "May {{ labels.target }} be restarted?" }
[[steps]]
id = "told"
instruct = { text = "Tell the others of {{ labels.target }}.", acknowledge = true }
[[steps]]
id = "act"
<< line begin >>
"#;

/// A person holds it and lets it go on; then a failure holds it, and a person has the step tried again.
pub(super) const HELD: &str = r#"
[[steps]]
id = "slow"
effect = "idempotent"
<< line begin; sleep 0.2; line end >>
[[steps]]
id = "nap"
wait = { for = "50ms" }
[[steps]]
id = "balky"
effect = "keyed"
on_failure = "pause"
<< line begin; [ $RUNBOOKD_ATTEMPT -ge 2 ]; line end >>
[[steps]]
id = "then"
effect = "idempotent"
<< line begin; line end >>
"#;

/// A person has it taken back while it runs.
pub(super) const TAKEN_BACK: &str = r#"
[[steps]]
id = "first"
effect = "keyed"
<< line begin; line end >>
[steps.undo]
effect = "keyed"
<< line begin; line end >>
[[steps]]
id = "held"
effect = "idempotent"
<< line begin; exec sleep 20 >>
[steps.undo]
effect = "idempotent"
<< line begin; line end >>
[[steps]]
id = "sweep"
effect = "idempotent"
finally = true
<< line begin; line end >>
"#;

/// Whether what was cut has happened is told by a probe, which here asks the ledger itself.
pub(super) const PROBED: &str = r#"
[[steps]]
id = "early"
on_failure = "continue"
<< line begin; sleep 0.05 >>
probe = { command = { program = "grep", args = ["-q", "^begin {{ execution.id }} early ", "@dir@/ledger"] } }
[[steps]]
id = "late"
on_failure = "continue"
<< sleep 0.05; line begin >>
probe = { command = { program = "grep", args = ["-q", "^begin {{ execution.id }} late ", "@dir@/ledger"] } }
[[steps]]
id = "then"
effect = "idempotent"
<< line begin; line end >>
"#;

/// Its proof is that the alert resolves.
pub(super) const PROVEN: &str = r#"
[[steps]]
id = "act"
effect = "keyed"
<< line begin; line end >>
[verify]
alert_resolved = true
within = "1m"
"#;

/// A person stops it while it runs.
pub(super) const STOPPED: &str = r#"
[[steps]]
id = "first"
<< line begin >>
[[steps]]
id = "held"
effect = "idempotent"
<< line begin; exec sleep 20 >>
[[steps]]
id = "never"
effect = "idempotent"
<< line begin >>
"#;
