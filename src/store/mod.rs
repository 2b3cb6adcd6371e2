//! The store: ordered keys, atomic durable commits, and nothing else.
//!
//! What is kept, under which key and in which shape, is `store::records`' business; this file says what
//! every implementation promises, and `contract` holds each of them to it. May import: `model`, `config`,
//! `journal`, `telemetry`. Must never: decide anything, or show a caller its data before it is complete.

#[cfg(debug_assertions)]
mod failpoint;
mod frame;
mod ids;
mod overlay;
pub mod records;

mod memory;
mod sled;

#[cfg(test)]
mod contract;

pub use self::ids::Ids;
pub use self::memory::{Fault, MemoryStore};
pub use self::sled::{OnCommit, OnQuiet, OpenError, SledOptions, SledStore};

use futures_util::future::BoxFuture;

/// The longest key, in bytes. A work that uses a longer one is refused.
pub const MAX_KEY: usize = 1024;

/// Why a read failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The stored bytes are not what was written.
    #[error(
        "the record {key} is damaged: {why}; stop runbookd, move the store aside, and put a backup in its place with `runbookd restore`"
    )]
    Damaged {
        /// The key, printable.
        key: String,
        /// What does not fit.
        why: String,
    },
    /// The device or the engine refused.
    #[error("the store cannot be read: {0}")]
    Failed(String),
}

/// Why a commit did not happen. In every case nothing of it remains.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// The disk has no room; nothing was tried, and the next commit may succeed once there is room.
    #[error("no room on the disk of the store: {free} bytes free, {reserve} are kept in reserve")]
    Full {
        /// Bytes free now.
        free: u64,
        /// Bytes below which nothing is written.
        reserve: u64,
    },
    /// The work itself said no, by returning an error.
    #[error("refused: {0}")]
    Refused(String),
    /// A read within the work failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Writing or syncing failed: what is durable is no longer known. The daemon must end and start again.
    #[error("the store failed and must be reopened: {0}")]
    Failed(String),
    /// The store is shut.
    #[error("the store is shut")]
    Shut,
}

/// Reads and writes of one unit of work. Reads see earlier writes of the same work and of every earlier work.
pub trait Txn {
    /// The value of `key`.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read; the work should return it, and then nothing is written.
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError>;
    /// Sets `key`; any length of value, it is split inside where the engine wants it small.
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>);
    /// Removes `key`; it need not exist.
    fn delete(&mut self, key: Vec<u8>);
}

/// A unit of work: reads, then writes, all or nothing. It may be called again when it conflicted with another
/// instance, so it must be a function of what it reads. One that panics is refused, and so is one that used a key
/// longer than [`MAX_KEY`] or went on after a failed read.
pub type Work = Box<dyn FnMut(&mut dyn Txn) -> Result<(), CommitError> + Send>;

/// Keys to visit, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// Only keys that start with this.
    pub prefix: Vec<u8>,
    /// Begin strictly behind this key (in the direction of travel).
    pub after: Option<Vec<u8>>,
    /// From the last key to the first.
    pub reverse: bool,
    /// At most so many.
    pub limit: usize,
}

/// Key and value, as scanned.
pub type Pair = (Vec<u8>, Vec<u8>);

/// A key and what it is set to; `None` removes it.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// A copy of everything that is being made; see [`Store::copy`]. Dropped, it ends.
pub trait Copying: Send {
    /// The next portion of changes, a few MiB at most unless one value is longer; none when all were given. Made in
    /// order in an empty store, they are the store as it was when the last portion was read. Blocks for reads.
    ///
    /// # Errors
    /// [`ReadError`]; also when so much is changed meanwhile that the copy cannot keep up. Then it has ended.
    fn next(&mut self) -> Result<Option<Vec<Change>>, ReadError>;
}

/// How the store is, for status and readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Bytes on disk.
    pub size_bytes: u64,
    /// Bytes free on its file system.
    pub free_bytes: u64,
    /// Whether the writer answered lately; a stuck writer must fail readiness.
    pub writer_alive: bool,
    /// Whether a write or sync failed for good.
    pub failed: bool,
}

/// An ordered, durable map.
///
/// Commits are serialisable: there is an order of all works in which each saw exactly what was before it.
/// When a commit's future is ready with `Ok`, its writes survive a power cut. Futures need not be polled for the
/// work to go on, so a client that hangs up cannot cancel half an accept. Only when the (bounded) queue of an
/// implementation is full must the future be polled to get in; dropped before that, the work never happens at all.
///
/// Reads outside a commit may see a work that is applied but not yet durable. What must survive because somebody
/// was told of it belongs into a commit, even one that only reads: it ends after everything it saw is durable.
pub trait Store: Send + Sync + 'static {
    /// Runs `work` and makes its writes durable.
    fn commit(&self, work: Work) -> BoxFuture<'static, Result<(), CommitError>>;
    /// The value of `key`.
    fn get(&self, key: &[u8]) -> BoxFuture<'_, Result<Option<Vec<u8>>, ReadError>>;
    /// The pairs of `scan`. A long one is read in portions: each portion is of one moment, the whole need not be.
    fn scan(&self, scan: Scan) -> BoxFuture<'_, Result<Vec<Pair>, ReadError>>;
    /// Begins a copy of everything, as of one moment, while works go on; they wait for one portion at most. `None`
    /// while another one is there.
    fn copy(&self) -> Option<Box<dyn Copying>>;
    /// How it is. Cheap.
    fn health(&self) -> Health;
    /// Finishes what was submitted and refuses everything after.
    fn shut(&self) -> BoxFuture<'_, ()>;
}
