//! Certificates are swapped under load: two hundred requests a second over https while one renewal follows the other.
//! No request fails, no connection is cut, and every handshake that is begun after a commit shows what was committed.
//!
//! Ten seconds and three renewals; `make load` takes a minute and ten (LOAD_SECONDS).
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod harness;

use harness::ca::{Ca, Knobs};
use harness::cert;
use harness::device::Device;
use harness::{LATER, ui, until};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const NAME: &str = "router.example.org";
/// As many visitors of either kind: who stays on one connection, and who comes anew each time.
const VISITORS: u32 = 4;
const EACH_A_SECOND: u32 = 25;

#[test]
fn no_request_fails_while_certificates_are_swapped() {
    let seconds: u32 = std::env::var("LOAD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.set("MDPortMap", format!("http:{} https:{}", ca.http.number(), ca.tls.number()));
    // Commands take their time; nobody at the door shall notice.
    device.set("MDNotifyCmd", device.folder.script("notify", "sleep 0.3").display().to_string());
    let site = format!(
        "MDomain {NAME}\n<VirtualHost *:{}>\nServerName {NAME}\nProxyPass / http://127.0.0.1:{}/\n</VirtualHost>",
        ca.tls.number(),
        ui::start()
    );
    device.start_with(&site);
    device.complete(NAME);
    let (addr, begin) = (SocketAddr::from((Ipv4Addr::LOCALHOST, ca.tls.number())), Instant::now());
    let visitors: Vec<JoinHandle<Vec<Shown>>> = (0..2 * VISITORS)
        .map(|number| thread::spawn(move || visit(addr, begin, seconds * EACH_A_SECOND, number % 2 == 0)))
        .collect();

    let mut commits = vec![Shown { when: begin, serial: device.exported(NAME).serial }];
    let renewals = (seconds / 6).max(3);
    for number in 1..=renewals {
        let turn = begin + Duration::from_secs_f64(f64::from(seconds) * f64::from(number) / f64::from(renewals + 1));
        thread::sleep(turn.saturating_duration_since(Instant::now()));
        let known = commits.len();
        thread::scope(|scope| {
            let renewal = scope.spawn(|| device.run(&["renew", "--force", NAME]));
            let serial = until("it is committed", LATER, || serials(&device.log()).nth(known));
            commits.push(Shown { when: Instant::now(), serial });
            let said = renewal.join().expect("no panic");
            assert_eq!(said.code, Some(0), "{said:?}");
        });
    }
    let seen: Vec<Shown> =
        visitors.into_iter().flat_map(|visitor| visitor.join().expect("no failed request")).collect();
    let took = begin.elapsed().as_secs_f64();
    let wrong: Vec<String> = seen.iter().filter_map(|shown| outdated(shown, &commits)).collect();
    assert!(wrong.is_empty(), "{} of {} handshakes: {:#?}", wrong.len(), seen.len(), &wrong[..wrong.len().min(9)]);
    let requests = 2 * VISITORS * seconds * EACH_A_SECOND;
    println!(
        "{requests} requests in {took:.1} s, {} of them with a handshake, over {renewals} renewals: none failed",
        seen.len()
    );
}

/// What was shown to somebody who came at this moment; or what was committed then.
struct Shown {
    when: Instant,
    serial: String,
}

/// So many requests at an even pace, each of which has to succeed.
fn visit(addr: SocketAddr, begin: Instant, requests: u32, stays: bool) -> Vec<Shown> {
    let client = cert::client(None).expect("a client");
    let mut shown = Vec::new();
    let mut come = |number: u32| {
        let when = Instant::now();
        let stream = TcpStream::connect(addr).unwrap_or_else(|why| panic!("connection {number}: {why}"));
        let mut tls = cert::open(&Arc::clone(&client), stream, NAME).expect("a good name");
        tls.conn.complete_io(&mut tls.sock).unwrap_or_else(|why| panic!("handshake {number}: {why}"));
        shown.push(Shown { when, serial: cert::facts(tls.conn.peer_certificates().expect("a chain")).serial });
        tls
    };
    let mut kept = None;
    for number in 0..requests {
        let turn = begin + Duration::from_secs(1) * number / EACH_A_SECOND;
        thread::sleep(turn.saturating_duration_since(Instant::now()));
        let mut tls = kept.take().unwrap_or_else(|| come(number));
        assert_eq!(ui::ask(&mut tls, NAME).unwrap_or_else(|why| panic!("request {number}: {why}")), 200);
        kept = stays.then_some(tls);
    }
    shown
}

/// What was committed, from the daemon's own words: they are said when it is in the next handshake.
fn serials(log: &str) -> impl Iterator<Item = String> {
    let lines = log.lines().filter(|line| line.contains("certificate until "));
    lines.filter_map(|line| Some(line.split_once(", serial ")?.1.split([' ', ';', ',']).next()?.to_owned()))
}

/// Why it should not have been shown.
fn outdated(shown: &Shown, commits: &[Shown]) -> Option<String> {
    let due = commits.iter().rposition(|commit| commit.when < shown.when).unwrap_or(0);
    let found = commits.iter().position(|commit| commit.serial == shown.serial);
    (found.is_none_or(|found| found < due)).then(|| format!("{found:?} instead of {due}"))
}
