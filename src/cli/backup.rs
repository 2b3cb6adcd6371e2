//! `backup`, of a server or of the storage of a stopped one, and `restore`.
//!
//! A backup is read back to its end before it gets its name. May import: `backup`. Must never: open a storage by itself;
//! the composition root does.

use super::args::{Restore, Shape, WhichBackup};
use super::client::Client;
use super::escape::visible;
use super::quit::{Quit, YES};
use super::screen::Screen;
use super::{Program, json};
use crate::backup::{self, Contents, Head, NewFile, PlaceError, RestoreError, Restored};
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::Path;

/// Takes one of a server at work.
pub(super) async fn run(client: &Client, wanted: &WhichBackup, screen: &mut Screen<'_>) -> Result<i32, Quit> {
    let mut file = begin(wanted)?;
    let body = json!({ "reason": wanted.reason.as_deref().unwrap_or_default() });
    let mut response = client.draw(&["api", "backup"], &body, "application/octet-stream").await?;
    while let Some(chunk) = client.next(&mut response).await? {
        file.write_all(&chunk).map_err(|cause| place(&file.wrong(cause)))?;
    }
    finish(file, &wanted.file, client.shape, screen)
}

/// Takes one of the storage of a stopped server.
pub(super) fn here(
    wanted: &WhichBackup,
    storage: &Path,
    shape: Shape,
    program: &dyn Program,
    screen: &mut Screen<'_>,
) -> Result<i32, Quit> {
    let mut file = begin(wanted)?;
    program.backup(storage, &mut file).map_err(Quit::no)?;
    finish(file, &wanted.file, shape, screen)
}

/// Puts one back, or only looks whether it could be.
pub(super) fn restore(args: &Restore, program: &dyn Program, screen: &mut Screen<'_>) -> Result<i32, Quit> {
    let Some(dir) = args.storage_path.as_deref().filter(|_| !args.dry_run) else {
        let (head, contents) = backup::check(&args.file).map_err(|error| Quit::no(error.to_string()))?;
        told("whole", &args.file, &head, &contents, args.output, screen)?;
        return Ok(YES);
    };
    let restored = program.restore(&args.file, dir).map_err(Quit::no)?;
    let Restored { head, contents, live } = &restored;
    if args.output == Shape::Json {
        let mut value = shown(&args.file, head, contents);
        value["live"] = (*live).into();
        screen.line(&json::pretty(&value.to_string()))?;
    } else {
        told("restored", &args.file, head, contents, args.output, screen)?;
    }
    screen.flush()?;
    let over = match live {
        0 => "no execution was in progress".to_owned(),
        1 => "1 execution was in progress".to_owned(),
        live => format!("{live} executions were in progress"),
    };
    screen.message(&format!(
        "A server over {} starts halted: what happened since {} is not known there, and {over}.\n\
         Look at `runbookd executions list`, stop what must not go on, then `runbookd unhalt --reason ...`.",
        visible(&dir.display().to_string()),
        head.at
    ));
    Ok(YES)
}

fn begin(wanted: &WhichBackup) -> Result<NewFile, Quit> {
    NewFile::create(&wanted.file, wanted.overwrite).map_err(|error| place(&error))
}

fn place(error: &PlaceError) -> Quit {
    let hint = match error {
        PlaceError::Exists(_) => "name another file, or pass --overwrite",
        _ => "",
    };
    Quit::No { message: error.to_string(), hint: hint.to_owned() }
}

fn finish(mut file: NewFile, name: &Path, shape: Shape, screen: &mut Screen<'_>) -> Result<i32, Quit> {
    file.sync().map_err(|error| place(&error))?;
    let (head, contents) = backup::check(file.partial()).map_err(|error| match error {
        RestoreError::Unfit { why, .. } => Quit::no(format!("no backup was taken: {why}")),
        error => Quit::no(error.to_string()),
    })?;
    file.put_in_place().map_err(|error| place(&error))?;
    told("wrote", name, &head, &contents, shape, screen)?;
    Ok(YES)
}

fn shown(file: &Path, head: &Head, contents: &Contents) -> Value {
    json!({
        "file": file.display().to_string(),
        "instance": head.instance,
        "program": head.program,
        "at": head.at,
        "records": contents.records,
        "deletions": contents.deletions,
        "files": contents.files,
        "file_bytes": contents.file_bytes,
        "sha256": contents.sha256,
    })
}

fn told(
    verb: &str,
    file: &Path,
    head: &Head,
    contents: &Contents,
    shape: Shape,
    screen: &mut Screen<'_>,
) -> Result<(), Quit> {
    if shape == Shape::Json {
        return screen.line(&json::pretty(&shown(file, head, contents).to_string()));
    }
    screen.line(&format!(
        "{verb}: {}, of {} as of {}: {} records, {} output files",
        visible(&file.display().to_string()),
        visible(&head.instance),
        head.at,
        contents.records,
        contents.files
    ))
}
