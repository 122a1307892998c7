//! A real CA at its worst, and a device that is restarted, killed, reloaded and misconfigured meanwhile.
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod harness;

use harness::ca::{Ca, Knobs};
use harness::child::Port;
use harness::device::Device;
use harness::{LATER, until};
use rustix::process::Signal;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const A: &str = "a.example.org";
const B: &str = "b.example.org";

#[test]
fn half_of_all_nonces_are_refused() {
    let ca = Ca::start(&Knobs { nonce_reject: Some(50), authz_reuse: Some(0), ..Knobs::default() });
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}"));
    let md = device.complete(A);
    assert!(md["renewal"]["errors"].as_u64().unwrap_or(0) == 0, "at the first try: {md}");
    let requests = ca.requests();
    println!("half of all nonces refused: {} requests", requests.len());
    // Ten without refusals; a signed one then takes two on average, and sixty-four has a chance of one in billions.
    assert!(requests.len() <= 64, "{requests:?}");
    assert_eq!(ca.connections(), 1);
}

#[test]
fn authorizations_are_all_reused_or_never() {
    for (percent, proofs) in [(100, 1), (0, 2)] {
        let ca = Ca::start(&Knobs { nonce_reject: Some(0), authz_reuse: Some(percent), ..Knobs::default() });
        let mut device = Device::new(&ca);
        device.write(&format!("MDomain {A}"));
        for round in 1..=2 {
            let said = device.run(&["renew", "--force", A]);
            assert_eq!(said.code, Some(0), "{percent} %, round {round}: {said:?}");
            println!("authorizations reused to {percent} %, round {round}: {} requests", ca.requests().len());
        }
        let answered = ca.requests().iter().filter(|request| request.starts_with("POST /chalZ/")).count();
        assert_eq!((ca.issued(), answered), (2, proofs), "{percent} %: {:?}", ca.requests());
    }
}

#[test]
fn a_renewal_takes_the_requests_it_needs_on_one_connection() {
    let ca = Ca::start(&Knobs { nonce_reject: Some(0), authz_reuse: Some(0), ..Knobs::default() });
    let mut device = Device::new(&ca);
    device.write(&format!("MDomain {A}"));
    assert_eq!(device.run(&["once"]).code, Some(0));
    let (asked, connected) = (ca.requests().len(), ca.connections());
    assert_eq!(connected, 1);
    assert_eq!(device.run(&["renew", "--force", A]).code, Some(0));
    let requests = ca.requests().split_off(asked);
    println!("a renewal: {requests:?}");
    assert_eq!(ca.connections(), 2);
    let once =
        ["GET /dir", "HEAD /nonce-plz", "POST /order-plz", "POST /chalZ/", "POST /finalize-order/", "POST /certZ/"];
    for request in once {
        let count = requests.iter().filter(|r| *r == request).count();
        assert_eq!(count, 1, "{request} in {requests:?}");
    }
    // Besides: the authorization once and then until it is valid, the order until it is, and what the next test counts.
    let rest = requests.iter().filter(|r| !once.contains(&r.as_str()) && *r != QUESTION);
    assert!(rest.clone().all(|r| r == "POST /authZ/" || r == "POST /my-order/"), "{requests:?}");
}

#[test]
fn a_ca_is_asked_once_on_the_connection_of_a_renewal() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.write(&format!("MDomain {A}"));
    assert_eq!(device.run(&["once"]).code, Some(0));
    let asked = ca.requests().len();
    assert_eq!(device.run(&["renew", "--force", A]).code, Some(0));
    let requests = ca.requests().split_off(asked);
    assert_eq!(requests.iter().filter(|request| *request == QUESTION).count(), 1, "{requests:?}");
    assert_eq!(ca.connections(), 2, "one each: {requests:?}");
}

/// When it wants a certificate to be renewed (RFC 9773).
const QUESTION: &str = "GET /draft-ietf-acme-ari-03/renewalInfo/";

#[test]
fn a_hundred_restarts_order_nothing() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    let ear = device.ear(0);
    device.start_with(&format!("MDNotifyCmd {}\nMDomain {A} www.{A}\nMDomain {B}", ear.program.display()));
    device.complete(A);
    device.complete(B);
    let (asked, told) = (ca.requests().len(), ear.heard().len());
    for round in 0..100 {
        assert!(device.stop().success(), "stop {round}");
        device.start();
    }
    device.complete(A);
    device.complete(B);
    let requests = ca.requests().split_off(asked);
    let counts = |request: &str| requests.iter().filter(|asked| *asked == request).count();
    // A start may want to know how things stand, but not each of them; where it is ended at once the question is lost.
    assert!(counts(QUESTION) <= 4 && counts("GET /dir") + counts(QUESTION) == requests.len(), "{requests:?}");
    assert_eq!(ear.heard().len(), told);
}

#[test]
fn killed_in_the_middle_of_an_order() {
    let ca = Ca::start(&Knobs { sleep: Some(2), authz_reuse: Some(0), ..Knobs::default() });
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}"));
    ca.hears("POST /chalZ/");
    device.kill();
    device.start();
    device.complete(A);
    assert_eq!((ca.accounts(), ca.issued()), (1, 1), "the account was kept the moment it existed");
}

#[test]
fn stopped_in_the_middle_of_an_order() {
    let ca = Ca::start(&Knobs { sleep: Some(5), authz_reuse: Some(0), ..Knobs::default() });
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}"));
    ca.hears("POST /chalZ/");
    let begun = Instant::now();
    assert_eq!(device.stop().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn md_502_400_the_ca_is_away_and_comes_back() {
    let mut ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    ca.away();
    device.start_with(&format!("MDomain {A}"));
    let md = device.errors(A, 2);
    let said = md["renewal"]["last"].to_string();
    assert!(said.contains("Connection refused"), "{said}");
    assert_eq!(md["state"], 1);
    assert!(md["state-descr"].as_str().unwrap_or_default().contains("is missing"), "{md}");
    ca.back();
    device.complete(A);
    assert_eq!(device.exported(A).names, [A]);
}

#[test]
fn md_502_400_once_says_that_the_ca_is_away() {
    let mut ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    ca.away();
    device.write(&format!("MDomain {A}"));
    let said = device.run(&["once"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!((said.err + &said.out).contains("Connection refused"));
}

#[test]
fn md_502_001_the_terms_are_not_accepted() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.set("MDCertificateAgreement", "");
    device.start_with(&format!("MDomain {A}"));
    let said = device.errors(A, 1)["renewal"]["last"].to_string();
    assert!(said.contains("the CA requires you to accept the terms-of-service as specified in "), "{said}");
    assert_eq!(ca.accounts(), 0);
}

#[test]
fn a_refused_name_delays_no_other() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    let bad = "blocked-domain.example";
    device.start_with(&format!("MDomain {bad}\nMDomain {B}"));
    device.complete(B);
    let md = device.errors(bad, 1);
    let last = &md["renewal"]["last"];
    assert_eq!(last["problem"], "urn:ietf:params:acme:error:rejectedIdentifier", "{md}");
    assert!(last.to_string().contains(bad), "the bad one is named: {last}");
    let said = device.run(&["status"]);
    assert_eq!(said.code, Some(1), "somebody is needed: {said:?}");
}

/// A CA whose machine takes connections and then says nothing, beside a good one: the good one's MD is done at once, and
/// a stop waits for nobody.
#[test]
fn a_ca_that_hangs_delays_no_other() {
    let ca = Ca::start(&Knobs::default());
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = silent.local_addr().expect("a bound socket");
    let mut device = Device::new(&ca);
    let hanging = format!("<MDomainSet {A}>\nMDCertificateAuthority http://{address}/directory\n</MDomainSet>");
    device.start_with(&format!("{hanging}\nMDomain {B}"));
    let (mut call, _) = silent.accept().expect("it calls");
    let mut head = [0; 14];
    call.read_exact(&mut head).expect("a request");
    assert_eq!(&head, b"GET /directory");
    let begun = Instant::now();
    device.complete(B);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(device.run(&["status", A]).out.contains("being ordered now"), "it waits for its CA still");
    let begun = Instant::now();
    assert_eq!(device.stop().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn md_790_001_the_first_ca_is_good() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    let nobody = Port::reserve();
    device.set("MDCertificateAuthority", format!("{} http://127.0.0.1:{}/directory", ca.directory(), nobody.number()));
    device.start_with(&format!("MDRetryFailover 2\nMDomain {A}"));
    let md = device.complete(A);
    assert_eq!(md["ca"]["url"], ca.directory(), "{md}");
    assert_eq!(md["ca"]["urls"][1], format!("http://127.0.0.1:{}/directory", nobody.number()), "{md}");
}

#[test]
fn md_790_002_the_first_ca_is_bad_and_the_second_good() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    let nobody = Port::reserve();
    device.set("MDCertificateAuthority", format!("http://127.0.0.1:{}/directory {}", nobody.number(), ca.directory()));
    device.set("MDRetryDelay", "100ms");
    device.start_with(&format!("MDRetryFailover 2\nMDomain {A}"));
    let md = device.complete(A);
    assert_eq!(md["ca"]["url"], ca.directory(), "{md}");
    assert_eq!(device.log().matches("Connection refused").count(), 2, "{}", device.log());
    assert_eq!(ca.issued(), 1);
    // What the second one gave is no reason for anything.
    device.stop();
    device.start();
    device.complete(A);
    assert_eq!(ca.issued(), 1);
}

#[test]
fn md_750_001_the_ca_wants_a_binding() {
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let ca = Ca::start(&Knobs { bound: vec![("kid-1".into(), key.into())], ..Knobs::default() });
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}"));
    let md = device.errors(A, 1);
    assert_eq!(md["renewal"]["last"]["problem"], "urn:ietf:params:acme:error:externalAccountRequired", "{md}");
}

#[test]
fn names_that_have_ipv6_only() {
    let ca = Ca::start(&Knobs { ipv6: true, authz_reuse: Some(0), ..Knobs::default() });
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}"));
    device.complete(A);
    assert_eq!(device.exported(A).names, [A]);
}

#[test]
fn a_longer_chain_is_exported_whole() {
    let ca = Ca::start(&Knobs { chain_length: 3, ..Knobs::default() });
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}"));
    device.complete(A);
    assert_eq!(device.exported(A).chain, 4);
}

#[test]
fn a_faulty_configuration_changes_nothing() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}"));
    device.complete(A);
    let asked = ca.requests().len();
    let before = device.ask("/md-status");
    device.write(&format!("MDomain {A} {B}\nMDRenewWindwo 10d\nMDPrivateKeys RSA 1024"));
    device.signal(Signal::HUP);
    // Every fault is reported, with its place.
    device.logs("unknown directive \"MDRenewWindwo\"; did you mean \"MDRenewWindow\"?");
    device.logs("must be 2048 or higher in order to be considered safe.");
    // The daemon was reached and refused: a request that failed.
    let said = device.run(&["reload"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let said = device.run(&["check"]);
    assert_eq!(said.code, Some(78), "{said:?}");
    assert!((said.err + &said.out).contains("edgemd.conf:"), "a place");
    assert_eq!(device.ask("/md-status"), before);
    assert_eq!(ca.requests().len(), asked);

    // And a good one is in force again.
    device.write(&format!("MDomain {A}\nMDomain {B}"));
    device.signal(Signal::HUP);
    until("the new MD is known", LATER, || device.md(B)["name"].is_string().then_some(()));
    device.complete(B);
}

#[test]
fn a_faulty_configuration_is_exit_78() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.write("MDomain\nMDPrivateKeys\nNoSuchThing on");
    let said = device.fails_to_start();
    assert_eq!(said.code, Some(78), "{said:?}");
    assert_eq!(said.err.matches("edgemd.conf:").count(), 3, "all of them: {}", said.err);
    assert!(!device.folder.join("store").exists(), "nothing is touched");
}

#[test]
fn a_taken_port_is_exit_69() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.write(&format!("MDomain {A}"));
    let port = ca.http.number();
    let _taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a reserved port");
    let said = device.fails_to_start();
    assert_eq!(said.code, Some(69), "{said:?}");
    assert!(said.err.contains(&port.to_string()), "which one: {}", said.err);
}

#[test]
fn a_second_daemon_on_the_store_is_refused() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}"));
    device.complete(A);
    let other = Port::reserve();
    device.set("MDPortMap", format!("http:{} https:-", other.number()));
    let socket = device.folder.join("other.sock").display().to_string();
    device.set("MDControlSocket", socket);
    device.write(&format!("MDomain {A}"));
    let said = device.fails_to_start();
    assert_eq!(said.code, Some(69), "{said:?}");
    assert!(said.err.contains(&device.pid().to_string()), "by whom: {}", said.err);
}

#[test]
fn a_store_of_garbage_is_set_aside() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}\nMDomain {B}"));
    device.complete(A);
    device.complete(B);
    let kept = device.exported(B).serial;
    assert!(device.stop().success());
    for line in harness::listing(&device.folder.join("store")).lines() {
        let path = line.split_whitespace().next().expect("a path");
        if path.contains(A) && std::fs::metadata(path).expect("it was listed").is_file() {
            std::fs::write(path, "garbage").expect("a file of ours");
        }
    }
    device.start();
    device.complete(A);
    device.complete(B);
    assert_eq!(ca.issued(), 3, "what can't be read is not held");
    assert_eq!(device.exported(B).serial, kept);
}

#[test]
fn the_control_socket_speaks_http() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}"));
    device.complete(A);
    assert_eq!(harness::device::mode(&device.folder.join("control.sock")), 0o660);
    let (head, all) = device.ask("/md-status");
    assert!(head.starts_with("HTTP/1.0 200"), "{head}");
    assert_eq!(all, device.status());
    let (head, one) = device.ask(&format!("/md-status/{A}"));
    assert!(head.starts_with("HTTP/1.0 200"), "{head}");
    assert_eq!(one["name"], A, "{one}");
    assert!(device.ask("/md-status/nobody.example.org").0.starts_with("HTTP/1.0 404"));
    assert!(device.ask("/").0.starts_with("HTTP/1.0 404"));
}

#[test]
fn a_hook_that_hangs_is_ended_and_still_owed() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    let pids = device.folder.join("pids");
    // With a child of its own, which has to go as well.
    let hang = device.folder.script("hang", &format!("sleep 600 & echo $$ $! >>'{}'; wait", pids.display()));
    device.start_with(&format!("MDHookTimeout 1s\nMDNotifyCmd {}\nMDomain {A}", hang.display()));
    let md = device.errors(A, 1);
    assert_eq!(md["renewal"]["last"]["problem"], "urn:org:apache:httpd:log:AH10108:", "{md}");
    let text = std::fs::read_to_string(&pids).expect("it was called");
    let first = text.lines().next().expect("a line");
    for pid in first.split(' ') {
        until("the hook's processes are gone", LATER, || dead(pid).then_some(()));
    }
    // And a stop does not wait for the next one.
    until("the hook is called again", LATER, || {
        let text = std::fs::read_to_string(&pids).unwrap_or_default();
        (text.lines().count() > 1).then_some(())
    });
    let begun = Instant::now();
    assert_eq!(device.stop().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let text = std::fs::read_to_string(&pids).expect("it was called");
    for pid in text.split_whitespace() {
        until("nothing of the hooks is left", LATER, || dead(pid).then_some(()));
    }
}

/// Gone, or waiting for whoever has inherited it to look.
fn dead(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with(['Z', 'X']) || rest.is_empty())
}

#[test]
fn a_head_that_does_not_come_is_408() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}"));
    let begun = Instant::now();
    let answer = ask(ca.http.number(), &format!("GET / HTTP/1.1\r\nHost: {A}\r\n"));
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer:?}");
    assert!(begun.elapsed() > Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[test]
fn an_md_that_does_not_exist_is_not_renewed() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.write(&format!("MDomain {A}"));
    assert_eq!(device.run(&["renew", "nobody.example.org"]).code, Some(1), "by itself");
    device.start();
    device.complete(A);
    assert_eq!(device.run(&["renew", "nobody.example.org"]).code, Some(1), "through the daemon");
    assert_eq!(ca.issued(), 1);
}

/// The table of answers on port 80, while an answer is pending. The CA's first look is stopped at a gate in front of
/// the daemon, so that the token is known and stays pending until the table is through.
#[test]
fn port_80_while_an_answer_is_pending() {
    let ca = Ca::start(&Knobs { authz_reuse: Some(0), ..Knobs::default() });
    let mut device = Device::new(&ca);
    let own = Port::reserve();
    let port = own.number();
    device.set("MDPortMap", format!("http:{port} https:-"));
    let gate = TcpListener::bind((Ipv4Addr::LOCALHOST, ca.http.number())).expect("the CA's idea of port 80");
    let back_end = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port for the back end");
    let back = back_end.local_addr().expect("a bound socket");
    std::thread::spawn(move || serve_back_end(&back_end));
    let host = format!("<VirtualHost *:{port}>\nServerName {A}\nProxyPass / http://{back}/\n</VirtualHost>");
    let other =
        format!("<VirtualHost *:{port}>\nServerName other.example.org\nProxyPass / http://{back}/\n</VirtualHost>");
    device.start_with(&format!("MDomain {A}\n{host}\n{other}"));

    let (mut waiting, _) = gate.accept().expect("the CA comes");
    let mut first = String::new();
    BufReader::new(&waiting).read_line(&mut first).expect("a request");
    let target = first.split(' ').nth(1).expect("a target").to_owned();
    assert!(target.starts_with(PREFIX), "{first}");
    the_table(port, &target);

    // Now the CA may look, as often as it likes.
    let answer = ask(port, &format!("GET {target} HTTP/1.1\r\nHost: {A}\r\nConnection: close\r\n\r\n"));
    waiting.write_all(answer.as_bytes()).expect("the CA waits");
    drop(waiting);
    std::thread::spawn(move || {
        for mut client in gate.incoming().flatten() {
            let answer = ask(port, &format!("GET {target} HTTP/1.1\r\nHost: {A}\r\nConnection: close\r\n\r\n"));
            let _ = BufReader::new(&client).read_line(&mut String::new());
            let _ = client.write_all(answer.as_bytes());
        }
    });
    device.complete(A);
}

const PREFIX: &str = "/.well-known/acme-challenge/";

fn the_table(port: u16, target: &str) {
    let token = target.strip_prefix(PREFIX).expect("a challenge");
    for host in [A.to_owned(), A.to_uppercase(), format!("{A}:80"), "other.example.org".into(), "192.0.2.1".into()] {
        let answer = ask(port, &format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.1 200"), "Host {host}: {answer}");
        assert!(body.starts_with(&format!("{token}.")) && body.len() == token.len() + 44, "no newline: {body:?}");
        let head = head.to_lowercase();
        assert!(head.contains("content-type: application/octet-stream"), "{head}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    }
    let long = "a".repeat(129);
    let huge = "x".repeat(9000);
    let rows = [
        (format!("GET {target} HTTP/1.0\r\n"), "200"),
        (format!("HEAD {target} HTTP/1.1\r\nHost: {A}\r\n"), "200"),
        (format!("POST {target} HTTP/1.1\r\nHost: {A}\r\nContent-Length: 0\r\n"), "405"),
        (format!("GET {PREFIX}wrong HTTP/1.1\r\nHost: {A}\r\n"), "404"),
        (format!("GET {target}x HTTP/1.1\r\nHost: {A}\r\n"), "404"),
        (format!("GET {PREFIX} HTTP/1.1\r\nHost: {A}\r\n"), "404"),
        (format!("GET {PREFIX}a/b HTTP/1.1\r\nHost: {A}\r\n"), "404"),
        (format!("GET {PREFIX}{long} HTTP/1.1\r\nHost: {A}\r\n"), "404"),
        (format!("GET {PREFIX}a%20b HTTP/1.1\r\nHost: {A}\r\n"), "404"),
        // The other host is no MD: its challenges are its own, answered by its back end.
        (format!("GET {PREFIX}wrong HTTP/1.1\r\nHost: other.example.org\r\n"), "200 back end"),
        (format!("GET / HTTP/1.1\r\nHost: {A}\r\n"), "200 back end"),
        // As in Apache, the first host answers for names that nobody claims.
        ("GET / HTTP/1.1\r\nHost: nobody.example.org\r\n".into(), "200 back end"),
        (format!("GET / HTTP/1.1\r\nHost: {A}\r\nX: {huge}\r\n"), "431"),
        ("GET\r\n".into(), "400"),
    ];
    for (request, expected) in rows {
        let connection = if request.contains("HTTP/1.") { "Connection: close\r\n" } else { "" };
        let answer = ask(port, &format!("{request}{connection}\r\n"));
        let status = answer.split(' ').nth(1).unwrap_or_default();
        let (code, back_end) = expected.split_once(' ').unwrap_or((expected, ""));
        let shown: String = request.chars().take(120).collect();
        assert_eq!(status, code, "{shown}: {answer}");
        assert_eq!(answer.contains("from the back end"), !back_end.is_empty(), "{shown}: {answer}");
        if request.starts_with("HEAD") {
            assert!(answer.ends_with("\r\n\r\n"), "no body: {answer}");
        }
        if code == "405" {
            assert!(answer.to_lowercase().contains("\r\nallow: "), "{answer}");
        }
    }
    let mut six = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).expect("IPv6, too");
    write!(six, "GET {target} HTTP/1.1\r\nHost: {A}\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    six.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Sends bytes to the daemon's port and returns all that comes back.
fn ask(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("edgemd listens");
    // A server that has seen enough may close before it has read everything.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn serve_back_end(listener: &TcpListener) {
    for mut client in listener.incoming().flatten() {
        let head = BufReader::new(&client).lines().map_while(Result::ok).find(String::is_empty);
        let text = "from the back end";
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len());
        let _ = head.map(|_| client.write_all(answer.as_bytes()));
    }
}
