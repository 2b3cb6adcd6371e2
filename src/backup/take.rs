//! Taking a backup: the records as of one moment, then the files that they name.
//!
//! Blocks, for as long as it takes to read everything and to write it; needs the memory of one portion. May import:
//! `model`, `store`. Must never: follow a link, or hold up who writes to the store.

use super::format::{Contents, FileError, Head, Writer};
use crate::store::{Copying, ReadError};
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An output file could not be read.
    #[error("the output {} cannot be read: {cause}", path.display())]
    Output {
        /// The file, or the directory.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// It could not be written.
    #[error("the backup cannot be written: {0}")]
    Write(io::Error),
    /// It is not wanted any more.
    #[error("runbookd ends")]
    Ends,
}

/// Writes what `copy` gives and the files in `outputs` to `out`, as long as `goes_on` says so. Who reads `out` is told
/// why, when it ends early.
///
/// # Errors
/// [`TakeError`]; what was written is then no backup.
pub fn take(
    mut copy: Box<dyn Copying>,
    outputs: &Path,
    head: &Head,
    out: impl Write,
    goes_on: &dyn Fn() -> bool,
) -> Result<Contents, TakeError> {
    let mut writer = Writer::begin(out, head).map_err(TakeError::Write)?;
    let taken = records(&mut *copy, &mut writer, goes_on)
        .and_then(|latest| files(outputs, latest.as_deref(), &mut writer, goes_on));
    match taken {
        Ok(()) => writer.finish().map_err(TakeError::Write),
        Err(error @ TakeError::Write(_)) => Err(error),
        Err(error) => {
            // Whoever reads it may be gone as well; then nobody is missing it.
            writer.give_up(&error.to_string()).ok();
            Err(error)
        }
    }
}

/// Writes all records; the ULID of the latest execution among them.
fn records(
    copy: &mut dyn Copying,
    writer: &mut Writer<impl Write>,
    goes_on: &dyn Fn() -> bool,
) -> Result<Option<String>, TakeError> {
    let mut latest = None;
    while let Some(portion) = copy.next()? {
        if !goes_on() {
            return Err(TakeError::Ends);
        }
        for (key, value) in portion {
            writer.change(&key, value.as_deref()).map_err(TakeError::Write)?;
            let execution = key.strip_prefix(b"x/").filter(|_| value.is_some());
            latest = latest.max(execution.map(|ulid| String::from_utf8_lossy(ulid).into_owned()));
        }
    }
    Ok(latest)
}

/// Writes the output files of executions up to the `latest`. They are read after the records, so that whatever a record
/// names is there, and complete; what no record names yet is what a crash would leave.
fn files(
    outputs: &Path,
    latest: Option<&str>,
    writer: &mut Writer<impl Write>,
    goes_on: &dyn Fn() -> bool,
) -> Result<(), TakeError> {
    let wrong = |path: &Path, cause| TakeError::Output { path: path.to_owned(), cause };
    let entries = match fs::read_dir(outputs) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|cause| wrong(outputs, cause))?,
    };
    for entry in entries {
        if !goes_on() {
            return Err(TakeError::Ends);
        }
        let entry = entry.map_err(|cause| wrong(outputs, cause))?;
        let (path, name) = (entry.path(), entry.file_name());
        let Some(name) = name.to_str().filter(|name| is_of(name, latest)) else { continue };
        let opened =
            OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path);
        let file = match opened {
            // Retention has removed it meanwhile, and with it what named it.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            file => file.map_err(|cause| wrong(&path, cause))?,
        };
        let facts = file.metadata().map_err(|cause| wrong(&path, cause))?;
        if !facts.is_file() {
            continue;
        }
        // One that still grows is not read to an end that goes away.
        match writer.file(name, file.take(facts.len())) {
            Ok(()) => {}
            Err(FileError::Read(cause)) => return Err(wrong(&path, cause)),
            Err(FileError::Write(cause)) => return Err(TakeError::Write(cause)),
        }
    }
    Ok(())
}

/// Whether this is an output, `runbook_ULID.step.attempt.stream`, of an execution up to the latest.
fn is_of(name: &str, latest: Option<&str>) -> bool {
    let ulid = name.split('.').next().and_then(|id| id.rsplit_once('_')).map(|(_, ulid)| ulid);
    let is_known = ulid.is_some_and(|ulid| ulid.len() == 26 && Some(ulid) <= latest);
    is_known && super::format::is_file_name(name) && !name.ends_with(".new")
}
