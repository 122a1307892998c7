//! Under a service manager: what it is told by `NOTIFY_SOCKET`, and the sockets that it passes on.

mod harness;

use harness::child::{Child, Port};
use harness::{Folder, SOON, until};
use rustix::process::Signal;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixStream};
use std::process::{Command, Stdio};
use std::time::Duration;

const EDGEMD: &str = env!("CARGO_BIN_EXE_edgemd");

/// A service manager that listens.
struct Manager {
    socket: UnixDatagram,
    folder: Folder,
    port: Port,
}

impl Manager {
    fn new() -> Self {
        let folder = Folder::new("sup");
        let socket = UnixDatagram::bind(folder.join("notify")).expect("a folder of our own");
        let manager = Self { socket, folder, port: Port::reserve() };
        manager.write(manager.port.number(), "MDomain a.example\n");
        manager
    }

    fn write(&self, port: u16, text: &str) {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let (store, control) = (at("store"), at("control.sock"));
        let base = format!("MDStoreDir {store}\nMDControlSocket {control}\nMDPortMap http:{port} https:-\n");
        self.folder.put("conf", &format!("{base}MDDriveMode manual\n{text}"));
    }

    fn command(&self) -> Command {
        let mut command = Command::new(EDGEMD);
        command.args(["run", "-f"]).arg(self.folder.join("conf"));
        command.env("NOTIFY_SOCKET", self.folder.join("notify"));
        command
    }

    /// The next thing that is said.
    #[track_caller]
    fn hears(&self, child: &Child) -> String {
        self.socket.set_read_timeout(Some(SOON)).expect("a time limit");
        let mut bytes = [0; 1000];
        let count =
            self.socket.recv(&mut bytes).unwrap_or_else(|why| panic!("nothing was said: {why}\n{}", child.log()));
        String::from_utf8(bytes.get(..count).unwrap_or_default().to_vec()).expect("text")
    }

    /// Whether nothing is said for so long.
    fn silent(&self, span: Duration) -> bool {
        self.socket.set_read_timeout(Some(span)).expect("a time limit");
        self.socket.recv(&mut [0; 1000]).is_err()
    }
}

#[test]
fn it_is_told_of_start_reload_status_and_stop() {
    let manager = Manager::new();
    let mut daemon = Child::start(&manager.folder, "edgemd", &mut manager.command());
    assert_eq!(manager.hears(&daemon), "READY=1");
    TcpStream::connect(("127.0.0.1", manager.port.number())).expect("ready means that it listens");
    let trouble = "a.example [P-256]: no certificate; not renewed by itself (MDDriveMode manual)";
    let mut status = manager.hears(&daemon);
    if status == "STATUS=no MD is configured" {
        // The keeper had not had a look yet.
        status = manager.hears(&daemon);
    }
    assert_eq!(status, format!("STATUS=0 of 1 MDs are well; {trouble}"));

    manager.write(manager.port.number(), "MDomain a.example\nMDomain b.example\n");
    daemon.signal(Signal::HUP);
    let reloading = manager.hears(&daemon);
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(manager.hears(&daemon), "READY=1");
    assert_eq!(manager.hears(&daemon), format!("STATUS=0 of 2 MDs are well; {trouble}"));

    manager.write(manager.port.number(), "MDomian a.example\n");
    daemon.signal(Signal::HUP);
    assert!(manager.hears(&daemon).starts_with("RELOADING=1\n"));
    assert_eq!(manager.hears(&daemon), "READY=1");
    let status = manager.hears(&daemon);
    assert!(status.starts_with("STATUS=the old configuration stays in force: "), "{status}");
    assert!(status.contains("conf:5:1: unknown directive \"MDomian\""), "{status}");

    daemon.signal(Signal::TERM);
    assert_eq!(manager.hears(&daemon), "STOPPING=1");
    assert_eq!(daemon.stop().code(), Some(0));
    assert!(manager.silent(Duration::from_millis(1)), "without a watchdog there are no signs of life");
}

#[test]
fn an_abstract_name_and_the_watchdog() {
    let mut manager = Manager::new();
    let name = format!("edgemd-test-{}", std::process::id());
    manager.socket =
        UnixDatagram::bind_addr(&UnixAddr::from_abstract_name(&name).expect("a name")).expect("a free name");
    let mut command = manager.command();
    command.env("NOTIFY_SOCKET", format!("@{name}")).env("WATCHDOG_USEC", "200000");
    let mut daemon = Child::start(&manager.folder, "edgemd", &mut command);
    assert_eq!(manager.hears(&daemon), "READY=1");
    let mut signs = 0;
    while signs < 5 {
        signs += u8::from(manager.hears(&daemon) == "WATCHDOG=1");
    }
    assert_eq!(daemon.stop().code(), Some(0));

    // The variables of another process, inherited.
    command.env("WATCHDOG_PID", "1");
    while !manager.silent(Duration::from_millis(1)) {}
    let mut daemon = Child::start(&manager.folder, "edgemd", &mut command);
    assert_eq!(manager.hears(&daemon), "READY=1");
    daemon.signal(Signal::TERM);
    loop {
        match manager.hears(&daemon).as_str() {
            "STOPPING=1" => break,
            said => assert!(said.starts_with("STATUS="), "{said}"),
        }
    }
}

#[test]
fn a_start_that_fails_is_not_ready() {
    let manager = Manager::new();
    let _taken = TcpListener::bind(("0.0.0.0", manager.port.number())).expect("a reserved port");
    let mut daemon = Child::start(&manager.folder, "edgemd", &mut manager.command());
    assert_eq!(daemon.wait(SOON).code(), Some(69));
    assert!(manager.silent(Duration::from_millis(1)));
}

/// As systemd does it: the sockets are descriptors from 3 on, and the variables name the process.
fn passing(manager: &Manager, names: &str, sockets: [&TcpListener; 2]) -> Child {
    let fd = |socket: &TcpListener| Stdio::from(std::os::fd::OwnedFd::from(socket.try_clone().expect("a descriptor")));
    let run = format!("{EDGEMD} run -f {}", manager.folder.join("conf").display());
    // The harness wants stdin and stdout for itself: the shell in between moves them.
    let line = format!("exec 3<&0 4>&1 </dev/null >&2; LISTEN_PID=$$ exec {run}");
    let log = fs::File::options().create(true).append(true).open(manager.folder.join("edgemd.log")).expect("a log");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &line]).env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", names);
    command.stdin(fd(sockets[0])).stdout(fd(sockets[1])).stderr(log);
    Child::adopt(&manager.folder, "edgemd", command.spawn().expect("a shell"))
}

fn up(manager: &Manager, daemon: &mut Child) {
    until("the control socket", SOON, || {
        assert!(daemon.ended().is_none(), "it ended:\n{}", daemon.log());
        UnixStream::connect(manager.folder.join("control.sock")).ok()
    });
}

/// What is answered on this port: edgemd knows no such page.
fn answers(to: SocketAddr) -> String {
    let mut stream = TcpStream::connect(to).expect("somebody listens");
    stream.set_read_timeout(Some(SOON)).expect("a time limit");
    stream.write_all(b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn a_passed_socket_stands_for_the_listener_on_its_port_and_outlives_reloads() {
    let manager = Manager::new();
    let port = manager.port.number();
    let wanted = TcpListener::bind(("127.0.0.1", port)).expect("a reserved port");
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (to, idle) = (wanted.local_addr().expect("bound"), other.local_addr().expect("bound"));
    let mut daemon = passing(&manager, "edgemd.socket:web.socket", [&wanted, &other]);
    drop((wanted, other));
    up(&manager, &mut daemon);
    assert_eq!(answers(to), "HTTP/1.1 404 Not Found");
    let log = daemon.log();
    assert!(log.contains(&format!("socket \"web.socket\" on {idle}, passed on to us, is left alone")), "{log}");
    assert_eq!(log.matches("listening on").count(), 1, "no socket of its own: {log}");

    // Nobody but us holds it any more, so whoever closes it loses it.
    let waiting = TcpStream::connect(to).expect("it listens");
    manager.write(port, "MDomain b.example\n");
    reload(&manager, &mut daemon, 1);
    assert_eq!(daemon.log().matches("listening on").count(), 1, "the listener stays: {}", daemon.log());
    let elsewhere = Port::reserve();
    manager.write(elsewhere.number(), "MDomain b.example\n");
    reload(&manager, &mut daemon, 2);
    assert_eq!(answers(SocketAddr::from(([127, 0, 0, 1], elsewhere.number()))), "HTTP/1.1 404 Not Found");
    manager.write(port, "MDomain b.example\n");
    reload(&manager, &mut daemon, 3);
    assert_eq!(answers(to), "HTTP/1.1 404 Not Found", "it was kept for us");
    drop(waiting);
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn a_passed_socket_named_http_is_the_http_listener_whatever_its_port() {
    let manager = Manager::new();
    let wanted = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let to = wanted.local_addr().expect("bound");
    let mut daemon = passing(&manager, "http:https", [&wanted, &other]);
    up(&manager, &mut daemon);
    assert_eq!(answers(to), "HTTP/1.1 404 Not Found");
    assert!(daemon.log().contains("socket \"https\" on"), "{}", daemon.log());
    assert!(TcpStream::connect(("127.0.0.1", manager.port.number())).is_err(), "the passed one instead");
    assert_eq!(daemon.stop().code(), Some(0));
}

fn reload(manager: &Manager, daemon: &mut Child, count: usize) {
    let mut command = Command::new(EDGEMD);
    let output = command.args(["reload", "-f"]).arg(manager.folder.join("conf")).output().expect("it starts");
    assert!(output.status.success(), "{output:?}\n{}", daemon.log());
    assert_eq!(daemon.log().matches("configuration reloaded").count(), count);
}
