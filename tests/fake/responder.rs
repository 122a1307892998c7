//! An OCSP responder (RFC 6960) with moods, and the CA that it speaks for: in memory, or behind a socket of its own.

use super::locked;
use edgemd::rules::der::{BITS, ENUMERATED, INTEGER, OCTETS, OID, SEQUENCE, only, take, tlv, whole};
use edgemd::words::time::{Span, Unix};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PublicKeyData, SerialNumber, SigningKey,
};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A CA of a test's own.
pub struct TestCa {
    pub der: Vec<u8>,
    params: CertificateParams,
    key: Vec<u8>,
}

impl TestCa {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { der, params, key: key.serialize_der() }
    }

    /// One that exists already, and issues what it issues elsewhere.
    pub fn of(der: Vec<u8>, key: Vec<u8>) -> Self {
        Self { der, params: CertificateParams::default(), key }
    }

    /// Its key, PKCS#8.
    pub fn pkcs8(&self) -> &[u8] {
        &self.key
    }

    pub fn issuer(&self) -> Issuer<'static, KeyPair> {
        Issuer::new(self.params.clone(), self.key())
    }

    fn key(&self) -> KeyPair {
        KeyPair::try_from(self.key.as_slice()).unwrap()
    }

    /// A chain for this name, and the key; `url` is that of its responder.
    pub fn issue(&self, name: &str, serial: u64, url: Option<&str>) -> (Vec<Vec<u8>>, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_string()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        params.custom_extensions.extend(url.map(access));
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&key, &self.issuer()).unwrap().der().to_vec();
        (vec![leaf, self.der.clone()], key.serialize_der())
    }

    /// Somebody who may speak for it (RFC 6960 §4.2.2.2), if the usage is the right one.
    fn delegate(&self, usage: ExtendedKeyUsagePurpose, until: i32) -> (Vec<u8>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Delegate");
        params.extended_key_usages = vec![usage];
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        (params.signed_by(&key, &self.issuer()).unwrap().der().to_vec(), key)
    }
}

/// Says where the responder is (RFC 5280 §4.2.2.1), behind something else.
pub fn access(url: &str) -> CustomExtension {
    let id_ad = [0x2b, 6, 1, 5, 5, 7, 0x30];
    let entry = |method: u8, url: &str| {
        let parts = [tlv(OID, &[&id_ad[..], &[method]].concat()), tlv(0x86, url.as_bytes())];
        tlv(SEQUENCE, &parts.concat())
    };
    let list = [entry(2, "http://ca.example/ca.crt"), entry(1, url)].concat();
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], tlv(SEQUENCE, &list))
}

#[derive(Clone)]
pub struct Responder(Arc<Mutex<Inner>>);

struct Inner {
    ca: TestCa,
    other: TestCa,
    now: Box<dyn Fn() -> Unix + Send>,
    mood: Mood,
    asked: Vec<Vec<u8>>,
}

/// What it does; `Mood::default()` is what one expects.
#[derive(Clone)]
pub struct Mood {
    pub says: Says,
    pub signer: Signer,
    /// Its name is said, not the hash of its key.
    pub by_name: bool,
    /// How long ago thisUpdate is, and how far behind it nextUpdate.
    pub age: Span,
    /// thisUpdate is still so far away.
    pub ahead: Span,
    pub life: Option<Span>,
    /// Serial numbers that are revoked.
    pub revoked: Vec<Vec<u8>>,
    pub other_serial: bool,
    pub damages_signature: bool,
    /// Status and Retry-After, in the place of an answer.
    pub http: Option<(u16, Option<Span>)>,
    pub down: bool,
    /// How long each answer takes.
    pub takes: Span,
}

impl Default for Mood {
    fn default() -> Self {
        Self {
            says: Says::What,
            signer: Signer::Ca,
            by_name: false,
            age: Span::hours(1),
            ahead: Span::ZERO,
            life: Some(Span::days(7)),
            revoked: vec![],
            other_serial: false,
            damages_signature: false,
            http: None,
            down: false,
            takes: Span::ZERO,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// Good or revoked.
    What,
    Unknown,
    /// No answer: an OCSPResponseStatus.
    Not(u8),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    Ca,
    Delegate,
    /// A server's certificate of the same CA.
    NoDelegate,
    OldDelegate,
    /// Another CA's, and that of one that only has the same name.
    OtherDelegate,
    NamesakeDelegate,
    Other,
}

impl Responder {
    pub fn new(ca: TestCa, now: impl Fn() -> Unix + Send + 'static) -> Self {
        let other = TestCa::new("Another CA");
        let inner = Inner { ca, other, now: Box::new(now), mood: Mood::default(), asked: vec![] };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// From now on it speaks for another CA.
    pub fn speaks_for(&self, ca: TestCa) {
        locked(&self.0).ca = ca;
    }

    pub fn mood(&self, change: impl FnOnce(&mut Mood)) {
        change(&mut locked(&self.0).mood);
    }

    /// A chain of its CA for this name, and the key.
    pub fn issue(&self, name: &str, serial: u64, url: &str) -> (Vec<Vec<u8>>, Vec<u8>) {
        locked(&self.0).ca.issue(name, serial, Some(url))
    }

    /// Whoever asks waits until this is dropped.
    pub fn hold(&self) -> impl Sized + '_ {
        locked(&self.0)
    }

    pub fn takes(&self) -> Span {
        locked(&self.0).mood.takes
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        locked(&self.0).asked.len()
    }

    /// It forgets what it was asked.
    pub fn forget(&self) {
        locked(&self.0).asked = vec![];
    }

    /// Status, Retry-After and body; or nothing at all.
    pub fn answer(&self, request: &[u8]) -> Option<(u16, Option<Span>, Vec<u8>)> {
        let mut inner = locked(&self.0);
        inner.asked.push(request.to_vec());
        match inner.mood.http {
            _ if inner.mood.down => None,
            Some((status, wait)) => Some((status, wait, vec![])),
            None => Some((200, None, inner.response(request))),
        }
    }

    /// Behind a socket on this machine; the result is its URL. It ends with the program.
    pub fn serve(&self) -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let url = format!("http://{}/ocsp", listener.local_addr().expect("it is bound"));
        let responder = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let responder = responder.clone();
                std::thread::spawn(move || hear(&stream, &responder));
            }
        });
        url
    }
}

impl Inner {
    fn response(&self, request: &[u8]) -> Vec<u8> {
        let mood = &self.mood;
        if let Says::Not(status) = mood.says {
            return tlv(SEQUENCE, &tlv(ENUMERATED, &[status]));
        }
        let (cert, key) = match mood.signer {
            Signer::Ca => (None, self.ca.key()),
            Signer::Other => (None, self.other.key()),
            Signer::Delegate => some(self.ca.delegate(ExtendedKeyUsagePurpose::OcspSigning, 2040)),
            Signer::NoDelegate => some(self.ca.delegate(ExtendedKeyUsagePurpose::ServerAuth, 2040)),
            Signer::OldDelegate => some(self.ca.delegate(ExtendedKeyUsagePurpose::OcspSigning, 2020)),
            Signer::OtherDelegate => some(self.other.delegate(ExtendedKeyUsagePurpose::OcspSigning, 2040)),
            Signer::NamesakeDelegate => {
                let namesake = TestCa { params: self.ca.params.clone(), ..TestCa::new("Test CA") };
                some(namesake.delegate(ExtendedKeyUsagePurpose::OcspSigning, 2040))
            }
        };
        let shown = cert.as_ref().unwrap_or(&self.ca.der);
        let signer = match mood.by_name {
            true => tlv(0xa1, X509Certificate::from_der(shown).unwrap().1.subject().as_raw()),
            false => tlv(0xa2, &tlv(OCTETS, digest(&SHA1_FOR_LEGACY_USE_ONLY, key.der_bytes()).as_ref())),
        };
        let now = Unix::from_secs((self.now)().secs());
        let single = self.single(request, now.minus(mood.age).plus(mood.ahead));
        let data = [signer, time(now), tlv(SEQUENCE, &tlv(SEQUENCE, &single))].concat();
        let data = tlv(SEQUENCE, &data);
        let mut signature = key.sign(&data).unwrap();
        if mood.damages_signature {
            *signature.last_mut().unwrap() ^= 1;
        }
        // ecdsa-with-SHA256, or sha256WithRSAEncryption with its NULL
        let algorithm = match key.algorithm() == &rcgen::PKCS_ECDSA_P256_SHA256 {
            true => tlv(OID, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]),
            false => [tlv(OID, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0b]), vec![5, 0]].concat(),
        };
        let algorithm = tlv(SEQUENCE, &algorithm);
        let mut basic = [data, algorithm, tlv(BITS, &[&[0], &signature[..]].concat())].concat();
        if let Some(cert) = cert {
            basic.extend(tlv(0xa0, &tlv(SEQUENCE, &cert)));
        }
        let bytes = [tlv(OID, &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1]), tlv(OCTETS, &tlv(SEQUENCE, &basic))].concat();
        tlv(SEQUENCE, &[tlv(ENUMERATED, &[0]), tlv(0xa0, &tlv(SEQUENCE, &bytes))].concat())
    }

    fn single(&self, request: &[u8], from: Unix) -> Vec<u8> {
        let id = (0..4).fold(request, |outer, _| only(outer, SEQUENCE).expect("a request of one certificate"));
        let (mut id, serial) = (id.to_vec(), serial(id));
        if self.mood.other_serial {
            *id.last_mut().unwrap() ^= 1;
        }
        let status = match self.mood.says {
            Says::Unknown => tlv(0x82, &[]),
            _ if self.mood.revoked.contains(&serial) => tlv(0xa1, &time(from.minus(Span::hours(1)))),
            _ => tlv(0x80, &[]),
        };
        let mut single = [id, status, time(from)].concat();
        if let Some(life) = self.mood.life {
            single.extend(tlv(0xa0, &time(from.plus(life))));
        }
        single
    }
}

fn some((cert, key): (Vec<u8>, KeyPair)) -> (Option<Vec<u8>>, KeyPair) {
    (Some(cert), key)
}

fn serial(id: &[u8]) -> Vec<u8> {
    let mut rest = only(id, SEQUENCE).expect("a CertID");
    for _ in 0..3 {
        whole(&mut rest).expect("an algorithm and two hashes");
    }
    take(&mut rest, INTEGER).expect("a serial number").to_vec()
}

/// A GeneralizedTime.
fn time(at: Unix) -> Vec<u8> {
    let at = OffsetDateTime::from_unix_timestamp(at.secs() as i64).unwrap();
    let date = format!("{:04}{:02}{:02}", at.year(), u8::from(at.month()), at.day());
    tlv(0x18, format!("{date}{:02}{:02}{:02}Z", at.hour(), at.minute(), at.second()).as_bytes())
}

/// One request of plain http, and the answer.
fn hear(mut stream: &TcpStream, responder: &Responder) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line).ok().filter(|count| *count > 2).is_some() {
        head.push_str(&std::mem::take(&mut line).to_ascii_lowercase());
    }
    assert!(head.starts_with("post /ocsp http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/ocsp-request\r\n"), "{head}");
    let length = head.split_once("\r\ncontent-length: ")?.1.split("\r\n").next()?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (status, _, der) = responder.answer(&body)?;
    let length = der.len();
    write!(
        stream,
        "HTTP/1.1 {status} -\r\nContent-Type: application/ocsp-response\r\nContent-Length: {length}\r\n\r\n"
    )
    .ok()?;
    stream.write_all(&der).ok()
}
