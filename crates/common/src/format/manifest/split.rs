//! Takes the entries of a manifest's index out of its text as it comes: each entry whole, for a parser of slices, which
//! is several times as fast as one of streams, and nothing else of the index in memory.
//!
//! In the rest of the text a `0` stands in the place of each entry, so that whoever parses the rest has looked at every
//! byte: the commas between the entries, the brackets around them, what comes behind them.

use std::io;

use super::ManifestError;

/// Where in the text the splitter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the outer object.
    Around,
    /// Between the brackets of the index.
    Index,
    /// In an entry.
    Entry,
}

/// Cuts a text that arrives in chunks.
#[derive(Debug)]
pub(super) struct Splitter {
    place: Place,
    /// Open braces and brackets of the outer object, or of an entry.
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// Begin, in `rest`, of the string that was read last in the outer object.
    string_at: usize,
    /// The value to come is that of the key `index`.
    at_index: bool,
    rest: Vec<u8>,
    entry: Vec<u8>,
    entries: usize,
    limits: Limits,
    detail: Detail,
}

/// How much of an entry is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// All of it.
    Whole,
    /// Its own values; of lists in it only the brackets, which saves whoever parses it nearly everything. What is between
    /// them is then known by the checksum of the archive alone.
    Scalars,
}

/// Most bytes that are held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Of the text around the index.
    pub rest: usize,
    /// Of one entry.
    pub entry: usize,
}

/// Bytes that mean something outside strings within an entry.
const STRUCTURE: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    while at < STRUCTURAL.len() {
        table[STRUCTURAL[at] as usize] = true;
        at += 1;
    }
    table
};
const STRUCTURAL: &[u8] = b"\"[]{}";

impl Splitter {
    /// A splitter that has read nothing yet.
    pub(super) fn new(limits: Limits, detail: Detail) -> Self {
        Self {
            place: Place::Around,
            depth: 0,
            in_string: false,
            escaped: false,
            string_at: 0,
            at_index: false,
            rest: Vec::new(),
            entry: Vec::new(),
            entries: 0,
            limits,
            detail,
        }
    }

    /// Takes the next chunk and hands out the entries that end in it.
    ///
    /// # Errors
    /// A piece is too long, or `on_entry` refuses an entry.
    pub(super) fn feed(
        &mut self,
        mut chunk: &[u8],
        mut on_entry: impl FnMut(&[u8]) -> Result<(), ManifestError>,
    ) -> Result<(), ManifestError> {
        while let Some((&byte, behind)) = chunk.split_first() {
            if self.in_string {
                let run = self.string_run(chunk);
                self.keep(&chunk[..run])?;
                chunk = &chunk[run..];
                continue;
            }
            if self.place == Place::Entry {
                let plain =
                    chunk.iter().position(|byte| STRUCTURE[usize::from(*byte)]).unwrap_or(chunk.len());
                if plain > 0 {
                    self.keep(&chunk[..plain])?;
                    chunk = &chunk[plain..];
                    continue;
                }
            }
            chunk = behind;
            match (self.place, byte) {
                (Place::Index, b'{') => {
                    (self.place, self.depth) = (Place::Entry, 1);
                    self.keep(b"{")?;
                    continue;
                }
                (Place::Index, b']') => (self.place, self.depth) = (Place::Around, 1),
                (Place::Around, b'[') if self.depth == 1 && self.at_index => {
                    (self.place, self.at_index) = (Place::Index, false);
                }
                (Place::Around | Place::Entry, b'{' | b'[') => self.depth += 1,
                (Place::Around | Place::Entry, b'}' | b']') => self.depth = self.depth.saturating_sub(1),
                (Place::Around, b':') => {
                    self.at_index =
                        self.depth == 1 && self.rest[self.string_at..].trim_ascii_end() == b"\"index\"";
                }
                (Place::Around, b',') => self.at_index = false,
                _ => {}
            }
            if byte == b'"' {
                self.in_string = true;
                self.string_at = self.rest.len();
            }
            if self.is_kept() || matches!(byte, b'[' | b'{') && self.depth == 2 {
                self.keep_always(&[byte])?;
            }
            if self.place == Place::Entry && self.depth == 0 {
                on_entry(&self.entry)?;
                self.entry.clear();
                self.entries += 1;
                self.place = Place::Index;
                self.keep(b"0")?;
            }
        }
        Ok(())
    }

    /// How many bytes at the beginning of `chunk` still belong to the string, its end included.
    fn string_run(&mut self, chunk: &[u8]) -> usize {
        let mut at = 0;
        if self.escaped {
            self.escaped = false;
            at = 1;
        }
        while let Some(found) = chunk.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
            at += found + 1;
            if chunk[at - 1] == b'"' {
                self.in_string = false;
                return at;
            }
            if at == chunk.len() {
                self.escaped = true;
                return at;
            }
            at += 1;
        }
        chunk.len()
    }

    /// Whether what stands at this depth is handed out.
    fn is_kept(&self) -> bool {
        self.detail == Detail::Whole || self.place != Place::Entry || self.depth <= 1
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), ManifestError> {
        if self.is_kept() { self.keep_always(bytes) } else { Ok(()) }
    }

    fn keep_always(&mut self, bytes: &[u8]) -> Result<(), ManifestError> {
        let (piece, limit, what) = match self.place {
            Place::Entry => (&mut self.entry, self.limits.entry, "one table takes"),
            Place::Around | Place::Index => {
                (&mut self.rest, self.limits.rest, "the text around its tables takes")
            }
        };
        if piece.len() + bytes.len() > limit {
            let text = format!("{what} more than {limit} bytes");
            return Err(ManifestError::Read(io::Error::new(io::ErrorKind::InvalidData, text)));
        }
        piece.extend_from_slice(bytes);
        Ok(())
    }

    /// The text without the entries, and how many there were.
    pub(super) fn finish(self) -> (Vec<u8>, usize) {
        let mut rest = self.rest;
        // A text that ends within an entry must not look whole.
        rest.extend_from_slice(&self.entry);
        (rest, self.entries)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn split(text: &str, chunk: usize, detail: Detail) -> (Vec<Value>, Value) {
        let limits = Limits { rest: 1 << 20, entry: 1 << 20 };
        let (mut splitter, mut entries) = (Splitter::new(limits, detail), Vec::new());
        for chunk in text.as_bytes().chunks(chunk) {
            let keep = |entry: &[u8]| {
                entries.push(serde_json::from_slice(entry).unwrap());
                Ok(())
            };
            splitter.feed(chunk, keep).unwrap();
        }
        let (rest, count) = splitter.finish();
        assert_eq!(count, entries.len());
        (entries, serde_json::from_slice(&rest).unwrap())
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            r#"[a-z"\\{}\[\]:, é]{0,6}|index"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(r#"[a-z"\\]{0,3}|index"#, inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn any_object() -> impl Strategy<Value = Value> {
        prop::collection::btree_map(r#"[a-z"\\]{0,4}"#, any_json(), 0..4)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    /// An object with nothing in the lists and objects that it holds.
    fn emptied(mut object: Value) -> Value {
        for value in object.as_object_mut().into_iter().flat_map(|o| o.values_mut()) {
            match value {
                Value::Array(list) => list.clear(),
                Value::Object(object) => object.clear(),
                _ => {}
            }
        }
        object
    }

    proptest! {
        #[test]
        fn entries_and_rest_are_the_text(
            header in any_object(),
            entries in prop::collection::vec(any_object(), 0..4),
            chunk in 1..40_usize,
            pretty: bool,
        ) {
            let mut text = header.clone();
            text["index"] = json!(entries);
            let written = if pretty { serde_json::to_string_pretty(&text) } else { serde_json::to_string(&text) };
            let written = written.unwrap();
            text["index"] = json!(vec![0; entries.len()]);
            let (found, rest) = split(&written, chunk, Detail::Whole);
            prop_assert_eq!((&found, &rest), (&entries, &text));

            let (found, rest) = split(&written, chunk, Detail::Scalars);
            let emptied: Vec<Value> = entries.into_iter().map(emptied).collect();
            prop_assert_eq!((found, rest), (emptied, text));
        }
    }

    #[test]
    fn only_the_outer_key_is_the_index() {
        for (text, expected) in [
            (r#"{"a":{"index":[{}]},"index":[{"b":1}]}"#, vec![json!({"b": 1})]),
            (r#"{"a":"index","b":[{}]}"#, vec![]),
            (r#"{"index":{"c":[{}]}}"#, vec![]),
            (r#"{"index":null,"d":[{}]}"#, vec![]),
            (
                r#"{ "index" : [ {"e":[{"f":"]}"}]} , {} ] , "g":[{}]}"#,
                vec![json!({"e": [{"f": "]}"}]}), json!({})],
            ),
            (r#"[{"index":[{}]}]"#, vec![]),
        ] {
            for chunk in [1, 3, 1000] {
                assert_eq!(split(text, chunk, Detail::Whole).0, expected, "{text}");
            }
        }
    }

    #[test]
    fn pieces_have_a_limit() {
        for (text, words) in [
            (r#"{"index":[{"a":"0123456789"}]}"#, "one table takes more than 16 bytes"),
            (r#"{"a":"01234567890123456789"}"#, "the text around its tables takes more than 20 bytes"),
        ] {
            let mut splitter = Splitter::new(Limits { rest: 20, entry: 16 }, Detail::Whole);
            let failed = splitter.feed(text.as_bytes(), |_| Ok(())).unwrap_err();
            assert!(crate::error::chain(&failed).contains(words), "{failed:?}");
        }
    }
}
