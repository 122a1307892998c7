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
