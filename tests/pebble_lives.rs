//! Short lives against a real CA: its renewal windows (RFC 9773), its profiles, and certificates of addresses (RFC 8738).
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod harness;

use edgemd::words::time::{Span, Unix};
use harness::ca::{Ca, Knobs};
use harness::cert::{self, Facts};
use harness::device::Device;
use harness::{LATER, SOON, until};
use serde_json::Value;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

const A: &str = "a.example.org";

fn now() -> Unix {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    Unix::from_millis(u64::try_from(since.as_millis()).expect("before the end of time"))
}

/// The certificate, when it is known when the CA wants it to be renewed.
#[track_caller]
fn windowed(device: &Device) -> Value {
    until("its window is known", SOON, || {
        let cert = device.md(A)["cert"]["secp256r1"].clone();
        cert["ari-window"]["from"].is_string().then_some(cert)
    })
}

/// Another certificate than this one is held.
#[track_caller]
fn renewed(device: &Device, old: &Facts) {
    until("it is renewed", LATER, || (device.md(A)["cert"]["secp256r1"]["serial"] != old.serial).then_some(()));
    device.complete(A);
}

fn count(ca: &Ca, begin: &str) -> usize {
    ca.requests().iter().filter(|request| request.starts_with(begin)).count()
}

#[test]
fn md_830_001_a_window_that_is_open_renews_after_a_restart() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}"));
    device.complete(A);
    let old = device.exported(A);
    let cert = windowed(&device);
    let id = cert["ari-cert-id"].as_str().unwrap_or_default().to_owned();
    assert!(id.contains('.'), "{cert}");
    let requests = ca.requests();
    let last = requests.last().map(String::as_str).unwrap_or_default();
    assert!(last.ends_with("/renewalInfo/"), "the question is the order's last one: {requests:?}");
    assert_eq!(ca.connections(), 1, "and on its line");

    let (start, end) = (now().minus(Span::days(1)), now().plus(Span::days(1)));
    ca.wants_renewed(&device.export(&format!("{A}.crt")), &start.rfc3339(), &end.rfc3339(), "https://example.org/why");
    device.stop();
    device.start();
    renewed(&device, &old);
    assert_ne!(windowed(&device)["ari-cert-id"], id.as_str());
    device.logs("the CA asks for its renewal");
    device.logs("it says why at https://example.org/why");
    assert!(ca.log().contains("is a replacement of"), "the CA was told what it replaces");
    assert_eq!(ca.connections(), 3, "one for the question, one for the order");

    // A restart keeps what was drawn, and asks once.
    let asked = ca.requests().len();
    let at = device.md(A)["renew-at"].clone();
    device.stop();
    device.start();
    until("it has asked", SOON, || (ca.requests().len() == asked + 2).then_some(()));
    assert_eq!(device.complete(A)["renew-at"], at);
}

#[test]
fn md_830_002_a_window_that_is_about_to_open() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}"));
    device.complete(A);
    let old = device.exported(A);
    let start = now().plus(Span::secs(3));
    let window = (start.rfc3339(), start.plus(Span::secs(2)).rfc3339());
    ca.wants_renewed(&device.export(&format!("{A}.crt")), &window.0, &window.1, "https://example.org/why");
    let said = device.run(&["renew", A]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let md = device.md(A);
    let waits = md["cert"]["secp256r1"]["serial"] == old.serial;
    if waits {
        let text = device.run(&["status"]);
        assert!(text.out.contains("the CA says why it wants it renewed: https://example.org/why"), "{text:?}");
        assert_eq!(md["cert"]["secp256r1"]["ari-explanation-url"], "https://example.org/why", "{md}");
    }
    renewed(&device, &old);
    windowed(&device);
    assert!(now() >= Unix::from_secs(start.secs()), "not before it opens");
    assert_eq!(ca.issued(), 2);
}

#[test]
fn what_was_replaced_already_is_ordered_all_the_same() {
    // A refused nonce would be an order more.
    let ca = Ca::start(&Knobs { nonce_reject: Some(0), ..Knobs::default() });
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}"));
    device.complete(A);
    // The record of the first one comes back, as from a backup.
    let store = device.folder.join("store/certs").join(A);
    let first = std::fs::read(store.join("secp256r1.0")).expect("a record");
    assert_eq!(device.run(&["renew", "--force", A]).code, Some(0));
    device.stop();
    std::fs::write(store.join("secp256r1.0"), first).expect("our own file");
    std::fs::remove_file(store.join("secp256r1.1")).expect("our own file");
    device.start();
    let orders = count(&ca, "POST /order-plz");
    let said = device.run(&["renew", "--force", A]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(count(&ca, "POST /order-plz") - orders, 2, "once more without it");
}

#[test]
fn it_is_not_asked_where_it_is_switched_off() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDRenewViaARI off\nMDomain {A}"));
    device.complete(A);
    assert_eq!(device.run(&["renew", "--force", A]).code, Some(0));
    let asks = ca.requests().iter().filter(|request| request.contains("renewal")).count();
    assert_eq!((asks, ca.log().contains("is a replacement of")), (0, false));
}

fn profiles() -> Ca {
    Ca::start(&Knobs { profiles: vec![("default", 7_776_000), ("shortlived", 518_400)], ..Knobs::default() })
}

fn days_left(facts: &Facts) -> i64 {
    (facts.until - i64::try_from(now().secs()).expect("before the end of time")) / 86_400
}

#[test]
fn md_710_001_md_710_002_profiles() {
    let ca = profiles();
    for (profile, days) in [("default", 89..=90), ("shortlived", 5..=6)] {
        let mut device = Device::new(&ca);
        device.start_with(&format!("MDProfile {profile}\nMDProfileMandatory on\nMDomain {A}"));
        let md = device.complete(A);
        assert!(days.contains(&days_left(&device.exported(A))), "{profile}: {:?}", device.exported(A));
        assert_eq!((&md["profile"], &md["cert"]["secp256r1"]["profile"]), (&profile.into(), &profile.into()), "{md}");
    }
}

#[test]
fn md_710_004_a_profile_that_the_ca_does_not_have() {
    let ca = profiles();
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDProfile eternal\nMDProfileMandatory on\nMDomain {A}"));
    let md = device.errors(A, 1);
    assert_eq!(md["cert"], serde_json::json!({}), "{md}");
    let last = &md["renewal"]["last"];
    assert!(last["activity"].as_str().is_some_and(|activity| activity.starts_with("Creating new order")), "{md}");
    assert_eq!(last["problem"], "urn:ietf:params:acme:error:invalidProfile", "{md}");
    let said = device.run(&["status"]);
    assert!(
        said.out.contains("it offers default, shortlived") && said.out.contains("MDProfileMandatory off"),
        "{said:?}"
    );
    assert_eq!(ca.accounts(), 0);

    device.reload_with(&format!("MDProfile eternal\nMDomain {A}"));
    let md = device.complete(A);
    assert!(md["cert"]["secp256r1"]["profile"].is_null(), "{md}");
    device.logs("the order went out without a profile: the CA does not offer the profile \"eternal\"");
    assert_eq!(device.log().matches("went out without a profile").count(), 1, "said once");
}

/// Both families by each challenge, and an address beside a name.
#[test]
fn addresses_by_http_01_and_tls_alpn_01() {
    for challenge in ["http-01", "tls-alpn-01"] {
        let ca = Ca::start(&Knobs::default());
        let mut device = Device::new(&ca);
        device.set("MDPortMap", format!("http:{} https:{}", ca.http.number(), ca.tls.number()));
        let host = |name: &str| format!("<VirtualHost *:{}>\nServerName {name}\n</VirtualHost>\n", ca.tls.number());
        let mds = "MDomain 127.0.0.1 ::1\nMDomain a.example.org 127.0.0.2\n";
        device.start_with(&format!("MDCAChallenges {challenge}\n{mds}{}{}", host("127.0.0.1"), host(A)));
        for (md, names) in [("127.0.0.1", &["127.0.0.1", "::1"]), (A, &[A, "127.0.0.2"])] {
            device.complete(md);
            assert_eq!(device.exported(md).names, names, "{challenge}");
        }
        // Whoever calls by address sends no name, and gets the address's certificate.
        let (root, serial) = (ca.issuing_root(), device.exported("127.0.0.1").serial);
        for (address, name) in [(Ipv4Addr::LOCALHOST.into(), "127.0.0.1"), (Ipv6Addr::LOCALHOST.into(), "::1")] {
            let address = SocketAddr::new(address, ca.tls.number());
            until("it is served", SOON, || {
                cert::served(address, name, Some(&root)).ok().filter(|seen| seen.serial == serial)
            });
        }
    }
}
