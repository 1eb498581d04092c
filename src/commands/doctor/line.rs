//! One connection, made as a box or this server makes it: whose certificate is shown, what is answered, when it ends.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Url;

/// Longest wait for a connection to be made, and for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest head and body of an answer together, bytes; of a longer one the rest is not read.
const ANSWER_MAX: usize = 64 << 10;
/// Headers of an answer.
const HEADERS_MAX: usize = 64;
/// A certificate that ends sooner is worth a word.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// Why there is no connection or no answer, by what is to be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Unreached {
    /// The name.
    #[error("the name {0} is not found")]
    Name(String),
    /// The way there.
    #[error("{0} cannot be reached: {1}")]
    Connect(String, io::Error),
    /// TLS.
    #[error("{0} does not speak TLS as it should: {1}")]
    Tls(String, io::Error),
    /// Whoever is there.
    #[error("{0} gives no answer: {1}")]
    Answer(String, io::Error),
}

/// What is to be said of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// It is good.
    Good,
    /// It is good and ends within two weeks.
    EndsSoon,
    /// It is not believed.
    Bad(&'static str),
}

/// A connection.
pub struct Line {
    stream: Box<dyn Stream>,
    authority: String,
    /// Our end of it.
    pub local: SocketAddr,
    /// What was shown; `None`: plain HTTP.
    pub certificate: Option<Certificate>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// Body, bounded.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

impl Line {
    /// Connects to the host of `url`, whose certificate is judged by `roots` and not insisted on.
    pub async fn open(url: &Url, roots: &Arc<RootCertStore>) -> Result<Self, Unreached> {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(443);
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = |error: io::Error| {
            tracing::debug!(%error, "a name is not found");
            Unreached::Name(host.to_owned())
        };
        let addresses: Vec<_> = tokio::net::lookup_host((bare, port)).await.map_err(name)?.collect();
        let connect = |error| Unreached::Connect(format!("{host}:{port}"), error);
        let tcp = in_time(TcpStream::connect(&*addresses)).await.map_err(connect)?;
        let local = tcp.local_addr().map_err(connect)?;
        if url.scheme() != "https" {
            return Ok(Self { stream: Box::new(tcp), authority, local, certificate: None });
        }
        let tls = |error| Unreached::Tls(authority.clone(), error);
        let server = ServerName::try_from(bare.to_owned()).map_err(|error| tls(io::Error::other(error)))?;
        let witness = Arc::new(Witness::new(roots).map_err(|error| tls(io::Error::other(error)))?);
        let connector = TlsConnector::from(Arc::new(witness.client()));
        let stream = in_time(connector.connect(server, tcp)).await.map_err(tls)?;
        let certificate = witness.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Self { stream: Box::new(stream), authority, local, certificate })
    }

    /// Sends a request, `headers` with their line ends, and waits for the whole answer.
    pub async fn ask(&mut self, method: &str, path: &str, headers: &str) -> Result<Answer, Unreached> {
        let agent = concat!("user-agent: device-flow-proxy/", env!("CARGO_PKG_VERSION"), "\r\n");
        let host = &self.authority;
        let request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{agent}{headers}\r\n");
        let exchange = async {
            self.stream.write_all(request.as_bytes()).await?;
            self.stream.flush().await?;
            self.receive().await
        };
        in_time(exchange).await.map_err(|error| Unreached::Answer(self.authority.clone(), error))
    }

    async fn receive(&mut self) -> io::Result<Answer> {
        let mut bytes = Vec::new();
        loop {
            if let Some((answer, wanted)) = parse(&bytes)?
                && answer.body.len() >= wanted.min(ANSWER_MAX)
            {
                return Ok(answer);
            }
            if bytes.len() >= ANSWER_MAX {
                return Err(io::Error::other("it is too long"));
            }
            if self.stream.read_buf(&mut bytes).await? == 0 {
                return match parse(&bytes)? {
                    Some((answer, _)) => Ok(answer),
                    None => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    /// Waits until the other end closes it.
    pub async fn ended(&mut self) {
        let mut more = [0; 512];
        // A reset is an end as well.
        while self.stream.read(&mut more).await.is_ok_and(|read| read > 0) {}
    }
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")))
}

/// The answer so far and the length of its body; `None` before its head is whole. A body of unknown length is not wanted.
fn parse(bytes: &[u8]) -> io::Result<Option<(Answer, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(bytes).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers = head.headers.iter().map(|header| (header.name.to_owned(), text(header.value))).collect();
    let answer = Answer {
        status: head.code.unwrap_or_default(),
        headers,
        body: bytes.get(length..).unwrap_or_default().to_vec(),
    };
    let wanted = answer.header("content-length").and_then(|value| value.trim().parse().ok()).unwrap_or(0);
    Ok(Some((answer, wanted)))
}

/// Lets every certificate pass and notes what is to be said of it: the clock and the headers are worth knowing all the same.
#[derive(Debug)]
struct Witness {
    judge: Arc<WebPkiServerVerifier>,
    said: Mutex<Option<Certificate>>,
}

impl Witness {
    fn new(roots: &Arc<RootCertStore>) -> Result<Self, rustls::client::VerifierBuilderError> {
        let provider = Arc::new(ring::default_provider());
        let judge = WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), provider).build()?;
        Ok(Self { judge, said: Mutex::default() })
    }

    fn client(self: &Arc<Self>) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        #[expect(clippy::expect_used, reason = "the provider has both versions")]
        let builder = builder.with_safe_default_protocol_versions().expect("TLS 1.2 and 1.3");
        let witness = Arc::clone(self) as Arc<dyn ServerCertVerifier>;
        builder.dangerous().with_custom_certificate_verifier(witness).with_no_client_auth()
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let at = |now| self.judge.verify_server_cert(own, between, name, ocsp, now);
        let soon = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + SOON);
        let said = match (at(now), at(soon)) {
            (Err(error), _) => Certificate::Bad(why(&error)),
            (Ok(_), Err(_)) => Certificate::EndsSoon,
            (Ok(_), Ok(_)) => Certificate::Good,
        };
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.judge.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.judge.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}

fn why(error: &TlsError) -> &'static str {
    use CertificateError as E;
    match error {
        TlsError::InvalidCertificate(E::Expired | E::ExpiredContext { .. }) => "has ended",
        TlsError::InvalidCertificate(E::NotValidYet | E::NotValidYetContext { .. }) => "does not count yet",
        TlsError::InvalidCertificate(E::NotValidForName | E::NotValidForNameContext { .. }) => {
            "is for another name"
        }
        TlsError::InvalidCertificate(E::UnknownIssuer) => {
            "is of no authority that is trusted, or those between are not sent"
        }
        _ => "cannot be believed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let head = "HTTP/1.1 400 Bad Request\r\nDate: x\r\nContent-Length: 3\r\n\r\n";
        assert!(parse(&head.as_bytes()[..30]).unwrap().is_none());
        let (answer, wanted) = parse(format!("{head}ab").as_bytes()).unwrap().unwrap();
        assert_eq!((answer.status, answer.header("date"), answer.body.len(), wanted), (400, Some("x"), 2, 3));
        assert!(parse(b"SSH-2.0-OpenSSH\r\n\r\n").is_err());
    }
}
