//! The service manager that started the daemon, told how it is: sd_notify(3) without its library, one datagram for each
//! thing said. Without `NOTIFY_SOCKET` nothing is said to nobody.

use crate::words::time::Span;
use rustix::time::{ClockId, clock_gettime};
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

#[derive(Default)]
pub struct Supervisor {
    line: Option<(UnixDatagram, SocketAddr)>,
    patience: Option<Span>,
}

/// The longest status; it is for one line of a screen.
const LONGEST: usize = 300;

impl Supervisor {
    pub fn from_env() -> Self {
        let line = std::env::var_os("NOTIFY_SOCKET").and_then(|path| match open(&path) {
            Ok(line) => Some(line),
            Err(error) => {
                log::warn!("the service manager at {} is told nothing: {error}", path.display());
                None
            }
        });
        let var = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let ours = var("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let patience = var("WATCHDOG_USEC").filter(|usec| ours && *usec > 0).map(|usec| Span::millis(usec / 1000));
        Self { line, patience }
    }

    /// Whether anybody listens.
    pub fn is_there(&self) -> bool {
        self.line.is_some()
    }

    /// How often it wants a sign of life: at half of the time after which it ends a service that gives none.
    pub fn wants_a_sign_every(&self) -> Option<Span> {
        self.patience.map(|patience| patience.divided(2))
    }

    pub fn ready(&self) {
        self.say("READY=1");
    }

    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let usec = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
    }

    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// One line for people, whatever it is made of.
    pub fn status(&self, text: &str) {
        let mut line = String::from("STATUS=");
        for c in text.chars().take(LONGEST) {
            if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
        }
        self.say(&line);
    }

    fn say(&self, what: &str) {
        if let Some((socket, place)) = &self.line
            && let Err(error) = socket.send_to_addr(what.as_bytes(), place)
        {
            log::warn!("the service manager was not told \"{}\": {error}", what.escape_default());
        }
    }
}

fn open(path: &OsString) -> io::Result<(UnixDatagram, SocketAddr)> {
    let place = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(path)?,
        _ => return Err(io::Error::other("NOTIFY_SOCKET is neither a path nor an abstract name")),
    };
    let socket = UnixDatagram::unbound()?;
    // Somebody who does not read must not stop us.
    socket.set_write_timeout(Some(Span::secs(1).duration()))?;
    Ok((socket, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service manager at this abstract name, and the line to it.
    fn pair(name: &str) -> (UnixDatagram, Supervisor) {
        let name = format!("edgemd-{name}-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        manager.set_nonblocking(true).unwrap();
        let line = open(&format!("@{name}").into()).unwrap();
        (manager, Supervisor { line: Some(line), patience: Some(Span::secs(30)) })
    }

    fn heard(manager: &UnixDatagram) -> String {
        let mut bytes = [0; 1000];
        let count = manager.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    #[test]
    fn each_thing_is_one_datagram() {
        let (manager, line) = pair("each");
        line.ready();
        line.alive();
        line.stopping();
        assert_eq!([heard(&manager), heard(&manager), heard(&manager)], ["READY=1", "WATCHDOG=1", "STOPPING=1"]);
        line.reloading();
        let text = heard(&manager);
        let usec = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(usec.parse::<u64>().unwrap() > 0);
        assert_eq!(line.wants_a_sign_every(), Some(Span::secs(15)));
    }

    #[test]
    fn a_status_is_one_line_and_no_command() {
        let (manager, line) = pair("status");
        line.status("all is well\nREADY=1");
        assert_eq!(heard(&manager), "STATUS=all is well\\nREADY=1");
        line.status(&"ä".repeat(1000));
        assert_eq!(heard(&manager).chars().count(), "STATUS=".len() + LONGEST);
    }

    #[test]
    fn nobody_there_is_no_trouble() {
        let (manager, line) = pair("gone");
        drop(manager);
        line.ready();
        Supervisor::default().ready();
        assert!(open(&"vsock:2:1".into()).is_err());
    }
}
