//! One connection: request after request, each judged anew, until its end.

use super::Limits;
use super::backend::{self, Names, Unreachable};
use super::seats::{Seat, Seats};
use super::shelf::Shelf;
use crate::rules::forward::Client;
use crate::rules::http1::{self, Around, Facade, Head, Reading, Verdict};
use crate::rules::redirect::{HSTS, Hsts};
use crate::streams::answer::{self, Answer, Manner, send};
use crate::streams::duplex::{Duplex, last_of, part, within};
use crate::streams::inlet::Inlet;
use crate::streams::proxy::{self, Failure};
use crate::words::answers::Answers;
use crate::words::board::Board;
use crate::words::config::{Backend, Way};
use crate::words::name::Name;
use crate::words::time::Unix;
use core::cell::{Cell, RefCell};
use rustls::ServerConfig;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;

/// What all connections share.
pub struct Desk {
    pub answers: Arc<Answers>,
    pub board: Arc<Board>,
    pub clock: fn() -> Option<Unix>,
    pub facade: RefCell<Rc<Facade>>,
    pub limits: Limits,
    pub seats: Rc<Seats>,
    pub names: Names,
    /// The back end failed the last time; said once in the log.
    pub down: Cell<bool>,
    pub tls: Arc<ServerConfig>,
    pub shelf: Arc<Shelf>,
}

impl Desk {
    fn around<'a>(&'a self, tls: bool, shown: Option<&'a Name>, local: &'a dyn Fn() -> SocketAddr) -> Around<'a> {
        Around { tls, shown, local, clock: self.clock, answers: &self.answers, board: &self.board }
    }
}

/// The common case without task, timer and reactor: a CA's request is here before we are, wants one answer of ours and
/// no second one.
pub fn at_once(desk: &Desk, mut stream: &TcpStream, inlet: &mut Inlet) -> bool {
    inlet.more_now(&mut stream);
    let Reading::Complete(head) = http1::read(inlet.bytes()) else { return false };
    let manner = manner(&head);
    if manner.keep || head.body || head.length != inlet.bytes().len() {
        return false;
    }
    let facade = desk.facade.borrow();
    let verdict = facade.judge(&head, &desk.around(false, None, &|| local(stream)));
    let Some(answer) = own(&verdict, "") else { return false };
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
type Spare = Option<(Way, Box<dyn Duplex>)>;

/// Who speaks with whom, and how.
#[derive(Clone, Copy)]
pub struct Sides<'a> {
    pub peer: SocketAddr,
    pub local: SocketAddr,
    pub tls: bool,
    /// The MD whose certificate the client was shown.
    pub shown: Option<&'a Name>,
}

impl Sides<'_> {
    /// `None`: the other one has left already.
    pub fn of(stream: &TcpStream, tls: bool) -> Option<Self> {
        Some(Self { peer: stream.peer_addr().ok()?, local: local(stream), tls, shown: None })
    }
}

pub async fn serve(desk: &Desk, stream: &mut dyn Duplex, sides: Sides<'_>, seat: &Seat, mut inlet: Inlet) {
    let mut spare: Spare = None;
    loop {
        seat.waits();
        let next = match head(desk, stream, &mut inlet).await {
            Ok(()) => exchange(desk, stream, sides, seat, &mut inlet, &mut spare).await,
            Err(None) => Next::Close,
            Err(Some(answer)) => refuse(desk, stream, &answer).await,
        };
        match next {
            Next::Request => {}
            Next::Close => return stream.end(),
            Next::Part => {
                seat.waits();
                return Box::pin(part(stream)).await;
            }
        }
    }
}

/// Waits until a whole head is in the inlet. Without one the connection ends, with an answer or silently.
async fn head(desk: &Desk, stream: &mut dyn Duplex, inlet: &mut Inlet) -> Result<(), Option<Answer<'static>>> {
    if inlet.is_empty() && !matches!(within(desk.limits.idle, inlet.more(stream)).await, Some(Ok(true))) {
        return Err(None);
    }
    let whole = async {
        loop {
            match http1::read(inlet.bytes()) {
                Reading::Complete(_) => return Ok(()),
                Reading::Malformed(why) => return Err(Some(Answer::text("400 Bad Request", why))),
                Reading::TooLarge(why) => {
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
async fn exchange(
    desk: &Desk,
    stream: &mut dyn Duplex,
    sides: Sides<'_>,
    seat: &Seat,
    inlet: &mut Inlet,
    spare: &mut Spare,
) -> Next {
    let Reading::Complete(head) = http1::read(inlet.bytes()) else { return Next::Close };
    let facade = desk.facade.borrow().clone();
    let here = || sides.local;
    let around = desk.around(sides.tls, sides.shown, &here);
    let verdict = facade.judge(&head, &around);
    let hsts = facade.hsts(&head, &around);
    if let Verdict::Backend(way) = verdict {
        // Boxed: a connection that is only answered does not carry the proxy's room.
        seat.works();
        let passed = Box::pin(pass(desk, stream, sides, seat, inlet, spare, (way, hsts))).await;
        seat.waits();
        return match passed {
            Ok(next) => next,
            Err(answer) => refuse(desk, stream, &answer).await,
        };
    }
    let remember = format!("Strict-Transport-Security: {HSTS}\r\n");
    let Some(answer) = own(&verdict, if hsts == Hsts::Add { &remember } else { "" }) else { return Next::Close };
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

/// The answer that we give ourselves; `hsts` is a line of its head, or nothing.
fn own<'a>(verdict: &'a Verdict<'_>, hsts: &'a str) -> Option<Answer<'a>> {
    Some(match verdict {
        Verdict::Answer(key_authorization) => {
            Answer { status: "200 OK", fields: "", kind: "application/octet-stream", body: key_authorization }
        }
        Verdict::NotAllowed => Answer {
            fields: "Allow: GET, HEAD\r\n",
            ..Answer::text("405 Method Not Allowed", "a challenge is fetched with GET")
        },
        Verdict::Moved(moved) => {
            Answer { fields: &moved.field, ..Answer::text(moved.status, "this site is served over https") }
        }
        Verdict::Status(json) => Answer { status: "200 OK", fields: hsts, kind: "application/json", body: json },
        Verdict::Unready => Answer {
            fields: "Retry-After: 30\r\n",
            ..Answer::text("503 Service Unavailable", "the certificate of this site is on its way")
        },
        Verdict::NotFound => Answer { fields: hsts, ..Answer::text("404 Not Found", "there is nothing here") },
        Verdict::Backend(_) => return None,
    })
}

/// A body that nobody wants to read ends the connection.
fn manner(head: &Head<'_>) -> Manner {
    Manner { head_only: head.method == "HEAD", keep: head.keep && !head.body }
}

async fn pass(
    desk: &Desk,
    stream: &mut dyn Duplex,
    sides: Sides<'_>,
    seat: &Seat,
    inlet: &mut Inlet,
    spare: &mut Spare,
    (way, hsts): (&Way, Hsts),
) -> Result<Next, Answer<'static>> {
    let client = Client { addr: sides.peer.ip(), scheme: if sides.tls { "https" } else { "http" }, hsts };
    let repeatable = matches!(http1::read(inlet.bytes()), Reading::Complete(head) if !head.body);
    let mut used = spare.take().filter(|(last, _)| last == way).map(|(_, back)| back);
    let failure = loop {
        let reused = match &mut used {
            Some(back) => backend::is_open(&mut **back).await,
            None => false,
        };
        let mut back = match used.take().filter(|_| reused) {
            Some(back) => back,
            None => match within(desk.limits.back, backend::connect(&desk.names, way, sides)).await {
                Some(Ok(back)) => back,
                Some(Err(Unreachable(why))) => {
                    report(desk, &way.to, &why);
                    let why = "the web server behind this address does not answer";
                    return Err(Answer::text("502 Bad Gateway", why));
                }
                None => break Failure::Late,
            },
        };
        match proxy::pass(stream, inlet, &mut *back, client, desk.limits.back, &|waits| seat.turns(waits)).await {
            Ok(passed) => {
                desk.down.set(false);
                *spare = passed.keep_back.then(|| (way.clone(), back));
                return Ok(if passed.keep_client { Next::Request } else { Next::Part });
            }
            Err(Failure::Gone) if reused && repeatable => {}
            Err(failure) => break failure,
        }
    };
    Err(match failure {
        Failure::Cut => return Ok(Next::Close),
        Failure::Client(why) => Answer::text("400 Bad Request", why),
        Failure::Late => {
            report(desk, &way.to, "it took too long");
            Answer::text("504 Gateway Timeout", "the web server behind this address took too long")
        }
        Failure::Gone | Failure::Back(_) => {
            report(desk, &way.to, if let Failure::Back(why) = failure { why } else { "it closed without an answer" });
            Answer::text("502 Bad Gateway", "the web server behind this address gave no answer that can be passed on")
        }
    })
}

async fn refuse(desk: &Desk, stream: &mut dyn Duplex, answer: &Answer<'_>) -> Next {
    match within(desk.limits.head, send(stream, answer, Manner::LAST)).await {
        Some(Ok(())) => Next::Part,
        _ => Next::Close,
    }
}

/// Into the log, once until it works again: strangers choose how often this happens.
pub fn report(desk: &Desk, backend: &Backend, why: &str) {
    if !desk.down.replace(true) {
        log::warn!("back end {}: {why}", backend::called(backend));
    }
}
