//! What stands between a device and its CA and means ill: it ends TLS, so that it has every answer in its hand before
//! the device hears anything.

use super::Folder;
use super::ca::{Ca, pem};
use super::cert;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::net::sockopt::set_socket_linger;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};
use time::OffsetDateTime;

/// What the device hears of an answer.
pub enum Deed {
    Say(Vec<u8>),
    /// Up to here, and then the connection is reset.
    Reset(Vec<u8>),
    /// Up to here, and then it is closed.
    Close(Vec<u8>),
    /// Byte by byte, with this pause after each.
    Drip(Vec<u8>, Duration),
    /// This, and then that again and again until the device has had enough.
    Endless(Vec<u8>, Vec<u8>),
}

/// A question on its way: its number since the deeds were changed, and `POST /order-plz`.
pub struct Asked<'a> {
    pub number: usize,
    pub line: &'a str,
}

type Deeds = Box<dyn FnMut(&Asked, Vec<u8>) -> Deed + Send>;

/// Who it says it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Face {
    /// What the device trusts.
    Honest,
    Expired,
    NotYet,
    OtherName,
    /// The right name under a root that nobody knows.
    Stranger,
}

pub struct Chaos {
    shared: Arc<Shared>,
    port: u16,
    folder: Folder,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    upstream: SocketAddr,
    deeds: Mutex<(Deeds, usize)>,
    config: Mutex<Arc<ServerConfig>>,
    root: Issuer<'static, KeyPair>,
    stop: AtomicBool,
    connections: AtomicUsize,
}

impl Chaos {
    pub fn before(ca: &Ca) -> Self {
        let folder = Folder::new("chaos");
        let (root, der) = root();
        folder.put("root.pem", &pem("CERTIFICATE", &der));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("a bound socket").port();
        let shared = Arc::new(Shared {
            upstream: ca.address(),
            deeds: Mutex::new((honest(), 0)),
            config: Mutex::new(face(&root, Face::Honest)),
            root,
            stop: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
        });
        let inner = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if inner.stop.load(Ordering::SeqCst) {
                    return;
                }
                inner.connections.fetch_add(1, Ordering::SeqCst);
                let inner = Arc::clone(&inner);
                // Whoever is cut off in its midst has nothing to tell.
                thread::spawn(move || drop(inner.serve(client)));
            }
        });
        Self { shared, port, folder, thread: Some(thread) }
    }

    pub fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }

    pub fn root(&self) -> PathBuf {
        self.folder.join("root.pem")
    }

    /// From now on this is done to each answer.
    pub fn does(&self, deeds: impl FnMut(&Asked, Vec<u8>) -> Deed + Send + 'static) {
        *locked(&self.shared.deeds) = (Box::new(deeds), 0);
    }

    pub fn behaves(&self) {
        *locked(&self.shared.deeds) = (honest(), 0);
    }

    pub fn shows(&self, is: Face) {
        *locked(&self.shared.config) = face(&self.shared.root, is);
    }

    /// How many questions there have been since the deeds were changed.
    pub fn questions(&self) -> usize {
        locked(&self.shared.deeds).1
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn honest() -> Deeds {
    Box::new(|_, answer| Deed::Say(answer))
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn serve(&self, client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        client.set_read_timeout(Some(ENOUGH))?;
        let config = Arc::clone(&*locked(&self.config));
        let session = ServerConnection::new(config).map_err(io::Error::other)?;
        let mut stream = BufReader::new(StreamOwned::new(session, client));
        loop {
            let (line, question) = read_question(&mut stream)?;
            let answer = cert::exchange(self.upstream, "localhost", &question)?;
            let deed = {
                let (deeds, number) = &mut *locked(&self.deeds);
                *number += 1;
                deeds(&Asked { number: *number - 1, line: &line }, without_close(&answer))
            };
            let stream = stream.get_mut();
            match deed {
                Deed::Say(bytes) => stream.write_all(&bytes)?,
                Deed::Reset(bytes) => {
                    stream.write_all(&bytes)?;
                    stream.flush()?;
                    // The reset throws away what has not arrived yet, so that it is waited for.
                    thread::sleep(Duration::from_millis(2));
                    return set_socket_linger(&stream.sock, Some(Duration::ZERO)).map_err(Into::into);
                }
                Deed::Close(bytes) => return stream.write_all(&bytes),
                Deed::Drip(bytes, pause) => {
                    for byte in bytes {
                        stream.write_all(&[byte])?;
                        stream.flush()?;
                        thread::sleep(pause);
                    }
                }
                Deed::Endless(first, again) => {
                    stream.write_all(&first)?;
                    let end = Instant::now() + ENOUGH;
                    while Instant::now() < end && !self.stop.load(Ordering::SeqCst) {
                        stream.write_all(&again)?;
                    }
                }
            }
            stream.flush()?;
        }
    }
}

/// Longer than a device may take for one call.
const ENOUGH: Duration = Duration::from_secs(150);

/// Its line, and the whole of it for the CA, which is asked to close after its answer.
fn read_question(stream: &mut impl BufRead) -> io::Result<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let length = header(&head, "content-length").map_or(0, |value| value.parse().expect("a length"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let mut words = head.split(' ');
    let line = format!("{} {}", words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let question = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    Ok((line, [question.as_bytes(), &body].concat()))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (known, value) = line.split_once(':')?;
        known.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn without_close(answer: &[u8]) -> Vec<u8> {
    let (head, body) = parts(answer);
    [head.replace("Connection: close\r\n", "").as_bytes(), body].concat()
}

/// The head of an answer, its last empty line included, and the body.
pub fn parts(answer: &[u8]) -> (String, &[u8]) {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    let (head, body) = answer.split_at(end);
    (String::from_utf8_lossy(head).into_owned(), body)
}

fn root() -> (Issuer<'static, KeyPair>, Vec<u8>) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names are fine");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "edgemd chaos root");
    let key = KeyPair::generate().expect("a key");
    let der = params.self_signed(&key).expect("a root").der().to_vec();
    (Issuer::new(params, key), der)
}

fn face(issuer: &Issuer<'static, KeyPair>, is: Face) -> Arc<ServerConfig> {
    let name = if is == Face::OtherName { "elsewhere.example" } else { "127.0.0.1" };
    let mut params = CertificateParams::new([name.to_owned()]).expect("a good name");
    params.use_authority_key_identifier_extension = true;
    let (now, day) = (OffsetDateTime::from(SystemTime::now()), time::Duration::DAY);
    (params.not_before, params.not_after) = match is {
        Face::Expired => (now - day * 9, now - day),
        Face::NotYet => (now + day, now + day * 9),
        _ => (now - day, now + day),
    };
    let key = KeyPair::generate().expect("a key");
    let stranger = root().0;
    let leaf = params.signed_by(&key, if is == Face::Stranger { &stranger } else { issuer }).expect("a leaf");
    let key = pem("PRIVATE KEY", &key.serialize_der());
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring's versions")
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(leaf.der().to_vec())], key)
        .expect("a pair");
    Arc::new(config)
}
