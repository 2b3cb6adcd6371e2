//! The bytes of one stored value: a version, a kind, a checksum, the payload; long values in parts.
//!
//! May import: `store`'s errors. Must never: read or write anything, or trust a byte that it did not check.
//! The checksum covers the engine's whole key, so bytes that end up under a wrong key are found too. An engine key
//! is one byte for the key space, the user's key and, for a part, its number: scans of records never meet a part.
//!
//! ```text
//! 0  version (1)   1  kind   2..6  CRC32, little endian, of version, kind, key and payload   6..  payload
//! kind whole: the value.  kind head: parts u32, length u64, CRC32 of the value.  kind part: a piece of it.
//! ```

use super::ReadError;

/// The longest piece under one key, in bytes: a frame stays below the 4 KiB that the embedded engine likes.
pub(super) const PIECE: usize = 3584;

/// Key space of what the implementation itself keeps.
pub(super) const META: u8 = 0;
/// Key space of the records, in the order of their keys.
pub(super) const RECORDS: u8 = 1;
/// Key space of the parts of long values.
pub(super) const PARTS: u8 = 2;

const VERSION: u8 = 1;
const WHOLE: u8 = 0;
const HEAD: u8 = 1;
const PART: u8 = 2;
const OVERHEAD: usize = 6;
const HEAD_LEN: usize = 16;

/// What the frame under a record's own key holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// The value itself.
    Whole(Vec<u8>),
    /// The value is in parts.
    Split(Head),
}

/// How a split value is to be put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// How many parts.
    pub(super) parts: u32,
    length: u64,
    crc: u32,
}

/// The engine key of the record `key`.
pub(super) fn record_key(key: &[u8]) -> Vec<u8> {
    [&[RECORDS], key].concat()
}

/// The engine key of a part of the record `key`. The number has a fixed width, so no two are the same.
pub(super) fn part_key(key: &[u8], number: u32) -> Vec<u8> {
    [&[PARTS], key, &number.to_be_bytes()].concat()
}

/// The frame of a value's own key, and the pieces that go under keys of their own (none for a short value).
pub(super) fn encode<'v>(key: &[u8], value: &'v [u8]) -> (Vec<u8>, std::slice::Chunks<'v, u8>) {
    if value.len() <= PIECE {
        return (seal(key, WHOLE, value), [].chunks(1));
    }
    let pieces = value.chunks(PIECE);
    // Chunks of a slice in memory: their number fits 32 bits up to 14 TiB.
    let parts = u32::try_from(pieces.len()).unwrap_or(u32::MAX);
    let mut head = Vec::with_capacity(HEAD_LEN);
    head.extend_from_slice(&parts.to_le_bytes());
    head.extend_from_slice(&(value.len() as u64).to_le_bytes());
    head.extend_from_slice(&crc32fast::hash(value).to_le_bytes());
    (seal(key, HEAD, &head), pieces)
}

/// The frame of one part, `key` being the part's own.
pub(super) fn encode_part(key: &[u8], piece: &[u8]) -> Vec<u8> {
    seal(key, PART, piece)
}

/// What the frame under `key` holds.
///
/// # Errors
/// [`ReadError::Damaged`] when version, kind, checksum or length do not fit.
pub(super) fn decode(key: &[u8], frame: &[u8]) -> Result<Record, ReadError> {
    match open(key, frame)? {
        (WHOLE, value) => Ok(Record::Whole(value.to_vec())),
        (HEAD, head) => match read_head(head) {
            Some(head) => Ok(Record::Split(head)),
            None => Err(damaged(key, "the head of a long value has a wrong length")),
        },
        (kind, _) => Err(damaged(key, &format!("a frame of kind {kind} where a value begins"))),
    }
}

/// Appends the part under `key` to `value`.
///
/// # Errors
/// [`ReadError::Damaged`] as for [`decode`].
pub(super) fn append_part(key: &[u8], frame: &[u8], value: &mut Vec<u8>) -> Result<(), ReadError> {
    match open(key, frame)? {
        (PART, piece) => {
            value.extend_from_slice(piece);
            Ok(())
        }
        (kind, _) => Err(damaged(key, &format!("a frame of kind {kind} where a part should be"))),
    }
}

/// Checks a value that was put together from its parts.
///
/// # Errors
/// [`ReadError::Damaged`] when length or checksum are not those of `head`.
pub(super) fn check_whole(key: &[u8], head: &Head, value: &[u8]) -> Result<(), ReadError> {
    if value.len() as u64 != head.length {
        return Err(damaged(key, &format!("{} bytes in parts instead of {}", value.len(), head.length)));
    }
    if crc32fast::hash(value) != head.crc {
        return Err(damaged(key, "the parts do not belong together"));
    }
    Ok(())
}

/// The fingerprint of an entry, for sums over many: its checksum, spread over 64 bits.
pub(super) fn fingerprint(frame: &[u8]) -> u64 {
    let crc = frame.get(2..OVERHEAD).and_then(|crc| crc.try_into().ok()).map_or(0, u32::from_le_bytes);
    // The finishing steps of splitmix64, so that two changes do not cancel each other in a sum.
    let mut mixed = (u64::from(crc) | (frame.len() as u64) << 32).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Checks one entry for itself, whatever it is.
///
/// # Errors
/// [`ReadError::Damaged`] when version or checksum do not fit.
pub(super) fn check(key: &[u8], frame: &[u8]) -> Result<(), ReadError> {
    open(key, frame).map(drop)
}

/// The error for an engine key whose bytes do not fit. It names the record as the user knows it.
pub(super) fn damaged(key: &[u8], why: &str) -> ReadError {
    let key = match key {
        [PARTS, rest @ ..] => &rest[..rest.len().saturating_sub(4)],
        [_, rest @ ..] => rest,
        [] => key,
    };
    ReadError::Damaged { key: printable(key), why: why.to_owned() }
}

/// A key for people: text as it is, other bytes as `\xNN`, at most 200 characters.
pub(super) fn printable(key: &[u8]) -> String {
    let mut text = key.escape_ascii().to_string();
    if text.len() > 200 {
        text.truncate(197);
        text.push_str("...");
    }
    text
}

fn seal(key: &[u8], kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(OVERHEAD + payload.len());
    frame.push(VERSION);
    frame.push(kind);
    frame.extend_from_slice(&checksum(kind, key, payload).to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn open<'f>(key: &[u8], frame: &'f [u8]) -> Result<(u8, &'f [u8]), ReadError> {
    let [version, kind, a, b, c, d, payload @ ..] = frame else {
        return Err(damaged(key, &format!("only {} bytes of a frame", frame.len())));
    };
    if *version != VERSION {
        return Err(damaged(key, &format!("frame version {version}, known is {VERSION}")));
    }
    if checksum(*kind, key, payload) != u32::from_le_bytes([*a, *b, *c, *d]) {
        return Err(damaged(key, "the checksum does not match"));
    }
    Ok((*kind, payload))
}

fn checksum(kind: u8, key: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[VERSION, kind]);
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(payload);
    hasher.finalize()
}

fn read_head(head: &[u8]) -> Option<Head> {
    let parts = head.get(0..4)?.try_into().ok()?;
    let length = head.get(4..12)?.try_into().ok()?;
    let crc = head.get(12..HEAD_LEN)?.try_into().ok()?;
    (head.len() == HEAD_LEN).then_some(Head {
        parts: u32::from_le_bytes(parts),
        length: u64::from_le_bytes(length),
        crc: u32::from_le_bytes(crc),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_value_comes_back_as_it_was() {
        for length in [0, 1, 100, PIECE] {
            let value = vec![7; length];
            let (frame, pieces) = encode(&record_key(b"k"), &value);
            assert_eq!(pieces.len(), 0);
            assert_eq!(decode(&record_key(b"k"), &frame).unwrap(), Record::Whole(value));
        }
    }

    #[test]
    fn a_long_value_comes_back_from_its_parts() {
        let value: Vec<u8> = (0..3 * PIECE + 1).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let (frame, pieces) = encode(&record_key(b"k"), &value);
        let Record::Split(head) = decode(&record_key(b"k"), &frame).unwrap() else { panic!("not split") };
        assert_eq!((head.parts, pieces.len()), (4, 4));
        let mut whole = Vec::new();
        for piece in pieces {
            append_part(&part_key(b"k", 3), &encode_part(&part_key(b"k", 3), piece), &mut whole).unwrap();
        }
        check_whole(&record_key(b"k"), &head, &whole).unwrap();
        assert_eq!(whole, value);
        whole[5] ^= 1;
        assert!(check_whole(&record_key(b"k"), &head, &whole).is_err());
        whole.pop();
        assert!(check_whole(&record_key(b"k"), &head, &whole).is_err());
    }

    #[test]
    fn every_flipped_bit_is_found_and_names_the_key() {
        let (frame, _) = encode(&record_key(b"episode/\xff"), b"some value");
        for bit in 0..frame.len() * 8 {
            let mut frame = frame.clone();
            frame[bit / 8] ^= 1 << (bit % 8);
            let error = decode(&record_key(b"episode/\xff"), &frame).unwrap_err();
            assert!(error.to_string().contains(r"episode/\xff"), "{error}");
        }
        for length in 0..frame.len() {
            assert!(decode(&record_key(b"episode/\xff"), &frame[..length]).is_err());
        }
    }

    #[test]
    fn a_value_under_a_wrong_key_is_found() {
        let (frame, _) = encode(&record_key(b"a"), b"value");
        assert!(decode(&record_key(b"b"), &frame).is_err());
        assert!(append_part(&record_key(b"a"), &frame, &mut Vec::new()).is_err());
        assert!(decode(&record_key(b"a"), &encode_part(&record_key(b"a"), b"value")).is_err());
    }
}
