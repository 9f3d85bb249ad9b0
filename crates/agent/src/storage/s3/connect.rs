//! Connections to storage services: TCP or TLS, direct or through the proxy that the environment names.
//!
//! Plain TCP keeps vectored writes, so that a part goes from our buffer to the kernel without another copy.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longest answer to CONNECT that a proxy may give, bytes.
const MAX_PROXY_ANSWER: usize = 8 << 10;

/// Makes connections.
#[derive(Clone)]
pub(super) struct Connector(Arc<Settings>);

/// How to connect.
pub(super) struct Settings {
    pub tls: Arc<rustls::ClientConfig>,
    pub connect_timeout: Duration,
    /// A connection on which nothing moves for so long is given up.
    pub idle_timeout: Duration,
    pub bind_addr: Option<IpAddr>,
    pub proxies: Matcher,
}

impl Connector {
    pub(super) fn new(settings: Settings) -> Self {
        Self(Arc::new(settings))
    }
}

impl tower::Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let settings = self.0.clone();
        Box::pin(async move {
            match tokio::time::timeout(settings.connect_timeout, settings.connect(&uri)).await {
                Ok(stream) => stream,
                Err(_) => {
                    let text = format!("no connection to {uri} within {:?}", settings.connect_timeout);
                    Err(io::Error::new(io::ErrorKind::TimedOut, text))
                }
            }
        })
    }
}

impl Settings {
    async fn connect(&self, uri: &Uri) -> io::Result<Stream> {
        let https = uri.scheme_str() == Some("https");
        let (host, port) = host_and_port(uri)?;
        let proxy = self.proxies.intercept(uri);
        let tcp = match &proxy {
            Some(proxy) => {
                let (proxy_host, proxy_port) = host_and_port(proxy.uri())?;
                let tcp = self.tcp(proxy_host, proxy_port).await?;
                tunnel(tcp, host, port, proxy.basic_auth().and_then(|v| v.to_str().ok())).await?
            }
            None => self.tcp(host, port).await?,
        };
        let transport = if https {
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            let stream = TlsConnector::from(self.tls.clone()).connect(name, tcp).await?;
            Transport::Tls(Box::new(TokioIo::new(stream)))
        } else {
            Transport::Plain(TokioIo::new(tcp))
        };
        Ok(Stream { transport, idle: IdleTimer::new(self.idle_timeout) })
    }

    async fn tcp(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
        for address in tokio::net::lookup_host((host, port)).await? {
            match self.tcp_to(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn tcp_to(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(local) = self.bind_addr {
            socket.bind(SocketAddr::new(local, 0))?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

fn host_and_port(uri: &Uri) -> io::Result<(&str, u16)> {
    let host = uri.host().ok_or_else(|| io::Error::other(format!("{uri} names no host")))?;
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    Ok((host.trim_start_matches('[').trim_end_matches(']'), uri.port_u16().unwrap_or(default)))
}

/// Asks a proxy for a tunnel. Used for plain http too: every proxy that allows the port can do it.
async fn tunnel(mut tcp: TcpStream, host: &str, port: u16, auth: Option<&str>) -> io::Result<TcpStream> {
    let authority = crate::config::authority(host, &port.to_string());
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    if let Some(auth) = auth {
        request.push_str(&format!("Proxy-Authorization: {auth}\r\n"));
    }
    request.push_str("\r\n");
    tcp.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // Byte by byte, so that nothing of the tunnelled stream is swallowed; this happens once per connection.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= MAX_PROXY_ANSWER {
            return Err(io::Error::other("the proxy's answer is too long"));
        }
        answer.push(tcp.read_u8().await?);
    }
    let status = String::from_utf8_lossy(&answer);
    let line = status.lines().next().unwrap_or_default();
    if line.split(' ').nth(1).is_some_and(|code| code.starts_with('2')) {
        return Ok(tcp);
    }
    Err(io::Error::other(format!("the proxy refused a tunnel to {authority}: {line}")))
}

enum Transport {
    Plain(TokioIo<TcpStream>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

/// A connection that fails when nothing moves on it for too long.
pub(super) struct Stream {
    transport: Transport,
    idle: IdleTimer,
}

/// Sleeps until the time could be over, then looks when something last moved: cheap on a busy connection.
struct IdleTimer {
    limit: Duration,
    moved: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl IdleTimer {
    fn new(limit: Duration) -> Self {
        Self { limit, moved: Instant::now(), sleep: Box::pin(tokio::time::sleep(limit)) }
    }

    fn check<T>(&mut self, outcome: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.moved = Instant::now();
            return outcome;
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            let due = self.moved + self.limit;
            if due <= Instant::now() {
                let text = format!("the connection was silent for {:?}", self.limit);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)));
            }
            self.sleep.as_mut().reset(due);
        }
        Poll::Pending
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = match &mut self.transport {
            Transport::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Transport::Tls(s) => Pin::new(s).poll_read(cx, buf),
        };
        self.idle.check(outcome, cx)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = match &mut self.transport {
            Transport::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Transport::Tls(s) => Pin::new(s).poll_write(cx, buf),
        };
        self.idle.check(outcome, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = match &mut self.transport {
            Transport::Plain(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Transport::Tls(s) => Pin::new(s).poll_write_vectored(cx, bufs),
        };
        self.idle.check(outcome, cx)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(s) => s.is_write_vectored(),
            Transport::Tls(s) => s.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = match &mut self.transport {
            Transport::Plain(s) => Pin::new(s).poll_flush(cx),
            Transport::Tls(s) => Pin::new(s).poll_flush(cx),
        };
        self.idle.check(outcome, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Transport::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
