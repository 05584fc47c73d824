//! OUT: the only user of the HTTP client. One [`Upstream`] per provider: address, connections, time to connect.
//!
//! It sends one request once and says what went wrong in words the path can decide on; retries, budgets and
//! accounting are not its business. The one exception is a connection that had served before and breaks as soon as it
//! is used: the provider had closed it while it lay idle, so the request goes out once more on another one.

mod body;
mod connect;

use std::error::Error as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};

pub use self::body::{BodyPause, SendBody, SentMark};
pub use self::connect::TlsRootsError;
use self::connect::{Limited, Uses};
use crate::config::settings::{ProviderSettings, UpstreamSettings};

/// With HTTP/2 hyper keeps a single connection per host, and streams beyond the server's limit wait unseen; several
/// clients side by side give several connections.
const HTTP2_CONNECTIONS: usize = 4;

/// A reused connection that fails this soon after sending was closed by the provider while it lay idle; a later
/// failure may have cost tokens, so it is not sent again unasked.
const STALE_WITHIN: Duration = Duration::from_millis(100);

/// One provider's connections.
#[derive(Debug)]
pub struct Upstream {
    clients: Vec<Client<Limited, SendBody>>,
    next: AtomicUsize,
    http2: bool,
}

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection: refused, no such host, or the connect time limit passed.
    #[error("cannot connect")]
    Connect(#[source] legacy::Error),
    /// The TLS handshake failed: a certificate that is not trusted, not valid or not the host's.
    #[error("TLS handshake failed")]
    Tls(#[source] legacy::Error),
    /// The provider closed the connection before its answer's head was complete.
    #[error("connection closed before the answer")]
    Closed(#[source] legacy::Error),
    /// What came back is not HTTP.
    #[error("the answer is not valid HTTP")]
    Invalid(#[source] legacy::Error),
    /// The client's own body broke off while it was passed on.
    #[error("the request's body broke off")]
    RequestBody(#[source] legacy::Error),
    /// No head of an answer within the time limit.
    #[error("no answer within {0:?}")]
    HeaderTimeout(Duration),
}

impl Upstream {
    /// Prepares connections to a provider; none is opened yet.
    ///
    /// # Errors
    /// When the extra certificate file cannot be read.
    pub fn new(
        settings: &UpstreamSettings,
        provider: &ProviderSettings,
    ) -> Result<Self, TlsRootsError> {
        let connector = connect::https(settings, provider.http2)?;
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(settings.pool_idle_timeout)
            .pool_max_idle_per_host(settings.pool_max_idle)
            .http2_only(provider.http2);
        let count = if provider.http2 { HTTP2_CONNECTIONS } else { 1 };
        Ok(Self {
            clients: (0..count)
                .map(|_| builder.build(connector.clone()))
                .collect(),
            next: AtomicUsize::new(0),
            http2: provider.http2,
        })
    }

    /// Sends a request and waits for the head of the answer. Dropping the future, or later the answer's body, closes
    /// the connection (HTTP/1) or resets the stream (HTTP/2).
    ///
    /// # Errors
    /// See [`SendError`]. `attempts` is counted up by every send, also when it fails.
    pub async fn send(
        &self,
        head: &Head,
        body: SendBody,
        header_timeout: Duration,
        attempts: &mut u32,
    ) -> Result<Response<Incoming>, SendError> {
        let version = if self.http2 {
            http::Version::HTTP_2
        } else {
            http::Version::HTTP_11
        };
        let again = body.again();
        *attempts += 1;
        let request = head.with(version, body);
        match (self.send_once(request, header_timeout).await, again) {
            (Err(Failed { stale: true, .. }), Some(body)) => {
                *attempts += 1;
                self.send_once(head.with(version, body), header_timeout)
                    .await
                    .map_err(|failed| failed.error)
            }
            (other, _) => other.map_err(|failed| failed.error),
        }
    }

    async fn send_once(
        &self,
        request: Request<SendBody>,
        header_timeout: Duration,
    ) -> Result<Response<Incoming>, Failed> {
        let client = &self.clients[self.next.fetch_add(1, Ordering::Relaxed) % self.clients.len()];
        let sent = Instant::now();
        match tokio::time::timeout(header_timeout, client.request(request)).await {
            Ok(Ok(response)) => {
                Uses::count(response.extensions());
                Ok(response)
            }
            Ok(Err(error)) => {
                let reused = error.connect_info().is_some_and(Uses::reused);
                let error = classify(error);
                let stale = reused
                    && sent.elapsed() < STALE_WITHIN
                    && matches!(error, SendError::Closed(_));
                Err(Failed { error, stale })
            }
            Err(_) => Err(Failed {
                error: SendError::HeaderTimeout(header_timeout),
                stale: false,
            }),
        }
    }
}

/// A send that failed, and whether the connection was already dead when it was taken from the pool.
struct Failed {
    error: SendError,
    stale: bool,
}

/// A request's head, kept apart because the request may have to be sent more than once. The values are copied into one
/// piece: clones would keep the client's read buffer from being used again until the answer comes.
#[derive(Debug)]
pub struct Head {
    method: http::Method,
    uri: Uri,
    /// Names, each with the end of its value, and whether that is a secret.
    names: Vec<(http::HeaderName, usize, bool)>,
    values: Vec<u8>,
}

impl Head {
    /// Takes a head as it is to be sent.
    pub fn new(method: http::Method, uri: Uri, headers: &http::HeaderMap) -> Self {
        let mut names = Vec::with_capacity(headers.len());
        let mut values = Vec::with_capacity(headers.values().map(http::HeaderValue::len).sum());
        for (name, value) in headers {
            values.extend_from_slice(value.as_bytes());
            names.push((name.clone(), values.len(), value.is_sensitive()));
        }
        Self {
            method,
            uri,
            names,
            values,
        }
    }

    fn with(&self, version: http::Version, body: SendBody) -> Request<SendBody> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = version;
        let mut start = 0;
        for (name, end, sensitive) in &self.names {
            let value = http::HeaderValue::from_bytes(&self.values[start..*end]);
            let mut value = value.expect("it was a value before");
            value.set_sensitive(*sensitive);
            request.headers_mut().append(name.clone(), value);
            start = *end;
        }
        request
    }
}

/// Sorts the client's errors by what happened. hyper's kinds are found on the chain of sources.
fn classify(error: legacy::Error) -> SendError {
    let (mut tls, mut invalid, mut request_body) = (false, false, false);
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(hyper) = cause.downcast_ref::<hyper::Error>() {
            invalid |= hyper.is_parse();
            request_body |= hyper.is_user();
        }
        tls |= cause.is::<rustls::Error>()
            || io_inner(cause).is_some_and(|inner| inner.is::<rustls::Error>());
        source = cause.source();
    }
    if tls {
        SendError::Tls(error)
    } else if error.is_connect() {
        SendError::Connect(error)
    } else if request_body {
        SendError::RequestBody(error)
    } else if invalid {
        SendError::Invalid(error)
    } else {
        SendError::Closed(error)
    }
}

/// `std::io::Error` hides the error it wraps from `source()`, and one may wrap another (hyper-rustls does).
fn io_inner<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a (dyn std::error::Error + Send + Sync + 'static)> {
    let inner = error.downcast_ref::<std::io::Error>()?.get_ref()?;
    io_inner(inner).or(Some(inner))
}

/// Puts the provider's address in front of a path.
///
/// # Errors
/// When the path cannot stand in a URI.
pub fn target(base: &Uri, path_and_query: &str) -> Result<Uri, http::Error> {
    let scheme = base.scheme_str().unwrap_or("https");
    let authority = base.authority().map_or("", http::uri::Authority::as_str);
    Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(path_and_query)
        .build()
}
