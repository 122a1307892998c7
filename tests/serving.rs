//! What serving costs: edgemd beside each other server that is installed, before the same web UI on the same machine.
//!
//! The server has one core, the load the other. CPU is user and system time of the server and its descendants, by the
//! kernel's account, which has hundredths of a second. Handshakes: TLS 1.3, a P-256 leaf, no resumption, a new connection each time. Requests: passed on
//! to a web UI over connections that are kept. Held: what a connection adds to the PSS that has made one request and
//! waits. Challenges: on port 80, 64 connections at a time, `Connection: close`. Medians of three (BENCH_RUNS); words
//! after `--` choose servers.
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod fake;
mod harness;
#[path = "serving/peers.rs"]
mod peers;

use harness::cert::{self, Tls};
use harness::measure::{Family, installed, median};
use harness::ui;
use peers::{NAME, SERVERS, Server};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::thread;

const HANDSHAKES: usize = 2000;
const REQUESTS: usize = 8000;
const HELD: usize = 500;
/// At a time.
const VISITORS: usize = 8;

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let runs = std::env::var("BENCH_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(3).max(1);
    let ours = std::process::id().to_string();
    let pinned = Command::new("taskset").args(["-a", "-c", "-p", "1", &ours]).output();
    if !pinned.is_ok_and(|output| output.status.success()) {
        println!("the load is on the server's core as well: there is no second one, or no taskset");
    }
    let ui = ui::start();
    println!(
        "{:<10} {:>14} {:>13} {:>10} {:>10} {:>14} {:>11}",
        "", "µs/handshake", "µs/request", "KiB/held", "idle MiB", "µs/challenge", "peak MiB"
    );
    let mut rows: Vec<Row> = vec![];
    for (name, web, make) in SERVERS.iter().filter(|(name, ..)| chosen.is_empty() || chosen.iter().any(|c| c == name)) {
        match Server::start(name, *web, *make, ui) {
            Ok(server) => rows.push(measure(&server, runs)),
            Err(why) => println!("not measured: {why}"),
        }
    }
    let Some((ours, others)) = rows.split_first().filter(|(first, _)| first.name == "edgemd") else { return };
    for other in others {
        println!(
            "{} needs {:.2} times edgemd's CPU for a handshake, {:.2} times for a request",
            other.name,
            other.handshake / ours.handshake,
            other.request / ours.request
        );
    }
}

struct Row {
    name: &'static str,
    handshake: f64,
    request: f64,
}

fn measure(server: &Server, runs: usize) -> Row {
    let family = Family(server.child.pid());
    let idle = mib(family.status("VmRSS"));
    let challenges = server.http.as_ref().map(|(port, path)| {
        let cpu = median((0..runs).map(|_| challenge(&family, port.number(), path)).collect());
        (cpu, mib(family.status("VmHWM")))
    });
    let per = |count: usize, work: &(dyn Fn(usize) + Sync)| {
        let one = |_| {
            let before = family.cpu();
            each_of(VISITORS, |_| work(count / VISITORS));
            (family.cpu() - before) / count as f64
        };
        median((0..runs).map(one).collect())
    };
    let handshake = per(HANDSHAKES, &|count| {
        for _ in 0..count {
            visit(server);
        }
    });
    let request = per(REQUESTS, &|count| {
        let mut tls = visit(server);
        for _ in 0..count {
            assert_eq!(ui::ask(&mut tls, NAME).expect("an answer"), 200, "{}", server.name);
        }
    });
    let before = family.rollup("Pss");
    let mut held: Vec<Tls> = (0..HELD).map(|_| visit(server)).collect();
    for tls in &mut held {
        assert_eq!(ui::ask(tls, NAME).expect("an answer"), 200, "{}", server.name);
    }
    let each = family.rollup("Pss").saturating_sub(before) as f64 / HELD as f64;
    let (challenge, peak) = challenges.map_or(("–".into(), "–".into()), |(cpu, peak)| {
        let cpu: Option<f64> = cpu;
        (cpu.map_or("–".into(), |cpu| format!("{cpu:.1}")), format!("{peak:.1}"))
    });
    println!(
        "{:<10} {handshake:>14.0} {request:>13.1} {each:>10.1} {idle:>10.1} {challenge:>14} {peak:>11}",
        server.name
    );
    Row { name: server.name, handshake, request }
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn each_of(count: usize, work: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        for number in 0..count {
            let work = &work;
            scope.spawn(move || work(number));
        }
    });
}

/// A connection and a whole handshake.
fn visit(server: &Server) -> Tls {
    thread_local!(static CLIENT: std::sync::Arc<rustls::ClientConfig> = cert::client(None).expect("a client"));
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.https.number())).expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    let mut tls = CLIENT.with(|client| cert::open(client, stream, NAME)).expect("a good name");
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock).unwrap_or_else(|why| panic!("{}: {why}", server.name));
    }
    tls
}

/// Microseconds of an answer on port 80; `None` where there is no tool for it.
fn challenge(family: &Family, port: u16, path: &str) -> Option<f64> {
    let before = family.cpu();
    let mut command = Command::new(installed("wrk").ok()?);
    command.args(["-c", "64", "-t", "1", "-d", "3", "-H", "Connection: close"]);
    let output = command.arg(format!("http://127.0.0.1:{port}{path}")).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !text.contains("Non-2xx"), "{text}");
    let requests: f64 = text.split(" requests in").next()?.split_whitespace().next_back()?.parse().ok()?;
    Some((family.cpu() - before) / requests)
}
