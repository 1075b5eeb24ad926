//! Just enough of HTTP/1.1: one request after the other over one connection.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub struct Connection {
    stream: BufReader<TcpStream>,
    authorization: String,
}

pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Connection {
    /// With a time limit that only a server that hangs reaches.
    pub fn open(to: SocketAddr, authorization: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream: BufReader::new(stream), authorization: authorization.to_owned() })
    }

    /// An error means that the connection broke, so that nobody knows what became of the request.
    pub fn send(&mut self, method: &str, target: &str, media_type: &str, body: &[u8]) -> io::Result<Answer> {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: registry\r\nauthorization: Basic {}\r\ncontent-type: {media_type}\r\n\
             content-length: {}\r\n\r\n",
            self.authorization,
            body.len(),
        );
        let stream = self.stream.get_mut();
        stream.write_all(&[head.as_bytes(), body].concat())?;
        let status = self.line()?.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
        let mut headers = HashMap::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; if method == "HEAD" { 0 } else { length }];
        self.stream.read_exact(&mut body)?;
        Ok(Answer { status, headers, body })
    }

    pub fn get(&mut self, target: &str) -> io::Result<Answer> {
        self.send("GET", target, "text/plain", b"")
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        // The end of the stream is the end of the server.
        if self.stream.read_line(&mut line)? == 0 {
            return Err(broken());
        }
        Ok(line.trim_end().to_owned())
    }
}

fn broken() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}
