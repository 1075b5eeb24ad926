//! A client of HTTP/1.1 that costs little: requests are bytes made beforehand, bodies go through one buffer.

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::content::Made;

/// Enough for any response but a big blob's.
pub const SMALL_BUFFER: usize = 64 * 1024;
/// For blobs: fewer calls, so that the client is never what is measured.
pub const LARGE_BUFFER: usize = 1024 * 1024;
/// A head and a body up to this size leave in one piece.
const TOGETHER: usize = 64 * 1024;
const CHUNK: usize = 64 * 1024;

pub trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// Where a server is, and how to speak to it.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub tls: Option<TlsConnector>,
}

impl Target {
    pub async fn connect(&self) -> anyhow::Result<Box<dyn Io>> {
        let stream = TcpStream::connect(self.address).await.context("no connection")?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Box::new(stream),
            Some(tls) => {
                let name = ServerName::IpAddress(self.address.ip().into());
                Box::new(tls.connect(name, stream).await.context("no TLS connection")?)
            }
        })
    }
}

/// Takes the pieces of a body.
pub trait Sink {
    fn take(&mut self, piece: &[u8]);
}

/// Counts bytes.
#[derive(Default)]
pub struct Count(pub u64);

impl Sink for Count {
    fn take(&mut self, piece: &[u8]) {
        self.0 += piece.len() as u64;
    }
}

impl Sink for Vec<u8> {
    fn take(&mut self, piece: &[u8]) {
        self.extend_from_slice(piece);
    }
}

impl Sink for aws_lc_rs::digest::Context {
    fn take(&mut self, piece: &[u8]) {
        self.update(piece);
    }
}

/// What a response's head says, as far as anybody here asks.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub status: u16,
    pub length: Option<u64>,
    pub location: Option<String>,
    pub link: Option<String>,
    chunked: bool,
    close: bool,
}

/// How a request's body is sent.
#[derive(Clone, Copy)]
pub enum Body<'a> {
    None,
    /// The head has announced its length.
    Whole(&'a [u8]),
    /// The same, of content that is made on the way.
    Made(Made),
    /// The head has announced the chunked encoding.
    Chunked(&'a [u8]),
}

/// One connection, opened when it is needed, and again after the server has closed it.
pub struct Client {
    target: Target,
    io: Option<Box<dyn Io>>,
    buffer: Vec<u8>,
    /// What has been read and not yet looked at.
    unread: std::ops::Range<usize>,
}

impl Client {
    pub fn new(target: Target, buffer: usize) -> Self {
        Self { target, io: None, buffer: vec![0; buffer], unread: 0..0 }
    }

    /// Sends a request and passes the response's body to `sink`.
    pub async fn send(&mut self, head: &[u8], body: Body<'_>, sink: &mut impl Sink) -> anyhow::Result<Head> {
        if self.io.is_none() {
            self.io = Some(self.target.connect().await?);
            self.unread = 0..0;
        }
        self.write(head, body).await.context("the request can't be sent")?;
        let response = self.read_head().await?;
        let no_body = head.starts_with(b"HEAD ") || response.status == 204 || response.status == 304;
        if !no_body {
            self.read_body(&response, sink).await?;
        }
        if response.close {
            self.close().await;
        }
        Ok(response)
    }

    /// The same, of a request without a body, whose answer must have this status. Returns the bytes received.
    pub async fn expect(&mut self, head: &[u8], status: u16) -> anyhow::Result<u64> {
        let mut count = Count::default();
        let response = self.send(head, Body::None, &mut count).await?;
        ensure!(response.status == status, "status {} instead of {status}: {}", response.status, first_line(head));
        Ok(count.0)
    }

    /// The next request opens a new connection.
    pub async fn close(&mut self) {
        if let Some(mut io) = self.io.take() {
            // Whoever is on the other side may have closed it already.
            let _ = io.shutdown().await;
        }
    }

    async fn write(&mut self, head: &[u8], body: Body<'_>) -> anyhow::Result<()> {
        let io = self.io.as_mut().context("no connection")?;
        match body {
            Body::None => io.write_all(head).await?,
            Body::Whole(bytes) if bytes.len() <= TOGETHER => io.write_all(&[head, bytes].concat()).await?,
            Body::Whole(bytes) => {
                io.write_all(head).await?;
                io.write_all(bytes).await?;
            }
            Body::Made(made) => {
                io.write_all(head).await?;
                let mut pieces = made.pieces();
                while let Some(piece) = pieces.next() {
                    io.write_all(piece).await?;
                }
            }
            Body::Chunked(bytes) => {
                io.write_all(head).await?;
                let mut framed = Vec::with_capacity(CHUNK + 16);
                for chunk in bytes.chunks(CHUNK) {
                    framed.clear();
                    framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    framed.extend_from_slice(chunk);
                    framed.extend_from_slice(b"\r\n");
                    io.write_all(&framed).await?;
                }
                io.write_all(b"0\r\n\r\n").await?;
            }
        }
        Ok(io.flush().await?)
    }

    /// Reads more behind what is unread; makes room first.
    async fn fill(&mut self) -> anyhow::Result<()> {
        if self.unread.is_empty() {
            self.unread = 0..0;
        } else if self.unread.end == self.buffer.len() {
            ensure!(self.unread.start > 0, "a head or a line is longer than the buffer");
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        let io = self.io.as_mut().context("no connection")?;
        let read = io.read(&mut self.buffer[self.unread.end..]).await.context("the response can't be read")?;
        ensure!(read > 0, "the server has closed the connection within a response");
        self.unread.end += read;
        Ok(())
    }

    async fn read_head(&mut self) -> anyhow::Result<Head> {
        loop {
            let unread = &self.buffer[self.unread.clone()];
            if let Some(end) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = parse_head(&unread[..end])?;
                self.unread.start += end + 4;
                return Ok(head);
            }
            self.fill().await?;
        }
    }

    async fn read_body(&mut self, head: &Head, sink: &mut impl Sink) -> anyhow::Result<()> {
        if !head.chunked {
            return self.read_exactly(head.length.context("a response without a length")?, sink).await;
        }
        loop {
            let size = u64::from_str_radix(self.read_line().await?.trim(), 16)?;
            self.read_exactly(size, sink).await?;
            ensure!(self.read_line().await?.is_empty(), "a chunk that is not what it says");
            if size == 0 {
                return Ok(());
            }
        }
    }

    async fn read_exactly(&mut self, mut missing: u64, sink: &mut impl Sink) -> anyhow::Result<()> {
        while missing > 0 {
            if self.unread.is_empty() {
                self.fill().await?;
            }
            let length = self.unread.len().min(usize::try_from(missing).unwrap_or(usize::MAX));
            sink.take(&self.buffer[self.unread.start..self.unread.start + length]);
            self.unread.start += length;
            missing -= length as u64;
        }
        Ok(())
    }

    async fn read_line(&mut self) -> anyhow::Result<String> {
        loop {
            let unread = &self.buffer[self.unread.clone()];
            if let Some(end) = unread.windows(2).position(|window| window == b"\r\n") {
                let line = std::str::from_utf8(&unread[..end])?.to_owned();
                self.unread.start += end + 2;
                return Ok(line);
            }
            self.fill().await?;
        }
    }
}

fn parse_head(bytes: &[u8]) -> anyhow::Result<Head> {
    let text = std::str::from_utf8(bytes)?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let mut head = Head { status: status.context("not a response of HTTP/1.1")?, ..Head::default() };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { bail!("not a header: {line}") };
        let (name, value) = (name.trim(), value.trim());
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        match name.len() {
            14 if is("content-length") => head.length = Some(value.parse()?),
            17 if is("transfer-encoding") => head.chunked = value.eq_ignore_ascii_case("chunked"),
            10 if is("connection") => head.close = value.eq_ignore_ascii_case("close"),
            8 if is("location") => head.location = Some(value.to_owned()),
            4 if is("link") => head.link = Some(value.to_owned()),
            _ => {}
        }
    }
    Ok(head)
}

fn first_line(head: &[u8]) -> String {
    String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned()
}
