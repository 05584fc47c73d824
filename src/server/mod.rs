//! The side towards the clients: listen, accept, serve each connection, and at the end let running answers finish.
//!
//! Leaves requests to [`crate::admin`] and [`crate::proxy`]. A client that is slow or silent is cut off here: before
//! its first request (which a TLS handshake counts as a part of), inside a head, or when it does not take what was
//! written to it.
//!
//! With a certificate clients speak HTTPS. Clients on this machine may speak plain HTTP all the same, as their bytes
//! never leave it and no certificate is made out to 127.0.0.1: so `tollgate run` and `tollgate usage` go on working.
//! Plain HTTP from elsewhere is closed.

mod io;
mod opening;
mod tls;
mod watch;

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use self::io::{FirstRequest, TimedIo};
use self::opening::Opening;
pub use self::tls::{Tls, TlsError};
use crate::admin;
use crate::config::settings::{AuthMode, ServerSettings};
use crate::policy::origin::{self, Reach};
use crate::proxy::{self, AnswerBody, Gate, Streams};
use crate::refusal::Refusal;

/// HTTP/2 streams per connection. A client with more agents opens another connection.
const MAX_STREAMS: u32 = 1_000;

/// How long to wait when the system cannot accept, as when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Opens the listening socket.
///
/// # Errors
/// The system's error: the port is in use, the address is not of this machine, or the port is not allowed.
pub fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        None,
    )?;
    // A restart must not wait for connections of the last run to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4_096)?;
    TcpListener::from_std(socket.into())
}

/// Serves, with HTTPS if there is a certificate for it, until `shutdown` is done, then accepts nothing new and gives running requests `drain_timeout` to end, or until
/// `hurry` is done. Cuts off what still runs then, and returns how much that was.
pub async fn run(
    listener: TcpListener,
    tls: Option<Tls>,
    gate: Arc<Gate>,
    shutdown: impl Future<Output = ()>,
    hurry: impl Future<Output = ()>,
) -> usize {
    let settings = gate.settings.server.clone();
    let protocols = Arc::new(Protocols::new(&settings, tls.clone(), &gate));
    let mut shutdown = pin!(shutdown);
    let mut watching = pin!(watch::files(&gate, tls));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.as_mut() => break,
            never = watching.as_mut() => match never {},
        };
        match accepted {
            Ok((stream, peer)) => {
                let (protocols, gate) = (Arc::clone(&protocols), Arc::clone(&gate));
                let tasks = gate.tasks.clone();
                tasks.spawn(serve_connection(stream, peer.ip(), protocols, gate));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    gate.start_draining();
    tracing::info!(running = gate.tasks.count(), "draining");
    tokio::select! {
        () = gate.tasks.finish() => 0,
        () = tokio::time::sleep(settings.drain_timeout) => cut(&gate).await,
        () = hurry => cut(&gate).await,
    }
}

async fn cut(gate: &Gate) -> usize {
    let running = gate.tasks.count();
    gate.tasks.cut().await;
    running
}

/// The protocols that clients may speak, each set up once.
struct Protocols {
    tls: Option<Tls>,
    http1: http1::Builder,
    http2: http2::Builder<Streams>,
}

impl Protocols {
    fn new(settings: &ServerSettings, tls: Option<Tls>, gate: &Gate) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(settings.header_timeout)
            // Heads somewhat above the limit are read to their end, so that they get an answer that says why.
            .max_buf_size(settings.max_header_bytes.saturating_mul(2));
        let mut http2 = http2::Builder::new(Streams {
            tasks: gate.tasks.clone(),
            write_limit: settings.write_timeout,
        });
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(settings.header_timeout)
            .max_header_list_size(u32::try_from(settings.max_header_bytes).unwrap_or(u32::MAX))
            .max_concurrent_streams(MAX_STREAMS);
        Self { tls, http1, http2 }
    }
}

async fn serve_connection(
    stream: TcpStream,
    peer: IpAddr,
    protocols: Arc<Protocols>,
    gate: Arc<Gate>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot switch off delays of a client's connection");
    }
    let open = OpenConnection::new(&gate);
    let settings = &gate.settings.server;
    let opening = opening::read(&stream, protocols.tls.is_some());
    let Ok(Ok(opening)) = tokio::time::timeout(settings.header_timeout, opening).await else {
        // It said nothing in time, or left.
        return;
    };
    let first = FirstRequest::default();
    let io = TimedIo::new(
        stream,
        first.clone(),
        settings.header_timeout,
        settings.write_timeout,
    );
    let ended = match (&protocols.tls, opening) {
        (Some(tls), Opening::Tls) => {
            // In a box of its own, so that plain connections need not have room for it.
            let shaken = Box::pin(async {
                let io = tls.accept(io).await?;
                let http2 = tls::speaks_http2(&io);
                Ok::<_, std::io::Error>(
                    serve_http(io, http2, peer, &first, &protocols, &gate).await,
                )
            });
            match shaken.await {
                Ok(ended) => ended,
                Err(error) => {
                    tracing::debug!(%error, "a client's TLS handshake failed");
                    return;
                }
            }
        }
        (Some(_), _) if !peer.to_canonical().is_loopback() => {
            // Boxed, because its buffer would be part of every connection for as long as that lives.
            return Box::pin(opening::refuse_plain(io)).await;
        }
        (_, opening) => {
            let http2 = opening == Opening::Http2;
            serve_http(io, http2, peer, &first, &protocols, &gate).await
        }
    };
    if let Err(error) = ended {
        // hyper has answered malformed heads (400) and oversized ones (431) itself.
        tracing::debug!(error = %error, "a client's connection ended early");
    }
    drop(open);
}

/// Serves the requests of one connection.
async fn serve_http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    io: S,
    http2: bool,
    peer: IpAddr,
    first: &FirstRequest,
    protocols: &Protocols,
    gate: &Arc<Gate>,
) -> hyper::Result<()> {
    let service = service_fn(|request| {
        first.arrived();
        answer(gate, request, peer)
    });
    let io = TokioIo::new(io);
    if http2 {
        let mut connection = pin!(protocols.http2.serve_connection(io, service));
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = gate.draining() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    } else {
        let mut connection = pin!(
            protocols
                .http1
                .serve_connection(io, service)
                .with_upgrades()
        );
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = gate.draining() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    }
}

/// An answer on its way. Boxed, it is gone once its head is out; hyper would keep its place for as long as the answer runs.
type Answering = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Infallible>> + Send>>;

/// Answers one request: tollgate's own addresses, or a provider's.
fn answer(gate: &Arc<Gate>, request: Request<Incoming>, peer: IpAddr) -> Answering {
    let settings = &gate.settings.server;
    let limit = settings.max_header_bytes;
    let reach = if settings.allow_remote {
        let keys = gate.settings.auth.mode == AuthMode::Keys;
        Reach::Network { keys }
    } else {
        Reach::ThisMachine
    };
    let refusal = match origin::judge(request.uri(), request.headers(), reach) {
        Err(foreign) => Refusal::Foreign(foreign),
        Ok(()) if head_bytes(&request) > limit => Refusal::HeadTooLarge { limit },
        Ok(()) => {
            return match admin::route(gate, request, peer) {
                Ok(answer) => Box::pin(async { Ok(answer.await) }),
                Err(request) => Box::pin(proxy::handle(Arc::clone(gate), Box::new(request))),
            };
        }
    };
    let refused = proxy::refuse_unread(gate, &refusal);
    Box::pin(std::future::ready(Ok(refused)))
}

/// The size of a request's head, about as it was written.
fn head_bytes(request: &Request<Incoming>) -> usize {
    let target = request.uri().path_and_query();
    let fields = request.headers().iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + 4);
    fields.sum::<usize>() + target.map_or(0, |target| target.as_str().len())
}

/// Counts a connection for as long as it lives.
struct OpenConnection(prometheus::IntGauge);

impl OpenConnection {
    fn new(gate: &Gate) -> Self {
        let gauge = gate.metrics.connections().clone();
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}
