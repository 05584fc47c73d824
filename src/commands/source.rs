//! Where the reading commands get their answers: from the running proxy, which holds the ledger, else from the ledger
//! itself. Both give the same.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::config::settings::LedgerSettings;
use crate::store::{Ledger, OpenError, ReadError, WallClock, directory};

/// Largest answer that is read from the running proxy.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Longest wait for the running proxy.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest wait for the ledger to be put away again.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// What the admin interface says instead of an answer.
#[derive(Deserialize)]
struct Problem {
    error: Message,
}

#[derive(Deserialize)]
struct Message {
    message: String,
}

/// Where to look for answers.
pub(super) struct Source<'a> {
    /// `--url`: the proxy to be asked.
    pub(super) url: Option<&'a str>,
    /// Where the ledger is.
    pub(super) settings: &'a LedgerSettings,
    /// For opening it.
    pub(super) clock: WallClock,
}

/// Asks the proxy at `target` (path and query) of its admin interface; if none runs, opens the ledger and asks that.
///
/// # Errors
///
/// When there is no ledger, and when neither it nor the proxy can be reached.
pub(super) fn answer<T: DeserializeOwned>(
    source: &Source<'_>,
    target: &str,
    of_ledger: impl FnOnce(&Ledger) -> Result<T, ReadError>,
) -> anyhow::Result<T> {
    if let Some(url) = source.url {
        return ask(&authority_of(url)?, target, None);
    }
    let settings = source.settings;
    let dir = settings.dir.as_path();
    if !directory::holds_ledger(dir) {
        bail!(
            "there is no ledger in {}: no request has been recorded there",
            dir.display()
        );
    }
    let running = directory::running(dir);
    let asked = running
        .as_ref()
        .map(|running| ask_at(running.address, target, None));
    if let Some(Ok(answer)) = asked {
        return Ok(answer);
    }
    // A proxy that was killed leaves its address behind; then the lock is free.
    let (ledger, _) = match Ledger::open(settings, Arc::clone(&source.clock)) {
        Ok(opened) => opened,
        Err(error @ OpenError::Locked { .. }) => {
            let asked = asked.and_then(Result::err);
            return Err(asked.unwrap_or_else(|| with_hint(error)));
        }
        Err(error) => return Err(with_hint(error)),
    };
    let answer = of_ledger(&ledger);
    ledger.shutdown(CLOSE_TIMEOUT);
    Ok(answer?)
}

/// Puts a question to the proxy: the one at `--url`, or the one that runs on this ledger. `None` if none does.
///
/// # Errors
///
/// When it cannot be reached, or does not understand the question.
pub(super) fn question<T: DeserializeOwned>(
    url: Option<&str>,
    settings: &LedgerSettings,
    target: &str,
    body: &Bytes,
) -> anyhow::Result<Option<T>> {
    if let Some(url) = url {
        return ask(&authority_of(url)?, target, Some(body)).map(Some);
    }
    match directory::running(&settings.dir) {
        // A proxy that was killed leaves its address behind.
        Some(running) if std::net::TcpStream::connect(reachable(running.address)).is_ok() => {
            ask_at(running.address, target, Some(body)).map(Some)
        }
        _ => Ok(None),
    }
}

pub(super) fn with_hint(error: OpenError) -> anyhow::Error {
    let hint = error.hint();
    anyhow::Error::new(error).context(format!("the ledger cannot be read (hint: {hint})"))
}

fn ask_at<T: DeserializeOwned>(
    address: SocketAddr,
    target: &str,
    body: Option<&Bytes>,
) -> anyhow::Result<T> {
    ask(&reachable(address).to_string(), target, body)
}

/// A proxy that listens everywhere is reached on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    match (address.ip().is_unspecified(), address) {
        (false, _) => address,
        (true, SocketAddr::V4(_)) => SocketAddr::from(([127, 0, 0, 1], address.port())),
        (true, SocketAddr::V6(_)) => {
            SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, address.port()))
        }
    }
}

fn authority_of(url: &str) -> anyhow::Result<String> {
    let uri: http::Uri = url
        .parse()
        .with_context(|| format!("--url {url:?} is no URL"))?;
    if uri.scheme_str() != Some("http") {
        bail!("--url {url:?} is not supported: http://HOST:PORT expected");
    }
    let authority = uri.authority().context("--url names no host")?;
    let port = authority.port_u16().unwrap_or(80);
    Ok(format!("{}:{port}", authority.host()))
}

/// Gets an answer from a proxy's admin interface; a body is sent by POST.
fn ask<T: DeserializeOwned>(
    authority: &str,
    target: &str,
    body: Option<&Bytes>,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answered = runtime.block_on(async {
        tokio::time::timeout(ANSWER_TIMEOUT, get(authority, target, body)).await
    });
    answered
        .unwrap_or_else(|_| bail!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))
        .with_context(|| format!("cannot ask the proxy at {authority}"))
}

async fn get<T: DeserializeOwned>(
    authority: &str,
    target: &str,
    body: Option<&Bytes>,
) -> anyhow::Result<T> {
    let stream = tokio::net::TcpStream::connect(authority).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let method = body.map_or(http::Method::GET, |_| http::Method::POST);
    let request = http::Request::builder()
        .method(method)
        .uri(target)
        .header(http::header::HOST, authority)
        .header(http::header::ACCEPT, "application/json")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(body.cloned().unwrap_or_default()))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
        .collect()
        .await
        .map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?
        .to_bytes();
    connection.abort();
    if !status.is_success() {
        let why: Option<Problem> = serde_json::from_slice(&body).ok();
        match why {
            Some(Problem { error }) => bail!("{}", error.message),
            None => bail!("it answered {status}"),
        }
    }
    serde_json::from_slice(&body).context("its answer is not understood")
}
