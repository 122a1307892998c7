//! A CA and a net that mean ill: whatever is said to the daemon, it ends in bounded time and memory, with one sentence in
//! which nothing of the other side's text can do harm.
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod harness;

use harness::ca::{Ca, Knobs};
use harness::chaos::{Asked, Chaos, Deed, Face, parts};
use harness::device::Device;
use harness::{LATER, SOON, until};
use std::time::{Duration, Instant};

const A: &str = "a.example.org";

/// What came of one try.
struct Came {
    sentence: String,
    took: Duration,
    /// The most memory that the daemon ever had, in kB.
    peak: u64,
}

/// One without moods, and in a hurry.
fn ca() -> Ca {
    Ca::start(&Knobs { nonce_reject: Some(0), authz_reuse: Some(0), retry_after: [0, 0], ..Knobs::default() })
}

fn device(ca: &Ca, chaos: &Chaos) -> Device {
    let mut device = Device::with(chaos.directory(), &chaos.root());
    device.set("MDPortMap", format!("http:{} https:-", ca.http.number()));
    device.set("MDRetryDelay", "1h");
    device
}

/// One try of a new device.
#[track_caller]
fn tried(ca: &Ca, chaos: &Chaos, what: &str) -> Came {
    let mut device = device(ca, chaos);
    let begun = Instant::now();
    device.start_with(&format!("MDomain {A}"));
    until(&format!("{what} has an end"), LATER, || {
        let md = device.md(A);
        (md["renewal"]["errors"].as_u64() >= Some(1) || md["state"] == 2).then_some(())
    });
    let took = begun.elapsed();
    let status = std::fs::read_to_string(format!("/proc/{}/status", device.pid())).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
    let said = device.run(&["status"]);
    let log = device.log();
    for text in [&log, &said.out, &said.err] {
        let odd = text.chars().find(|c| c.is_control() && *c != '\n' || matches!(c, '\u{202e}' | '\u{2028}'));
        assert!(odd.is_none(), "{what}: {odd:?} in {text:?}");
    }
    let warnings: Vec<&str> = log.lines().filter(|line| !line.starts_with("INFO ")).collect();
    assert!(warnings.len() <= 1, "{what}: {log}");
    let sentence = warnings.first().unwrap_or(&"").to_string();
    assert!(sentence.len() < 2500, "{what}: {} bytes: {sentence}", sentence.len());
    assert_eq!(device.stop().code(), Some(0), "{what}");
    Came { sentence, took, peak: peak.expect("a peak") }
}

/// With what a good day takes, debugging included, and some room.
#[track_caller]
fn bounded(came: &Came, good: &Came, what: &str) {
    println!("{what}: {:?}, {} kB: {}", came.took, came.peak, came.sentence);
    assert!(came.peak < good.peak + ROOM, "{what}: {} kB, and {} kB on a good day", came.peak, good.peak);
    assert!(came.took < Duration::from_secs(30), "{what}: {:?}", came.took);
}

/// kB: twice the megabyte that an answer may have, and what is made of it.
const ROOM: u64 = 6 << 10;

fn reply(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn json(body: &str) -> Vec<u8> {
    reply("200 OK", "Content-Type: application/json\r\nReplay-Nonce: abc\r\n", body)
}

/// What is done to the answer to this question; all others are left alone.
fn only(
    line: &'static str,
    deed: impl Fn(Vec<u8>) -> Deed + Send + 'static,
) -> impl Fn(&Asked, Vec<u8>) -> Deed + Send {
    move |asked, answer| if asked.line.starts_with(line) { deed(answer) } else { Deed::Say(answer) }
}

/// The answer with another text in its body.
fn edited(answer: &[u8], edit: impl Fn(&str) -> String) -> Vec<u8> {
    let (head, body) = parts(answer);
    let body = edit(&String::from_utf8_lossy(body));
    let mut lines: Vec<&str> = head.trim_end().lines().collect();
    lines.retain(|line| !line.to_lowercase().starts_with("content-length") && !line.starts_with("Transfer-Encoding"));
    format!("{}\r\nContent-Length: {}\r\n\r\n{body}", lines.join("\r\n"), body.len()).into_bytes()
}

#[test]
fn answers_that_are_no_http() {
    let ca = ca();
    let chaos = Chaos::before(&ca);
    let good = tried(&ca, &chaos, "a good day");
    assert_eq!(good.sentence, "");
    let ok = |rest: &str| format!("HTTP/1.1 200 OK\r\n{rest}").into_bytes();
    let noise: Vec<u8> = (0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let long = "a".repeat(60_000);
    let here = chaos.directory();
    type Make = Box<dyn Fn() -> Deed + Send>;
    let say = |bytes: Vec<u8>| -> Make { Box::new(move || Deed::Say(bytes.clone())) };
    let close = |bytes: Vec<u8>| -> Make { Box::new(move || Deed::Close(bytes.clone())) };
    let endless = |first: Vec<u8>, again: &str| -> Make {
        let again = again.repeat(1 + 4000 / again.len()).into_bytes();
        Box::new(move || Deed::Endless(first.clone(), again.clone()))
    };
    let moved = |to: &str| reply("302 Found", &format!("Location: {to}\r\n"), "");
    let cases: Vec<(&str, Make, &str)> = vec![
        ("nothing at all", close(vec![]), "the connection was closed"),
        ("noise", close(noise), ""),
        ("a huge header", endless(ok(""), &format!("X: {long}\r\n")), "too long"),
        ("a thousand headers", close(ok(&format!("{}\r\n", "X: y\r\n".repeat(1000)))), ""),
        ("headers without end", endless(ok(""), "X: yyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n"), ""),
        ("a header without end", endless(ok("X: "), "y"), "too long"),
        ("a body without end", endless(ok("\r\n"), "[[[["), "more than 1 MB"),
        ("a body of a terabyte", endless(ok("Content-Length: 1000000000000\r\n\r\n"), "    "), "more than 1 MB"),
        ("chunks without end", endless(ok("Transfer-Encoding: chunked\r\n\r\n"), "4\r\n    \r\n"), "more than 1 MB"),
        ("a chunk size without end", endless(ok("Transfer-Encoding: chunked\r\n\r\n"), "0"), ""),
        ("a chunk extension without end", endless(ok("Transfer-Encoding: chunked\r\n\r\n1;"), "x"), ""),
        ("a chunk of everything", close(ok("Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n    ")), ""),
        ("a negative length", close(ok("Content-Length: -1\r\n\r\n{}")), ""),
        ("two lengths", close(ok("Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}")), ""),
        ("a status of five digits", close(b"HTTP/1.1 99999 OK\r\n\r\n".to_vec()), ""),
        ("a status of zero", close(b"HTTP/1.1 000 OK\r\n\r\n".to_vec()), ""),
        ("HTTP of another age", close(b"HTTP/9.9 200 OK\r\n\r\n{}".to_vec()), ""),
        ("no HTTP", close(b"SSH-2.0-OpenSSH\x1b[2J\r\n".to_vec()), ""),
        ("another protocol", close(ok("").into_iter().chain(*b"Upgrade: x\r\n\r\n").collect()), ""),
        ("switching protocols", close(b"HTTP/1.1 101 Switching\r\nUpgrade: \x1b[2J\r\n\r\n".to_vec()), ""),
        ("sent to itself", say(moved(&here)), "redirects more than 3 times"),
        ("sent to itself by a path", say(moved("/dir")), "redirects more than 3 times"),
        ("sent to nowhere", say(moved("")), ""),
        ("sent to noise", say(moved("\x1b[2J\u{202e}")), ""),
        ("sent to no URL", say(moved("https://[::1")), ""),
        ("sent far", say(moved(&format!("https://127.0.0.1/{}", &long[..9000]))), ""),
        ("sent to a strange scheme", say(moved("file:///etc/passwd")), ""),
        ("sent into the clear", say(moved("http://127.0.0.1:1/")), "from https to http"),
    ];
    for (what, make, says) in cases {
        chaos.does(move |_, _| make());
        let came = tried(&ca, &chaos, what);
        bounded(&came, &good, what);
        assert!(
            came.sentence.contains("reading the directory") && came.sentence.contains(says),
            "{what}: {}",
            came.sentence
        );
    }
}

#[test]
fn answers_that_are_no_acme() {
    let ca = ca();
    let chaos = Chaos::before(&ca);
    let good = tried(&ca, &chaos, "a good day");
    type Edit = fn(&str) -> String;
    type Spoilt = (&'static str, Box<dyn Fn(Vec<u8>) -> Deed + Send>);
    let deep = "[".repeat(10_000);
    let put = |line, body: String| -> Spoilt { (line, Box::new(move |_| Deed::Say(json(&body)))) };
    let edit = |line, edit: Edit| -> Spoilt { (line, Box::new(move |answer| Deed::Say(edited(&answer, edit)))) };
    let no = |line, body: String| -> Spoilt {
        (line, Box::new(move |_| Deed::Say(reply("400 Bad", "Content-Type: application/problem+json\r\n", &body))))
    };
    let many = |item: &str| vec![item; 1_000_000 / (item.len() + 1)].join(",");
    let token: Edit = |body| replace_token(body, "../../../../etc/passwd");
    let cases = [
        ("nested", put("GET /dir", deep.clone()), "not what RFC 8555"),
        ("nested in what is skipped", put("GET /dir", format!(r#"{{"x":{deep}"#)), ""),
        ("nested challenges", put("POST /authZ", format!(r#"{{"status":"pending","challenges":{deep}"#)), ""),
        ("a nested problem", no("POST /order-plz", format!(r#"{{"type":"x","subproblems":{deep}"#)), ""),
        (
            "many challenges",
            put(
                "POST /authZ",
                format!(
                    r#"{{"status":"pending","identifier":{{"type":"dns","value":"{A}"}},"challenges":[{}]}}"#,
                    many("0")
                ),
            ),
            "",
        ),
        (
            "many authorizations",
            put("POST /order-plz", format!(r#"{{"status":"pending","authorizations":[{}]}}"#, many("\"\""))),
            "",
        ),
        ("many subproblems", no("POST /order-plz", format!(r#"{{"type":"x","subproblems":[{}]}}"#, many("{}"))), ""),
        ("long words", no("POST /order-plz", format!(r#"{{"type":"{0}","detail":"{0}"}}"#, "w".repeat(400_000))), ""),
        (
            "escapes",
            no(
                "POST /order-plz",
                r#"{"type":"\u001b[2J\nWARN x","detail":"\u001b]0;x\u0007\r\nINFO  ok\u202e"}"#.into(),
            ),
            "\\u{1b}]0;x\\u{7}\\r\\n",
        ),
        ("a path for a token", edit("POST /authZ", token), "base64url"),
        ("a token of two lines", edit("POST /authZ", |body| replace_token(body, r"a\nb")), "base64url"),
        ("dots for a token", edit("POST /authZ", |body| replace_token(body, "..")), "base64url"),
        ("no token", edit("POST /authZ", |body| replace_token(body, "")), "base64url"),
        ("a token of 10 kB", edit("POST /authZ", |body| replace_token(body, &"t".repeat(10_000))), "base64url"),
        ("another name", edit("POST /authZ", |body| body.replace(A, r"x\u001b[2J")), "which was not asked for"),
        ("an order of odd state", edit("POST /order-plz", |body| body.replace("pending", r"\u001b[2J")), "\\u{1b}[2J"),
        (
            "a long address",
            edit("POST /order-plz", |body| body.replace("/authZ/", &format!("/{}/", "z".repeat(100_000)))),
            "address",
        ),
        ("an address of two lines", edit("POST /order-plz", |body| body.replace("/authZ/", r"/x\r\nX: y/")), "address"),
        ("an address in the clear", edit("GET /dir", |body| body.replace("https://", "http://")), "address"),
        ("a hundred certificates", edit("POST /certZ", |body| body.repeat(50)), "more than 10 certificates"),
        ("no certificate", edit("POST /certZ", |_| "\u{1b}[2J".into()), "no certificate"),
        ("half a chain", edit("POST /certZ", |body| body[..body.len() - 100].into()), "breaks off"),
        ("a chain in another order", edit("POST /certZ", turned), "it is for another key"),
        ("a broken chain", edit("POST /certZ", leaf_twice), "the chain is broken"),
        (
            "a huge certificate",
            edit("POST /certZ", |_| {
                format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", "AAAA".repeat(250_000))
            }),
            "",
        ),
    ];
    for (what, (line, deed), says) in cases {
        chaos.does(only(line, deed));
        let came = tried(&ca, &chaos, what);
        bounded(&came, &good, what);
        assert!(!came.sentence.is_empty() && came.sentence.contains(says), "{what}: {}", came.sentence);
    }
}

/// Neither in its words nor in its environment, nor as the name of a file.
#[test]
fn nothing_that_a_ca_says_reaches_a_command_or_a_path() {
    let ca = ca();
    let chaos = Chaos::before(&ca);
    let mut device = device(&ca, &chaos);
    let heard = device.folder.join("heard");
    let script = device.folder.script("ear", &format!("{{ echo \"$@\"; env; }} >>'{}'", heard.display()));
    let webroot = device.folder.join("web");
    std::fs::create_dir(&webroot).expect("a folder in our own");
    device.set("MDRetryDelay", "1s");
    let said = r#"{"type":"MARKER\n$(MARKER)","detail":"`MARKER`","subproblems":[{"detail":"MARKER"}]}"#;
    for line in ["POST /order-plz", "POST /authZ", "POST /finalize"] {
        chaos.does(only(line, move |_| Deed::Say(reply("400 MARKER", "X-MARKER: MARKER\r\n", said))));
        let text = format!("MDMessageCmd {0}\nMDNotifyCmd {0}\nMDomain {A}", script.display());
        device.start_with(&format!("MDChallengeWebroot {}\n{text}", webroot.display()));
        device.logs("MARKER");
        until("it was said", SOON, || {
            std::fs::read_to_string(&heard).is_ok_and(|h| h.contains("errored")).then_some(())
        });
        assert_eq!(device.stop().code(), Some(0));
    }
    // A token that is a path has no file, and nothing stays in the folder.
    chaos.does(only("POST /authZ", |answer| Deed::Say(edited(&answer, |body| replace_token(body, "../../MARKER")))));
    device.start();
    device.logs("base64url");
    assert_eq!(device.stop().code(), Some(0));
    let heard = std::fs::read_to_string(&heard).expect("it was called");
    let files = harness::listing(device.folder.path());
    assert!(!heard.contains("MARKER") && !files.contains("MARKER"), "{heard}\n{files}");
}

fn replace_token(body: &str, with: &str) -> String {
    let mut value: serde_json::Value = serde_json::from_str(body).expect("Pebble's JSON");
    for challenge in value["challenges"].as_array_mut().into_iter().flatten() {
        if challenge["token"].is_string() {
            challenge["token"] = "TOKEN".into();
        }
    }
    value.to_string().replace("TOKEN", with)
}

/// The certificates of a chain.
fn certificates(body: &str) -> Vec<&str> {
    body.split_inclusive("-----END CERTIFICATE-----\n").collect()
}

fn turned(body: &str) -> String {
    certificates(body).into_iter().rev().collect()
}

fn leaf_twice(body: &str) -> String {
    let leaf = certificates(body)[0];
    [leaf, leaf].concat()
}

#[test]
fn headers_that_ask_too_much() {
    let ca = ca();
    let chaos = Chaos::before(&ca);
    let good = tried(&ca, &chaos, "a good day");
    let absurd = ["-5", "1e30", "soon", ""];
    let past = "Thu, 01 Jan 1970 00:00:00 GMT";
    let far = ["Fri, 31 Dec 9999 23:59:59 GMT", "1000000000000000000000000000000"];
    // On what needs no wait it is passed over.
    for value in absurd.iter().chain(&far).chain([&past]) {
        let header = format!("HTTP/1.1 200 OK\r\nRetry-After: {value}\r\n");
        chaos.does(only("GET /dir", move |answer| Deed::Say(swap_status(&answer, &header))));
        let came = tried(&ca, &chaos, value);
        assert_eq!(came.sentence, "", "{value}");
        bounded(&came, &good, value);
    }
    // With a refusal it is obeyed, for a day at most.
    for (value, is_far) in absurd.iter().map(|value| (value, false)).chain(far.iter().map(|value| (value, true))) {
        let header = format!("Date: Tue, 24 Nov 2026 22:00:00 GMT\r\nRetry-After: {value}\r\n");
        chaos.does(only("POST /order-plz", move |_| {
            Deed::Say(reply("429 Slow", &header, r#"{"type":"urn:ietf:params:acme:error:rateLimited"}"#))
        }));
        let tomorrow = format!("next try {}T", date_in(86_400));
        let came = tried(&ca, &chaos, value);
        bounded(&came, &good, value);
        assert!(came.sentence.contains("rateLimited"), "{}", came.sentence);
        assert!(!is_far || came.sentence.contains(&tomorrow), "{value}: {}", came.sentence);
    }
    // Nonces of every kind that is none.
    for value in ["", "a b", "\u{fc}", "a\tb", &"n".repeat(5000), "../..", "\"}"] {
        let header = format!("Replay-Nonce: {value}\r\n");
        chaos.does(move |_, answer| Deed::Say(with_nonce(&answer, &header)));
        let came = tried(&ca, &chaos, value);
        bounded(&came, &good, value);
        assert!(came.sentence.contains("no usable nonce"), "{value}: {}", came.sentence);
    }
    for (value, says) in [
        ("https://127.0.0.1/\u{1b}[2J", ""),
        ("javascript:alert(1)", "no absolute https URL"),
        ("https://127.0.0.1/a b", "no absolute https URL"),
        (&format!("https://127.0.0.1/{}", "x".repeat(8000)), "as the address of the account"),
    ] {
        let header = format!("Location: {value}\r\n");
        chaos.does(only("POST /sign-me-up", move |answer| Deed::Say(with_location(&answer, &header))));
        let came = tried(&ca, &chaos, value);
        bounded(&came, &good, value);
        assert!(!came.sentence.is_empty() && came.sentence.contains(says), "{value}: {}", came.sentence);
    }
}

/// `2026-11-25`.
fn date_in(secs: i64) -> String {
    let then = time::OffsetDateTime::from(std::time::SystemTime::now()) + time::Duration::seconds(secs);
    then.date().to_string()
}

/// The answer with another first line, which may bring headers along.
fn swap_status(answer: &[u8], first: &str) -> Vec<u8> {
    let (head, body) = parts(answer);
    let (_, rest) = head.split_once("\r\n").expect("a line");
    [first.as_bytes(), rest.as_bytes(), body].concat()
}

fn with_nonce(answer: &[u8], line: &str) -> Vec<u8> {
    with_header(answer, "replay-nonce", line)
}

fn with_location(answer: &[u8], line: &str) -> Vec<u8> {
    with_header(answer, "location", line)
}

fn with_header(answer: &[u8], name: &str, line: &str) -> Vec<u8> {
    let (head, body) = parts(answer);
    let kept = head.trim_end().split("\r\n").filter(|line| !line.to_lowercase().starts_with(name));
    let head: String = kept.map(|line| format!("{line}\r\n")).collect();
    [head.as_bytes(), line.as_bytes(), b"\r\n", body].concat()
}

#[test]
fn servers_that_are_not_the_ca() {
    let ca = Ca::start(&Knobs::default());
    let chaos = Chaos::before(&ca);
    for (face, says) in [
        (Face::Expired, "has expired; is the clock right?"),
        (Face::NotYet, "is not valid yet; is the clock right?"),
        (Face::OtherName, "is for another name"),
        (Face::Stranger, "comes from nobody who is trusted here"),
    ] {
        chaos.shows(face);
        let came = tried(&ca, &chaos, "a wrong certificate");
        println!("{face:?}: {}", came.sentence);
        assert!(came.sentence.contains(says), "{face:?}: {}", came.sentence);
        assert_eq!(chaos.questions(), 0, "{face:?}");
    }
}

/// A connection that ends after each answer, answers in pieces, twice, or that of the question before.
#[test]
fn nets_that_are_slow_or_confused() {
    let ca = ca();
    let chaos = Chaos::before(&ca);
    let good = tried(&ca, &chaos, "a good day");
    chaos.does(|_, answer| Deed::Close(answer));
    let came = tried(&ca, &chaos, "closed after each answer");
    bounded(&came, &good, "closed after each answer");
    assert_eq!(came.sentence, "");
    chaos.does(|_, answer| Deed::Drip(answer, Duration::from_micros(200)));
    let came = tried(&ca, &chaos, "byte by byte");
    bounded(&came, &good, "byte by byte");
    assert_eq!(came.sentence, "");
    chaos.does(|_, answer| Deed::Say(answer.repeat(2)));
    let came = tried(&ca, &chaos, "everything twice");
    bounded(&came, &good, "everything twice");
    let mut last = Vec::new();
    chaos.does(move |_, answer| {
        let before = std::mem::replace(&mut last, answer.clone());
        Deed::Say(if before.is_empty() { answer } else { before })
    });
    let came = tried(&ca, &chaos, "each answer late by one");
    bounded(&came, &good, "each answer late by one");
    assert_ne!(came.sentence, "");
}

/// One reset in an order, at any byte of any answer, costs nothing but a question more.
#[test]
fn a_reset_anywhere_in_an_order_is_survived() {
    let ca = ca();
    let chaos = Chaos::before(&ca);
    let mut device = device(&ca, &chaos);
    device.start_with(&format!("MDomain {A}"));
    device.complete(A);
    let (mut count, mut resets) = (0, 0);
    for question in 0..9 {
        for place in [0, 13, 150, 99, 100] {
            // The last two are one before the end, and the end itself.
            chaos.does(move |asked, answer| {
                if asked.number != question {
                    return Deed::Say(answer);
                }
                let at = match place {
                    99 => answer.len() - 1,
                    100 => answer.len(),
                    at => at.min(answer.len()),
                };
                Deed::Reset(answer[..at].to_vec())
            });
            let said = device.run(&["renew", "--force", A]);
            assert_eq!(said.code, Some(0), "question {question}, byte {place}: {said:?}");
            count += 1;
            resets += usize::from(chaos.questions() > 9);
        }
    }
    println!("{count} orders, {resets} with a question more, {} connections", chaos.connections());
    assert!(!device.log().contains("WARN"), "{}", device.log());
    assert!(resets > count / 2, "the resets are felt");
}

/// Issued, or ended with a sentence; never a loop.
#[test]
fn nine_of_ten_nonces_are_refused() {
    let ca = Ca::start(&Knobs { nonce_reject: Some(90), ..Knobs::default() });
    let mut device = Device::new(&ca);
    device.set("MDRetryDelay", "1s");
    device.start_with(&format!("MDomain {A}"));
    until("it has an end", SOON, || {
        let md = device.md(A);
        (md["renewal"]["errors"].as_u64() >= Some(1) || md["state"] == 2).then_some(())
    });
    let requests = ca.requests().len();
    println!("nine of ten nonces refused: {requests} requests\n{}", device.log());
    assert!(requests <= 2 * 130, "{requests}");
    let log = device.log();
    assert!(
        ca.issued() == 1 || log.lines().any(|line| line.starts_with("WARN ") && line.contains("badNonce")),
        "{log}"
    );
}
