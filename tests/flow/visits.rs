//! Visits that are no orders: an account gets another key (RFC 8555 §7.3.5), a certificate is revoked (RFC 8555 §7.6).

use super::Bench;
use super::fake::ca::{Bad, DIRECTORY, Weather};
use edgemd::doors::https::{Route, Wire};
use edgemd::doors::keys::{self, AccountKey};
use edgemd::rules::acme::flow::{Heard, Turn, Turns};
use edgemd::rules::acme::visit::{Purpose, Visit};
use edgemd::words::cert::KeyKind;
use edgemd::words::fault::{Failure, Trouble};
use serde_json::{Value, json};

/// The keys of a visit: the one that signs, and the other one.
struct Keys {
    first: AccountKey,
    other: Vec<u8>,
}

/// How a visit ended.
fn visit(bench: &Bench, keys: &mut Keys, account: Option<String>, purpose: Purpose) -> Turn {
    let mut line = bench.ca.wire().dial(&Route::default()).unwrap();
    let mut visit = Visit::new(DIRECTORY.into(), account, purpose);
    let mut heard = Heard::Start;
    loop {
        heard = match visit.turn(heard) {
            Turn::Call(ask) => {
                line.ask(keys.first.request(&ask).unwrap());
                match line.heard().unwrap() {
                    Ok(reply) => Heard::Reply(reply),
                    Err(trouble) => Heard::Silence(trouble),
                }
            }
            Turn::ReplaceKey => {
                keys.first = AccountKey::from_pkcs8(&keys.other).unwrap();
                Heard::Key(keys.first.thumbprint())
            }
            turn => return turn,
        };
    }
}

fn failure(turn: &Turn) -> String {
    match turn {
        Turn::Fail(Failure::Refusal(refusal)) => refusal.to_string(),
        turn => panic!("{turn:?}"),
    }
}

/// A bench with an account, whose key is stored as these bytes.
fn settled() -> (Bench, Vec<u8>) {
    let mut bench = Bench::new(&["router.example.org"]);
    let pkcs8 = AccountKey::generate().unwrap();
    bench.key = AccountKey::from_pkcs8(&pkcs8).unwrap();
    bench.brief.thumbprint = bench.key.thumbprint();
    bench.accepted();
    (bench, pkcs8.to_vec())
}

fn rolling(old: &[u8], new: &[u8]) -> Keys {
    let mut first = AccountKey::from_pkcs8(old).unwrap();
    first.gives_way_to(AccountKey::from_pkcs8(new).unwrap());
    Keys { first, other: new.to_vec() }
}

fn thumbprint(pkcs8: &[u8]) -> String {
    AccountKey::from_pkcs8(pkcs8).unwrap().thumbprint()
}

#[test]
fn rfc_8555_7_3_5_an_account_gets_another_key() {
    for url_is_known in [true, false] {
        let (mut bench, old) = settled();
        let new = AccountKey::generate().unwrap();
        let account = bench.brief.account.clone().filter(|_| url_is_known);
        let before = bench.ca.requests();
        assert_eq!(visit(&bench, &mut rolling(&old, &new), account, Purpose::Roll), Turn::Finished);
        assert_eq!(bench.ca.requests() - before, if url_is_known { 3 } else { 4 });
        assert_eq!(bench.ca.thumbprints(), [thumbprint(&new)]);
        bench.key = AccountKey::from_pkcs8(&new).unwrap();
        bench.brief.thumbprint = bench.key.thumbprint();
        bench.accepted();
        assert_eq!(bench.ca.accounts(), 1);
    }
}

/// Whether nobody has heard of the change or the answer was lost: the CA says which key it knows.
#[test]
fn a_change_that_was_made_before_is_found_out() {
    let (bench, old) = settled();
    let new = AccountKey::generate().unwrap();
    let account = bench.brief.account.clone();
    bench.ca.weather(|weather| weather.lose_once = Some("/key-change"));
    assert_eq!(visit(&bench, &mut rolling(&old, &new), account.clone(), Purpose::Roll), Turn::Finished);
    assert_eq!(bench.ca.thumbprints(), [thumbprint(&new)]);
    let last = bench.ca.log().last().cloned();
    assert_eq!(last.as_deref(), Some("POST /new-account"), "asked by the new key: {:?}", bench.ca.log());
    assert_eq!(visit(&bench, &mut rolling(&old, &new), account, Purpose::Roll), Turn::Finished, "and once more");
    assert_eq!(bench.ca.accounts(), 1);
}

#[test]
fn a_change_that_the_ca_refuses_is_none() {
    let (bench, old) = settled();
    let new = AccountKey::generate().unwrap();
    let account = bench.brief.account.clone();
    let roll = |bad: Bad| {
        bench.ca.weather(|weather| weather.spoil = Some(("/key-change", bad)));
        failure(&visit(&bench, &mut rolling(&old, &new), account.clone(), Purpose::Roll))
    };
    assert_eq!(
        roll(Bad::Problem(500, "serverInternal", None)),
        "changing the account's key: serverInternal: bad weather"
    );
    assert_eq!(bench.ca.thumbprints(), [thumbprint(&old)]);
    // A key that another account has: a conflict, and that account is not ours.
    bench.ca.weather(|weather| *weather = Weather::default());
    let mut neighbour = Bench::new(&["other.example.org"]);
    let theirs = AccountKey::generate().unwrap();
    (neighbour.ca, neighbour.key) = (bench.ca.clone(), AccountKey::from_pkcs8(&theirs).unwrap());
    neighbour.brief.thumbprint = neighbour.key.thumbprint();
    let _ = neighbour.run();
    assert_eq!(bench.ca.accounts(), 2);
    let said = failure(&visit(&bench, &mut rolling(&old, &theirs), account, Purpose::Roll));
    assert_eq!(said, "changing the account's key: conflict: an account has this key");
    assert_eq!(bench.ca.thumbprints(), [thumbprint(&old), thumbprint(&theirs)]);
}

/// One of a kind that answers to its own key.
fn certified(kind: KeyKind) -> (Bench, Vec<u8>, Vec<u8>) {
    let (mut bench, old) = settled();
    bench.certificate_key = keys::generate(kind).unwrap().to_vec();
    bench.brief.csr = keys::request(&bench.certificate_key, kind, &bench.brief.names, false).unwrap();
    let chain = bench.run().unwrap();
    (bench, old, chain[0].clone())
}

#[test]
fn rfc_8555_7_6_a_certificate_is_revoked_by_the_account() {
    let (bench, old, cert) = certified(KeyKind::P256);
    let revoke = |reason: Option<u8>| {
        let mut keys = Keys { first: AccountKey::from_pkcs8(&old).unwrap(), other: bench.certificate_key.clone() };
        let purpose = Purpose::Revoke { cert: cert.clone(), reason, by_its_key: false };
        let before = bench.ca.requests();
        (visit(&bench, &mut keys, bench.brief.account.clone(), purpose), bench.ca.requests() - before)
    };
    assert_eq!(revoke(Some(4)), (Turn::Finished, 3));
    assert_eq!(bench.ca.revoked(), [(cert.clone(), json!(4))]);
    assert_eq!(revoke(None), (Turn::Finished, 3), "it was revoked already");
    assert_eq!(bench.ca.revoked().len(), 1);
}

/// Without an account, or with one that did not order it, the certificate's own key is as good; there is nothing else to
/// show for RSA and P-384 in the fake, so that is a matter for Pebble.
#[test]
fn rfc_8555_7_6_a_certificate_is_revoked_by_its_own_key() {
    for case in ["no account", "its URL is lost and the CA forgot it", "another's", "ended"] {
        let (bench, _, cert) = certified(KeyKind::P256);
        let mut account = bench.brief.account.clone();
        let mut first = AccountKey::generate().unwrap();
        match case {
            "no account" => first = bench.certificate_key.clone().into(),
            "its URL is lost and the CA forgot it" => account = None,
            _ => bench.ca.end_accounts(),
        }
        let by_its_key = case == "no account";
        let mut keys = Keys { first: AccountKey::from_pkcs8(&first).unwrap(), other: bench.certificate_key.clone() };
        let purpose = Purpose::Revoke { cert: cert.clone(), reason: None, by_its_key };
        assert_eq!(visit(&bench, &mut keys, account, purpose), Turn::Finished, "{case}");
        assert_eq!(bench.ca.revoked(), [(cert, Value::Null)], "{case}");
    }
}

#[test]
fn what_can_t_be_revoked_is_said() {
    let (bench, old, _) = certified(KeyKind::P256);
    let mut keys = Keys { first: AccountKey::from_pkcs8(&old).unwrap(), other: bench.certificate_key.clone() };
    let purpose = Purpose::Revoke { cert: vec![0x30, 0], reason: None, by_its_key: false };
    let said = failure(&visit(&bench, &mut keys, bench.brief.account.clone(), purpose));
    assert_eq!(said, "revoking the certificate: malformed: it is none of ours");
    assert_eq!(keys.first.thumbprint(), AccountKey::from_pkcs8(&old).unwrap().thumbprint(), "no other key is tried");
    bench.ca.weather(|weather| weather.no_extras = true);
    for (purpose, word) in [
        (Purpose::Revoke { cert: vec![], reason: None, by_its_key: false }, "revokeCert"),
        (Purpose::Roll, "keyChange"),
    ] {
        let said = failure(&visit(&bench, &mut keys, bench.brief.account.clone(), purpose));
        assert_eq!(said, format!("reading the directory: unexpected-answer: the CA's directory has no {word}"));
    }
}

/// What the house can't do ends the visit with its reason, and so does what nobody has asked for.
#[test]
fn a_key_that_can_t_be_had_is_said() {
    let waiting = || {
        let (bench, old) = settled();
        let keys = rolling(&old, &old);
        let mut line = bench.ca.wire().dial(&Route::default()).unwrap();
        let mut visit = Visit::new(DIRECTORY.into(), bench.brief.account.clone(), Purpose::Roll);
        bench.ca.weather(|weather| weather.spoil = Some(("/key-change", Bad::Problem(409, "conflict", None))));
        let mut heard = Heard::Start;
        while let Turn::Call(ask) = visit.turn(heard) {
            line.ask(keys.first.request(&ask).unwrap());
            heard = Heard::Reply(line.heard().unwrap().unwrap());
        }
        visit
    };
    let lost = || Heard::Silence(Trouble::new("reading the key", "the disk is gone"));
    let mut visit = waiting();
    let Turn::Fail(failure) = visit.turn(lost()) else { panic!("it goes on") };
    assert_eq!(failure.to_string(), "reading the key: the disk is gone");
    for heard in [Heard::Start, Heard::Key("x".into()), lost()] {
        let Turn::Fail(failure) = visit.turn(heard) else { panic!("it goes on") };
        assert!(failure.to_string().ends_with("out of turn"), "{failure}");
    }
    let Turn::Fail(failure) = waiting().turn(Heard::Start) else { panic!("it starts again") };
    assert!(failure.to_string().ends_with("out of turn"), "{failure}");
}
