//! Serving HTTPS: the certificate from its files, and again from them when they change, as renewals do every few weeks.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::settings::TlsFiles;
use crate::keys::Stamp;

/// HTTP/2 by its name in the handshake.
const H2: &[u8] = b"h2";

/// Largest file that is read, in bytes; chains have a few KiB.
const LARGEST: u64 = 1 << 20;

/// What connections need to begin with TLS. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    certificate: Arc<Certificate>,
}

/// The certificate cannot be used. The message names the file and says how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {} ({key})", path.display())]
    Read {
        /// Which setting names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A file is not PEM.
    #[error("{} ({key}) is not a PEM file", path.display())]
    Pem {
        /// Which setting names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: pem::Error,
    },
    /// There is no certificate in its file.
    #[error(
        "{} (server.tls_cert_file) holds no certificate; it must be PEM with the server's own first: BEGIN CERTIFICATE",
        .0.display()
    )]
    NoCertificate(PathBuf),
    /// There is no private key in its file.
    #[error(
        "{} (server.tls_key_file) holds no private key; it must be PEM without a password: BEGIN PRIVATE KEY",
        .0.display()
    )]
    NoKey(PathBuf),
    /// Key and certificate do not belong together, or are of a kind that is not known.
    #[error(
        "the private key in {} (server.tls_key_file) cannot serve the certificate in {} (server.tls_cert_file); give \
         both files of the same certificate",
        key_file.display(), cert_file.display()
    )]
    Mismatch {
        /// The certificate's file.
        cert_file: PathBuf,
        /// The key's file.
        key_file: PathBuf,
        /// What does not fit.
        #[source]
        source: rustls::Error,
    },
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn new(files: &TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        // Looked at before reading: what changes in between is read again.
        let seen = stamps(files);
        let certificate = Arc::new(Certificate {
            current: RwLock::new(Arc::new(read(files, &provider)?)),
            seen: Mutex::new(seen),
            files: files.clone(),
            provider: Arc::clone(&provider),
        });
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring supports the default TLS versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificate) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            config: Arc::new(config),
            certificate,
        })
    }

    /// Does the handshake on a connection.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> io::Result<TlsStream<S>> {
        TlsAcceptor::from(Arc::clone(&self.config))
            .accept(stream)
            .await
    }

    /// Looks whether the files have changed, and reads them if they have; says whether it did. Reads from the disk: not
    /// for a thread that serves.
    ///
    /// # Errors
    /// They cannot be used: the last good certificate stays. Each state of the files is told once.
    pub(super) fn refresh(&self) -> Result<bool, TlsError> {
        let Certificate {
            current,
            seen,
            files,
            provider,
        } = &*self.certificate;
        let now = stamps(files);
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return Ok(false);
        }
        *seen = now;
        let read = Arc::new(read(files, provider)?);
        *current.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(true)
    }
}

/// Whether a client has chosen HTTP/2 in its handshake.
pub(super) fn speaks_http2<S>(stream: &TlsStream<S>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(H2)
}

/// The certificate that handshakes use now.
#[derive(Debug)]
struct Certificate {
    current: RwLock<Arc<CertifiedKey>>,
    seen: Mutex<Stamps>,
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current))
    }
}

type Stamps = [Option<Stamp>; 2];

fn stamps(files: &TlsFiles) -> Stamps {
    [&files.cert_file, &files.key_file].map(|path| Stamp::of(path))
}

fn read(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    const CERT: &str = "server.tls_cert_file";
    const KEY: &str = "server.tls_key_file";
    let TlsFiles {
        cert_file,
        key_file,
    } = files;
    let text = content(CERT, cert_file)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|source| TlsError::Pem {
        key: CERT,
        path: cert_file.clone(),
        source,
    })?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(cert_file.clone()));
    }
    let text = content(KEY, key_file)?;
    let key = match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => key,
        Err(pem::Error::NoItemsFound) => return Err(TlsError::NoKey(key_file.clone())),
        Err(source) => {
            return Err(TlsError::Pem {
                key: KEY,
                path: key_file.clone(),
                source,
            });
        }
    };
    CertifiedKey::from_der(chain, key, provider).map_err(|source| TlsError::Mismatch {
        cert_file: cert_file.clone(),
        key_file: key_file.clone(),
        source,
    })
}

fn content(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|source| TlsError::Read {
        key,
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey as Made, generate_simple_self_signed};
    use std::fs;

    use super::*;

    fn files(dir: &Path) -> TlsFiles {
        TlsFiles {
            cert_file: dir.join("cert.pem"),
            key_file: dir.join("key.pem"),
        }
    }

    fn made() -> (String, String) {
        let Made { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        (cert.pem(), signing_key.serialize_pem())
    }

    fn refused(files: &TlsFiles) -> String {
        let error = Tls::new(files).expect_err("the files are no good");
        error.to_string()
    }

    #[test]
    fn files_that_cannot_serve_are_told_by_name_and_setting() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = files(dir.path());
        let ((cert, key), (_, other_key)) = (made(), made());
        let message = refused(&files);
        assert!(
            message.contains("cert.pem (server.tls_cert_file)"),
            "{message}"
        );
        fs::write(&files.cert_file, &key).expect("writable");
        assert!(refused(&files).contains("holds no certificate"));
        fs::write(&files.cert_file, &cert).expect("writable");
        assert!(refused(&files).contains("key.pem (server.tls_key_file)"));
        fs::write(&files.key_file, &cert).expect("writable");
        assert!(refused(&files).contains("holds no private key"));
        fs::write(&files.key_file, key.replace("-----END", "-----ENT")).expect("writable");
        assert!(refused(&files).contains("key.pem"));
        fs::write(&files.key_file, &other_key).expect("writable");
        let message = refused(&files);
        assert!(message.contains("both files of the same"), "{message}");
        for secret in key.lines().chain(other_key.lines()).skip(1).take(1) {
            assert!(!message.contains(secret));
        }
        fs::write(&files.key_file, &key).expect("writable");
        assert!(Tls::new(&files).is_ok());
    }

    #[test]
    fn a_renewed_certificate_is_taken_and_a_broken_one_told_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = files(dir.path());
        let put = |(cert, key): &(String, String)| {
            fs::write(&files.cert_file, cert).expect("writable");
            fs::write(&files.key_file, key).expect("writable");
        };
        let (old, new) = (made(), made());
        put(&old);
        let tls = Tls::new(&files).expect("a good certificate");
        let serves = |tls: &Tls| tls.certificate.current.read().expect("no panic").cert[0].clone();
        let first = serves(&tls);
        assert!(!tls.refresh().expect("unchanged"));
        // Half a renewal: the key does not fit yet.
        fs::write(&files.cert_file, &new.0).expect("writable");
        assert!(matches!(tls.refresh(), Err(TlsError::Mismatch { .. })));
        assert!(!tls.refresh().expect("told"));
        assert_eq!(serves(&tls), first);
        put(&new);
        assert!(tls.refresh().expect("renewed"));
        assert_ne!(serves(&tls), first);
    }
}
