//! Our account at a real CA: shared, told of changes, shown, ended, and made anew where the CA no longer knows it.
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod harness;

use harness::ca::{Ca, Knobs};
use harness::device::Device;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};

const A: &str = "a.example.org";
const B: &str = "b.example.org";

fn strict() -> Ca {
    Ca::start(&Knobs { nonce_reject: Some(0), authz_reuse: Some(0), ..Knobs::default() })
}

/// How often the account itself was asked for or changed.
fn visits(ca: &Ca) -> usize {
    ca.requests().iter().filter(|request| request.starts_with("POST /my-account/")).count()
}

#[track_caller]
fn renew(device: &Device) {
    let said = device.run(&["renew", "--force", A]);
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[test]
fn md_310_303_a_changed_contact_is_sent_with_the_next_order() {
    let ca = strict();
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}"));
    device.complete(A);
    assert!(device.run(&["account"]).out.ends_with("; mailto:admin@example.org\n"), "{:?}", device.run(&["account"]));
    device.set("MDContactEmail", "other@example.org");
    device.reload_with(&format!("MDomain {A}"));
    assert_eq!((visits(&ca), ca.issued()), (0, 1), "a contact alone is no reason to go there");
    renew(&device);
    assert_eq!((visits(&ca), ca.accounts()), (1, 1));
    let said = device.run(&["account"]);
    assert!(said.out.starts_with(&format!("{}: https://", ca.directory())), "{said:?}");
    assert!(said.out.ends_with("; mailto:other@example.org\n"), "{said:?}");
    device.set("MDContactEmail", "");
    device.reload_with(&format!("MDomain {A}"));
    renew(&device);
    assert!(device.run(&["account"]).out.ends_with("; no contact\n"), "{:?}", device.run(&["account"]));
    renew(&device);
    assert_eq!((visits(&ca), ca.accounts()), (2, 1), "once for each change");
}

#[test]
fn an_account_is_ended_through_the_daemon_and_made_anew_by_the_next_order() {
    let ca = strict();
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}\nMDomain {B}"));
    device.complete(A);
    device.complete(B);
    assert_eq!(ca.accounts(), 1, "one for both");
    let said = device.run(&["account", "deactivate", "https://other.example/dir"]);
    assert!(said.code == Some(1) && said.out.contains("there is no account with the CA"), "{said:?}");
    let said = device.run(&["account", "deactivate"]);
    let ended = format!("the account at {} is deactivated; the next order there makes a new one\n", ca.directory());
    assert_eq!((said.code, said.out), (Some(0), ended));
    let said = device.run(&["account"]);
    assert_eq!((said.code, said.out.as_str()), (Some(0), "there is no account; the first order makes one\n"));
    assert_eq!(device.md(A)["ca"]["account"], serde_json::Value::Null);
    renew(&device);
    assert_eq!((ca.accounts(), ca.issued()), (2, 3), "Pebble counts the ended one, too");
}

/// Without a daemon nobody listens and nothing else is done: port 80 may be another's, and what is due stays due.
#[test]
fn an_account_is_shown_and_ended_without_a_daemon() {
    let ca = strict();
    let mut device = Device::new(&ca);
    device.write(&format!("MDomain {A}"));
    assert_eq!(device.run(&["once"]).code, Some(0));
    device.write(&format!("MDomain {A}\nMDomain {B}"));
    let _taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, ca.http.number())).expect("a reserved port");
    let said = device.run(&["account"]);
    assert!(said.code == Some(0) && said.out.contains("mailto:admin@example.org"), "{said:?}");
    let said = device.run(&["account", "deactivate", &ca.directory()]);
    assert!(said.code == Some(0) && said.out.contains("is deactivated"), "{said:?}");
    assert_eq!(ca.issued(), 1);
    assert_eq!(fs::read_dir(device.folder.join("store/accounts")).expect("a folder").count(), 0);
    let said = device.run(&["account", "deactivate"]);
    assert!(said.code == Some(1) && said.out.contains("there is no account"), "{said:?}");
}

/// The record of an account that was ended from elsewhere: its key is of no more use.
#[test]
fn an_account_that_was_deactivated_is_made_anew_silently() {
    let ca = strict();
    let mut device = Device::new(&ca);
    device.write(&format!("MDomain {A}"));
    assert_eq!(device.run(&["once"]).code, Some(0));
    let (store, aside) = (device.folder.join("store/accounts"), device.folder.join("aside"));
    fs::create_dir(&aside).expect("a folder");
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        for entry in fs::read_dir(from).expect("a folder").flatten() {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    };
    copy(&store, &aside);
    assert_eq!(device.run(&["account", "deactivate"]).code, Some(0));
    copy(&aside, &store);
    let said = device.run(&["renew", "--force", A]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("was ended there; a new one is made, with a new key"), "{said:?}");
    assert!(!said.err.contains("failed"), "{said:?}");
    assert_eq!((ca.issued(), visits(&ca)), (2, 2), "{:?}", ca.requests());
    renew(&device);
    assert_eq!((ca.issued(), ca.accounts()), (3, 2));
}

#[test]
fn an_account_that_the_ca_has_lost_is_made_anew_silently() {
    let mut ca = strict();
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}"));
    device.complete(A);
    ca.restart(&Knobs::default());
    renew(&device);
    assert!(!device.log().contains("failed"), "{}", device.log());
    device.logs("was gone");
    renew(&device);
    assert!(device.log().matches("was gone").count() == 1, "{}", device.log());
}

#[test]
fn the_key_is_changed_through_the_daemon_and_the_url_stays() {
    let ca = strict();
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}"));
    device.complete(A);
    let before = device.run(&["account"]);
    let said = device.run(&["account", "roll"]);
    let line = format!("the account at {} has a new key; its URL is what it was\n", ca.directory());
    assert_eq!((said.code, said.out), (Some(0), line));
    assert_eq!(device.run(&["account"]).out, before.out);
    renew(&device);
    let said = device.run(&["account", "roll", &ca.directory()]);
    assert_eq!(said.code, Some(0), "{said:?}");
    device.stop();
    device.start();
    renew(&device);
    assert_eq!((ca.accounts(), ca.issued(), visits(&ca)), (1, 3, 0), "{:?}", ca.requests());
    assert_eq!(ca.requests().iter().filter(|request| *request == "POST /rollover-account-key").count(), 2);
}

/// Without a daemon; then its answer is never heard, and the next order finds out which key the CA has.
#[test]
fn the_key_is_changed_without_a_daemon_and_a_change_that_was_cut_off_is_found_out() {
    let ca = strict();
    let mut device = Device::new(&ca);
    device.write(&format!("MDomain {A}"));
    assert_eq!(device.run(&["once"]).code, Some(0));
    let said = device.run(&["account", "roll"]);
    assert!(said.code == Some(0) && said.out.contains("has a new key"), "{said:?}");

    device.start();
    let asked = || ca.requests().iter().filter(|request| *request == "POST /rollover-account-key").count();
    let socket = device.folder.join("control.sock");
    let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("a daemon");
    std::io::Write::write_all(&mut stream, b"account roll\n").expect("a request");
    harness::until("the CA is asked", harness::SOON, || (asked() > 1).then_some(()));
    device.kill();
    device.start();
    renew(&device);
    let requests = ca.requests().len();
    renew(&device);
    assert!(ca.requests().len() - requests < 12, "found out once: {:?}", ca.requests());
    assert_eq!(ca.accounts(), 1);
}

#[test]
fn a_certificate_is_revoked_and_replaced() {
    let ca = strict();
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}"));
    let serial = |md: &serde_json::Value| md["cert"]["secp256r1"]["serial"].as_str().expect("a serial").to_owned();
    let first = serial(&device.complete(A));
    assert_eq!(ca.verdict(&first).0, "Valid");
    let said = device.run(&["revoke", A, "--reason", "keyCompromise"]);
    let line = format!("{A} (secp256r1): the certificate {first} is revoked; another one is ordered\n");
    assert_eq!((said.code, said.out), (Some(0), line));
    assert_eq!(ca.verdict(&first), ("Revoked".into(), Some(1)));
    harness::until("another one", harness::LATER, || (ca.issued() == 2).then_some(()));
    let second = serial(&device.complete(A));
    assert_ne!(first, second);
    assert_eq!(ca.verdict(&second).0, "Valid");
    let said = device.run(&["revoke", B]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), "no certificate is held for an MD \"b.example.org\"\n"));
}

/// By its own key, of whichever kind, where there is no account any more; and with no daemon. The next pass orders.
#[test]
fn a_certificate_is_revoked_by_its_own_key() {
    let ca = strict();
    let mut device = Device::new(&ca);
    device.write(&format!("MDPrivateKeys P-256 P-384 RSA\nMDomain {A}"));
    assert_eq!(device.run(&["once"]).code, Some(0));
    assert_eq!(device.run(&["account", "deactivate"]).code, Some(0));
    let said = device.run(&["revoke", "--reason", "superseded", A]);
    assert_eq!((said.code, said.out.lines().count()), (Some(0), 3), "{said:?}");
    for line in said.out.lines() {
        let serial =
            line.split_once("the certificate ").and_then(|(_, rest)| rest.split(' ').next()).expect("a serial");
        assert_eq!(ca.verdict(serial), ("Revoked".into(), Some(4)), "{line}");
    }
    assert_eq!(ca.issued(), 3, "nothing else is done");
    let said = device.run(&["revoke", A]);
    assert_eq!(said.code, Some(0), "it was revoked already: {said:?}");
    assert_eq!(device.run(&["once"]).code, Some(0));
    assert_eq!((ca.issued(), ca.accounts()), (6, 2));
}
