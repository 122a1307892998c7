//! What many MDs on one daemon cost: ten, a hundred and a thousand, each ordered once from the fake CA over real sockets,
//! exported, and stored. CPU and peak RSS are those of the daemon alone.
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod fake;
mod harness;

use edgemd::words::time::Unix;
use fake::served::Served;
use harness::child::Port;
use harness::{Folder, program};
use std::fmt::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

fn main() {
    println!(
        "{:>6} {:>10} {:>12} {:>12} {:>14} {:>12}",
        "MDs", "wall s", "CPU s", "CPU ms/MD", "peak RSS MiB", "KiB/MD"
    );
    let mut before: Option<(usize, f64)> = None;
    for count in [10, 100, 1000] {
        let run = run(count);
        let more = before.map(|(fewer, rss)| (run.rss - rss) * 1024.0 / (count - fewer) as f64);
        let more = more.map_or(String::new(), |kib| format!("{kib:.1}"));
        let each = run.cpu * 1000.0 / count as f64;
        println!("{count:>6} {:>10.2} {:>12.3} {each:>12.2} {:>14.1} {more:>12}", run.wall, run.cpu, run.rss);
        before = Some((count, run.rss));
    }
}

struct Run {
    wall: f64,
    cpu: f64,
    rss: f64,
}

fn run(count: usize) -> Run {
    let folder = Folder::new("many");
    let http = Port::reserve();
    let ca = Served::start(now, http.number());
    let mut conf = String::from("MDCertificateAgreement accepted\nMDInitialDelay 0\nMDRetryDelay 1s\n");
    let path = |name: &str| folder.join(name).display().to_string();
    let lines = [
        format!("MDCertificateAuthority {}", ca.directory()),
        format!("MDPortMap http:{} https:-", http.number()),
        format!("MDStoreDir {}", path("store")),
        format!("MDControlSocket {}", path("control.sock")),
        format!("MDExport {} pair", path("export")),
    ];
    for line in lines {
        writeln!(conf, "{line}").expect("a String");
    }
    for number in 0..count {
        writeln!(conf, "MDomain host-{number}.example.org").expect("a String");
    }
    let conf = folder.put("edgemd.conf", &conf);
    let figures = folder.join("figures");
    let start = Instant::now();
    let mut once = Command::new("/usr/bin/time");
    once.args(["-f", "%U %S %M", "-o"]).arg(&figures).arg(program()).args(["once", "-f"]).arg(&conf);
    let output = once.stdin(Stdio::null()).output().expect("time, the program");
    let wall = start.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(ca.ca.issued().len(), count, "{said}");
    let figures = std::fs::read_to_string(&figures).expect("what time says");
    let figures: Vec<f64> = figures.split_whitespace().map(|text| text.parse().expect("a number")).collect();
    Run { wall, cpu: figures[0] + figures[1], rss: figures[2] / 1024.0 }
}

fn now() -> Unix {
    edgemd::doors::clock::wall().expect("a clock")
}
