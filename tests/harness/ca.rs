//! A CA of one's own: Pebble behind a counting tee, with a resolver that sends every name to this machine.

use super::cert;
use super::child::{Child, Port};
use super::device::bounded;
use super::machine;
use super::tee::Tee;
use super::{Folder, SOON, until};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How the CA behaves; the default is Pebble's own habit, without its pauses.
pub struct Knobs {
    /// How many of a hundred good nonces it refuses.
    pub nonce_reject: Option<u8>,
    /// For how many of a hundred names it remembers an authorization.
    pub authz_reuse: Option<u8>,
    /// Intermediates and root under which a leaf stands.
    pub chain_length: u8,
    /// Roots under which there are further chains.
    pub alternate_roots: u8,
    /// Seconds that it takes for a validation.
    pub sleep: Option<u8>,
    /// The value of Retry-After on a pending authorization and on an order in work.
    pub retry_after: [u8; 2],
    pub blocked: Vec<String>,
    /// Accounts need one of these (kid, key in base64url).
    pub bound: Vec<(String, String)>,
    /// The URL of an OCSP responder, which its certificates name.
    pub ocsp: String,
    /// Its profiles, each with the seconds of a life.
    pub profiles: Vec<(&'static str, u64)>,
    /// Names resolve to ::1 instead of 127.0.0.1.
    pub ipv6: bool,
    /// Debian 12's Pebble 2.4 instead of today's.
    pub debian_12: bool,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            nonce_reject: None,
            authz_reuse: None,
            chain_length: 1,
            alternate_roots: 0,
            sleep: None,
            retry_after: [1, 1],
            blocked: vec!["blocked-domain.example".into()],
            bound: Vec::new(),
            ocsp: String::new(),
            // Pebble throws dice among several when an order names none.
            profiles: vec![("default", 7_776_000)],
            ipv6: false,
            debian_12: false,
        }
    }
}

pub struct Ca {
    // In the order in which they are to go.
    tee: Tee,
    pebble: Child,
    _names: Resolver,
    dns: u16,
    /// Where its resolver is told what names say.
    zone: SocketAddr,
    /// Where the CA looks for http-01 answers, and for tls-alpn-01 ones.
    pub http: Port,
    pub tls: Port,
    here: SocketAddr,
    manage: SocketAddr,
    folder: Folder,
}

impl Ca {
    pub fn start(knobs: &Knobs) -> Self {
        let folder = Folder::new("ca");
        let (http, tls) = (Port::reserve(), Port::reserve());
        write_identity(&folder, &["localhost", "127.0.0.1", "::1", machine::HOST]);
        let mut names = Resolver::start(&folder, knobs, None);
        let dns = names.port(HERE);
        let zone = SocketAddr::from((MANAGE, names.port(MANAGE)));
        let mut pebble = pebble(&folder, knobs, dns, &http, &tls);
        let here = SocketAddr::from((HERE, pebble.port(HERE)));
        let manage = SocketAddr::from((MANAGE, pebble.port(MANAGE)));
        Self { tee: Tee::to(here), pebble, _names: names, dns, zone, http, tls, here, manage, folder }
    }

    /// The URL of its directory.
    pub fn directory(&self) -> String {
        self.directory_at(&HERE.to_string())
    }

    /// The same for whoever knows this machine by another address.
    pub fn directory_at(&self, host: &str) -> String {
        format!("https://{host}:{}/dir", self.tee.port())
    }

    /// Where it itself listens, without the tee.
    pub fn address(&self) -> SocketAddr {
        self.here
    }

    /// The trust root for talking to it, a PEM file.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root.pem")
    }

    /// Every request that has arrived, as `POST /order-plz`.
    pub fn requests(&self) -> Vec<String> {
        let log = self.pebble.log();
        let lines = log.lines().filter_map(|line| line.strip_suffix(" -> calling handler()"));
        // "Pebble 2026/11/24 03:41:27 POST /order-plz"
        lines.map(|line| line.splitn(4, ' ').nth(3).unwrap_or(line).to_owned()).collect()
    }

    /// How many TCP connections have been opened to it.
    pub fn connections(&self) -> usize {
        self.tee.count()
    }

    /// A command for dns-01 on this device, which writes down its calls, and the resolver's part of them.
    pub fn dns_command(&self, folder: &Folder) -> PathBuf {
        let post = format!("busybox wget -q -O /dev/null http://{}", self.zone);
        folder.script(
            "dns",
            &format!(
                "echo \"$@\" >>'{}'\ncase $1 in\n\
                 setup) {post}/set-txt --post-data \"{{\\\"host\\\":\\\"_acme-challenge.$2.\\\",\\\"value\\\":\\\"$3\\\"}}\" ;;\n\
                 teardown) {post}/clear-txt --post-data \"{{\\\"host\\\":\\\"_acme-challenge.$2.\\\"}}\" ;;\nesac",
                folder.join("dns.log").display()
            ),
        )
    }

    /// Somebody publishes a record, in a zone file's form: `name. IN TXT "value"`.
    pub fn publish(&self, record: &str) {
        let (host, value) = record.split_once(" IN TXT \"").expect("a record");
        let body = json!({"host": host, "value": value.trim_end_matches('"')}).to_string();
        let mut stream = TcpStream::connect(self.zone).expect("the resolver's management");
        let head = format!("POST /set-txt HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    }

    /// How many certificates it has issued.
    pub fn issued(&self) -> usize {
        self.pebble.log().matches("Issued certificate serial").count()
    }

    /// The serials of all of them in their order, as status shows them.
    pub fn serials(&self) -> Vec<String> {
        let log = self.pebble.log();
        let said = log.lines().filter_map(|line| line.split_once("Issued certificate serial ")?.1.split(' ').next());
        // It leaves out a leading zero, status only a byte of them.
        said.map(|serial| format!("{}{serial}", if serial.len() % 2 == 0 { "" } else { "0" }).to_ascii_uppercase())
            .collect()
    }

    /// How many accounts it knows.
    pub fn accounts(&self) -> usize {
        let log = self.pebble.log();
        let said =
            log.lines().rev().find_map(|line| line.split_once("There are now ")?.1.strip_suffix(" accounts in memory"));
        said.map_or(0, |count| count.parse().expect("a number"))
    }

    /// It starts anew and has forgotten everything.
    pub fn restart(&mut self, knobs: &Knobs) {
        self.tee.close();
        self.pebble.kill();
        self.pebble = pebble(&self.folder, knobs, self.dns, &self.http, &self.tls);
        self.here = SocketAddr::from((HERE, self.pebble.port(HERE)));
        self.manage = SocketAddr::from((MANAGE, self.pebble.port(MANAGE)));
        self.tee.reopen(self.here);
    }

    /// It can't be reached until [`Ca::back`].
    pub fn away(&mut self) {
        self.tee.close();
    }

    pub fn back(&mut self) {
        self.tee.reopen(self.here);
    }

    /// The root above the certificates that it issues.
    pub fn issuing_root(&self) -> Vec<CertificateDer<'static>> {
        self.root_above(0)
    }

    /// The root above the chain of this number; the CA's own is the first.
    pub fn root_above(&self, chain: u8) -> Vec<CertificateDer<'static>> {
        let pem = self.managed(&format!("/roots/{chain}"));
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().expect("a root")
    }

    /// What it says of a certificate with this serial: its status, and the reason where it is revoked.
    pub fn verdict(&self, serial: &str) -> (String, Option<u64>) {
        let text = self.managed(&format!("/cert-status-by-serial/{}", serial.to_ascii_lowercase()));
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why}: {text}"));
        (json["Status"].as_str().expect("a status").into(), json["Reason"].as_u64())
    }

    /// The certificate and the key (PEM) that it issues with.
    pub fn issuing_pair(&self) -> (String, String) {
        (self.managed("/intermediates/0"), self.managed("/intermediate-keys/0"))
    }

    fn managed(&self, path: &str) -> String {
        let answer = cert::get(self.manage, "localhost", path, None).expect("Pebble's management");
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).expect("a body")
    }

    /// From here on it wants this certificate (a PEM file, leaf first) to be renewed between these two moments, RFC 3339.
    pub fn wants_renewed(&self, chain: &Path, start: &str, end: &str, explanation: &str) {
        let leaf = cert::read_chain(chain).remove(0);
        let window = json!({"suggestedWindow": {"start": start, "end": end}, "explanationURL": explanation});
        let body = json!({"Certificate": pem("CERTIFICATE", &leaf), "ARIResponse": window.to_string()});
        let answer = cert::post(self.manage, "localhost", "/set-renewal-info/", &body.to_string());
        let answer = answer.expect("Pebble's management");
        assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    }

    pub fn log(&self) -> String {
        self.pebble.log()
    }

    /// Waits until it has been asked this.
    #[track_caller]
    pub fn hears(&self, request: &str) {
        until(&format!("the CA hears {request}"), SOON, || self.requests().iter().any(|r| r == request).then_some(()));
    }
}

impl Drop for Ca {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.pebble.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(60)..];
            eprintln!("--- the end of Pebble's log ({})\n{}", self.folder.path().display(), tail.join("\n"));
        }
    }
}

/// Each program's main listener, and its management on another loopback address: so both can be told port 0 and be
/// told apart.
const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const MANAGE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

pub struct Resolver {
    process: Child,
    /// Pebble asks by TCP, so that 0 will do; one that is older asks by UDP and needs the same number for both.
    _port: Option<Port>,
}

impl Resolver {
    /// At this port, or at any.
    pub fn start(folder: &Folder, knobs: &Knobs, at: Option<u16>) -> Self {
        let program = program("pebble-challtestsrv", knobs);
        let help = bounded(Command::new(&program).arg("-help"), SOON);
        let is_old = !String::from_utf8_lossy(&help.stderr).contains("-doh");
        let port = (is_old && at.is_none()).then(Port::reserve);
        let (four, six) = if knobs.ipv6 { ("", "::1") } else { ("127.0.0.1", "") };
        let mut command = Command::new(program);
        let number = at.or(port.as_ref().map(Port::number)).unwrap_or_default();
        command.args([if is_old { "-dns01" } else { "-dnsserver" }, &format!("{HERE}:{number}")]);
        command.args(["-management", &format!("{MANAGE}:0")]);
        command.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]);
        command.args(["-defaultIPv4", four, "-defaultIPv6", six]);
        if !is_old {
            command.args(["-doh", ""]);
        }
        Self { process: Child::start(folder, "names", &mut command), _port: port }
    }

    fn port(&mut self, address: Ipv4Addr) -> u16 {
        self.process.port(address)
    }
}

fn pebble(folder: &Folder, knobs: &Knobs, dns: u16, http: &Port, tls: &Port) -> Child {
    let keys: serde_json::Map<_, _> = knobs.bound.iter().map(|(kid, key)| (kid.clone(), json!(key))).collect();
    let profile = |secs: &u64| json!({"description": format!("{secs} seconds"), "validityPeriod": secs});
    let profiles: serde_json::Map<_, _> =
        knobs.profiles.iter().map(|(name, secs)| ((*name).to_owned(), profile(secs))).collect();
    let config = json!({"pebble": {
        "listenAddress": format!("{HERE}:0"),
        "managementListenAddress": format!("{MANAGE}:0"),
        "certificate": folder.join("pebble.pem"),
        "privateKey": folder.join("pebble.key"),
        "httpPort": http.number(),
        "tlsPort": tls.number(),
        "ocspResponderURL": knobs.ocsp,
        "caaIdentities": ["pebble.example"],
        "externalAccountBindingRequired": !knobs.bound.is_empty(),
        "externalAccountMACKeys": keys,
        "domainBlocklist": knobs.blocked,
        "retryAfter": {"authz": knobs.retry_after[0], "order": knobs.retry_after[1]},
        // Its management has no other key to show.
        "keyAlgorithm": if knobs.ocsp.is_empty() { "ecdsa" } else { "rsa" },
        "profiles": profiles,
    }});
    let config = folder.put("pebble.json", &config.to_string());
    let mut command = Command::new(program("pebble", knobs));
    command.arg("-config").arg(config).args(["-dnsserver", &format!("{HERE}:{dns}")]);
    command.env("PEBBLE_CHAIN_LENGTH", knobs.chain_length.to_string());
    command.env("PEBBLE_ALTERNATE_ROOTS", knobs.alternate_roots.to_string());
    match knobs.sleep {
        None => command.env("PEBBLE_VA_NOSLEEP", "1"),
        Some(secs) => command.env("PEBBLE_VA_SLEEPTIME", secs.to_string()),
    };
    if let Some(percent) = knobs.nonce_reject {
        command.env("PEBBLE_WFE_NONCEREJECT", percent.to_string());
    }
    if let Some(percent) = knobs.authz_reuse {
        command.env("PEBBLE_AUTHZREUSE", percent.to_string());
    }
    Child::start(folder, "pebble", &mut command)
}

/// `PEBBLE_BIN` (a folder), the one that `tests/setup/packages` has unpacked, or the machine's.
fn program(name: &str, knobs: &Knobs) -> PathBuf {
    if knobs.debian_12 {
        return cached("pebble-debian-12/usr/bin").join(name);
    }
    let unpacked = cached("pebble/usr/bin");
    let own = std::env::var_os("PEBBLE_BIN").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = own.into_iter().chain([unpacked]).chain(std::env::split_paths(&path));
    folders
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| panic!("there is no {name}; run tests/setup/packages test, or make test"))
}

/// Something that `tests/setup/packages` has fetched.
pub fn cached(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache").join(path)
}

/// The certificate that the CA itself shows, under a root made for this one run.
pub fn write_identity(folder: &Folder, names: &[&str]) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names are fine");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "edgemd test root");
    let key = KeyPair::generate().expect("a key");
    let root = params.self_signed(&key).expect("a root");
    let issuer = Issuer::new(params, key);
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("good names");
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().expect("a key");
    let leaf = params.signed_by(&key, &issuer).expect("a leaf");
    folder.put("root.pem", &pem("CERTIFICATE", root.der()));
    folder.put("pebble.pem", &pem("CERTIFICATE", leaf.der()));
    folder.put("pebble.key", &pem("PRIVATE KEY", &key.serialize_der()));
}

/// RFC 7468's form.
pub fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).expect("base64")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
