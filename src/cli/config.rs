//! `config`: every setting of the server with its source.
//!
//! May import: nothing of this crate outside this room. Must never: read a config file; the server's answer is shown,
//! in which secrets are the word `secret`.

use super::args::Shape;
use super::client::Client;
use super::escape::visible;
use super::field;
use super::quit::{Quit, YES};
use super::screen::Screen;
use super::table::Table;
use serde_json::Value;

/// Shows the effective config.
pub(super) async fn run(client: &Client, screen: &mut Screen<'_>) -> Result<i32, Quit> {
    let answer = client.get(&["api", "config"], &[]).await?;
    let mut table = Table::default().whole("SETTING").elastic("VALUE", 20).whole("SOURCE");
    settings(&answer.value, "", &mut table);
    if client.shape == Shape::Json || table.is_empty() {
        screen.line(&answer.pretty())?;
    } else {
        table.print(0, screen)?;
    }
    Ok(YES)
}

/// Every object with a value and a source is a setting, whatever the answer is nested into. Its name is its own, or
/// the way to it. The recursion is bounded by the depth that the JSON reader takes.
fn settings(value: &Value, path: &str, table: &mut Table) {
    match value {
        Value::Object(object) => {
            let source =
                ["source", "from"].iter().map(|key| field::text(value, key)).find(|text| !text.is_empty());
            if let (Some(setting), Some(source)) = (object.get("value"), source) {
                let name =
                    ["name", "key"].iter().map(|key| field::text(value, key)).find(|text| !text.is_empty());
                table.row([name.unwrap_or_else(|| path.to_owned()), field::compact(setting), source]);
                return;
            }
            for (key, inner) in object {
                let key = visible(key);
                settings(inner, &if path.is_empty() { key } else { format!("{path}.{key}") }, table);
            }
        }
        Value::Array(list) => list.iter().for_each(|inner| settings(inner, path, table)),
        _ => {}
    }
}
