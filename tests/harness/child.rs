//! Programs that tests start: their output in a file, their end by their own pid.

use super::{Folder, until};
use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

pub struct Child {
    process: std::process::Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Child {
    /// Starts it with both outputs in `<name>.log` of the folder; a second start appends.
    pub fn start(folder: &Folder, name: &str, command: &mut Command) -> Self {
        let log = folder.join(&format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log).expect("a log in a folder of our own");
        let err = out.try_clone().expect("one more descriptor");
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let process = command.spawn().unwrap_or_else(|why| panic!("starting {command:?}: {why}"));
        Self { process, log, ended: None }
    }

    /// Takes one that was started in another way and writes to the same log.
    pub fn adopt(folder: &Folder, name: &str, process: std::process::Child) -> Self {
        Self { process, log: folder.join(&format!("{name}.log")), ended: None }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.process.try_wait().expect("a child of ours");
        }
        self.ended
    }

    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            kill_process(Pid::from_child(&self.process), signal).expect("a child that has not been waited for");
        }
    }

    /// Asks it to end and waits.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(Duration::from_secs(10))
    }

    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        until("the program's end", limit, || self.ended())
    }

    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        if self.ended.is_none() {
            self.ended = self.process.wait().ok();
        }
    }

    /// The port that it listens on at this address: it was told 0, and the kernel knows the answer.
    pub fn port(&mut self, address: Ipv4Addr) -> u16 {
        let name = format!("a port of process {} at {address}", self.pid());
        until(&name, super::SOON, || {
            if let Some(status) = self.ended() {
                panic!("it ended ({status}) before it listened:\n{}", self.log());
            }
            listening(self.pid(), address)
        })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads the kernel's table of TCP sockets for one in LISTEN that belongs to the process.
fn listening(pid: u32, address: Ipv4Addr) -> Option<u16> {
    let owned: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let prefix = format!("{:08X}:", u32::from_ne_bytes(address.octets()));
    let sockets = fs::read_to_string("/proc/net/tcp").ok()?;
    sockets.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = fields.get(1)?.strip_prefix(&prefix)?;
        let mine = *fields.get(3)? == "0A" && owned.iter().any(|inode| Some(&inode.as_str()) == fields.get(9));
        mine.then(|| u16::from_str_radix(port, 16).ok())?
    })
}

/// A port that is ours to give to a program that can't be told 0. The sockets stay bound without listening, so the
/// kernel hands the number to nobody else; whoever sets SO_REUSEADDR, as servers do, can listen there all the same.
pub struct Port {
    number: u16,
    _held: [OwnedFd; 2],
}

impl Port {
    pub fn reserve() -> Self {
        for _ in 0..100 {
            let four = hold(AddressFamily::INET, Ipv4Addr::UNSPECIFIED.into(), 0).expect("a free port");
            let name = rustix::net::getsockname(&four).expect("a bound socket");
            let number = SocketAddr::try_from(name).expect("an internet address").port();
            if let Ok(six) = hold(AddressFamily::INET6, Ipv6Addr::UNSPECIFIED.into(), number) {
                return Self { number, _held: [four, six] };
            }
        }
        panic!("no port is free on both IPv4 and IPv6");
    }

    pub fn number(&self) -> u16 {
        self.number
    }
}

fn hold(family: AddressFamily, address: IpAddr, port: u16) -> rustix::io::Result<OwnedFd> {
    let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if family == AddressFamily::INET6 {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(address, port))?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    Ok(socket)
}
