//! The plug is pulled, again and again, while a device on real flash renews without end: the emulator is killed at an
//! instant that dice choose, in the loop of renewals or, every fifth time, in the boot that follows. Each boot has to come
//! up with a pair that is whole, the old one or the new one and never older than what `edgemd renew` has called done;
//! nothing set aside, nothing left over, the account the same, and no order at the CA that was not asked for.
//!
//!     power MACHINE... [--pulls N] [--seed S]
//!
//! `make power` runs it for one machine of each flash file system, with the daemon for its processor in EDGEMD.
//! What the machine's kernel had in its memory is lost; of JFFS2 that is nothing, which writes through. Beyond that, a disk
//! (ext4) loses what was not flushed, sector by sector, as dice choose (`harness/volatile.rs`). NOR flash (JFFS2, UBIFS) has
//! no cache: there the last write or erasure is cut; bits that are half programmed are not modelled. The CA validates in
//! earnest, by http-01, and remembers most of it.
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod harness;
#[path = "fake/xorshift.rs"]
mod xorshift;

use harness::ca::{Ca, Knobs};
use harness::cert;
use harness::firmware;
use harness::machine::{Battery, Machine, Pace};
use harness::{LATER, until};
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use std::thread;
use std::time::{Duration, Instant};
use xorshift::Xorshift;

const NAME: &str = "router.example.org";
/// Ends with the power only. What was done is said with its serial, by the daemon.
const LOOP: &str = "while :; do product edgemd renew --force router.example.org && echo DONE || echo FAILED; done";

fn main() {
    let (mut machines, mut pulls, mut seed) = (Vec::new(), 200_u64, now());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a number");
        match word.as_str() {
            "--pulls" => pulls = number(),
            "--seed" => seed = number(),
            _ if word.starts_with('-') => {}
            _ => machines.push(word),
        }
    }
    for name in machines {
        println!("{name}: {pulls} pulls, seed {seed}");
        let mut campaign = Campaign::new(&name, seed);
        campaign.begin();
        for number in 1..=pulls {
            campaign.pull(number);
            if campaign.is_stuck {
                campaign = campaign.anew();
            }
            if number % 10 == 0 || number == pulls {
                campaign.say(number);
            }
        }
    }
}

struct Campaign {
    name: String,
    device: Machine,
    ca: Ca,
    roots: Vec<CertificateDer<'static>>,
    dice: Dice,
    account: String,
    /// What is held, by its serial.
    held: String,
    /// How long a renewal took, and a boot.
    renewal: Duration,
    boot: Duration,
    begun: Instant,
    seen: Seen,
    /// Pebble does not find what is to be replaced if its serial has seven bytes and begins with a bit that is set.
    is_stuck: bool,
}

const NOT_FOUND: &str = "could not find order";

/// What came of it.
#[derive(Default)]
struct Seen {
    boots: usize,
    in_boots: usize,
    in_orders: usize,
    old: usize,
    new: usize,
    done: usize,
    beyond: usize,
    slowest: Duration,
    /// Sectors that were in the disk's cache, and those of them that were kept.
    cached: usize,
    kept: usize,
    repaired: usize,
    anew: usize,
}

impl Campaign {
    fn new(name: &str, seed: u64) -> Self {
        // A renewal shall be short: what is cut is the disk.
        let knobs = Knobs { nonce_reject: Some(0), authz_reuse: Some(90), retry_after: [0, 0], ..Knobs::default() };
        let ca = Ca::start(&knobs);
        let mut device = Machine::new(name, &ca);
        device.forget_what_is_not_flushed();
        firmware::put(&device, &ca, NAME);
        let roots = ca.issuing_root();
        Self {
            name: name.to_owned(),
            device,
            ca,
            roots,
            dice: Dice(Xorshift(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)),
            account: String::new(),
            held: String::new(),
            renewal: Duration::ZERO,
            boot: Duration::ZERO,
            begun: Instant::now(),
            seen: Seen::default(),
            is_stuck: false,
        }
    }

    /// Another device with another CA, and what has been seen until now.
    fn anew(self) -> Self {
        let mut next = Self::new(&self.name, 0);
        (next.dice, next.begun, next.seen) = (self.dice, self.begun, self.seen);
        next.seen.anew += 1;
        next.begin();
        next
    }

    /// The first certificate, and how long things take here.
    fn begin(&mut self) {
        self.device.boot(Battery::Full, Pace::Ours);
        self.device.run("product install && product start");
        self.until_up();
        self.set_clock();
        self.device.run(&format!("product add {NAME} && product reload && sync"));
        self.held = self.until_quiet();
        self.account = self.device.run("product edgemd account");
        assert!(self.account.contains("https://"), "{}", self.account);
        let begun = Instant::now();
        for _ in 0..3 {
            self.device.attempt(&format!("product edgemd renew --force {NAME}"));
        }
        self.renewal = begun.elapsed() / 3;
        self.held = self.until_quiet();
        self.device.shut_down();
        self.boot();
        self.judge(&self.held.clone(), &[]);
    }

    /// A while of renewals and the end of it; a boot, which may have the same end; and what is there then.
    fn pull(&mut self, number: u64) {
        let (before, orders) = (self.ca.serials(), self.orders());
        let until = Instant::now() + self.dice.upto(self.renewal * 3);
        let said = self.device.attempt_until(LOOP, until);
        self.cut();
        // What it had sent is heard within a moment.
        thread::sleep(Duration::from_millis(100));
        let done = said.iter().filter(|line| *line == "DONE").count();
        self.is_stuck = said.iter().any(|line| line.contains(NOT_FOUND));
        let has_failed = said.iter().any(|line| line == "FAILED");
        assert!(self.is_stuck || !has_failed, "a renewal failed:\n{}", said.join("\n"));
        let is_in_order = !self.is_stuck && self.orders() - orders > done;
        // The daemon's last words on it, or what was held before.
        let committed = said.iter().rposition(|line| line == "DONE").map(|last| {
            let line = said[..last].last().map_or("", String::as_str);
            let serial = before.len()..self.ca.serials().len();
            let known = self.ca.serials()[serial].iter().find(|serial| line.contains(serial.as_str())).cloned();
            known.unwrap_or_else(|| panic!("done, but what? {line}"))
        });
        let committed = committed.unwrap_or_else(|| self.held.clone());
        if number.is_multiple_of(5) {
            self.device.switch_on(Battery::Full, Pace::Ours);
            thread::sleep(self.dice.upto(self.boot + Duration::from_secs(1)));
            self.cut();
            self.seen.in_boots += 1;
        }
        self.boot();
        // Two more than was done: one that the cut has undone, or that stands though nobody was told.
        let issued = self.ca.serials();
        let since = issued.iter().rposition(|serial| *serial == committed).expect("it was issued");
        self.judge(&committed, &issued[since + 1..]);
        self.seen.done += done;
        if is_in_order {
            self.seen.in_orders += 1;
            if self.held == committed { self.seen.old += 1 } else { self.seen.new += 1 }
        }
    }

    /// Before the next renewal is asked for: all that this is about.
    fn judge(&mut self, committed: &str, newer: &[String]) {
        let orders = self.orders();
        let is_known = |serial: &str| serial == committed || newer.iter().any(|known| known == serial);
        // The web UI was started before the daemon: this is what it found.
        let found = self.until_served();
        assert!(is_known(&found), "{found} is served; {committed} was done, since then were issued {newer:?}");
        self.until_up();
        self.set_clock();
        self.held = self.until_quiet();
        assert!(is_known(&self.held), "{} is held; {committed} was done, then {newer:?}", self.held);
        until("the web UI serves what is held", LATER, || (self.until_served() == self.held).then_some(()));
        self.seen.repaired += usize::from(found != self.held);
        self.exports();
        let bad = "find /var/lib/edgemd /etc/edgemd -name '*.bad' -o -name '.*.new' 2>/dev/null; logread | grep 'set aside'; true";
        assert_eq!(self.device.run(bad), "", "left over or set aside");
        assert_eq!(self.device.run("product edgemd account"), self.account, "the account");
        assert_eq!(self.ca.accounts(), 1, "accounts at the CA");
        let beyond = self.orders() - orders;
        self.seen.beyond += beyond;
        assert_eq!(beyond, 0, "orders that nobody asked for");
    }

    /// Every file that was exported is of the pair that is held; keys are of its certificate.
    fn exports(&mut self) {
        let show =
            format!("cd $(dirname $(product pair)) && for f in {NAME}.*; do echo \"--- $f\"; cat $f; done; cd /");
        let said = self.device.run(&show);
        let files: Vec<(&str, &str)> = said.split("--- ").filter_map(|part| part.split_once('\n')).collect();
        let is_key = |text: &str| text.contains("PRIVATE KEY");
        let key = files.iter().find(|(_, text)| is_key(text)).expect("a key is exported").1;
        let mut pairs = 0;
        for (name, text) in &files {
            // What stands above it has no key here.
            if name.contains(".chain.") || !text.contains("BEGIN CERTIFICATE") {
                continue;
            }
            let key = if is_key(text) { text } else { key };
            let (chain, key) = (self.device.folder.put("pair.crt", text), self.device.folder.put("pair.key", key));
            assert_eq!(cert::read_pair(&chain, &key).serial, self.held, "exported as {name}");
            pairs += 1;
        }
        assert!(pairs >= 2, "{said}");
    }

    fn boot(&mut self) {
        self.boot = self.device.boot(Battery::Full, Pace::Ours);
        self.seen.boots += 1;
        self.seen.slowest = self.seen.slowest.max(self.boot);
    }

    fn cut(&mut self) {
        // All of it, nothing of it, or something in between.
        let share = self.dice.below(5);
        let dice = &mut self.dice;
        let (kept, cached) = self.device.cut_and_lose(|| dice.below(4) < share);
        self.seen.kept += kept;
        self.seen.cached += cached;
    }

    fn orders(&self) -> usize {
        self.ca.requests().iter().filter(|request| *request == "POST /order-plz").count()
    }

    /// Ahead of the CA's, which dates nothing back: what it issues is told of at once then.
    fn set_clock(&mut self) {
        self.device.run(&format!("date -s @{} && product clock-set", now() + 2));
    }

    fn until_up(&mut self) {
        until("the daemon listens", LATER, || (self.device.attempt("product up").0 == 0).then_some(()));
    }

    /// Waits until there is nothing more to do, and says what is held.
    fn until_quiet(&mut self) -> String {
        until("there is nothing more to do", LATER, || {
            let said = self.device.attempt("product edgemd status --json").1;
            let mut status: Value = serde_json::from_str(&said).ok()?;
            let mds = status["managed-domains"].as_array_mut()?;
            let md = mds.iter_mut().find(|md| md["name"] == NAME).map(Value::take)?;
            let renewal = &md["renewal"];
            let idle = renewal.is_null() || (renewal["finished"] == true && renewal["notified"] == true);
            let serial = md["cert"]["secp256r1"]["serial"].as_str()?;
            // A newer one that is not in use yet is seen in the renewal alone.
            let newest = renewal["cert"]["secp256r1"]["serial"].as_str().is_none_or(|newest| newest == serial);
            (md["state"] == 2 && md["renew"] != true && idle && newest).then(|| serial.to_owned())
        })
    }

    /// What the web UI shows to somebody who checks its signature.
    fn until_served(&self) -> String {
        let served = || self.device.served(NAME, &self.roots).ok();
        until("the web UI serves a pair of the CA's", LATER, served).serial
    }

    fn say(&self, pulls: u64) {
        let seen = &self.seen;
        let per_cent = |part: usize, whole: usize| part * 100 / whole.max(1);
        println!(
            "{}: {} pulls in the loop, {} in boots, {} boots; {} renewals done; {} pulls in an order: {} old, {} new; {} \
             exports made good; boots of {:.1} s at most; {} orders too many; {} sectors not flushed, {} % of them kept; {} other devices; {:.0} s",
            self.name,
            pulls,
            seen.in_boots,
            seen.boots,
            seen.done,
            seen.in_orders,
            seen.old,
            seen.new,
            seen.repaired,
            seen.slowest.as_secs_f32(),
            seen.beyond,
            seen.cached,
            per_cent(seen.kept, seen.cached),
            seen.anew,
            self.begun.elapsed().as_secs_f32(),
        );
    }
}

/// A campaign is its seed, as far as the emulator's speed is the same.
struct Dice(Xorshift);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    fn upto(&mut self, limit: Duration) -> Duration {
        let millis = u64::try_from(limit.as_millis()).expect("less than an age");
        Duration::from_millis(self.below(millis.max(1)))
    }
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("a clock").as_secs()
}
