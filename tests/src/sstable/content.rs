//! Bytes of the component files.
//!
//! `Data.db`: a header of 48 bytes, the rows sorted by token (length-prefixed key and value, timestamp),
//! the filling, and a nonce of 8 bytes. The nonce comes last so that another one is found without
//! hashing the file again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::OnceLock;

use crc32fast::Hasher;
use rand::{RngCore, SeedableRng, rngs::SmallRng};

use super::{Component, Fill, SstableSpec};
use crate::cluster::token_of;

const MAGIC: &[u8; 8] = b"SIMSSTB1";
const HEADER_LEN: u64 = 48;
const NONCE_LEN: u64 = 8;
const NOISE_LEN: usize = 1 << 20;
/// Size of the chunks a real node compresses by default.
const CHUNK_LEN: u64 = 4096;

/// One row: the simulated tables have one key and one value column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    /// Write time in microseconds since 1970; the greatest wins.
    pub timestamp: i64,
}

/// What can be told of an SSTable without reading its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader {
    pub rows: u64,
    pub row_bytes: u64,
    pub fill_bytes: u64,
    pub first_token: i64,
    pub last_token: i64,
}

/// Facts about a written `Data.db` that other components need.
pub(super) struct DataFacts {
    pub crc32: u32,
    pub len: u64,
    pub nonce: u64,
}

/// Length of a `Data.db` with these rows and filling.
pub(super) fn data_len(rows: &[Row], fill_bytes: u64) -> u64 {
    HEADER_LEN + rows.iter().map(row_len).sum::<u64>() + fill_bytes + NONCE_LEN
}

fn row_len(row: &Row) -> u64 {
    (4 + row.key.len() + 4 + row.value.len() + 8) as u64
}

/// Keeps the newest version of each key; the result is sorted by key.
pub fn merge_rows(rows: impl IntoIterator<Item = Row>) -> Vec<Row> {
    let mut newest: BTreeMap<Vec<u8>, Row> = BTreeMap::new();
    for row in rows {
        match newest.get(&row.key) {
            Some(known) if (known.timestamp, &known.value) >= (row.timestamp, &row.value) => {}
            _ => {
                newest.insert(row.key.clone(), row);
            }
        }
    }
    newest.into_values().collect()
}

pub(super) fn write_data(path: &Path, spec: &SstableSpec) -> io::Result<DataFacts> {
    let mut rows: Vec<(i64, &Row)> = spec.rows.iter().map(|r| (token_of(&r.key), r)).collect();
    rows.sort();
    let mut file = BufWriter::with_capacity(256 * 1024, File::create(path)?);
    let mut hasher = Hasher::new();
    let mut head = Vec::new();
    head.extend_from_slice(MAGIC);
    let row_bytes: u64 = spec.rows.iter().map(row_len).sum();
    for number in [rows.len() as u64, row_bytes, spec.fill_bytes] {
        head.extend_from_slice(&number.to_be_bytes());
    }
    for token in [rows.first(), rows.last()] {
        head.extend_from_slice(&token.map_or(0, |(t, _)| *t).to_be_bytes());
    }
    for (_, row) in rows {
        for field in [&row.key, &row.value] {
            head.extend_from_slice(&(field.len() as u32).to_be_bytes());
            head.extend_from_slice(field);
        }
        head.extend_from_slice(&row.timestamp.to_be_bytes());
    }
    hasher.update(&head);
    file.write_all(&head)?;
    match spec.fill {
        Fill::Noise => write_noise(&mut file, &mut hasher, spec)?,
        Fill::Sparse => {
            file.flush()?;
            file.get_ref().set_len(head.len() as u64 + spec.fill_bytes)?;
            file.seek(SeekFrom::End(0))?;
            hasher.combine(&zeros(spec.fill_bytes));
        }
    }
    let (nonce, crc32) = fitting_nonce(&hasher, spec);
    file.write_all(&nonce.to_be_bytes())?;
    file.flush()?;
    Ok(DataFacts { crc32, len: data_len(&spec.rows, spec.fill_bytes), nonce })
}

/// The first nonce from the wanted one on whose digest has the wanted number of digits.
fn fitting_nonce(hasher: &Hasher, spec: &SstableSpec) -> (u64, u32) {
    let mut nonce = spec.nonce;
    loop {
        let mut with_nonce = hasher.clone();
        with_nonce.update(&nonce.to_be_bytes());
        let crc32 = with_nonce.finalize();
        match spec.digest_digits {
            Some(digits) if crc32.to_string().len() != digits => nonce = nonce.wrapping_add(1 << 32),
            _ => return (nonce, crc32),
        }
    }
}

/// Filling that differs between generations and nonces: a window that wanders over one block of noise.
fn write_noise(file: &mut impl Write, hasher: &mut Hasher, spec: &SstableSpec) -> io::Result<()> {
    let noise = noise();
    let mut at = noise_start(spec, spec.nonce);
    let mut left = spec.fill_bytes;
    while left > 0 {
        let piece = &noise[at..];
        let piece = &piece[..piece.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        hasher.update(piece);
        file.write_all(piece)?;
        left -= piece.len() as u64;
        at = 0;
    }
    Ok(())
}

fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| {
        let mut block = vec![0; NOISE_LEN];
        SmallRng::seed_from_u64(0x5ce1_1a00).fill_bytes(&mut block);
        block
    })
}

fn noise_start(spec: &SstableSpec, nonce: u64) -> usize {
    let text = format!("{}/{nonce}", spec.generation);
    token_of(text.as_bytes()).unsigned_abs() as usize % NOISE_LEN
}

/// CRC-32 of `len` zero bytes, by doubling: a hole of many GiB costs no time.
fn zeros(len: u64) -> Hasher {
    let mut total = Hasher::new();
    let mut power = Hasher::new();
    power.update(&[0]);
    let mut left = len;
    while left > 0 {
        if left & 1 == 1 {
            total.combine(&power);
        }
        let same = power.clone();
        power.combine(&same);
        left >>= 1;
    }
    total
}

/// Content of a component other than `Data.db`, `Digest.crc32` and `TOC.txt`: a header and noise,
/// of about the size a real node would write for that much data.
pub(super) fn component(kind: Component, spec: &SstableSpec, data: &DataFacts) -> Vec<u8> {
    let partitions = spec.rows.len() as u64 + spec.fill_bytes / 65_536;
    let len = match kind {
        Component::Index => 8 + 24 * partitions,
        Component::Summary => 56 + partitions.div_ceil(128) * 24,
        Component::Partitions => 64 + 12 * partitions,
        Component::Rows => 16 + partitions,
        Component::Filter => 16 + partitions * 10 / 8,
        Component::Statistics => 4_625,
        Component::Scylla => 386,
        Component::CompressionInfo => 58 + 8 * data.len.div_ceil(CHUNK_LEN),
        Component::Crc => 8 + 4 * data.len.div_ceil(65_536),
        Component::Data | Component::Digest | Component::Toc | Component::TocTmp => 0,
    };
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let mut content = Vec::with_capacity(len + 32);
    content.extend_from_slice(kind.suffix().as_bytes());
    content.extend_from_slice(&data.nonce.to_be_bytes());
    let noise = noise();
    let start = noise_start(spec, data.nonce);
    content.extend(noise[start..].iter().chain(noise.iter().cycle()).take(len));
    content.truncate(len);
    content
}

/// Reads the header of a `Data.db` of ours.
///
/// # Errors
/// `InvalidData` when the file was not written by this generator or does not have the length it claims.
pub fn read_header(path: &Path) -> io::Result<DataHeader> {
    open_data(path).map(|(header, _)| header)
}

/// Reads all rows of a `Data.db` of ours.
///
/// # Errors
/// `InvalidData` when the file was not written by this generator, is cut, or does not parse.
pub fn read_rows(path: &Path) -> io::Result<Vec<Row>> {
    let (header, mut file) = open_data(path)?;
    let mut bytes = Vec::new();
    file.by_ref().take(header.row_bytes).read_to_end(&mut bytes)?;
    let mut rest = bytes.as_slice();
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let row = take_row(&mut rest).ok_or_else(|| damaged(path, "a row ends early"))?;
        rows.push(row);
    }
    if rows.len() as u64 == header.rows { Ok(rows) } else { Err(damaged(path, "rows are missing")) }
}

fn open_data(path: &Path) -> io::Result<(DataHeader, BufReader<File>)> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut file = BufReader::new(file);
    let mut header = [0; HEADER_LEN as usize];
    file.read_exact(&mut header).map_err(|_| damaged(path, "the header is missing"))?;
    if header[..8] != *MAGIC {
        return Err(damaged(path, "it was not written by the simulator"));
    }
    let number = |n: usize| u64::from_be_bytes(header[n * 8..][..8].try_into().expect("eight bytes"));
    let header = DataHeader {
        rows: number(1),
        row_bytes: number(2),
        fill_bytes: number(3),
        first_token: number(4) as i64,
        last_token: number(5) as i64,
    };
    if len != HEADER_LEN + header.row_bytes + header.fill_bytes + NONCE_LEN {
        return Err(damaged(path, "the length is wrong"));
    }
    Ok((header, file))
}

fn take_row(rest: &mut &[u8]) -> Option<Row> {
    let key = take_field(rest)?;
    let value = take_field(rest)?;
    let (timestamp, after) = rest.split_first_chunk::<8>()?;
    *rest = after;
    Some(Row { key, value, timestamp: i64::from_be_bytes(*timestamp) })
}

fn take_field(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let (len, after) = rest.split_first_chunk::<4>()?;
    let (field, after) = after.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    *rest = after;
    Some(field.to_vec())
}

fn damaged(path: &Path, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged: {what}", path.display()))
}
