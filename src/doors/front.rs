//! The listeners that strangers reach: challenges are answered, what is not ours goes to the back end. All of it lives
//! on one executor on one thread.

mod backend;
mod conn;
mod holder;
mod passed;
mod seats;

use crate::rules::http1::Facade;
use crate::streams::inlet::Inlet;
use crate::words::answers::Answers;
use crate::words::board::Board;
use crate::words::config::Listen;
use crate::words::fault::Trouble;
use crate::words::time::{Span, Unix};
use async_io::{Async, Timer};
use backend::Names;
use conn::{Desk, at_once, serve};
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::Poll;
pub use passed::Passed;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use seats::Seats;
use smol::{LocalExecutor, Task};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// How long and how many.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A connection without a request.
    pub idle: Span,
    /// From a head's first byte to its last.
    pub head: Span,
    /// A back end that does not move.
    pub back: Span,
    /// Connections at a time; the next ones wait in the kernel.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { idle: Span::secs(15), head: Span::secs(10), back: Span::secs(60), connections: 256 }
    }
}

/// What it reads and others write.
pub struct Shared {
    pub answers: Arc<Answers>,
    /// Which certificates are held: nobody is sent to https without one.
    pub board: Arc<Board>,
    /// The wall clock.
    pub clock: fn() -> Option<Unix>,
}

pub struct Front {
    executor: Rc<LocalExecutor<'static>>,
    desk: Rc<Desk>,
    listeners: Vec<Listener>,
    passed: Passed,
}

struct Listener {
    listen: Listen,
    bound: SocketAddr,
    /// The only strong one: dropping it closes the socket at once, while a task ends when the executor comes to it.
    /// Connections live on.
    _socket: Rc<Async<TcpListener>>,
    _task: Task<()>,
}

impl Front {
    /// Listens nowhere yet, and answers challenges only.
    pub fn new(executor: Rc<LocalExecutor<'static>>, shared: Shared) -> Self {
        Self::with_limits(executor, shared, Limits::default())
    }

    pub fn with_limits(executor: Rc<LocalExecutor<'static>>, shared: Shared, limits: Limits) -> Self {
        let Shared { answers, board, clock } = shared;
        let desk = Desk {
            answers,
            board,
            clock,
            facade: RefCell::default(),
            limits,
            seats: Seats::new(limits.connections),
            names: Names::default(),
            down: Cell::new(false),
        };
        Self { executor, desk: Rc::new(desk), listeners: Vec::new(), passed: Passed::default() }
    }

    /// From here on these stand in for the listeners that they are for.
    pub fn adopt(&mut self, passed: Passed) {
        self.passed = passed;
    }

    /// Listens on the plain ones of these and on no others; listeners that stay are not closed. On trouble everything
    /// stays as it was.
    pub fn listen(&mut self, wanted: &[Listen]) -> Result<(), Trouble> {
        let plain = || wanted.iter().filter(|listen| !listen.tls);
        let stay = |listener: &Listener| plain().any(|listen| *listen == listener.listen);
        let (mut listeners, mut leave): (Vec<_>, Vec<_>) = self.listeners.drain(..).partition(stay);
        let mut fresh: Vec<&Listen> = Vec::new();
        for listen in plain() {
            if !listeners.iter().any(|listener| listener.listen == *listen) && !fresh.contains(&listen) {
                fresh.push(listen);
            }
        }
        let all: Vec<&Listen> = plain().collect();
        let mut opened = self.open_all(&fresh, &all);
        let in_the_way = leave.iter().any(|old| fresh.iter().any(|new| new.port == old.bound.port()));
        if opened.is_err() && in_the_way {
            // One of ours holds the port in another way, `*` instead of an address: it has to go first.
            let olds: Vec<Listen> = leave.drain(..).map(|old| old.listen).collect();
            opened = self.open_all(&fresh, &all);
            if opened.is_err() {
                let olds: Vec<&Listen> = olds.iter().collect();
                leave = self.open_all(&olds, &olds).unwrap_or_default();
            }
        }
        let result = opened.map(|opened| {
            self.passed.say_unwanted(&all);
            listeners.extend(opened);
            leave.clear();
        });
        listeners.append(&mut leave);
        self.listeners = listeners;
        result
    }

    /// What is served from the next request on.
    pub fn face(&self, facade: Facade) {
        self.desk.facade.replace(Rc::new(facade));
    }

    /// How many connections are open at once from now on; those that are stay.
    pub fn seats(&self, count: usize) {
        self.desk.seats.change(count);
    }

    /// Where it listens now.
    pub fn bound(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|listener| listener.bound).collect()
    }

    /// Opens these, or takes what was passed on for them; `wanted` is all that there shall be.
    fn open_all(&self, fresh: &[&Listen], wanted: &[&Listen]) -> Result<Vec<Listener>, Trouble> {
        let mut opened = Vec::new();
        for listen in fresh {
            let lent = self.passed.lend(listen, wanted)?;
            for socket in if lent.is_empty() { sockets(listen)? } else { lent } {
                let trouble = |error| Trouble::new(format!("listening on port {}", listen.port), error);
                let bound = socket.local_addr().map_err(trouble)?;
                let socket = Rc::new(Async::new_nonblocking(socket).map_err(trouble)?);
                let accepting = accept(self.executor.clone(), self.desk.clone(), Rc::downgrade(&socket));
                let task = self.executor.spawn(accepting);
                log::info!("listening on {bound}");
                opened.push(Listener { listen: (*listen).clone(), bound, _socket: socket, _task: task });
            }
        }
        Ok(opened)
    }
}

/// The sockets of one Listen: without an address, both families side by side.
fn sockets(listen: &Listen) -> Result<Vec<TcpListener>, Trouble> {
    let trouble = |addr: SocketAddr, error: Errno| {
        let why = match error {
            Errno::ADDRINUSE => holder::of(addr).map(|who| format!("the port is taken by {who}")),
            _ => None,
        };
        Trouble::new(format!("listening on {addr}"), why.unwrap_or_else(|| io::Error::from(error).to_string()))
    };
    if let Some(addr) = listen.addr {
        let addr = SocketAddr::new(addr, listen.port);
        return Ok(vec![socket(addr).map_err(|error| trouble(addr, error))?]);
    }
    let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), listen.port);
    let first = socket(v4).map_err(|error| trouble(v4, error))?;
    // Port 0 is one port for both.
    let port = first.local_addr().map_or(listen.port, |bound| bound.port());
    let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    match socket(v6) {
        Ok(second) => Ok(vec![first, second]),
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
            log::info!("port {port} is served on IPv4 only: this machine has no IPv6");
            Ok(vec![first])
        }
        Err(error) => Err(trouble(v6, error)),
    }
}

fn socket(addr: SocketAddr) -> Result<TcpListener, Errno> {
    const BACKLOG: i32 = 1024;
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if addr.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &addr)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

async fn accept(executor: Rc<LocalExecutor<'static>>, desk: Rc<Desk>, socket: Weak<Async<TcpListener>>) {
    const PAUSE: Span = Span::millis(250);
    loop {
        let seat = desk.seats.take().await;
        let Some(came) = socket.upgrade().map(|socket| accept_now(&socket)) else { return };
        match came {
            Ok(stream) => {
                let mut inlet = Inlet::default();
                if at_once(&desk, &stream, &mut inlet) {
                    // Those who have been here for longer come first.
                    smol::future::yield_now().await;
                    continue;
                }
                let desk = desk.clone();
                let serving = async move {
                    if let Ok(stream) = Async::new_nonblocking(stream) {
                        serve(&desk, stream, inlet).await;
                    }
                    drop(seat);
                };
                executor.spawn(serving).detach();
            }
            Err(Errno::WOULDBLOCK) => {
                // Nobody sits while nobody is there: another listener may need the last seat.
                drop(seat);
                poll_fn(|cx| socket.upgrade().map_or(Poll::Ready(()), |socket| socket.poll_readable(cx).map(drop)))
                    .await;
            }
            // Gone before it was taken.
            Err(Errno::CONNABORTED | Errno::INTR) => {}
            Err(error) => {
                // Out of descriptors or memory: trying at once would only spin.
                log::warn!("a connection could not be taken: {error}; next try in {PAUSE}");
                Timer::after(PAUSE.duration()).await;
            }
        }
    }
}

/// One system call where the library takes three: the new socket is born without blocking.
fn accept_now(socket: &Async<TcpListener>) -> Result<TcpStream, Errno> {
    rustix::net::accept_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC).map(TcpStream::from)
}
