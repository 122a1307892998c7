//! Acceptance against a real CA: what is ordered, kept, renewed and told. Names carry the ids of mod_md's own suite.
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod harness;

use harness::ca::{Ca, Knobs};
use harness::cert::Facts;
use harness::device::{Device, mode};
use serde_json::{Value, json};

const A: &str = "a.example.org";
const B: &str = "b.example.org";

/// One pass over what is due; nothing may go wrong.
#[track_caller]
fn drive(device: &mut Device, text: &str) {
    device.write(text);
    let said = device.run(&["once"]);
    assert_eq!(said.code, Some(0), "once: {said:?}");
}

/// One pass that does not succeed; what was said about it.
#[track_caller]
fn drive_in_vain(device: &mut Device, text: &str) -> String {
    device.write(text);
    let said = device.run(&["once"]);
    assert_eq!(said.code, Some(1), "once: {said:?}");
    said.err + &said.out
}

#[track_caller]
fn assert_sound(facts: &Facts, names: &[&str]) {
    assert_eq!(facts.names, names);
    assert_eq!(facts.chain, 2, "a leaf and an intermediate");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let now = i64::try_from(now).expect("before the end of time");
    assert!(facts.from <= now && now < facts.until, "{:?}", facts.dates);
}

#[test]
fn md_502_100_a_full_run() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}"));
    let md = device.complete(A);
    let facts = device.exported(A);
    assert_sound(&facts, &[A]);
    assert_eq!(md["cert"]["secp256r1"]["serial"], json!(facts.serial), "{md}");
    assert_eq!(md["ca"]["url"], json!(ca.directory()));
    assert_eq!(ca.accounts(), 1);

    let said = device.run(&["status"]);
    assert_eq!(said.code, Some(0), "all is well: {said:?}");
    assert!(said.out.lines().count() == 1 && said.out.contains(A), "one line for each: {}", said.out);

    // Nobody but us reads keys.
    assert_eq!(mode(&device.folder.join("store")), 0o700);
    for name in ["a.example.org.key", "a.example.org.pem"] {
        assert_eq!(mode(&device.export(name)) & 0o077, 0, "{name}");
    }
    for line in harness::listing(&device.folder.join("store")).lines() {
        let mode = line.split_whitespace().nth(1).expect("a mode");
        assert!(["0600", "0700"].contains(&mode), "{line}");
    }
    let pem = std::fs::read_to_string(device.export("a.example.org.pem")).expect("the combined export");
    assert!(pem.contains("PRIVATE KEY") && pem.matches("BEGIN CERTIFICATE").count() == 2, "both in one file");

    // Answers are withdrawn.
    for path in ["", "/", "/123"] {
        let answer = get(&ca, A, &format!("/.well-known/acme-challenge{path}"));
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
}

fn get(ca: &Ca, host: &str, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", ca.http.number())).expect("edgemd listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn location(answer: &str) -> Option<&str> {
    answer.lines().find_map(|line| line.strip_prefix("Location: "))
}

#[test]
fn md_502_109_https_migration() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    let text = |more: &str| {
        format!("{more}\nMDomain {A}\n<VirtualHost *:443>\nServerName {A}\nServerAlias {B}\n</VirtualHost>")
    };
    // Nothing is held, nothing is redirected.
    device.start_with(&text("MDRequireHttps permanent\nMDDriveMode manual"));
    assert!(get(&ca, A, "/name").starts_with("HTTP/1.1 404"));
    device.reload_with(&text(""));
    device.complete(A);
    assert!(get(&ca, A, "/name").starts_with("HTTP/1.1 404"), "off");
    assert!(device.md(A)["require-https"].is_null());
    for (mode, code) in [("temporary", "302"), ("permanent", "301")] {
        device.reload_with(&text(&format!("MDRequireHttps {mode}")));
        for (name, path) in [(A, "/name?x=1"), (B, "/")] {
            let answer = get(&ca, name, path);
            assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{mode}: {answer}");
            assert_eq!(location(&answer), Some(format!("https://{name}{path}").as_str()), "without a port");
            assert!(!answer.contains("Strict-Transport-Security"), "{answer}");
        }
        assert!(get(&ca, "c.example.org", "/name").starts_with("HTTP/1.1 404"), "another host");
        assert!(get(&ca, A, "/.well-known/x").starts_with("HTTP/1.1 404"), "exempt");
        harness::until("the status follows", harness::SOON, || (device.md(A)["require-https"] == mode).then_some(()));
    }
    assert_eq!(ca.issued(), 1, "https is no reason for another certificate");
    // A challenge is answered before any redirect.
    let said = device.run(&["renew", "--force", A]);
    assert_eq!((said.code, ca.issued()), (Some(0), 2), "{said:?}");
    // Nobody is sent to https for a name that is not on the certificate.
    let other = "*.example.net";
    device.reload_with(&text("MDRequireHttps permanent").replace(B, other).replace("443>", "443>\nMDDriveMode manual"));
    assert!(location(&get(&ca, A, "/")).is_some() && location(&get(&ca, "x.example.net", "/")).is_none());
}

#[test]
fn md_310_308_https_is_in_force_at_once_and_gone_at_once() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}"));
    device.complete(A);
    device.reload_with(&format!("<MDomainSet {A}>\nMDRequireHttps temporary\n</MDomainSet>"));
    assert_eq!(location(&get(&ca, A, "/")), Some("https://a.example.org/"));
    device.reload_with(&format!("MDomain {A}"));
    assert_eq!(location(&get(&ca, A, "/")), None);
    assert_eq!(ca.issued(), 1);
}

#[test]
fn md_920_001_003_004_the_views() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    let page = "/.httpd/certificate-status";
    let public = |ca: &Ca| {
        let answer = get(ca, A, page);
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/json"), "{head}");
        serde_json::from_str::<Value>(body).expect("JSON")
    };
    device.start_with(&format!("MDDriveMode manual\nMDomain {A}"));
    assert_eq!(public(&ca), json!({}), "nothing is held, and nothing is done about it");
    device.reload_with(&format!("MDomain {A}"));
    let md = device.complete(A);
    let (facts, seen) = (device.exported(A), public(&ca));
    assert_eq!(seen["secp256r1"]["serial"], json!(facts.serial));
    let mut admin = md["cert"].clone();
    for more in ["ari-cert-id", "ari-window"] {
        admin["secp256r1"].as_object_mut().expect("an object").remove(more);
    }
    assert_eq!(seen, admin, "what the admin sees of it, and less");
    let keys: Vec<&String> = seen.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["secp256r1", "valid"]);
    assert!(get(&ca, "c.example.org", page).starts_with("HTTP/1.1 404"), "on the hosts of MDs alone");

    let all = device.ask("/md-status").1;
    assert!(all["version"].is_string() && all["managed-domains"].as_array().map(Vec::len) == Some(1), "{all}");

    device.reload_with(&format!("MDCertificateStatus off\nMDServerStatus off\nMDomain {A}"));
    assert!(get(&ca, A, page).starts_with("HTTP/1.1 404"));
    for path in ["/md-status", "/md-status/a.example.org"] {
        assert!(device.ask(path).0.starts_with("HTTP/1.0 404"), "{path}");
    }
    let said = device.run(&["status", "--json"]);
    assert!(said.code == Some(2) && said.out.contains("MDServerStatus is off"), "{said:?}");
    let said = device.run(&["status"]);
    assert!(said.code == Some(0) && said.out.contains(A), "sentences there are always: {said:?}");
}

#[test]
fn md_502_101_two_names() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    drive(&mut device, &format!("MDomain {A} {B}"));
    assert_sound(&device.exported(A), &[A, B]);
}

#[test]
fn md_502_103_an_account_that_exists_is_used() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    drive(&mut device, &format!("MDomain {A}"));
    drive(&mut device, &format!("MDomain {A}\nMDomain {B}"));
    assert_sound(&device.exported(B), &[B]);
    assert_eq!((ca.accounts(), ca.issued()), (1, 2));
}

/// By a CA that has such a thing.
#[test]
fn a_ca_is_asked_once_whether_it_wants_what_is_held_to_be_renewed() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    drive(&mut device, &format!("MDomain {A}"));
    let asked = ca.requests().len();
    drive(&mut device, &format!("MDomain {A}"));
    assert_eq!(ca.requests().len(), asked, "a CA is never asked for what is held");
    for _ in 0..2 {
        let said = device.run(&["renew", A]);
        assert_eq!(said.code, Some(0), "renew: {said:?}");
    }
    assert_eq!(ca.requests().len(), asked + 2, "but once whether it wants it to be renewed");
}

#[test]
fn md_502_107_what_is_held_is_not_ordered_unless_forced() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    drive(&mut device, &format!("MDomain {A}"));
    let (first, asked) = (device.exported(A), ca.requests().len());
    drive(&mut device, &format!("MDomain {A}"));
    assert_eq!(ca.requests().len(), asked, "a CA is never asked for what is held");
    for _ in 0..2 {
        let said = device.run(&["renew", A]);
        assert_eq!(said.code, Some(0), "renew: {said:?}");
    }
    assert_eq!(device.exported(A).serial, first.serial);
    let said = device.run(&["renew", "--force", A]);
    assert_eq!(said.code, Some(0), "renew --force: {said:?}");
    assert_ne!(device.exported(A).serial, first.serial);
}

#[test]
fn md_502_107_forced_through_the_running_daemon() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}\nMDomain {B}"));
    device.complete(A);
    device.complete(B);
    let (a, b) = (device.exported(A).serial, device.exported(B).serial);
    let said = device.run(&["renew", "--force", A]);
    assert_eq!(said.code, Some(0), "renew --force: {said:?}");
    device.complete(A);
    assert_ne!(device.exported(A).serial, a);
    assert_eq!(device.exported(B).serial, b, "the other one was not asked for");
    assert_eq!(ca.issued(), 3);
}

#[test]
fn md_502_108_through_a_proxy() {
    use harness::child::Port;
    use harness::tee::Tee;
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    // Bound, so that it is nobody else's, but nobody listens there.
    let dead = Port::reserve();
    let said = drive_in_vain(&mut device, &format!("MDHttpProxy http://127.0.0.1:{}\nMDomain {A}", dead.number()));
    assert!(said.to_lowercase().contains("connection refused"), "{said}");
    assert_eq!(ca.requests().len(), 0);
    let proxy = Tee::proxy();
    drive(&mut device, &format!("MDHttpProxy http://127.0.0.1:{}\nMDomain {A}", proxy.port()));
    assert_sound(&device.exported(A), &[A]);
    assert_eq!((proxy.count(), ca.connections()), (1, 1), "one connection, and that through the proxy");
}

#[test]
fn md_502_200_a_name_more_is_due() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}"));
    device.complete(A);
    let first = device.exported(A);
    device.reload_with(&format!("MDomain {A} {B}"));
    device.logs("the certificate does not cover all names");
    device.complete(A);
    let second = device.exported(A);
    assert_sound(&second, &[A, B]);
    assert_ne!(first.serial, second.serial);
}

#[test]
fn md_502_300_a_name_less_is_not() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    drive(&mut device, &format!("MDomain {A} {B}"));
    let (first, asked) = (device.exported(A), ca.requests().len());
    drive(&mut device, &format!("MDomain {A}"));
    assert_eq!(device.exported(A).serial, first.serial);
    assert_eq!(ca.requests().len(), asked);
}

#[test]
fn md_502_202_kinds_of_keys() {
    let kinds = [
        ("Default", "EC 256", "secp256r1"),
        ("P-384", "EC 384", "secp384r1"),
        ("RSA 2048", "RSA 2048", "rsa"),
        ("RSA 3072", "RSA 3072", "rsa"),
        ("RSA 4096", "RSA 4096", "rsa"),
    ];
    // Each for itself: making an RSA key takes its time.
    std::thread::scope(|scope| {
        for (written, key, word) in kinds {
            scope.spawn(move || {
                let ca = Ca::start(&Knobs::default());
                let mut device = Device::new(&ca);
                device.start_with(&format!("MDPrivateKeys {written}\nMDomain {A}"));
                let md = device.complete(A);
                let facts = device.exported(A);
                assert_eq!(facts.key, key, "MDPrivateKeys {written}");
                assert_eq!(md["cert"][word]["serial"], json!(facts.serial), "{md}");
            });
        }
    });
}

#[test]
fn two_kinds_of_keys_are_two_orders_and_one_call() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    let ear = device.ear(0);
    let text = format!("MDPrivateKeys P-256 RSA 2048\nMDNotifyCmd {}\nMDomain {A}", ear.program.display());
    device.start_with(&text);
    let md = device.complete(A);
    assert_eq!(ca.issued(), 2);
    assert!(md["cert"]["rsa"]["serial"].is_string() && md["cert"]["secp256r1"]["serial"].is_string(), "{md}");
    assert_eq!(device.exported(A).key, "EC 256");
    let rsa =
        harness::cert::read_pair(&device.export(&format!("{A}.rsa.crt")), &device.export(&format!("{A}.rsa.key")));
    assert_eq!(rsa.key, "RSA 2048");
    assert_eq!(ear.heard().len(), 1, "{:?}", ear.heard());
}

#[test]
fn md_602_001_two_mds_at_once() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A} www.{A}\nMDomain {B} www.{B}"));
    device.complete(A);
    device.complete(B);
    assert_sound(&device.exported(A), &[A, "www.a.example.org"]);
    assert_sound(&device.exported(B), &[B, "www.b.example.org"]);
}

#[test]
fn md_702_002_two_mds_one_account() {
    // A refused nonce would have the same account asked for twice.
    let ca = Ca::start(&Knobs { nonce_reject: Some(0), ..Knobs::default() });
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}\nMDomain {B}"));
    let (a, b) = (device.complete(A), device.complete(B));
    assert_sound(&device.exported(A), &[A]);
    assert_sound(&device.exported(B), &[B]);
    assert_eq!(a["ca"], b["ca"]);
    let made = ca.requests().iter().filter(|request| *request == "POST /sign-me-up").count();
    assert_eq!((ca.accounts(), made), (1, 1), "the second order waits until the first has made the account");
}

#[test]
fn md_702_003_one_md_two_hosts() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    let host = |name| format!("<VirtualHost *:{}>\nServerName {name}\n</VirtualHost>\n", ca.http.number());
    device.start_with(&format!("MDomain {A} {B}\n{}{}", host(A), host(B)));
    let md = device.complete(A);
    assert_sound(&device.exported(A), &[A, B]);
    assert_eq!(md["ca"]["url"], json!(ca.directory()));
    assert_eq!(device.md(B), Value::Null, "one MD, one certificate");
    assert_eq!(ca.issued(), 1);
}

#[test]
fn md_702_004_only_http_01() {
    let ca = Ca::start(&Knobs { authz_reuse: Some(0), ..Knobs::default() });
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDCAChallenges http-01\nMDomain {A}"));
    device.complete(A);
    assert!(ca.log().contains("Attempting to validate w/ HTTP"), "validated otherwise");
}

#[test]
fn md_702_006_no_challenge_is_possible() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.set("MDPortMap", "http:- https:-");
    device.start_with(&format!("MDomain {A}"));
    let md = device.errors(A, 1);
    let last = &md["renewal"]["last"];
    assert_eq!(last["problem"], "challenge-mismatch", "{md}");
    let text = last.to_string();
    assert!(text.contains("None of the ACME challenge methods configured for this domain are suitable."), "{text}");
    assert_eq!((ca.accounts(), ca.issued()), (0, 0));
}

#[test]
fn md_702_008_008a_008b_a_dead_proxy_then_a_good_one() {
    use harness::child::Port;
    use harness::tee::Tee;
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    let dead = Port::reserve();
    device.start_with(&format!("MDHttpProxy http://127.0.0.1:{}\nMDomain {A}", dead.number()));
    let md = device.errors(A, 1);
    let said = md["renewal"]["last"]["status-description"].as_str().unwrap_or_default();
    assert!(said.contains("Connection refused"), "{md}");
    assert_eq!(ca.accounts(), 0);

    // 008a: for everybody, then for one MD. The changed configuration ends the wait.
    let proxy = Tee::proxy();
    device.reload_with(&format!("MDHttpProxy http://127.0.0.1:{}\nMDomain {A}", proxy.port()));
    device.complete(A);
    assert_eq!(proxy.count(), 1);
    let own = format!("<MDomainSet {B}>\nMDHttpProxy http://127.0.0.1:{}\n</MDomainSet>", proxy.port());
    device.reload_with(&format!("MDomain {A}\n{own}"));
    device.complete(B);
    assert_eq!(proxy.count(), 2);
}

#[test]
fn md_702_070_names_of_four_levels() {
    levels("a.b.example.org");
}

#[test]
fn md_702_071_names_of_five_levels() {
    levels("a.b.c.example.org");
}

fn levels(name: &str) {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {name}"));
    device.complete(name);
    assert_sound(&device.exported(name), &[name]);
}

#[test]
fn md_900_001_the_notify_command_is_missing() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDNotifyCmd {}\nMDomain {A}", device.folder.join("nothing").display()));
    let md = device.errors(A, 1);
    assert_eq!(md["renewal"]["last"]["problem"], AH10108, "{md}");
    assert_sound(&device.exported(A), &[A]);
}

const AH10108: &str = "urn:org:apache:httpd:log:AH10108:";

#[test]
fn md_900_002_the_notify_command_fails_until_it_does_not() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    let ear = device.ear(1);
    device.start_with(&format!("MDRetryDelay 100ms\nMDNotifyCmd {}\nMDomain {A}", ear.program.display()));
    let md = device.errors(A, 2);
    assert_eq!(md["renewal"]["last"]["problem"], AH10108, "{md}");
    assert_eq!(ca.issued(), 1, "the certificate is not to blame");
    device.ear(0);
    device.complete(A);
    let calls = ear.heard().len();
    assert!(calls >= 3, "{:?}", ear.heard());
    device.stop();
    device.start();
    device.complete(A);
    assert_eq!(ear.heard().len(), calls, "nothing is owed any more");
}

#[test]
fn md_900_010_the_notify_command_is_called_once() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    let ear = device.ear(0);
    device.start_with(&format!("MDNotifyCmd {}\nMDomain {A}", ear.program.display()));
    device.complete(A);
    assert_eq!(ear.heard(), [format!("{} {A}", ear.program.display())]);
    device.stop();
    device.start();
    device.complete(A);
    assert_eq!(ear.heard().len(), 1, "a restart does not tell again");
}

#[test]
fn md_900_011_more_arguments_come_first() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    let ear = device.ear(0);
    device.start_with(&format!("MDNotifyCmd {} test_900_011 two\nMDomain {A}", ear.program.display()));
    device.complete(A);
    assert_eq!(ear.heard(), [format!("{} test_900_011 two {A}", ear.program.display())]);
}

#[test]
fn the_script_finds_the_export_in_place() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    let copy = device.folder.join("seen");
    let body = format!("cat \"$EDGEMD_FULLCHAIN\" >'{0}.crt' && cat \"$EDGEMD_KEY\" >'{0}.key'", copy.display());
    let script = device.folder.script("look", &body);
    device.start_with(&format!("MDNotifyCmd {}\nMDomain {A}", script.display()));
    device.complete(A);
    let seen = harness::cert::read_pair(&copy.with_extension("crt"), &copy.with_extension("key"));
    assert_eq!(seen, device.exported(A));
}
