//! What an order asks a real CA for, and how its names are proven, in the ways that a router's configuration can say.
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod harness;

use edgemd::rules::x509;
use edgemd::words::cert::KeyKind;
use edgemd::words::time::Unix;
use harness::ca::{Ca, Knobs};
use harness::cert;
use harness::device::Device;

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
