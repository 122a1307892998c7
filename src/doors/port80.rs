//! The plain listeners: challenges are answered, what is not ours goes to the back end. All of it lives on one executor
//! on one thread.

mod backend;
mod holder;

use crate::rules::forward::Client;
use crate::rules::http1::{self, Facade, Head, Reading, Verdict};
use crate::streams::answer::{self, Answer, Manner, send};
use crate::streams::duplex::{Duplex, last_of, part, within};
use crate::streams::inlet::Inlet;
use crate::streams::proxy::{self, Failure};
use crate::words::answers::Answers;
use crate::words::config::{Backend, Listen};
use crate::words::fault::Trouble;
use crate::words::time::Span;
use async_io::{Async, Timer};
use backend::{Names, Unreachable};
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::{Context, Poll, ready};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use smol::lock::Semaphore;
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

pub struct Port80 {
    executor: Rc<LocalExecutor<'static>>,
    desk: Rc<Desk>,
    listeners: Vec<Listener>,
}

/// What all connections share.
struct Desk {
    answers: Arc<Answers>,
    facade: RefCell<Rc<Facade>>,
    limits: Limits,
    seats: Arc<Semaphore>,
    names: Names,
    /// The back end failed the last time; said once in the log.
    down: Cell<bool>,
}

struct Listener {
    listen: Listen,
    bound: SocketAddr,
    /// The only strong one: dropping it closes the socket at once, while a task ends when the executor comes to it.
    /// Connections live on.
    _socket: Rc<Async<TcpListener>>,
    _task: Task<()>,
}

impl Port80 {
    /// Listens nowhere yet, and answers challenges only.
    pub fn new(executor: Rc<LocalExecutor<'static>>, answers: Arc<Answers>) -> Self {
        Self::with_limits(executor, answers, Limits::default())
    }

    pub fn with_limits(executor: Rc<LocalExecutor<'static>>, answers: Arc<Answers>, limits: Limits) -> Self {
        let desk = Desk {
            answers,
            facade: RefCell::default(),
            limits,
            seats: Arc::new(Semaphore::new(limits.connections)),
            names: Names::default(),
            down: Cell::new(false),
        };
        Self { executor, desk: Rc::new(desk), listeners: Vec::new() }
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
        let mut opened = self.open_all(&fresh);
        let in_the_way = leave.iter().any(|old| fresh.iter().any(|new| new.port == old.bound.port()));
        if opened.is_err() && in_the_way {
            // One of ours holds the port in another way, `*` instead of an address: it has to go first.
            let olds: Vec<Listen> = leave.drain(..).map(|old| old.listen).collect();
            opened = self.open_all(&fresh);
            if opened.is_err() {
                leave = self.open_all(&olds.iter().collect::<Vec<_>>()).unwrap_or_default();
            }
        }
        let result = opened.map(|opened| {
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

    /// Where it listens now.
    pub fn bound(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|listener| listener.bound).collect()
    }

    fn open_all(&self, wanted: &[&Listen]) -> Result<Vec<Listener>, Trouble> {
        let mut opened = Vec::new();
        for listen in wanted {
            for socket in sockets(listen)? {
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
        let seat = desk.seats.acquire_arc().await;
        let came =
            poll_fn(|cx| socket.upgrade().map_or(Poll::Ready(None), |socket| poll_accept(&socket, cx).map(Some)));
        match came.await {
            Some(Ok(stream)) => {
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
            // Gone before it was taken.
            Some(Err(Errno::CONNABORTED | Errno::INTR)) => {}
            Some(Err(error)) => {
                // Out of descriptors or memory: trying at once would only spin.
                log::warn!("a connection could not be taken: {error}; next try in {PAUSE}");
                Timer::after(PAUSE.duration()).await;
            }
            None => return,
        }
    }
}

/// One system call where the library takes three: the new socket is born without blocking.
fn poll_accept(socket: &Async<TcpListener>, cx: &mut Context<'_>) -> Poll<Result<TcpStream, Errno>> {
    loop {
        match rustix::net::accept_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Err(Errno::WOULDBLOCK) => ready!(socket.poll_readable(cx)).map_err(|_| Errno::IO)?,
            came => return Poll::Ready(came.map(TcpStream::from)),
        }
    }
}

/// The common case without task, timer and reactor: a CA's request is here before we are, wants one answer of ours and
/// no second one.
fn at_once(desk: &Desk, mut stream: &TcpStream, inlet: &mut Inlet) -> bool {
    inlet.more_now(&mut stream);
    let Reading::Complete(head) = http1::read(inlet.bytes()) else { return false };
    let manner = manner(&head);
    if manner.keep || head.body || head.length != inlet.bytes().len() {
        return false;
    }
    let facade = desk.facade.borrow();
    let verdict = facade.judge(&head, &|| local(stream), &desk.answers);
    let Some(answer) = own(&verdict) else { return false };
    last_of(stream, answer::text(&answer, manner).as_bytes()) > 0
}

/// What follows an exchange.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Request,
    /// Nothing is left to be read.
    Close,
    /// The client may still be sending.
    Part,
}

/// The back end's connection that the last exchange left open.
type Spare = Option<(Backend, Box<dyn Duplex>)>;

async fn serve(desk: &Desk, mut stream: Async<TcpStream>, mut inlet: Inlet) {
    let mut spare: Spare = None;
    loop {
        let next = match head(desk, &mut stream, &mut inlet).await {
            Ok(()) => exchange(desk, &mut stream, &mut inlet, &mut spare).await,
            Err(None) => Next::Close,
            Err(Some(answer)) => refuse(desk, &mut stream, &answer).await,
        };
        match next {
            Next::Request => {}
            Next::Close => return,
            Next::Part => return part(&mut stream).await,
        }
    }
}

/// Waits until a whole head is in the inlet. Without one the connection ends, with an answer or silently.
async fn head(desk: &Desk, stream: &mut Async<TcpStream>, inlet: &mut Inlet) -> Result<(), Option<Answer<'static>>> {
    if inlet.is_empty() && !matches!(within(desk.limits.idle, inlet.more(stream)).await, Some(Ok(true))) {
        return Err(None);
    }
    let whole = async {
        loop {
            match http1::read(inlet.bytes()) {
                Reading::Complete(_) => return Ok(()),
                Reading::Malformed(why) => return Err(Some(Answer::text("400 Bad Request", why))),
                Reading::TooLarge => {
                    let why = "the head of the request is over 8 KiB";
                    return Err(Some(Answer::text("431 Request Header Fields Too Large", why)));
                }
                Reading::More => {}
            }
            if !matches!(inlet.more(stream).await, Ok(true)) {
                return Err(None);
            }
        }
    };
    let late = Answer::text("408 Request Timeout", "the head of the request took too long");
    within(desk.limits.head, whole).await.unwrap_or(Err(Some(late)))
}

/// Answers the request whose head is in the inlet.
async fn exchange(desk: &Desk, stream: &mut Async<TcpStream>, inlet: &mut Inlet, spare: &mut Spare) -> Next {
    let Reading::Complete(head) = http1::read(inlet.bytes()) else { return Next::Close };
    let facade = desk.facade.borrow().clone();
    let verdict = facade.judge(&head, &|| local(stream.get_ref()), &desk.answers);
    if let Verdict::Backend(backend) = verdict {
        // Boxed: a connection that is only answered does not carry the proxy's room.
        return Box::pin(pass(desk, stream, inlet, spare, backend)).await;
    }
    let Some(answer) = own(&verdict) else { return Next::Close };
    let (manner, length, body) = (manner(&head), head.length, head.body);
    if !matches!(within(desk.limits.head, send(stream, &answer, manner)).await, Some(Ok(()))) {
        return Next::Close;
    }
    inlet.used(length);
    match manner.keep {
        true => Next::Request,
        false if body || !inlet.is_empty() => Next::Part,
        false => Next::Close,
    }
}

fn local(stream: &TcpStream) -> SocketAddr {
    stream.local_addr().unwrap_or((Ipv4Addr::UNSPECIFIED, 0).into())
}

/// The answer that we give ourselves.
fn own<'a>(verdict: &'a Verdict<'_>) -> Option<Answer<'a>> {
    Some(match verdict {
        Verdict::Answer(key_authorization) => {
            Answer { status: "200 OK", fields: "", kind: "application/octet-stream", body: key_authorization }
        }
        Verdict::NotAllowed => Answer {
            fields: "Allow: GET, HEAD\r\n",
            ..Answer::text("405 Method Not Allowed", "a challenge is fetched with GET")
        },
        Verdict::NotFound => Answer::text("404 Not Found", "there is nothing here"),
        Verdict::Backend(_) => return None,
    })
}

/// A body that nobody wants to read ends the connection.
fn manner(head: &Head<'_>) -> Manner {
    Manner { head_only: head.method == "HEAD", keep: head.keep && !head.body }
}

async fn pass(
    desk: &Desk,
    stream: &mut Async<TcpStream>,
    inlet: &mut Inlet,
    spare: &mut Spare,
    backend: &Backend,
) -> Next {
    let Ok(peer) = stream.get_ref().peer_addr() else { return Next::Close };
    // Heads and pieces of bodies are writes of their own: none shall wait for the other side's acknowledgement.
    let _ = stream.get_ref().set_nodelay(true);
    let client = Client { addr: peer.ip(), scheme: "http" };
    let repeatable = matches!(http1::read(inlet.bytes()), Reading::Complete(head) if !head.body);
    let mut used = spare.take().filter(|(last, _)| last == backend).map(|(_, back)| back);
    let failure = loop {
        let reused = match &mut used {
            Some(back) => backend::is_open(&mut **back).await,
            None => false,
        };
        let mut back = match used.take().filter(|_| reused) {
            Some(back) => back,
            None => match within(desk.limits.back, backend::connect(&desk.names, backend)).await {
                Some(Ok(back)) => back,
                Some(Err(Unreachable(why))) => {
                    report(desk, backend, &why);
                    let answer = Answer::text("502 Bad Gateway", "the web server behind this address does not answer");
                    return refuse(desk, stream, &answer).await;
                }
                None => break Failure::Late,
            },
        };
        match proxy::pass(stream, inlet, &mut *back, client, desk.limits.back).await {
            Ok(passed) => {
                desk.down.set(false);
                *spare = passed.keep_back.then(|| (backend.clone(), back));
                return if passed.keep_client { Next::Request } else { Next::Part };
            }
            Err(Failure::Gone) if reused && repeatable => {}
            Err(failure) => break failure,
        }
    };
    let answer = match failure {
        Failure::Cut => return Next::Close,
        Failure::Client(why) => Answer::text("400 Bad Request", why),
        Failure::Late => {
            report(desk, backend, "it took too long");
            Answer::text("504 Gateway Timeout", "the web server behind this address took too long")
        }
        Failure::Gone | Failure::Back(_) => {
            report(desk, backend, if let Failure::Back(why) = failure { why } else { "it closed without an answer" });
            Answer::text("502 Bad Gateway", "the web server behind this address gave no answer that can be passed on")
        }
    };
    refuse(desk, stream, &answer).await
}

async fn refuse(desk: &Desk, stream: &mut Async<TcpStream>, answer: &Answer<'_>) -> Next {
    match within(desk.limits.head, send(stream, answer, Manner::LAST)).await {
        Some(Ok(())) => Next::Part,
        _ => Next::Close,
    }
}

/// Into the log, once until it works again: strangers choose how often this happens.
fn report(desk: &Desk, backend: &Backend, why: &str) {
    if !desk.down.replace(true) {
        log::warn!("back end {}: {why}", backend::called(backend));
    }
}
