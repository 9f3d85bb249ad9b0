//! Reads the body of `operations/list` item by item, however big it is.
//!
//! A body without its closing `]}` is an error: an original agent that fails halfway through a listing ends the
//! body cleanly at that point (spec agent.md 2.6.8), and a short list taken for a complete one loses backups.

use common::api::agent::{ListItem, Listing};

/// Bytes of one item at most; names are below 1 KiB, so this is far away from any real one.
const ITEM_LIMIT: usize = 1024 * 1024;

/// Why a body is not a listing.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListingError {
    #[error("the listing ends without its closing brackets: it is incomplete")]
    Truncated,
    #[error("not a listing: {0}")]
    Shape(&'static str),
    #[error("an item of the listing cannot be read")]
    Item(#[source] serde_json::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the `[`.
    Head,
    /// Between items.
    Between,
    /// Within an item.
    Item { depth: usize, in_text: bool, escaped: bool },
    /// After the `]`.
    Tail,
    /// After the last `}`.
    Done,
}

/// The state of reading between two pieces of a body.
pub(super) struct ListParser {
    state: State,
    buffer: Vec<u8>,
    /// Start of the current item in `buffer`.
    item: usize,
    /// First byte of `buffer` that was not looked at yet.
    next: usize,
}

impl ListParser {
    pub(super) fn new() -> Self {
        Self { state: State::Head, buffer: Vec::new(), item: 0, next: 0 }
    }

    /// Takes a piece of the body and returns the items that are complete now.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<ListItem>, ListingError> {
        self.buffer.extend_from_slice(bytes);
        let mut items = Vec::new();
        while self.next < self.buffer.len() {
            let byte = self.buffer[self.next];
            self.next += 1;
            self.state = match self.state {
                State::Head => self.head(byte)?,
                State::Between => self.between(byte)?,
                State::Item { depth, in_text, escaped } => {
                    self.within(byte, depth, in_text, escaped, &mut items)?
                }
                State::Tail if byte == b'}' => State::Done,
                State::Tail | State::Done if byte.is_ascii_whitespace() => self.state,
                State::Tail | State::Done => return Err(ListingError::Shape("there is more after the list")),
            };
        }
        self.forget_consumed();
        Ok(items)
    }

    /// Says whether the body was complete.
    pub(super) fn finish(self) -> Result<(), ListingError> {
        match self.state {
            State::Done => Ok(()),
            // `{"list":null}` and `{}` are how Go writes an empty list.
            State::Head if serde_json::from_slice::<Listing>(&self.buffer).is_ok() => Ok(()),
            State::Head | State::Between | State::Item { .. } | State::Tail => Err(ListingError::Truncated),
        }
    }

    fn head(&self, byte: u8) -> Result<State, ListingError> {
        if byte != b'[' {
            let short = self.buffer.len() <= ITEM_LIMIT;
            return if short { Ok(State::Head) } else { Err(ListingError::Shape("it has no list")) };
        }
        let before: Vec<u8> =
            self.buffer[..self.next - 1].iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
        if before == br#"{"list":"# { Ok(State::Between) } else { Err(ListingError::Shape("it has no list")) }
    }

    fn between(&mut self, byte: u8) -> Result<State, ListingError> {
        match byte {
            b'{' => {
                self.item = self.next - 1;
                Ok(State::Item { depth: 1, in_text: false, escaped: false })
            }
            b']' => Ok(State::Tail),
            b',' => Ok(State::Between),
            b if b.is_ascii_whitespace() => Ok(State::Between),
            _ => Err(ListingError::Shape("an item is no object")),
        }
    }

    fn within(
        &self,
        byte: u8,
        depth: usize,
        in_text: bool,
        escaped: bool,
        items: &mut Vec<ListItem>,
    ) -> Result<State, ListingError> {
        let (depth, in_text, escaped) = match (in_text, escaped, byte) {
            (true, true, _) => (depth, true, false),
            (true, false, b'\\') => (depth, true, true),
            (true, false, b'"') => (depth, false, false),
            (true, false, _) => (depth, true, false),
            (false, _, b'"') => (depth, true, false),
            (false, _, b'{' | b'[') => (depth + 1, false, false),
            (false, _, b'}' | b']') => (depth - 1, false, false),
            (false, _, _) => (depth, false, false),
        };
        if depth > 0 {
            let short = self.next - self.item <= ITEM_LIMIT;
            let state = State::Item { depth, in_text, escaped };
            return if short { Ok(state) } else { Err(ListingError::Shape("an item is longer than 1 MiB")) };
        }
        let item = serde_json::from_slice(&self.buffer[self.item..self.next]).map_err(ListingError::Item)?;
        items.push(item);
        Ok(State::Between)
    }

    /// Drops what is behind us; the head and an unfinished item are still needed.
    fn forget_consumed(&mut self) {
        let keep_from = match self.state {
            State::Head => 0,
            State::Item { .. } => self.item,
            State::Between | State::Tail | State::Done => self.next,
        };
        self.buffer.drain(..keep_from);
        self.next -= keep_from;
        self.item = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(body: &[u8], piece: usize) -> Result<Vec<String>, ListingError> {
        let mut parser = ListParser::new();
        let mut names = Vec::new();
        for piece in body.chunks(piece) {
            names.extend(parser.feed(piece)?.into_iter().map(|i| i.path));
        }
        parser.finish()?;
        Ok(names)
    }

    #[test]
    fn complete_bodies_in_pieces_of_any_size() {
        let tricky = r#"{"list":[{"Path":"a]}","Hashes":{"x":["y"]}},{"Path":"q\"\\{["}]}"#;
        let pretty = "{ \"list\" : [\n {\"Path\":\"a\"} ,\n {\"Path\":\"b\"} ]\n}\n";
        for (body, names) in [
            (tricky, &["a]}", "q\"\\{["][..]),
            (pretty, &["a", "b"]),
            (r#"{"list":[]}"#, &[]),
            (r#"{"list":null}"#, &[]),
            ("{}\n", &[]),
        ] {
            for piece in [1, 2, 3, 7, 1000] {
                assert_eq!(read(body.as_bytes(), piece).unwrap(), names, "{body} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let body = r#"{"list":[{"Path":"a"},{"Path":"b"}]}"#;
        for cut in 0..body.len() {
            let error = read(&body.as_bytes()[..cut], 5).unwrap_err();
            assert!(matches!(error, ListingError::Truncated), "cut at {cut}: {error}");
        }
    }

    #[test]
    fn other_bodies_are_refused() {
        for body in [r#"{"error":[1]}"#, r#"{"list":[1]}"#, r#"{"list":[]} x"#, r#"{"list":[{"Path":1}]}"#] {
            assert!(!matches!(read(body.as_bytes(), 3), Ok(_) | Err(ListingError::Truncated)), "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_names_survive(names in proptest::collection::vec(".{0,40}", 0..20), piece in 1_usize..50) {
            let list = names.iter().map(|n| ListItem { path: n.clone(), ..Default::default() }).collect();
            let body = serde_json::to_vec(&Listing { list }).unwrap();
            prop_assert_eq!(read(&body, piece).unwrap(), names);
        }
    }
}
