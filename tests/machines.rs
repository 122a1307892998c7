//! The product on its hardware, as far as an emulator goes: a device with the real memory and flash file system takes the
//! product's package, orders its certificate, has its web UI serve it, forgets nothing over a reboot, judges nothing while
//! its clock is wrong, and is idle for an hour.
//!
//! `make qemu-<machine>` starts it, with the machine's name behind `--` and the daemon for its processor in EDGEMD. What it
//! measures: CPU is the daemon's user and system time, memory its VmRSS and VmHWM, files are those whose time of change
//! is newer, bytes those of the flash that are others than before, or what was written to the card. Memory is held
//! against the budget of the product that the machine stands for. What of a product is real in such a machine stands in
//! `qemu/rom/<product>/bin/product`.
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod harness;

use harness::ca::{Ca, Knobs};
use harness::cert::Facts;
use harness::firmware;
use harness::machine::{Battery, Flash, Machine, Pace};
use harness::{LATER, program, until};
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use std::process::Command;
use std::time::Instant;

const NAME: &str = "router.example.org";
const LATE: &str = "vpn.example.org";

fn main() {
    let names = std::env::args().skip(1).filter(|word| !word.starts_with('-'));
    for name in names {
        let begun = Instant::now();
        Tour::new(&name).walk();
        println!("{name}: all of it in {:.0} s", begun.elapsed().as_secs_f32());
    }
}

struct Tour {
    name: String,
    device: Machine,
    ca: Ca,
    roots: Vec<CertificateDer<'static>>,
    /// How many requests the CA has had when there was nothing left to ask it for.
    asked: usize,
    /// What was measured, for the README's table.
    row: Vec<String>,
}

impl Tour {
    fn new(name: &str) -> Self {
        // What is measured here shall not depend on dice.
        let ca = Ca::start(&Knobs { nonce_reject: Some(0), authz_reuse: Some(0), ..Knobs::default() });
        let device = Machine::new(name, &ca);
        firmware::put(&device, &ca, NAME);
        let roots = ca.issuing_root();
        Self { name: name.to_owned(), device, ca, roots, asked: 0, row: Vec::new() }
    }

    fn walk(mut self) {
        let first = self.order();
        self.reboot(&first);
        self.without_clock(&first);
        self.device.shut_down();
        self.idle_hour();
        self.device.shut_down();
        println!("{}", self.row());
    }

    /// As the README has it: the target, its bytes, those by `xz -9`, the machine, and what was measured in it.
    fn row(&self) -> String {
        let bytes = std::fs::metadata(program()).expect("the program").len();
        let packed = Command::new("xz").args(["-9", "-c"]).arg(program()).output().expect("xz").stdout.len();
        let triple = self.device.triple();
        let target = triple.split('-').next().unwrap_or_default();
        let (bytes, packed) = (grouped(bytes as usize), grouped(packed));
        format!("| {target} | {bytes} | {packed} | {} | {} |", self.name, self.row.join(" | "))
    }

    fn say(&self, line: &str) {
        println!("{}: {line}", self.name);
    }

    /// Fresh from the factory: no certificate is asked for before an operator does, and that is once the clock is right.
    fn order(&mut self) -> Facts {
        self.boot("the first time", Battery::Full, Pace::Ours);
        self.install();
        let idle = self.usage();
        self.configure(NAME);
        if !self.device.has_time() {
            self.device.run("product reload");
            self.judges_nothing(&[NAME]);
            self.asks_nothing();
        }
        let before = self.device.flash_at_rest();
        self.device.set_clock();
        let mark = self.mark();
        self.device.run("product reload && product clock-set");
        let served = self.until_served("");
        self.until_quiet(NAME);
        self.until_asked(NAME);
        self.asked = self.ca.requests().len();
        self.say(&format!("served {} after an order of {} requests", served.serial, self.asked));
        let after = self.usage();
        self.is_within("idle_rss_kib", after.rss * 1024.0);
        self.row.extend([
            format!("{:.2}", after.rss),
            format!("{:.2}", after.peak),
            format!("{:.2}", after.cpu - idle.cpu),
        ]);
        let (files, _) = self.measured("order", &idle, &before, &mark);
        self.is_within("order_files", files as f32);
        served
    }

    fn reboot(&mut self, first: &Facts) {
        self.device.shut_down();
        self.boot("with a certificate", Battery::Full, Pace::Ours);
        self.until_up();
        if !self.device.has_time() {
            self.judges_nothing(&[NAME]);
            self.clock_set();
        }
        self.until_quiet(NAME);
        self.until_asked(NAME);
        assert_eq!(self.until_served("").serial, first.serial, "served after a reboot");
        let questions = self.orders_nothing();
        self.asked = self.ca.requests().len();
        self.say(&format!(
            "served {} after a reboot; the CA was only asked when it is to be renewed: {questions}",
            first.serial
        ));
        let started = self.usage();
        self.say(&format!(
            "{:<8} {:.2} MiB ({:.2} its own), peak {:.2}",
            "started", started.rss, started.own, started.peak
        ));
        self.is_within("idle_rss_kib", started.rss * 1024.0);
    }

    /// A boot in 1970, with one more name to be ordered: that waits until the clock is set.
    fn without_clock(&mut self, first: &Facts) {
        self.configure(LATE);
        self.device.shut_down();
        self.boot("in 1970", Battery::Flat, Pace::Ours);
        self.until_up();
        assert!(!self.device.has_time(), "it is 1970 there");
        self.judges_nothing(&[NAME, LATE]);
        assert_eq!(self.until_served("").serial, first.serial, "served in 1970");
        self.asks_nothing();
        self.say(&format!("served {} in 1970, the CA's requests still {}", first.serial, self.asked));
        self.clock_set();
        self.until_quiet(LATE);
        self.until_asked(LATE);
        assert!(self.ca.requests().len() > self.asked, "it was ordered when the clock was set");
        self.renew(first);
    }

    fn renew(&mut self, first: &Facts) {
        let (before, mark, usage) = (self.device.flash_at_rest(), self.mark(), self.usage());
        self.device.run(&format!("product edgemd renew --force {NAME}"));
        let second = self.until_served(&first.serial);
        self.until_quiet(NAME);
        self.until_asked(NAME);
        self.say(&format!("served {} after a renewal", second.serial));
        let (files, _) = self.measured("renewal", &usage, &before, &mark);
        self.is_within("renewal_files", files as f32);
    }

    /// Nothing is due, and nothing happens in flash or is ordered. The CA is as good as away: what it takes our time to answer
    /// takes it minutes there. A machine that can't hurry is idle for five minutes.
    fn idle_hour(&mut self) {
        let (pace, secs) = if self.device.can_hurry() { (Pace::Hurried, 3600) } else { (Pace::Ours, 300) };
        self.asked = self.ca.requests().len();
        self.boot("to be idle", Battery::Full, pace);
        self.until_up();
        if !self.device.has_time() {
            self.clock_set();
        }
        self.until_quiet(NAME);
        if pace == Pace::Ours {
            self.until_asked(NAME);
        }
        let (before, mark, usage) = (self.device.flash_at_rest(), self.mark(), self.usage());
        let begun = self.seconds();
        self.device.run(&format!("sleep {secs}"));
        assert!(self.seconds() - begun >= secs, "{secs} s have passed there");
        let (files, bytes) = self.measured(&format!("{secs} s"), &usage, &before, &mark);
        assert_eq!((files, bytes), (0, 0), "files and bytes of flash while idle");
        self.orders_nothing();
    }

    /// How long it has been running, by its own account.
    fn seconds(&mut self) -> u64 {
        let uptime = self.device.run("cat /proc/uptime");
        uptime.split('.').next().and_then(|secs| secs.parse().ok()).expect("seconds")
    }

    fn boot(&mut self, what: &str, battery: Battery, pace: Pace) {
        let took = self.device.boot(battery, pace).as_secs_f32();
        self.say(&format!("booted {what} in {took:.1} s"));
    }

    /// As a package manager does: into flash, and started. A program in memory would be counted as all of its pages; those
    /// that were just written are to be forgotten, too.
    fn install(&mut self) {
        self.device.run("product install");
        self.device.run("sync && echo 3 >/proc/sys/vm/drop_caches");
        self.device.run("product start");
        self.until_up();
    }

    fn until_up(&mut self) {
        until("the daemon listens", LATER, || (self.device.attempt("product up").0 == 0).then_some(()));
    }

    /// The operator's hand: one more MD, in flash with the rest.
    fn configure(&mut self, name: &str) {
        self.device.run(&format!("product add {name} && sync"));
    }

    /// As a time server's client does it.
    fn clock_set(&mut self) {
        self.device.set_clock();
        self.device.run("product clock-set");
    }

    fn judges_nothing(&mut self, names: &[&str]) {
        for name in names {
            until(&format!("{name} waits for the clock"), LATER, || {
                let said = self.device.attempt(&format!("product edgemd status {name}")).1;
                said.contains("waiting for the clock to be set").then_some(())
            });
        }
    }

    #[track_caller]
    fn asks_nothing(&self) {
        assert_eq!(self.ca.requests().len(), self.asked, "the CA was asked: {:?}", self.ca.requests());
    }

    /// That the CA may have been asked when a certificate is to be renewed (RFC 9773), and nothing else: how it was.
    #[track_caller]
    fn orders_nothing(&self) -> String {
        let requests = self.ca.requests();
        let new = &requests[self.asked..];
        let is_question = |request: &String| request.starts_with("GET ") && !request.contains("nonce");
        assert!(new.iter().all(is_question), "{new:?}");
        new.join(", ")
    }

    /// Waits until the CA has said when it wants this MD's certificate renewed.
    fn until_asked(&mut self, name: &str) {
        until(&format!("{name} has its window"), LATER, || {
            let window = &self.status(name)?["cert"]["secp256r1"]["ari-window"];
            window.is_object().then_some(())
        });
    }

    /// Waits until there is nothing more to do for this MD.
    fn until_quiet(&mut self, name: &str) {
        until(&format!("{name} is complete"), LATER, || {
            let md = self.status(name)?;
            let renewal = &md["renewal"];
            let idle = renewal.is_null() || (renewal["finished"] == true && renewal["notified"] == true);
            (md["state"] == 2 && md["renew"] != true && idle).then_some(())
        });
    }

    fn status(&mut self, name: &str) -> Option<Value> {
        let said = self.device.attempt("product edgemd status --json").1;
        let mut status: Value = serde_json::from_str(&said).ok()?;
        status["managed-domains"].as_array_mut()?.iter_mut().find(|md| md["name"] == name).map(Value::take)
    }

    /// Waits for a certificate of the CA's with another serial.
    fn until_served(&self, old: &str) -> Facts {
        until("the web UI serves it", LATER, || {
            self.device.served(NAME, &self.roots).ok().filter(|facts| facts.serial != old)
        })
    }

    /// A file on the device; what is changed from now on is newer. Some file systems keep whole seconds.
    fn mark(&mut self) -> String {
        self.device.run("touch -d @$(($(date +%s) - 1)) /run/mark");
        "/run/mark".into()
    }

    fn usage(&mut self) -> Usage {
        let stat = self.device.run("cat /proc/$(product pid)/stat");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
        let ticks: f32 = fields[11..13].iter().map(|ticks| ticks.parse::<f32>().expect("ticks")).sum();
        let status = self.device.run("cat /proc/$(product pid)/status");
        let mib = |key| {
            let value = status.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next());
            value.and_then(|kib| kib.parse::<f32>().ok()).expect("KiB") / 1024.0
        };
        Usage { cpu: ticks / 100.0, rss: mib("VmRSS:"), own: mib("RssAnon:"), peak: mib("VmHWM:") }
    }

    /// What has changed since then: how many files, and how many bytes of flash.
    fn measured(&mut self, what: &str, before: &Usage, flash: &Flash, mark: &str) -> (usize, usize) {
        let after = self.usage();
        let files = self.device.run(&format!("find / -xdev -type f -newer {mark}"));
        let (count, bytes) = (files.lines().count(), self.device.written_since(flash));
        self.say(&format!(
            "{what:<8} {:.2} CPU s, {:.2} MiB before, {:.2} after ({:.2} its own), peak {:.2}; {count} files, {bytes} bytes of flash: {}",
            after.cpu - before.cpu,
            before.rss,
            after.rss,
            after.own,
            after.peak,
            files.lines().collect::<Vec<_>>().join(" ")
        ));
        self.is_within("peak_rss_kib", after.peak * 1024.0);
        self.row.push(format!("{count}, {}", grouped(bytes)));
        (count, bytes)
    }

    fn is_within(&self, key: &str, value: f32) {
        let limit = self.device.budget(key);
        assert!(value <= limit, "{key}: {value} of {limit}");
    }
}

struct Usage {
    /// Seconds.
    cpu: f32,
    /// MiB.
    rss: f32,
    /// That part of it which is not the program's text: what a device without swap can't have back.
    own: f32,
    peak: f32,
}

/// 12,345
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).expect("digits")).collect();
    groups.join(",")
}
