//! Frames of the CQL protocol, versions 3 and 4, and the primitive types in their bodies.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

const HEADER_LEN: usize = 9;
/// Scylla's limit for a request.
const MAX_BODY: usize = 256 << 20;
const FLAG_COMPRESSED: u8 = 0x01;
const FLAG_TRACING: u8 = 0x02;
const FLAG_PAYLOAD: u8 = 0x04;

/// Operation codes.
pub(super) mod opcode {
    pub const ERROR: u8 = 0x00;
    pub const STARTUP: u8 = 0x01;
    pub const READY: u8 = 0x02;
    pub const AUTHENTICATE: u8 = 0x03;
    pub const OPTIONS: u8 = 0x05;
    pub const SUPPORTED: u8 = 0x06;
    pub const QUERY: u8 = 0x07;
    pub const RESULT: u8 = 0x08;
    pub const PREPARE: u8 = 0x09;
    pub const EXECUTE: u8 = 0x0a;
    pub const REGISTER: u8 = 0x0b;
    pub const EVENT: u8 = 0x0c;
    pub const AUTH_RESPONSE: u8 = 0x0f;
    pub const AUTH_SUCCESS: u8 = 0x10;
}

/// A request or response.
#[derive(Debug)]
pub(super) struct Frame {
    pub version: u8,
    pub flags: u8,
    pub stream: i16,
    pub opcode: u8,
    pub body: Bytes,
}

impl Frame {
    /// The body without the parts that flags put in front of it.
    pub fn plain_body(&self) -> Result<Body, Malformed> {
        if self.flags & FLAG_COMPRESSED != 0 {
            return Err(Malformed("compression was not negotiated"));
        }
        let mut body = Body(self.body.clone());
        if self.flags & FLAG_PAYLOAD != 0 {
            for _ in 0..body.short()? {
                body.string()?;
                body.bytes()?;
            }
        }
        Ok(body)
    }

    pub fn wants_tracing(&self) -> bool {
        self.flags & FLAG_TRACING != 0
    }
}

pub(super) struct Codec;

impl Decoder for Codec {
    type Item = Frame;
    type Error = io::Error;

    fn decode(&mut self, src: &mut BytesMut) -> io::Result<Option<Frame>> {
        if src.len() < HEADER_LEN {
            return Ok(None);
        }
        let length = u32::from_be_bytes([src[5], src[6], src[7], src[8]]) as usize;
        if length > MAX_BODY {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "CQL frame is too large"));
        }
        if src.len() < HEADER_LEN + length {
            src.reserve(HEADER_LEN + length - src.len());
            return Ok(None);
        }
        let mut header = src.split_to(HEADER_LEN);
        let (version, flags) = (header.get_u8(), header.get_u8());
        let (stream, opcode) = (header.get_i16(), header.get_u8());
        Ok(Some(Frame { version, flags, stream, opcode, body: src.split_to(length).freeze() }))
    }
}

impl Encoder<Frame> for Codec {
    type Error = io::Error;

    fn encode(&mut self, frame: Frame, dst: &mut BytesMut) -> io::Result<()> {
        dst.reserve(HEADER_LEN + frame.body.len());
        dst.put_u8(frame.version | 0x80);
        dst.put_u8(0);
        dst.put_i16(frame.stream);
        dst.put_u8(frame.opcode);
        dst.put_u32(u32::try_from(frame.body.len()).map_err(io::Error::other)?);
        dst.put_slice(&frame.body);
        Ok(())
    }
}

/// The body does not follow the protocol.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub &'static str);

const SHORT: Malformed = Malformed("the body ends early");

/// Reads the primitive types of a request body.
pub(super) struct Body(pub Bytes);

impl Body {
    fn take(&mut self, len: usize) -> Result<Bytes, Malformed> {
        if self.0.len() < len { Err(SHORT) } else { Ok(self.0.split_to(len)) }
    }

    pub fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    pub fn short(&mut self) -> Result<u16, Malformed> {
        Ok(self.take(2)?.get_u16())
    }

    pub fn int(&mut self) -> Result<i32, Malformed> {
        Ok(self.take(4)?.get_i32())
    }

    pub fn string(&mut self) -> Result<String, Malformed> {
        let len = usize::from(self.short()?);
        text(&self.take(len)?)
    }

    pub fn long_string(&mut self) -> Result<String, Malformed> {
        let len = usize::try_from(self.int()?).map_err(|_| SHORT)?;
        text(&self.take(len)?)
    }

    pub fn short_bytes(&mut self) -> Result<Bytes, Malformed> {
        let len = usize::from(self.short()?);
        self.take(len)
    }

    /// `None` for null and for "not set".
    pub fn bytes(&mut self) -> Result<Option<Bytes>, Malformed> {
        match usize::try_from(self.int()?) {
            Ok(len) => self.take(len).map(Some),
            Err(_) => Ok(None),
        }
    }

    pub fn string_map(&mut self) -> Result<Vec<(String, String)>, Malformed> {
        (0..self.short()?).map(|_| Ok((self.string()?, self.string()?))).collect()
    }

    pub fn string_list(&mut self) -> Result<Vec<String>, Malformed> {
        (0..self.short()?).map(|_| self.string()).collect()
    }
}

fn text(bytes: &[u8]) -> Result<String, Malformed> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Malformed("text is not UTF-8"))
}

/// Writes the primitive types of a response body.
pub(super) trait PutCql: BufMut {
    fn put_string(&mut self, text: &str) {
        // The protocol's names and messages; longer ones are cut.
        let len = text.len().min(usize::from(u16::MAX));
        self.put_u16(len as u16);
        self.put_slice(&text.as_bytes()[..len]);
    }

    fn put_value(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            None => self.put_i32(-1),
            Some(bytes) => {
                self.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
                self.put_slice(bytes);
            }
        }
    }

    fn put_short_bytes(&mut self, bytes: &[u8]) {
        self.put_u16(bytes.len() as u16);
        self.put_slice(bytes);
    }
}

impl<B: BufMut> PutCql for B {}
