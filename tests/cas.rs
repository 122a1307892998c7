//! CAs of another make than today's Pebble: first issuance, renewal and refusal against each, by http-01 and by
//! tls-alpn-01. Those that look at ports 80 and 443 live with their device in a network of the test's own.
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod harness;

use harness::cert;
use harness::child::Child;
use harness::device::Device;
use harness::{Folder, LATER, net, until};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

const A: &str = "a.example.org";
const B: &str = "b.example.org";
const NAMES: &str = "a.example.org b.example.org ca.test";

/// A CA in this network, gone with its value.
struct Make {
    _program: Child,
    folder: Folder,
    directory: &'static str,
    root: &'static str,
}

impl Make {
    /// Caddy's `acme_server`: no `meta`, no ARI, twelve hours backdated by a minute.
    fn caddy() -> Self {
        let folder = Folder::new("caddy");
        let config = format!(
            "{{\nadmin off\nskip_install_trust\nauto_https disable_redirects\nstorage file_system {}\n}}\n\
             https://ca.test:9443 {{\ntls internal\nacme_server\n}}\n",
            folder.join("store").display()
        );
        let config = folder.put("Caddyfile", &config);
        let mut command = Command::new("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(config).env("HOME", folder.path());
        let program = Child::start(&folder, "caddy", &mut command);
        let (directory, root) = ("https://ca.test:9443/acme/local/directory", "store/pki/authorities/local/root.crt");
        Self { _program: program, folder, directory, root }.ready(9443)
    }

    #[track_caller]
    fn ready(self, port: u16) -> Self {
        until("the CA is there", LATER, || {
            let up = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
            (up && self.root().is_file()).then_some(())
        });
        self
    }

    fn root(&self) -> PathBuf {
        self.folder.join(self.root)
    }

    fn device(&self) -> Device {
        Device::with(self.directory.into(), &self.root())
    }
}

/// What the device itself serves for a name.
fn shown(name: &str) -> Option<cert::Facts> {
    cert::served(SocketAddr::from((Ipv4Addr::LOCALHOST, 443)), name, None).ok()
}

/// Both challenges, each by a device of its own that has nothing else; then a renewal that comes by itself.
fn issues_and_renews(make: &Make) {
    let mut device = make.device();
    device.set("MDPortMap", "http:80 https:-");
    device.start_with(&format!("MDCAChallenges http-01\nMDomain {A} {B}"));
    device.complete(A);
    let first = device.exported(A);
    assert_eq!(first.names, [A, B]);
    let life = first.until - first.from;
    println!("{}: {} s of life, a chain of {}", make.directory, life, first.chain);
    let forced = device.run(&["renew", "--force", A]);
    assert_eq!(forced.code, Some(0), "{forced:?}");
    assert_ne!(device.exported(A).serial, first.serial);
    assert_eq!(device.stop().code(), Some(0));

    let mut device = make.device();
    device.set("MDPortMap", "http:- https:443");
    let window = life - BACKDATED - 3;
    let host = format!("<VirtualHost *:443>\nServerName {B}\n</VirtualHost>");
    let text = format!("MDCAChallenges tls-alpn-01\nMDRenewWindow {window}s\nMDomain {B}\n{host}");
    device.start_with(&text);
    let first = until("it has the first", LATER, || {
        shown(B).filter(|seen| seen.chain > 1).map(|seen| seen.serial)
    });
    let second = until("it is renewed in its window", LATER, || {
        shown(B).map(|seen| seen.serial).filter(|serial| *serial != first)
    });
    println!("{}: {first} was renewed by {second}", make.directory);
    assert!(!device.log().contains("WARN"), "{}", device.log());
}

/// More than any of these backdates.
const BACKDATED: i64 = 60;

#[test]
fn caddy_issues_and_renews() {
    if net::inside("caddy_issues_and_renews", NAMES) {
        issues_and_renews(&Make::caddy());
    }
}
