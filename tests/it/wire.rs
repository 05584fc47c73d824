//! HTTP/1.1 by hand on a socket, for both ends of a test: exact bytes out, and what really came in, with its framing.
//!
//! Nothing here repairs anything: a cut is told from an end, and heads are kept as they arrived. Every wait is bounded.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long anything may take: far longer than it does, so that only what never comes fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for something that must come.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// Asks again until the answer is there, for states that give no sign when they change.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    })
    .await
}

/// The head of a message, as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    fn parse(bytes: &[u8]) -> Self {
        // Latin-1, so that no byte is lost.
        let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap_or("").to_owned();
        let fields = lines
            .filter(|line| !line.is_empty())
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        Self { line, fields }
    }

    /// Every value of a header, in their order.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let fields = self.fields.iter().filter(|(known, _)| known == name);
        fields.map(|(_, value)| value.as_str()).collect()
    }

    /// A header's first value.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.values(name).first().copied()
    }

    /// The names of all headers, sorted, each once.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.fields.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The status of an answer.
    pub(crate) fn status(&self) -> u16 {
        let status = self.line.split(' ').nth(1).and_then(|s| s.parse().ok());
        status.unwrap_or_else(|| panic!("no status in {:?}", self.line))
    }

    /// Method and target of a request.
    pub(crate) fn asks(&self) -> &str {
        self.line.rsplit_once(' ').map_or("", |(asks, _)| asks)
    }
}

/// A body, and whether its framing says that it is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    pub(crate) whole: bool,
}

impl Body {
    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.bytes)))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// The next thing in a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Data(Vec<u8>),
    /// The framing says that it is whole.
    End,
    /// The connection ended before the framing did.
    Cut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Wire<S = TcpStream> {
    io: S,
    buffer: Vec<u8>,
    framing: Framing,
    /// Trailers of the last body that had any.
    pub(crate) trailers: Vec<u8>,
}

impl Wire<TcpStream> {
    /// Connects to an address.
    pub(crate) async fn connect(address: std::net::SocketAddr) -> Self {
        let io = within("connecting", TcpStream::connect(address)).await;
        let io = io.expect("something listens there");
        io.set_nodelay(true).expect("a fresh socket");
        Self::new(io)
    }

    /// Ends the connection with a reset instead of a FIN.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(&self.io);
        socket
            .set_linger(Some(Duration::ZERO))
            .expect("a TCP socket");
    }

    /// Makes the kernel keep little for this end, so that a reader that does not read is noticed soon.
    pub(crate) fn with_small_buffers(self) -> Self {
        let socket = socket2::SockRef::from(&self.io);
        socket.set_recv_buffer_size(4_096).expect("a TCP socket");
        self
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Takes over a socket.
    pub(crate) fn new(io: S) -> Self {
        Self {
            io,
            buffer: Vec::new(),
            framing: Framing::Length(0),
            trailers: Vec::new(),
        }
    }

    /// Sends exactly these bytes.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = async {
            self.io.write_all(bytes.as_ref()).await?;
            self.io.flush().await
        };
        within("sending", sent).await.expect("the other end reads");
    }

    /// Sends bytes to an end that may be gone.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = async {
            self.io.write_all(bytes.as_ref()).await?;
            self.io.flush().await
        };
        within("sending", sent).await.is_ok()
    }

    /// Sends bytes as one chunk of a chunked body.
    pub(crate) async fn send_chunk(&mut self, bytes: impl AsRef<[u8]>) {
        self.send(chunk(bytes)).await;
    }

    /// Ends the sending half.
    pub(crate) async fn finish(&mut self) {
        within("closing", self.io.shutdown()).await.ok();
    }

    /// Reads more into the buffer; false at the end, be it a FIN or a reset.
    async fn fill(&mut self) -> bool {
        let read = self.io.read_buf(&mut self.buffer);
        matches!(within("bytes", read).await, Ok(count) if count > 0)
    }

    /// The next head, or `None` if the connection ends first.
    pub(crate) async fn try_head(&mut self) -> Option<Head> {
        let end = loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill().await {
                return None;
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = Head::parse(&head);
        self.framing = framing(&head);
        Some(head)
    }

    /// The next head.
    pub(crate) async fn head(&mut self) -> Head {
        let head = self.try_head().await;
        head.unwrap_or_else(|| panic!("the connection ended after {:?}", self.seen()))
    }

    fn seen(&self) -> String {
        String::from_utf8_lossy(&self.buffer).into_owned()
    }

    /// Says that the message whose head came last has no body, as an answer to HEAD.
    pub(crate) fn no_body(&mut self) {
        self.framing = Framing::Length(0);
    }

    /// The next piece of the current body.
    pub(crate) async fn piece(&mut self) -> Piece {
        match self.framing {
            Framing::Length(0) => Piece::End,
            Framing::Length(left) => {
                if self.buffer.is_empty() && !self.fill().await {
                    return Piece::Cut;
                }
                let count = self
                    .buffer
                    .len()
                    .min(usize::try_from(left).unwrap_or(usize::MAX));
                self.framing = Framing::Length(left - count as u64);
                Piece::Data(self.buffer.drain(..count).collect())
            }
            Framing::UntilClose => {
                if self.buffer.is_empty() && !self.fill().await {
                    return Piece::End;
                }
                Piece::Data(std::mem::take(&mut self.buffer))
            }
            Framing::Chunked => self.chunk().await,
        }
    }

    async fn chunk(&mut self) -> Piece {
        let Some(line) = self.line().await else {
            return Piece::Cut;
        };
        let text = String::from_utf8_lossy(&line);
        let size = text.split(';').next().unwrap_or("").trim();
        let size =
            usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("chunk size {text:?}"));
        if size == 0 {
            loop {
                match self.line().await {
                    None => return Piece::Cut,
                    Some(line) if line.is_empty() => break,
                    Some(line) => {
                        self.trailers.extend_from_slice(&line);
                        self.trailers.push(b'\n');
                    }
                }
            }
            self.framing = Framing::Length(0);
            return Piece::End;
        }
        while self.buffer.len() < size + 2 {
            if !self.fill().await {
                return Piece::Cut;
            }
        }
        let data = self.buffer.drain(..size).collect();
        assert_eq!(self.buffer[..2], *b"\r\n", "the end of a chunk");
        self.buffer.drain(..2);
        Piece::Data(data)
    }

    async fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, b"\r\n") {
                let line = self.buffer.drain(..at).collect();
                self.buffer.drain(..2);
                return Some(line);
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// The rest of the current body.
    pub(crate) async fn body(&mut self) -> Body {
        let mut bytes = Vec::new();
        loop {
            match self.piece().await {
                Piece::Data(data) => bytes.extend_from_slice(&data),
                Piece::End => return Body { bytes, whole: true },
                Piece::Cut => {
                    return Body {
                        bytes,
                        whole: false,
                    };
                }
            }
        }
    }

    /// Reads the current body until this much of it is there.
    pub(crate) async fn body_bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            match self.piece().await {
                Piece::Data(data) => bytes.extend_from_slice(&data),
                end => panic!("{end:?} after {:?}", String::from_utf8_lossy(&bytes)),
            }
        }
        bytes
    }

    /// A whole message: head and body.
    pub(crate) async fn message(&mut self) -> (Head, Body) {
        let head = self.head().await;
        let body = self.body().await;
        (head, body)
    }

    /// Exactly this many bytes, whatever they are.
    pub(crate) async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.fill().await, "the end after {:?}", self.seen());
        }
        self.buffer.drain(..count).collect()
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.buffer)
    }

    /// Waits for the end of the connection for as long as the test runs.
    pub(crate) async fn ended(&mut self) {
        while matches!(self.io.read_buf(&mut self.buffer).await, Ok(count) if count > 0) {}
    }

    /// Gives the socket back; nothing may have been read beyond what was asked for.
    pub(crate) fn into_io(self) -> S {
        assert!(self.buffer.is_empty(), "unread: {:?}", self.seen());
        self.io
    }
}

/// How the body after a head is framed (RFC 9112 section 6.3).
fn framing(head: &Head) -> Framing {
    let answers = head.line.starts_with("HTTP/");
    if answers && (head.status() < 200 || [204, 304].contains(&head.status())) {
        return Framing::Length(0);
    }
    if head.value("transfer-encoding").is_some() {
        return Framing::Chunked;
    }
    match head.value("content-length") {
        Some(length) => Framing::Length(length.parse().expect("a length")),
        None if answers => Framing::UntilClose,
        None => Framing::Length(0),
    }
}

/// Bytes as one chunk of a chunked body.
pub(crate) fn chunk(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

/// A request with a length, to this machine.
pub(crate) fn request(line: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut request = format!("{line} HTTP/1.1\r\nhost: 127.0.0.1\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || line.starts_with("POST") {
        request.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    let mut request = request.into_bytes();
    request.extend_from_slice(body);
    request
}

/// An answer with a length.
pub(crate) fn answer(status: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        answer.push_str(&format!("{name}: {value}\r\n"));
    }
    answer.push_str("\r\n");
    let mut answer = answer.into_bytes();
    answer.extend_from_slice(body);
    answer
}

/// A JSON answer with status 200.
pub(crate) fn json_answer(body: impl AsRef<[u8]>) -> Vec<u8> {
    answer("200 OK", &[("content-type", "application/json")], body)
}

/// The head of a chunked answer.
pub(crate) fn stream_head(content_type: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n")
}

/// The end of a chunked body.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
