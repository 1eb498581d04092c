//! TLS of our own: the certificate of `TLS_CERT` with the key of `TLS_KEY`, and their successors.
//!
//! The files are read again every few seconds, and on SIGHUP. Whoever renews writes one after the other: a pair that cannot
//! be used changes nothing. Connections that are open keep what they began with.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use actors::base::clock::{SharedClock, Timestamp};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, RootCertStore, ServerConfig};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

/// How often the files are read again.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Longest such file, bytes; of a longer one the rest is not read.
const FILE_MAX: u64 = 1 << 20;

/// Where the certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// `TLS_CERT`: the certificate, then those between it and its authority, PEM.
    pub certificate: PathBuf,
    /// `TLS_KEY`: its key, PEM.
    pub key: PathBuf,
}

/// What was expected of the files that cannot be used. Says nothing of their content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFaults {
    /// Of `TLS_CERT`.
    pub certificate: Option<String>,
    /// Of `TLS_KEY`.
    pub key: Option<String>,
}

impl fmt::Display for TlsFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = [("TLS_CERT", &self.certificate), ("TLS_KEY", &self.key)];
        let faults = faults.into_iter().filter_map(|(name, fault)| Some((name, fault.as_ref()?)));
        f.write_str(
            &faults.map(|(name, fault)| format!("{name}: expected {fault}")).collect::<Vec<_>>().join("; "),
        )
    }
}

impl std::error::Error for TlsFaults {}

/// Both files, as they stand on the disk.
type Content = [Zeroizing<Vec<u8>>; 2];

impl Files {
    /// The certificate with its key.
    pub fn load(&self) -> Result<CertifiedKey, TlsFaults> {
        parse(&self.read()?)
    }

    fn read(&self) -> Result<Content, TlsFaults> {
        both(content(&self.certificate), content(&self.key)).map(|(certificate, key)| [certificate, key])
    }
}

/// Two results in one, with the faults of either.
fn both<A, B>(certificate: Result<A, String>, key: Result<B, String>) -> Result<(A, B), TlsFaults> {
    match (certificate, key) {
        (Ok(certificate), Ok(key)) => Ok((certificate, key)),
        (certificate, key) => Err(TlsFaults { certificate: certificate.err(), key: key.err() }),
    }
}

fn content(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes));
    read.map_err(|error| format!("a file that can be read ({})", error.kind()))?;
    Ok(bytes)
}

fn parse([certificate, key]: &Content) -> Result<CertifiedKey, TlsFaults> {
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>().ok();
    let chain =
        chain.filter(|chain| chain.first().is_some_and(|own| ParsedCertificate::try_from(own).is_ok()));
    let (chain, key) = both(
        chain.ok_or_else(|| "certificates in PEM, that of this server first".to_owned()),
        PrivateKeyDer::from_pem_slice(key).map_err(|_| "a private key in PEM, without a password".to_owned()),
    )?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| {
        let expected = match error {
            Error::InconsistentKeys(_) => "the key of the certificate in TLS_CERT; this is another's",
            _ => "an RSA, ECDSA or Ed25519 key",
        };
        TlsFaults { certificate: None, key: Some(expected.to_owned()) }
    })
}

/// Why browsers and boxes would not believe this certificate at `host`.
pub fn danger(certificate: &CertifiedKey, host: &str, now: Timestamp) -> Option<&'static str> {
    let certificate = ParsedCertificate::try_from(certificate.cert.first()?).ok()?;
    let now = UnixTime::since_unix_epoch(Duration::from_millis(now.as_millis()));
    // Its authority is not looked at: without any, its time is all that is found wanting before that.
    let (nobody, algorithms) =
        (RootCertStore::empty(), ring::default_provider().signature_verification_algorithms.all);
    match verify_server_cert_signed_by_trust_anchor(&certificate, &nobody, &[], now, algorithms) {
        Err(Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => {
            return Some("the certificate has ended: nobody connects; renew it");
        }
        Err(Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => return Some("the certificate does not count yet: nobody connects"),
        _ => {}
    }
    let is_for_host =
        ServerName::try_from(host).is_ok_and(|host| verify_server_name(&certificate, &host).is_ok());
    (!is_for_host).then_some("the certificate is not for the host of BASE_URL: nobody connects")
}

/// The certificate that is shown to whoever connects.
#[derive(derive_more::Debug)]
pub struct Certificate {
    files: Files,
    #[debug(skip)]
    shown: RwLock<(Content, Arc<CertifiedKey>)>,
}

impl Certificate {
    /// What the files hold now.
    pub fn load(files: Files) -> Result<Self, TlsFaults> {
        let content = files.read()?;
        let key = Arc::new(parse(&content)?);
        Ok(Self { files, shown: RwLock::new((content, key)) })
    }

    fn shown(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner).1)
    }

    /// Reads the files again. `None`: they are as before.
    fn look(&self) -> Result<Option<Arc<CertifiedKey>>, TlsFaults> {
        let content = self.files.read()?;
        if self.shown.read().unwrap_or_else(PoisonError::into_inner).0 == content {
            return Ok(None);
        }
        let key = Arc::new(parse(&content)?);
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = (content, Arc::clone(&key));
        Ok(Some(key))
    }

    /// How this server speaks TLS, 1.2 and 1.3.
    pub fn server(self: &Arc<Self>) -> Result<ServerConfig, Error> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
        Ok(builder.with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>))
    }

    /// Follows the files for as long as the process lives.
    pub async fn follow(self: Arc<Self>, host: String, clock: SharedClock) {
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => hangup,
            Err(error) => return tracing::error!(%error, "the certificate will not be replaced"),
        };
        let mut tick = tokio::time::interval(LOOK_EVERY);
        let mut told = None;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                _ = hangup.recv() => tracing::info!("SIGHUP: the certificate is read again"),
            }
            let certificate = Arc::clone(&self);
            // Disks may take their time.
            let looked = actix_rt::task::spawn_blocking(move || certificate.look()).await;
            let fault = match looked {
                Ok(Ok(None)) | Err(_) => None,
                Ok(Ok(Some(key))) => {
                    tracing::info!("the certificate was replaced");
                    if let Some(danger) = danger(&key, &host, clock.wall()) {
                        tracing::warn!(setting = "TLS_CERT", "{danger}");
                    }
                    None
                }
                Ok(Err(fault)) => Some(fault),
            };
            if let Some(fault) = fault.as_ref().filter(|fault| told.as_ref() != Some(*fault)) {
                tracing::warn!(%fault, "the certificate stays the one of before");
            }
            told = fault;
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown())
    }
}
