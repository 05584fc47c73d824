//! The side towards the clients: listen, accept, serve each connection, and at the end let running answers finish.
//!
//! Leaves requests to [`crate::admin`] and [`crate::proxy`]. A client that is slow or silent is cut off here: before
//! its first request, inside a head, or when it does not take what was written to it.

mod io;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use self::io::{FirstRequest, TimedIo};
use crate::admin;
use crate::config::settings::ServerSettings;
use crate::policy::origin;
use crate::proxy::{self, AnswerBody, Gate, Streams};
use crate::refusal::Refusal;

/// HTTP/2 streams per connection. A client with more agents opens another connection.
const MAX_STREAMS: u32 = 1_000;

/// How long to wait for a third byte of a connection.
const FEW_BYTES_PAUSE: Duration = Duration::from_millis(5);

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

/// Serves until `shutdown` is done, then accepts nothing new and gives running requests `drain_timeout` to end, or until
/// `hurry` is done. Cuts off what still runs then, and returns how much that was.
pub async fn run(
    listener: TcpListener,
    gate: Arc<Gate>,
    shutdown: impl Future<Output = ()>,
    hurry: impl Future<Output = ()>,
) -> usize {
    let settings = gate.settings.server.clone();
    let protocols = Arc::new(Protocols::new(&settings, &gate));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.as_mut() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection =
                    serve_connection(stream, Arc::clone(&protocols), Arc::clone(&gate));
                gate.tasks.spawn(connection);
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
    http1: http1::Builder,
    http2: http2::Builder<Streams>,
}

impl Protocols {
    fn new(settings: &ServerSettings, gate: &Gate) -> Self {
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
        Self { http1, http2 }
    }
}

async fn serve_connection(stream: TcpStream, protocols: Arc<Protocols>, gate: Arc<Gate>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot switch off delays of a client's connection");
    }
    let open = OpenConnection::new(&gate);
    let settings = &gate.settings.server;
    let Ok(Ok(speaks_http2)) =
        tokio::time::timeout(settings.header_timeout, speaks_http2(&stream)).await
    else {
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
    let service = service_fn(|request| {
        first.arrived();
        // Boxed here, it is gone once the answer's head is out; hyper would keep its place for as long as the answer runs.
        Box::pin(answer(Arc::clone(&gate), request))
    });
    let io = TokioIo::new(io);
    let ended = if speaks_http2 {
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
    };
    if let Err(error) = ended {
        // hyper has answered malformed heads (400) and oversized ones (431) itself.
        tracing::debug!(error = %error, "a client's connection ended early");
    }
    drop(open);
}

/// Looks at a connection's first bytes, and leaves them there: HTTP/2 by prior knowledge begins with `PRI`, which no
/// HTTP/1 method does.
async fn speaks_http2(stream: &TcpStream) -> std::io::Result<bool> {
    const BEGINNING: &[u8] = b"PRI";
    let mut first = [0; BEGINNING.len()];
    loop {
        stream.readable().await?;
        let seen = match stream.peek(&mut first).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => &first[..count],
        };
        if seen.len() == BEGINNING.len() || !BEGINNING.starts_with(seen) {
            return Ok(seen == BEGINNING);
        }
        // One or two bytes that fit: more will come, but nothing tells when, as there is something to read already.
        tokio::time::sleep(FEW_BYTES_PAUSE).await;
    }
}

/// Answers one request: tollgate's own addresses, or a provider's.
async fn answer(
    gate: Arc<Gate>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let settings = &gate.settings.server;
    let limit = settings.max_header_bytes;
    let local = origin::judge(request.uri(), request.headers(), settings.allow_remote);
    let refusal = match local {
        Err(foreign) => Refusal::Foreign(foreign),
        Ok(()) if head_bytes(&request) > limit => Refusal::HeadTooLarge { limit },
        Ok(()) => {
            return Ok(match admin::route(&gate, &request) {
                Some(answer) => answer.await,
                None => proxy::handle(gate, request).await,
            });
        }
    };
    Ok(proxy::refuse_unread(&gate, &refusal))
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
