//! Stapling as a browser meets it: through the daemon's own handshakes, with openssl as the judge.
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod fake;
mod harness;

use edgemd::rules::{pem, record};
use fake::responder::{Responder, TestCa};
use harness::ca::{Ca, Knobs};
use harness::child::{Child, Port};
use harness::device::Device;
use harness::{SOON, until};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const A: &str = "a.example.org";

fn now() -> edgemd::words::time::Unix {
    edgemd::doors::clock::wall().expect("a clock")
}

/// Pebble, and the responder that its certificates name.
fn world() -> (Ca, Responder, Device) {
    let responder = Responder::new(TestCa::new("Nobody yet"), now);
    let ca = Ca::start(&Knobs { ocsp: responder.serve(), ..Knobs::default() });
    let (cert, key) = ca.issuing_pair();
    let cert = pem::decode_chain(cert.as_bytes()).expect("an intermediate").remove(0);
    responder.speaks_for(TestCa::of(cert, pem::decode_key(key.as_bytes()).expect("its key").to_vec()));
    let mut device = Device::new(&ca);
    device.set("MDPortMap", format!("http:- https:{}", ca.tls.number()));
    let root: String = ca.issuing_root().iter().map(|der| pem::encode("CERTIFICATE", der)).collect();
    device.folder.put("root.pem", &root);
    (ca, responder, device)
}

fn text(ca: &Ca, more: &str) -> String {
    let port = ca.tls.number();
    format!("{more}MDomain {A}\n<VirtualHost *:{port}>\nServerName {A}\n</VirtualHost>\n")
}

/// What openssl says of the handshake and of what is stapled to it.
fn shown(device: &Device, port: u16, more: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-servername", A, "-status"]);
    command.arg("-CAfile").arg(device.folder.join("root.pem")).args(more).stdin(Stdio::null());
    let output = harness::device::bounded(&mut command, SOON);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn is_stapled(said: &str) -> bool {
    let parts = ["OCSP Response Status: successful (0x0)", "Cert Status: good", "Verify return code: 0 (ok)"];
    parts.iter().all(|part| said.contains(part))
}

#[track_caller]
fn until_stapled(device: &Device, port: u16) {
    until("it is stapled", SOON, || is_stapled(&shown(device, port, &[])).then_some(()));
}

/// Whether openssl trusts the response in this record, for the leaf of this chain.
#[track_caller]
fn openssl_verifies(device: &Device, record: &Path, chain: &Path) {
    let stored = record::decode_staple(&std::fs::read(record).expect("a record")).expect("a response");
    let pems = std::fs::read_to_string(chain).expect("a chain");
    let certs = pem::decode_chain(pems.as_bytes()).expect("a chain");
    std::fs::write(device.folder.join("response.der"), &stored.der).expect("our own folder");
    for (name, der) in ["leaf.pem", "issuer.pem"].iter().zip(&certs) {
        device.folder.put(name, &pem::encode("CERTIFICATE", der));
    }
    let mut command = Command::new("openssl");
    command.args("ocsp -respin response.der -issuer issuer.pem -cert leaf.pem -CAfile root.pem".split(' '));
    let output = harness::device::bounded(command.current_dir(device.folder.path()), SOON);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Response verify OK") && said.contains("leaf.pem: good"), "{said}");
}

#[test]
fn md_801_001_md_801_005_on_off_and_over_a_restart() {
    let (ca, responder, mut device) = world();
    let port = ca.tls.number();
    device.start_with(&text(&ca, ""));
    assert_eq!(device.complete(A)["stapling"], false);
    let said = until("it is served", SOON, || {
        let said = shown(&device, port, &[]);
        said.contains("Verify return code: 0 (ok)").then_some(said)
    });
    assert!(said.contains("OCSP response: no response sent"), "{said}");
    assert_eq!(responder.asked(), 0);

    device.reload_with(&text(&ca, "MDStapling on\n"));
    until_stapled(&device, port);
    assert!(is_stapled(&shown(&device, port, &["-tls1_2"])));
    let md = device.md(A);
    assert_eq!((&md["stapling"], &md["cert"]["secp256r1"]["ocsp"]["status"]), (&true.into(), &"good".into()), "{md}");
    assert!(md["cert"]["secp256r1"]["ocsp"]["valid"]["until"].is_string(), "{md}");
    let record = device.folder.join(&format!("store/certs/{A}/secp256r1.ocsp"));
    openssl_verifies(&device, &record, &device.export(&format!("{A}.crt")));

    // A new certificate gets a new response.
    let said = device.run(&["renew", "--force", A]);
    assert_eq!(said.code, Some(0), "{said:?}");
    until_stapled(&device, port);
    assert_eq!(responder.asked(), 2);

    // What the store has is in the first handshake, and nobody is asked.
    let time = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified()).expect("a file");
    let before = time(&record);
    assert!(device.stop().success());
    responder.mood(|mood| mood.down = true);
    device.start();
    let said = shown(&device, port, &[]);
    assert!(is_stapled(&said), "{said}");
    assert_eq!((responder.asked(), time(&record)), (2, before));
    assert_eq!(harness::device::mode(&record), 0o600);

    device.reload_with(&text(&ca, "MDStapling off\n"));
    until("it is no longer stapled", SOON, || {
        shown(&device, port, &[]).contains("OCSP response: no response sent").then_some(())
    });
}

/// An MD with files of its own, and the responder of OpenSSL.
#[test]
fn md_801_007_static_files_and_openssls_own_responder() {
    let own = TestCa::new("Their own CA");
    let (ca, _, mut device) = world();
    let (tls, ocsp) = (ca.tls.number(), Port::reserve());
    let (chain, key) = own.issue(A, 0x1234, Some(&format!("http://127.0.0.1:{}", ocsp.number())));
    let folder = &device.folder;
    let pems: String = chain.iter().map(|der| pem::encode("CERTIFICATE", der)).collect();
    let cert = folder.put("own.crt", &pems);
    let key = folder.put("own.key", &pem::encode("PRIVATE KEY", &key));
    folder.put("root.pem", &pem::encode("CERTIFICATE", &own.der));
    folder.put("root.key", &pem::encode("PRIVATE KEY", own.pkcs8()));
    folder.put("index", &format!("V\t400101000000Z\t\t1234\tunknown\t/CN={A}\n"));
    let mut command = Command::new("openssl");
    command.args(["ocsp", "-port", &ocsp.number().to_string(), "-ndays", "7", "-index", "index"]);
    command.args("-CA root.pem -rsigner root.pem -rkey root.key".split(' ')).current_dir(folder.path());
    let mut responder = Child::start(folder, "responder", &mut command);
    until("the responder listens", SOON, || {
        assert!(responder.ended().is_none(), "{}", responder.log());
        responder.log().contains("waiting for OCSP client").then_some(())
    });

    let files = format!("MDCertificateFile {}\nMDCertificateKeyFile {}\n", cert.display(), key.display());
    device.start_with(&format!(
        "<MDomainSet {A}>\nMDStapling on\n{files}</MDomainSet>\n<VirtualHost *:{tls}>\nServerName {A}\n</VirtualHost>\n"
    ));
    until_stapled(&device, tls);
    let record = device.folder.join(&format!("store/certs/{A}/own-secp256r1.ocsp"));
    openssl_verifies(&device, &record, &cert);
}

/// A certificate that says must-staple is never shown without: the one before it stays until the response is there.
#[test]
fn must_staple_is_shown_with_a_staple() {
    let (ca, responder, mut device) = world();
    let port = ca.tls.number();
    device.start_with(&text(&ca, "MDStapling on\nMDMustStaple on\n"));
    until_stapled(&device, port);
    let serial = |said: &str| harness::cert::first_in(said).map(|facts| facts.serial);
    let first = serial(&shown(&device, port, &[]));
    let held = responder.hold();
    let said = device.run(&["renew", "--force", A]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let newer = Some(device.exported(A).serial);
    assert_ne!(newer, first);
    let said = shown(&device, port, &[]);
    assert!(is_stapled(&said) && serial(&said) == first, "{said}");
    drop(held);
    until("the newer one is shown", SOON, || {
        let said = shown(&device, port, &[]);
        assert!(is_stapled(&said), "{said}");
        (serial(&said) == newer).then_some(())
    });

    // If there is none to be had, it is shown all the same.
    responder.mood(|mood| mood.down = true);
    let said = device.run(&["renew", "--force", A]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let newest = Some(device.exported(A).serial);
    until("the newest one is shown", SOON, || (serial(&shown(&device, port, &[])) == newest).then_some(()));
}

/// A responder that takes the question and never answers keeps nobody from a handshake, and not us from ending.
#[test]
fn a_responder_that_hangs_holds_up_nobody() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let own = TestCa::new("Their own CA");
    let url = format!("http://{}", silent.local_addr().expect("it is bound"));
    let (ca, _, mut device) = world();
    let (chain, key) = own.issue(A, 7, Some(&url));
    let pems: String = chain.iter().map(|der| pem::encode("CERTIFICATE", der)).collect();
    let cert = device.folder.put("own.crt", &pems);
    let key = device.folder.put("own.key", &pem::encode("PRIVATE KEY", &key));
    device.folder.put("root.pem", &pem::encode("CERTIFICATE", &own.der));
    let files = format!("MDCertificateFile {}\nMDCertificateKeyFile {}\n", cert.display(), key.display());
    let tls = ca.tls.number();
    device.start_with(&format!(
        "<MDomainSet {A}>\nMDStapling on\n{files}</MDomainSet>\n<VirtualHost *:{tls}>\nServerName {A}\n</VirtualHost>\n"
    ));
    let _asked = silent.accept().expect("a question");
    let said = shown(&device, tls, &[]);
    assert!(said.contains("no response sent") && said.contains("Verify return code: 0 (ok)"), "{said}");
    assert_eq!(device.md(A)["cert"]["secp256r1"]["ocsp"], serde_json::json!({"status": "unknown"}));
    let begun = Instant::now();
    assert!(device.stop().success());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}
