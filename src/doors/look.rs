//! A look at what a TLS server shows: one handshake, in which nobody is believed and nothing is asked for.

use crate::streams::tls;
use crate::words::fault::Trouble;
use crate::words::time::Span;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

pub trait Look {
    /// The certificate (DER) that the server at `place`, a host and a port, shows to those who ask it for `name`.
    fn leaf(&mut self, place: &str, name: &str) -> Result<Vec<u8>, Trouble>;
}

/// The net.
#[derive(Debug)]
pub struct SystemLook {
    connect: Span,
    whole: Span,
}

impl Default for SystemLook {
    fn default() -> Self {
        Self { connect: Span::secs(5), whole: Span::secs(10) }
    }
}

/// As much as the line to a CA has.
const STACK: usize = 256 << 10;

impl Look for SystemLook {
    /// In a thread of its own, because nothing else puts an end to a host name that nobody resolves.
    fn leaf(&mut self, place: &str, name: &str) -> Result<Vec<u8>, Trouble> {
        let (say, said) = channel();
        let (connect, whole) = (self.connect, self.whole);
        let (at, asked) = (place.to_string(), name.to_string());
        let look = move || drop(say.send(shake_hands(&at, &asked, connect, whole)));
        let thread = Builder::new().name("look".into()).stack_size(STACK).spawn(look);
        thread.map_err(|error| Trouble::new("starting a thread for a look at a server", error))?;
        let came = said.recv_timeout(whole.duration());
        let came = came.unwrap_or_else(|_| Err(format!("no certificate was shown within {whole}")));
        came.map_err(|why| Trouble::new(format!("looking at {place}"), why))
    }
}

fn shake_hands(place: &str, name: &str, connect: Span, whole: Span) -> Result<Vec<u8>, String> {
    let addresses = place.to_socket_addrs().map_err(|_| "this host is not known")?;
    let mut came = Err("this host has no address".into());
    for address in addresses {
        came = TcpStream::connect_timeout(&address, connect.duration()).map_err(|error| sentence(&error));
        if came.is_ok() {
            break;
        }
    }
    let mut stream = came?;
    let limited = stream.set_read_timeout(Some(whole.duration()));
    limited.and_then(|()| stream.set_write_timeout(Some(whole.duration()))).map_err(|error| sentence(&error))?;

    let name = ServerName::try_from(name.to_string()).map_err(|_| "there is no name to ask for")?;
    let shown = Arc::new(Shown {
        signatures: tls::provider().signature_verification_algorithms.supported_schemes(),
        leaf: Mutex::default(),
    });
    let config = ClientConfig::builder_with_provider(Arc::new(tls::provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(shown.clone())
        .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    let shaken = connection.complete_io(&mut stream);
    connection.send_close_notify();
    // The server may be gone already; what it has shown counts, whatever else it wanted of us.
    let _ = connection.write_tls(&mut stream);
    let leaf = shown.leaf.lock().unwrap_or_else(PoisonError::into_inner).take();
    leaf.ok_or_else(|| match shaken {
        Ok(_) => "no certificate was shown".into(),
        Err(error) => format!("no TLS is spoken there: {}", sentence(&error)),
    })
}

fn sentence(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "Connection refused".into(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "nobody answers".into(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => "the connection was closed".into(),
        _ => error.to_string(),
    }
}

/// Remembers the certificate that it is shown.
#[derive(Debug)]
struct Shown {
    signatures: Vec<SignatureScheme>,
    leaf: Mutex<Option<Vec<u8>>>,
}

/// It is compared with our own: whoever shows that one without its key deceives himself.
impl ServerCertVerifier for Shown {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.leaf.lock().unwrap_or_else(PoisonError::into_inner) = Some(leaf.to_vec());
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
        self.signatures.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::ring;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::server::WebPkiClientVerifier;
    use rustls::{RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener};
    use std::thread;

    struct Server {
        der: Vec<u8>,
        config: ServerConfig,
    }

    impl Server {
        fn new(versions: &[&'static SupportedProtocolVersion], wants_client: bool) -> Self {
            let made = rcgen::generate_simple_self_signed(["a.example".to_string()]).unwrap();
            let der = made.cert.der().clone();
            let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
            let provider = Arc::new(ring::default_provider());
            let builder =
                ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).unwrap();
            let builder = match wants_client {
                false => builder.with_no_client_auth(),
                true => {
                    let mut roots = RootCertStore::empty();
                    roots.add(der.clone()).unwrap();
                    let wants = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                    builder.with_client_cert_verifier(wants)
                }
            };
            Self { config: builder.with_single_cert(vec![der.clone()], key).unwrap(), der: der.to_vec() }
        }

        /// Answers one connection; the SNI that it was asked for.
        fn serve(self) -> (SocketAddr, thread::JoinHandle<Option<String>>) {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let served = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut connection = ServerConnection::new(Arc::new(self.config)).unwrap();
                let _ = connection.complete_io(&mut stream);
                connection.server_name().map(String::from)
            });
            (address, served)
        }
    }

    #[test]
    fn what_is_shown_is_seen() {
        use rustls::version::{TLS12, TLS13};
        for versions in [&[&TLS12][..], &[&TLS13], &[&TLS12, &TLS13]] {
            for wants_client in [false, true] {
                for (asked, sni) in [("a.example", Some("a.example")), ("192.0.2.1", None)] {
                    let server = Server::new(versions, wants_client);
                    let der = server.der.clone();
                    let (address, served) = server.serve();
                    assert_eq!(SystemLook::default().leaf(&address.to_string(), asked), Ok(der));
                    assert_eq!(served.join().unwrap().as_deref(), sni);
                }
            }
        }
    }

    fn fails(place: &str, look: &mut SystemLook) -> String {
        look.leaf(place, "a.example").unwrap_err().to_string()
    }

    #[test]
    fn whatever_is_there_it_comes_to_an_end() {
        let mut short = SystemLook { connect: Span::millis(200), whole: Span::millis(200) };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let place = address.to_string();
        // The system takes the connection, and nobody says anything; both who wait for that see it end at once.
        let said = fails(&place, &mut short);
        let ends = ["no certificate was shown within 200ms", "no TLS is spoken there: nobody answers"];
        assert!(ends.iter().any(|end| said == format!("looking at {place}: {end}")), "{said}");
        let plain = thread::spawn(move || {
            // The one that was given up is taken first.
            for answer in [&b""[..], b"HTTP/1.0 400 Bad Request\r\n\r\n", b""] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut hello = [0; 64];
                let _ = stream.read(&mut hello);
                let _ = stream.write_all(answer);
            }
        });
        let mut look = SystemLook::default();
        for _ in 0..2 {
            let said = fails(&place, &mut look);
            assert!(said.contains("no TLS is spoken there"), "{said}");
        }
        plain.join().unwrap();
        assert_eq!(fails(&place, &mut look), format!("looking at {place}: Connection refused"));
        // A machine without a net may be waiting for a name server all the while.
        let said = fails("nobody.invalid:443", &mut look);
        let ends = ["this host is not known", "no certificate was shown within 10s"];
        assert!(ends.iter().any(|end| said.ends_with(end)), "{said}");
    }
}
