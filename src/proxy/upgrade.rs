//! Connections that turn into another protocol (WebSockets): asked for, and then spliced byte for byte, unread.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::account::Account;
use crate::llm::reading::Reading;
use crate::store::record::Outcome;

/// Whether a request wants a WebSocket. Other offers to switch (`h2c`, which some HTTP clients make by habit) are
/// declined by not taking them up.
pub(super) fn is_wanted(parts: &Parts) -> bool {
    let names = |name, wanted: &str| {
        let values = parts
            .headers
            .get_all(name)
            .into_iter()
            .filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case(wanted))
    };
    parts.method == Method::GET
        && names(header::UPGRADE, "websocket")
        && names(header::CONNECTION, "upgrade")
}

/// The protocol that a client asks for.
pub(super) fn protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(header::UPGRADE).cloned()
}

/// Asks the provider for it.
pub(super) fn ask(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

/// Joins the two connections once both sides have switched, until either ends or both have been silent for too long.
/// The account ends with them.
pub(super) fn splice(client: OnUpgrade, provider: OnUpgrade, mut account: Box<Account>) {
    let gate = account.gate();
    let idle = gate.settings.upstream.idle_timeout;
    gate.tasks.spawn(async move {
        let Ok((client, provider)) = tokio::try_join!(client, provider) else {
            return account.settle(Outcome::ClientGone, &Reading::default());
        };
        let (up, down) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let mut client = Counting {
            io: TokioIo::new(client),
            read: Arc::clone(&up),
        };
        let mut provider = Counting {
            io: TokioIo::new(provider),
            read: Arc::clone(&down),
        };
        let outcome = tokio::select! {
            copied = tokio::io::copy_bidirectional(&mut client, &mut provider) => match copied {
                Ok(_) => Outcome::Complete,
                Err(_) => Outcome::UpstreamCut,
            },
            () = silence(&up, &down, idle) => Outcome::TimedOut,
        };
        let record = account.record_mut();
        record.request_bytes = up.load(Ordering::Relaxed);
        record.response_bytes = down.load(Ordering::Relaxed);
        account.settle(outcome, &Reading::default());
    });
}

/// Done when neither side has sent anything for a while.
async fn silence(up: &AtomicU64, down: &AtomicU64, idle: Duration) {
    let moved = || (up.load(Ordering::Relaxed), down.load(Ordering::Relaxed));
    let mut before = moved();
    loop {
        tokio::time::sleep(idle).await;
        let now = moved();
        if now == before {
            return;
        }
        before = now;
    }
}

/// One side of a spliced connection; counts what comes from it.
struct Counting {
    io: TokioIo<Upgraded>,
    read: Arc<AtomicU64>,
}

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        self.read
            .fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for Counting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
