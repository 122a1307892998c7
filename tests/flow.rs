//! Orders against a CA in memory: the honest way, each bad manner, and storms of half-honest replies.

#[path = "flow/bound.rs"]
mod bound;
#[path = "flow/chains.rs"]
mod chains;
mod fake;
#[path = "flow/visits.rs"]
mod visits;

use edgemd::doors::https::{Route, Wire};
use edgemd::doors::keys::{self, AccountKey};
use edgemd::rules::acme::advice::{self, Hint};
use edgemd::rules::acme::flow::{Bond, Brief, Flow, Granted, Heard, How, Turn, Turns};
use edgemd::rules::acme::inquiry::Inquiry;
use edgemd::rules::acme::types::Reply;
use edgemd::rules::acme::visit::{Purpose, Visit};
use edgemd::rules::{pem, x509};
use edgemd::words::answers::Answers;
use edgemd::words::cert::KeyKind;
use edgemd::words::config::Challenge;
use edgemd::words::fault::{Failure, Refusal, Trouble};
use edgemd::words::name::{Labels, Name};
use edgemd::words::time::{Span, Unix};
use fake::ca::{Bad, DIRECTORY, FakeCa, Reuse};
use fake::hands::Hands;
use fake::zone::Zone;
use std::sync::Arc;

const NOW: Unix = Unix::from_secs(1_795_000_000);

fn name(text: &str) -> Name {
    Name::parse(text, Labels::One).unwrap()
}

/// A device with one want, and the CA that it speaks to.
struct Bench {
    ca: FakeCa,
    answers: Arc<Answers>,
    key: AccountKey,
    brief: Brief,
    certificate_key: Vec<u8>,
    serve_fails: Vec<Challenge>,
    /// The bytes of this answer become those.
    forged: Option<(usize, Vec<u8>)>,
    zone: Zone,
    /// DNS does not show what it should.
    unseen: bool,
    trace: Vec<Turn>,
}

impl Bench {
    fn new(names: &[&str]) -> Self {
        let answers = Arc::new(Answers::default());
        let key = AccountKey::from_pkcs8(&AccountKey::generate().unwrap()).unwrap();
        let certificate_key = keys::generate(KeyKind::P256).unwrap().to_vec();
        let names: Vec<Name> = names.iter().map(|text| name(text)).collect();
        let brief = Brief {
            directory: DIRECTORY.into(),
            csr: keys::request(&certificate_key, KeyKind::P256, &names, false).unwrap(),
            names,
            thumbprint: key.thumbprint(),
            account: None,
            key_was_shown: false,
            contacts: vec!["mailto:admin@example.org".into()],
            told: vec![],
            agreement: Some("accepted".into()),
            challenges: vec![Challenge::Http01],
            ..Brief::default()
        };
        let ca = FakeCa::new(|| NOW, answers.clone());
        let zone = Zone::new(&Hands::at(None));
        ca.asks(&zone);
        let (serve_fails, unseen, trace) = (Vec::new(), false, Vec::new());
        Self { ca, answers, key, brief, certificate_key, serve_fails, forged: None, zone, unseen, trace }
    }

    /// Does what the flow says until it ends; checks what must hold for every run.
    fn run(&mut self) -> Result<Vec<Vec<u8>>, Failure> {
        self.grant().map(|granted| granted.chain)
    }

    fn grant(&mut self) -> Result<Granted, Failure> {
        let mut wire = self.ca.wire();
        let mut line = wire.dial(&Route::default()).unwrap();
        let mut flow = Flow::new(self.brief.clone());
        let mut heard = Heard::Start;
        let (mut served, mut looked) = (vec![], false);
        self.trace.clear();
        for _ in 0..2000 {
            let turn = flow.turn(heard);
            self.trace.push(turn.clone());
            heard = match turn {
                Turn::Call(ask) => {
                    line.ask(self.key.request(&ask).unwrap());
                    let calls = self.trace.iter().filter(|turn| matches!(turn, Turn::Call(_))).count();
                    match (line.heard().unwrap(), &self.forged) {
                        (Ok(reply), Some((at, body))) if calls == at + 1 => {
                            Heard::Reply(Reply { body: body.clone(), ..reply })
                        }
                        (Ok(reply), _) => Heard::Reply(reply),
                        (Err(trouble), _) => Heard::Silence(trouble),
                    }
                }
                Turn::Serve(proof) => {
                    assert!(!served.contains(&proof) && (served.is_empty() || proof.txt.is_some()), "{served:?}");
                    served.push(proof.clone());
                    if self.serve_fails.contains(&proof.challenge) {
                        Heard::Silence(Trouble::new("serving", "port 80 is taken"))
                    } else {
                        match &proof.txt {
                            Some(txt) => self.zone.put(&txt.name, &txt.value),
                            None => self.answers.put(&proof.token, &proof.key_authorization),
                        }
                        Heard::Done
                    }
                }
                Turn::Unserve(proof) => {
                    assert_eq!(served.iter().filter(|other| **other == proof).count(), 1);
                    served.retain(|other| *other != proof);
                    match &proof.txt {
                        Some(txt) => self.zone.remove(&txt.name, Some(&txt.value)),
                        None => self.answers.withdraw(&proof.token),
                    }
                    Heard::Done
                }
                Turn::Look { records, .. } => {
                    let wanted: Vec<_> = served.iter().filter_map(|proof| proof.txt.clone()).collect();
                    assert!(records == wanted && !std::mem::replace(&mut looked, true), "one look, at all of it");
                    match self.unseen {
                        true => Heard::Silence(Trouble::new("looking", "ns.example does not show it")),
                        false => Heard::Done,
                    }
                }
                Turn::Rest(_) => Heard::Done,
                Turn::Keep { account, contacts } => {
                    (self.brief.account, self.brief.told) = (Some(account), contacts);
                    Heard::Done
                }
                Turn::ReplaceKey => {
                    self.key = AccountKey::from_pkcs8(&AccountKey::generate().unwrap()).unwrap();
                    self.brief.thumbprint = self.key.thumbprint();
                    Heard::Key(self.key.thumbprint())
                }
                Turn::Finished | Turn::Known(_) => panic!("an order ends with a chain"),
                Turn::Advised { .. } => panic!("an order does not ask about others"),
                Turn::Done(granted) => {
                    assert_eq!(served, []);
                    return Ok(granted);
                }
                Turn::Fail(failure) => {
                    assert_eq!(served, []);
                    return Err(failure);
                }
            };
        }
        panic!("the order never ends: {:?}", self.ca.log());
    }

    fn accepted(&mut self) {
        let chain = self.run().unwrap_or_else(|failure| panic!("{failure}; {:?}", self.ca.log()));
        let public = keys::public_key(&self.certificate_key, KeyKind::P256).unwrap();
        let names = self.brief.names.clone();
        x509::accept(&chain, &public, &names, KeyKind::P256, DIRECTORY, Some(NOW)).unwrap();
    }

    fn refused(&mut self) -> Refusal {
        match self.run() {
            Err(Failure::Refusal(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }

    fn rests(&self) -> Vec<Span> {
        let rests = self.trace.iter().filter_map(|turn| match turn {
            Turn::Rest(span) => Some(*span),
            _ => None,
        });
        rests.collect()
    }
}

#[test]
fn the_first_order_takes_ten_requests_and_the_next_nine() {
    let mut bench = Bench::new(&["router.example.org"]);
    bench.accepted();
    let first = [
        "GET /directory",
        "HEAD /new-nonce",
        "POST /new-account",
        "POST /new-order",
        "POST /authorization/0",
        "POST /challenge/0/http-01",
        "POST /authorization/0",
        "POST /finalize/0",
        "POST /order/0",
        "POST /certificate/0",
    ];
    assert_eq!(bench.ca.log(), first);
    assert_eq!(bench.rests(), [Span::millis(100), Span::millis(100)]);
    assert_eq!(bench.ca.contacts(), serde_json::json!(["mailto:admin@example.org"]));
    let contacts = bench.brief.contacts.clone();
    assert!(bench.trace.contains(&Turn::Keep { account: "https://ca.example/account/0".into(), contacts }));
    bench.accepted();
    assert_eq!(bench.ca.requests(), 10 + 9);
    assert_eq!(bench.ca.lines(), 2);
    bench.ca.weather(|weather| weather.prompt = true);
    bench.accepted();
    assert_eq!(bench.ca.requests(), 10 + 9 + 8, "a finished order is not polled");
}

#[test]
fn many_names_of_all_kinds() {
    let mut bench = Bench::new(&["a.example.org", "b.example.org", "192.0.2.7", "2001:db8::7"]);
    bench.accepted();
    assert_eq!(bench.ca.requests(), 10 + 3 * 3);
    assert_eq!(bench.ca.issued()[0].names, ["192.0.2.7", "2001:db8::7", "a.example.org", "b.example.org"]);
}

#[test]
fn reused_authorizations_are_not_proven_again() {
    let mut bench = Bench::new(&["router.example.org"]);
    bench.ca.weather(|weather| weather.reuse = Reuse::Always);
    bench.accepted();
    bench.accepted();
    assert_eq!(bench.ca.requests(), 10 + 6, "an order that is ready already is finalized at once");
    let mut bench = Bench::new(&["a.example.org"]);
    bench.ca.weather(|weather| weather.reuse = Reuse::Always);
    bench.accepted();
    bench.brief.names.push(name("b.example.org"));
    bench.brief.csr = keys::request(&bench.certificate_key, KeyKind::P256, &bench.brief.names, false).unwrap();
    bench.accepted();
    let serves = bench.trace.iter().filter(|turn| matches!(turn, Turn::Serve(_))).count();
    assert_eq!(serves, 1, "only the new name is proven");
}

#[test]
fn refused_nonces_are_answered_at_once() {
    let mut bench = Bench::new(&["router.example.org"]);
    bench.ca.weather(|weather| weather.refuse_nonce_every = 2);
    bench.accepted();
    assert!(bench.ca.requests() <= 19, "{:?}", bench.ca.log());
    bench.ca.weather(|weather| weather.refuse_nonce_every = 1);
    let before = bench.ca.requests();
    assert_eq!(bench.refused().short(), "badNonce");
    assert_eq!(bench.ca.requests() - before, 2 + 21, "the directory, a nonce, and one question 21 times");
    assert_eq!(bench.rests(), []);
}

#[test]
fn a_nonce_limit_for_the_whole_order() {
    let names: Vec<String> = (0..60).map(|n| format!("n{n}.example.org")).collect();
    let mut bench = Bench::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    bench.ca.weather(|weather| weather.refuse_nonce_every = 2);
    assert_eq!(bench.refused().short(), "badNonce");
    assert_eq!(bench.ca.requests(), 2 + 202, "the directory, a nonce, and every second of the questions refused");
    bench.ca.weather(|weather| weather.refuse_nonce_every = 3);
    bench.accepted();
}

#[test]
fn two_lost_answers_are_asked_for_again() {
    for every in 5..30 {
        let mut bench = Bench::new(&["router.example.org"]);
        bench.ca.weather(|weather| weather.lose_reply_every = every);
        bench.accepted();
        assert_eq!(bench.ca.accounts(), 1);
        assert_eq!(bench.ca.issued().len(), 1, "every {every}: {:?}", bench.ca.log());
    }
    let mut bench = Bench::new(&["router.example.org"]);
    bench.ca.weather(|weather| weather.lose_reply_every = 1);
    let failure = bench.run().unwrap_err();
    assert_eq!(failure.to_string(), "reading the directory: ca.example: the connection was closed");
    assert_eq!(bench.ca.requests(), 3);
    bench.ca.weather(|weather| weather.down = true);
    assert_eq!(bench.run().unwrap_err().to_string(), "reading the directory: ca.example: connection refused");
}

#[test]
fn a_lost_account_url_is_found_again_by_the_key() {
    let mut bench = Bench::new(&["router.example.org"]);
    bench.accepted();
    bench.brief.account = None;
    bench.brief.key_was_shown = true;
    bench.brief.agreement = None;
    bench.accepted();
    assert_eq!(bench.ca.accounts(), 1);
    assert_eq!(bench.ca.requests(), 10 + 10);
}

#[test]
fn an_account_that_the_ca_never_got_is_made() {
    let mut bench = Bench::new(&["router.example.org"]);
    bench.brief.key_was_shown = true;
    bench.accepted();
    assert_eq!(bench.ca.requests(), 11);
    bench.ca.forget_accounts();
    bench.accepted();
    assert_eq!(bench.ca.accounts(), 1);
    let again = bench.trace.iter().filter(|turn| matches!(turn, Turn::Keep { .. })).count();
    assert_eq!(again, 1);
    bench.ca.weather(|weather| weather.spoil = Some(("/new-order", Bad::Problem(400, "accountDoesNotExist", None))));
    assert_eq!(bench.refused().short(), "accountDoesNotExist", "an account is made once an order");
}

/// RFC 8555 §7.3.2: a change is told at the next contact, once, and before the order.
#[test]
fn changed_contacts_are_told_before_the_order() {
    let mut bench = Bench::new(&["router.example.org"]);
    bench.accepted();
    for contacts in [&["mailto:new@example.org"][..], &["mailto:new@example.org", "mailto:b@example.org"], &[]] {
        bench.brief.contacts = contacts.iter().map(|contact| (*contact).into()).collect();
        let before = bench.ca.requests();
        bench.accepted();
        assert_eq!(bench.ca.log()[before + 2..before + 4], ["POST /account/0", "POST /new-order"]);
        assert_eq!(bench.ca.contacts(), serde_json::json!(contacts));
        assert_eq!(bench.brief.told, contacts);
        let before = bench.ca.requests();
        bench.accepted();
        assert_eq!(bench.ca.requests() - before, 9, "once");
    }
    bench.brief.contacts = vec!["mailto:nobody@example.org".into()];
    bench.ca.weather(|weather| weather.bad_contact = Some("mailto:nobody@example.org"));
    let refusal = bench.refused();
    assert!(refusal.to_string().starts_with("changing the account's contacts: invalidContact: "), "{refusal}");
    assert_eq!(bench.brief.told, [""; 0], "what was refused is not known");
    assert_eq!(bench.ca.accounts(), 1);
}

/// RFC 8555 §7.3.6: who was deactivated is not heard any more, and its key makes no other account.
#[test]
fn a_deactivated_account_is_made_anew_with_another_key() {
    for (forgets_url, changes_contacts) in [(false, false), (true, false), (false, true)] {
        let mut bench = Bench::new(&["router.example.org"]);
        bench.accepted();
        bench.ca.end_accounts();
        if forgets_url {
            (bench.brief.account, bench.brief.key_was_shown) = (None, true);
        }
        if changes_contacts {
            bench.brief.contacts = vec!["mailto:new@example.org".into()];
        }
        let old = bench.key.thumbprint();
        bench.accepted();
        assert_ne!(bench.key.thumbprint(), old);
        assert_eq!(bench.ca.accounts(), 1);
        assert_eq!(bench.brief.account.as_deref(), Some("https://ca.example/account/1"));
        assert_eq!(bench.ca.contacts(), serde_json::json!(bench.brief.contacts));
    }
    // A new key that is denied is denied for another reason.
    let mut bench = Bench::new(&["router.example.org"]);
    bench.ca.weather(|weather| weather.spoil = Some(("/new-account", Bad::Problem(403, "unauthorized", None))));
    assert_eq!(bench.refused().short(), "unauthorized");
    assert!(!bench.trace.contains(&Turn::ReplaceKey));
    bench.brief.key_was_shown = true;
    assert_eq!(bench.refused().short(), "unauthorized");
    assert_eq!(bench.trace.iter().filter(|turn| **turn == Turn::ReplaceKey).count(), 1, "an order makes one new key");
}

#[test]
fn an_order_that_is_denied_to_a_good_account_costs_no_account() {
    let mut bench = Bench::new(&["router.example.org"]);
    bench.accepted();
    bench.ca.weather(|weather| weather.denies_orders = true);
    let refusal = bench.refused();
    assert_eq!(refusal.to_string(), "placing the order: unauthorized: not for you");
    assert_eq!(bench.ca.accounts(), 1);
    assert_eq!(bench.ca.log().last().map(String::as_str), Some("POST /account/0"), "it was looked at");
}

/// Ends the account of a bench; what the last turn was.
fn leave(bench: &Bench, account: Option<String>) -> Turn {
    let mut line = bench.ca.wire().dial(&Route::default()).unwrap();
    let mut leaving = Visit::new(DIRECTORY.into(), account, Purpose::Leave);
    let mut heard = Heard::Start;
    loop {
        let turn = leaving.turn(heard);
        let Turn::Call(ask) = turn else { return turn };
        line.ask(bench.key.request(&ask).unwrap());
        heard = match line.heard().unwrap() {
            Ok(reply) => Heard::Reply(reply),
            Err(trouble) => Heard::Silence(trouble),
        };
    }
}

#[test]
fn leaving_ends_the_account_or_finds_it_gone() {
    let mut bench = Bench::new(&["router.example.org"]);
    bench.accepted();
    let account = bench.brief.account.clone();
    let before = bench.ca.requests();
    assert_eq!(leave(&bench, account.clone()), Turn::Finished);
    assert_eq!(bench.ca.log()[before..], ["GET /directory", "HEAD /new-nonce", "POST /account/0"]);
    assert_eq!((bench.ca.accounts(), bench.ca.ended_accounts()), (0, 1));
    for account in [account.clone(), None] {
        assert_eq!(leave(&bench, account), Turn::Finished, "it is at its end already");
    }
    bench.ca.forget_accounts();
    for account in [account, None] {
        assert_eq!(leave(&bench, account), Turn::Finished, "the CA knows nothing of it");
    }

    let mut bench = Bench::new(&["router.example.org"]);
    bench.accepted();
    assert_eq!(leave(&bench, None), Turn::Finished, "found by its key");
    assert_eq!(bench.ca.ended_accounts(), 1);
}

#[test]
fn an_account_that_can_t_be_ended_is_kept() {
    let mut bench = Bench::new(&["router.example.org"]);
    bench.accepted();
    let why = |bad: (&'static str, Bad), account: Option<String>| {
        bench.ca.weather(|weather| weather.spoil = Some(bad));
        match leave(&bench, account) {
            Turn::Fail(failure) => failure.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let account = bench.brief.account.clone();
    let limited = || Bad::Problem(429, "rateLimited", None);
    assert_eq!(why(("/account", limited()), account.clone()), "deactivating the account: rateLimited: bad weather");
    assert_eq!(why(("/new-account", limited()), None), "finding the account: rateLimited: bad weather");
    assert_eq!(
        why(("/directory", Bad::Problem(403, "unauthorized", None)), account),
        "reading the directory: unauthorized: bad weather"
    );
    let said = why(("/new-account", Bad::Html), None);
    assert!(said.contains("the CA gave \"\" as the address of the account"), "{said}");
    assert_eq!((bench.ca.accounts(), bench.ca.ended_accounts()), (1, 0));
}

#[test]
fn md_502_001_terms_are_the_operators_to_accept() {
    let mut bench = Bench::new(&["router.example.org"]);
    bench.brief.agreement = None;
    let refusal = bench.refused();
    assert_eq!(refusal.short(), "userActionRequired");
    assert!(
        refusal
            .detail
            .starts_with("the CA requires you to accept the terms-of-service as specified in https://ca.example/terms"),
        "{refusal}"
    );
    bench.brief.agreement = Some("https://ca.example/old-terms".into());
    let refusal = bench.refused();
    assert!(refusal.detail.contains("https://ca.example/terms;"), "{refusal}");
    assert!(refusal.detail.contains("https://ca.example/old-terms"), "{refusal}");
    assert_eq!(bench.ca.accounts(), 0);
    assert_eq!(bench.ca.requests(), 2, "the CA was asked for its directory and nothing else");
    bench.brief.agreement = Some("https://ca.example/terms".into());
    bench.accepted();
    let mut bench = Bench::new(&["router.example.org"]);
    bench.ca.weather(|weather| weather.terms = None);
    bench.brief.agreement = None;
    bench.accepted();
}

#[test]
fn a_ca_that_takes_its_time() {
    let mut bench = Bench::new(&["router.example.org"]);
    bench.ca.weather(|weather| weather.polls = 5);
    bench.accepted();
    let doubling: Vec<u64> = bench.rests().into_iter().map(Span::as_millis).collect();
    assert_eq!(doubling, [100, 200, 400, 800, 1600, 3200, 100, 200, 400, 800, 1600, 3200]);
    bench.ca.weather(|weather| weather.retry_after = Some(Span::secs(3)));
    bench.accepted();
    assert_eq!(bench.rests()[0], Span::millis(100), "an answer without Retry-After asks for no wait");
    assert_eq!(bench.rests()[1], Span::secs(3));
    assert_eq!(bench.rests()[6..], [Span::secs(3); 6], "the answer to finalize carries one");
    bench.ca.weather(|weather| weather.retry_after = Some(Span::mins(10)));
    let refusal = bench.refused();
    assert_eq!(refusal.retry_after, Some(Span::mins(10)));
    assert!(refusal.detail.contains("5 minutes"), "{refusal}");
    bench.ca.weather(|weather| {
        weather.retry_after = None;
        weather.polls = 1000;
    });
    let refusal = bench.refused();
    assert!(refusal.detail.contains("5 minutes"), "{refusal}");
    assert!(bench.rests().iter().map(|span| span.as_millis()).sum::<u64>() <= 300_000);
}

#[test]
fn a_rejected_answer_names_the_name_and_the_reason() {
    let mut bench = Bench::new(&["good.example.org", "bad.example.org"]);
    bench.ca.weather(|weather| weather.reject = true);
    let refusal = bench.refused();
    assert_eq!(
        refusal.to_string(),
        "proving good.example.org by http-01: unauthorized: the answer is not the key authorization"
    );
}

#[test]
fn no_type_in_common() {
    let mut bench = Bench::new(&["*.example.org"]);
    let refusal = bench.refused();
    assert_eq!(refusal.problem, "challenge-mismatch");
    assert!(refusal.to_string().contains("proving *.example.org"), "{refusal}");
    assert!(refusal.detail.contains("dns-01") && refusal.detail.ends_with("possible here: http-01"), "{refusal}");
    bench.brief.challenges.clear();
    let before = bench.ca.requests();
    let refusal = bench.refused();
    assert_eq!(refusal.problem, "challenge-mismatch");
    assert_eq!(refusal.detail, "None of the ACME challenge methods configured for this domain are suitable.");
    assert_eq!(bench.ca.requests(), before);
}

#[test]
fn a_set_up_that_fails_gives_way_to_the_next_type() {
    let mut bench = Bench::new(&["router.example.org"]);
    bench.serve_fails = vec![Challenge::TlsAlpn01];
    bench.brief.challenges = vec![Challenge::TlsAlpn01, Challenge::Http01];
    bench.accepted();
    bench.serve_fails.push(Challenge::Http01);
    let refusal = bench.refused();
    assert_eq!(refusal.problem, "challenge-setup-failure");
    assert_eq!(
        refusal.to_string(),
        "proving router.example.org by http-01: challenge-setup-failure: serving: port 80 is taken"
    );
}

#[test]
fn refusals_keep_their_retry_after() {
    for (status, kind) in [(429, "rateLimited"), (503, "serverInternal"), (500, "serverInternal")] {
        for place in ["/directory", "/new-order", "/authorization", "/challenge", "/finalize", "/order", "/certificate"]
        {
            let mut bench = Bench::new(&["router.example.org"]);
            let wait = Some(Span::mins(7));
            bench.ca.weather(|weather| weather.spoil = Some((place, Bad::Problem(status, kind, wait))));
            let refusal = bench.refused();
            assert_eq!((refusal.status, refusal.short(), refusal.retry_after), (Some(status), kind, wait), "{place}");
        }
    }
}

#[test]
fn answers_that_are_none_are_named() {
    for (place, doing) in [
        ("/directory", "reading the directory"),
        ("/new-order", "placing the order"),
        ("/authorization", "reading an authorization"),
        ("/finalize", "finalizing the order"),
        ("/order", "waiting for the certificate"),
    ] {
        for (bad, says) in [
            (Bad::Html, "captive-portal: the CA answered HTML instead of JSON; is a captive portal in between"),
            (Bad::Empty, "unexpected-answer: the CA's answer is empty"),
            (Bad::Truncated, "unexpected-answer: the CA's answer breaks off after 46 bytes"),
        ] {
            let mut bench = Bench::new(&["router.example.org"]);
            bench.ca.weather(|weather| weather.spoil = Some((place, bad)));
            let said = bench.refused().to_string();
            assert!(said.starts_with(&format!("{doing}: {says}")), "{said}");
        }
        let mut bench = Bench::new(&["router.example.org"]);
        bench.ca.weather(|weather| weather.spoil = Some((place, Bad::Huge)));
        let said = bench.run().unwrap_err().to_string();
        assert_eq!(said, format!("{doing}: ca.example: the CA answered more than 1 MB"));
    }
    let mut bench = Bench::new(&["router.example.org"]);
    bench.ca.weather(|weather| weather.spoil = Some(("/certificate", Bad::Html)));
    let said = bench.refused().to_string();
    assert_eq!(said, "fetching the certificate: bad-certificate: there is no certificate in it");
    bench.ca.weather(|weather| weather.spoil = Some(("/new-account", Bad::Html)));
    bench.brief.account = None;
    let said = bench.refused().to_string();
    assert!(said.contains("the CA did not say where the account is"), "{said}");
}

#[test]
fn certificates_of_another_key_or_name_are_seen() {
    let mut bench = Bench::new(&["router.example.org"]);
    let public = keys::public_key(&bench.certificate_key, KeyKind::P256).unwrap();
    for wrong_key in [true, false] {
        bench.ca.weather(|weather| {
            weather.wrong_key = wrong_key;
            weather.wrong_names = !wrong_key;
        });
        let chain = bench.run().unwrap();
        let names = &bench.brief.names;
        let refusal = x509::accept(&chain, &public, names, KeyKind::P256, DIRECTORY, Some(NOW)).unwrap_err();
        let says = if wrong_key { "another key" } else { "does not cover router.example.org" };
        assert!(refusal.detail.contains(says), "{refusal}");
    }
}

#[test]
fn every_kind_of_key_gets_a_certificate() {
    for kind in [KeyKind::P384, KeyKind::Rsa(2048)] {
        let mut bench = Bench::new(&["router.example.org"]);
        let key = keys::generate(kind).unwrap();
        bench.brief.csr = keys::request(&key, kind, &bench.brief.names, false).unwrap();
        let chain = bench.run().unwrap();
        let public = keys::public_key(&key, kind).unwrap();
        x509::accept(&chain, &public, &bench.brief.names, kind, DIRECTORY, Some(NOW)).unwrap();
    }
}

/// Answers by hand, where a fake CA would be too honest. `answers` go to the questions in their order.
fn scripted(brief: Brief, answers: &[Reply]) -> Turn {
    let mut flow = Flow::new(Brief { told: brief.contacts.clone(), ..brief });
    let mut answers = answers.iter();
    let mut turn = flow.turn(Heard::Start);
    loop {
        turn = match turn {
            Turn::Call(ask) if ask.how == How::Head => {
                flow.turn(Heard::Reply(Reply { status: 200, nonce: Some("n".into()), ..Reply::default() }))
            }
            Turn::Call(_) => match answers.next() {
                Some(reply) if *reply == LOST => flow.turn(Heard::Silence(Trouble::new("asking", "it was lost"))),
                Some(reply) => flow.turn(Heard::Reply(reply.clone())),
                None => return turn,
            },
            Turn::Done(_) | Turn::Fail(_) => return turn,
            _ => flow.turn(Heard::Done),
        };
    }
}

/// Stands for an answer that never comes.
const LOST: Reply = Reply {
    status: 0,
    nonce: None,
    location: None,
    retry_after: None,
    links: vec![],
    content_type: None,
    body: vec![],
};

fn json(status: u16, body: &str) -> Reply {
    Reply { status, body: body.into(), nonce: Some("n".into()), ..Reply::default() }
}

/// What somebody orders for these names whom the CA knows.
fn known(names: &[&str]) -> Brief {
    Brief { account: Some("https://ca/account".into()), ..Bench::new(names).brief }
}

/// The order is there.
fn placed(order: &str) -> Reply {
    Reply { location: Some("https://ca/o/1".into()), ..json(201, order) }
}

fn order_of(status: &str) -> String {
    let more = r#""authorizations":["https://ca/z"],"finalize":"https://ca/f","certificate":"https://ca/crt""#;
    format!(r#"{{"status":"{status}",{more}}}"#)
}

fn proof_of(status: &str, more: &str) -> Reply {
    let text = format!(
        r#"{{"status":"{status}","identifier":{{"type":"dns","value":"router.example.org"}},
        "challenges":[{{"type":"http-01","url":"https://ca/c","token":"t"{more}}}]}}"#
    );
    json(200, &text)
}

fn problem(status: u16, kind: &str) -> Reply {
    json(status, &format!(r#"{{"type":"urn:ietf:params:acme:error:{kind}","detail":"no"}}"#))
}

const PLAIN: &str = r#"{"newNonce":"https://ca/n","newAccount":"https://ca/a","newOrder":"https://ca/o","meta":null}"#;

#[test]
fn odd_answers_get_a_clear_sentence() {
    let brief = known(&["router.example.org"]);
    let order = r#"{"status":"pending","authorizations":["https://ca/z"],"finalize":"https://ca/f"}"#;
    let crowd = order.replace("\"https://ca/z\"", &vec!["\"https://ca/z\""; 201].join(","));
    let located = |at: &str| Reply { location: Some(at.into()), ..json(201, order) };
    let token = |token: &str| {
        format!(
            r#"{{"status":"pending","identifier":{{"type":"dns","value":"Router.Example.Org"}},
            "challenges":[{{"type":"http-01","url":"https://ca/c","token":"{token}"}}]}}"#
        )
    };
    let with_token = |text: &str| vec![json(200, PLAIN), located("https://ca/order/1"), json(200, &token(text))];
    for (answers, says) in [
        (vec![json(200, "{}")], "missing field `newNonce`"),
        (vec![json(200, r#"{"newNonce":"/n","newAccount":"a","newOrder":"b"}"#)], "address of newNonce"),
        (vec![json(200, PLAIN), json(201, order)], "the CA did not say where the order is"),
        (vec![json(200, PLAIN), located("/order/1")], "\"/order/1\" as the address of the order"),
        (vec![json(200, PLAIN), located("http://ca/order/1")], "which is no absolute https URL"),
        (vec![json(200, PLAIN), located("https://ca/order\r\n1")], "\"https://ca/order\\r\\n1\""),
        (vec![json(200, PLAIN), placed(&crowd)], "more than 200"),
        (with_token("a/b"), "token for http-01 is not 1 to 128 characters of base64url"),
        (with_token(""), "token for http-01 is not 1 to 128"),
        (with_token(&"x".repeat(129)), "token for http-01 is not 1 to 128"),
        (
            vec![
                json(200, PLAIN),
                located("https://ca/order/1"),
                json(200, &token("x").replace("Router.", "elsewhere.")),
            ],
            "the CA wants a proof for elsewhere.example.org, which was not asked for",
        ),
        (
            vec![
                json(200, PLAIN),
                located("https://ca/order/1"),
                json(200, &token("x").replace("pending", "deactivated")),
            ],
            "proving router.example.org: unauthorized: the authorization is deactivated",
        ),
        (vec![json(200, PLAIN), placed(r#"{"status":"valid"}"#)], "the order is valid but names no certificate"),
        (
            vec![
                json(200, PLAIN),
                placed(
                    r#"{"status":"invalid","error":{"type":"urn:ietf:params:acme:error:caa","detail":"\u001b[2J"}}"#,
                ),
            ],
            "placing the order: caa: \\u{1b}[2J",
        ),
    ] {
        match scripted(brief.clone(), &answers) {
            Turn::Fail(failure) => assert!(failure.to_string().contains(says), "{failure} | {says}"),
            other => panic!("{other:?} | {says}"),
        }
    }
}

/// RFC 8555 §6.7.1: of several names the bad ones are said, each with its reason.
#[test]
fn md_740_001_two_bad_names_are_both_named() {
    let brief = known(&["a.example.org", "b.example.org", "c.example.org"]);
    let sub = |kind: &str, name: &str| {
        format!(
            r#"{{"type":"urn:ietf:params:acme:error:{kind}","detail":"no","identifier":{{"type":"dns","value":"{name}"}}}}"#
        )
    };
    let body = format!(
        r#"{{"type":"urn:ietf:params:acme:error:malformed","detail":"Some identifiers are bad","subproblems":[{},{}]}}"#,
        sub("malformed", "a.example.org"),
        sub("rejectedIdentifier", "c.example.org")
    );
    match scripted(brief, &[json(200, PLAIN), json(400, &body)]) {
        Turn::Fail(Failure::Refusal(refusal)) => {
            assert_eq!(refusal.subproblems.len(), 2);
            assert_eq!(
                refusal.to_string(),
                "placing the order: malformed: Some identifiers are bad; a.example.org: malformed: no; \
                 c.example.org: rejectedIdentifier: no"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_challenge_that_the_ca_looks_at_already_is_served_and_waited_for() {
    let brief = known(&["router.example.org"]);
    let order = r#"{"status":"pending","authorizations":["https://ca/z"],"finalize":"https://ca/f"}"#;
    let authorization = r#"{"status":"pending","identifier":{"type":"dns","value":"router.example.org"},
        "challenges":[{"type":"http-01","url":"https://ca/c","token":"t","status":"processing"}]}"#;
    let answers = [
        json(200, PLAIN),
        placed(order),
        json(200, authorization),
        json(200, &authorization.replace("\"pending\"", "\"valid\"")),
    ];
    match scripted(brief, &answers) {
        Turn::Call(ask) => assert_eq!(ask.url, "https://ca/f"),
        other => panic!("{other:?}"),
    }
}

/// `Service busy` in the midst of an order is a wait, no reason to begin another one; unless it is a long one.
#[test]
fn a_ca_that_is_too_busy_to_tell_is_asked_again() {
    let brief = known(&["router.example.org"]);
    let busy = |status: u16, wait: Span| Reply {
        retry_after: Some(wait),
        ..json(status, r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"Service busy; retry later."}"#)
    };
    let answers = [
        json(200, PLAIN),
        placed(&order_of("pending")),
        proof_of("pending", ""),
        json(200, "{}"),
        busy(503, Span::secs(60)),
        proof_of("valid", ""),
        json(200, &order_of("processing")),
        busy(429, Span::secs(60)),
        json(200, &order_of("valid")),
    ];
    match scripted(brief.clone(), &answers) {
        Turn::Call(ask) => assert_eq!(ask.url, "https://ca/crt"),
        other => panic!("{other:?}"),
    }
    for at in [4, 7] {
        let mut answers = answers.clone();
        answers[at] = busy(503, Span::hours(1));
        match scripted(brief.clone(), &answers) {
            Turn::Fail(Failure::Refusal(no)) => {
                assert_eq!((no.status, no.short(), no.retry_after), (Some(503), "rateLimited", Some(Span::hours(1))));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// An order of one name, with these answers from its authorization on; `None` where one more question is asked.
fn refusal_after(answers: &[Reply]) -> Option<Refusal> {
    let brief = known(&["router.example.org"]);
    let located = placed(&order_of("pending"));
    match scripted(brief, &[&[json(200, PLAIN), located], answers].concat()) {
        Turn::Call(_) => None,
        Turn::Fail(Failure::Refusal(refusal)) => Some(refusal),
        other => panic!("{other:?}"),
    }
}

/// Whose fault a refusal is says whether another type of challenge may be tried, and when the next order.
#[test]
fn who_is_at_fault_follows_from_the_status() {
    let (open, told, valid) = (proof_of("pending", ""), json(200, "{}"), proof_of("valid", ""));
    let ready = [open.clone(), told.clone(), valid];
    for (status, rejected) in [(400, Some(Challenge::Http01)), (429, None), (503, None)] {
        let no = refusal_after(&[open.clone(), problem(status, "connection")]).unwrap();
        assert_eq!(no.rejected, rejected, "the challenge is refused with {status}");
    }
    // Without a time to come again a CA that is busy has refused; with one, who is refused for good is not to wait.
    let polled = [&ready[..], &[json(200, &order_of("processing"))]].concat();
    for begun in [&ready[..2], &polled[..]] {
        for (status, retry_after) in [(503, None), (403, Some(Span::secs(9))), (403, None)] {
            let no = Reply { retry_after, ..problem(status, "unauthorized") };
            let no = refusal_after(&[begun, &[no]].concat()).unwrap();
            assert_eq!((no.status, no.retry_after), (Some(status), retry_after));
        }
    }
    let failed = Reply { retry_after: Some(Span::mins(7)), ..proof_of("invalid", "") };
    assert_eq!(refusal_after(&[open.clone(), told.clone(), failed]).unwrap().retry_after, Some(Span::mins(7)));
    let left = r#","status":"pending","error":{"type":"urn:ietf:params:acme:error:dns"}"#;
    let left = Reply { retry_after: Some(Span::mins(7)), ..proof_of("pending", left) };
    let no = refusal_after(&[open, told.clone(), left.clone(), told, left]).unwrap();
    assert_eq!((no.short(), no.retry_after), ("dns", Some(Span::mins(7))));
}

/// The answer to the request for the certificate may be lost, and the request refused when it is asked again.
#[test]
fn a_request_that_was_heard_is_not_refused_for_being_heard_twice() {
    let ready = [proof_of("pending", ""), json(200, "{}"), proof_of("valid", "")];
    let after = |answers: &[Reply]| refusal_after(&[&ready[..], answers].concat());
    let no = problem(403, "malformed");
    assert_eq!(after(std::slice::from_ref(&no)).unwrap().short(), "malformed");
    assert_eq!(after(&[LOST, no.clone(), json(200, &order_of("valid"))]), None);
    assert_eq!(after(&[LOST, problem(503, "serverInternal")]).unwrap().short(), "serverInternal");
    // What is finalized is not finalized again, whatever its status says.
    let brief = known(&["router.example.org"]);
    let ready = order_of("ready");
    match scripted(brief, &[json(200, PLAIN), placed(&ready), json(200, &ready)]) {
        Turn::Call(ask) => assert_eq!(ask.url, "https://ca/o/1"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn as_many_authorizations_as_any_ca_may_have_are_read() {
    let brief = known(&["router.example.org"]);
    let many = order_of("pending").replace("\"https://ca/z\"", &vec!["\"https://ca/z\""; 200].join(","));
    let located = placed(&many);
    match scripted(brief, &[json(200, PLAIN), located]) {
        Turn::Call(ask) => assert_eq!(ask.url, "https://ca/z"),
        other => panic!("{other:?}"),
    }
}

/// An account whose URL is lost is looked for; only "there is none" makes another one, and only "it has ended" another key.
#[test]
fn an_account_that_can_t_be_found_now_is_not_made_again() {
    let brief = Brief { key_was_shown: true, ..Bench::new(&["router.example.org"]).brief };
    let bound = Brief { bond: Some(Bond { is_sound: true, is_one_of_several: false }), ..brief.clone() };
    for (brief, kind) in [(&brief, "rateLimited"), (&brief, "externalAccountRequired"), (&bound, "rateLimited")] {
        match scripted(brief.clone(), &[json(200, PLAIN), problem(400, kind)]) {
            Turn::Fail(failure) => assert!(failure.to_string().starts_with("finding the account: "), "{failure}"),
            other => panic!("{kind}: {other:?}"),
        }
    }
    for brief in [&brief, &bound] {
        match scripted(brief.clone(), &[json(200, PLAIN), problem(400, "accountDoesNotExist")]) {
            Turn::Call(ask) => assert!(matches!(ask.how, How::Post { .. }), "{ask:?}"),
            other => panic!("{other:?}"),
        }
    }
}

/// A new account that is denied although nobody knows its key has an ended forerunner: once, with another key.
#[test]
fn a_key_that_is_denied_before_it_has_an_account_is_replaced() {
    let brief = Brief { key_was_shown: true, ..Bench::new(&["router.example.org"]).brief };
    let mut flow = Flow::new(brief);
    let mut answers = [json(200, PLAIN), problem(400, "accountDoesNotExist"), problem(403, "unauthorized")].into_iter();
    let mut heard = Heard::Start;
    loop {
        heard = match flow.turn(heard) {
            Turn::Call(ask) if ask.how == How::Head => Heard::Reply(json(200, "")),
            Turn::Call(_) => Heard::Reply(answers.next().expect("no further question")),
            Turn::ReplaceKey => break,
            other => panic!("{other:?}"),
        };
    }
    // The house could not make one.
    match flow.turn(Heard::Silence(Trouble::new("making a key", "the disk is full"))) {
        Turn::Fail(failure) => {
            assert_eq!(failure.to_string(), "making an account: making a key: the disk is full");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_order_that_is_not_ready_yet_is_finalized_later() {
    let brief = known(&["router.example.org"]);
    let order = |status: &str| format!(r#"{{"status":"{status}","authorizations":[],"finalize":"https://ca/f"}}"#);
    let not_ready = json(403, r#"{"type":"urn:ietf:params:acme:error:orderNotReady"}"#);
    let answers = [
        json(200, PLAIN),
        placed(&order("pending")),
        not_ready,
        json(200, &order("pending")),
        json(200, &order("ready")),
    ];
    match scripted(brief.clone(), &answers) {
        Turn::Call(ask) => assert_eq!(ask.url, "https://ca/f"),
        other => panic!("{other:?}"),
    }
    // A CA that says "ready" and "not ready" in turns is left after five minutes.
    let mut endless = answers[..2].to_vec();
    for _ in 0..1000 {
        endless.push(answers[2].clone());
        endless.push(answers[4].clone());
    }
    match scripted(brief, &endless) {
        Turn::Fail(failure) => assert!(failure.to_string().contains("5 minutes"), "{failure}"),
        other => panic!("{other:?}"),
    }
}

/// What three makes of CA do when they find no answer; each is the CA's own words, and the other type is next.
#[test]
fn a_ca_that_found_nothing_says_so_in_its_own_way() {
    let brief = known(&["router.example.org"]);
    let order = r#"{"status":"pending","authorizations":["https://ca/z"],"finalize":"https://ca/f"}"#;
    let problem = r#"{"type":"urn:ietf:params:acme:error:connection","detail":"nobody is there"}"#;
    let authorization = |status: &str, challenge: &str| {
        let text = format!(
            r#"{{"status":"{status}","identifier":{{"type":"dns","value":"router.example.org"}},"challenges":[
            {{"type":"dns-01","url":"https://ca/d","token":"t","status":"pending"}},
            {{"type":"http-01","url":"https://ca/c","token":"t",{challenge}}}]}}"#
        );
        json(200, &text)
    };
    let open = authorization("pending", r#""status":"pending""#);
    let begun = [json(200, PLAIN), placed(order), open.clone()];
    let told = json(200, "{}");
    // RFC 8555 §8.2: it looks again when it is told again, and only then.
    let left = authorization("pending", &format!(r#""status":"pending","error":{problem}"#));
    let busy = authorization("pending", &format!(r#""status":"processing","error":{problem}"#));
    let left_open = vec![told.clone(), busy, left.clone(), told.clone(), left.clone()];
    let marked = vec![told.clone(), open, authorization("invalid", r#""status":"invalid""#)];
    let refused = vec![json(400, problem)];
    for (answers, says) in [
        (left_open, "proving router.example.org by http-01: connection: nobody is there"),
        (
            marked,
            "proving router.example.org by http-01: unauthorized: the authorization is invalid, and the CA gave no",
        ),
        (refused, "proving router.example.org by http-01: connection: nobody is there"),
    ] {
        match scripted(brief.clone(), &[&begun[..], &answers].concat()) {
            Turn::Fail(Failure::Refusal(refusal)) => {
                assert!(refusal.to_string().starts_with(says), "{refusal} | {says}");
                assert_eq!(refusal.rejected, Some(Challenge::Http01), "{says}");
            }
            other => panic!("{other:?} | {says}"),
        }
    }
    let found = [&begun[..], &[told.clone(), left, told, authorization("valid", r#""status":"valid""#)]].concat();
    match scripted(brief, &found) {
        Turn::Call(ask) => assert_eq!(ask.url, "https://ca/f", "the second look found it"),
        other => panic!("{other:?}"),
    }
}

/// A name and its wildcard: both values stand before the CA is told of one, and until it has seen both.
#[test]
fn the_two_answers_of_a_name_and_its_wildcard_stand_together() {
    let mut bench = Bench::new(&["a.example.org", "*.a.example.org", "b.example.org"]);
    bench.brief.challenges = vec![Challenge::Dns01];
    bench.accepted();
    let words: Vec<&str> = bench
        .trace
        .iter()
        .filter_map(|turn| match turn {
            Turn::Serve(_) => Some("serve"),
            Turn::Look { patient: true, records } if records.len() == 3 => Some("look"),
            Turn::Call(ask) if ask.url.contains("/challenge/") => Some("ready"),
            Turn::Unserve(_) => Some("unserve"),
            _ => None,
        })
        .collect();
    assert_eq!(words.join(" "), "serve serve serve look ready ready ready unserve unserve unserve");
    assert_eq!(bench.zone.names(), [""; 0]);
}

#[test]
fn what_dns_does_not_show_the_ca_is_not_told() {
    let mut bench = Bench::new(&["a.example.org"]);
    bench.brief.challenges = vec![Challenge::Dns01];
    bench.unseen = true;
    let refusal = bench.refused();
    let said = "proving a.example.org by dns-01: challenge-setup-failure: ns.example does not show it";
    assert_eq!((refusal.to_string().as_str(), refusal.rejected), (said, Some(Challenge::Dns01)));
    assert!(!bench.ca.log().iter().any(|line| line.contains("/challenge/")), "{:?}", bench.ca.log());
    assert_eq!(bench.zone.names(), [""; 0]);
}

#[test]
fn of_several_ways_the_next_is_tried_where_the_command_fails() {
    let mut bench = Bench::new(&["a.example.org", "b.example.org"]);
    bench.brief.challenges = vec![Challenge::Dns01, Challenge::Http01];
    bench.serve_fails = vec![Challenge::Dns01];
    bench.accepted();
    assert!(!bench.trace.iter().any(|turn| matches!(turn, Turn::Look { .. })));
}

/// No token, an empty answer, and a record that a person has published; until then the CA is not asked.
#[test]
fn dns_persist_01_asks_for_its_record_and_answers_nothing() {
    let mut bench = Bench::new(&["a.example.org", "*.a.example.org"]);
    bench.brief.challenges = vec![Challenge::DnsPersist01];
    bench.ca.weather(|weather| weather.persist = true);
    bench.unseen = true;
    let Err(Failure::Trouble(trouble)) = bench.run() else { panic!("it has proven nothing") };
    let record = "_validation-persist.a.example.org. IN TXT \"ca.example; accounturi=https://ca.example/account/0; \
                  policy=wildcard\"";
    let said = format!("proving a.example.org by dns-persist-01: ns.example does not show it; publish {record}");
    assert_eq!(trouble.to_string(), said);
    bench.unseen = false;
    bench.accepted();
    let looks = |turn: &&Turn| matches!(turn, Turn::Look { patient: false, records } if records.len() == 2);
    assert!(bench.trace.iter().any(|turn| looks(&turn)));
    let answers = bench.trace.iter().filter_map(|turn| match turn {
        Turn::Call(ask) if ask.url.ends_with("/dns-persist-01") => Some(&ask.how),
        _ => None,
    });
    let empty = |how: &How| matches!(how, How::Post { payload, .. } if payload == "{}");
    assert_eq!(answers.filter(|how| empty(how)).count(), 2);
    // The CA of today offers it without a word of who it is: then it can't be answered.
    bench.ca.weather(|weather| weather.persist = false);
    bench.brief.names = vec![name("c.example.org")];
    let refusal = bench.refused();
    assert_eq!(refusal.problem, "challenge-mismatch");
}

/// A profile is asked for where the directory lists it; else the order goes out without, unless it is mandatory.
#[test]
fn a_profile_is_asked_for_where_it_is_offered() {
    let bench = |profiles: &[&'static str], mandatory: bool, denied: bool| {
        let mut bench = Bench::new(&["a.example.org"]);
        bench.brief.profile = Some("shortlived".into());
        bench.brief.profile_mandatory = mandatory;
        bench.ca.weather(|weather| (weather.profiles, weather.denies_profiles) = (profiles.to_vec(), denied));
        bench
    };
    let orders = |bench: &Bench| bench.ca.log().iter().filter(|line| *line == "POST /new-order").count();

    let mut offered = bench(&["classic", "shortlived"], true, false);
    let granted = offered.grant().unwrap();
    assert_eq!((granted.profile.as_deref(), granted.spurned), (Some("shortlived"), None));
    assert_eq!(offered.ca.issued()[0].profile.as_deref(), Some("shortlived"));

    for (profiles, list) in [(&["tls\x1b[2J", "classic"][..], "classic, tls\\u{1b}[2J"), (&[], "none")] {
        let says = format!("the CA does not offer the profile \"shortlived\" (MDProfile); it offers {list}");
        let mut missing = bench(profiles, false, false);
        let granted = missing.grant().unwrap();
        assert_eq!((granted.profile, granted.spurned), (None, Some(says.clone())));
        assert_eq!((missing.ca.issued()[0].profile.as_deref(), orders(&missing)), (None, 1));
        let mut missing = bench(profiles, true, false);
        let refusal = missing.refused();
        assert_eq!(refusal.to_string(), format!("creating new order: invalidProfile: {says}"));
        assert_eq!(missing.ca.log(), ["GET /directory"], "no account for nothing");
    }

    let mut denied = bench(&["shortlived"], false, true);
    let granted = denied.grant().unwrap();
    let said = "placing the order: invalidProfile: not this profile";
    assert_eq!((granted.profile, granted.spurned.as_deref(), orders(&denied)), (None, Some(said), 2));
    let mut denied = bench(&["shortlived"], true, true);
    assert_eq!((denied.refused().to_string().as_str(), orders(&denied)), (said, 1));

    // Both wishes are spurned, one after the other.
    let mut both = bench(&["shortlived"], false, true);
    both.accepted();
    both.brief.replaces = Some("unknown.AA".into());
    both.ca.weather(|weather| weather.ari = true);
    let granted = both.grant().unwrap();
    assert_eq!((granted.profile, orders(&both)), (None, 2 + 3));
}

/// Who has no renewal windows is not told of certificates to be replaced, and no newcomer replaces anything.
#[test]
fn what_is_replaced_is_named_where_that_is_understood() {
    let mut bench = Bench::new(&["a.example.org"]);
    bench.accepted();
    let facts = |bench: &Bench| {
        let der = bench.ca.issued().last().unwrap().der.clone();
        x509::facts(&der, KeyKind::P256, DIRECTORY, NOW).unwrap()
    };
    bench.brief.replaces = advice::cert_id(&facts(&bench));
    let granted = bench.grant().unwrap();
    assert_eq!(granted.renewal_info, None);
    assert!(!bench.ca.issued()[0].replaced);
    bench.ca.weather(|weather| weather.ari = true);
    let granted = bench.grant().unwrap();
    assert_eq!(granted.renewal_info.as_deref(), Some("https://ca.example/renewal-info"));
    assert!(bench.ca.issued()[0].replaced);
    bench.brief.replaces = advice::cert_id(&facts(&bench));
    bench.ca.forget_accounts();
    let count = bench.ca.requests();
    bench.brief.account = None;
    bench.accepted();
    let log = bench.ca.log().split_off(count);
    assert!(!bench.ca.issued()[2].replaced, "the account is a new one");
    assert_eq!(log.iter().filter(|line| *line == "POST /new-order").count(), 1, "nor was it tried: {log:?}");
}

/// Several certificates on one line; where the CA answers is asked only if it is not known.
#[test]
fn an_inquiry_asks_about_each() {
    let ids = || vec!["a.1".to_string(), "b.2".to_string()];
    let url = |turn: &Turn| match turn {
        Turn::Call(ask) => {
            assert_eq!(ask.how, How::Get);
            ask.url.clone()
        }
        other => panic!("{other:?}"),
    };
    let heard = |status: u16, body: &str| Heard::Reply(Reply { status, body: body.into(), ..Reply::default() });
    let window = r#"{"suggestedWindow":{"start":"2027-01-02T04:00:00Z","end":"2027-01-03T04:00:00Z"}}"#;
    let directory = |info: &str| {
        heard(
            200,
            &format!(r#"{{"newNonce":"https://ca/n","newAccount":"https://ca/a","newOrder":"https://ca/o"{info}}}"#),
        )
    };
    let advised = |turn: Turn| match turn {
        Turn::Advised { hints, base } => (hints, base),
        other => panic!("{other:?}"),
    };

    let mut inquiry = Inquiry::new("https://ca/d".into(), None, ids());
    assert_eq!(url(&inquiry.turn(Heard::Start)), "https://ca/d");
    let turn = inquiry.turn(directory(r#","renewalInfo":"https://ca/ari/""#));
    assert_eq!(url(&turn), "https://ca/ari/a.1");
    assert_eq!(url(&inquiry.turn(heard(200, window))), "https://ca/ari/b.2");
    let (hints, base) = advised(inquiry.turn(heard(404, "")));
    assert!(matches!(hints[..], [Hint::Window { .. }, Hint::Lasting { .. }]), "{hints:?}");
    assert_eq!(base.as_deref(), Some("https://ca/ari/"));

    let mut known = Inquiry::new("https://ca/d".into(), Some("https://ca/ari".into()), ids());
    assert_eq!(url(&known.turn(Heard::Start)), "https://ca/ari/a.1");
    let (hints, base) = advised(known.turn(heard(503, "")));
    assert!(matches!(hints[..], [Hint::Passing { .. }, Hint::Passing { .. }]), "one no is enough: {hints:?}");
    assert_eq!(base.as_deref(), Some("https://ca/ari"));

    for (answer, is_as_it_should_be) in [
        (directory(""), (|hint| *hint == Hint::Absent) as fn(&Hint) -> bool),
        (directory(r#","renewalInfo":"http://ca/ari""#), |hint| matches!(hint, Hint::Lasting { .. })),
        (heard(200, "<html>"), |hint| matches!(hint, Hint::Lasting { .. })),
        (heard(500, ""), |hint| matches!(hint, Hint::Passing { .. })),
        (Heard::Silence(Trouble::new("ca", "gone")), |hint| matches!(hint, Hint::Passing { .. })),
    ] {
        let mut inquiry = Inquiry::new("https://ca/d".into(), None, ids());
        inquiry.turn(Heard::Start);
        let (hints, base) = advised(inquiry.turn(answer));
        assert!(hints.len() == 2 && hints.iter().all(is_as_it_should_be) && base.is_none(), "{hints:?}");
    }
}

/// Each answer of an order cut at every byte, and with noise in the place of every one: a certificate that is accepted, or
/// one sentence that does no harm, in a bounded number of turns.
#[test]
fn every_byte_of_every_answer_may_be_wrong() {
    let mut honest = Bench::new(&["router.example.org"]);
    let mut replies = bodies(&mut honest);
    let chain = replies.pop().unwrap();
    assert_eq!(replies.len(), 9);
    let threads = (0..2).map(|thread| {
        let replies = replies.clone();
        std::thread::spawn(move || {
            let mut counts = (0, 0);
            for (at, forged) in forgeries(&replies).skip(thread).step_by(2) {
                let mut bench = Bench::new(&["router.example.org"]);
                bench.forged = Some((at, forged));
                match bench.run() {
                    Ok(_) => counts.0 += 1,
                    Err(failure) => {
                        counts.1 += 1;
                        harmless(&failure.to_string());
                    }
                }
                assert!(bench.trace.len() < 100, "answer {at}: {} turns", bench.trace.len());
            }
            counts
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        let (granted, refused) = thread.join().unwrap();
        println!("{granted} granted, {refused} refused");
        assert!(refused > 500 && granted > 50);
    }
    // What is done with a chain needs no order.
    let public = keys::public_key(&honest.certificate_key, KeyKind::P256).unwrap();
    let accept = |body: &[u8]| -> Result<(), String> {
        let chain = pem::decode_chain(body)?;
        let held = x509::accept(&chain, &public, &honest.brief.names, KeyKind::P256, DIRECTORY, Some(NOW));
        held.map(|_| ()).map_err(|refusal| refusal.to_string())
    };
    accept(&chain).unwrap();
    for (_, forged) in forgeries(&[chain]) {
        harmless(&accept(&forged).err().unwrap_or_default());
    }
}

/// Each of these cut at every byte, and with noise in the place of every one.
fn forgeries(replies: &[Vec<u8>]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    replies.iter().enumerate().flat_map(|(at, body)| {
        let cut = (0..body.len()).map(move |end| (at, body[..end].to_vec()));
        // A quote, a brace, a byte that is no UTF-8, a control character and a slash, in turns.
        let noise = (0..body.len()).map(move |place| {
            let mut noisy = body.clone();
            noisy[place] = b"\"}\xff\x1b/"[place % 5];
            (at, noisy)
        });
        cut.chain(noise)
    })
}

#[track_caller]
fn harmless(said: &str) {
    assert!(said.len() < 2200 && !said.contains(|c: char| c.is_control()), "{said:?}");
}

/// The bodies of an order's answers, in their order.
fn bodies(bench: &mut Bench) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    let mut wire = bench.ca.wire();
    let mut line = wire.dial(&Route::default()).unwrap();
    let mut flow = Flow::new(bench.brief.clone());
    let mut heard = Heard::Start;
    loop {
        heard = match flow.turn(heard) {
            Turn::Call(ask) => {
                line.ask(bench.key.request(&ask).unwrap());
                let reply = line.heard().unwrap().unwrap();
                bodies.push(reply.body.clone());
                Heard::Reply(reply)
            }
            Turn::Serve(proof) => {
                bench.answers.put(&proof.token, &proof.key_authorization);
                Heard::Done
            }
            Turn::Done(_) => return bodies,
            Turn::Fail(failure) => panic!("{failure}"),
            _ => Heard::Done,
        };
    }
}
