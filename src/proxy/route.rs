//! Fifth step: where the request goes and which model serves it: what the client asked for. One thing changes on the
//! way: usage is asked for in OpenAI streams, because without it nothing could be counted.

use bytes::Bytes;
use http::{Uri, header};

use super::gate::Gate;
use super::parse::{Asked, Call, CallBody};
use crate::llm::splice;
use crate::refusal::Refusal;
use crate::upstream;

/// Where a request goes.
#[derive(Debug)]
pub(super) struct Route {
    /// The whole address.
    pub(super) uri: Uri,
    /// The model that is asked to serve.
    pub(super) model: Option<String>,
    /// The body with usage asked for in the client's place; then the client must not see it.
    pub(super) asking_body: Option<Bytes>,
}

/// Decides where a request goes.
pub(super) fn route(gate: &Gate, call: &Call, asked: &Asked<'_>) -> Result<Route, Refusal> {
    let settings = &gate.providers[call.provider].settings;
    let uri = upstream::target(&settings.base_url, &call.target).map_err(|_| Refusal::BadTarget)?;
    let asking_body = if settings.ask_stream_usage {
        ask_for_usage(call, asked)
    } else {
        None
    };
    Ok(Route {
        uri,
        model: asked.model.map(str::to_owned),
        asking_body,
    })
}

/// Asks for usage in a stream whose client did not. A compressed body is left as it is.
fn ask_for_usage(call: &Call, asked: &Asked<'_>) -> Option<Bytes> {
    let CallBody::Kept(bytes) = &call.body else {
        return None;
    };
    if !asked.stream || call.parts.headers.contains_key(header::CONTENT_ENCODING) {
        return None;
    }
    splice::ask_for_usage(bytes, asked.peek?).map(Bytes::from)
}
