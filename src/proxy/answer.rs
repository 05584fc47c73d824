//! The body of an answer to a client: ours, whole; or the provider's, passing through.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::hold::Held;
use super::relay::Relay;

/// What goes to the client.
#[derive(Debug)]
pub enum AnswerBody {
    /// An answer of tollgate's own; `None` once it was handed over.
    Own(Option<Bytes>),
    /// The provider's answer. Boxed, because it is large and most connections are idle.
    Relayed(Box<Relay>),
    /// An answer that has begun while its request waits in line.
    Held(Box<Held>),
}

impl AnswerBody {
    /// An answer of tollgate's own.
    pub fn own(content: impl Into<Bytes>) -> Self {
        Self::Own(Some(content.into()))
    }

    /// A whole response of tollgate's own.
    pub fn response(
        status: StatusCode,
        content_type: &'static str,
        content: impl Into<Bytes>,
    ) -> Response<Self> {
        let mut response = Response::new(Self::own(content));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Own(content) => Poll::Ready(
                content
                    .take()
                    .filter(|c| !c.is_empty())
                    .map(|c| Ok(Frame::data(c))),
            ),
            Self::Relayed(relay) => Pin::new(relay.as_mut()).poll_frame(cx),
            Self::Held(held) => held.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(content) => content.as_ref().is_none_or(Bytes::is_empty),
            Self::Relayed(relay) => relay.is_end_stream(),
            Self::Held(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(content) => {
                SizeHint::with_exact(content.as_ref().map_or(0, |c| c.len() as u64))
            }
            Self::Relayed(relay) => relay.size_hint(),
            Self::Held(_) => SizeHint::default(),
        }
    }
}
