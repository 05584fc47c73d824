//! Fifth step: where the request goes and which model serves it. Today that is what the client asked for; what changes
//! is only that usage is asked for in OpenAI streams, because without it nothing could be counted.

use std::time::Instant;

use bytes::Bytes;
use http::{Uri, header};

use super::gate::Gate;
use super::parse::{Call, CallBody};
use crate::llm::decode::Coding;
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
    /// Whether usage was asked for in the client's place, so that the client must not see it.
    pub(super) hide_usage: bool,
    /// tollgate's own time in this step.
    pub(super) started: Instant,
}

/// Decides where a request goes.
pub(super) fn route(gate: &Gate, call: &mut Call) -> Result<Route, Refusal> {
    let started = Instant::now();
    let settings = &gate.providers[call.provider].settings;
    let uri = upstream::target(&settings.base_url, &call.target).map_err(|_| Refusal::BadTarget)?;
    let hide_usage = settings.ask_stream_usage && ask_for_usage(call);
    Ok(Route { uri, model: call.peek.model.clone(), hide_usage, started })
}

/// Asks for usage in a stream whose client did not. A compressed body is left as it is.
fn ask_for_usage(call: &mut Call) -> bool {
    let CallBody::Read(bytes) = &call.body else { return false };
    if Coding::of(&call.parts.headers) != Coding::Identity {
        return false;
    }
    let Some(changed) = splice::ask_for_usage(call.endpoint, bytes, &call.peek) else { return false };
    call.body = CallBody::Read(Bytes::from(changed));
    // The stream will be edited on its way back, so it must come plain.
    call.parts.headers.insert(header::ACCEPT_ENCODING, header::HeaderValue::from_static("identity"));
    true
}
