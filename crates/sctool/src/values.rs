//! Types of flag values that have nothing to do with backups: switches, integers, comma lists.

use std::fmt::Display;
use std::str::FromStr;

/// Texts of a boolean flag value (spec/sctool.md 1.6).
pub const BOOLEAN_TEXTS: [&str; 12] =
    ["1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"];

/// A boolean flag. Its own type, because the argument reader tells switches from valued flags by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch(pub bool);

#[derive(Debug, thiserror::Error)]
#[error("strconv.ParseBool: parsing {0:?}: invalid syntax")]
pub struct InvalidSwitch(String);

impl FromStr for Switch {
    type Err = InvalidSwitch;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match BOOLEAN_TEXTS.iter().position(|known| *known == text) {
            Some(at) => Ok(Self(at < 6)),
            None => Err(InvalidSwitch(text.to_owned())),
        }
    }
}

/// True if the switch was given and is on.
pub fn is_on(switch: Option<Switch>) -> bool {
    switch.is_some_and(|switch| switch.0)
}

/// An integer flag; decimal, `0x1f`, or octal with a leading zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Int(pub i64);

#[derive(Debug, thiserror::Error)]
#[error("strconv.ParseInt: parsing {0:?}: invalid syntax")]
pub struct InvalidInt(String);

impl FromStr for Int {
    type Err = InvalidInt;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidInt(text.to_owned());
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let (radix, digits) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            Some(hex) => (16, hex),
            None if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
            None => (10, digits),
        };
        if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(invalid());
        }
        i64::from_str_radix(digits, radix).map(|n| Self(sign * n)).map_err(|_| invalid())
    }
}

/// One occurrence of a list flag: comma-separated values with CSV quoting, `"a,b"` being one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csv<T>(pub Vec<T>);

#[derive(Debug, thiserror::Error)]
pub enum InvalidCsv<E: std::error::Error + 'static> {
    #[error("parse error on line 1: bare or unclosed \" in a list value")]
    Quote,
    #[error(transparent)]
    Item(E),
}

impl<T: FromStr> FromStr for Csv<T>
where
    T::Err: std::error::Error + 'static,
{
    type Err = InvalidCsv<T::Err>;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fields = split_csv(text).ok_or(InvalidCsv::Quote)?;
        fields.iter().map(|field| field.parse().map_err(InvalidCsv::Item)).collect::<Result<_, _>>().map(Self)
    }
}

/// Splits one CSV record; `None` if its quoting is broken. The empty text has no fields.
fn split_csv(text: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = text;
    if rest.is_empty() {
        return Some(fields);
    }
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let field = &rest[..end];
                if field.contains('"') {
                    return None;
                }
                (field.to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None if after.is_empty() => return Some(fields),
            None => return None,
        }
    }
}

/// Reads to the closing quote; a doubled quote stands for one.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' if chars.next_if(|(_, next)| *next == '"').is_some() => field.push('"'),
            '"' => return Some((field, &text[at + 1..])),
            other => field.push(other),
        }
    }
    None
}

/// All values of a list flag, or `None` if it was not given.
pub fn joined<T: Clone>(occurrences: &Option<Vec<Csv<T>>>) -> Option<Vec<T>> {
    occurrences.as_ref().map(|all| all.iter().flat_map(|csv| csv.0.iter().cloned()).collect())
}

/// [`joined`] as text, for the wire.
pub fn joined_text<T: Clone + Display>(occurrences: &Option<Vec<Csv<T>>>) -> Option<Vec<String>> {
    joined(occurrences).map(|values| values.iter().map(ToString::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_take_the_twelve_texts() {
        for text in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(text.parse::<Switch>().ok(), Some(Switch(true)), "{text}");
        }
        for text in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(text.parse::<Switch>().ok(), Some(Switch(false)), "{text}");
        }
        assert!("yes".parse::<Switch>().is_err());
    }

    #[test]
    fn integers_take_literals_of_other_bases() {
        for (text, expected) in [
            ("7", Some(7)),
            ("-1", Some(-1)),
            ("+3", Some(3)),
            ("0", Some(0)),
            ("0x1f", Some(31)),
            ("010", Some(8)),
            ("", None),
            ("-", None),
            ("--1", None),
            ("1.5", None),
            ("ten", None),
        ] {
            assert_eq!(text.parse::<Int>().ok().map(|int| int.0), expected, "{text}");
        }
    }

    #[test]
    fn lists_are_csv_records() {
        for (text, expected) in [
            ("", Some(vec![])),
            ("a", Some(vec!["a"])),
            ("a,b", Some(vec!["a", "b"])),
            ("a,,b", Some(vec!["a", "", "b"])),
            ("\"a,b\",c", Some(vec!["a,b", "c"])),
            ("\"a\"\"b\"", Some(vec!["a\"b"])),
            ("a\"b", None),
            ("\"a", None),
            ("\"a\"b", None),
        ] {
            let fields = split_csv(text);
            assert_eq!(
                fields.as_ref().map(|all| all.iter().map(String::as_str).collect::<Vec<_>>()),
                expected,
                "{text}"
            );
        }
    }
}
