//! Reads HTTP/1.1 answers from a socket with little more work than the bytes demand, as the load shares its processor
//! with the upstream. Knows the two framings a proxy may use: a length, and chunks.

use anyhow::{Context, bail, ensure};
use bytes::{Buf, BytesMut};
use memchr::memmem;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// One keep-alive connection, seen from the client.
pub(crate) struct Connection {
    pub(crate) socket: TcpStream,
    buffer: BytesMut,
}

/// How the end of an answer's body shows.
#[derive(Clone, Copy)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
}

impl Connection {
    /// Connects without Nagle's delay.
    pub(crate) async fn open(address: &str) -> anyhow::Result<Connection> {
        let socket = TcpStream::connect(address)
            .await
            .with_context(|| format!("connecting to {address}"))?;
        socket.set_nodelay(true)?;
        Ok(Connection {
            socket,
            buffer: BytesMut::with_capacity(4096),
        })
    }

    async fn more(&mut self) -> anyhow::Result<()> {
        if self.socket.read_buf(&mut self.buffer).await? == 0 {
            bail!("the connection was closed within an answer");
        }
        Ok(())
    }

    /// Reads a head and demands status 200.
    pub(crate) async fn head(&mut self) -> anyhow::Result<Framing> {
        let end = loop {
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await?;
        };
        let head = std::str::from_utf8(&self.buffer[..end])?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "answered {head}");
        let mut framing = None;
        for line in head.split("\r\n").skip(1) {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            if name.eq_ignore_ascii_case("content-length") {
                framing = Some(Framing::Length(value.trim().parse()?));
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                framing = Some(Framing::Chunked);
            }
        }
        self.buffer.advance(end);
        framing.context("an answer without a length")
    }

    /// Reads the next piece of a body; `None` at its end.
    pub(crate) async fn piece(
        &mut self,
        framing: &mut Framing,
    ) -> anyhow::Result<Option<BytesMut>> {
        match framing {
            Framing::Length(0) => Ok(None),
            Framing::Length(left) => {
                if self.buffer.is_empty() {
                    self.more().await?;
                }
                let piece = self.buffer.split_to(self.buffer.len().min(*left));
                *left -= piece.len();
                Ok(Some(piece))
            }
            Framing::Chunked => {
                let line = loop {
                    if let Some(line) = memmem::find(&self.buffer, b"\r\n") {
                        break line;
                    }
                    self.more().await?;
                };
                let size = usize::from_str_radix(std::str::from_utf8(&self.buffer[..line])?, 16)?;
                self.buffer.advance(line + 2);
                while self.buffer.len() < size + 2 {
                    self.more().await?;
                }
                let piece = self.buffer.split_to(size);
                self.buffer.advance(2);
                Ok((size > 0).then_some(piece))
            }
        }
    }
}
