//! How a connection to a provider is made: TCP without delay, through a proxy if the environment names one, TLS with
//! the built-in roots and those the user added.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Extensions, Uri};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::config::settings::UpstreamSettings;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The extra certificate authorities cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsRootsError {
    /// The file cannot be read or is not PEM.
    #[error("cannot read certificates from {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// The file holds no certificate.
    #[error("{} holds no certificate (PEM blocks that begin with BEGIN CERTIFICATE expected)", .0.display())]
    Empty(PathBuf),
    /// A certificate that cannot be a root.
    #[error("a certificate in {} cannot be used as a root", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::Error,
    },
}

/// Builds the connector for one provider.
pub(super) fn https(settings: &UpstreamSettings, http2: bool) -> Result<Limited, TlsRootsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default TLS versions")
        .with_root_certificates(roots(settings)?)
        .with_no_client_auth();
    let builder = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http();
    let tcp = Connector::new(settings);
    let inner = if http2 {
        builder.enable_http2().wrap_connector(tcp)
    } else {
        builder.enable_http1().wrap_connector(tcp)
    };
    Ok(Limited {
        inner,
        limit: settings.connect_timeout,
    })
}

/// Makes connections within a time limit: name, TCP, proxy and TLS together.
#[derive(Debug, Clone)]
pub(super) struct Limited {
    inner: HttpsConnector<Connector>,
    limit: Duration,
}

impl Service<Uri> for Limited {
    type Response = MaybeHttpsStream<Counted>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let limit = self.limit;
        let connecting = self.inner.call(target);
        Box::pin(async move {
            match tokio::time::timeout(limit, connecting).await {
                Ok(result) => result,
                Err(_) => Err(format!("no connection within {limit:?}").into()),
            }
        })
    }
}

fn roots(settings: &UpstreamSettings) -> Result<rustls::RootCertStore, TlsRootsError> {
    let mut roots = rustls::RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let Some(path) = &settings.extra_ca_file else {
        return Ok(roots);
    };
    let read = |source| TlsRootsError::Read {
        path: path.clone(),
        source,
    };
    let mut found = false;
    for certificate in CertificateDer::pem_file_iter(path).map_err(read)? {
        let certificate = certificate.map_err(read)?;
        roots
            .add(certificate)
            .map_err(|source| TlsRootsError::Unusable {
                path: path.clone(),
                source,
            })?;
        found = true;
    }
    if found {
        Ok(roots)
    } else {
        Err(TlsRootsError::Empty(path.clone()))
    }
}

/// Makes TCP connections, straight or through the proxy that the environment names for the target.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector,
    proxy: Option<Arc<Matcher>>,
}

impl std::fmt::Debug for Connector {
    /// The proxy's address may hold a password, so it is left out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

impl Connector {
    fn new(settings: &UpstreamSettings) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        tcp.set_connect_timeout(Some(settings.connect_timeout));
        let proxy = settings
            .proxy_from_env
            .then(|| Arc::new(Matcher::from_env()));
        Self { tcp, proxy }
    }

    async fn connect(mut self, target: Uri) -> Result<Counted, BoxError> {
        // Plain http goes straight: it is a server of one's own (Ollama, llama.cpp), and CONNECT is for TLS.
        let secure = target.scheme_str() == Some("https");
        let intercept = self
            .proxy
            .as_ref()
            .filter(|_| secure)
            .and_then(|matcher| matcher.intercept(&target));
        let stream = match intercept {
            None => self.tcp.call(target).await?,
            Some(proxy) => {
                if proxy.uri().scheme_str() != Some("http") {
                    return Err("the proxy in the environment must be an http:// address".into());
                }
                let mut tunnel = Tunnel::new(proxy.uri().clone(), self.tcp);
                if let Some(auth) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(auth.clone());
                }
                tunnel.call(target).await?
            }
        };
        Ok(Counted {
            stream,
            uses: Uses::default(),
        })
    }
}

impl Service<Uri> for Connector {
    type Response = Counted;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Counted, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        Box::pin(self.clone().connect(target))
    }
}

/// Counts the answers that a connection has brought: a dead one that had brought some is merely stale.
#[derive(Debug, Clone, Default)]
pub(super) struct Uses(Arc<AtomicU32>);

impl Uses {
    /// Notes an answer; the client leaves the connection's `Uses` among the answer's extensions.
    pub(super) fn count(extensions: &Extensions) {
        if let Some(uses) = extensions.get::<Uses>() {
            uses.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the connection had brought an answer before.
    pub(super) fn reused(connected: &Connected) -> bool {
        let mut extensions = Extensions::new();
        connected.get_extras(&mut extensions);
        extensions
            .get::<Uses>()
            .is_some_and(|uses| uses.0.load(Ordering::Relaxed) > 0)
    }
}

/// A connection that carries its [`Uses`].
#[derive(Debug)]
pub(super) struct Counted {
    stream: TokioIo<TcpStream>,
    uses: Uses,
}

impl Connection for Counted {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.uses.clone())
    }
}

impl hyper::rt::Read for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}
