//! The body of a request on its way to the provider: kept whole, or passed on as it comes.

use std::pin::Pin;
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
    /// The whole body; `None` once it was handed over.
    Kept(Option<Bytes>),
    /// Passed on frame by frame, with a limit on the pause between two frames.
    Passing {
        /// The client's body.
        inner: Incoming,
        /// Fires when the client has sent nothing for too long.
        pause: Pin<Box<Sleep>>,
        /// The longest pause.
        limit: Duration,
    },
}

/// The client paused for too long inside its body.
#[derive(Debug, thiserror::Error)]
#[error("the client sent nothing for {0:?} in the middle of its body")]
struct BodyPause(Duration);

impl SendBody {
    /// A body that is kept whole.
    pub fn kept(bytes: Bytes) -> Self {
        Self::Kept(Some(bytes))
    }

    /// A body that streams through.
    pub fn passing(inner: Incoming, limit: Duration) -> Self {
        Self::Passing {
            inner,
            pause: Box::pin(tokio::time::sleep(limit)),
            limit,
        }
    }

    /// A second copy for another try; `None` if the body cannot be sent twice.
    pub fn again(&self) -> Option<Self> {
        match self {
            Self::Kept(bytes) => Some(Self::Kept(bytes.clone())),
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
            Self::Kept(bytes) => Poll::Ready(
                bytes
                    .take()
                    .filter(|b| !b.is_empty())
                    .map(|b| Ok(Frame::data(b))),
            ),
            Self::Passing {
                inner,
                pause,
                limit,
            } => match Pin::new(inner).poll_frame(cx) {
                Poll::Ready(frame) => {
                    pause.as_mut().reset(Instant::now() + *limit);
                    Poll::Ready(frame.map(|result| result.map_err(Into::into)))
                }
                Poll::Pending if pause.as_mut().poll(cx).is_ready() => {
                    Poll::Ready(Some(Err(Box::new(BodyPause(*limit)))))
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Kept(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Passing { inner, .. } => inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Kept(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Passing { inner, .. } => inner.size_hint(),
        }
    }
}
