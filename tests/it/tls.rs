//! Providers behind TLS: trusted authorities only, a private one by setting, and what a failed handshake looks like. And
//! clients: HTTPS from tollgate itself.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tollgate::config::settings::TlsFiles;
use tollgate::store::record::Outcome;

use crate::rig::*;

pub(crate) const MESSAGE: &str = r#"{"id":"msg_1","model":"claude-sonnet-5-5","content":[],"usage":{"input_tokens":21,"output_tokens":9}}"#;

/// A provider behind TLS that answers everything the same; its authority is in a file.
#[derive(Debug)]
pub(crate) struct TlsUpstream {
    pub(crate) address: SocketAddr,
    pub(crate) ca_file: String,
    task: JoinHandle<()>,
    _dir: TempDir,
}

impl TlsUpstream {
    /// One whose certificate is for these names.
    pub(crate) async fn start(names: &[&str]) -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(ca, ca_key);
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        let dir = TempDir::new().unwrap();
        let ca_file = dir.path().join("ca.pem");
        std::fs::write(&ca_file, ca_pem).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(io) = acceptor.accept(io).await else {
                        return;
                    };
                    let mut wire = Wire::new(io);
                    while wire.try_head().await.is_some() {
                        wire.body().await;
                        wire.send(json_answer(MESSAGE)).await;
                    }
                });
            }
        });
        Self {
            address,
            ca_file: ca_file.display().to_string(),
            task,
            _dir: dir,
        }
    }
}

impl Drop for TlsUpstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn ask() -> Vec<u8> {
    request(
        "POST /anthropic/v1/messages",
        &[],
        r#"{"model":"claude-sonnet-5-5"}"#,
    )
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused_with_a_hint() {
    let upstream = TlsUpstream::start(&["127.0.0.1"]).await;
    let base = format!("https://{}", upstream.address);
    let tollgate = Tollgate::with(
        upstream.address,
        &[("providers.anthropic.base_url", base.as_str())],
    )
    .await;
    let (head, body) = tollgate.ask(ask()).await;
    assert_eq!(head.status(), 502);
    let json = body.json();
    let message = json["error"]["message"].as_str().unwrap();
    assert!(message.contains("extra_ca_file"), "{message}");
    assert!(message.contains(&upstream.address.to_string()), "{message}");
    let record = tollgate.record(&head).await;
    assert_eq!(record.outcome, Outcome::Unreachable);
    assert_eq!(record.usage, Default::default());
    assert!(tollgate.metric("tollgate_refusals_total", &["upstream_tls_failed"]) == 1.0);
}

#[tokio::test]
async fn a_private_authority_is_trusted_by_setting() {
    let upstream = TlsUpstream::start(&["127.0.0.1"]).await;
    let base = format!("https://{}", upstream.address);
    let tollgate = Tollgate::with(
        upstream.address,
        &[
            ("providers.anthropic.base_url", base.as_str()),
            ("upstream.extra_ca_file", &upstream.ca_file),
        ],
    )
    .await;
    for _ in 0..2 {
        let (head, body) = tollgate.ask(ask()).await;
        assert_eq!((head.status(), body.text().as_str()), (200, MESSAGE));
        assert_eq!(tollgate.record(&head).await.usage.input, 21);
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let upstream = TlsUpstream::start(&["elsewhere.test"]).await;
    let base = format!("https://{}", upstream.address);
    let tollgate = Tollgate::with(
        upstream.address,
        &[
            ("providers.anthropic.base_url", base.as_str()),
            ("upstream.extra_ca_file", &upstream.ca_file),
        ],
    )
    .await;
    assert_eq!(tollgate.ask(ask()).await.0.status(), 502);
}

#[tokio::test]
async fn a_provider_that_speaks_no_tls_is_a_502() {
    let upstream = Upstream::start().await;
    let base = format!("https://{}", upstream.address);
    let tollgate = Tollgate::with(
        upstream.address,
        &[("providers.anthropic.base_url", base.as_str())],
    )
    .await;
    let mut client = tollgate.connect().await;
    client.send(ask()).await;
    let mut provider = upstream.accept().await;
    provider.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    assert_eq!(client.message().await.0.status(), 502);
}

/// A certificate for `gate.test` in files, and what its clients trust.
struct Served {
    dir: TempDir,
    trusted: CertificateDer<'static>,
}

impl Served {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let names = vec!["gate.test".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key);
        let certificate = certificate.unwrap();
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(dir.path().join("key.pem"), key.serialize_pem()).unwrap();
        Self {
            dir,
            trusted: certificate.der().clone(),
        }
    }

    async fn tollgate(&self, upstream: SocketAddr, ip: IpAddr) -> Tollgate {
        let extra = [("server.header_timeout", "1s")];
        Tollgate::changed(upstream, &extra, |settings| {
            settings.server.listen.set_ip(ip);
            settings.server.allow_remote = !ip.is_loopback();
            settings.server.tls = Some(TlsFiles {
                cert_file: self.dir.path().join("cert.pem"),
                key_file: self.dir.path().join("key.pem"),
            });
        })
        .await
    }

    async fn connect(
        &self,
        tollgate: &Tollgate,
        alpn: &[&[u8]],
        version: &'static SupportedProtocolVersion,
    ) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.trusted.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let io = TcpStream::connect(tollgate.address).await.unwrap();
        let name = ServerName::try_from("gate.test").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        within("the handshake", connector.connect(name, io))
            .await
            .unwrap()
    }
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[tokio::test]
async fn https_is_served_over_http1_with_both_tls_versions() {
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let served = Served::new();
    let tollgate = served.tollgate(upstream.address, LOOPBACK).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for alpn in [&[][..], &[&b"http/1.1"[..]]] {
            let io = served.connect(&tollgate, alpn, version).await;
            let mut client = Wire::new(io);
            for _ in 0..2 {
                client.send(ask()).await;
                let (head, body) = client.message().await;
                assert_eq!((head.status(), body.text().as_str()), (200, MESSAGE));
                assert_eq!(tollgate.record(&head).await.usage.input, 21);
            }
        }
    }
}

#[tokio::test]
async fn https_is_served_over_http2_to_who_offers_it() {
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let served = Served::new();
    let tollgate = served.tollgate(upstream.address, LOOPBACK).await;
    let io = served
        .connect(&tollgate, &[b"h2", b"http/1.1"], &rustls::version::TLS13)
        .await;
    assert_eq!(io.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io))
            .await
            .unwrap();
    tokio::spawn(connection);
    let asked = http::Request::post("https://localhost/anthropic/v1/messages")
        .body(Full::new(Bytes::from_static(
            br#"{"model":"claude-sonnet-5-5"}"#,
        )))
        .unwrap();
    let answer = within("the answer", sender.send_request(asked))
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, MESSAGE);
}

#[tokio::test]
async fn a_cut_stays_a_cut_over_tls() {
    let upstream = Upstream::start().await;
    let served = Served::new();
    let tollgate = served.tollgate(upstream.address, LOOPBACK).await;
    let io = served
        .connect(&tollgate, &[], &rustls::version::TLS13)
        .await;
    let mut client = Wire::new(io);
    client.send(ask()).await;
    let (mut provider, _, _) = upstream.request().await;
    provider.send(stream_head("text/event-stream")).await;
    provider.send_chunk("event: message_start\n\n").await;
    let head = client.head().await;
    assert_eq!(client.body_bytes(10).await.len(), 22);
    drop(provider);
    assert!(!client.body().await.whole);
    let record = tollgate.record_of_cut(&head).await;
    assert_eq!(record.outcome, Outcome::UpstreamCut);
}

#[tokio::test]
async fn a_handshake_that_fails_or_never_ends_costs_nobody_else_anything() {
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let served = Served::new();
    let tollgate = served.tollgate(upstream.address, LOOPBACK).await;
    let mut strangers = Vec::new();
    for beginning in [
        &b""[..],
        b"\x16",
        b"\x16\x03\x01\x02\x00\x01",
        b"\x16garbage",
    ] {
        for _ in 0..10 {
            let mut stranger = tollgate.connect().await;
            stranger.send(beginning).await;
            strangers.push(stranger);
        }
    }
    let io = served
        .connect(&tollgate, &[], &rustls::version::TLS13)
        .await;
    let mut client = Wire::new(io);
    client.send(ask()).await;
    assert_eq!(client.message().await.0.status(), 200);
    // A client that drips bytes has no more time than one that is silent.
    let mut dripping = strangers.remove(15);
    for _ in 0..20 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        if !dripping.try_send(b"\x00").await {
            break;
        }
    }
    within("the ends", async {
        dripping.ended().await;
        for stranger in &mut strangers {
            stranger.ended().await;
        }
    })
    .await;
}

#[tokio::test]
async fn this_machine_may_speak_plain_http_to_the_same_port() {
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let served = Served::new();
    let tollgate = served.tollgate(upstream.address, LOOPBACK).await;
    assert_eq!(tollgate.ask(ask()).await.0.status(), 200);
}

#[tokio::test]
async fn plain_http_from_elsewhere_is_told_to_use_https() {
    let Some(ip) = address_beyond_loopback() else {
        return;
    };
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let served = Served::new();
    let tollgate = served.tollgate(upstream.address, ip).await;
    let mut client = tollgate.connect().await;
    client.send(ask()).await;
    let (head, body) = client.message().await;
    assert_eq!(head.status(), 400);
    assert!(body.text().contains("https://"), "{}", body.text());
    assert!(client.rest().await.is_empty());
    assert_eq!(tollgate.records().await.len(), 0);
    assert_eq!(upstream.take().len(), 0);
    let io = served
        .connect(&tollgate, &[], &rustls::version::TLS13)
        .await;
    let mut client = Wire::new(io);
    client.send(ask()).await;
    assert_eq!(client.message().await.0.status(), 200);
}

#[tokio::test]
async fn a_renewed_certificate_is_served_without_a_restart() {
    let upstream = Upstream::start().await.answering(|_| json_answer(MESSAGE));
    let served = Served::new();
    let tollgate = served.tollgate(upstream.address, LOOPBACK).await;
    let renewed = Served::new();
    for name in ["key.pem", "cert.pem"] {
        std::fs::copy(renewed.dir.path().join(name), served.dir.path().join(name)).unwrap();
    }
    eventually("the new certificate", async || {
        let mut roots = RootCertStore::empty();
        roots.add(renewed.trusted.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let io = TcpStream::connect(tollgate.address).await.unwrap();
        let name = ServerName::try_from("gate.test").unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, io)
            .await
            .ok()
    })
    .await;
}
