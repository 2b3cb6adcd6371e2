//! What an attempt printed: counted whole, kept up to a limit, readable while it runs.
//!
//! The first 2 KiB stay in memory. Beyond that one file per stream is used: its first half is the head, its
//! second half a ring over the tail, so a flood costs neither memory nor more disk than the limit. When
//! something was cut, [`Stream::finish`] writes the file anew in order, with a line that says how much.
//! Secrets are taken out before anything is counted or kept.
//! May import: `secret`. Must never: block the child for long, or name a file by anything but checked ids.

use crate::secret::{self, Redactor};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of output that stay inline, without a file.
pub const INLINE: usize = 2048;

/// At most so many bytes are given by one [`Stream::read`].
const READ_MAX: usize = 64 * 1024;

/// What one stream of an attempt produced, and where it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// Bytes produced.
    pub total: u64,
    /// Bytes produced but not kept.
    pub truncated: u64,
    /// The first bytes as kept; all of them when there is no file. At most [`INLINE`].
    pub head: Vec<u8>,
    /// Name of the file below `Dirs::outputs` that has all that was kept; already synced.
    pub file: Option<String>,
}

/// A piece of the output of a running attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where the bytes begin, counted from the first byte produced. Behind the offset asked for when what lies
    /// between was cut.
    pub start: u64,
    /// The bytes; empty when nothing is there yet.
    pub bytes: Vec<u8>,
    /// Bytes produced so far.
    pub total: u64,
}

/// One stream being captured.
#[derive(Debug)]
pub(super) struct Stream {
    directory: PathBuf,
    name: String,
    limit: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    total: u64,
    inline: Vec<u8>,
    disk: Option<File>,
    broken: Option<String>,
    finished: bool,
    /// What the bytes go through first.
    filter: secret::Stream,
}

impl Stream {
    /// A stream that keeps `limit` bytes, if need be in the file `name` of `directory`, and none of what `redactor`
    /// knows.
    pub(super) fn new(directory: &Path, name: String, limit: u64, redactor: &Redactor) -> Self {
        let state = Mutex::new(State { filter: redactor.stream(), ..State::default() });
        Self { directory: directory.to_owned(), name, limit, state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is counters and a file: whole at every point where a panic could leave it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    /// Bytes that are kept without a file.
    fn inline_limit(&self) -> u64 {
        self.limit.min(INLINE as u64)
    }

    /// Where the byte `at` of the stream lies in the file: in place up to the limit, then around the second half.
    fn place(&self, at: u64) -> u64 {
        let head = self.limit / 2;
        if at < self.limit { at } else { head + (at - head) % (self.limit - head) }
    }

    /// Whether taking `more` bytes touches the disk, so that it belongs on a blocking thread.
    fn needs_disk(&self, more: usize) -> bool {
        let state = self.lock();
        let coming = (more + state.filter.held()) as u64;
        state.disk.is_some() || state.total.saturating_add(coming) > self.inline_limit()
    }

    /// Takes the next bytes. Never fails: what cannot be kept is counted.
    fn push(&self, bytes: &[u8]) {
        let mut state = self.lock();
        if state.finished {
            return;
        }
        if state.filter.is_idle() {
            return self.put(&mut state, bytes);
        }
        let mut clear = Vec::with_capacity(bytes.len());
        state.filter.push(bytes, &mut clear);
        self.put(&mut state, &clear);
    }

    /// Counts and keeps what is clear of secrets.
    fn put(&self, state: &mut State, bytes: &[u8]) {
        let at = state.total;
        state.total = at.saturating_add(bytes.len() as u64);
        if state.broken.is_none()
            && (state.disk.is_some() || state.total > self.inline_limit())
            && let Err(cause) = self.keep(state, at, bytes)
        {
            state.broken = Some(format!("the output could not be kept: {cause}"));
        }
        let room = INLINE.saturating_sub(state.inline.len()).min(bytes.len());
        state.inline.extend_from_slice(&bytes[..room]);
    }

    /// Takes the first `count` bytes of `buffer`, on a blocking thread when the disk is involved.
    pub(super) async fn take(self: &Arc<Self>, buffer: Vec<u8>, count: usize) {
        if self.needs_disk(count) {
            let stream = Arc::clone(self);
            // It fails only when the runtime goes down, and then nobody counts any more.
            drop(tokio::task::spawn_blocking(move || stream.push(&buffer[..count])).await);
        } else {
            self.push(&buffer[..count]);
        }
    }

    fn keep(&self, state: &mut State, at: u64, bytes: &[u8]) -> io::Result<()> {
        if self.limit == 0 {
            return Ok(());
        }
        if state.disk.is_none() {
            let file = open(&self.path())?;
            // So far everything fitted inline, so `inline` is the whole beginning.
            file.write_all_at(&state.inline, 0)?;
            state.disk = Some(file);
        }
        let Some(file) = &state.disk else { return Ok(()) };
        // Of a piece longer than the ring only its end can stay, beside what belongs to the head.
        let end = at + bytes.len() as u64;
        let ring = self.limit - self.limit / 2;
        let mut position = at;
        while position < end {
            if position >= self.limit && end - position > ring {
                position = end - ring;
            }
            let place = self.place(position);
            let room = (self.limit - place).min(end - position);
            let from = (position - at) as usize;
            file.write_all_at(&bytes[from..from + room as usize], place)?;
            position += room;
        }
        Ok(())
    }

    /// Reads up to `max` bytes (and 64 KiB) from `offset` on, of what is there so far.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn read(&self, offset: u64, max: usize) -> io::Result<Piece> {
        let state = self.lock();
        let total = state.total;
        let max = max.min(READ_MAX) as u64;
        let Some(file) = &state.disk else {
            let from = (offset as usize).min(state.inline.len());
            let to = from + (state.inline.len() - from).min(max as usize);
            return Ok(Piece { start: from as u64, bytes: state.inline[from..to].to_vec(), total });
        };
        let head = self.limit / 2;
        let (start, end) = if total <= self.limit {
            (offset.min(total), total)
        } else if offset < head {
            (offset, head)
        } else {
            let ring_start = total - (self.limit - head);
            (offset.clamp(ring_start, total), total)
        };
        let place = self.place(start);
        let count = max.min(end - start).min(self.limit.saturating_sub(place));
        let mut bytes = vec![0; count as usize];
        file.read_exact_at(&mut bytes, place)?;
        Ok(Piece { start, bytes, total })
    }

    /// Whether [`Stream::finish`] touches the disk, so that it belongs on a blocking thread.
    pub(super) fn is_on_disk(&self) -> bool {
        self.needs_disk(0)
    }

    /// Ends the stream: what was kept is put in order and made durable. Bytes that come later are ignored.
    /// The second value says, as a sentence, what could not be kept.
    pub(super) fn finish(&self) -> (Captured, Option<String>) {
        let mut state = self.lock();
        let mut rest = Vec::new();
        state.filter.finish(&mut rest);
        self.put(&mut state, &rest);
        state.finished = true;
        let settled = match (&state.broken, &state.disk) {
            (None, Some(file)) => self.settle(file, &state),
            (None, None) if self.limit == 0 && state.total > 0 => {
                return (
                    Captured { total: state.total, truncated: state.total, ..Captured::default() },
                    None,
                );
            }
            (None, None) => {
                Ok(Captured { total: state.total, truncated: 0, head: state.inline.clone(), file: None })
            }
            (Some(why), _) => Err(why.clone()),
        };
        settled.map_or_else(
            |why| {
                self.remove();
                let head = state.inline.clone();
                let truncated = state.total - head.len() as u64;
                (Captured { total: state.total, truncated, head, file: None }, Some(why))
            },
            |captured| (captured, None),
        )
    }

    fn settle(&self, file: &File, state: &State) -> Result<Captured, String> {
        let cut = state.total.saturating_sub(self.limit);
        let put_in_order = || -> io::Result<Captured> {
            let mut head = state.inline.clone();
            if cut > 0 {
                let ordered = self.reorder(file, state.total, cut)?;
                head.resize(INLINE, 0);
                let length = read_start(&ordered, &mut head)?;
                head.truncate(length);
                if ordered.metadata()?.len() <= INLINE as u64 {
                    self.remove();
                    return Ok(Captured { total: state.total, truncated: cut, head, file: None });
                }
            } else {
                file.sync_all()?;
            }
            File::open(&self.directory)?.sync_all()?;
            Ok(Captured { total: state.total, truncated: cut, head, file: Some(self.name.clone()) })
        };
        put_in_order().map_err(|cause| format!("the output could not be kept: {cause}"))
    }

    /// Writes head, mark and unrolled ring to a new file and puts it in place of the old one.
    fn reorder(&self, file: &File, total: u64, cut: u64) -> io::Result<File> {
        let head = self.limit / 2;
        let oldest = self.place(total - (self.limit - head));
        let target = self.path();
        let fresh = target.with_extension(format!("{}.new", extension(&self.name)));
        let mut ordered = open(&fresh)?;
        copy(file, 0, head, &mut ordered)?;
        ordered.write_all(format!("\n[... {cut} bytes cut ...]\n").as_bytes())?;
        copy(file, oldest, self.limit, &mut ordered)?;
        copy(file, head, oldest, &mut ordered)?;
        ordered.sync_all()?;
        std::fs::rename(&fresh, &target)?;
        Ok(ordered)
    }

    fn remove(&self) {
        // Nothing names the file yet; if it cannot be removed it is only space.
        drop(std::fs::remove_file(self.path()));
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !state.finished && state.disk.is_some() {
            self.remove();
        }
    }
}

fn extension(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, extension)| extension)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

fn copy(from: &File, start: u64, end: u64, to: &mut File) -> io::Result<()> {
    let mut from = from;
    from.seek(SeekFrom::Start(start))?;
    let copied = io::copy(&mut from.take(end - start), to)?;
    if copied == end - start { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn read_start(file: &File, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        let count = file.read_at(&mut into[filled..], filled as u64)?;
        if count == 0 {
            break;
        }
        filled += count;
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expected(all: &[u8], limit: usize) -> Vec<u8> {
        if all.len() <= limit {
            return all.to_vec();
        }
        let head = limit / 2;
        let mark = format!("\n[... {} bytes cut ...]\n", all.len() - limit);
        [&all[..head], mark.as_bytes(), &all[all.len() - (limit - head)..]].concat()
    }

    fn kept(directory: &Path, captured: &Captured) -> Vec<u8> {
        match &captured.file {
            Some(name) => std::fs::read(directory.join(name)).unwrap(),
            None => captured.head.clone(),
        }
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i * 31 % 251) as u8).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn head_mark_and_tail_are_exact_for_any_limit_and_any_pieces(
            limit in 1_usize..9000, pieces in prop::collection::vec(0_usize..5000, 0..12)
        ) {
            let directory = tempfile::tempdir().unwrap();
            let stream = Stream::new(directory.path(), "x.y.1.stdout".into(), limit as u64, &Redactor::default());
            let all = pattern(pieces.iter().sum());
            let mut rest = &all[..];
            for length in pieces {
                stream.push(&rest[..length]);
                rest = &rest[length..];
            }
            let (captured, error) = stream.finish();
            prop_assert_eq!(error, None);
            prop_assert_eq!(captured.total, all.len() as u64);
            prop_assert_eq!(captured.truncated, all.len().saturating_sub(limit) as u64);
            let kept = kept(directory.path(), &captured);
            prop_assert!(kept == expected(&all, limit));
            prop_assert!(captured.head == kept[..kept.len().min(INLINE)]);
            prop_assert_eq!(captured.file.is_some(), kept.len() > INLINE);
            let files = std::fs::read_dir(directory.path()).unwrap().count();
            prop_assert_eq!(files, usize::from(captured.file.is_some()));
        }

        #[test]
        fn a_reader_sees_true_bytes_at_their_true_place_while_it_runs(
            limit in 1_usize..9000, pieces in prop::collection::vec(1_usize..5000, 1..8), offset in 0_u64..30000
        ) {
            let directory = tempfile::tempdir().unwrap();
            let stream = Stream::new(directory.path(), "x.y.1.stdout".into(), limit as u64, &Redactor::default());
            let all = pattern(pieces.iter().sum());
            let mut at = 0;
            for length in pieces {
                stream.push(&all[at..at + length]);
                at += length;
                let piece = stream.read(offset, 700).unwrap();
                let start = piece.start as usize;
                prop_assert_eq!(piece.total, at as u64);
                prop_assert!(piece.bytes[..] == all[start..start + piece.bytes.len()]);
                prop_assert!(!piece.bytes.is_empty() || offset >= at as u64 || limit < 2);
            }
        }
    }

    #[test]
    fn a_limit_of_zero_counts_and_keeps_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let stream = Stream::new(directory.path(), "a.out".into(), 0, &Redactor::default());
        stream.push(b"abc");
        let (captured, _) = stream.finish();
        assert_eq!(captured, Captured { total: 3, truncated: 3, head: vec![], file: None });
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_said() {
        let stream = Stream::new(Path::new("/nonexistent"), "a.out".into(), 10_000, &Redactor::default());
        stream.push(&[b'x'; 5000]);
        stream.push(&[b'y'; 5000]);
        let (captured, error) = stream.finish();
        assert_eq!((captured.total, captured.truncated, captured.file), (10_000, 10_000 - 2048, None));
        assert!(error.unwrap().starts_with("the output could not be kept: "));
    }

    #[test]
    fn a_stream_that_nobody_finished_leaves_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let stream = Stream::new(directory.path(), "a.out".into(), 10_000, &Redactor::default());
        stream.push(&[b'x'; 5000]);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        drop(stream);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
