//! First step: whose request it is, what it asks, and its body, read as far as tollgate must understand it.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, Method, Request, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::account::Account;
use super::gate::Gate;
use crate::llm::decode::Coding;
use crate::llm::endpoint::{self, Mount, PathTag};
use crate::llm::request::{self, Peek, Peeked};
use crate::llm::wire::Endpoint;
use crate::refusal::Refusal;

/// How much of a body that is too large is read and thrown away, so that a client that writes first and reads later
/// gets to see the refusal instead of a broken pipe. In multiples of the limit.
const DRAIN_LIMITS: usize = 4;

/// What is asked, once parsed.
#[derive(Debug)]
pub(super) struct Call {
    /// Place of the provider in the gate's list.
    pub(super) provider: usize,
    /// What is asked of it.
    pub(super) endpoint: Endpoint,
    /// Path and query as they go to the provider.
    pub(super) target: String,
    /// The session and priority that the path names.
    pub(super) tag: Option<PathTag>,
    /// Method, headers and what hyper needs for an upgrade.
    pub(super) parts: Parts,
    /// The body.
    pub(super) body: CallBody,
    /// What the body says; empty where it was not read.
    pub(super) peek: Peek,
}

/// A request's body.
#[derive(Debug)]
pub(super) enum CallBody {
    /// Read, because it must be understood (and may have to be sent again).
    Read(Bytes),
    /// Not understood: streams through, whatever its size.
    Passing(Incoming),
}

/// Reads a request.
pub(super) async fn parse(gate: &Gate, request: Request<Incoming>, account: &mut Account) -> Result<Call, Refusal> {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let path_and_query = parts.uri.path_and_query().ok_or(Refusal::BadTarget)?;
    if !path_and_query.as_str().starts_with('/') || parts.method == Method::CONNECT {
        return Err(Refusal::BadTarget);
    }
    let names = |name: &str| gate.providers.iter().position(|provider| provider.settings.name == name);
    let mount = endpoint::mount_of(path_and_query.path(), &parts.headers, names).map_err(Refusal::BadTag)?;
    let Some(Mount { provider, rest, tag }) = mount else {
        let known = gate.providers.iter().map(|provider| format!("/{}", provider.settings.name));
        return Err(Refusal::UnknownProvider { known: known.collect::<Vec<_>>().join(" ") });
    };
    let settings = &gate.providers[provider].settings;
    let asked = endpoint::endpoint_of(&parts.method, rest, settings.dialect);
    account.belongs_to(&gate.providers[provider], asked.endpoint, asked.dialect);
    if asked.endpoint.refuses_upgrades() && is_upgrade(&parts.headers) {
        return Err(Refusal::UpgradeRequired);
    }
    let target =
        endpoint::upstream_target(settings.base_url.path(), rest, path_and_query.query(), settings.dialect).into_owned();
    account.add_own_time(started);

    let mut call =
        Call { provider, endpoint: asked.endpoint, target, tag, parts, body: CallBody::Read(Bytes::new()), peek: Peek::default() };
    if !asked.endpoint.reads_body() {
        call.body = CallBody::Passing(body);
        call.peek.model = asked.model;
        return Ok(call);
    }
    let bytes = collect(&call.parts.headers, body, gate).await?;
    let started = Instant::now();
    call.peek = read(gate, &call, &bytes, account)?;
    if asked.model.is_some() {
        call.peek.model = asked.model;
    }
    call.peek.stream |= asked.stream;
    let record = account.record_mut();
    record.request_bytes = bytes.len() as u64;
    record.requested_model.clone_from(&call.peek.model);
    record.stream = call.peek.stream;
    call.body = CallBody::Read(bytes);
    account.add_own_time(started);
    Ok(call)
}

/// Whether a request wants another protocol on its connection.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
}

/// Understands a body as far as possible. What cannot be read passes through and is counted.
fn read(gate: &Gate, call: &Call, bytes: &Bytes, account: &Account) -> Result<Peek, Refusal> {
    let coding = Coding::of(&call.parts.headers);
    let decoded;
    let plain: &[u8] = match coding {
        Coding::Identity => bytes,
        _ => match request::decoded(coding, bytes, gate.settings.server.max_body_bytes) {
            Some(plain) => {
                decoded = plain;
                &decoded
            }
            None => {
                gate.metrics.unparsed(&account.record().provider);
                return Ok(Peek::unread(bytes.len()));
            }
        },
    };
    let content_type = call.parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    match request::peek(call.endpoint, content_type, plain) {
        Peeked::Read(peek) => Ok(peek),
        Peeked::NotJson => {
            gate.metrics.unparsed(&account.record().provider);
            Ok(Peek::unread(plain.len()))
        }
        Peeked::DuplicateField(field) => Err(Refusal::DuplicateField(field)),
    }
}

/// Reads a body to its end: into one piece, within the size and time limits.
async fn collect(headers: &HeaderMap, mut body: Incoming, gate: &Gate) -> Result<Bytes, Refusal> {
    let limit = gate.settings.server.max_body_bytes;
    let pause = gate.settings.server.body_timeout;
    let announced = body.size_hint().lower();
    if announced > limit as u64 && headers.contains_key(header::EXPECT) {
        // The client waits for our word before it sends anything.
        return Err(Refusal::BodyTooLarge { limit });
    }
    let Some(first) = next(&mut body, pause).await? else { return Ok(Bytes::new()) };
    if body.is_end_stream() && first.len() <= limit {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(usize::try_from(announced).unwrap_or(limit).min(limit));
    let mut seen = first.len();
    whole.extend_from_slice(&first);
    while let Some(piece) = next(&mut body, pause).await? {
        seen += piece.len();
        if seen > limit {
            whole = BytesMut::new();
            if seen > limit.saturating_mul(DRAIN_LIMITS) {
                break;
            }
            continue;
        }
        whole.extend_from_slice(&piece);
    }
    if seen > limit { Err(Refusal::BodyTooLarge { limit }) } else { Ok(whole.freeze()) }
}

/// The next piece of a body; `None` at its end. Trailers are dropped: no provider takes any.
async fn next(body: &mut Incoming, pause: Duration) -> Result<Option<Bytes>, Refusal> {
    loop {
        match tokio::time::timeout(pause, body.frame()).await {
            Err(_) => return Err(Refusal::BodyTimeout { limit: pause }),
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => return Err(Refusal::BodyBroken),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}
