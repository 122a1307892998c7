//! What an order asks a real CA for, and how its names are proven, in the ways that a router's configuration can say.
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod harness;

use edgemd::rules::x509;
use edgemd::words::cert::KeyKind;
use edgemd::words::time::Unix;
use harness::ca::{Ca, Knobs};
use harness::cert;
use harness::device::{Device, mode};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

const A: &str = "a.example.org";

fn strict() -> Ca {
    Ca::start(&Knobs { nonce_reject: Some(0), authz_reuse: Some(0), ..Knobs::default() })
}

fn must_staple(device: &Device) -> bool {
    let chain = cert::read_chain(&device.export(&format!("{A}.crt")));
    x509::facts(&chain[0], KeyKind::P256, "", Unix::default()).expect("a certificate").must_staple
}

#[test]
fn md_800_001_002_must_staple_is_not_asked_for() {
    let ca = strict();
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}"));
    assert_eq!(device.complete(A)["must-staple"], false);
    assert!(!must_staple(&device));
    device.reload_with(&format!("MDMustStaple off\nMDomain {A}"));
    assert_eq!(device.complete(A)["must-staple"], false);
    assert_eq!(ca.issued(), 1);
}

#[test]
fn md_800_003_must_staple_on_and_off_again() {
    let ca = strict();
    let mut device = Device::new(&ca);
    device.start_with(&format!("<MDomainSet {A}>\nMDMustStaple on\n</MDomainSet>"));
    assert_eq!(device.complete(A)["must-staple"], true);
    assert!(must_staple(&device));
    device.stop();
    device.start();
    device.complete(A);
    assert_eq!(ca.issued(), 1, "what it has is in the record");
    device.reload_with(&format!("MDomain {A}"));
    harness::until("the wish is taken back", harness::LATER, || (ca.issued() == 2).then_some(()));
    device.complete(A);
    assert!(!must_staple(&device));
}

/// Port 80 belongs to another web server: the answers are files in its folder, and edgemd listens nowhere.
#[test]
fn a_web_server_that_owns_port_80_gives_the_answers() {
    let ca = strict();
    let mut device = Device::new(&ca);
    let root = device.folder.join("www");
    fs::create_dir(&root).expect("a folder");
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, ca.http.number())).expect("a reserved port");
    let served = root.clone();
    std::thread::spawn(move || serve(&listener, &served));
    device.set("MDPortMap", "http:- https:-");
    device.start_with(&format!("MDChallengeWebroot {}\nMDomain {A}", root.display()));
    device.complete(A);
    assert_eq!(device.exported(A).names, [A]);
    let folder = root.join(".well-known/acme-challenge");
    assert_eq!(fs::read_dir(&folder).expect("it was made").count(), 0, "withdrawn");
    assert_eq!((mode(&root.join(".well-known")), mode(&folder)), (0o755, 0o755));

    device.reload_with(&format!("MDChallengeWebroot {}\nMDomain {A} www.{A}", root.join("gone").display()));
    let md = device.errors(A, 1);
    assert_eq!(md["renewal"]["last"]["problem"], "challenge-setup-failure", "{md}");
    assert!(md["renewal"]["last"].to_string().contains("there is no such folder"), "{md}");
}

/// Files below a folder, and nothing else.
fn serve(listener: &TcpListener, root: &Path) {
    for mut client in listener.incoming().flatten() {
        let mut lines = BufReader::new(&client).lines().map_while(Result::ok);
        let target = lines.next().and_then(|line| line.split(' ').nth(1).map(str::to_owned)).unwrap_or_default();
        lines.find(String::is_empty);
        let answer = match fs::read_to_string(root.join(target.trim_start_matches('/'))) {
            Ok(text) => format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()),
            Err(_) => "HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(),
        };
        let _ = client.write_all(answer.as_bytes());
    }
}

/// Nobody listens where port 80 arrives; then somebody does.
#[test]
fn md_702_010_a_port_that_nobody_listens_on_and_the_right_one() {
    let ca = strict();
    let mut device = Device::new(&ca);
    let port = ca.http.number();
    device.set("MDPortMap", "http:99 https:-");
    device.start_with(&format!("Listen {port} http\nMDomain {A}"));
    let md = device.errors(A, 1);
    let last = md["renewal"]["last"].to_string();
    for part in [
        "None of the ACME challenge methods configured for this domain are suitable.",
        "http-01: port 80 arrives on port 99 (MDPortMap), where nobody listens for http (Listen)",
        "tls-alpn-01: ",
    ] {
        assert!(last.contains(part), "{last}");
    }
    assert_eq!((ca.accounts(), ca.requests().len()), (0, 0), "nothing is asked in vain");
    device.set("MDPortMap", format!("http:{port} https:-"));
    device.reload_with(&format!("MDCAChallenges http-01\nMDomain {A}"));
    device.complete(A);
}

/// The CA refuses one of the names, or two: the sentence says which.
#[test]
fn md_740_000_md_740_001_the_names_that_the_ca_refuses_are_said() {
    let bad = ["one-blocked.example", "two-blocked.example", "three-blocked.example"];
    let ca = Ca::start(&Knobs { blocked: bad.map(String::from).into(), nonce_reject: Some(0), ..Knobs::default() });
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A} {} www.{A}\nMDomain b.example.org {} {}", bad[0], bad[1], bad[2]));
    for (md, names) in [(A, &bad[..1]), ("b.example.org", &bad[1..])] {
        let status = device.errors(md, 1);
        let last = &status["renewal"]["last"];
        assert_eq!(last["problem"], "urn:ietf:params:acme:error:rejectedIdentifier", "{last}");
        let said = device.run(&["status", md]).out;
        assert!(names.iter().any(|name| said.contains(name)), "{said}");
        assert!(!said.contains("www."), "{said}");
    }
    assert_eq!(ca.issued(), 0);
}

/// Three intermediates under each of three roots: one chain is the CA's own, the others are to be asked for.
#[test]
fn the_chain_that_is_preferred() {
    let ca = Ca::start(&Knobs { chain_length: 3, alternate_roots: 2, nonce_reject: Some(0), ..Knobs::default() });
    let mut device = Device::new(&ca);
    let roots = [0, 1, 2].map(|number| x509::issuer(&ca.root_above(number)[0]));
    let top =
        |device: &Device| x509::issuer(cert::read_chain(&device.export(&format!("{A}.crt"))).last().expect("one"));
    let fetched = |ca: &Ca| ca.requests().iter().filter(|request| request.starts_with("POST /certZ/")).count();
    device.start_with(&format!("MDomain {A}"));
    device.complete(A);
    assert_eq!((top(&device), fetched(&ca)), (roots[0].clone(), 1));
    for (wish, root) in [(roots[2].as_str(), &roots[2]), ("No Such Root", &roots[0]), ("shortest", &roots[0])] {
        device.reload_with(&format!("MDPreferredChain \"{wish}\"\nMDomain {A}"));
        let said = device.run(&["renew", "--force", A]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!((&top(&device), device.exported(A).chain), (root, 4), "{wish}");
    }
    device.logs("MDPreferredChain: the CA has no chain under \"No Such Root\"; its own is used");
    assert_eq!(fetched(&ca), 1 + 3 + 3 + 3, "{:?}", ca.requests());
}
