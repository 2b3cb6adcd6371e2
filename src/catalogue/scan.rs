//! Reading the runbook directory: which files are runbooks, and what stands in them.
//!
//! Blocking; call it off the runtime. May import: `model`, `document`. Must never: parse a runbook, or take a
//! directory that cannot be read for an empty one.

use crate::document::{Problem, Problems, Severity};
use crate::model::RunbookId;
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest runbook file that is read, in bytes.
pub const MAX_FILE: u64 = 1 << 20;

/// One file of the directory whose name is a runbook's.
#[derive(Debug, Clone)]
pub struct FileState {
    /// The name without `.toml`.
    pub id: RunbookId,
    /// The path, as people know it.
    pub file_name: String,
    /// What stands in it.
    pub content: Content,
}

/// What stands in a file.
#[derive(Debug, Clone)]
pub enum Content {
    /// Its text.
    Text(Arc<str>),
    /// It cannot be read as text; the text up to the problem, for showing it.
    Unreadable(Arc<str>, Problem),
}

impl Content {
    /// Equal for equal contents.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        match self {
            Self::Text(text) => hash.update(text.as_bytes()),
            Self::Unreadable(text, problem) => {
                hash.update([0xff]); // no text begins so
                hash.update(text.as_bytes());
                hash.update(problem.message.as_bytes());
            }
        }
        hash.finalize().into()
    }
}

/// Why the directory could not be listed. Whoever gets it keeps what it has.
#[derive(Debug, thiserror::Error)]
#[error("the runbook directory {} cannot be read: {cause}", dir.display())]
pub struct ScanError {
    /// The directory.
    pub dir: PathBuf,
    /// What the system says.
    pub cause: io::Error,
}

/// Reads every file `<id>.toml` of `dir`, in the order of their names; other names are passed over.
///
/// # Errors
/// [`ScanError`] when the directory cannot be listed; a bad file is a [`Content::Unreadable`] instead.
pub fn scan(dir: &Path) -> Result<Vec<FileState>, ScanError> {
    let failed = |cause| ScanError { dir: dir.to_owned(), cause };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        match runbook_id(&name) {
            Some(id) => files.extend(read_file(&dir.join(&name), id)),
            None => tracing::debug!(file = %dir.join(&name).display(), "not a runbook's name, passed over"),
        }
    }
    files.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(files)
}

fn runbook_id(name: &OsStr) -> Option<RunbookId> {
    RunbookId::new(name.to_str()?.strip_suffix(".toml")?).ok()
}

/// Reads one file; `None` when it is a directory, or has gone since it was listed.
fn read_file(path: &Path, id: RunbookId) -> Option<FileState> {
    let file_name = path.display().to_string();
    let unreadable = |why: String, help: &str| {
        let problem = Problems::outside(&file_name).place(0..0, "").problem(Severity::Error, why, help);
        Content::Unreadable("".into(), problem)
    };
    let content = match read_bytes(path) {
        Ok(Some(bytes)) => match String::from_utf8(bytes) {
            Ok(text) => Content::Text(text.into()),
            Err(error) => not_text(&file_name, error),
        },
        Ok(None) => {
            tracing::debug!(file = file_name, "a directory, passed over");
            return None;
        }
        Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound && !is_there(path) => {
            return None;
        }
        Err(ReadError::Io(error)) => {
            unreadable(format!("the file cannot be read: {error}"), "make it readable for runbookd")
        }
        Err(ReadError::Special) => unreadable("this is not a regular file".to_owned(), "put a file there"),
        Err(ReadError::TooLarge) => {
            unreadable(format!("the file is larger than {MAX_FILE} bytes"), "shorten or split it")
        }
    };
    Some(FileState { id, file_name, content })
}

/// Whether the name itself is there; a link that leads nowhere is.
fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn not_text(file_name: &str, error: std::string::FromUtf8Error) -> Content {
    let valid = error.utf8_error().valid_up_to();
    let text = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
    let place = Problems::new(file_name, &text).place(valid..valid, "");
    let problem = place.problem(Severity::Error, "here the file is not UTF-8 text", "save it as UTF-8");
    Content::Unreadable(text.into(), problem)
}

enum ReadError {
    Io(io::Error),
    Special,
    TooLarge,
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The bytes of a regular file, `None` for a directory. Does not wait for the writer of a pipe.
fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>, ReadError> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Ok(None);
    }
    if !metadata.is_file() {
        return Err(ReadError::Special);
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE { Err(ReadError::TooLarge) } else { Ok(Some(bytes)) }
}
