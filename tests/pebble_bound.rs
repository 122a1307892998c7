//! A real CA that wants accounts to be bound to one at its own site (RFC 8555 §7.3.4): Pebble with kid-1 and kid-2.
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod harness;

use harness::ca::{Ca, Knobs};
use harness::device::Device;
use serde_json::{Value, json};

const A: &str = "a.example.org";
const B: &str = "b.example.org";
const KEY_1: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
const KEY_2: &str = "b10lLJs8l1GPIzsLP0s6pMt8O0XVGnfTaCeROxQM0BIt2XrJMDHJZBM5NuQmQJQH";
const REQUIRED: &str = "urn:ietf:params:acme:error:externalAccountRequired";

fn bound() -> Ca {
    let bound = [("kid-1", KEY_1), ("kid-2", KEY_2)].map(|(kid, key)| (kid.into(), key.into())).into();
    Ca::start(&Knobs { bound, ..Knobs::default() })
}

fn set(md: &str, lines: &str) -> String {
    format!("<MDomainSet {md}>\n{lines}\n</MDomainSet>\n")
}

fn eab(kid: &str, key: &str) -> String {
    format!("MDExternalAccountBinding {kid} {key}\n")
}

#[track_caller]
fn refused(device: &Device, md: &str) -> Value {
    device.errors(md, 1)["renewal"]["last"].clone()
}

#[test]
fn md_750_002_the_hmac_is_not_base64url() {
    let ca = bound();
    let mut device = Device::new(&ca);
    device.start_with(&(eab("kid-1", "\u{f6}\u{e4}\u{fc}") + &format!("MDomain {A}")));
    let last = refused(&device, A);
    assert_eq!(last["problem"], "apache:eab-hmac-invalid", "{last}");
    assert!(!ca.requests().iter().any(|request| request.contains("/sign-me-up")), "found locally: {:?}", ca.requests());
    // A key that is none of the CA's is for it to judge.
    device.reload_with(&(eab("kid-1", "bm90IHRoZSBrZXk=") + &format!("MDomain {A}")));
    let last = harness::until("another refusal", harness::LATER, || {
        let last = device.md(A)["renewal"]["last"].clone();
        (last["status"] == 403 || last["status"] == 400).then_some(last)
    });
    assert!(last["problem"].as_str().is_some_and(|problem| problem.starts_with("urn:ietf:")), "{last}");
    assert!(!device.log().contains("bm90IHRoZSBrZXk"), "{}", device.log());
}

#[test]
fn md_750_010_md_310_601_a_right_one_completes() {
    let ca = bound();
    let mut device = Device::new(&ca);
    let none = set(B, "MDExternalAccountBinding none\nMDDriveMode manual");
    device.start_with(&(eab("kid-1", KEY_1) + &format!("MDomain {A}\n") + &none));
    let md = device.complete(A);
    assert_eq!(md["eab"], json!({"kid": "kid-1", "hmac": "***"}));
    assert_eq!(device.md(B).get("eab"), None);
    assert_eq!(ca.accounts(), 1);
    let said = device.run(&["account"]);
    assert!(said.out.ends_with("; bound to kid-1\n"), "{said:?}");
    assert!(!format!("{said:?}{}", device.log()).contains(KEY_1));
    // Padded, in the MD's own section, for another account.
    device.reload_with(&set(A, &eab("kid-2", &format!("\"{KEY_2}==\""))));
    let said = device.run(&["renew", "--force", A]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(ca.accounts(), 2);
    assert_eq!(device.md(A)["eab"]["kid"], "kid-2");
}

/// What the one is bound to is nothing to the other.
#[test]
fn md_750_011_md_750_012_a_bound_account_is_not_shared() {
    for with_first in [true, false] {
        let ca = bound();
        let mut device = Device::new(&ca);
        let (with, without) = (set(A, &eab("kid-1", KEY_1)), set(B, ""));
        device.start_with(&if with_first { with + &without } else { without + &with });
        device.complete(A);
        let last = refused(&device, B);
        assert_eq!(last["problem"], REQUIRED, "{last}");
        assert_eq!((ca.accounts(), ca.issued()), (1, 1));
    }
}

#[test]
fn md_750_013_two_with_the_same_share_one_account() {
    let ca = bound();
    let mut device = Device::new(&ca);
    device.start_with(&(set(A, &eab("kid-1", KEY_1)) + &set(B, &eab("kid-1", KEY_1))));
    device.complete(A);
    device.complete(B);
    assert_eq!((ca.accounts(), ca.issued()), (1, 2));
}

#[test]
fn md_750_017_none_overrides_what_is_global() {
    let ca = bound();
    let mut device = Device::new(&ca);
    device.start_with(&(eab("kid-1", KEY_1) + &set(A, "MDExternalAccountBinding none")));
    let last = refused(&device, A);
    assert_eq!(last["problem"], REQUIRED, "{last}");
    let said = device.run(&["status", A]);
    assert!(said.out.contains("MDExternalAccountBinding"), "what to do: {said:?}");
}

#[test]
fn md_750_022_it_may_stand_in_a_file() {
    let ca = bound();
    let mut device = Device::new(&ca);
    device.folder.put("eab.json", &json!({"kid": "kid-1", "hmac": KEY_1}).to_string());
    device.start_with(&format!("MDExternalAccountBinding eab.json\nMDomain {A}"));
    assert_eq!(device.complete(A)["eab"], json!({"kid": "kid-1", "hmac": "***"}));
    assert_eq!(ca.accounts(), 1);
}

/// The daemon is killed while its account is made: it is found by its key.
#[test]
fn an_account_that_is_bound_is_found_again() {
    let ca = bound();
    let mut device = Device::new(&ca);
    let conf = eab("kid-1", KEY_1) + &format!("MDomain {A}");
    device.start_with(&conf);
    ca.hears("POST /sign-me-up");
    device.kill();
    device.start();
    device.complete(A);
    assert_eq!(ca.accounts(), 1);
}

/// Two CAs of which one wants a binding: neither is told what is the other's.
#[test]
fn md_790_of_two_cas_one_wants_a_binding() {
    let (wants, other) = (bound(), Ca::start(&Knobs::default()));
    let mut device = Device::new(&other);
    device.set("MDCertificateAuthority", format!("{} {}", other.directory(), wants.directory()));
    let roots = [&other, &wants].map(|ca| std::fs::read_to_string(ca.root()).expect("a root")).concat();
    device.set("MDCACertificateFile", device.folder.put("both.pem", &roots).display().to_string());
    device.start_with(&(eab("kid-1", KEY_1) + &format!("MDomain {A}")));
    device.complete(A);
    assert_eq!((other.issued(), wants.issued()), (1, 0));
    let (mut other, mut device) = (other, device);
    other.away();
    device.set("MDRetryDelay", "100ms");
    device.set("MDRetryFailover", "1");
    device.set("MDPortMap", format!("http:{} https:-", wants.http.number()));
    device.reload_with(&(eab("kid-1", KEY_1) + &format!("MDomain {A} www.{A}")));
    harness::until("the other one gives it", harness::LATER, || (wants.issued() == 1).then_some(()));
    device.complete(A);
    assert_eq!(wants.accounts(), 1);
}
