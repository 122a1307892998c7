//! The body of a fuzz target: an order with a CA that says what it likes.

use super::{Brief, Flow, Heard, How, Proof, Turn, Turns};
use crate::rules::acme::problem::is_presentable;
use crate::rules::acme::types::Reply;
use crate::words::config::{Chain, Challenge};
use crate::words::fault::Trouble;
use crate::words::name::{Labels, Name};
use crate::words::time::Span;

/// Five minutes of polls for each of two names and the order, with room for refused nonces.
const TURNS: usize = 2500;

/// The first byte says what the order is like, and each line after it what comes next: `!` that nothing does, else a
/// digit for the status, and between tabs the rest of a reply. The order ends; what was put in place is taken away, no
/// nonce is used twice, nothing is asked anywhere but over https, and what is said of a failure is fit for a terminal.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let (mood, script) = bytes.split_first().map_or((0, bytes), |(mood, rest)| (*mood, rest));
    let mut lines = script.split(|byte| *byte == b'\n');
    let mut flow = Flow::new(brief(mood));
    let (mut heard, mut serving): (_, Vec<Proof>) = (Heard::Start, vec![]);
    let (mut given, mut used) = (0_u32, 0_u32);
    for _ in 0..TURNS {
        let turn = flow.turn(heard);
        heard = match &turn {
            Turn::Done(granted) => {
                assert!(serving.is_empty() && !granted.chain.is_empty());
                return;
            }
            Turn::Fail(failure) => {
                assert!(serving.is_empty(), "failed, and still served");
                return is_presentable(failure);
            }
            Turn::Call(ask) => {
                let fine = ask.url.starts_with("https://") && ask.url.bytes().all(|byte| byte.is_ascii_graphic());
                assert!(fine && ask.url.len() <= 2000, "{}", ask.url);
                if let How::Post { nonce, .. } = &ask.how {
                    let number = nonce.strip_prefix('n').and_then(|number| number.parse().ok());
                    assert!(number.is_some_and(|number| used < number && number <= given), "{nonce}");
                    used = number.unwrap_or(used);
                }
                given += 1;
                lines.next().map_or(silence(), |line| reply(line, given))
            }
            Turn::Unserve(proof) => {
                let put = serving.iter().position(|other| other == proof);
                serving.remove(put.expect("only what was put is taken away"));
                Heard::Done
            }
            Turn::Serve(proof) => {
                assert!(proof.token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
                serving.push(proof.clone());
                if mood & 1 == 1 { silence() } else { Heard::Done }
            }
            Turn::Rest(span) => {
                assert!(*span >= Span::millis(100) && *span <= Span::mins(5));
                Heard::Done
            }
            Turn::ReplaceKey => Heard::Key("thumb".into()),
            Turn::Keep { account, .. } => {
                assert!(account.starts_with("https://"));
                Heard::Done
            }
            Turn::Look { records, .. } => {
                assert!(records.len() == serving.len());
                Heard::Done
            }
            Turn::Advised { .. } | Turn::Known(_) | Turn::Finished => unreachable!("an order ends with a chain"),
        };
    }
    unreachable!("an order ends");
}

fn brief(mood: u8) -> Brief {
    let is = |bit: u8| mood >> bit & 1 == 1;
    let name = |text: &str| Name::parse(text, Labels::Two).expect("a name");
    let names = if is(1) { vec![name("*.a.example")] } else { vec![name("a.example"), name("192.0.2.1")] };
    Brief {
        directory: "https://ca/d".into(),
        names,
        csr: b"request".to_vec(),
        thumbprint: "thumb".into(),
        account: is(2).then(|| "https://ca/account/1".into()),
        between_keys: is(3),
        agreement: is(4).then(|| "accepted".into()),
        chain: is(5).then_some(Chain::Shortest),
        challenges: match is(1) {
            true => vec![Challenge::DnsPersist01, Challenge::Dns01],
            false => vec![Challenge::Http01, Challenge::TlsAlpn01],
        },
        profile: is(6).then(|| "short".into()),
        replaces: is(7).then(|| "a.b".into()),
        ..Brief::default()
    }
}

/// `2⇥location⇥Retry-After⇥Link⇥body`
fn reply(line: &[u8], given: u32) -> Heard {
    let mut parts = line.splitn(5, |byte| *byte == b'\t');
    let mut text =
        || parts.next().map(|part| String::from_utf8_lossy(part).into_owned()).filter(|text| !text.is_empty());
    let status = match text().as_deref() {
        Some("!") => return silence(),
        Some("1") => 201,
        Some("3") => 301,
        Some("4") => 400,
        Some("5") => 503,
        Some("6") => 403,
        Some("7") => 429,
        _ => 200,
    };
    Heard::Reply(Reply {
        status,
        content_type: None,
        nonce: Some(format!("n{given}")),
        location: text(),
        retry_after: text().and_then(|secs| secs.parse().ok()).map(Span::secs),
        links: text().into_iter().collect(),
        body: text().unwrap_or_default().into_bytes(),
    })
}

fn silence() -> Heard {
    Heard::Silence(Trouble::new("asking", "nothing came"))
}
