//! The product on its hardware, as far as an emulator goes: a device with the real memory and flash file system orders its
//! certificate, has its web UI serve it, forgets nothing over a reboot, and judges nothing while its clock is wrong.
//!
//! `make qemu-<machine>` starts it, with the machine's name behind `--` and the daemon for its processor in EDGEMD. What it
//! measures: CPU is the daemon's user and system time, memory its VmRSS and VmHWM, files are those whose time of change
//! is newer, bytes those of the flash that are others than before. Memory is held against the budget of the product that
//! the machine stands for.
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod harness;

use harness::ca::{Ca, Knobs, pem};
use harness::cert::Facts;
use harness::machine::{Battery, HOST, Machine};
use harness::{LATER, program, until};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use std::thread;
use std::time::{Duration, Instant};

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
}

impl Tour {
    fn new(name: &str) -> Self {
        // What is measured here shall not depend on dice.
        let ca = Ca::start(&Knobs { nonce_reject: Some(0), authz_reuse: Some(0), ..Knobs::default() });
        let device = Machine::new(name, &ca);
        let read = |path: std::path::PathBuf| std::fs::read(path).expect("a file that was just made");
        device.install("package/edgemd", 0o755, &read(program()));
        device.install("package/S60edgemd", 0o755, include_bytes!("../board/generic/S60edgemd"));
        device.install("etc/edgemd/ca.pem", 0o644, &read(ca.root()));
        device.install("etc/ssl/factory.pem", 0o600, factory_pair().as_bytes());
        let config = format!(
            "MDCertificateAuthority {}\nMDCACertificateFile /etc/edgemd/ca.pem\nMDCertificateAgreement accepted\n\
             MDContactEmail admin@example.org\nMDInitialDelay 0\nMDExport /etc/ssl/edgemd combined\n\
             MDNotifyCmd /etc/init.d/S50lighttpd reload\nMDPortMap http:80 https:-\n",
            ca.directory_at(HOST)
        );
        device.install("etc/edgemd.conf", 0o644, config.as_bytes());
        let roots = ca.issuing_root();
        Self { name: name.to_owned(), device, ca, roots, asked: 0 }
    }

    fn walk(mut self) {
        let first = self.order();
        self.reboot(&first);
        self.without_clock(&first);
        self.device.shut_down();
    }

    fn say(&self, line: &str) {
        println!("{}: {line}", self.name);
    }

    /// Fresh from the factory: no certificate is asked for before an operator does, and that is once the clock is right.
    fn order(&mut self) -> Facts {
        self.boot("the first time", Battery::Full);
        self.install();
        let idle = self.usage();
        self.configure(NAME);
        if !self.device.has_time() {
            self.reload();
            self.judges_nothing(&[NAME]);
            self.asks_nothing();
        }
        let before = self.device.flash_at_rest();
        self.device.set_clock();
        let mark = self.mark();
        self.reload();
        let served = self.until_served("");
        self.until_quiet(NAME);
        self.asked = self.ca.requests().len();
        self.say(&format!("served {} after an order of {} requests", served.serial, self.asked));
        self.measured("order", &idle, &before, &mark);
        self.stays_idle();
        served
    }

    fn reboot(&mut self, first: &Facts) {
        self.device.shut_down();
        self.boot("with a certificate", Battery::Full);
        self.until_up();
        if !self.device.has_time() {
            self.judges_nothing(&[NAME]);
            self.device.set_clock();
            self.reload();
        }
        self.until_quiet(NAME);
        assert_eq!(self.until_served("").serial, first.serial, "served after a reboot");
        self.asks_nothing();
        self.say(&format!("served {} after a reboot, the CA's requests still {}", first.serial, self.asked));
        let started = self.usage();
        self.say(&format!(
            "{:<8} {:.2} MiB ({:.2} its own), peak {:.2}",
            "started", started.rss, started.own, started.peak
        ));
        self.is_within("idle_rss_kib", started.rss);
    }

    /// A boot in 1970, with one more name to be ordered: that waits until the clock is set.
    fn without_clock(&mut self, first: &Facts) {
        self.configure(LATE);
        self.device.run("sync");
        self.device.shut_down();
        self.boot("in 1970", Battery::Flat);
        self.until_up();
        assert!(!self.device.has_time(), "it is 1970 there");
        self.judges_nothing(&[NAME, LATE]);
        assert_eq!(self.until_served("").serial, first.serial, "served in 1970");
        self.asks_nothing();
        self.say(&format!("served {} in 1970, the CA's requests still {}", first.serial, self.asked));
        self.device.set_clock();
        self.reload();
        self.until_quiet(LATE);
        assert!(self.ca.requests().len() > self.asked, "it was ordered when the clock was set");
        self.renew(first);
    }

    fn renew(&mut self, first: &Facts) {
        let (before, mark, usage) = (self.device.flash_at_rest(), self.mark(), self.usage());
        self.device.run(&format!("edgemd renew --force {NAME}"));
        let second = self.until_served(&first.serial);
        self.until_quiet(NAME);
        self.say(&format!("served {} after a renewal", second.serial));
        self.measured("renewal", &usage, &before, &mark);
    }

    fn boot(&mut self, what: &str, battery: Battery) {
        let took = self.device.boot(battery).as_secs_f32();
        self.say(&format!("booted {what} in {took:.1} s"));
    }

    /// As a package manager does: into flash, and started. A program in memory would be counted as all of its pages; those
    /// that were just written are to be forgotten, too.
    fn install(&mut self) {
        self.device.run("cp /package/edgemd /usr/sbin && cp /package/S60edgemd /etc/init.d");
        self.device.run("sync && echo 3 >/proc/sys/vm/drop_caches");
        self.device.run("/etc/init.d/S60edgemd start");
        self.until_up();
    }

    fn until_up(&mut self) {
        until("the daemon listens", LATER, || {
            (self.device.attempt("test -S /run/edgemd/control.sock").0 == 0).then_some(())
        });
    }

    /// The operator's hand: one more MD, in flash with the rest.
    fn configure(&mut self, name: &str) {
        self.device.run(&format!("echo MDomain {name} >>/etc/edgemd.conf"));
    }

    /// Has the daemon read its configuration, and look at the clock: a time server's client calls it, too.
    fn reload(&mut self) {
        self.device.run("edgemd reload");
    }

    fn judges_nothing(&mut self, names: &[&str]) {
        for name in names {
            until(&format!("{name} waits for the clock"), LATER, || {
                let said = self.device.attempt(&format!("edgemd status {name}")).1;
                said.contains("waiting for the clock to be set").then_some(())
            });
        }
    }

    #[track_caller]
    fn asks_nothing(&self) {
        assert_eq!(self.ca.requests().len(), self.asked, "the CA was asked: {:?}", self.ca.requests());
    }

    /// Waits until there is nothing more to do for this MD.
    fn until_quiet(&mut self, name: &str) {
        until(&format!("{name} is complete"), LATER, || {
            let said = self.device.attempt("edgemd status --json").1;
            let status: Value = serde_json::from_str(&said).unwrap_or_default();
            let mds = status["managed-domains"].as_array()?;
            let md = mds.iter().find(|md| md["name"] == name)?;
            let renewal = &md["renewal"];
            let idle = renewal.is_null() || (renewal["finished"] == true && renewal["notified"] == true);
            (md["state"] == 2 && md["renew"] != true && idle).then_some(())
        });
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
        let stat = self.device.run("cat /proc/$(pidof edgemd)/stat");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
        let ticks: f32 = fields[11..13].iter().map(|ticks| ticks.parse::<f32>().expect("ticks")).sum();
        let status = self.device.run("cat /proc/$(pidof edgemd)/status");
        let mib = |key| {
            let value = status.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next());
            value.and_then(|kib| kib.parse::<f32>().ok()).expect("KiB") / 1024.0
        };
        Usage { cpu: ticks / 100.0, rss: mib("VmRSS:"), own: mib("RssAnon:"), peak: mib("VmHWM:") }
    }

    fn measured(&mut self, what: &str, before: &Usage, flash: &[u8], mark: &str) {
        let after = self.usage();
        let files = self.device.run(&format!("find / -xdev -type f -newer {mark}"));
        let bytes = changed(flash, &self.device.flash_at_rest());
        assert!(what != "idle" || (files.is_empty() && bytes == 0), "{files}, {bytes} bytes of flash while idle");
        self.say(&format!(
            "{what:<8} {:.2} CPU s, {:.2} MiB before, {:.2} after ({:.2} its own), peak {:.2}; {} files, {bytes} bytes of flash: {}",
            after.cpu - before.cpu,
            before.rss,
            after.rss,
            after.own,
            after.peak,
            files.lines().count(),
            files.lines().collect::<Vec<_>>().join(" ")
        ));
        self.is_within("peak_rss_kib", after.peak);
    }

    fn is_within(&self, key: &str, mib: f32) {
        let limit = self.device.budget(key) / 1024.0;
        assert!(mib <= limit, "{key}: {mib:.2} MiB of {limit:.2}");
    }

    fn stays_idle(&mut self) {
        const WHILE: Duration = Duration::from_secs(10);
        let (flash, mark, before) = (self.device.flash_at_rest(), self.mark(), self.usage());
        thread::sleep(WHILE);
        self.measured("idle", &before, &flash, &mark);
        let rss = self.usage().rss;
        self.is_within("idle_rss_kib", rss);
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

fn changed(before: &[u8], after: &[u8]) -> usize {
    assert_eq!(before.len(), after.len(), "a flash does not grow");
    before.iter().zip(after).filter(|(before, after)| before != after).count()
}

/// What the web UI has before there is anything better.
fn factory_pair() -> String {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![NAME.to_owned()]).expect("a good name");
    let cert = params.self_signed(&key).expect("a certificate");
    pem("PRIVATE KEY", &key.serialize_der()) + &pem("CERTIFICATE", cert.der())
}
