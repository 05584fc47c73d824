//! Connections that turn into another protocol (WebSockets): asked for, and then spliced byte for byte, unread.

use std::sync::Arc;

use http::HeaderMap;
use http::header::{self, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::account::Account;
use crate::llm::reading::Reading;
use crate::store::record::Outcome;

/// The protocol that a client asks for.
pub(super) fn protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(header::UPGRADE).cloned()
}

/// Asks the provider for it.
pub(super) fn ask(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

/// Joins the two connections once both sides have switched, until either ends. The account ends with them.
pub(super) fn splice(client: OnUpgrade, provider: OnUpgrade, mut account: Account) {
    let gate = account.gate();
    let tasks = Arc::clone(&gate);
    tasks.tasks.spawn(async move {
        let outcome = match tokio::try_join!(client, provider) {
            Ok((client, provider)) => {
                let (mut client, mut provider) = (TokioIo::new(client), TokioIo::new(provider));
                let copied = tokio::select! {
                    copied = tokio::io::copy_bidirectional(&mut client, &mut provider) => copied,
                    () = gate.tasks.are_cut() => Err(std::io::ErrorKind::ConnectionAborted.into()),
                };
                match copied {
                    Ok((up, down)) => {
                        let record = account.record_mut();
                        record.request_bytes = up;
                        record.response_bytes = down;
                        Outcome::Complete
                    }
                    Err(_) => Outcome::UpstreamCut,
                }
            }
            Err(_) => Outcome::ClientGone,
        };
        account.settle(outcome, &Reading::default());
    });
}
