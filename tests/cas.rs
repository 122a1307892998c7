//! CAs of another make than today's Pebble: first issuance, renewal and refusal against each, by http-01 and by
//! tls-alpn-01. Those that look at ports 80 and 443 live with their device in a network of the test's own.
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod harness;

use harness::ca::{Ca, Knobs, Resolver, cached};
use harness::cert;
use harness::child::Child;
use harness::device::Device;
use harness::{Folder, LATER, SOON, net, until};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const A: &str = "a.example.org";
const B: &str = "b.example.org";
const NAMES: &str = "a.example.org b.example.org ca.test";

/// A CA in this network, gone with its value.
struct Make {
    _program: Child,
    _names: Option<Resolver>,
    folder: Folder,
    directory: &'static str,
    root: &'static str,
}

impl Make {
    /// Caddy's `acme_server`: no `meta`, no ARI, twelve hours backdated by a minute.
    fn caddy() -> Self {
        let folder = Folder::new("caddy");
        let config = format!(
            "{{\nadmin off\nskip_install_trust\nauto_https disable_redirects\nstorage file_system {}\n}}\n\
             https://ca.test:9443 {{\ntls internal\nacme_server\n}}\n",
            folder.join("store").display()
        );
        let config = folder.put("Caddyfile", &config);
        let mut command = Command::new("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(config).env("HOME", folder.path());
        let program = Child::start(&folder, "caddy", &mut command);
        let (directory, root) = ("https://ca.test:9443/acme/local/directory", "store/pki/authorities/local/root.crt");
        Self { _program: program, _names: None, folder, directory, root }.ready(9443)
    }

    /// acme2certifier before openssl: a random key in the directory, and no account without a contact.
    fn acme2certifier() -> Self {
        let folder = Folder::new("acme2certifier");
        let text = "[DEFAULT]\ndebug: False\n[Nonce]\n[Certificate]\n[Order]\n\
                    [Challenge]\nhttp01_block_private_ips: False\n\
                    [CAhandler]\nhandler_module: acme2certifier.cahandlers.openssl_ca_handler\n\
                    issuing_ca_key: HERE/issuer.key\nissuing_ca_cert: HERE/issuer.pem\nissuing_ca_crl: HERE/crl.pem\ncert_validity_days: 7\n\
                    cert_save_path: HERE/issued\nca_cert_chain_list: [\"HERE/issuer.pem\"]\n\
                    [DBhandler]\nhandler: wsgi\ndbfile: HERE/db\n";
        std::fs::create_dir(folder.join("issued")).expect("a folder in our own");
        let config = folder.put("acme_srv.cfg", &text.replace("HERE", &folder.path().display().to_string()));
        let mut command = gunicorn(&folder, "acme2certifier.share.acme2certifier_wsgi:application");
        command.env("ACME_SRV_CONFIGFILE", config);
        let program = Child::start(&folder, "acme2certifier", &mut command);
        Self::behind_gunicorn(program, folder)
    }

    /// Serles before openssl: it looks at a challenge while it is being told of it.
    fn serles() -> Self {
        let folder = Folder::new("serles");
        let here = folder.path().display().to_string();
        let text = "[serles]\nbackend = backend:Backend\ndatabase = sqlite:///HERE/db\n\
                    subjectNameTemplate = {SAN[0]}\nallowIpIdentifiers = true\n";
        let config = folder.put("config.ini", &text.replace("HERE", &here));
        folder.put("backend.py", &BACKEND.replace("HERE", &here));
        let mut command = gunicorn(&folder, "serles:create_app()");
        command.env("CONFIG", config).env("PYTHONPATH", folder.path());
        let program = Child::start(&folder, "serles", &mut command);
        Self::behind_gunicorn(program, folder)
    }

    fn behind_gunicorn(program: Child, folder: Folder) -> Self {
        let names = Some(Resolver::start(&folder, &Knobs::default(), Some(53)));
        let directory = "https://ca.test:9443/directory";
        Self { _program: program, _names: names, folder, directory, root: "root.pem" }.ready(9443)
    }

    #[track_caller]
    fn ready(self, port: u16) -> Self {
        until("the CA is there", LATER, || {
            let up = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
            (up && self.root().is_file()).then_some(())
        });
        self
    }

    fn root(&self) -> PathBuf {
        self.folder.join(self.root)
    }

    fn device(&self) -> Device {
        Device::with(self.directory.into(), &self.root())
    }
}

/// Its own would leave the names out.
const BACKEND: &str = r#"
import subprocess
class Backend:
    def __init__(self, config): pass
    def sign(self, csr, subject, names, email):
        command = "openssl x509 -req -copy_extensions copy -days 7 -CA HERE/issuer.pem -CAkey HERE/issuer.key"
        said = subprocess.run(command.split(), input=csr, stdout=subprocess.PIPE, check=True)
        return (said.stdout + open("HERE/issuer.pem", "rb").read()).decode(), None
"#;

fn gunicorn(folder: &Folder, application: &str) -> Command {
    harness::ca::write_identity(folder, &["ca.test"]);
    let steps =
        "openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=Issuer -keyout issuer.key -out issuer.pem";
    let mut openssl = Command::new("openssl");
    openssl.args(steps.split(' ').skip(1)).current_dir(folder.path());
    assert!(harness::device::bounded(&mut openssl, SOON).status.success());
    let mut command = Command::new(cached(PYTHON).join("gunicorn"));
    command.args(["-b", "127.0.0.1:9443", "--threads", "4", "--certfile", "pebble.pem", "--keyfile", "pebble.key"]);
    command.arg(application).current_dir(folder.path());
    command
}

/// What the device itself serves for a name.
fn shown(name: &str) -> Option<cert::Facts> {
    cert::served(SocketAddr::from((Ipv4Addr::LOCALHOST, 443)), name, None).ok()
}

/// Both challenges, each by a device of its own that has nothing else; then a renewal that comes by itself.
fn issues_and_renews(make: &Make) {
    let mut device = make.device();
    device.set("MDPortMap", "http:80 https:-");
    device.start_with(&format!("MDCAChallenges http-01\nMDomain {A} {B}"));
    device.complete(A);
    let first = device.exported(A);
    assert_eq!(first.names, [A, B]);
    let left = first.until - now();
    println!("{}: {} s of life, a chain of {}", make.directory, first.until - first.from, first.chain);
    let forced = device.run(&["renew", "--force", A]);
    assert_eq!(forced.code, Some(0), "{forced:?}");
    assert_ne!(device.exported(A).serial, first.serial);
    assert_eq!(device.stop().code(), Some(0));

    let mut device = make.device();
    device.set("MDPortMap", "http:- https:443");
    // Its life may begin before its issuance.
    let window = left - 3;
    let host = format!("<VirtualHost *:443>\nServerName {B}\n</VirtualHost>");
    let text = format!("MDCAChallenges tls-alpn-01\nMDRenewWindow {window}s\nMDomain {B}\n{host}");
    device.start_with(&text);
    let first = until("it has the first", LATER, || shown(B).filter(|seen| seen.chain > 1).map(|seen| seen.serial));
    let second = until("it is renewed in its window", LATER, || {
        shown(B).map(|seen| seen.serial).filter(|serial| *serial != first)
    });
    println!("{}: {first} was renewed by {second}", make.directory);
    assert!(!device.log().contains("WARN"), "{}", device.log());
    assert_eq!(device.stop().code(), Some(0));

    // What arrives on port 80 is not this device's: the CA says no, and the next order tries the other type.
    let mut device = make.device();
    device.set("MDPortMap", "http:8080 https:443");
    device.start_with(&format!("MDCAChallenges http-01 tls-alpn-01\nMDomain {A}\n{host}"));
    let last = device.errors(A, 1)["renewal"]["last"].clone();
    println!("{}: {last}", make.directory);
    device.complete(A);
    let warnings = device.log().lines().filter(|line| line.starts_with("WARN")).count();
    assert_eq!(warnings, 1, "{}", device.log());
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    since.as_secs().try_into().expect("a clock that is right")
}

#[test]
fn caddy_issues_and_renews() {
    if net::inside("caddy_issues_and_renews", NAMES) {
        issues_and_renews(&Make::caddy());
    }
}

/// An address by either type, another kind of key, and an account that changes, ends and begins again.
#[test]
fn caddy_does_what_is_rarely_asked() {
    if !net::inside("caddy_does_what_is_rarely_asked", NAMES) {
        return;
    }
    let make = Make::caddy();
    let mut device = make.device();
    let host = "<VirtualHost *:443>\nServerName 127.0.0.1\n</VirtualHost>";
    for how in ["http-01", "tls-alpn-01"] {
        let text = format!("MDCAChallenges {how}\nMDPrivateKeys RSA\nMDomain 127.0.0.1\n{host}");
        device.write(&text);
        let said = device.run(&["renew", "--force", "127.0.0.1"]);
        assert_eq!(said.code, Some(0), "{how}: {said:?}");
        println!("{how}: {:?}", device.exported("127.0.0.1"));
    }
    device.set("MDContactEmail", "other@example.org");
    device.write("MDomain 127.0.0.1\n");
    let said = device.run(&["renew", "--force", "127.0.0.1"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let said = device.run(&["account", "deactivate", make.directory]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let said = device.run(&["renew", "--force", "127.0.0.1"]);
    assert_eq!(said.code, Some(0), "{said:?}");
}

/// Where programs in Python are, on a machine that has them.
const PYTHON: &str = "cas/bin";

/// The same for one of these.
fn with_python(test: &str, check: fn(&Make), make: fn() -> Make) {
    if !cached(PYTHON).is_dir() {
        net::skipped(test, "make test-cas fetches that CA");
    } else if net::inside(test, NAMES) {
        check(&make());
    }
}

/// Terms of service, a contact that is wanted: a sentence of the CA's own, and no account made.
#[test]
fn acme2certifier_wants_a_contact() {
    with_python(
        "acme2certifier_wants_a_contact",
        |make| {
            let mut device = make.device();
            device.set("MDContactEmail", "");
            device.start_with(&format!("MDomain {A}"));
            let last = device.errors(A, 1)["renewal"]["last"].clone();
            println!("{}: {last}", make.directory);
            assert!(last["problem"].as_str().is_some_and(|problem| problem.contains("error:")), "{last}");
            device.set("MDContactEmail", "admin@example.org");
            device.reload_with(&format!("MDomain {A}"));
            device.complete(A);
        },
        Make::acme2certifier,
    );
}

#[test]
fn acme2certifier_issues_and_renews() {
    with_python("acme2certifier_issues_and_renews", issues_and_renews, Make::acme2certifier);
}

#[test]
fn serles_issues_and_renews() {
    with_python("serles_issues_and_renews", issues_and_renews, Make::serles);
}

/// Pebble before ARI, profiles and dns-persist-01; it refuses nonces and remembers authorizations in its own way.
#[test]
fn debian_12_s_pebble_issues_and_renews() {
    if !cached("pebble-debian-12").is_dir() {
        return net::skipped("debian_12_s_pebble_issues_and_renews", "tests/setup/packages test fetches it");
    }
    let ca = Ca::start(&Knobs { debian_12: true, ..Knobs::default() });
    let mut device = Device::new(&ca);
    device.set("MDPortMap", format!("http:{} https:{}", ca.http.number(), ca.tls.number()));
    let host = format!("<VirtualHost *:{}>\nServerName {B}\n</VirtualHost>", ca.tls.number());
    let proving = |how: &str, name: &str| format!("<MDomainSet {name}>\nMDCAChallenges {how}\n</MDomainSet>\n");
    device.start_with(&format!("{}{}{host}", proving("http-01", A), proving("tls-alpn-01", B)));
    for name in [A, B] {
        device.complete(name);
        let first = device.exported(name).serial;
        let said = device.run(&["renew", "--force", name]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_ne!(device.exported(name).serial, first);
    }
    assert!(!device.log().contains("WARN"), "{}", device.log());
}
