//! A long life against a real CA: one daemon, renewed again and again through its control socket. `SOAK` says how often.
//! What it has in memory, descriptors, threads and files is looked at at each tenth, and must not grow.
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod harness;

use harness::ca::{Ca, Knobs};
use harness::device::Device;
use harness::growth::{Figures, growth};
use std::time::Instant;

const A: &str = "a.example.org";

fn main() {
    let count: usize = std::env::var("SOAK").ok().and_then(|count| count.parse().ok()).unwrap_or(500);
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    let ear = device.ear(0);
    device.start_with(&format!("MDNotifyCmd {}\nMDomain {A} www.{A}", ear.program.display()));
    device.complete(A);
    let start = Instant::now();
    let mut seen = vec![look(&device, 0)];
    let mut before = device.exported(A).serial;
    for renewals in 1..=count {
        let said = device.run(&["renew", "--force", A]);
        assert_eq!(said.code, Some(0), "renewal {renewals}: {said:?}");
        let serial = device.exported(A).serial;
        assert_ne!(serial, before, "renewal {renewals}");
        before = serial;
        if renewals >= seen.len() * count / 10 {
            seen.push(look(&device, renewals));
        }
    }
    let each = start.elapsed().as_secs_f64() / count as f64;
    println!("{:.2} s each; {} connections, {} calls of the script", each, ca.connections(), ear.heard().len());
    assert_eq!((ca.accounts(), ear.heard().len()), (1, count + 1));
    assert!(device.stop().success());
    if let Some(what) = growth(&seen) {
        panic!("it grows: {what}\n{}", device.log().lines().rev().take(20).collect::<Vec<_>>().join("\n"));
    }
}

fn look(device: &Device, renewals: usize) -> Figures {
    let store = device.folder.join("store");
    let figures = Figures::of(device.pid(), renewals).keeping(&store);
    figures.print();
    figures
}
