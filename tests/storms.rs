//! An order in 200,000 storms of half-honest replies: whatever a CA, a network and a house do, some things never happen.

#[path = "fake/xorshift.rs"]
mod xorshift;

use edgemd::rules::acme::flow::{Ask, Bond, Brief, Flow, Heard, How, Proof, Signer, Turn, Turns};
use edgemd::rules::acme::types::Reply;
use edgemd::rules::pem;
use edgemd::words::config::{Chain, Challenge};
use edgemd::words::fault::Trouble;
use edgemd::words::name::{Labels, Name};
use edgemd::words::time::Span;
use xorshift::Xorshift;

const STORMS: u64 = 200_000;
/// Two threads, because most machines that run tests have two cores.
const THREADS: u64 = 2;
/// Five minutes of polls at one a second, for two names and the order, with room for refused nonces.
const TURNS: usize = 2500;

#[test]
fn two_hundred_thousand_storms() {
    let workers = (0..THREADS).map(|thread| {
        std::thread::spawn(move || {
            let mut seen = Seen::default();
            let sky = Sky::new();
            for seed in (thread..STORMS).step_by(THREADS as usize) {
                storm(seed, &sky, &mut seen);
            }
            seen
        })
    });
    let workers: Vec<_> = workers.collect();
    for worker in workers {
        let seen = worker.join().expect("no storm broke anything");
        // The storms are worth something only if they get everywhere.
        for (count, what) in [
            (seen.done, "certificates"),
            (seen.failed, "failures"),
            (seen.serves, "answers served"),
            (seen.ready, "challenges answered"),
            (seen.kept, "accounts"),
            (seen.replaced, "new keys"),
            (seen.bad_nonces, "refused nonces"),
            (seen.lost, "lost answers"),
            (seen.looks, "looks at DNS"),
            (seen.both, "pairs of answers in DNS"),
            (seen.long, "orders of more than 30 turns"),
        ] {
            assert!(count > 500, "only {count} {what}");
        }
    }
}

#[derive(Default)]
struct Seen {
    done: u32,
    failed: u32,
    serves: u32,
    ready: u32,
    kept: u32,
    replaced: u32,
    bad_nonces: u32,
    lost: u32,
    looks: u32,
    both: u32,
    long: u32,
}

fn storm(seed: u64, sky: &Sky, seen: &mut Seen) {
    let mut dice = Dice(Xorshift(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1));
    let brief = sky.brief(&mut dice);
    let keys = 1 + u32::from(brief.between_keys);
    let mut run =
        Run { seed, serving: Vec::new(), looked: false, asked: Vec::new(), given: Vec::new(), nonces: 0, keys };
    let mut flow = Flow::new(brief);
    let mood = dice.below(40);
    let mut heard = if dice.below(500) == 0 { Heard::Done } else { Heard::Start };
    for count in 0..TURNS {
        let turn = flow.turn(heard);
        run.check(&turn, sky, seen);
        heard = match turn {
            Turn::Done(_) | Turn::Fail(_) => {
                seen.long += u32::from(count > 30);
                let after = flow.turn(Heard::Done);
                assert!(matches!(after, Turn::Fail(_)), "storm {seed}: the end is not the end: {after:?}");
                return;
            }
            Turn::Call(ask) => match dice.below(60 + mood) {
                0 => {
                    seen.lost += 1;
                    Heard::Silence(Trouble::new("the storm", "lost"))
                }
                1 if dice.below(4) == 0 => Heard::Done,
                2 if dice.below(4) == 0 => Heard::Start,
                _ => Heard::Reply(run.reply(&ask, sky, &mut dice, seen)),
            },
            Turn::Look { .. } if dice.below(5) > 0 => {
                run.looked = true;
                Heard::Done
            }
            Turn::Look { .. } => Heard::Silence(Trouble::new("the storm", "unseen")),
            Turn::ReplaceKey if dice.below(20) > 0 => Heard::Key("thumb".into()),
            _ if dice.below(60 + mood) == 0 => Heard::Silence(Trouble::new("the storm", "not done")),
            _ => Heard::Done,
        };
    }
    panic!("storm {seed} never ends");
}

/// What was said so far in one storm.
struct Run {
    seed: u64,
    serving: Vec<Proof>,
    /// DNS was seen to have them.
    looked: bool,
    /// Nonces that were used.
    asked: Vec<String>,
    /// Nonces that were given.
    given: Vec<String>,
    nonces: u32,
    /// How many times the key may be another one.
    keys: u32,
}

impl Run {
    /// What holds after every turn.
    fn check(&mut self, turn: &Turn, sky: &Sky, seen: &mut Seen) {
        let seed = self.seed;
        match turn {
            Turn::Call(ask) => self.check_ask(ask, seen),
            Turn::Serve(proof) => {
                let alone = self.serving.iter().all(|other| other.txt.is_some());
                assert!(alone, "storm {seed}: two answers at once");
                if proof.challenge != Challenge::DnsPersist01 {
                    assert_eq!(proof.key_authorization, format!("{}.thumb", proof.token));
                }
                self.serving.push(proof.clone());
                seen.serves += 1;
            }
            Turn::Unserve(proof) => {
                let put = self.serving.iter().position(|other| other == proof);
                self.serving.remove(put.unwrap_or_else(|| panic!("storm {seed}: taken away, never put")));
            }
            Turn::Look { records, .. } => {
                assert!(!self.looked && !records.is_empty() && records.len() == self.serving.len(), "storm {seed}");
                seen.looks += 1;
                seen.both += u32::from(records.len() > 1);
            }
            Turn::Rest(span) => {
                let fine = *span >= Span::millis(100) && *span <= Span::mins(5);
                assert!(fine && *span != POISON, "storm {seed}: a rest of {span}");
            }
            Turn::Keep { account, contacts } => {
                assert!(!account.contains("poison"), "storm {seed}: {account}");
                assert!(contacts.len() <= 1, "storm {seed}: {contacts:?}");
                seen.kept += 1;
            }
            Turn::ReplaceKey => {
                seen.replaced += 1;
                assert!(self.keys > 0, "storm {seed}: too many new keys");
                self.keys -= 1;
            }
            Turn::Finished | Turn::Known(_) => panic!("storm {seed}: an order ends with a chain"),
            Turn::Advised { .. } => panic!("storm {seed}: an order does not ask about others"),
            Turn::Done(granted) => {
                assert_eq!(self.serving, [], "storm {seed}: done, and still served");
                assert_eq!(granted.chain, sky.chain, "storm {seed}");
                seen.done += 1;
            }
            Turn::Fail(failure) => {
                assert_eq!(self.serving, [], "storm {seed}: failed, and still served");
                let text = failure.to_string();
                assert!(text.len() < 5000 && !text.contains(char::is_control), "storm {seed}: {text}");
                seen.failed += 1;
            }
        }
    }

    fn check_ask(&mut self, ask: &Ask, seen: &mut Seen) {
        let seed = self.seed;
        assert!(!ask.url.contains("poison"), "storm {seed}: the answer to new-nonce was taken for another's");
        let How::Post { payload, nonce, signer } = &ask.how else { return };
        assert!(self.given.contains(nonce), "storm {seed}: a nonce of its own making");
        assert!(!self.asked.contains(nonce), "storm {seed}: a nonce used twice");
        self.asked.push(nonce.clone());
        let by_key = ask.url == "https://ca/a";
        assert_eq!(matches!(signer, Signer::Key | Signer::Bound(_)), by_key, "storm {seed}");
        if let Signer::Account(account) = signer {
            assert!(!account.contains("poison"), "storm {seed}: {account}");
        }
        if ask.url.starts_with("https://ca/c/") {
            assert_eq!(payload, "{}", "storm {seed}");
            let token = ask.url.rsplit('/').next().unwrap_or_default();
            let place = |proof: &&Proof| token == proof.token || (token == "y" && proof.token.is_empty());
            let served = self.serving.iter().find(place);
            let ready = served.is_some_and(|proof| proof.txt.is_none() || self.looked);
            assert!(ready, "storm {seed}: \"ready\" before the answer was served");
            seen.ready += 1;
        }
    }

    fn reply(&mut self, ask: &Ask, sky: &Sky, dice: &mut Dice, seen: &mut Seen) -> Reply {
        let mut reply = match (&ask.how, dice.below(100)) {
            (How::Head, 0..97) => sky.poisoned(),
            (How::Head, _) => sky.bad(dice),
            (How::Post { .. }, 0..4) => {
                seen.bad_nonces += 1;
                let body = br#"{"type":"urn:ietf:params:acme:error:badNonce","detail":"again"}"#;
                Reply { status: 400, body: body.to_vec(), ..Reply::default() }
            }
            (_, 4..6) => sky.bad(dice),
            // The answer to some other question.
            (_, 6..8) => sky.honest(sky.paths[dice.below(sky.paths.len() as u64) as usize], dice),
            _ => sky.honest(ask.url.strip_prefix("https://ca").unwrap_or("/"), dice),
        };
        let gives = if ask.how == How::Get { 3 } else { 97 };
        if dice.below(100) < gives {
            self.nonces += 1;
            let nonce = format!("n{}", self.nonces);
            self.given.push(nonce.clone());
            reply.nonce = Some(nonce);
        } else if dice.below(4) == 0 {
            reply.nonce = Some("no nonce\r\n".into());
        }
        reply
    }
}

const POISON: Span = Span::millis(77_777);

/// The bodies of all replies, made once.
struct Sky {
    paths: [&'static str; 10],
    directories: Vec<String>,
    chain: Vec<Vec<u8>>,
    pem: String,
    brief: Brief,
}

impl Sky {
    fn new() -> Self {
        let rest = r#""newNonce":"https://ca/n","newAccount":"https://ca/a","newOrder":"https://ca/o"}"#;
        let chain = vec![b"leaf".to_vec(), b"issuer".to_vec()];
        let names = ["a.example.org", "b.example.org"];
        Self {
            paths: ["/d", "/a", "/o", "/z/0", "/z/1", "/c/0/h0", "/f", "/p", "/x", "/c/1/t1"],
            directories: vec![
                format!(r#"{{"meta":null,{rest}"#),
                format!(r#"{{"meta":{{}},"zzz":[{{}}],{rest}"#),
                format!(r#"{{"meta":{{"profiles":{{"short":"six days"}}}},"renewalInfo":"https://ca/r",{rest}"#),
                format!(r#"{{"meta":{{"termsOfService":"https://ca/terms"}},{rest}"#),
                format!("{{{rest}"),
            ],
            pem: chain.iter().map(|der| pem::encode("CERTIFICATE", der)).collect(),
            chain,
            brief: Brief {
                directory: "https://ca/d".into(),
                names: names.iter().map(|text| Name::parse(text, Labels::Two).unwrap()).collect(),
                csr: b"request".to_vec(),
                thumbprint: "thumb".into(),
                account: None,
                key_was_shown: false,
                contacts: Vec::new(),
                told: Vec::new(),
                agreement: None,
                challenges: vec![Challenge::Http01, Challenge::TlsAlpn01],
                ..Brief::default()
            },
        }
    }

    fn brief(&self, dice: &mut Dice) -> Brief {
        let mut brief = self.brief.clone();
        brief.names.truncate(1 + dice.below(2) as usize);
        brief.account = (dice.below(2) == 0).then(|| "https://ca/account/0".into());
        brief.key_was_shown = dice.below(2) == 0;
        brief.between_keys = dice.below(4) == 0;
        let bond = Bond { is_sound: dice.below(4) != 0, is_one_of_several: dice.below(2) == 0 };
        brief.bond = (dice.below(3) == 0).then_some(bond);
        brief.chain = (dice.below(3) == 0).then_some(Chain::Shortest);
        let contact =
            |dice: &mut Dice| (dice.below(2) == 0).then(|| "mailto:a@example.org".into()).into_iter().collect();
        (brief.contacts, brief.told) = (contact(dice), contact(dice));
        brief.agreement = (dice.below(4) != 0).then(|| "accepted".into());
        brief.profile = (dice.below(3) == 0).then(|| "short".into());
        brief.profile_mandatory = dice.below(3) == 0;
        brief.replaces = (dice.below(3) == 0).then(|| "a.b".into());
        if dice.below(3) == 0 {
            brief.challenges.truncate(dice.below(3) as usize);
        }
        if dice.below(3) == 0 {
            let dns = [Challenge::Dns01, Challenge::DnsPersist01];
            brief.challenges.insert(0, dns[dice.below(2) as usize]);
        }
        brief
    }

    /// An answer to new-nonce that would do harm if it were taken for anything else.
    fn poisoned(&self) -> Reply {
        let body = br#"{"status":"valid","certificate":"https://ca/poison","finalize":"https://ca/poison",
            "newNonce":"https://ca/poison","authorizations":["https://ca/poison"]}"#;
        Reply {
            status: 200,
            location: Some("https://ca/poison".into()),
            retry_after: Some(POISON),
            body: body.to_vec(),
            ..Reply::default()
        }
    }

    /// Right for the place, in one of the states that it can have.
    fn honest(&self, path: &str, dice: &mut Dice) -> Reply {
        let mut reply = Reply { status: 200, content_type: Some("application/json".into()), ..Reply::default() };
        if dice.below(20) == 0 {
            reply.retry_after = Some(Span::secs(dice.below(40)));
        }
        if dice.below(50) != 0 {
            reply.location = match path {
                "/a" => Some(format!("https://ca/account/{}", dice.below(3))),
                "/o" => Some("https://ca/p".into()),
                _ => None,
            };
        }
        if matches!(path, "/a" | "/o") && dice.below(25) == 0 {
            let body = br#"{"type":"urn:ietf:params:acme:error:unauthorized"}"#;
            return Reply { status: 403, body: body.to_vec(), ..Reply::default() };
        }
        reply.body = match path {
            "/d" => self.directories[dice.below(4) as usize].clone(),
            "/a" => "{\"status\":\"valid\"}".into(),
            "/o" => order(if dice.below(10) == 0 { dice.status() } else { "pending" }),
            "/p" | "/f" => order(dice.status()),
            "/x" => self.pem.clone(),
            _ if path.starts_with("/account/") => match dice.below(3) {
                0 => "{\"status\":\"deactivated\"}".into(),
                _ => "{\"status\":\"valid\"}".into(),
            },
            "/z/0" => authorization(0, dice),
            "/z/1" => authorization(1, dice),
            _ => "{\"status\":\"processing\"}".into(),
        }
        .into_bytes();
        reply
    }

    fn bad(&self, dice: &mut Dice) -> Reply {
        let (status, body): (u16, &[u8]) = match dice.below(15) {
            0 => (200, b"<html>"),
            1 => (200, b""),
            2 => (200, b"{\"status\":\"pen"),
            3 => (503, b"<html>"),
            4 => (429, br#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"slow\u001b[2Jdown"}"#),
            5 => (500, br#"{"type":"urn:ietf:params:acme:error:serverInternal"}"#),
            6 => (400, br#"{"type":"urn:ietf:params:acme:error:accountDoesNotExist"}"#),
            7 => (403, br#"{"type":"urn:ietf:params:acme:error:orderNotReady"}"#),
            8 => (302, b""),
            9 => (200, b"[[[[[[[[[[[["),
            10 => (0, b"null"),
            11 => (200, b"{\"status\":7,\"identifier\":null,\"challenges\":{}}"),
            12 => (403, br#"{"type":"urn:ietf:params:acme:error:unauthorized"}"#),
            13 => (65535, &[0xff, 0xfe, 0]),
            _ => (404, b"{\"type\":3}"),
        };
        let retry_after = (dice.below(2) == 0).then(|| Span::secs(dice.below(100_000)));
        Reply { status, body: body.to_vec(), retry_after, ..Reply::default() }
    }
}

fn order(status: &str) -> String {
    let error = if status == "invalid" { r#","error":{"type":"urn:x","detail":"no\nway"}"# } else { "" };
    let certificate = if status == "valid" { r#","certificate":"https://ca/x""# } else { "" };
    format!(
        r#"{{"status":"{status}","authorizations":["https://ca/z/0","https://ca/z/1"],"finalize":"https://ca/f"{certificate}{error}}}"#
    )
}

fn authorization(index: u32, dice: &mut Dice) -> String {
    let status = ["pending", "pending", "pending", "valid", "valid", "invalid"][dice.below(6) as usize];
    let letter = ["a", "b"][index as usize];
    let own = if dice.below(8) == 0 { "processing" } else { "pending" };
    format!(
        r#"{{"status":"{status}","identifier":{{"type":"dns","value":"{letter}.example.org"}},"challenges":[
        {{"type":"dns-persist-01","url":"https://ca/c/{index}/y","issuer-domain-names":["ca"]}},{{"type":8}},
        {{"type":"dns-01","url":"https://ca/c/{index}/d{index}","token":"d{index}","status":"{own}"}},
        {{"type":"http-01","url":"https://ca/c/{index}/h{index}","token":"h{index}","status":"{own}"}},
        {{"type":"tls-alpn-01","url":"https://ca/c/{index}/t{index}","token":"t{index}"}}]}}"#
    )
}

/// A storm is its seed.
struct Dice(Xorshift);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    fn status(&mut self) -> &'static str {
        ["pending", "ready", "processing", "processing", "valid", "valid", "invalid"][self.below(7) as usize]
    }
}
