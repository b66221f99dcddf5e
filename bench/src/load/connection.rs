//! One HTTP/1.1 connection that carries one request after another.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What a connection reads into at first, bytes: most answers fit.
const BUFFER_BYTES: usize = 2_048;

/// The largest answer read, bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The most header fields of an answer.
const HEADERS_MAX: usize = 32;

/// How long a connection that carries nothing is kept: less than any server here keeps one that has carried a
/// request, or the next could cross the end of its connection.
const KEPT_FOR: Duration = Duration::from_secs(20);

/// The head of an answer whose body has arrived.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    body: Range<usize>,
    /// The server closes the connection after it.
    pub(super) is_last: bool,
}

impl Head {
    /// The size of the whole answer.
    pub(super) fn bytes(&self) -> u64 {
        self.body.end as u64
    }
}

/// A connection with no answer outstanding.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    used_at: Instant,
}

impl Connection {
    /// Opens one.
    pub(super) async fn open(address: SocketAddr) -> io::Result<Self> {
        Self::new(TcpStream::connect(address).await?)
    }

    /// Takes over a stream.
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER_BYTES], used_at: Instant::now() })
    }

    /// True unless the server has closed it or soon may, or sent what nobody asked for. Costs a call of the
    /// kernel only if the runtime has seen something arrive.
    pub(super) fn is_open(&mut self) -> bool {
        if self.used_at.elapsed() >= KEPT_FOR {
            return false;
        }
        let nothing = self.stream.try_read(&mut self.buffer);
        nothing.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends a request and reads its whole answer. After an error the connection is of no use.
    ///
    /// # Errors
    /// `InvalidData` if what came is not an answer as read here (with a `Content-Length`, at most 1 MiB);
    /// anything else if the connection ended first.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> io::Result<Head> {
        self.stream.write_all(request).await?;
        self.used_at = Instant::now();
        let mut filled = 0;
        let mut head = None;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += read;
            if head.is_none() {
                head = parse(&self.buffer[..filled])?;
            }
            let end = head.as_ref().map(|head: &Head| head.body.end);
            if let Some(head) = head.take_if(|head| head.body.end <= filled) {
                // One request was sent, so one answer is all there may be.
                return if head.body.end == filled { Ok(head) } else { Err(nonsense("too much")) };
            }
            self.make_room(filled, end)?;
        }
    }

    /// The body of an answer read last.
    pub(super) fn body(&self, head: &Head) -> &[u8] {
        &self.buffer[head.body.clone()]
    }

    fn make_room(&mut self, filled: usize, end: Option<usize>) -> io::Result<()> {
        let full = if filled == self.buffer.len() { filled * 2 } else { 0 };
        let needed = end.unwrap_or_default().max(full);
        if needed > ANSWER_BYTES_MAX {
            return Err(nonsense("too long"));
        }
        if needed > self.buffer.len() {
            self.buffer.resize(needed, 0);
        }
        Ok(())
    }
}

/// Reads the head if it is there as a whole.
fn parse(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let start = match response.parse(bytes).map_err(|error| nonsense(&error.to_string()))? {
        httparse::Status::Complete(start) => start,
        httparse::Status::Partial => return Ok(None),
    };
    let status = response.code.unwrap_or_default();
    let mut length = matches!(status, 204 | 304).then_some(0);
    let mut is_last = response.version == Some(0);
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).ok();
            length = text.and_then(|text| text.trim().parse().ok());
        } else if header.name.eq_ignore_ascii_case("connection") {
            is_last |= header.value.eq_ignore_ascii_case(b"close");
        }
    }
    let length: usize = length.ok_or_else(|| nonsense("no content-length"))?;
    let end = start.checked_add(length).ok_or_else(|| nonsense("too long"))?;
    Ok(Some(Head { status, body: start..end, is_last }))
}

fn nonsense(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let whole = b"HTTP/1.1 202 Accepted\r\nContent-Length: 3\r\nConnection: Close\r\n\r\nabc";
        for cut in 0..whole.len() - 3 {
            assert!(parse(&whole[..cut]).expect("no nonsense").is_none());
        }
        let head = parse(whole).expect("no nonsense").expect("whole");
        assert_eq!(
            (head.status, &whole[head.body.clone()], head.is_last),
            (202, &b"abc"[..], true)
        );
    }

    #[test]
    fn an_answer_of_unknown_length_is_nonsense_unless_it_can_have_no_body() {
        assert!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        let head = parse(b"HTTP/1.1 204 No Content\r\n\r\n").expect("no nonsense").expect("whole");
        assert_eq!((head.bytes(), head.is_last), (27, false));
        assert!(parse(b"SSH-2.0-OpenSSH\r\n").is_err());
    }
}
