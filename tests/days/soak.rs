//! A long life: renewal after renewal in one process, and nothing grows. `SOAK` says how many.

use super::growth::{Figures, growth};
use super::{ONE, World, journal};
use edgemd::doors::clock::{Clock, Knock};
use edgemd::words::time::{Span, Unix};
use std::path::Path;
use std::process::Command;

/// A clock that looks at its process as time goes by, has the fakes forget what is over, and stops when it is enough.
struct Observer<'a> {
    world: &'a World,
    count: usize,
    seen: Vec<Figures>,
    /// So many bytes are lost with each renewal.
    leak: usize,
    lost: Vec<Vec<u8>>,
}

impl Observer<'_> {
    fn look(&mut self, renewals: usize) {
        let disk = &self.world.disk;
        let bytes = disk.size() as u64;
        let files = disk.files().len();
        let figures = Figures { files, bytes, ..Figures::of(std::process::id(), renewals) };
        figures.print();
        self.seen.push(figures);
    }
}

impl Clock for Observer<'_> {
    fn now(&self) -> Option<Unix> {
        self.world.hands.now()
    }

    fn steady(&self) -> Span {
        self.world.hands.steady()
    }

    fn nap(&mut self, span: Span) -> Knock {
        // A long nap: no order is under way.
        if span >= Span::mins(1) {
            self.world.ca.forget_orders();
            self.world.ca.responder().forget();
            self.world.ear.forget();
            self.world.disk.tidy();
            journal::take();
            let renewals = self.world.ca.count();
            while self.lost.len() < renewals && self.leak > 0 {
                self.lost.push(vec![1; self.leak]);
            }
            if renewals >= self.seen.len() * self.count / 10 {
                self.look(renewals);
            }
            if renewals >= self.count {
                return Knock::Stop;
            }
        }
        self.world.hands.clone().nap(span)
    }
}

/// Certificates that live for a day, each asked about, stapled, exported and told of.
fn soak(count: usize, leak: usize) -> Vec<Figures> {
    let world = World::new();
    world.ca.weather(|weather| {
        (weather.ari, weather.life, weather.ocsp) = (true, Span::days(1), Some("http://ocsp.example/"))
    });
    let conf = format!("MDStapling on\nMDMessageCmd /bin/message\n{ONE}").replace("/run/tls", "/etc/tls");
    let mut observer = Observer { world: &world, count, seen: vec![], leak, lost: vec![] };
    world.keep("/store", &conf, &mut observer).unwrap();
    assert!(world.status().1, "{}", world.status().0);
    assert_eq!(world.ca.accounts(), 1);
    let pem = String::from_utf8(
        edgemd::doors::disk::Disk::read(&world.disk, Path::new("/etc/tls/a.example.crt")).unwrap().unwrap(),
    );
    assert!(pem.unwrap().starts_with(&world.newest_pem()));
    observer.seen
}

/// Not a test of its own: the process that the others start, so that no other test's memory is taken for a device's.
#[test]
fn life() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let Some(count) = number("EDGEMD_TEST_SOAK") else { return };
    println!();
    if let Some(what) = growth(&soak(count, number("EDGEMD_TEST_LEAK").unwrap_or(0))) {
        println!("it grows: {what}");
        std::process::exit(9);
    }
}

fn process(count: usize, leak: usize) -> Option<i32> {
    let mut life = Command::new(std::env::current_exe().unwrap());
    life.args(["--exact", "soak::life", "--nocapture"]);
    life.env("EDGEMD_TEST_SOAK", count.to_string()).env("EDGEMD_TEST_LEAK", leak.to_string());
    if std::env::var_os("SOAK").is_some() {
        // Somebody looks on for minutes.
        return life.status().unwrap().code();
    }
    let output = life.output().unwrap();
    println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    output.status.code()
}

#[test]
fn thousands_of_renewals_and_nothing_grows() {
    let count = std::env::var("SOAK").ok().and_then(|count| count.parse().ok()).unwrap_or(2000);
    assert_eq!(process(count, 0), Some(0));
}

/// Two kilobytes lost with each renewal are seen in a short life; in one of 100,000 renewals it is five bytes.
#[test]
fn a_leak_would_be_seen() {
    assert_eq!(process(400, 2048), Some(9));
}
