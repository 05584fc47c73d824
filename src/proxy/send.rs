//! Sixth step: the request goes to the provider; its answer's head comes back.

use std::time::{Duration, Instant};

use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::account::Account;
use super::authenticate::Credential;
use super::gate::Gate;
use super::headers;
use super::opening::{self, Opening};
use super::parse::{Call, CallBody};
use super::provider_key;
use super::route::Route;
use super::upgrade;
use crate::refusal::Refusal;
use crate::upstream::{BodyPause, SendBody, SendError};

/// A request that the provider has begun to answer.
#[derive(Debug)]
pub(super) struct Served {
    /// The answer, its body still on its way.
    pub(super) reply: Reply,
    /// Where the request went.
    pub(super) route: Route,
}

/// The provider's answer.
#[derive(Debug)]
pub(super) struct Reply {
    /// Head and body as the provider sends them.
    pub(super) response: Response<Incoming>,
    /// What of the body was read already.
    pub(super) opening: Opening,
    /// The client's side of a connection that both want to turn into another protocol.
    pub(super) upgrade: Option<OnUpgrade>,
    /// When the head came.
    pub(super) head_at: Instant,
}

/// Sends a request.
pub(super) async fn send(
    gate: &Gate,
    call: Call,
    route: &Route,
    account: &mut Account,
) -> Result<Reply, Refusal> {
    let started = Instant::now();
    let Call {
        provider,
        endpoint,
        credential,
        mut parts,
        body,
        ..
    } = call;
    let wants_upgrade = upgrade::is_wanted(&parts);
    let upgrade = parts
        .extensions
        .remove::<OnUpgrade>()
        .filter(|_| wants_upgrade);
    let protocol = upgrade::protocol(&parts.headers);
    headers::for_upstream(&mut parts.headers);
    if let Credential::Tollgate(_) = credential {
        let own = &gate.providers[provider].key;
        provider_key::replace(&mut parts.headers, own.as_ref());
    }
    if let Some(protocol) = protocol.filter(|_| upgrade.is_some()) {
        upgrade::ask(&mut parts.headers, protocol);
    }
    let body = match (body, &route.asking_body) {
        (_, Some(asking)) => {
            // The stream will be edited on its way back, so it must come plain; hyper states the new length.
            parts.headers.insert(
                header::ACCEPT_ENCODING,
                HeaderValue::from_static("identity"),
            );
            parts.headers.remove(header::CONTENT_LENGTH);
            SendBody::kept(asking.clone(), account.sent_mark())
        }
        (CallBody::Kept(bytes), None) => {
            // hyper states the length of what there is; that there is nothing, the client must have said itself.
            if !bytes.is_empty() {
                parts.headers.remove(header::CONTENT_LENGTH);
            }
            SendBody::kept(bytes, account.sent_mark())
        }
        (CallBody::Passing(incoming), None) => SendBody::passing(
            incoming,
            gate.settings.server.body_timeout,
            account.sent_mark(),
        ),
    };
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.uri_mut() = route.uri.clone();
    *request.headers_mut() = parts.headers;

    let upstream = &gate.providers[provider].upstream;
    let limits = &gate.settings.upstream;
    let left = limits
        .total_timeout
        .map(|total| total.saturating_sub(account.arrived().elapsed()));
    let header_timeout = left.map_or(limits.header_timeout, |left| {
        left.min(limits.header_timeout)
    });
    account.add_own_time(started);
    let sent = upstream
        .send(request, header_timeout, &mut account.record_mut().attempts)
        .await;
    match sent {
        Ok(mut response) => {
            account.answered(response.status());
            let opening = opening::open(&mut response, endpoint).await;
            Ok(Reply {
                response,
                opening,
                upgrade,
                head_at: Instant::now(),
            })
        }
        Err(error) => {
            let provider = &gate.providers[provider].settings;
            tracing::warn!(provider = %provider.name, error = &error as &dyn std::error::Error, "request not answered");
            Err(refusal(&error, &provider.base_url))
        }
    }
}

/// What a failed send means for the client.
fn refusal(error: &SendError, base: &http::Uri) -> Refusal {
    let address = || {
        let host = base.authority().map_or("", http::uri::Authority::as_str);
        format!("{}://{host}", base.scheme_str().unwrap_or("https"))
    };
    match error {
        SendError::Connect(_) => Refusal::Unreachable { address: address() },
        SendError::Tls(_) => Refusal::TlsFailed { address: address() },
        SendError::Closed(_) => Refusal::UpstreamClosed,
        SendError::Invalid(_) => Refusal::UpstreamInvalid,
        SendError::RequestBody(error) => match pause_in(error) {
            Some(limit) => Refusal::BodyTimeout { limit },
            None => Refusal::ClientGone,
        },
        SendError::HeaderTimeout(limit) => Refusal::UpstreamTimeout { limit: *limit },
    }
}

/// The limit that a client broke by pausing inside its body, if that is why the body broke off.
fn pause_in(error: &(dyn std::error::Error + 'static)) -> Option<Duration> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(BodyPause(limit)) = error.downcast_ref() {
            return Some(*limit);
        }
        cause = error.source();
    }
    None
}
