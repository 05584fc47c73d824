//! First step: whose request it is, what it asks, and its body, read as far as tollgate must understand it.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Uri, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::account::Account;
use super::authenticate::{self, Credential};
use super::gate::Gate;
use super::headers;
use super::provider_key;
use super::upgrade;
use crate::config::settings::ProviderSettings;
use crate::llm::endpoint::{self, Mount, Target};
use crate::llm::request::{self, Peek, Unparsed};
use crate::llm::wire::Endpoint;
use crate::refusal::Refusal;
use crate::units::Priority;

/// How much of a body that is too large is read and thrown away, so that a client that writes first and reads later
/// gets to see the refusal instead of a broken pipe. In multiples of the limit.
const DRAIN_LIMITS: usize = 4;

/// Longest model name in bytes; real ones stay below 100, also Bedrock's resource names.
const MAX_MODEL_BYTES: usize = 256;

/// How often the longest pause a whole body may take: a client that sends a byte now and then does not hold its place for
/// ever.
const BODY_PAUSES: u32 = 10;

/// Bodies up to this size, in bytes, are copied out of the connection's read buffer.
const SMALL_BODY_BYTES: usize = 16 * 1024;

/// Bodies above this size, in bytes, take milliseconds to read.
const LARGE_BODY_BYTES: usize = 1 << 20;

/// A request as it came.
#[derive(Debug)]
pub(super) struct Call {
    /// Place of the provider in the gate's list.
    pub(super) provider: usize,
    /// What is asked of it.
    pub(super) endpoint: Endpoint,
    /// What the client shows; it may ask.
    pub(super) credential: Credential,
    /// Path and query as they go to the provider.
    pub(super) target: String,
    /// Path and query behind the provider's name, as the client wrote them.
    pub(super) rest: String,
    /// The session that the path names.
    pub(super) tag_session: Option<String>,
    /// The priority that the path names.
    pub(super) tag_priority: Option<Priority>,
    /// The model that the path names; it beats the body's.
    path_model: Option<String>,
    /// The stream flag that the path names; it beats the body's.
    path_stream: Option<bool>,
    /// Method and headers.
    pub(super) parts: Parts,
    /// The body.
    pub(super) body: CallBody,
    decoded: Decoded,
}

/// A request's body.
#[derive(Debug)]
pub(super) enum CallBody {
    /// Kept, because it must be understood (and may have to be sent again).
    Kept(Bytes),
    /// Not understood: streams through, whatever its size.
    Passing,
}

/// What of a request can be used only once.
#[derive(Debug, Default)]
pub(super) struct Once {
    /// The body that streams through.
    pub(super) body: Option<Incoming>,
    /// The client's side of a connection that it wants to turn into a WebSocket.
    pub(super) upgrade: Option<OnUpgrade>,
}

/// What a request asks for, as far as it was understood.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    /// The model.
    pub(super) model: Option<&'a str>,
    /// Whether the answer is to be a stream.
    pub(super) stream: bool,
    /// What the body says; `None` if it was not read.
    pub(super) peek: Option<&'a Peek<'a>>,
}

/// Takes a request in: finds its provider, reads its body to the end if it must be understood.
pub(super) async fn parse(
    gate: &Gate,
    request: Box<Request<Incoming>>,
    account: &mut Account,
) -> Result<(Call, Once), Refusal> {
    let started = Instant::now();
    let (mut parts, body) = request.into_parts();
    account.asked_by(&parts.headers);
    let uri = parts.uri.clone();
    let path_and_query = uri.path_and_query().ok_or(Refusal::BadTarget)?.as_str();
    let Placed {
        provider,
        mount,
        asked,
    } = place(gate, &parts, path_and_query)?;
    let Mount { rest, tag, .. } = mount;
    let settings = &gate.providers[provider].settings;
    account.belongs_to(provider, asked.endpoint);
    if upgrade::is_wanted(&parts) && is_responses(rest) {
        return Err(Refusal::UpgradeRequired);
    }
    if asked.endpoint == Endpoint::BatchResults {
        account.fetches(batch_of(rest));
    }
    let credential = match authenticate::authenticate(gate, &parts) {
        Ok(credential) => credential,
        Err(refusal) => {
            account.add_own_time(started);
            throw_away(&parts.headers, body, gate).await;
            return Err(refusal);
        }
    };
    let target = target(settings, &credential, rest);
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    let mut once = Once {
        body: None,
        upgrade: upgrade.filter(|_| upgrade::is_wanted(&parts)),
    };
    // Nothing of the connection's read buffer is kept while the request waits: a few bytes would hold on to all of it.
    parts.headers = headers::copied(&parts.headers);
    parts.uri = Uri::default();
    parts.extensions.clear();
    let mut call = Call {
        provider,
        endpoint: asked.endpoint,
        credential,
        target,
        rest: rest.to_owned(),
        tag_priority: tag.as_ref().and_then(|tag| tag.priority),
        tag_session: tag.map(|tag| tag.session.into_owned()),
        path_model: asked.model.map(std::borrow::Cow::into_owned),
        path_stream: asked.stream,
        body: CallBody::Kept(Bytes::new()),
        decoded: Decoded::NotNeeded,
        parts,
    };
    account.add_own_time(started);
    // What is free or unknown (uploads of any size) streams through; all else is kept.
    if matches!(
        asked.endpoint,
        Endpoint::Other | Endpoint::ResponseFetch | Endpoint::BatchResults
    ) {
        call.body = CallBody::Passing;
        once.body = Some(body);
        return Ok((call, once));
    }
    let pause = gate.settings.server.body_timeout;
    let limit = pause.saturating_mul(BODY_PAUSES);
    let collected = tokio::time::timeout(limit, collect(&call.parts.headers, body, gate)).await;
    let bytes = collected.map_err(|_| Refusal::BodyTimeout { limit })??;
    account.record_mut().request_bytes = bytes.len() as u64;
    let cap = gate.settings.server.max_body_bytes;
    let encoded = call.parts.headers.contains_key(header::CONTENT_ENCODING);
    call.decoded = beside_others(encoded, || Decoded::of(&call.parts.headers, &bytes, cap));
    call.body = CallBody::Kept(bytes);
    Ok((call, once))
}

/// Whose a request is.
struct Placed<'a> {
    provider: usize,
    mount: Mount<'a>,
    asked: Target<'a>,
}

/// Finds a request's provider by its path.
fn place<'a>(gate: &Gate, parts: &Parts, path_and_query: &'a str) -> Result<Placed<'a>, Refusal> {
    if !path_and_query.starts_with('/')
        || parts.method == Method::CONNECT
        || endpoint::has_dot_segment(path_and_query)
    {
        return Err(Refusal::BadTarget);
    }
    let place = |name: &str| {
        gate.providers
            .iter()
            .position(|provider| provider.settings.name == name)
    };
    let mount = endpoint::mount_of(path_and_query, &parts.headers, |name| place(name).is_some())
        .map_err(|problem| Refusal::BadTag(problem.to_string()))?;
    let Some((provider, mount)) = mount.and_then(|mount| Some((place(mount.provider)?, mount)))
    else {
        let known = gate
            .providers
            .iter()
            .map(|provider| format!("/{}", provider.settings.name));
        return Err(Refusal::UnknownProvider {
            known: known.collect::<Vec<_>>().join(" "),
        });
    };
    let asked = endpoint::endpoint_of(&parts.method, mount.rest);
    Ok(Placed {
        provider,
        mount,
        asked,
    })
}

/// Path and query as they go to the provider.
fn target(settings: &ProviderSettings, credential: &Credential, rest: &str) -> String {
    let target = endpoint::normalise_path(settings.dialect, settings.base_url.path(), rest);
    match credential {
        Credential::Providers(_) => target.into_owned(),
        Credential::Tollgate(_) => provider_key::without_key(&target),
    }
}

/// A request that nobody has sent, to be looked at as if somebody had.
///
/// # Errors
/// Its path belongs to no provider.
pub(super) fn imagine(
    gate: &Gate,
    parts: Parts,
    body: Bytes,
    credential: Credential,
    account: &mut Account,
) -> Result<Call, Refusal> {
    account.asked_by(&parts.headers);
    let uri = parts.uri.clone();
    let path_and_query = uri.path_and_query().ok_or(Refusal::BadTarget)?.as_str();
    let Placed {
        provider,
        mount,
        asked,
    } = place(gate, &parts, path_and_query)?;
    account.belongs_to(provider, asked.endpoint);
    let settings = &gate.providers[provider].settings;
    Ok(Call {
        provider,
        endpoint: asked.endpoint,
        target: target(settings, &credential, mount.rest),
        rest: mount.rest.to_owned(),
        credential,
        tag_priority: mount.tag.as_ref().and_then(|tag| tag.priority),
        tag_session: mount.tag.map(|tag| tag.session.into_owned()),
        path_model: asked.model.map(std::borrow::Cow::into_owned),
        path_stream: asked.stream,
        parts,
        body: CallBody::Kept(body),
        decoded: Decoded::NotNeeded,
    })
}

impl Call {
    /// The length of the body without its encoding, as far as it is in memory.
    pub(super) fn plain_bytes(&self) -> u64 {
        match (&self.decoded, &self.body) {
            (Decoded::Plain(plain), _) => plain.len() as u64,
            (_, CallBody::Kept(bytes)) => bytes.len() as u64,
            (_, CallBody::Passing) => 0,
        }
    }

    /// Reads what the body says. What cannot be read passes through, and is counted.
    pub(super) fn read(&self, gate: &Gate) -> Result<Option<Peek<'_>>, Refusal> {
        let large = matches!(&self.body, CallBody::Kept(bytes) if bytes.len() > LARGE_BODY_BYTES);
        beside_others(large, || self.read_here(gate))
    }

    fn read_here(&self, gate: &Gate) -> Result<Option<Peek<'_>>, Refusal> {
        let plain = match (&self.body, &self.decoded) {
            (CallBody::Kept(bytes), Decoded::NotNeeded) if !bytes.is_empty() => bytes.as_ref(),
            (_, Decoded::Plain(plain)) => plain,
            (_, Decoded::Unreadable) => {
                gate.metrics
                    .unparsed(&gate.providers[self.provider].settings.name);
                return Ok(None);
            }
            _ => return Ok(None),
        };
        match request::peek(self.endpoint, plain) {
            Ok(peek) => Ok(Some(peek)),
            Err(Unparsed::DuplicateField(field)) => Err(Refusal::DuplicateField(field)),
            Err(Unparsed::NotJson) => {
                gate.metrics
                    .unparsed(&gate.providers[self.provider].settings.name);
                Ok(None)
            }
        }
    }
}

/// Does work that may take milliseconds in a way that other requests on this thread need not wait for it.
fn beside_others<T>(slow: bool, work: impl FnOnce() -> T) -> T {
    let movable = || Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    if slow && movable() {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

/// A body without its content encoding. Only for reading: the client's own bytes go on.
#[derive(Debug)]
enum Decoded {
    /// It has no encoding, or is empty.
    NotNeeded,
    /// The plain bytes.
    Plain(Vec<u8>),
    /// It does not decode, or not within the limit.
    Unreadable,
}

impl Decoded {
    fn of(headers: &HeaderMap, bytes: &Bytes, cap: usize) -> Self {
        let Some(encoding) = headers
            .get(header::CONTENT_ENCODING)
            .filter(|_| !bytes.is_empty())
        else {
            return Self::NotNeeded;
        };
        let plain = encoding
            .to_str()
            .ok()
            .map(|encoding| request::decoded(Some(encoding), bytes, cap));
        match plain {
            Some(Ok(plain)) => Self::Plain(plain.into_owned()),
            _ => Self::Unreadable,
        }
    }
}

/// Joins what the path and the body say.
pub(super) fn understand<'a>(
    call: &'a Call,
    peek: Option<&'a Peek<'a>>,
    account: &mut Account,
) -> Asked<'a> {
    let model = call
        .path_model
        .as_deref()
        .or_else(|| Some(&*peek?.model.as_ref()?.name));
    let stream = call
        .path_stream
        .unwrap_or_else(|| peek.is_some_and(|peek| peek.stream));
    // What cannot be a name passes through, and is not taken for one: no log, header or metric gets it.
    let model =
        model.filter(|name| name.len() <= MAX_MODEL_BYTES && !name.contains(char::is_control));
    let record = account.record_mut();
    record.requested_model = model.map(str::to_owned);
    record.stream = stream;
    Asked {
        model,
        stream,
        peek,
    }
}

/// Whether a path is that of OpenAI's Responses, where Codex tries a WebSocket first and falls back at once when it is
/// told to.
fn is_responses(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or(path);
    path.trim_end_matches('/').ends_with("/responses")
}

/// The batch in `…/batches/ID/results`, without anything else that the path or its query says.
fn batch_of(path: &str) -> &str {
    let path = path.split('?').next().unwrap_or(path);
    let path = path.trim_end_matches('/').trim_end_matches("/results");
    path.rsplit('/').next().unwrap_or(path)
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
    let Some(first) = next(&mut body, pause).await? else {
        return Ok(Bytes::new());
    };
    if body.is_end_stream() && first.len() <= limit {
        // A small piece is a slice of the connection's read buffer, which could not be used again while it lives.
        let small = first.len() <= SMALL_BODY_BYTES;
        return Ok(if small {
            Bytes::copy_from_slice(&first)
        } else {
            first
        });
    }
    // A length that is only announced gets no memory in advance beyond what usual requests need.
    const USUAL_BYTES: u64 = 1 << 20;
    let mut whole = BytesMut::with_capacity(
        announced.clamp(first.len() as u64, USUAL_BYTES.max(first.len() as u64)) as usize,
    );
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
    if seen > limit {
        Err(Refusal::BodyTooLarge { limit })
    } else {
        Ok(whole.freeze())
    }
}

/// Reads the body of a request that is refused whatever it says, and keeps nothing of it: a client that writes first and
/// reads later gets to see why. A body that is too large, or late, is not waited for.
async fn throw_away(headers: &HeaderMap, mut body: Incoming, gate: &Gate) {
    if headers.contains_key(header::EXPECT) {
        // The client waits for our word before it sends anything.
        return;
    }
    let (limit, pause) = (
        gate.settings.server.max_body_bytes,
        gate.settings.server.body_timeout,
    );
    let thrown = async {
        let mut seen = 0;
        while let Ok(Some(piece)) = next(&mut body, pause).await {
            seen += piece.len();
            if seen > limit {
                return;
            }
        }
    };
    // Late is also a body that comes in drops.
    let _ = tokio::time::timeout(pause, thrown).await;
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
