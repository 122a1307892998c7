//! A CA's advice on when to renew a certificate (RFC 9773): under which id it is asked, what its answer says, which moment
//! follows from that, and when it is asked again.

use crate::rules::acme::asking::is_success;
use crate::rules::acme::jws::base64url;
use crate::rules::acme::problem::{json, refusal};
use crate::rules::acme::types::Reply;
use crate::rules::tame::tame;
use crate::words::cert::{Advice, Held, NEVER, Suggested};
use crate::words::time::{Span, Unix};
use serde_json::Value;

/// What came of asking.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hint {
    Window {
        start: Unix,
        end: Unix,
        explanation: Option<String>,
        retry_after: Option<Span>,
    },
    /// This CA gives no advice.
    Absent,
    /// It will pass soon (RFC 9773 §4.3.3).
    Passing {
        why: String,
        retry_after: Option<Span>,
    },
    /// It will not.
    Lasting {
        why: String,
    },
}

/// The certificate's id (RFC 9773 §4.1); `None` where it does not name its issuer's key.
pub fn cert_id(held: &Held) -> Option<String> {
    let has_one = !held.authority.is_empty();
    has_one.then(|| format!("{}.{}", base64url(&held.authority), base64url(&held.serial)))
}

/// What an answer says.
pub fn read(reply: &Reply) -> Hint {
    let retry_after = reply.retry_after;
    if !is_success(reply.status) {
        let why = refusal(ASKING, reply).to_string();
        let passes = reply.status >= 500 || reply.status == 429;
        return if passes { Hint::Passing { why, retry_after } } else { Hint::Lasting { why } };
    }
    let value: Value = match json(ASKING, reply) {
        Ok(value) => value,
        Err(no) => return Hint::Lasting { why: no.to_string() },
    };
    let window = value.get("suggestedWindow");
    let moment = |name: &str| Unix::from_rfc3339(window?.get(name)?.as_str()?);
    match (moment("start"), moment("end")) {
        (Some(start), Some(end)) if start < end => {
            let explanation = value.get("explanationURL").and_then(Value::as_str).map(tame);
            Hint::Window { start, end, explanation, retry_after }
        }
        _ => Hint::Lasting { why: format!("{ASKING}: the CA's answer has no window that ends after it begins") },
    }
}

pub const ASKING: &str = "asking for the renewal window";

/// What to remember of it. `throw` is an even throw over the whole of its type.
pub fn learn(held: &Held, before: Option<&Advice>, hint: &Hint, now: Unix, throw: u32) -> Advice {
    let before = before.filter(|before| before.sha256 == held.sha256);
    let known = before.and_then(|before| before.window.clone());
    let hurried = before.is_some_and(|before| before.hurried && before.again == Unix::default());
    let mut advice = Advice { sha256: held.sha256, window: known, again: now.plus(LONG), failures: 0, hurried };
    match hint {
        Hint::Window { start, end, explanation, retry_after } => {
            let drawn = advice.window.filter(|known| (known.start, known.end) == (*start, *end));
            let at = drawn.map_or_else(|| draw((*start, *end), held, before.is_none(), now, throw), |drawn| drawn.at);
            advice.window = Some(Suggested { start: *start, end: *end, at, explanation: explanation.clone() });
            if let Some(wait) = retry_after {
                // Those that were told the same moment come in the tenth of the wait that follows it.
                advice.again = now.plus(polite(wait.plus(share(wait.divided(10), throw))));
            }
        }
        Hint::Absent => (advice.window, advice.again) = (None, NEVER),
        Hint::Passing { retry_after, .. } => {
            advice.failures = before.map_or(0, |before| before.failures).saturating_add(1);
            if advice.failures <= TRIES {
                let pause = SHORT.times(1 << (advice.failures - 1));
                advice.again = now.plus(pause.divided(2).plus(share(pause, throw)));
            }
            // Our own patience counts where it is the longer one.
            advice.again = advice.again.max(now.plus(retry_after.map_or(Span::ZERO, polite)));
        }
        Hint::Lasting { .. } => {}
    }
    advice
}

/// What is new of it, for the log.
pub fn news(before: Option<&Advice>, advice: &Advice, hint: &Hint) -> Option<String> {
    let known = before.filter(|before| before.sha256 == advice.sha256).and_then(|before| before.window.as_ref());
    match (hint, &advice.window) {
        (Hint::Window { .. }, Some(window)) if Some(window) != known => {
            let why = window.explanation.as_ref().map(|url| format!("; it says why at {url}")).unwrap_or_default();
            let Suggested { start, end, at, .. } = window;
            Some(format!("the CA wants it renewed between {start} and {end}{why}; that is done from {at}"))
        }
        (Hint::Passing { why, .. } | Hint::Lasting { why }, _) => {
            Some(format!("the CA does not say when it wants it renewed: {why}; asked again from {}", advice.again))
        }
        _ => None,
    }
}

/// The waits after failures (RFC 9773 §4.3.3): a minute, doubling, give or take a half, and after so many six hours.
const SHORT: Span = Span::mins(1);
const TRIES: u32 = 6;
const LONG: Span = Span::hours(6);

/// RFC 9773 §4.3.2.
fn polite(wait: Span) -> Span {
    wait.max(Span::mins(1)).min(Span::days(1))
}

/// A moment in a window that is ahead. One that is open or over already means now; so nobody waits for a second throw who
/// slept through the first.
fn draw((start, end): (Unix, Unix), held: &Held, first: bool, now: Unix, throw: u32) -> Unix {
    let drawn = start.plus(share(end.since(start), throw));
    if start > now {
        drawn
    } else if first && now.since(held.since) < FRESH {
        // The first thing that is heard of a new one can't be that it is old: that would order without end.
        drawn.max(held.since.plus(held.life().percent(50)))
    } else {
        now.min(end)
    }
}

const FRESH: Span = Span::hours(1);

/// A share of it, by a throw over the whole of its type.
fn share(span: Span, throw: u32) -> Span {
    let part = u128::from(span.as_millis()) * u128::from(throw) / u128::from(u32::MAX);
    Span::millis(u64::try_from(part).unwrap_or(0))
}

/// The body of a fuzz target: a window ends after it begins, its moment is in it unless it is open already, and the CA is
/// asked again in a minute at the earliest.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let (head, body) = bytes.split_at_checked(6).unwrap_or((bytes, &[]));
    let number = |at: usize| head.get(at).copied().map_or(0, u32::from);
    let status = [200, 200, 404, 429, 503].get(number(0) as usize % 5).copied().unwrap_or(200);
    let retry_after = (number(1) > 0).then(|| Span::secs(u64::from(number(1)) << (number(2) % 24)));
    let hint = read(&Reply { status, retry_after, body: body.into(), ..Reply::default() });
    let now = Unix::from_secs(1_735_790_400);
    let held = Held {
        since: now.minus(Span::mins(u64::from(number(3)))),
        authority: vec![1],
        ..Held::sample(vec![], now.minus(Span::hours(1)), now.plus(Span::days(6)))
    };
    let throw = (number(4) << 24).wrapping_mul(number(5) | 1);
    let advice = learn(&held, None, &hint, now, throw);
    let again = learn(&held, Some(&advice), &hint, now, !throw);
    assert!(advice.again >= now.plus(Span::secs(30)) && again.again >= now.plus(Span::secs(30)));
    if let Some(window) = &advice.window {
        assert!(window.start < window.end);
        assert!(window.start <= now || (window.start <= window.at && window.at <= window.end));
        assert_eq!(again.window.as_ref().map(|again| again.at), Some(window.at), "one throw, one window");
    }
    let news = news(None, &advice, &hint).unwrap_or_default();
    assert!(!news.contains(char::is_control), "{news:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{pem, x509};
    use crate::words::cert::{KeyKind, Tried};

    const NOW: Unix = Unix::from_secs(1_800_000_000);

    /// RFC 9773 appendix A.
    const EXAMPLE: &str = "-----BEGIN CERTIFICATE-----
MIIBQzCB66ADAgECAgUAh2VDITAKBggqhkjOPQQDAjAVMRMwEQYDVQQDEwpFeGFt
cGxlIENBMCIYDzAwMDEwMTAxMDAwMDAwWhgPMDAwMTAxMDEwMDAwMDBaMBYxFDAS
BgNVBAMTC2V4YW1wbGUuY29tMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEeBZu
7cbpAYNXZLbbh8rNIzuOoqOOtmxA1v7cRm//AwyMwWxyHz4zfwmBhcSrf47NUAFf
qzLQ2PPQxdTXREYEnKMjMCEwHwYDVR0jBBgwFoAUaYhba4dGQEHhs3uEe6CuLN4B
yNQwCgYIKoZIzj0EAwIDRwAwRAIge09+S5TZAlw5tgtiVvuERV6cT4mfutXIlwTb
+FYN/8oCIClDsqBklhB9KAelFiYt9+6FDj3z4KGVelYM5MdsO3pK
-----END CERTIFICATE-----
";

    /// The example of Let's Encrypt's integration guide is the same.
    #[test]
    fn rfc_9773_4_1_the_certificate_s_id() {
        let chain = pem::decode_chain(EXAMPLE.as_bytes()).unwrap();
        let held = x509::facts(&chain[0], KeyKind::P256, "", NOW).unwrap();
        assert_eq!(held.authority, b"\x69\x88\x5b\x6b\x87\x46\x40\x41\xe1\xb3\x7b\x84\x7b\xa0\xae\x2c\xde\x01\xc8\xd4");
        assert_eq!(held.serial, [0x00, 0x87, 0x65, 0x43, 0x21]);
        assert_eq!(cert_id(&held).as_deref(), Some("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"));
        assert_eq!(cert_id(&Held { authority: vec![], ..held }), None, "nobody can be asked about it");
    }

    fn held(age: Span) -> Held {
        let from = NOW.minus(age);
        Held { authority: vec![1], ..Held::sample(vec![], from, from.plus(Span::hours(160))) }
    }

    fn said(status: u16, body: &str, secs: Option<u64>) -> Hint {
        read(&Reply { status, body: body.into(), retry_after: secs.map(Span::secs), ..Reply::default() })
    }

    fn window(start: Unix, end: Unix) -> Hint {
        Hint::Window { start, end, explanation: None, retry_after: Some(Span::hours(6)) }
    }

    #[test]
    fn rfc_9773_4_2_answers() {
        let body = r#"{
            "suggestedWindow": { "start": "2025-01-02T04:00:00Z", "end": "2025-01-03T04:00:00+01:00" },
            "explanationURL": "https://acme.example.com/docs/ari\u001b[2J"
        }"#;
        let moment = |text| Unix::from_rfc3339(text).unwrap();
        let expected = Hint::Window {
            start: moment("2025-01-02T04:00:00Z"),
            end: moment("2025-01-03T03:00:00Z"),
            explanation: Some("https://acme.example.com/docs/ari\\u{1b}[2J".into()),
            retry_after: Some(Span::secs(21_600)),
        };
        assert_eq!(said(200, body, Some(21_600)), expected);
        for (status, body, passes) in [
            (200, "", false),
            (200, "<html>", false),
            (200, "[]", false),
            (200, "{}", false),
            (200, r#"{"suggestedWindow":null}"#, false),
            (200, r#"{"suggestedWindow":{"start":"2025-01-02T04:00:00Z"}}"#, false),
            (200, r#"{"suggestedWindow":{"start":"2025-01-02T04:00:00Z","end":"tomorrow"}}"#, false),
            (200, r#"{"suggestedWindow":{"start":"2025-01-02T04:00:00Z","end":"2025-01-02T04:00:00Z"}}"#, false),
            (200, r#"{"suggestedWindow":{"start":"2025-01-02T04:00:00Z","end":"2025-01-01T04:00:00Z"}}"#, false),
            (404, r#"{"type":"urn:ietf:params:acme:error:malformed","detail":"no such certificate"}"#, false),
            (301, "", false),
            (429, "", true),
            (500, "", true),
            (503, "<html>", true),
        ] {
            let hint = said(status, body, Some(7));
            let passing = matches!(hint, Hint::Passing { retry_after: Some(span), .. } if span == Span::secs(7));
            assert!(passing == passes && (passes || matches!(hint, Hint::Lasting { .. })), "{status} {body}: {hint:?}");
        }
    }

    #[test]
    fn the_moment_is_drawn_once_for_a_window() {
        let held = held(Span::hours(2));
        let (start, end) = (NOW.plus(Span::hours(70)), NOW.plus(Span::hours(80)));
        let at = |before: Option<&Advice>, hint: &Hint, throw: u32| {
            let advice = learn(&held, before, hint, NOW, throw);
            let at = advice.window.as_ref().unwrap().at;
            (advice, at)
        };
        for (throw, hours) in [(0, 70), (u32::MAX / 2 + 1, 75), (u32::MAX, 80)] {
            let (advice, drawn) = at(None, &window(start, end), throw);
            assert_eq!(drawn.secs(), NOW.plus(Span::hours(hours)).secs());
            for other in [0, u32::MAX] {
                assert_eq!(at(Some(&advice), &window(start, end), other).1, drawn, "the window is the same");
            }
            let failed = learn(&held, Some(&advice), &said(500, "", None), NOW, 0);
            assert_eq!(failed.window, advice.window, "what was said still counts");
            assert_eq!(at(Some(&failed), &window(start, end), 0).1, drawn);
            let lasting = learn(&held, Some(&advice), &said(200, "{}", None), NOW, 0);
            assert_eq!((lasting.window, lasting.again), (advice.window.clone(), NOW.plus(Span::hours(6))));
            let moved = end.plus(Span::millis(1));
            assert_eq!(at(Some(&advice), &window(start, moved), 0).1, start, "another window, another throw");
            let other = Advice { sha256: [2; 32], ..advice };
            assert_eq!(at(Some(&other), &window(start, end), 0).1, start, "that was another certificate's");
        }
    }

    #[test]
    fn a_window_that_is_open_or_over_means_now() {
        let hour = Span::hours(1);
        for (start, end) in [
            (NOW.minus(hour.times(2)), NOW.minus(hour)),
            (NOW.minus(hour), NOW),
            (NOW, NOW.plus(hour)),
            (NOW.minus(hour), NOW.plus(Span::days(1))),
        ] {
            for throw in [0, u32::MAX / 2, u32::MAX] {
                let at = |held: &Held, before: Option<&Advice>| {
                    learn(held, before, &window(start, end), NOW, throw).window.unwrap().at
                };
                assert!(at(&held(Span::hours(2)), None) <= NOW, "{start} {end} {throw}");
                // The first answer about a new certificate would otherwise order one after the other.
                let fresh = held(Span::mins(1));
                let half = fresh.since.plus(Span::hours(80));
                assert_eq!(at(&fresh, None), half, "{start} {end} {throw}");
                assert!(at(&held(hour), None) <= NOW, "one of an hour ago is not new");
                let usual = learn(&fresh, None, &window(half, half.plus(hour)), NOW, throw);
                assert!(at(&fresh, Some(&usual)) <= NOW, "it has moved since: {start} {end} {throw}");
            }
        }
    }

    #[test]
    fn rfc_9773_4_3_when_it_is_asked_again() {
        let held = held(Span::hours(2));
        let again = |before: Option<&Advice>, hint: &Hint, throw: u32| {
            let advice = learn(&held, before, hint, NOW, throw);
            let span = advice.again.since(NOW);
            (advice, span)
        };
        let wait = |retry_after: Option<Span>| {
            let (start, end) = (NOW.plus(Span::days(1)), NOW.plus(Span::days(2)));
            again(None, &Hint::Window { start, end, explanation: None, retry_after }, 0).1
        };
        for (said, kept) in [(0, Span::mins(1)), (59, Span::mins(1)), (21_600, Span::hours(6)), (90_000, Span::days(1))]
        {
            assert_eq!(wait(Some(Span::secs(said))), kept);
        }
        assert_eq!(wait(None), Span::hours(6), "who says nothing of it");
        assert_eq!(again(None, &said(404, "", Some(5)), 0).1, Span::hours(6));
        assert_eq!(again(None, &said(503, "", Some(5)), u32::MAX).1, Span::secs(90));
        assert_eq!(again(None, &said(503, "", Some(3600)), u32::MAX).1, Span::hours(1));
        assert_eq!(learn(&held, None, &Hint::Absent, NOW, 0).again, NEVER);
        for (throw, percent) in [(0, 50), (u32::MAX, 150)] {
            let mut before = None;
            for mins in [1, 2, 4, 8, 16, 32] {
                let (advice, span) = again(before.as_ref(), &said(500, "", None), throw);
                assert_eq!(span, Span::mins(mins).percent(percent));
                before = Some(advice);
            }
            for _ in 0..3 {
                let (advice, span) = again(before.as_ref(), &said(500, "", None), throw);
                assert_eq!(span, Span::hours(6), "it seems to last");
                before = Some(advice);
            }
            let heard = learn(&held, before.as_ref(), &window(NOW, NOW.plus(Span::secs(1))), NOW, throw);
            assert_eq!(heard.failures, 0);
        }
    }

    /// Whoever restarts again and again does not ask again and again.
    #[test]
    fn it_is_asked_once_before_its_time() {
        let held = held(Span::hours(2));
        let hint = window(NOW.plus(Span::hours(1)), NOW.plus(Span::hours(3)));
        let mut tried = Tried { advice: Some(learn(&held, None, &hint, NOW, 0)), ..Tried::default() };
        let again = |tried: &Tried| tried.advice.as_ref().map(|advice| advice.again);
        tried.ask_anew();
        assert_eq!(again(&tried), Some(Unix::default()));
        tried.advice = Some(learn(&held, tried.advice.as_ref(), &hint, NOW, 0));
        tried.ask_anew();
        assert_eq!(again(&tried), Some(NOW.plus(Span::hours(6))), "now it has its time");
        tried.advice = Some(learn(&held, tried.advice.as_ref(), &hint, NOW, 0));
        tried.ask_anew();
        assert_eq!(again(&tried), Some(Unix::default()), "which has come, and the next one may be hurried again");
        tried.advice = Some(learn(&held, None, &Hint::Absent, NOW, 0));
        tried.ask_anew();
        assert_eq!(again(&tried), Some(NEVER));
    }

    #[test]
    fn what_is_new_is_said_once() {
        let held = held(Span::hours(2));
        let hint = Hint::Window {
            start: NOW.plus(Span::hours(1)),
            end: NOW.plus(Span::hours(3)),
            explanation: Some("https://ca.example/why".into()),
            retry_after: None,
        };
        let advice = learn(&held, None, &hint, NOW, u32::MAX);
        assert_eq!(
            news(None, &advice, &hint).as_deref(),
            Some(
                "the CA wants it renewed between 2027-01-15T09:00:00Z and 2027-01-15T11:00:00Z; it says why at \
                 https://ca.example/why; that is done from 2027-01-15T11:00:00Z"
            )
        );
        assert_eq!(news(Some(&advice), &learn(&held, Some(&advice), &hint, NOW, 0), &hint), None);
        let no = said(404, "", None);
        assert_eq!(
            news(Some(&advice), &learn(&held, Some(&advice), &no, NOW, 0), &no).as_deref(),
            Some(
                "the CA does not say when it wants it renewed: asking for the renewal window: unexpected-answer: the CA \
                 answered 404 and gave no reason; asked again from 2027-01-15T14:00:00Z"
            )
        );
        assert_eq!(news(None, &learn(&held, None, &Hint::Absent, NOW, 0), &Hint::Absent), None);
    }
}
