//! OCSP by value: the question, and every kind of answer.

mod fake;

use edgemd::rules::der::{INTEGER, OCTETS, SEQUENCE, only, tlv};
use edgemd::rules::ocsp::{self, Query};
use edgemd::words::staple::Verdict;
use edgemd::words::time::{Span, Unix};
use fake::responder::{Mood, Responder, Says, Signer, TestCa};

/// 2027-01-15T08:00:00Z.
const NOW: Unix = Unix::from_secs(1_800_000_000);
type Change = fn(&mut Mood);

const URL: &str = "http://ocsp.example/at";

fn world() -> (Responder, Query) {
    let ca = TestCa::new("Test CA");
    let (chain, _) = ca.issue("a.example", 0x8001, Some(URL));
    let query = ocsp::query(&chain).unwrap().unwrap();
    (Responder::new(ca, || NOW), query)
}

fn ask(responder: &Responder, query: &Query) -> Vec<u8> {
    responder.answer(&query.request).unwrap().2
}

#[test]
fn rfc_6960_4_1_the_question() {
    let (_, query) = world();
    assert_eq!(query.url, URL);
    let id = (0..5).fold(&query.request[..], |outer, _| only(outer, SEQUENCE).unwrap());
    // SHA-1 with its NULL, two hashes, and the number with its sign.
    assert_eq!(id[..13], [0x30, 9, 6, 5, 0x2b, 0x0e, 3, 2, 0x1a, 5, 0, OCTETS, 20]);
    assert_eq!(id[13 + 20..13 + 22], [OCTETS, 20]);
    assert_eq!(id[13 + 42..], tlv(INTEGER, &[0, 0x80, 1]));
}

#[test]
fn md_801_009_who_is_asked_about_what() {
    let ca = TestCa::new("Test CA");
    let asked = |url: Option<&str>| ocsp::query(&ca.issue("a.example", 7, url).0).unwrap().map(|query| query.url);
    assert_eq!(asked(None), None);
    assert_eq!(asked(Some("https://ocsp.example")).as_deref(), Some("https://ocsp.example"));
    for url in ["ldap://ocsp.example", "", "http://ocsp.example/ x", "http://ocsp.example/\n", "HTTP"] {
        assert_eq!(asked(Some(url)), None, "{url}");
    }
    let long = |length: usize| format!("http://{}", "a".repeat(length - 7));
    assert_eq!(asked(Some(&long(1023))), Some(long(1023)));
    assert_eq!(asked(Some(&long(1024))), None);

    let (mut chain, _) = ca.issue("a.example", 7, Some(URL));
    chain[1] = TestCa::new("Another").der;
    assert!(ocsp::query(&chain).unwrap_err().contains("not the CA's own"));
    chain.truncate(1);
    assert!(ocsp::query(&chain).unwrap_err().contains("not in its chain"));
    assert!(ocsp::query(&[]).is_err() && ocsp::query(&[vec![1]]).is_err());
}

#[test]
fn good_answers() {
    let from = NOW.minus(Span::hours(1));
    let good = Verdict { revoked: false, from, until: from.plus(Span::days(7)) };
    let tomorrow = NOW.plus(Span::days(1));
    let changes: [(Change, Verdict); 7] = [
        (|_| {}, good),
        (|mood| mood.by_name = true, good),
        (|mood| mood.signer = Signer::Delegate, good),
        (|mood| (mood.signer, mood.by_name) = (Signer::Delegate, true), good),
        (|mood| mood.life = None, Verdict { until: from.plus(Span::hours(12)), ..good }),
        // The clock here may be a day behind.
        (|mood| mood.ahead = Span::hours(25), Verdict { from: tomorrow, until: tomorrow.plus(Span::days(7)), ..good }),
        (|mood| mood.revoked = vec![vec![0, 0x80, 1]], Verdict { revoked: true, ..good }),
    ];
    for (at, (change, verdict)) in changes.into_iter().enumerate() {
        let (responder, query) = world();
        responder.mood(change);
        let der = ask(&responder, &query);
        let response = ocsp::read(&query, &der, Some(NOW)).unwrap_or_else(|why| panic!("{at}: {why}"));
        assert_eq!((response.verdict, response.der), (verdict, der), "{at}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let nobody = "it is signed by nobody who may speak for the CA";
    let changes: [(Change, &str); 18] = [
        (|mood| mood.says = Says::Not(1), "the responder says malformedRequest"),
        (|mood| mood.says = Says::Not(2), "the responder says internalError"),
        (|mood| mood.says = Says::Not(3), "the responder says tryLater"),
        (|mood| mood.says = Says::Not(5), "the responder says sigRequired"),
        (|mood| mood.says = Says::Not(6), "the responder says unauthorized"),
        (|mood| mood.says = Says::Not(9), "the responder says something unknown"),
        (|mood| mood.says = Says::Not(0), "it is not DER of RFC 6960"),
        (|mood| mood.says = Says::Unknown, "the responder does not know the certificate"),
        (|mood| mood.other_serial = true, "it is for another certificate"),
        (|mood| mood.damages_signature = true, nobody),
        (|mood| mood.signer = Signer::Other, nobody),
        (|mood| mood.signer = Signer::NoDelegate, nobody),
        (|mood| mood.signer = Signer::OtherDelegate, nobody),
        (|mood| mood.signer = Signer::NamesakeDelegate, nobody),
        (|mood| mood.signer = Signer::OldDelegate, "the certificate of who signed it is not valid now"),
        (|mood| mood.life = Some(Span::ZERO), "it ends (2027-01-15T07:00:00Z) before it begins (2027-01-15T07:00:00Z)"),
        (
            |mood| mood.life = Some(Span::hours(1)),
            "it has ended already, at 2027-01-15T08:00:00Z; the clock here says 2027-01-15T08:00:00Z",
        ),
        (
            |mood| mood.ahead = Span::hours(26),
            "it begins only at 2027-01-16T09:00:00Z; the clock here says 2027-01-15T08:00:00Z",
        ),
    ];
    for (change, why) in changes {
        let (responder, query) = world();
        responder.mood(change);
        assert_eq!(ocsp::read(&query, &ask(&responder, &query), Some(NOW)), Err(why.into()));
    }
}

#[test]
fn who_speaks_for_the_ca_does_so_until_the_end_of_his_certificate() {
    let ca = TestCa::new("Test CA");
    let (chain, _) = ca.issue("a.example", 7, Some(URL));
    let query = ocsp::query(&chain).unwrap().unwrap();
    let end = Unix::from_rfc3339("2020-01-01T00:00:00Z").unwrap();
    let responder = Responder::new(ca, move || end);
    responder.mood(|mood| mood.signer = Signer::OldDelegate);
    let der = ask(&responder, &query);
    assert!(ocsp::read(&query, &der, Some(end.minus(Span::secs(1)))).is_ok());
    assert!(ocsp::read(&query, &der, Some(end)).is_err_and(|why| why.contains("not valid now")));
}

#[test]
fn without_a_clock_no_time_is_judged() {
    let changes: [Change; 3] = [
        |mood| mood.life = Some(Span::mins(1)),
        |mood| mood.ahead = Span::days(400),
        |mood| mood.signer = Signer::OldDelegate,
    ];
    for change in changes {
        let (responder, query) = world();
        responder.mood(change);
        let der = ask(&responder, &query);
        assert!(ocsp::read(&query, &der, Some(NOW)).is_err());
        assert!(ocsp::read(&query, &der, None).is_ok());
    }
}

#[test]
fn an_answer_of_another_ca_is_none() {
    let (_, query) = world();
    let (other, theirs) = world();
    let der = ask(&other, &theirs);
    assert!(ocsp::read(&theirs, &der, Some(NOW)).is_ok());
    assert!(ocsp::read(&query, &der, Some(NOW)).is_err(), "same names, same number, another key");
}

#[test]
fn a_part_of_an_answer_is_none() {
    for signer in [Signer::Ca, Signer::Delegate] {
        let (responder, query) = world();
        responder.mood(|mood| mood.signer = signer);
        let whole = ask(&responder, &query);
        for end in 0..whole.len() {
            assert!(ocsp::read(&query, &whole[..end], None).is_err(), "cut at {end}");
        }
        assert!(ocsp::read(&query, &[&whole[..], &[0]].concat(), None).is_err());
        assert_eq!(ocsp::read(&query, &vec![0x30; 16_385], None), Err("it is too long".into()));
        assert_eq!(ocsp::read(&query, &vec![0x30; 16_384], None), Err("it is not DER of RFC 6960".into()));
    }
}
