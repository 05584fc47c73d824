//! What a connection begins with, told from bytes that are left where they are.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long to wait for a third byte of a connection.
const FEW_BYTES_PAUSE: Duration = Duration::from_millis(5);

/// The first byte of a TLS connection: a record of type handshake.
const HANDSHAKE: u8 = 0x16;

/// How much of a plain request is read before it is refused, in bytes: enough for its client to have written its head.
const HEAD_BYTES: usize = 16 * 1024;

const NOT_PLAIN: &str = "tollgate: this port speaks HTTPS; use https:// in the base URL\n";

/// What a client begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// HTTP/1, or what will turn out to be none.
    Http1,
    /// HTTP/2 by prior knowledge, which begins with `PRI`, as no HTTP/1 method does.
    Http2,
    /// A TLS handshake.
    Tls,
}

/// Waits for a connection's first bytes. TLS is told only where it is served.
///
/// # Errors
/// The connection ends before its first byte.
pub(super) async fn read(stream: &TcpStream, tls: bool) -> io::Result<Opening> {
    const HTTP2: &[u8] = b"PRI";
    let mut first = [0; HTTP2.len()];
    loop {
        stream.readable().await?;
        let seen = match stream.peek(&mut first).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => &first[..count],
        };
        if tls && seen[0] == HANDSHAKE {
            return Ok(Opening::Tls);
        }
        if seen == HTTP2 {
            return Ok(Opening::Http2);
        }
        if !HTTP2.starts_with(seen) {
            return Ok(Opening::Http1);
        }
        // One or two bytes that fit: more will come, but nothing tells when, as there is something to read already.
        tokio::time::sleep(FEW_BYTES_PAUSE).await;
    }
}

/// Tells a client that speaks plain HTTP where HTTPS is spoken, and closes. What it shows has crossed the network in
/// clear text already, and is not looked at.
pub(super) async fn refuse_plain(mut io: impl AsyncRead + AsyncWrite + Unpin) {
    let mut head = [0; HEAD_BYTES];
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: \
         close\r\n\r\n{NOT_PLAIN}",
        NOT_PLAIN.len()
    );
    // Whoever does not hear it has left.
    let _ = io.read(&mut head).await;
    let _ = io.write_all(answer.as_bytes()).await;
    let _ = io.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_plain_client_is_told_to_use_https() {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        client
            .write_all(b"POST /v1/messages HTTP/1.1\r\nx-api-key: tg_1\r\n\r\n")
            .await
            .expect("room");
        refuse_plain(server).await;
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("text");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.ends_with(NOT_PLAIN) && !answer.contains("tg_1"));
    }
}
