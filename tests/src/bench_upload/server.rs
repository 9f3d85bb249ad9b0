//! Reads requests, throws bodies away, answers as S3 does. As cheap as can be: it shares the machine with the sender.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Answers the number of requests that were not for parts of large files.
pub(super) const COUNT_PATH: &str = "/-/count";
/// Longest head of a request, bytes.
const MAX_HEAD: usize = 32 << 10;
/// Bytes read at a time.
const BLOCK: usize = 256 << 10;

/// Serves until the process is killed.
pub(super) async fn run(delay_ms: u64) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let small = Arc::new(AtomicU64::new(0));
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let small = small.clone();
        connections.spawn(async move {
            // A sender that goes away ends its connection, nothing else.
            let _ = serve(stream, delay_ms, &small).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut stream: TcpStream, delay_ms: u64, small: &AtomicU64) -> std::io::Result<()> {
    let mut block = vec![0; BLOCK];
    let mut filled = 0;
    loop {
        let end = loop {
            if let Some(end) = block[..filled].windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            if filled >= MAX_HEAD {
                return Err(std::io::Error::other("the head of a request is too long"));
            }
            let read = stream.read(&mut block[filled..]).await?;
            if read == 0 {
                return Ok(());
            }
            filled += read;
        };
        let head = Head::parse(&block[..end]);
        let mut body = head.length;
        let have = u64::try_from(filled - end).unwrap_or(0).min(body);
        body -= have;
        let used = end + usize::try_from(have).unwrap_or(0);
        block.copy_within(used..filled, 0);
        filled -= used;
        while body > 0 {
            let room = block.len().min(usize::try_from(body).unwrap_or(usize::MAX));
            let read = stream.read(&mut block[..room]).await?;
            if read == 0 {
                return Ok(());
            }
            body -= read as u64;
        }
        if delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        }
        let answer = head.answer(small);
        stream.write_all(answer.as_bytes()).await?;
    }
}

struct Head {
    method: String,
    path: String,
    query: String,
    length: u64,
}

impl Head {
    fn parse(head: &[u8]) -> Self {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let length = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse().ok());
        Self { method, path: path.to_owned(), query: query.to_owned(), length: length.unwrap_or(0) }
    }

    fn answer(&self, small: &AtomicU64) -> String {
        let has = |name: &str| self.query.split('&').any(|p| p == name || p.starts_with(&format!("{name}=")));
        if self.path == COUNT_PATH {
            return ok(&small.load(Ordering::Relaxed).to_string());
        }
        let large = has("uploadId") || (self.method == "POST" && has("uploads"));
        if !large {
            small.fetch_add(1, Ordering::Relaxed);
        }
        match self.method.as_str() {
            "PUT" => {
                "HTTP/1.1 200 OK\r\nETag: \"d41d8cd98f00b204e9800998ecf8427e\"\r\nContent-Length: 0\r\n\r\n"
                    .into()
            }
            "POST" if has("uploads") => ok("<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key>\
                 <UploadId>u</UploadId></InitiateMultipartUploadResult>"),
            "POST" => {
                ok("<CompleteMultipartUploadResult><ETag>\"1-1\"</ETag></CompleteMultipartUploadResult>")
            }
            "GET" if has("uploads") => ok(
                "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>",
            ),
            "GET" if has("list-type") => {
                ok("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
            }
            _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(),
        }
    }
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
