//! The side towards the clients: listen, accept, serve each connection, and at the end let running answers finish.
//!
//! Leaves requests to [`crate::admin`] and [`crate::proxy`]. A client that is slow or silent is cut off here: before
//! its first request, inside a head, or when it does not take what was written to it.

mod io;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};

use self::io::{FirstRequest, TimedIo};
use crate::admin;
use crate::config::settings::ServerSettings;
use crate::proxy::{self, Gate};

/// Most headers in one request; real agents send about thirty.
const MAX_HEADERS: usize = 256;

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

/// Serves until `shutdown` is done, then accepts nothing new and gives running requests `drain_timeout` to end.
/// Cuts off what still runs then, and returns how many connections that were.
pub async fn run(
    listener: TcpListener,
    gate: Arc<Gate>,
    shutdown: impl Future<Output = ()>,
) -> usize {
    let settings = gate.settings.server.clone();
    let builder = Arc::new(connection_builder(&settings));
    let connections = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.as_mut() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = serve_connection(
                    stream,
                    Arc::clone(&builder),
                    Arc::clone(&gate),
                    connections.watcher(),
                );
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
    tracing::info!(open = connections.count(), "draining");
    if tokio::time::timeout(settings.drain_timeout, connections.shutdown())
        .await
        .is_ok()
    {
        gate.tasks.finish().await;
        return 0;
    }
    let cut = usize::try_from(gate.metrics.connections().get()).unwrap_or(0);
    gate.tasks.cut().await;
    cut
}

fn connection_builder(settings: &ServerSettings) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .max_buf_size(settings.max_header_bytes)
        .max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(settings.header_timeout)
        .max_header_list_size(u32::try_from(settings.max_header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_STREAMS);
    builder
}

async fn serve_connection(
    stream: TcpStream,
    builder: Arc<auto::Builder<TokioExecutor>>,
    gate: Arc<Gate>,
    watcher: hyper_util::server::graceful::Watcher,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot switch off delays of a client's connection");
    }
    let open = OpenConnection::new(&gate);
    let first = FirstRequest::default();
    let settings = &gate.settings.server;
    let io = TimedIo::new(
        stream,
        first.clone(),
        settings.header_timeout,
        settings.write_timeout,
    );
    let service = service_fn(|request| {
        first.arrived();
        let gate = Arc::clone(&gate);
        async move {
            let response = match admin::route(&gate, &request) {
                Some(answer) => answer.await,
                None => proxy::handle(gate, request).await,
            };
            Ok::<_, Infallible>(response)
        }
    });
    let connection = builder
        .serve_connection_with_upgrades(TokioIo::new(io), service)
        .into_owned();
    let watched = watcher.watch(connection);
    let ended = tokio::select! {
        ended = watched => ended,
        () = gate.tasks.are_cut() => Ok(()),
    };
    if let Err(error) = ended {
        // hyper has answered malformed heads (400) and oversized ones (431) itself.
        tracing::debug!(error = %error, "a client's connection ended early");
    }
    drop(open);
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
