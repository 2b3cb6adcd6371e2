//! Takes secrets out of what is written: every byte that belongs to one, in any of its forms, gives way to a mark.
//!
//! Pure, and linear in what it reads. How the bytes are cut into pieces changes nothing: what may be the beginning of
//! a secret is held back until it is clear whether it is. May import: `model`. Must never: hold back more than that.

use super::forms;
use crate::model::Secret;
use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, MatchKind};
use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

/// What stands where a secret stood.
pub const MARK: &str = "(secret)";

/// Knows what must not be seen. Cheap to clone; the default one knows nothing.
#[derive(Clone, Default)]
pub struct Redactor(Option<Arc<Table>>);

struct Table {
    automaton: NFA,
    start: StateID,
    places: HashMap<StateID, Place>,
}

/// What a state of the automaton says of the bytes before it.
#[derive(Clone, Copy, Default)]
struct Place {
    /// So many of them may be the beginning of a form.
    depth: usize,
    /// So many of them are a form, the longest that ends here.
    found: usize,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

impl Redactor {
    /// One that knows `secrets`; those shorter than [`forms::MIN_LENGTH`] are left out.
    pub fn new<'s>(secrets: impl IntoIterator<Item = &'s Secret>) -> Self {
        let patterns: Vec<Vec<u8>> =
            secrets.into_iter().flat_map(|secret| forms::of(secret.expose())).collect();
        Self(Table::build(&patterns).map(Arc::new))
    }

    /// `text` without any secret.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some(table) = &self.0 else { return Cow::Borrowed(text) };
        if !table.finds(text.as_bytes()) {
            return Cow::Borrowed(text);
        }
        let mut out = Vec::with_capacity(text.len());
        let mut stream = self.stream();
        stream.push(text.as_bytes(), &mut out);
        stream.finish(&mut out);
        // A form of a text is text, so what is left between forms is text as well, except where a percent-encoded or
        // base64 form meets one: those are ASCII.
        Cow::Owned(String::from_utf8_lossy(&out).into_owned())
    }

    /// For bytes that come in pieces.
    pub fn stream(&self) -> Stream {
        Stream { table: self.0.clone(), state: None, ..Stream::default() }
    }
}

impl Table {
    fn build(patterns: &[Vec<u8>]) -> Option<Self> {
        if patterns.is_empty() {
            return None;
        }
        let mut builder = NFA::builder();
        // It fails only beyond 2^31 states, which bounded secrets in bounded forms do not reach.
        let automaton = builder.match_kind(MatchKind::Standard).prefilter(false).build(patterns).ok()?;
        let start = automaton.start_state(Anchored::No).ok()?;
        let mut places: HashMap<StateID, Place> = HashMap::new();
        for pattern in patterns {
            let mut state = start;
            for (at, byte) in pattern.iter().enumerate() {
                state = automaton.next_state(Anchored::No, state, *byte);
                places.entry(state).or_insert_with(|| {
                    let ends = if automaton.is_match(state) { automaton.match_len(state) } else { 0 };
                    let length = |index| automaton.pattern_len(automaton.match_pattern(state, index));
                    Place { depth: at + 1, found: (0..ends).map(length).max().unwrap_or(0) }
                });
            }
        }
        Some(Self { automaton, start, places })
    }

    fn step(&self, state: StateID, byte: u8) -> (StateID, Place) {
        let state = self.automaton.next_state(Anchored::No, state, byte);
        let place = if state == self.start { None } else { self.places.get(&state) };
        (state, place.copied().unwrap_or_default())
    }

    fn finds(&self, bytes: &[u8]) -> bool {
        let mut state = self.start;
        bytes.iter().any(|byte| {
            let (next, place) = self.step(state, *byte);
            state = next;
            place.found > 0
        })
    }
}

/// Bytes on their way out.
#[derive(Default)]
pub struct Stream {
    table: Option<Arc<Table>>,
    state: Option<StateID>,
    /// What is held back.
    pending: VecDeque<u8>,
    /// How many bytes went in.
    taken: u64,
    /// Where secrets are among what is held back, first byte and the one behind; in order, none touching the next.
    secrets: VecDeque<(u64, u64)>,
    /// Whether the last byte let go belonged to a secret.
    within: bool,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is held back may be most of a secret.
        f.debug_struct("Stream").field("held", &self.pending.len()).finish_non_exhaustive()
    }
}

impl Stream {
    /// Whether it lets everything pass as it is.
    pub fn is_idle(&self) -> bool {
        self.table.is_none()
    }

    /// How many bytes are held back.
    pub fn held(&self) -> usize {
        self.pending.len()
    }

    /// Takes the next bytes, and appends to `out` what is clear.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let Some(table) = self.table.clone() else { return out.extend_from_slice(bytes) };
        let mut state = self.state.unwrap_or(table.start);
        for byte in bytes {
            let (next, place) = table.step(state, *byte);
            state = next;
            self.taken += 1;
            if place.depth == 0 && self.pending.is_empty() {
                self.within = false;
                out.push(*byte);
                continue;
            }
            self.pending.push_back(*byte);
            if place.found > 0 {
                self.found(self.taken - place.found as u64, self.taken);
            }
            self.release(place.depth, out);
        }
        self.state = Some(state);
    }

    /// Appends what is still held back; nothing comes after it.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.release(0, out);
        self.state = None;
    }

    fn found(&mut self, mut from: u64, to: u64) {
        // Later ones end later, so only the last ones can touch it.
        while let Some((start, _)) = self.secrets.pop_back_if(|(_, end)| *end >= from) {
            from = from.min(start);
        }
        self.secrets.push_back((from, to));
    }

    /// Lets go of all but the last `keep` bytes.
    fn release(&mut self, keep: usize, out: &mut Vec<u8>) {
        while self.pending.len() > keep {
            let at = self.taken - self.pending.len() as u64;
            let Some(byte) = self.pending.pop_front() else { return };
            while self.secrets.front().is_some_and(|(_, end)| *end <= at) {
                self.secrets.pop_front();
            }
            let is_secret = self.secrets.front().is_some_and(|(start, _)| *start <= at);
            if !is_secret {
                out.push(byte);
            } else if !self.within {
                out.extend_from_slice(MARK.as_bytes());
            }
            self.within = is_secret;
        }
    }
}
