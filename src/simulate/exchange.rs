//! One request after its head was read, up to the head of its answer: id, counts, headers.

use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::answer::Content;
use super::behaviour::{Behaviour, Flavour};
use super::body::{Pace, SimulatedBody, Source, State, Streamed};
use super::errors::Failure;
use super::route::Route;
use super::socket::ResetFlag;
use super::standing::{self, Standing};
use super::stats::{Outcome, Ticket};
use super::{encode, headers};
use crate::llm::wire::Dialect;

/// What every step after the head needs.
pub(super) struct Exchange {
    /// The request's head.
    pub(super) head: Parts,
    /// Makes the ids in the answer.
    pub(super) id: String,
    /// The id in the counts and in the answer's headers.
    pub(super) request_id: String,
    /// Time since 1970.
    pub(super) now: Duration,
    /// Headers of the answer instead of its own; without a value, none.
    pub(super) overrides: Vec<(HeaderName, HeaderValue)>,
    /// What the limits' headers say; `None` where they say nothing.
    pub(super) standing: Option<Standing>,
    /// Resets the connection, where it carries only this request.
    pub(super) reset: Option<ResetFlag>,
    /// Counts the request.
    pub(super) ticket: Box<Ticket>,
}

impl Exchange {
    /// Answers with content, packed and faulty as asked.
    pub(super) fn send(
        mut self,
        dialect: Dialect,
        flavour: Flavour,
        behaviour: &Behaviour,
        content: Content,
    ) -> Response<SimulatedBody> {
        self.ticket.seen.status = 200;
        let fault = behaviour.fault();
        let (content_type, source) = match content {
            Content::Stream(content_type, frames) => (content_type, Ok(Source::Frames(frames))),
            Content::Whole(content_type, text) if fault.is_some() => {
                self.ticket.seen.usage_sent = false;
                let half = text.len().div_ceil(2).max(1);
                (content_type, Ok(Source::Halves(text.into(), half)))
            }
            Content::Whole(content_type, text) => (content_type, Err(Bytes::from(text))),
        };
        // An encoder that cannot be made leaves the answer plain, which every client takes.
        let encoding = behaviour.encoding;
        let (body, encoding) = match source {
            Ok(source) => {
                let encoder = encoding.and_then(|encoding| encode::Encoder::new(encoding).ok());
                let encoding = encoding.filter(|_| encoder.is_some());
                let stream = Streamed {
                    source,
                    encoder,
                    pace: Pace::of(behaviour),
                    fault,
                    error_code: behaviour.error_code.clone(),
                    reset: self.reset.take(),
                    ticket: self.ticket,
                    state: State::Running,
                };
                (SimulatedBody::Stream(Box::new(stream)), encoding)
            }
            Err(plain) => {
                let packed = encoding
                    .and_then(|encoding| Some((encode::packed(encoding, &plain).ok()?, encoding)));
                let (bytes, encoding) = match packed {
                    Some((packed, encoding)) => (packed, Some(encoding)),
                    None => (plain, None),
                };
                if self.head.method == Method::HEAD {
                    // Nobody will ask for this body.
                    self.ticket.end(Outcome::Complete);
                }
                (
                    SimulatedBody::Whole(Some(bytes), Some(self.ticket)),
                    encoding,
                )
            }
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.reserve(20);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(encoding) = encoding {
            headers.insert(
                header::CONTENT_ENCODING,
                HeaderValue::from_static(encoding.as_str()),
            );
        }
        headers::write(headers, dialect, flavour, &self.request_id);
        if let Some(standing) = &self.standing {
            standing::write(headers, dialect, flavour, standing, self.now, None);
        }
        put_instead(headers, self.overrides);
        response
    }

    /// Answers with an error of the caller's making.
    pub(super) fn fail(
        self,
        route: Route<'_>,
        flavour: Flavour,
        status: StatusCode,
        problem: &str,
    ) -> Response<SimulatedBody> {
        let request_id = self.request_id.clone();
        let failure = Failure {
            status,
            code: None,
            param: None,
            message: Some(problem),
            retry_after: None,
            exceeded: None,
            model: "",
            request_id: &request_id,
        };
        self.refuse(route, flavour, &failure)
    }

    /// Answers with an error.
    pub(super) fn refuse(
        mut self,
        route: Route<'_>,
        flavour: Flavour,
        failure: &Failure<'_>,
    ) -> Response<SimulatedBody> {
        let dialect = route.dialect();
        let refused = (failure.status == StatusCode::TOO_MANY_REQUESTS)
            .then(|| failure.wait().unwrap_or_default());
        let standing = match (refused, failure.exceeded) {
            // A refusal that was asked for, not one of the limits'.
            (Some(wait), None) => Some(Standing::exhausted(wait)),
            _ => self.standing,
        };
        self.ticket.seen.status = failure.status.as_u16();
        if self.head.method == Method::HEAD {
            self.ticket.end(Outcome::Error);
        }
        let body = failure.body(dialect, flavour);
        let mut response =
            Response::new(SimulatedBody::Whole(Some(body.into()), Some(self.ticket)));
        *response.status_mut() = failure.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers::write(headers, dialect, flavour, &self.request_id);
        if let Some(standing) = &standing {
            standing::write(headers, dialect, flavour, standing, self.now, refused);
            failure.write_headers(headers, dialect, flavour);
        }
        put_instead(headers, self.overrides);
        response
    }
}

fn put_instead(headers: &mut HeaderMap, overrides: Vec<(HeaderName, HeaderValue)>) {
    for (name, value) in overrides {
        if value.is_empty() {
            headers.remove(name);
        } else {
            headers.insert(name, value);
        }
    }
}
