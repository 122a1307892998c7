//! Names that a real CA finds proven in DNS: by a command, and by a record that a person has published. What the zone's own
//! servers show is not looked at here, because there is no zone: see `doors::dns` for that.
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod harness;

use harness::ca::{Ca, Knobs};
use harness::device::Device;
use std::fs;

fn strict() -> Ca {
    Ca::start(&Knobs { nonce_reject: Some(0), authz_reuse: Some(0), ..Knobs::default() })
}

fn calls(device: &Device) -> Vec<String> {
    let log = fs::read_to_string(device.folder.join("dns.log")).unwrap_or_default();
    log.lines().map(str::to_owned).collect()
}

/// Two values at one name, both there when the CA looks.
#[test]
fn a_name_and_its_wildcard_are_proven_by_a_command() {
    for version in [2, 1] {
        let ca = strict();
        let mut device = Device::new(&ca);
        let command = ca.dns_command(&device.folder).display().to_string();
        device.start_with(&format!(
            "MDChallengeDns01Version {version}\nMDChallengeDns01 {command}\nMDChallengeDns01Wait off\n\
             MDomain x.example.org *.x.example.org"
        ));
        device.complete("x.example.org");
        let facts = device.exported("x.example.org");
        assert_eq!(facts.names, ["x.example.org", "*.x.example.org"]);
        let calls = calls(&device);
        let words: Vec<Vec<&str>> = calls.iter().map(|call| call.split(' ').collect()).collect();
        // x.example.org itself has http-01, too, and that comes first.
        assert_eq!(words[0][..2], ["setup", "x.example.org"], "{calls:?}");
        let last = words.last().expect("a call");
        assert_eq!(last[0], "teardown", "{calls:?}");
        assert_eq!((last.len(), last.get(2)), if version == 2 { (3, words[0].get(2)) } else { (2, None) });
    }
}

#[test]
fn both_values_stand_when_the_ca_looks() {
    let ca = strict();
    let mut device = Device::new(&ca);
    let command = ca.dns_command(&device.folder).display().to_string();
    device.start_with(&format!(
        "MDCAChallenges dns-01\nMDChallengeDns01 {command}\nMDChallengeDns01Wait off\nMDomain x.example.org *.x.example.org"
    ));
    device.complete("x.example.org");
    let verbs: Vec<String> =
        calls(&device).iter().map(|call| call.split(' ').next().unwrap_or("").to_owned()).collect();
    assert_eq!(verbs, ["setup", "setup", "teardown", "teardown"]);
}

#[test]
fn md_720_007_a_wildcard_alone() {
    let ca = strict();
    let mut device = Device::new(&ca);
    let command = ca.dns_command(&device.folder).display().to_string();
    let site = format!("<VirtualHost *:{}>\nServerName www.x.example.org\n</VirtualHost>", ca.http.number());
    device.start_with(&format!(
        "MDChallengeDns01 {command}\nMDChallengeDns01Wait off\nMDRenewMode always\n<MDomainSet *.x.example.org>\n</MDomainSet>\n{site}"
    ));
    device.complete("*.x.example.org");
    assert_eq!(device.exported("*.x.example.org").names, ["*.x.example.org"]);
    assert!(
        device.folder.join("store/certs/*.x.example.org").exists(),
        "{}",
        harness::listing(&device.folder.join("store"))
    );
}

#[test]
fn md_720_002_md_720_003_no_command_and_one_that_fails() {
    let ca = strict();
    let mut device = Device::new(&ca);
    let fails = device.folder.script("fails", "exit 3").display().to_string();
    let conf = |command: &str| format!("MDChallengeDns01 {command}\nMDomain x.example.org *.x.example.org");
    device.start_with(&conf("/nowhere/dns"));
    let last = device.errors("x.example.org", 1)["renewal"]["last"].clone();
    assert_eq!(last["problem"], "challenge-setup-failure");
    assert_eq!(last["detail"], "running /nowhere/dns: not found");
    device.reload_with(&conf(&fails));
    let detail = format!("running {fails}: exited with 3");
    harness::until("the other command is tried", harness::LATER, || {
        (device.md("x.example.org")["renewal"]["last"]["detail"] == detail.as_str()).then_some(())
    });
}

#[test]
fn md_720_002b_a_broken_command_is_no_matter_where_there_is_another_way() {
    let ca = strict();
    let mut device = Device::new(&ca);
    device.start_with("MDChallengeDns01 /nowhere/dns\nMDomain x.example.org");
    device.complete("x.example.org");
    device.reload_with("MDCAChallenges dns-01 http-01\nMDChallengeDns01 /nowhere/dns\nMDomain y.example.org");
    device.complete("y.example.org");
}

/// The exact record is shown before the CA is asked to look, and the account that it names is the one that orders.
#[test]
fn a_record_that_a_person_publishes_is_shown_first_and_is_enough() {
    let ca = strict();
    let mut device = Device::new(&ca);
    let conf = "MDCAChallenges dns-persist-01\nMDomain x.example *.x.example";
    device.start_with(conf);
    let md = device.errors("x.example", 1);
    let text = device.run(&["status"]).out;
    let record = md["dns-records"][0].as_str().unwrap_or_else(|| panic!("{md}")).to_owned();
    assert!(text.contains(&format!("publish {record}")), "{text}");
    let account = md["ca"]["account"].as_str().expect("an account").to_owned();
    let said =
        format!("_validation-persist.x.example. IN TXT \"pebble.example; accounturi={account}; policy=wildcard\"");
    assert_eq!(record, said);
    assert!(!ca.requests().iter().any(|request| request.contains("/chalZ/")), "the CA was not asked to look");
    let dns = device.run(&["dns", "x.example"]);
    assert_eq!((dns.code, dns.out.trim_end()), (Some(0), record.as_str()));
    ca.publish(&record);
    // There is no zone here that could be looked at.
    device.reload_with(&format!("MDChallengeDns01Wait off\n{conf}"));
    let md = device.complete("x.example");
    assert_eq!((md["ca"]["account"].as_str(), ca.accounts()), (Some(account.as_str()), 1));
    assert_eq!(device.exported("x.example").names, ["x.example", "*.x.example"]);
}

/// A stop in the midst of an order: what stands in DNS is taken away, and the exit is in time.
#[test]
fn a_stop_takes_away_what_stands_in_dns() {
    let ca = Ca::start(&Knobs { nonce_reject: Some(0), authz_reuse: Some(0), sleep: Some(30), ..Knobs::default() });
    let mut device = Device::new(&ca);
    let command = ca.dns_command(&device.folder).display().to_string();
    device.start_with(&format!(
        "MDCAChallenges dns-01\nMDChallengeDns01 {command}\nMDChallengeDns01Wait off\nMDomain x.example.org"
    ));
    ca.hears("POST /chalZ/");
    let began = std::time::Instant::now();
    assert!(device.stop().success());
    assert!(began.elapsed().as_secs() < 2);
    let verbs: Vec<String> =
        calls(&device).iter().map(|call| call.split(' ').next().unwrap_or("").to_owned()).collect();
    assert_eq!(verbs, ["setup", "teardown"]);
}
