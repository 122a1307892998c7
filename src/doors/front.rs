//! The listeners that strangers reach: challenges are answered, what is not ours goes to the back end. All of it lives
//! on one executor on one thread.

mod backend;
mod conn;
mod holder;
mod passed;
mod seats;
pub mod shelf;
mod tls;

use crate::rules::http1::Facade;
use crate::streams::inlet::Inlet;
use crate::words::answers::Answers;
use crate::words::board::Board;
use crate::words::config::{Config, Listen};
use crate::words::fault::Trouble;
use crate::words::time::{Span, Unix};
use async_io::{Async, Timer};
use backend::Names;
use conn::{Desk, Sides, at_once, serve};
use core::cell::{Cell, RefCell};
use core::future::{pending, poll_fn};
use core::task::Poll;
pub use passed::Passed;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seats::Seats;
use shelf::{Chooser, Forge, Shelf};
use smol::{LocalExecutor, Task};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use tls::receive;

/// How long and how many.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A connection without a request.
    pub idle: Span,
    /// From a head's first byte to its last.
    pub head: Span,
    /// A back end that does not move.
    pub back: Span,
    /// Connections at a time.
    pub connections: usize,
    /// Of one host.
    pub per_host: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { idle: Span::secs(15), head: Span::secs(10), back: Span::secs(60), connections: 256, per_host: 64 }
    }
}

/// What it reads and others write.
pub struct Shared {
    pub answers: Arc<Answers>,
    /// Which certificates are held: nobody is sent to https without one.
    pub board: Arc<Board>,
    /// The wall clock.
    pub clock: fn() -> Option<Unix>,
    /// What TLS shows.
    pub shelf: Arc<Shelf>,
    pub forge: Forge,
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
        let Shared { answers, board, clock, shelf, forge } = shared;
        let tls = tls::config(Chooser { shelf: shelf.clone(), answers: answers.clone(), forge, clock });
        let desk = Desk {
            answers,
            board,
            clock,
            facade: RefCell::default(),
            limits,
            seats: Seats::new(limits.connections, limits.per_host),
            names: Names::default(),
            down: Cell::new(false),
            tls,
            shelf,
        };
        Self { executor, desk: Rc::new(desk), listeners: Vec::new(), passed: Passed::default() }
    }

    /// From here on these stand in for the listeners that they are for.
    pub fn adopt(&mut self, passed: Passed) {
        self.passed = passed;
    }

    /// Listens there and nowhere else; listeners that stay are not closed. On trouble everything stays as it was.
    pub fn listen(&mut self, wanted: &[Listen]) -> Result<(), Trouble> {
        let stay = |listener: &Listener| wanted.contains(&listener.listen);
        let (mut listeners, mut leave): (Vec<_>, Vec<_>) = self.listeners.drain(..).partition(stay);
        let mut fresh: Vec<&Listen> = Vec::new();
        for listen in wanted {
            if !listeners.iter().any(|listener| listener.listen == *listen) && !fresh.contains(&listen) {
                fresh.push(listen);
            }
        }
        let all: Vec<&Listen> = wanted.iter().collect();
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

    /// What is served from the next request and the next handshake on.
    pub fn face(&self, config: &Config) {
        self.desk.shelf.arrange(config);
        self.desk.facade.replace(Rc::new(Facade::new(config)));
    }

    /// How many connections are open at once from now on, in all and from one host; those that are stay.
    pub fn seats(&self, all: usize, per_host: usize) {
        allow(all);
        self.desk.seats.change(all, per_host);
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
                let accepting = accept(self.executor.clone(), self.desk.clone(), Rc::downgrade(&socket), listen.tls);
                let task = self.executor.spawn(accepting);
                log::info!("listening on {bound}");
                opened.push(Listener { listen: (*listen).clone(), bound, _socket: socket, _task: task });
            }
        }
        Ok(opened)
    }
}

/// Sees to it that so many connections can be open, each with one to a back end.
fn allow(connections: usize) {
    const OTHERS: usize = 64;
    let needed = (2 * connections + OTHERS) as u64;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|now| now >= needed) {
        return;
    }
    let most = limit.maximum.map_or(needed, |most| most.min(needed));
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..limit });
    if most < needed {
        log::warn!(
            "MaxConnections {connections} may need {needed} file descriptors, and {most} are allowed (ulimit -n)"
        );
    }
}

/// The sockets of one Listen: without an address, both families side by side.
fn sockets(listen: &Listen) -> Result<Vec<TcpListener>, Trouble> {
    let trouble = |addr: SocketAddr, error: Errno| {
        let why = match error {
            Errno::ADDRINUSE => holder::of(addr).map(|who| format!("the port is taken by {who}")),
            Errno::ACCESS => Some(format!(
                "{}; edgemd needs CAP_NET_BIND_SERVICE, a socket passed on to it, or MDPortMap to a higher port",
                io::Error::from(error)
            )),
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

async fn accept(executor: Rc<LocalExecutor<'static>>, desk: Rc<Desk>, socket: Weak<Async<TcpListener>>, tls: bool) {
    const PAUSE: Span = Span::millis(250);
    let mut standing: Vec<Task<()>> = Vec::new();
    loop {
        let Some(came) = socket.upgrade().map(|socket| accept_now(&socket)) else { return };
        match came {
            Ok(stream) => {
                let mut inlet = Inlet::default();
                if tls || !at_once(&desk, &stream, &mut inlet) {
                    let mut coming = Box::pin(seat(executor.clone(), desk.clone(), stream, tls, inlet));
                    if smol::future::poll_once(&mut coming).await.is_none() {
                        standing.retain(|one| !one.is_finished());
                        if standing.len() >= STANDING {
                            drop(standing.remove(0));
                        }
                        standing.push(executor.spawn(coming));
                    }
                }
                // Those who have been here for longer come first, and those who are sent away go.
                smol::future::yield_now().await;
            }
            Err(Errno::WOULDBLOCK) => {
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

/// How many at a listener may stand while all sit who are served; one more, and the first one of them leaves.
const STANDING: usize = 16;

/// So often who stands is looked at for a question that needs no seat; at its end a stream would wake us without end.
const LOOKS: u32 = 8;

/// Gives it a task of its own, as soon as there is a seat. What can be answered at once needs none.
async fn seat(executor: Rc<LocalExecutor<'static>>, desk: Rc<Desk>, stream: TcpStream, tls: bool, mut inlet: Inlet) {
    let Some(sides) = Sides::of(&stream, tls) else { return };
    // Heads and pieces of bodies are writes of their own: none shall wait for the other side.
    let _ = stream.set_nodelay(true);
    let Ok(mut stream) = Async::new_nonblocking(stream) else { return };
    let stands = async {
        // What wakes us may be nothing, or a part of a head.
        for _ in 0..LOOKS {
            if tls || stream.readable().await.is_err() {
                break;
            }
            if at_once(&desk, stream.get_ref(), &mut inlet) {
                return None;
            }
        }
        pending().await
    };
    let Some(seat) = smol::future::or(desk.seats.take(sides.peer.ip()), stands).await else { return };
    let (desk, chair) = (desk.clone(), seat.chair());
    chair.hold(executor.spawn(async move {
        match tls {
            true => receive(&desk, stream, sides, &seat).await,
            false => serve(&desk, &mut stream, sides, &seat, inlet).await,
        }
    }));
}

/// One system call where the library takes three: the new socket is born without blocking.
fn accept_now(socket: &Async<TcpListener>) -> Result<TcpStream, Errno> {
    rustix::net::accept_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC).map(TcpStream::from)
}
