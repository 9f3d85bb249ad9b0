//! The limit: threads that read files and write them to a socket, and do nothing else.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;

use anyhow::Context as _;

use super::Figures;
use super::files;
use super::sender::usage;

/// Bytes read and written at a time.
const BLOCK: usize = 256 << 10;

/// Sends every file once, on `connections` connections.
pub(super) fn run(server: &str, dir: &Path, connections: usize) -> anyhow::Result<Figures> {
    let mut files = files::list(dir)?;
    files.sort_by_key(|(_, size)| *size);
    let bytes = files.iter().map(|(_, size)| size).sum();
    let queue = Mutex::new(files);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..connections).map(|_| scope.spawn(|| send_all(server, &queue))).collect();
        senders.into_iter().try_for_each(|sender| match sender.join() {
            Ok(outcome) => outcome,
            Err(_) => Err(anyhow::anyhow!("a sender panicked")),
        })
    })?;
    let (cpu_seconds, peak_rss) = usage()?;
    Ok(Figures { seconds: start.elapsed().as_secs_f64(), cpu_seconds, peak_rss, bytes, small_requests: 0 })
}

fn send_all(server: &str, queue: &Mutex<Vec<(PathBuf, u64)>>) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    let mut block = vec![0; BLOCK];
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some((path, size)) = next else { return Ok(()) };
        send(&mut stream, &path, size, &mut block).with_context(|| path.display().to_string())?;
    }
}

fn send(stream: &mut TcpStream, path: &Path, size: u64, block: &mut [u8]) -> anyhow::Result<()> {
    let mut file = File::open(path)?;
    let head =
        format!("PUT /bucket/{} HTTP/1.1\r\nHost: s3\r\nContent-Length: {size}\r\n\r\n", path.display());
    // Head and a small body in one packet, as any good client does.
    let mut filled = head.len();
    block[..filled].copy_from_slice(head.as_bytes());
    let mut left = size;
    loop {
        let room = block.len().min(filled + usize::try_from(left)?);
        let read = if room > filled { file.read(&mut block[filled..room])? } else { 0 };
        stream.write_all(&block[..filled + read])?;
        left -= read as u64;
        filled = 0;
        if left == 0 {
            break;
        }
        anyhow::ensure!(read > 0, "the file became shorter");
    }
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let read = stream.read(block)?;
        anyhow::ensure!(read > 0, "the server hung up");
        answer.extend_from_slice(&block[..read]);
    }
    Ok(())
}
