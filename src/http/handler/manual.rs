//! `POST /api/runbooks/{id}/execute`: a runbook by hand. No guard of automation is asked, only the kill switch.

use super::{Services, claims_allow, not_durable, runbooks, unreadable};
use crate::admit::Denial;
use crate::api;
use crate::engine::{BeginError, Wish, preview};
use crate::guard::SwitchState;
use crate::http::{ApiError, FieldError, Reply, Request};
use crate::journal::{Output, State, Trigger, TriggerKind};
use crate::model::{ExecutionId, Labels, env_name_problem};
use crate::routing::Listed;
use crate::runbook::{Mode, Pinned, inputs};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::sync::broadcast::error::RecvError;

/// The most labels, annotations, inputs and variables of each sort.
const MAX_PAIRS: usize = 256;
/// The most bytes of each stream that an answer holds.
const MAX_OUTPUT: usize = 1 << 20;
/// When one that found no room may come again.
const AGAIN: Duration = Duration::from_secs(5);
/// Between two looks whether the daemon goes; news are heard at once.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Body {
    labels: Labels,
    annotations: Labels,
    inputs: BTreeMap<String, String>,
    env_vars: BTreeMap<String, String>,
    steps: Option<Range>,
    reason: String,
    dry_run: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Range {
    from: Option<String>,
    to: Option<String>,
}

pub(super) async fn execute(services: Arc<Services>, request: Request) -> Result<Reply, ApiError> {
    let id = runbooks::id(&request)?;
    let pinned = match services.library().get(&id) {
        Some(Listed::Good(pinned)) => Arc::clone(pinned),
        Some(Listed::Broken) => {
            let message = format!("the file of {id} cannot be read, and never could; correct it");
            return Err(ApiError::conflict("broken_runbook", message));
        }
        None => return Err(ApiError::not_found("runbook")),
    };
    // Whether it exists and this person may is told before what is wrong with the request.
    claims_allow(&services, Some(&pinned.runbook), &request)?;
    request.query.only(&["wait"])?;
    let wait = request.query.filter::<bool>("wait")?.unwrap_or(false);
    let body: Body = if request.body.is_empty() { Body::default() } else { request.json()? };
    let dry_run = body.dry_run;
    let wish = read(&services, &request, &pinned, body)?;
    if dry_run {
        let created = services.engine.plan(&wish).map_err(|denial| denied(&wish, denial))?;
        let state = State::new(Box::new(created.clone()), services.clock.now());
        let plan = |index| preview(&pinned.runbook, &state, index);
        return Ok(Reply::json(&api::dry_run(&pinned, &created, plan)));
    }
    if pinned.runbook.mode == Mode::Disabled {
        let message = format!("the mode of {id} is disabled; set another one to execute it");
        return Err(ApiError::conflict("disabled", message));
    }
    if services.is_draining() || !services.ready.load(Ordering::SeqCst) {
        let message = "runbookd is starting or going; try it again";
        return Err(ApiError::unavailable("not_ready", message, AGAIN));
    }
    // Listening begins before there is anything to hear.
    let news = services.engine.news();
    let begun = services.engine.begin(wish.clone()).await.map_err(|error| refusal(&wish, error))?;
    tracing::info!(
        execution_id = begun.as_str(),
        runbook = id.as_str(),
        user = request.user(),
        reason = wish.trigger.reason,
        "execution by hand accepted"
    );
    if wait {
        let limit = pinned.runbook.timeout.saturating_add(services.engine.queue_deadline());
        if let Some(state) = end(&services, &begun, news, limit).await? {
            let (stdout, stderr, warnings) = outputs(&services, &state).await;
            return Ok(Reply::json(&api::outcome(&state, &stdout, &stderr, warnings)));
        }
    }
    Ok(Reply::json(&json!({ "execution_id": begun, "job_id": begun })).status(202))
}

/// What is asked for, with everything wrong in it named at once.
fn read(services: &Services, request: &Request, pinned: &Arc<Pinned>, body: Body) -> Result<Wish, ApiError> {
    let mut errors = Vec::new();
    let mut wrong = |path: String, message: String| errors.push(FieldError { path, message });
    let sizes = [
        ("labels", body.labels.len()),
        ("annotations", body.annotations.len()),
        ("inputs", body.inputs.len()),
        ("env_vars", body.env_vars.len()),
    ];
    for (path, size) in sizes {
        if size > MAX_PAIRS {
            wrong(path.to_owned(), format!("{size} are given, at most {MAX_PAIRS} are taken"));
        }
    }
    for name in body.env_vars.keys().take(MAX_PAIRS) {
        if let Some(problem) = env_name_problem(name) {
            let shown: String = name.chars().take(80).collect();
            tracing::warn!(name = shown, user = request.user(), "Invalid environment variable name");
            wrong(format!("env_vars.{shown}"), problem.to_owned());
        }
    }
    let steps = &pinned.runbook.steps;
    let mut position = |path: &str, id: Option<&String>, absent: usize| match id {
        None => absent,
        Some(id) => steps.iter().position(|step| step.id.as_str() == id).unwrap_or_else(|| {
            let known: Vec<&str> = steps.iter().map(|step| step.id.as_str()).collect();
            wrong(path.to_owned(), format!("the runbook has no such step; it has: {}", known.join(", ")));
            absent
        }),
    };
    let range = body.steps.map(|Range { from, to }| {
        let last = steps.len().saturating_sub(1);
        (position("steps.from", from.as_ref(), 0), position("steps.to", to.as_ref(), last))
    });
    if range.is_some_and(|(from, to)| from > to) {
        wrong("steps".to_owned(), "the step `from` stands behind the step `to`".to_owned());
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid(errors));
    }
    let trigger = Trigger {
        kind: TriggerKind::Manual,
        alertname: body.labels.get("alertname").cloned(),
        fingerprint: None,
        starts_at: None,
        generator_url: String::new(),
        external_url: String::new(),
        labels: body.labels,
        annotations: body.annotations,
        by: request.user().to_owned(),
        reason: Some(request.words(&body.reason)).filter(|reason| !reason.is_empty()),
        of: None,
    };
    Ok(Wish {
        pinned: Arc::clone(pinned),
        trigger,
        inputs: body.inputs,
        env: body.env_vars,
        range,
        instance: services.instance.clone(),
    })
}

fn denied(wish: &Wish, denial: Denial) -> ApiError {
    let Denial::Target(why) = denial else {
        let Trigger { labels, annotations, .. } = &wish.trigger;
        let problems =
            inputs::resolve(&wish.pinned.runbook, labels, annotations, &wish.env, &wish.inputs).err();
        let problems = problems.into_iter().flatten();
        let errors = problems.map(|problem| FieldError {
            path: format!("inputs.{}", problem.input),
            message: problem.message,
        });
        return ApiError::invalid(errors.collect());
    };
    ApiError::invalid_field("target", why)
}

fn refusal(wish: &Wish, error: BeginError) -> ApiError {
    match error {
        BeginError::Held(order) => {
            let code = match order.state {
                SwitchState::Running | SwitchState::Draining => "draining",
                SwitchState::Halted => "halted",
                SwitchState::Aborted => "aborted",
            };
            ApiError::conflict(code, order.sentence())
        }
        BeginError::Frozen(..) => ApiError::conflict("frozen", error.to_string()),
        BeginError::Denied(denial) => denied(wish, denial),
        BeginError::QueueFull => ApiError::unavailable("queue_full", error.to_string(), AGAIN),
        BeginError::Store(cause) => not_durable(&cause),
    }
}

/// The execution when it is over; `None` when that takes longer than `limit`, or the daemon goes first.
async fn end(
    services: &Services,
    id: &ExecutionId,
    mut news: tokio::sync::broadcast::Receiver<ExecutionId>,
    limit: Duration,
) -> Result<Option<State>, ApiError> {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let header = services.records.header(id.ulid()).await.map_err(|error| unreadable(&error))?;
        if header.is_some_and(|header| header.status.is_final()) {
            let entries = services.records.journal(id, 0, usize::MAX).await;
            let entries = entries.map_err(|error| unreadable(&error))?;
            return Ok(State::replay(entries).ok());
        }
        if services.is_draining() || tokio::time::Instant::now() >= deadline {
            return Ok(None);
        }
        let heard = async {
            loop {
                match news.recv().await {
                    Ok(other) if other != *id => {}
                    Err(RecvError::Closed) => std::future::pending().await,
                    Ok(_) | Err(RecvError::Lagged(_)) => return,
                }
            }
        };
        // Too late is as good as heard: both are looked at again.
        let _heard = tokio::time::timeout(LOOK, heard).await;
    }
}

/// What its steps wrote, in their order, and what is missing of that.
async fn outputs(services: &Services, state: &State) -> (String, String, Vec<String>) {
    let (mut stdout, mut stderr, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    for attempt in api::last_attempts(state) {
        let result = &attempt.result;
        for (kept, to) in [(&result.stdout, &mut stdout), (&result.stderr, &mut stderr)] {
            append(services, kept, to, &mut warnings).await;
        }
    }
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    warnings.dedup();
    (text(stdout), text(stderr), warnings)
}

async fn append(services: &Services, kept: &Output, to: &mut Vec<u8>, warnings: &mut Vec<String>) {
    let room = MAX_OUTPUT.saturating_sub(to.len());
    let before = to.len();
    match &kept.file {
        None => to.extend(kept.head.bytes().take(room)),
        Some(name) => {
            let file = tokio::fs::File::open(services.outputs.join(name)).await;
            let read = match file {
                Ok(file) => file.take(room as u64).read_to_end(to).await,
                Err(error) => Err(error),
            };
            if let Err(error) = read {
                warnings.push(format!("an output could not be read: {error}"));
            }
        }
    }
    let added = (to.len() - before) as u64;
    if kept.cut > 0 || added < kept.bytes {
        warnings
            .push("some output is left out; GET /api/executions/{id}/output/… has what was kept".to_owned());
    }
}
