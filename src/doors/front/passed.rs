//! Sockets that a service manager has opened and passed on: they stand in for the listeners that we would open.

use crate::words::config::Listen;
use crate::words::fault::Trouble;
use listenfd::ListenFd;
use rustix::net::sockopt;
use std::net::{SocketAddr, TcpListener};

/// Kept for as long as the program runs: whoever opened them listens on, whatever becomes of ours.
#[derive(Default)]
pub struct Passed(Vec<Socket>);

struct Socket {
    name: String,
    bound: SocketAddr,
    socket: TcpListener,
}

impl Passed {
    /// Takes them from the environment, where no program of ours will find them. For once, before there are threads.
    pub fn take() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut fds = ListenFd::from_env();
        let mut passed = vec![];
        for index in 0..fds.len() {
            let name = names.next().unwrap_or_default();
            let taken = fds.take_tcp_listener(index).map_err(|error| error.to_string());
            match taken.and_then(|socket| Socket::new(name, socket.ok_or("it is gone")?)) {
                Ok(socket) => passed.push(socket),
                Err(why) => log::warn!("socket \"{name}\", passed on to us, is left alone: {why}"),
            }
        }
        Self(passed)
    }

    /// Those that stand in for this listener, one of `wanted`.
    pub fn lend(&self, listen: &Listen, wanted: &[&Listen]) -> Result<Vec<TcpListener>, Trouble> {
        let ours = self.0.iter().filter(|socket| socket.stands_for(wanted) == Some(listen));
        let lent = |socket: &Socket| {
            let again = socket.socket.try_clone();
            again.map_err(|error| Trouble::new(format!("taking over the listener on {}", socket.bound), error))
        };
        ours.map(lent).collect()
    }

    /// Says which of them nobody wants.
    pub fn say_unwanted(&self, wanted: &[&Listen]) {
        for Socket { name, bound, .. } in self.0.iter().filter(|socket| socket.stands_for(wanted).is_none()) {
            log::warn!("socket \"{name}\" on {bound}, passed on to us, is left alone: no listener is for it");
        }
    }
}

impl Socket {
    fn new(name: &str, socket: TcpListener) -> Result<Self, String> {
        if !sockopt::socket_acceptconn(&socket).is_ok_and(|listens| listens) {
            return Err("it does not listen".into());
        }
        socket.set_nonblocking(true).map_err(|error| error.to_string())?;
        let bound = socket.local_addr().map_err(|error| error.to_string())?;
        Ok(Self { name: name.into(), bound, socket })
    }

    /// The listener on its port; else, by its name, the first of that kind: the port is then the service manager's to say.
    fn stands_for<'a>(&self, wanted: &[&'a Listen]) -> Option<&'a Listen> {
        let on_its_port = |listen: &&&Listen| {
            listen.port == self.bound.port() && listen.addr.is_none_or(|addr| addr == self.bound.ip())
        };
        let tls = match self.name.as_str() {
            "http" => Some(false),
            "https" => Some(true),
            _ => None,
        };
        let of_its_kind = |listen: &&&Listen| Some(listen.tls) == tls;
        let by_port = wanted.iter().find(|listen| on_its_port(listen) && tls.is_none_or(|tls| tls == listen.tls));
        by_port.or_else(|| wanted.iter().find(of_its_kind)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_stands_for_the_listener_on_its_port_or_of_its_name() {
        let socket = |name: &str| {
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            Socket::new(name, socket).unwrap()
        };
        let listen =
            |port: u16, addr: Option<&str>, tls| Listen { addr: addr.map(|it| it.parse().unwrap()), port, tls };
        let plain = socket("edgemd.socket");
        let port = plain.bound.port();
        let here = listen(port, None, false);
        let elsewhere = listen(port.wrapping_add(1).max(1), None, false);
        let secure = listen(port, None, true);
        assert_eq!(plain.stands_for(&[&elsewhere, &here]), Some(&here));
        assert_eq!(plain.stands_for(&[&elsewhere]), None);
        let loopback = listen(port, Some("127.0.0.1"), false);
        assert_eq!(plain.stands_for(&[&loopback]), Some(&loopback));
        assert_eq!(plain.stands_for(&[&listen(port, Some("127.0.0.2"), false)]), None, "another address");
        let named = socket("http");
        assert_eq!(named.stands_for(&[&secure, &here, &elsewhere]), Some(&here), "the first of its kind");
        assert_eq!(named.stands_for(&[&secure]), None);
        let on_its_port = listen(named.bound.port(), None, false);
        assert_eq!(named.stands_for(&[&elsewhere, &on_its_port]), Some(&on_its_port), "its own port before all others");
        assert_eq!(socket("https").stands_for(&[&here, &secure]), Some(&secure));
    }

    #[test]
    fn what_does_not_listen_is_not_taken() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(server.local_addr().unwrap()).unwrap();
        let fd = std::os::fd::OwnedFd::from(client);
        let why = Socket::new("http", TcpListener::from(fd)).err();
        assert_eq!(why.as_deref(), Some("it does not listen"));
    }
}
