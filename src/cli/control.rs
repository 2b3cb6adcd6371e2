//! What a person does to an execution: `executions stop`, `approve`, `retry` and their like.
//!
//! May import: `model`. Must never: repeat an act by itself; a person asked for it once.

use super::args::{Act, ExecutionsVerb, OneStep, Shape, once};
use super::client::Client;
use super::field;
use super::quit::{Quit, YES};
use super::screen::Screen;
use crate::model::{ExecutionId, StepId};
use serde_json::{Value, json};

/// Carries out an act and shows what became of it.
pub(super) async fn run(
    client: &Client,
    verb: &ExecutionsVerb,
    screen: &mut Screen<'_>,
) -> Result<i32, Quit> {
    use ExecutionsVerb as Verb;
    match verb {
        Verb::Stop { id, reason } => stop(client, id, reason, screen).await,
        Verb::Rollback(act) => send(client, "rollback", act, Value::Null, screen).await,
        Verb::Pause(act) => send(client, "pause", act, Value::Null, screen).await,
        Verb::Resume(act) => send(client, "resume", act, Value::Null, screen).await,
        Verb::Approve { act, step, hash } => {
            let more = json!({ "step": name(step), "hash": hash });
            send(client, "approve", act, more, screen).await
        }
        Verb::Reject { act, step } => {
            send(client, "reject", act, json!({ "step": name(step) }), screen).await
        }
        Verb::Acknowledge { act, step } => {
            send(client, "acknowledge", act, json!({ "step": name(step) }), screen).await
        }
        Verb::Retry { act, step } => send(client, "retry", act, json!({ "step": name(step) }), screen).await,
        Verb::Skip { act, step } => send(client, "skip", act, json!({ "step": step.as_str() }), screen).await,
        Verb::Modify { act, step, inputs, args } => {
            let inputs = once(inputs.clone(), "--input").map_err(Quit::Usage)?;
            if inputs.is_empty() && args.is_empty() {
                return Err(Quit::Usage("say what to change: --input K=V, or --step S --arg A".to_owned()));
            }
            let inputs = (!inputs.is_empty()).then_some(inputs);
            let args = (!args.is_empty()).then_some(args);
            let more = json!({ "step": name(step), "inputs": inputs, "args": args });
            send(client, "modify", act, more, screen).await
        }
        Verb::List(_) | Verb::Show { .. } | Verb::Follow { .. } | Verb::Output(_) => Ok(YES),
    }
}

fn name(step: &OneStep) -> Option<&str> {
    step.step.as_ref().map(StepId::as_str)
}

async fn stop(client: &Client, id: &ExecutionId, reason: &str, screen: &mut Screen<'_>) -> Result<i32, Quit> {
    let path = ["api", "executions", id.as_str(), "stop"];
    let answer = client.post(&path, &json!({ "reason": reason })).await?;
    show(client, "stop", id, &answer, screen)
}

/// Sends the action with what it says beside the reason; what it leaves out is not sent.
async fn send(
    client: &Client,
    action: &str,
    act: &Act,
    more: Value,
    screen: &mut Screen<'_>,
) -> Result<i32, Quit> {
    let mut body = json!({ "action": action });
    let reason = json!({ "reason": act.reason });
    for (key, value) in [reason, more].iter().filter_map(Value::as_object).flatten() {
        if !value.is_null() {
            body[key] = value.clone();
        }
    }
    let answer = client.post(&["api", "executions", act.id.as_str(), "control"], &body).await?;
    show(client, action, &act.id, &answer, screen)
}

fn show(
    client: &Client,
    action: &str,
    asked: &ExecutionId,
    answer: &super::client::Answer,
    screen: &mut Screen<'_>,
) -> Result<i32, Quit> {
    let id = field::text(&answer.value, "id");
    match client.shape {
        Shape::Json => screen.line(&answer.pretty())?,
        Shape::Table => {
            let status = screen.paint(&field::text(&answer.value, "status"));
            screen.line(format!("{id} {status}").trim())?;
        }
    }
    screen.flush()?;
    if !id.is_empty() && id != asked.as_str() {
        screen.message(&format!("started {id} as the {action} of {asked}"));
    }
    Ok(YES)
}
