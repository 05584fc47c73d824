//! Providers behind TLS: trusted authorities only, a private one by setting, and what a failed handshake looks like.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls_pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
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
