//! Certificates of an authority that lives as long as this process, and which its clients trust.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{ClientConfig, RootCertStore};

static AUTHORITY: LazyLock<CertifiedIssuer<'static, KeyPair>> = LazyLock::new(|| {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
});

/// A certificate and its key, in files.
#[derive(Clone, Debug)]
pub struct Files {
    /// The certificate with that of its authority, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// Writes a fresh certificate for `localhost` as `tls.crt` into `directory`, and its key as `tls.key`. Answers where.
///
/// # Panics
/// If the files cannot be written.
pub fn issue(directory: &Path) -> Files {
    issue_until(directory, 4_000)
}

/// The same, ending with the year before `year`.
///
/// # Panics
/// If the files cannot be written.
pub fn issue_until(directory: &Path, year: i32) -> Files {
    let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    params.not_after = date_time_ymd(year, 1, 1);
    let pair = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&pair, &*AUTHORITY).expect("a certificate");
    let files = Files { certificate: directory.join("tls.crt"), key: directory.join("tls.key") };
    std::fs::write(&files.certificate, certificate.pem() + &AUTHORITY.pem()).expect("room for a certificate");
    std::fs::write(&files.key, pair.serialize_pem()).expect("room for a key");
    files
}

/// What a client needs that trusts these certificates, and no others.
///
/// # Panics
/// Never: the authority is a good one.
pub fn client() -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(AUTHORITY.der().clone()).expect("an authority");
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("versions of the provider");
    builder.with_root_certificates(roots).with_no_client_auth()
}
