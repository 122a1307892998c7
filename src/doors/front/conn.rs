//! One connection: request after request, each judged anew, until its end.

use super::Limits;
use super::backend::{self, Names, Unreachable};
use super::seats::Seats;
use crate::rules::forward::Client;
use crate::rules::http1::{self, Around, Facade, Head, Reading, Verdict};
use crate::streams::answer::{self, Answer, Manner, send};
use crate::streams::duplex::{Duplex, last_of, part, within};
use crate::streams::inlet::Inlet;
use crate::streams::proxy::{self, Failure};
use crate::words::answers::Answers;
use crate::words::board::Board;
use crate::words::config::Backend;
use crate::words::time::Unix;
use async_io::Async;
use core::cell::{Cell, RefCell};
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
}

impl Desk {
    fn around<'a>(&'a self, local: &'a dyn Fn() -> SocketAddr) -> Around<'a> {
        Around { local, clock: self.clock, answers: &self.answers, board: &self.board }
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
    let verdict = facade.judge(&head, &desk.around(&|| local(stream)));
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

pub async fn serve(desk: &Desk, mut stream: Async<TcpStream>, mut inlet: Inlet) {
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
    let verdict = facade.judge(&head, &desk.around(&|| local(stream.get_ref())));
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
        Verdict::Moved(moved) => {
            Answer { fields: &moved.field, ..Answer::text(moved.status, "this site is served over https") }
        }
        Verdict::Status(json) => Answer { status: "200 OK", fields: "", kind: "application/json", body: json },
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
