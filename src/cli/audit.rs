//! `audit list` and `audit verify`, the latter also on the storage of a stopped server.
//!
//! May import: nothing of this crate outside this room. Must never: open a storage by itself; the composition root does.

use super::args::{AuditFilter, AuditVerb, Shape};
use super::client::Client;
use super::executions::{moment, page, print_page};
use super::quit::{NO, Quit, YES};
use super::screen::Screen;
use super::table::Table;
use super::{Environment, Program, field, json};
use serde_json::Value;
use std::path::Path;

/// Carries out a verb on the audit log.
pub(super) async fn run(
    client: &Client,
    verb: &AuditVerb,
    env: &Environment,
    screen: &mut Screen<'_>,
) -> Result<i32, Quit> {
    match verb {
        AuditVerb::List(filter) => list(client, filter, env, screen).await,
        AuditVerb::Verify { .. } => {
            let answer = client.get(&["api", "audit", "verify"], &[]).await?;
            if client.shape == Shape::Json {
                screen.line(&answer.pretty())?;
                return Ok(code(&answer.value));
            }
            verdict(&answer.value, screen)
        }
    }
}

/// `audit verify --storage.path`: without a server.
pub(super) fn verify_here(
    storage: &Path,
    shape: Shape,
    program: &dyn Program,
    screen: &mut Screen<'_>,
) -> Result<i32, Quit> {
    let value = program.verify_audit(storage).map_err(Quit::no)?;
    if shape == Shape::Json {
        screen.line(&json::pretty(&value.to_string()))?;
        return Ok(code(&value));
    }
    verdict(&value, screen)
}

fn code(value: &Value) -> i32 {
    if value["ok"].as_bool() == Some(true) { YES } else { NO }
}

fn verdict(value: &Value, screen: &mut Screen<'_>) -> Result<i32, Quit> {
    let (records, head) = (field::text(value, "records"), field::text(value, "head"));
    match code(value) {
        YES => screen.line(&format!("whole: {records} records, the last one's hash is {head}"))?,
        _ => screen.line(&format!(
            "broken: {}; {records} records before it are good",
            field::text(value, "problem")
        ))?,
    }
    Ok(code(value))
}

async fn list(
    client: &Client,
    filter: &AuditFilter,
    env: &Environment,
    screen: &mut Screen<'_>,
) -> Result<i32, Quit> {
    let since = moment(filter.since.as_deref(), env)?;
    let (limit, cursor) = page(&filter.page);
    let query = [
        ("user", filter.user.as_deref().unwrap_or_default()),
        ("action", filter.action.as_deref().unwrap_or_default()),
        ("target", filter.target.as_deref().unwrap_or_default()),
        ("since", &since),
        ("limit", &limit),
        ("cursor", cursor),
    ];
    let answer = client.get(&["api", "audit"], &query).await?;
    if client.shape == Shape::Json {
        screen.line(&answer.pretty())?;
        return Ok(YES);
    }
    let mut table = Table::default()
        .whole("SEQ")
        .whole("AT (UTC)")
        .elastic("USER", 8)
        .whole("ACTION")
        .elastic("TARGET", 12)
        .elastic("REASON", 12);
    for item in field::list(&answer.value, "audit") {
        let text = |key| field::text(item, key);
        let at = field::stamp(item, "at");
        table.row([text("seq"), at, text("user"), text("action"), text("target"), text("reason")]);
    }
    print_page(&table, &answer.value, "no records match", screen)?;
    Ok(YES)
}
