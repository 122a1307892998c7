//! Looking at certificates: in files, and as a server shows them.

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What the tests and the demo want to know of a leaf.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    pub issuer: String,
    pub names: Vec<String>,
    /// Upper-case hexadecimal without leading zero bytes, as status shows it.
    pub serial: String,
    pub from: i64,
    pub until: i64,
    pub dates: [String; 2],
    /// `RSA 2048`, `EC 256`.
    pub key: String,
    /// How many certificates came with it, itself included.
    pub chain: usize,
}

pub fn facts(chain: &[CertificateDer<'_>]) -> Facts {
    let leaf = chain.first().expect("a chain has a leaf");
    let (_, cert) = X509Certificate::from_der(leaf).expect("a certificate");
    let sans = cert.subject_alternative_name().expect("readable names").expect("a certificate with names");
    let names = sans.value.general_names.iter().map(|name| match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
            (Ok(four), _) => IpAddr::from(four).to_string(),
            (_, Ok(sixteen)) => IpAddr::from(sixteen).to_string(),
            _ => format!("an address of {} bytes", bytes.len()),
        },
        other => other.to_string(),
    });
    let serial = cert.raw_serial().iter().skip_while(|byte| **byte == 0);
    let key = cert.public_key();
    let bits = key.parsed().expect("a known kind of key").key_size();
    let kind = if key.algorithm.algorithm.to_string() == "1.2.840.113549.1.1.1" { "RSA" } else { "EC" };
    let validity = cert.validity();
    Facts {
        issuer: cert.issuer().to_string(),
        names: names.collect(),
        serial: serial.map(|byte| format!("{byte:02X}")).collect(),
        from: validity.not_before.timestamp(),
        until: validity.not_after.timestamp(),
        dates: [validity.not_before.to_string(), validity.not_after.to_string()],
        key: format!("{kind} {bits}"),
        chain: chain.len(),
    }
}

/// The certificates in a PEM file.
#[track_caller]
pub fn read_chain(path: &Path) -> Vec<CertificateDer<'static>> {
    let certs = CertificateDer::pem_file_iter(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    certs.collect::<Result<_, _>>().unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// The certificates in what a program printed.
pub fn first_in(text: &str) -> Option<Facts> {
    let certs: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(text.as_bytes()).flatten().collect();
    if certs.is_empty() { None } else { Some(facts(&certs)) }
}

/// A chain and a key that belong together; anything else is a failure of the test.
#[track_caller]
pub fn read_pair(chain: &Path, key: &Path) -> Facts {
    let certs = read_chain(chain);
    let pem = PrivateKeyDer::from_pem_file(key).unwrap_or_else(|why| panic!("{}: {why}", key.display()));
    let signer = ring::sign::any_supported_type(&pem).expect("a key that TLS can use");
    let facts = facts(&certs);
    rustls::sign::CertifiedKey::new(certs, signer).keys_match().expect("the key of the certificate");
    facts
}

/// Connects and says what was shown; with roots, only what they vouch for.
pub fn served(address: SocketAddr, name: &str, roots: Option<&[CertificateDer<'static>]>) -> io::Result<Facts> {
    let mut stream = connect(address, name, roots)?;
    stream.conn.complete_io(&mut stream.sock)?;
    Ok(facts(stream.conn.peer_certificates().unwrap_or_default()))
}

/// One GET over TLS; without roots, whatever certificate is shown will do.
pub fn get(
    address: SocketAddr,
    name: &str,
    path: &str,
    roots: Option<&[CertificateDer<'static>]>,
) -> io::Result<String> {
    ask(address, name, &format!("GET {path} HTTP/1.0\r\nHost: {name}\r\nUser-Agent: edgemd-tests\r\n\r\n"), roots)
}

/// One POST over TLS, whoever is there.
pub fn post(address: SocketAddr, name: &str, path: &str, body: &str) -> io::Result<String> {
    let head = format!("POST {path} HTTP/1.0\r\nHost: {name}\r\nUser-Agent: edgemd-tests\r\n");
    ask(address, name, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()), None)
}

fn ask(
    address: SocketAddr,
    name: &str,
    request: &str,
    roots: Option<&[CertificateDer<'static>]>,
) -> io::Result<String> {
    let mut stream = connect(address, name, roots)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    match stream.read_to_string(&mut answer) {
        // Some servers close without a word.
        Err(why) if why.kind() != io::ErrorKind::UnexpectedEof => Err(why),
        _ => Ok(answer),
    }
}

/// A question, and all that is said until the other side closes; whoever that is.
pub fn exchange(address: SocketAddr, name: &str, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = connect(address, name, None)?;
    stream.write_all(question)?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(why) if why.kind() != io::ErrorKind::UnexpectedEof => Err(why),
        _ => Ok(answer),
    }
}

pub type Tls = StreamOwned<ClientConnection, TcpStream>;

fn connect(address: SocketAddr, name: &str, roots: Option<&[CertificateDer<'static>]>) -> io::Result<Tls> {
    open(&client(roots)?, TcpStream::connect_timeout(&address, Duration::from_secs(5))?, name)
}

/// A client that makes a whole handshake each time.
pub fn client(roots: Option<&[CertificateDer<'static>]>) -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let mut config = match roots {
        Some(certs) => {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(certs.iter().cloned());
            builder.with_root_certificates(store).with_no_client_auth()
        }
        None => {
            let anybody = Arc::new(Anybody(provider));
            builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()
        }
    };
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// TLS on this connection; the handshake is made with the first word.
pub fn open(client: &Arc<ClientConfig>, sock: TcpStream, name: &str) -> io::Result<Tls> {
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let conn = ClientConnection::new(client.clone(), name).map_err(io::Error::other)?;
    sock.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(StreamOwned::new(conn, sock))
}

/// Believes everybody: for looking at self-signed certificates.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
