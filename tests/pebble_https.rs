//! The https side against a real CA: tls-alpn-01, the certificate in the next handshake, the fallback before it.
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod harness;

use harness::ca::{Ca, Knobs};
use harness::cert::{self, Facts};
use harness::device::{Device, mode};
use harness::{SOON, until};
use std::process::{Command, Stdio};

const A: &str = "a.example.org";
const B: &str = "b.example.org";

/// A device that is reached on 443 alone.
fn device(ca: &Ca) -> Device {
    let mut device = Device::new(ca);
    device.set("MDPortMap", format!("http:- https:{}", ca.tls.number()));
    device
}

/// A TLS virtual host of this name.
fn host(ca: &Ca, names: &str) -> String {
    let mut names = names.split(' ');
    let first = names.next().expect("a name");
    let aliases: String = names.map(|name| format!("ServerAlias {name}\n")).collect();
    format!("<VirtualHost *:{}>\nServerName {first}\n{aliases}</VirtualHost>\n", ca.tls.number())
}

/// What openssl sees there.
fn shown(ca: &Ca, name: &str, more: &[&str]) -> Option<Facts> {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("127.0.0.1:{}", ca.tls.number()), "-servername", name]);
    command.args(["-showcerts"]).args(more).stdin(Stdio::null());
    let output = harness::device::bounded(&mut command, SOON);
    cert::first_in(&String::from_utf8_lossy(&output.stdout))
}

/// The status line and the head that curl gets.
fn get(ca: &Ca, name: &str, path: &str) -> String {
    let mut command = Command::new("curl");
    let port = ca.tls.number();
    command.args(["-sSk", "-i", "--http1.1", "--resolve", &format!("{name}:{port}:127.0.0.1")]);
    command.arg(format!("https://{name}:{port}{path}"));
    let output = harness::device::bounded(&mut command, SOON);
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn md_702_004_md_702_044_only_tls_alpn_01() {
    let ca = Ca::start(&Knobs::default());
    let mut device = device(&ca);
    // The second name is no virtual host's.
    device.start_with(&format!("MDCAChallenges tls-alpn-01\nMDomain {A} {B}\n{}", host(&ca, A)));
    let md = device.complete(A);
    let facts = device.exported(A);
    assert_eq!(facts.names, [A, B]);
    assert_eq!(md["proto"]["acme-tls/1"], serde_json::json!([A, B]), "{md}");
    let seen = until("it is served", SOON, || shown(&ca, A, &[]).filter(|seen| seen.serial == facts.serial));
    assert_eq!(seen.names, [A, B]);
    assert_eq!(shown(&ca, "elsewhere.example", &[]).map(|seen| seen.serial), Some(facts.serial.clone()));
    assert!(get(&ca, A, "/").starts_with("HTTP/1.1 404"), "{}", get(&ca, A, "/"));

    // A renewal is in the next handshake.
    let said = device.run(&["renew", "--force", A]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let newer = device.exported(A).serial;
    assert_ne!(newer, facts.serial);
    assert_eq!(shown(&ca, A, &[]).map(|seen| seen.serial), Some(newer));
}

#[test]
fn md_602_000_first_a_certificate_then_a_listener() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.write(&format!("MDomain {A}"));
    assert_eq!(device.run(&["once"]).code, Some(0));
    let (first, asked) = (device.exported(A), ca.requests().len());
    device.set("MDPortMap", format!("http:{} https:{}", ca.http.number(), ca.tls.number()));
    device.start_with(&format!("MDomain {A}"));
    device.reload_with(&format!("MDomain {A}\n{}", host(&ca, A)));
    device.complete(A);
    let seen = until("it is served", SOON, || shown(&ca, A, &[]));
    assert_eq!(
        (seen.serial, seen.names),
        (first.serial, vec![A.to_string()]),
        "what was held, from the first handshake on"
    );
    let requests = ca.requests().split_off(asked);
    assert!(requests.iter().all(|request| request.starts_with("GET /")), "nothing is ordered: {requests:?}");
    assert_eq!(mode(&device.export(&format!("{A}.key"))), 0o600);
    assert_eq!(mode(&device.export(&format!("{A}.crt"))), 0o644);
}

#[test]
fn md_702_005_without_a_certificate_it_is_503() {
    let ca = Ca::start(&Knobs::default());
    let mut device = device(&ca);
    let text = |mode: &str| format!("MDDriveMode {mode}\nMDRequireHttps permanent\nMDomain {A}\n{}", host(&ca, A));
    device.start_with(&text("manual"));
    let fallback = shown(&ca, A, &[]).expect("a certificate of our own");
    assert_eq!((fallback.names.as_slice(), fallback.chain), (&[A.to_owned()][..], 1));
    let answer = get(&ca, A, "/");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("Retry-After"), "{answer}");
    assert!(!answer.to_lowercase().contains("strict-transport"), "{answer}");
    device.reload_with(&text("auto"));
    device.complete(A);
    let answer = until("the real one is there", SOON, || {
        let answer = get(&ca, A, "/");
        answer.starts_with("HTTP/1.1 404").then_some(answer)
    });
    assert!(answer.contains("Strict-Transport-Security: max-age=15768000"), "{answer}");
}

#[test]
fn md_702_040_md_810_006_kinds_of_keys() {
    let ca = Ca::start(&Knobs::default());
    let mut device = device(&ca);
    let text = |keys: &str| format!("MDPrivateKeys {keys}\nMDomain {A}\n{}", host(&ca, A));
    device.start_with(&text("secp384r1"));
    device.complete(A);
    let kind = |more: &[&str]| shown(&ca, A, more).map(|facts| facts.key);
    until("P-384 is served", SOON, || (kind(&[]).as_deref() == Some("EC 384")).then_some(()));
    device.reload_with(&text("secp384r1 rsa2048"));
    until("both are held", harness::LATER, || {
        let cert = device.md(A)["cert"].clone();
        (cert["rsa"].is_object() && cert["secp384r1"].is_object()).then_some(())
    });
    until("RSA for those who need it", SOON, || {
        let rsa = kind(&["-sigalgs", "RSA-PSS+SHA256:RSA+SHA256"]);
        (rsa.as_deref() == Some("RSA 2048")).then_some(())
    });
    assert_eq!(kind(&[]).as_deref(), Some("EC 384"), "the first for everybody else");
    assert_eq!(kind(&["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"]).as_deref(), Some("RSA 2048"));
    assert_eq!(kind(&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"]).as_deref(), Some("EC 384"));
}

#[test]
fn md_702_011_a_port_that_nobody_listens_on() {
    let ca = Ca::start(&Knobs::default());
    let mut device = device(&ca);
    device.set("MDPortMap", "http:- https:-");
    device.start_with(&format!("MDomain {A}"));
    let md = device.errors(A, 1);
    let last = &md["renewal"]["last"];
    assert!(
        last["detail"].as_str().is_some_and(|detail| detail.contains("None of the ACME challenge methods")),
        "{md}"
    );
    assert_eq!(ca.accounts(), 0);
    device.set("MDPortMap", format!("http:- https:{}", ca.tls.number()));
    device.reload_with(&format!("MDCAChallenges tls-alpn-01\nMDomain {A}\n{}", host(&ca, A)));
    device.complete(A);
}

#[test]
fn md_702_050_051_052_the_base_server() {
    let ca = Ca::start(&Knobs::default());
    let mut device = device(&ca);
    let base = format!("MDBaseServer on\nServerName {A}\nServerAlias {B}\nMDomain {A}\n");
    // Without http, and without TLS of ours.
    device.set("MDPortMap", "http:- https:-");
    device.start_with(&base);
    device.errors(A, 1);
    // Without http.
    device.set("MDPortMap", format!("http:- https:{}", ca.tls.number()));
    device.reload_with(&base);
    device.complete(A);
    let serial = device.exported(A).serial;
    until("it is everybody's", SOON, || {
        (shown(&ca, "else.example", &[]).map(|seen| seen.serial).as_ref() == Some(&serial)).then_some(())
    });
    // With http.
    device.set("MDPortMap", format!("http:{} https:-", ca.http.number()));
    device.reload_with(&format!("{base}MDCAChallenges http-01\n"));
    let said = device.run(&["renew", "--force", A]);
    assert_eq!(said.code, Some(0), "{said:?}");
}
