//! Server-sent events from bytes, as the HTML standard's "event stream interpretation" has it.
//!
//! Pure. May import: nothing. Must never: keep more of an event than its bound.

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// The last id seen, this event's own included.
    pub(super) id: Option<String>,
    /// Its kind; empty where none was sent.
    pub(super) kind: String,
    /// Its data, lines joined.
    pub(super) data: String,
}

/// An event is longer than the bound.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Bytes in, events out.
#[derive(Debug)]
pub(super) struct Decoder {
    most: usize,
    line: Vec<u8>,
    /// The last byte was a carriage return, so a line feed belongs to the same line end.
    returned: bool,
    event: Event,
    has_data: bool,
}

impl Decoder {
    /// A decoder of events of at most `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { most, line: Vec::new(), returned: false, event: Event::default(), has_data: false }
    }

    /// Takes the next bytes of the stream and gives the events they complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        for &byte in bytes {
            let follows_return = std::mem::replace(&mut self.returned, byte == b'\r');
            match byte {
                b'\n' if follows_return => {}
                b'\n' | b'\r' => events.extend(self.line()),
                byte => {
                    if self.line.len() + self.event.data.len() >= self.most {
                        return Err(TooLong);
                    }
                    self.line.push(byte);
                }
            }
        }
        Ok(events)
    }

    fn line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let line = line.strip_prefix('\u{feff}').unwrap_or(&line);
        if line.is_empty() {
            let next = Event { id: self.event.id.clone(), ..Event::default() };
            let event = std::mem::replace(&mut self.event, next);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" if !value.contains('\0') => self.event.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.event.kind),
            "data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
                self.has_data = true;
            }
            // A comment, which says that the server lives, or a field of a later standard.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, kind: &str, data: &str) -> Event {
        Event { id: (!id.is_empty()).then(|| id.to_owned()), kind: kind.into(), data: data.into() }
    }

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut_and_lines_end() {
        let text = "\u{feff}: hello\nid: 1\nevent: started\ndata: {\ndata:  \"a\": \"ü\"}\n\ndata\n\nid: 2\nevent: end\n\nretry: 5\nevent: end\ndata: x\n\n";
        let expected =
            [event("1", "started", "{\n \"a\": \"ü\"}"), event("1", "", ""), event("2", "end", "x")];
        for ending in ["\n", "\r\n", "\r"] {
            let bytes = text.replace('\n', ending).into_bytes();
            for size in [1, 2, 3, 7, bytes.len()] {
                let mut decoder = Decoder::new(1000);
                let events: Vec<Event> =
                    bytes.chunks(size).flat_map(|chunk| decoder.push(chunk).unwrap()).collect();
                assert_eq!(events, expected, "{ending:?} {size}");
            }
        }
    }

    #[test]
    fn an_event_without_end_is_given_up() {
        let mut decoder = Decoder::new(100);
        assert_eq!(decoder.push(&[b'x'; 101]), Err(TooLong));
        let mut decoder = Decoder::new(100);
        let lines = "data: 0123456789\n".repeat(20);
        assert_eq!(decoder.push(lines.as_bytes()), Err(TooLong));
    }
}
