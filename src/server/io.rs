//! A client's connection with two time limits that hyper does not have: until the first request is there (hyper looks
//! at the first bytes to tell HTTP/1 from HTTP/2, without any limit), and for a client that takes nothing of what is
//! written to it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// Tells the connection that its first request has arrived.
#[derive(Debug, Clone, Default)]
pub(super) struct FirstRequest(Arc<AtomicBool>);

impl FirstRequest {
    /// From now on hyper's own limit for heads applies.
    pub(super) fn arrived(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_here(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The connection. Timers exist only while something is late: none runs in an ordinary request.
#[derive(Debug)]
pub(super) struct TimedIo {
    stream: TcpStream,
    first: FirstRequest,
    /// Runs until the first request is there.
    waiting: Option<Pin<Box<Sleep>>>,
    /// Runs while the client takes nothing.
    blocked: Option<Pin<Box<Sleep>>>,
    write_limit: Duration,
}

impl TimedIo {
    pub(super) fn new(
        stream: TcpStream,
        first: FirstRequest,
        first_limit: Duration,
        write_limit: Duration,
    ) -> Self {
        let waiting = Some(Box::pin(tokio::time::sleep(first_limit)));
        Self {
            stream,
            first,
            waiting,
            blocked: None,
            write_limit,
        }
    }

    /// Ends the wait of a write: either it got on, or its client has been deaf for too long.
    fn check_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.blocked = None;
            return written;
        }
        let limit = self.write_limit;
        let blocked = self
            .blocked
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        match blocked.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for TimedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if self.waiting.is_none() {
            return read;
        }
        if self.first.is_here() {
            self.waiting = None;
        } else if read.is_pending()
            && self
                .waiting
                .as_mut()
                .is_some_and(|limit| limit.as_mut().poll(cx).is_ready())
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for TimedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.check_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.check_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
