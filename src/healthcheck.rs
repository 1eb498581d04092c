//! `healthcheck`: asks a running server whether it takes work.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use awc::{Client, Connector};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use crate::config::ServerConfig;

/// Why the server does not count as healthy.
#[derive(Debug, thiserror::Error)]
pub enum Unhealthy {
    /// No answer.
    #[error("the server at {address} does not answer: {reason}")]
    Silent {
        /// Where it was asked.
        address: SocketAddr,
        /// What happened.
        reason: String,
    },
    /// An answer other than 200.
    #[error("the server at {address} answers {status}")]
    NotReady {
        /// Where it was asked.
        address: SocketAddr,
        /// What it said.
        status: u16,
    },
}

/// Asks the server that listens so, on this machine. Needs an actix system.
pub async fn ask(server: &ServerConfig) -> Result<(), Unhealthy> {
    let listen = server.listen;
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let address = SocketAddr::new(ip, listen.port());
    let client = Client::builder().timeout(Duration::from_secs(5));
    let request = if server.tls.is_some() {
        let connector = Connector::new().rustls_0_23(Arc::new(tls()));
        client.connector(connector).finish().get(format!("https://{address}/health/ready"))
    } else {
        client.finish().get(format!("http://{address}/health/ready"))
    };
    match request.send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(Unhealthy::NotReady { address, status: answer.status().as_u16() }),
        Err(error) => Err(Unhealthy::Silent { address, reason: error.to_string() }),
    }
}

/// Whatever certificate is shown: the answer is believed because of where it was asked for.
fn tls() -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    #[expect(clippy::expect_used, reason = "the provider has both versions")]
    let builder = builder.with_safe_default_protocol_versions().expect("TLS 1.2 and 1.3");
    builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate)).with_no_client_auth()
}

#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
