//! The body of a request on its way to the provider: kept whole, or passed on as it comes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

/// What is sent. Requests that are read (metered ones) are kept, so they can be sent again; uploads and everything not
/// understood stream through, whatever their size.
#[derive(Debug)]
pub enum SendBody {
    /// The whole body.
    Kept {
        /// `None` once it was handed over.
        bytes: Option<Bytes>,
        /// Set when it is handed over.
        sent: SentMark,
    },
    /// Passed on frame by frame, with a limit on the pause between two frames.
    Passing {
        /// The client's body.
        inner: Incoming,
        /// Fires when the client has sent nothing for too long.
        pause: Pin<Box<Sleep>>,
        /// The longest pause.
        limit: Duration,
        /// Counts what has passed.
        sent: SentMark,
    },
}

/// How far a request's body has left. hyper asks for a body only when it has a connection to write it to.
#[derive(Debug, Clone, Default)]
pub struct SentMark(Arc<Sent>);

#[derive(Debug, Default)]
struct Sent {
    begun: AtomicBool,
    passed_bytes: AtomicU64,
}

impl SentMark {
    /// Whether the body has begun to leave.
    pub fn is_set(&self) -> bool {
        self.0.begun.load(Ordering::Relaxed)
    }

    /// Bytes of a body that streams through, so far.
    pub fn passed_bytes(&self) -> u64 {
        self.0.passed_bytes.load(Ordering::Relaxed)
    }

    fn begin(&self) {
        self.0.begun.store(true, Ordering::Relaxed);
    }

    fn pass(&self, frame: &Frame<Bytes>) {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        self.0
            .passed_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// The client paused for too long inside its body.
#[derive(Debug, thiserror::Error)]
#[error("the client sent nothing for {0:?} in the middle of its body")]
pub struct BodyPause(pub Duration);

impl SendBody {
    /// A body that is kept whole.
    pub fn kept(bytes: Bytes, sent: SentMark) -> Self {
        Self::Kept {
            bytes: Some(bytes),
            sent,
        }
    }

    /// A body that streams through.
    pub fn passing(inner: Incoming, limit: Duration, sent: SentMark) -> Self {
        Self::Passing {
            inner,
            pause: Box::pin(tokio::time::sleep(limit)),
            limit,
            sent,
        }
    }

    /// A second copy for another try; `None` if the body cannot be sent twice.
    pub fn again(&self) -> Option<Self> {
        match self {
            Self::Kept { bytes, sent } => Some(Self::Kept {
                bytes: bytes.clone(),
                sent: sent.clone(),
            }),
            Self::Passing { .. } => None,
        }
    }
}

impl Body for SendBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Kept { bytes, sent } => {
                sent.begin();
                let whole = bytes.take().filter(|bytes| !bytes.is_empty());
                Poll::Ready(whole.map(|bytes| Ok(Frame::data(bytes))))
            }
            Self::Passing {
                inner,
                pause,
                limit,
                sent,
            } => match Pin::new(inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    sent.begin();
                    sent.pass(&frame);
                    pause.as_mut().reset(Instant::now() + *limit);
                    Poll::Ready(Some(Ok(frame)))
                }
                Poll::Ready(other) => Poll::Ready(other.map(|result| result.map_err(Into::into))),
                Poll::Pending if pause.as_mut().poll(cx).is_ready() => {
                    Poll::Ready(Some(Err(Box::new(BodyPause(*limit)))))
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Kept { bytes, .. } => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Passing { inner, .. } => inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Kept { bytes, .. } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Self::Passing { inner, .. } => inner.size_hint(),
        }
    }
}
