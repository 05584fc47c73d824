//! The pass-through that tollgate is compared with: hyper's server in front of hyper-util's pooled client and nothing
//! in between; with `--metered` also the least that a meter must do (see `meter.rs`).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use crate::meter::Meter;
use crate::process::announce;

/// Worker threads: as many as tollgate starts.
pub(crate) const WORKERS: usize = 2;

/// What the pass-through is to do.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Host and port of the upstream.
    #[arg(long)]
    upstream: String,
    /// Parse the request and read the usage.
    #[arg(long)]
    metered: bool,
}

struct Proxy {
    client: Client<HttpConnector, Either<Incoming, Full<Bytes>>>,
    upstream: Authority,
    metered: bool,
}

/// Serves until it is killed.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let proxy = Arc::new(Proxy {
        client: Client::builder(TokioExecutor::new()).build(connector),
        upstream: options.upstream.parse()?,
        metered: options.metered,
    });
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()?
        .block_on(serve(proxy))
}

async fn serve(proxy: Arc<Proxy>) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    announce(listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let proxy = Arc::clone(&proxy);
        let service = service_fn(move |request| {
            let proxy = Arc::clone(&proxy);
            async move { proxy.forward(request).await }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

impl Proxy {
    async fn forward(&self, request: Request<Incoming>) -> anyhow::Result<Response<Relayed>> {
        let (mut head, body) = request.into_parts();
        let mut uri = head.uri.into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(self.upstream.clone());
        head.uri = Uri::from_parts(uri)?;
        // The client's Host is ours; hyper-util writes the upstream's.
        head.headers.remove(header::HOST);

        let body = if self.metered {
            let whole = body.collect().await?.to_bytes();
            if !crate::meter::note_request(&whole) {
                let mut refusal = Response::new(Relayed {
                    inner: None,
                    meter: None,
                });
                *refusal.status_mut() = StatusCode::BAD_REQUEST;
                return Ok(refusal);
            }
            Either::Right(Full::new(whole))
        } else {
            Either::Left(body)
        };

        let response = self.client.request(Request::from_parts(head, body)).await?;
        let meter = self.metered.then(|| {
            let kind = response
                .headers()
                .get(header::CONTENT_TYPE)
                .map(HeaderValue::as_bytes);
            Meter::new(kind.is_some_and(|kind| kind.starts_with(b"text/event-stream")))
        });
        Ok(response.map(|inner| Relayed {
            inner: Some(inner),
            meter,
        }))
    }
}

/// The upstream's body, frame by frame, with a meter beside it.
struct Relayed {
    inner: Option<Incoming>,
    meter: Option<Meter>,
}

impl Body for Relayed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Relayed {
            inner: Some(inner),
            meter,
        } = &mut *self
        else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(inner).poll_frame(context));
        if let (Some(meter), Some(Ok(frame))) = (meter, &frame)
            && let Some(bytes) = frame.data_ref()
        {
            meter.read(bytes);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
