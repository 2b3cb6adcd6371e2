//! The pager: takes what runbookd's notifier `webhook` sends, and keeps each message as a file a person can read.
//!
//! May import: the standard library and serde_json. Must never: show half a message.

use crate::wire::{answer, bind, receive};
use serde_json::Value;
use std::path::Path;
use std::{fs, io};

/// Files `1`, `2`, ... in `dir`, one for each message.
pub(crate) fn take(listen: &str, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut count = 0_u64;
    for stream in bind(listen)?.incoming() {
        let stream = stream?;
        let request = receive(&stream)?;
        if request.method != "POST" {
            answer(&stream, "200 OK", "POST a message\n")?;
            continue;
        }
        let Some(text) = message(&request.body) else {
            answer(&stream, "400 Bad Request", "this is no message\n")?;
            continue;
        };
        count += 1;
        // Under its name only when it is whole: somebody waits for it.
        fs::write(dir.join("new"), text)?;
        fs::rename(dir.join("new"), dir.join(count.to_string()))?;
        answer(&stream, "200 OK", "")?;
    }
    Ok(())
}

/// Subject and body of the JSON that `webhook` sends.
fn message(body: &[u8]) -> Option<String> {
    let message: Value = serde_json::from_slice(body).ok()?;
    let text = |name: &str| message.get(name)?.as_str();
    Some(format!("[{}] {}\n{}\n", text("severity")?, text("subject")?, text("body")?))
}
