//! The bytes of a backup: a beginning with a version, pieces with checksums, an end with counts and a sum over all.
//!
//! ```text
//! 16 bytes "runbookd backup\n"   format u32   CRC32 of these 20 bytes
//! pieces:  kind u8   length u32   CRC32 of the piece's number, kind, length and payload   payload
//! head      JSON: what wrote it, where, as of when
//! put       length of the key u32, key, value     delete   key          later ones count over earlier ones
//! file      a name      bytes   a part of it      close    its length u64
//! given up  why there is no more of it
//! end       JSON: counts, and the SHA-256 of every byte before this piece; nothing comes behind it
//! ```
//!
//! Numbers are little endian. May import: `model`. Must never: believe a length before as many bytes have come, or take
//! a file for whole that does not end with its own sum.

use crate::model::{Timestamp, hex};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::io::{self, BufReader, Read, Write};

/// What is written, and the newest that is read. To be counted up also when older programs could not read the records.
const FORMAT: u32 = 1;
const MAGIC: &[u8; 16] = b"runbookd backup\n";
/// Bytes before a payload.
const OVERHEAD: usize = 9;
/// The longest payload: far above the longest record.
const MAX_PAYLOAD: u32 = 256 << 20;
/// Bytes of a file in one piece.
const PART: usize = 64 << 10;

const HEAD: u8 = 1;
const PUT: u8 = 2;
const DELETE: u8 = 3;
const FILE: u8 = 4;
const BYTES: u8 = 5;
const CLOSE: u8 = 6;
const GIVEN_UP: u8 = 7;
const END: u8 = 8;

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The version of the program that took it.
    pub program: String,
    /// The instance it is of.
    pub instance: String,
    /// When it was begun; what it holds is a little younger.
    pub at: Timestamp,
}

impl Head {
    /// Of a backup that this program begins now, at `at`, of `instance`.
    pub fn new(instance: &str, at: Timestamp) -> Self {
        Self { program: env!("CARGO_PKG_VERSION").to_owned(), instance: instance.to_owned(), at }
    }
}

/// What a whole backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Records that were set; one that changed meanwhile counts again.
    pub records: u64,
    /// Records that were removed again meanwhile.
    pub deletions: u64,
    /// Output files.
    pub files: u64,
    /// Bytes of them.
    pub file_bytes: u64,
    /// SHA-256 of everything before the end, in hexadecimal.
    pub sha256: String,
}

/// Why a file is no backup that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It begins with something else.
    #[error("it is no backup of runbookd")]
    Foreign,
    /// A newer program wrote it.
    #[error("it has format {found}, this program knows formats up to {FORMAT}; use the newer runbookd")]
    Newer {
        /// Its format.
        found: u32,
    },
    /// It ends too early.
    #[error("it is cut off at byte {at}: its end is missing")]
    CutOff {
        /// Where it ends.
        at: u64,
    },
    /// Bytes are not what was written.
    #[error("it is damaged at byte {at}: {why}")]
    Damaged {
        /// Where the piece begins that does not fit.
        at: u64,
        /// What does not fit.
        why: String,
    },
    /// Whoever wrote it could not finish.
    #[error("it is incomplete, because it was given up: {0}")]
    GivenUp(String),
    /// The system refused.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// One piece, checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// The first one.
    Head(Head),
    /// A record is set, or with `None` removed.
    Change(Vec<u8>, Option<Vec<u8>>),
    /// A file begins.
    File(String),
    /// More of it.
    Bytes(Vec<u8>),
    /// It is complete.
    Close,
}

/// Writes a backup. Nothing is whole before [`Writer::finish`].
pub(super) struct Writer<W> {
    out: W,
    sum: Sha256,
    pieces: u64,
    contents: Contents,
}

impl<W: Write> Writer<W> {
    /// Begins one.
    pub(super) fn begin(mut out: W, head: &Head) -> io::Result<Self> {
        let beginning = beginning(FORMAT);
        out.write_all(&beginning)?;
        let contents = Contents { records: 0, deletions: 0, files: 0, file_bytes: 0, sha256: String::new() };
        let mut writer = Self { out, sum: Sha256::new_with_prefix(beginning), pieces: 0, contents };
        writer.piece(HEAD, &[&serde_json::to_vec(head)?])?;
        Ok(writer)
    }

    /// One record set, or with `None` removed.
    pub(super) fn change(&mut self, key: &[u8], value: Option<&[u8]>) -> io::Result<()> {
        match value {
            Some(value) => {
                self.contents.records += 1;
                let length = u32::try_from(key.len()).map_err(io::Error::other)?;
                self.piece(PUT, &[&length.to_le_bytes(), key, value])
            }
            None => {
                self.contents.deletions += 1;
                self.piece(DELETE, &[key])
            }
        }
    }

    /// One file; what is read of it is in the backup.
    pub(super) fn file(&mut self, name: &str, mut content: impl Read) -> Result<(), FileError> {
        self.piece(FILE, &[name.as_bytes()]).map_err(FileError::Write)?;
        let mut part = vec![0; PART];
        let mut length = 0_u64;
        loop {
            match content.read(&mut part) {
                Ok(0) => break,
                Ok(count) => {
                    length += count as u64;
                    self.piece(BYTES, &[&part[..count]]).map_err(FileError::Write)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FileError::Read(error)),
            }
        }
        self.contents.files += 1;
        self.contents.file_bytes += length;
        self.piece(CLOSE, &[&length.to_le_bytes()]).map_err(FileError::Write)
    }

    /// Says why there is no more, to whoever reads it.
    pub(super) fn give_up(mut self, why: &str) -> io::Result<()> {
        self.piece(GIVEN_UP, &[why.as_bytes()])?;
        self.out.flush()
    }

    /// Ends it.
    pub(super) fn finish(mut self) -> io::Result<Contents> {
        self.contents.sha256 = hex(&self.sum.clone().finalize());
        let end = serde_json::to_vec(&self.contents)?;
        self.piece(END, &[&end])?;
        self.out.flush()?;
        Ok(self.contents)
    }

    fn piece(&mut self, kind: u8, payload: &[&[u8]]) -> io::Result<()> {
        let length: usize = payload.iter().map(|part| part.len()).sum();
        let length = u32::try_from(length).ok().filter(|length| *length <= MAX_PAYLOAD);
        let length = length.ok_or_else(|| io::Error::other("a record is too long for a backup"))?;
        let mut start = [0; OVERHEAD];
        start[0] = kind;
        start[1..5].copy_from_slice(&length.to_le_bytes());
        start[5..].copy_from_slice(&checksum(self.pieces, kind, length, payload).to_le_bytes());
        self.pieces += 1;
        for part in std::iter::once(&start[..]).chain(payload.iter().copied()) {
            self.sum.update(part);
            self.out.write_all(part)?;
        }
        Ok(())
    }
}

/// Why a file did not get into a backup.
#[derive(Debug)]
pub(super) enum FileError {
    Read(io::Error),
    Write(io::Error),
}

/// Reads a backup, each piece checked before it is given.
pub(super) struct Reader<R> {
    from: BufReader<R>,
    sum: Sha256,
    pieces: u64,
    at: u64,
    seen: Contents,
    /// Bytes of the file that is open.
    open: Option<u64>,
    end: Option<Contents>,
}

impl<R: Read> Reader<R> {
    /// Reads the beginning.
    ///
    /// # Errors
    /// [`Unfit`] when it is not one of ours, or too new.
    pub(super) fn begin(from: R) -> Result<Self, Unfit> {
        let mut from = BufReader::with_capacity(PART, from);
        let mut start = Vec::new();
        from.by_ref().take(24).read_to_end(&mut start)?;
        if !start.starts_with(MAGIC) {
            return Err(match MAGIC.starts_with(&start) && !start.is_empty() {
                true => Unfit::CutOff { at: start.len() as u64 },
                false => Unfit::Foreign,
            });
        }
        let Some(&[a, b, c, d, e, f, g, h]) = start.get(16..24) else {
            return Err(Unfit::CutOff { at: start.len() as u64 });
        };
        let found = u32::from_le_bytes([a, b, c, d]);
        if crc32fast::hash(&start[..20]) != u32::from_le_bytes([e, f, g, h]) {
            return Err(Unfit::Damaged {
                at: 16,
                why: "the checksum of its beginning does not match".to_owned(),
            });
        }
        if found > FORMAT {
            return Err(Unfit::Newer { found });
        }
        let seen = Contents { records: 0, deletions: 0, files: 0, file_bytes: 0, sha256: String::new() };
        let sum = Sha256::new_with_prefix(&start);
        Ok(Self { from, sum, pieces: 0, at: 24, seen, open: None, end: None })
    }

    /// The next piece; none behind the last one, when the end was there and was right.
    ///
    /// # Errors
    /// [`Unfit`]; then nothing more can be believed.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, Unfit> {
        if self.end.is_some() {
            return Ok(None);
        }
        let at = self.at;
        let damaged = |why: &str| Unfit::Damaged { at, why: why.to_owned() };
        let before = self.sum.clone();
        let (kind, payload) = self.payload()?;
        if (kind == HEAD) != (self.pieces == 1) {
            return Err(damaged("its head is not at its beginning"));
        }
        if self.open.is_some() != matches!(kind, BYTES | CLOSE) && kind != GIVEN_UP {
            return Err(damaged("a file and what is in it do not fit together"));
        }
        let piece = match kind {
            HEAD => {
                Piece::Head(serde_json::from_slice(&payload).map_err(|_| damaged("its head makes no sense"))?)
            }
            PUT => {
                self.seen.records += 1;
                let (key, value) = split(&payload).ok_or_else(|| damaged("a record is too short"))?;
                Piece::Change(key.to_vec(), Some(value.to_vec()))
            }
            DELETE => {
                self.seen.deletions += 1;
                Piece::Change(payload, None)
            }
            FILE => {
                self.open = Some(0);
                let name = String::from_utf8(payload).ok().filter(|name| is_file_name(name));
                Piece::File(name.ok_or_else(|| damaged("a file has a name that no output has"))?)
            }
            BYTES => {
                self.open = self.open.map(|length| length + payload.len() as u64);
                Piece::Bytes(payload)
            }
            CLOSE => {
                let length = self.open.take().unwrap_or_default();
                if payload != length.to_le_bytes() {
                    return Err(damaged("a file has another length than was written"));
                }
                self.seen.files += 1;
                self.seen.file_bytes += length;
                Piece::Close
            }
            GIVEN_UP => {
                return Err(Unfit::GivenUp(String::from_utf8_lossy(&payload).chars().take(1000).collect()));
            }
            END => {
                self.seen.sha256 = hex(&before.finalize());
                self.end(&payload, at)?;
                return Ok(None);
            }
            _ => return Err(damaged("a piece of a kind that does not exist")),
        };
        Ok(Some(piece))
    }

    /// Whether the end is right, and the end.
    fn end(&mut self, payload: &[u8], at: u64) -> Result<(), Unfit> {
        let damaged = |at: u64, why: &str| Unfit::Damaged { at, why: why.to_owned() };
        let end: Contents =
            serde_json::from_slice(payload).map_err(|_| damaged(at, "its end makes no sense"))?;
        if end != self.seen {
            return Err(damaged(at, "what came before its end is not what was written"));
        }
        if self.from.read(&mut [0])? != 0 {
            return Err(damaged(self.at, "something follows its end"));
        }
        self.end = Some(end);
        Ok(())
    }

    /// What is in it, once [`Reader::next`] has said that there is no more.
    pub(super) fn contents(self) -> Option<Contents> {
        self.end
    }

    fn payload(&mut self) -> Result<(u8, Vec<u8>), Unfit> {
        let at = self.at;
        let start = self.bytes(OVERHEAD as u64)?;
        let [kind, a, b, c, d, e, f, g, h] = start[..] else { return Err(Unfit::CutOff { at: self.at }) };
        let length = u32::from_le_bytes([a, b, c, d]);
        if length > MAX_PAYLOAD {
            return Err(Unfit::Damaged { at, why: format!("a piece of {length} bytes") });
        }
        let payload = self.bytes(u64::from(length))?;
        if checksum(self.pieces, kind, length, &[&payload]) != u32::from_le_bytes([e, f, g, h]) {
            return Err(Unfit::Damaged { at, why: "a checksum does not match".to_owned() });
        }
        self.pieces += 1;
        self.sum.update(&start);
        self.sum.update(&payload);
        Ok((kind, payload))
    }

    /// Memory grows with what has come, never with what a length promises.
    fn bytes(&mut self, count: u64) -> Result<Vec<u8>, Unfit> {
        let mut bytes = Vec::new();
        self.from.by_ref().take(count).read_to_end(&mut bytes)?;
        self.at += bytes.len() as u64;
        if bytes.len() as u64 == count { Ok(bytes) } else { Err(Unfit::CutOff { at: self.at }) }
    }
}

/// Whether outputs have such names: words with dots between them, so that none leads anywhere else.
pub(super) fn is_file_name(name: &str) -> bool {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    name.len() <= 255 && !name.starts_with('.') && !name.is_empty() && name.chars().all(is_fine)
}

fn beginning(format: u32) -> Vec<u8> {
    let start = [&MAGIC[..], &format.to_le_bytes()].concat();
    let crc = crc32fast::hash(&start).to_le_bytes();
    [&start[..], &crc].concat()
}

fn split(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = payload.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

fn checksum(number: u64, kind: u8, length: u32, payload: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(&[kind]);
    hasher.update(&length.to_le_bytes());
    payload.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Made = (Vec<(Vec<u8>, Option<Vec<u8>>)>, Vec<(String, Vec<u8>)>);

    fn head() -> Head {
        let at = "2026-08-01T10:00:00Z".parse().unwrap();
        Head { program: "1.2.3".to_owned(), instance: "here".to_owned(), at }
    }

    fn write((changes, files): &Made) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::begin(&mut bytes, &head()).unwrap();
        for (key, value) in changes {
            writer.change(key, value.as_deref()).unwrap();
        }
        for (name, content) in files {
            writer.file(name, &content[..]).unwrap();
        }
        writer.finish().unwrap();
        bytes
    }

    fn read(bytes: &[u8]) -> Result<(Made, Contents), Unfit> {
        let mut reader = Reader::begin(bytes)?;
        let (mut changes, mut files) = Made::default();
        while let Some(piece) = reader.next()? {
            match piece {
                Piece::Head(found) => assert_eq!(found, head()),
                Piece::Change(key, value) => changes.push((key, value)),
                Piece::File(name) => files.push((name, Vec::new())),
                Piece::Bytes(more) => files.last_mut().unwrap().1.extend(more),
                Piece::Close => {}
            }
        }
        Ok(((changes, files), reader.contents().unwrap()))
    }

    fn small() -> Made {
        let changes = vec![
            (b"a/1".to_vec(), Some(b"one".to_vec())),
            (Vec::new(), Some(Vec::new())),
            (b"a/2".to_vec(), Some(vec![7; 300])),
            (b"a/1".to_vec(), None),
        ];
        (changes, vec![("x_1.s.1.stdout".to_owned(), b"said".to_vec()), ("empty".to_owned(), Vec::new())])
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused_and_says_what_is_wrong() {
        let bytes = write(&small());
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let wrong = read(&bytes).map(drop).unwrap_err();
            assert!(
                matches!(wrong, Unfit::Foreign | Unfit::Damaged { .. } | Unfit::CutOff { .. }),
                "{bit}: {wrong}"
            );
        }
        for length in 0..bytes.len() {
            let wrong = read(&bytes[..length]).map(drop).unwrap_err();
            assert!(matches!(wrong, Unfit::CutOff { .. }) || length == 0, "{length}: {wrong}");
        }
        let wrong = read(&[&bytes[..], b"\n"].concat()).map(drop).unwrap_err();
        assert!(wrong.to_string().contains("follows its end"), "{wrong}");
    }

    #[test]
    fn t45_a_newer_format_is_refused_before_anything_of_it_is_read() {
        let mut bytes = beginning(FORMAT + 1);
        bytes.extend_from_slice(b"whatever that may be");
        let wrong = read(&bytes).map(drop).unwrap_err();
        assert!(matches!(wrong, Unfit::Newer { found: 2 }), "{wrong}");
    }

    #[test]
    fn pieces_in_another_order_or_twice_are_refused() {
        let bytes = write(&(vec![(b"k".to_vec(), Some(b"v".to_vec()))], Vec::new()));
        let length =
            |at: usize| u32::from_le_bytes(bytes[at + 1..at + 5].try_into().unwrap()) as usize + OVERHEAD;
        let (head, put) = (24, 24 + length(24));
        let end = put + length(put);
        let (head, put) = (&bytes[head..put], &bytes[put..end]);
        for order in [vec![head, put, put], vec![put, head], vec![head]] {
            let pieces = order.concat();
            let moved: Vec<u8> =
                bytes[..24].iter().copied().chain(pieces).chain(bytes[end..].to_vec()).collect();
            assert!(read(&moved).is_err());
        }
    }

    #[test]
    fn who_gives_up_says_why() {
        let mut bytes = Vec::new();
        let writer = Writer::begin(&mut bytes, &head()).unwrap();
        writer.give_up("the disk is gone").unwrap();
        let wrong = read(&bytes).map(drop).unwrap_err();
        assert!(matches!(&wrong, Unfit::GivenUp(why) if why == "the disk is gone"), "{wrong}");
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        for name in ["", ".", "..", "../x", "a/b", ".hidden", "a\0b", "ü"] {
            assert!(read(&write(&(Vec::new(), vec![(name.to_owned(), Vec::new())]))).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_length_that_promises_much_costs_nothing() {
        let mut bytes = beginning(FORMAT);
        bytes.push(PUT);
        bytes.extend_from_slice(&MAX_PAYLOAD.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        assert!(matches!(read(&bytes), Err(Unfit::CutOff { at: 33 })));
    }

    fn made() -> impl Strategy<Value = Made> {
        let bytes = |most| prop::collection::vec(any::<u8>(), 0..most);
        let changes = prop::collection::vec((bytes(20), prop::option::of(bytes(200))), 0..12);
        let files = prop::collection::vec(("[a-z0-9_]{1,10}", bytes(400)), 0..4);
        (changes, files)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(made in made()) {
            let bytes = write(&made);
            let (read, contents) = read(&bytes).unwrap();
            prop_assert_eq!(&read, &made);
            prop_assert_eq!(contents.files as usize, made.1.len());
            prop_assert_eq!((contents.records + contents.deletions) as usize, made.0.len());
        }

        #[test]
        fn what_was_changed_anywhere_is_refused(
            made in made(),
            places in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..4),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let good = write(&made);
            let mut bytes = good.clone();
            for (place, change) in places {
                let at = place.index(bytes.len());
                bytes[at] ^= change;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            prop_assert!(bytes == good || read(&bytes).is_err());
        }

        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300), begins: bool) {
            let bytes = if begins { [beginning(FORMAT), bytes].concat() } else { bytes };
            prop_assert!(read(&bytes).is_err());
        }
    }
}
