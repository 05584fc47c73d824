//! Fifth step: where the request goes, and with which head and body. One thing changes on the way that nobody asked for:
//! usage is asked for in OpenAI streams, because without it nothing could be counted.
//!
//! No provider ever gets what a client showed for another one: its key goes no further than to the provider that the
//! client addressed.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri, header};

use super::authenticate::Credential;
use super::case::{Case, Choice};
use super::headers;
use super::parse::CallBody;
use super::provider_key;
use super::upgrade;
use crate::llm::endpoint;
use crate::llm::request;
use crate::llm::splice;
use crate::refusal::Refusal;
use crate::upstream::{self, Head};

/// Where a request goes, and what goes there.
#[derive(Debug)]
pub(super) struct Route {
    /// Who is to serve it.
    pub(super) choice: Choice,
    /// The request's head.
    pub(super) head: Head,
    /// The request's body; `None` where it streams through.
    pub(super) body: Option<Bytes>,
    /// Usage is asked for in the client's place, so the client must not see it.
    pub(super) hides_usage: bool,
}

/// Decides where a request goes.
///
/// # Errors
/// Its path cannot stand in an address.
pub(super) fn route(case: &Case<'_>, choice: Choice) -> Result<Route, Refusal> {
    let provider = &case.gate.providers[choice.provider];
    let uri = address(case, &choice)?;
    let (body, asks) = body(case, &choice);
    let mut headers = case.call.parts.headers.clone();
    let protocol = upgrade::is_wanted(&case.call.parts).then(|| upgrade::protocol(&headers));
    headers::for_upstream(&mut headers);
    if !gets_clients_key(case, &choice) {
        provider_key::replace(&mut headers, provider.key.as_ref());
    }
    if let Some(protocol) = protocol.flatten() {
        upgrade::ask(&mut headers, protocol);
    }
    tell_body(&mut headers, body.as_ref(), asks);
    let head = Head::new(case.call.parts.method.clone(), uri, &headers);
    Ok(Route {
        choice,
        head,
        body,
        hides_usage: asks,
    })
}

/// Whether the client's own key goes along: to the provider that it was shown for, if that is whose it is.
fn gets_clients_key(case: &Case<'_>, choice: &Choice) -> bool {
    match case.call.credential {
        Credential::Tollgate(_) => false,
        Credential::Providers(_) => choice.provider == case.call.provider,
    }
}

fn address(case: &Case<'_>, choice: &Choice) -> Result<Uri, Refusal> {
    let settings = &case.gate.providers[choice.provider].settings;
    let changed = choice.changed.as_ref();
    let rest = changed.and_then(|changed| changed.rest.as_deref());
    let path = if choice.provider == case.call.provider && rest.is_none() {
        upstream::target(&settings.base_url, &case.call.target)
    } else {
        let rest = rest.unwrap_or(&case.call.rest);
        let dialect = case.call.endpoint.dialect().unwrap_or(settings.dialect);
        let path = endpoint::normalise_path(dialect, settings.base_url.path(), rest);
        if gets_clients_key(case, choice) {
            upstream::target(&settings.base_url, &path)
        } else {
            upstream::target(&settings.base_url, &provider_key::without_key(&path))
        }
    };
    path.map_err(|_| Refusal::BadTarget)
}

/// The body that goes out, and whether it asks for usage in the client's place.
fn body(case: &Case<'_>, choice: &Choice) -> (Option<Bytes>, bool) {
    let CallBody::Kept(own) = &case.call.body else {
        return (None, false);
    };
    let changed = choice.changed.as_ref();
    let changed = changed.and_then(|changed| changed.body.as_ref());
    let settings = &case.gate.providers[choice.provider].settings;
    let coded = case
        .call
        .parts
        .headers
        .contains_key(header::CONTENT_ENCODING);
    // A compressed body is left as it is.
    let asking = if settings.ask_stream_usage && case.asked.stream && !coded {
        match changed {
            None => case
                .asked
                .peek
                .and_then(|peek| splice::ask_for_usage(own, peek)),
            Some(body) => request::peek(case.call.endpoint, body)
                .ok()
                .and_then(|peek| splice::ask_for_usage(body, &peek)),
        }
    } else {
        None
    };
    match asking {
        Some(asking) => (Some(asking.into()), true),
        None => (Some(changed.unwrap_or(own).clone()), false),
    }
}

/// Makes the head say of the body what it is now.
fn tell_body(headers: &mut HeaderMap, body: Option<&Bytes>, asks: bool) {
    if asks {
        // The stream will be edited on its way back, so it must come plain.
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
    }
    // hyper states the length of what there is; that there is nothing, the client must have said itself.
    if body.is_some_and(|body| !body.is_empty()) {
        headers.remove(header::CONTENT_LENGTH);
    }
}
