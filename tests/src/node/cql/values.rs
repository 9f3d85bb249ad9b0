//! Column types and values, and their form on the wire.

use std::net::IpAddr;

use bytes::{BufMut, BytesMut};
use uuid::Uuid;

use super::frame::PutCql;

/// Type of a column; only those that the served tables have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CqlType {
    Text,
    Int,
    BigInt,
    Boolean,
    Double,
    Uuid,
    TimeUuid,
    Inet,
    Blob,
    ListText,
    SetText,
    MapTextText,
    MapTextBlob,
}

impl CqlType {
    /// Writes the type's `[option]`.
    pub fn put(self, out: &mut BytesMut) {
        const TEXT: u16 = 0x0d;
        match self {
            Self::Text => out.put_u16(TEXT),
            Self::Int => out.put_u16(0x09),
            Self::BigInt => out.put_u16(0x02),
            Self::Boolean => out.put_u16(0x04),
            Self::Double => out.put_u16(0x07),
            Self::Uuid => out.put_u16(0x0c),
            Self::TimeUuid => out.put_u16(0x0f),
            Self::Inet => out.put_u16(0x10),
            Self::Blob => out.put_u16(0x03),
            Self::ListText => [0x20, TEXT].into_iter().for_each(|id| out.put_u16(id)),
            Self::SetText => [0x22, TEXT].into_iter().for_each(|id| out.put_u16(id)),
            Self::MapTextText => [0x21, TEXT, TEXT].into_iter().for_each(|id| out.put_u16(id)),
            Self::MapTextBlob => [0x21, TEXT, 0x03].into_iter().for_each(|id| out.put_u16(id)),
        }
    }

    /// Wire form of a literal of a statement; `None` if the type has no such literal.
    pub fn literal(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Text => Some(text.as_bytes().to_vec()),
            Self::Int => text.parse().ok().and_then(|n| CqlValue::Int(n).bytes()),
            Self::BigInt => text.parse().ok().and_then(|n| CqlValue::BigInt(n).bytes()),
            Self::Boolean => {
                text.to_ascii_lowercase().parse().ok().and_then(|b| CqlValue::Boolean(b).bytes())
            }
            Self::Uuid | Self::TimeUuid => text.parse().ok().and_then(|id| CqlValue::Uuid(id).bytes()),
            Self::Inet => text.parse().ok().and_then(|ip| CqlValue::Inet(ip).bytes()),
            Self::Double
            | Self::Blob
            | Self::ListText
            | Self::SetText
            | Self::MapTextText
            | Self::MapTextBlob => None,
        }
    }
}

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum CqlValue {
    Null,
    Text(String),
    Int(i32),
    BigInt(i64),
    Boolean(bool),
    Double(f64),
    Uuid(Uuid),
    Inet(IpAddr),
    Blob(Vec<u8>),
    /// A list or set of text.
    Texts(Vec<String>),
    TextMap(Vec<(String, String)>),
    BlobMap(Vec<(String, Vec<u8>)>),
}

impl CqlValue {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Wire form without the length; `None` for null.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        Some(match self {
            Self::Null => return None,
            Self::Text(text) => text.as_bytes().to_vec(),
            Self::Int(n) => n.to_be_bytes().to_vec(),
            Self::BigInt(n) => n.to_be_bytes().to_vec(),
            Self::Boolean(b) => vec![u8::from(*b)],
            Self::Double(n) => n.to_be_bytes().to_vec(),
            Self::Uuid(id) => id.as_bytes().to_vec(),
            Self::Inet(IpAddr::V4(ip)) => ip.octets().to_vec(),
            Self::Inet(IpAddr::V6(ip)) => ip.octets().to_vec(),
            Self::Blob(bytes) => bytes.clone(),
            Self::Texts(items) => collection(items.iter().map(|i| [i.as_bytes()])),
            Self::TextMap(items) => collection(items.iter().map(|(k, v)| [k.as_bytes(), v.as_bytes()])),
            Self::BlobMap(items) => collection(items.iter().map(|(k, v)| [k.as_bytes(), v.as_slice()])),
        })
    }

    pub fn put(&self, out: &mut BytesMut) {
        out.put_value(self.bytes().as_deref());
    }
}

/// Items with a count in front, each part with its length.
fn collection<'a, const PARTS: usize>(items: impl ExactSizeIterator<Item = [&'a [u8]; PARTS]>) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i32(i32::try_from(items.len()).unwrap_or(i32::MAX));
    for part in items.flatten() {
        out.put_value(Some(part));
    }
    out
}

/// Wire form of the `tombstone_gc` extension: a map of its options.
pub(super) fn tombstone_gc_extension(mode: &str) -> Vec<u8> {
    let options = [("mode", mode), ("propagation_delay_in_seconds", "3600")];
    collection(options.iter().map(|(k, v)| [k.as_bytes(), v.as_bytes()]))
}
