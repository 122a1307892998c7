//! One request passed on to a back end, and its response passed back; both bodies stream at the same time.
//!
//! ureq-proto frames both sides. Its halves follow one message after the other, but a back end may answer before it
//! has heard all (a refused upload) or while it hears (a progress page); so either direction has a state machine of
//! each half for itself, and the two that only wait for their second message are given an empty first one.

use crate::rules::forward::{self, Body, Client};
use crate::rules::http1::{self, Head, Reading};
use crate::rules::redirect::Hsts;
use crate::streams::duplex::{Duplex, Shared, standstill};
use crate::streams::inlet::Inlet;
use crate::words::time::Span;
use core::cell::Cell;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;
use http::header::UPGRADE;
use http::{Method, Request, Response, StatusCode};
use std::io;
use ureq_proto::BodyMode;
use ureq_proto::client::state::{RecvResponse, SendRequest};
use ureq_proto::client::{self, Call, RecvResponseResult, SendRequestResult};
use ureq_proto::server::state::ProvideResponse;
use ureq_proto::server::{self, RecvRequestResult, Reply, SendResponseResult};

/// How it went; both ends say whether their connection can carry another exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passed {
    pub keep_client: bool,
    pub keep_back: bool,
}

/// Why it did not go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The client has heard nothing yet, so it can be told.
    Client(&'static str),
    /// The back end closed without a word; on a connection that it had kept open, that is nobody's fault.
    Gone,
    Back(&'static str),
    Late,
    /// In the middle of the response: both connections are of no more use.
    Cut,
}

/// A head of [`http1::HEAD_MAX`] and what we add to it.
const OUT: usize = http1::HEAD_MAX + 1024;
/// A piece of a body; framed, it still fits into the buffer that heads go through.
const PIECE: usize = 4096;

/// Passes on the request whose head stands at the start of `inlet`; without a body it still stands there after
/// [`Failure::Gone`], so it can be passed on again. `patience`: how long nothing may move; `tell` hears whether it is the
/// client that is waited for.
pub async fn pass(
    stream: &mut dyn Duplex,
    inlet: &mut Inlet,
    back: &mut dyn Duplex,
    who: Client,
    patience: Span,
    tell: &dyn Fn(bool),
) -> Result<Passed, Failure> {
    let Reading::Complete(head) = http1::read(inlet.bytes()) else { return Err(UNREADABLE) };
    let facts = Facts { hsts: who.hsts, ..Facts::of(&head) };
    let mut reply = Reply::new().map_err(|_| UNREADABLE)?;
    let (length, asked) = reply.try_request(inlet.bytes()).map_err(|_| UNREADABLE)?;
    let asked = forward::request(asked.ok_or(UNREADABLE)?, &head, who);
    let facts = Facts { upgrade: asked.headers().contains_key(UPGRADE), ..facts };
    let mut call = Call::new(asked).map_err(|_| UNREADABLE)?;
    call.allow_non_standard_methods(true);
    let call = call.proceed();
    let body = if head.body { reply.proceed() } else { None };
    let kept = if head.body { 0 } else { length };
    inlet.used(length - kept);

    let progress = Cell::new(0);
    let (near, far) = (Shared::new(stream, &progress, tell), Shared::new(back, &progress, &|_| ()));
    let state = State { sending: Cell::new(true), sent: Cell::new(false), answering: Cell::new(false) };
    let upward = up(call, body, !facts.to_the_end, &near, inlet, &far);
    let end = both(upward, down(facts, &far, &near, &state), &state, standstill(&progress, patience)).await?;
    inlet.used(kept);
    match end {
        End::Whole(passed) => Ok(passed),
        End::Switched(outlet) => {
            tunnel(&near, inlet, &far, outlet, standstill(&progress, TUNNEL_PATIENCE)).await;
            Ok(Passed { keep_client: false, keep_back: false })
        }
    }
}

/// Bytes as they come, both ways, after those that were read already; neither side is understood.
pub async fn splice(stream: &mut dyn Duplex, seen: &[u8], back: &mut dyn Duplex, tell: &dyn Fn(bool)) {
    let progress = Cell::new(0);
    let (near, far) = (Shared::new(stream, &progress, tell), Shared::new(back, &progress, &|_| ()));
    if far.write_all(seen).await.is_ok() {
        let still = standstill(&progress, TUNNEL_PATIENCE);
        tunnel(&near, &mut Inlet::default(), &far, Inlet::default(), still).await;
    }
}

const UNREADABLE: Failure = Failure::Client("this is no HTTP request");
/// How long nothing may move through an upgraded connection.
const TUNNEL_PATIENCE: Span = Span::hours(1);

/// What the way back needs to know of the request.
#[derive(Clone, Copy)]
struct Facts {
    head_only: bool,
    keep: bool,
    /// The client reads to the end of the connection: it speaks HTTP/1.0.
    to_the_end: bool,
    upgrade: bool,
    hsts: Hsts,
}

impl Facts {
    fn of(head: &Head<'_>) -> Self {
        Self {
            head_only: head.method == "HEAD",
            keep: head.keep,
            to_the_end: head.minor == 0,
            upgrade: false,
            hsts: Hsts::Never,
        }
    }
}

/// What the two directions know of each other.
struct State {
    /// The request is still on its way.
    sending: Cell<bool>,
    /// All of it arrived.
    sent: Cell<bool>,
    /// The client has heard the first of the response.
    answering: Cell<bool>,
}

enum End {
    Whole(Passed),
    /// 101, and what the back end said after it.
    Switched(Inlet),
}

/// Lets both directions run until the response is whole.
async fn both(
    up: impl Future<Output = Result<(), Failure>>,
    down: impl Future<Output = Result<End, Failure>>,
    state: &State,
    still: impl Future<Output = ()>,
) -> Result<End, Failure> {
    let (mut up, mut down, mut still) = (pin!(up), pin!(down), pin!(still));
    let done = poll_fn(|cx| {
        if state.sending.get() {
            match up.as_mut().poll(cx) {
                Poll::Pending => {}
                Poll::Ready(Err(Failure::Client(why))) => return Poll::Ready(Err(Failure::Client(why))),
                // A back end that wants to hear no more may have said why.
                Poll::Ready(result) => {
                    state.sending.set(false);
                    state.sent.set(result.is_ok());
                }
            }
        }
        if let Poll::Ready(end) = down.as_mut().poll(cx) {
            return Poll::Ready(end);
        }
        still.as_mut().poll(cx).map(|()| Err(Failure::Late))
    });
    done.await.map_err(|failure| if state.answering.get() { Failure::Cut } else { failure })
}

/// The request's way to the back end.
async fn up(
    mut call: Call<SendRequest>,
    body: Option<RecvRequestResult>,
    understands_100: bool,
    near: &Shared<'_>,
    inlet: &mut Inlet,
    far: &Shared<'_>,
) -> Result<(), Failure> {
    let back = |_| Failure::Back("it closed while it was asked");
    let mut out = vec![0; OUT];
    while !call.can_proceed() {
        let count = call.write(&mut out).map_err(|_| UNREADABLE)?;
        far.write_all(out.get(..count).unwrap_or_default()).await.map_err(back)?;
    }
    let mut reader = match body {
        None | Some(RecvRequestResult::ProvideResponse(_)) => return Ok(()),
        Some(RecvRequestResult::RecvBody(reader)) => reader,
        Some(RecvRequestResult::Send100(waiting)) => {
            let (count, reader) = waiting.accept(&mut out).map_err(|_| UNREADABLE)?;
            if understands_100 {
                near.write_all(out.get(..count).unwrap_or_default()).await.map_err(|_| LEFT)?;
            }
            reader
        }
    };
    let Ok(Some(SendRequestResult::SendBody(mut writer))) = call.proceed() else { return Err(UNREADABLE) };
    let mut piece = vec![0; PIECE];
    while !reader.is_ended() {
        let (used, count) = reader.read(inlet.bytes(), &mut piece).map_err(|_| BAD_BODY)?;
        inlet.used(used);
        let mut frame = |bytes: &[u8], out: &mut [u8]| writer.write(bytes, out);
        framed(&mut frame, piece.get(..count).unwrap_or_default(), &mut out, far).await.map_err(back)?;
        if used == 0 && count == 0 && !inlet.more_of(near).await.map_err(|_| BAD_BODY)? {
            return Err(LEFT);
        }
    }
    if !writer.can_proceed() {
        let (_, count) = writer.write(&[], &mut out).map_err(|_| BAD_BODY)?;
        far.write_all(out.get(..count).unwrap_or_default()).await.map_err(back)?;
    }
    Ok(())
}

const LEFT: Failure = Failure::Client("the request ended early");
const BAD_BODY: Failure = Failure::Client("the body is not framed as HTTP/1.1 frames it");

/// The response's way to the client.
async fn down(facts: Facts, far: &Shared<'_>, near: &Shared<'_>, state: &State) -> Result<End, Failure> {
    let mut outlet = Inlet::default();
    let mut call = listening(facts.head_only).ok_or(Failure::Back("it cannot be listened to"))?;
    let response = response(&mut call, far, &mut outlet).await?;
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if switched && !facts.upgrade {
        return Err(Failure::Back("it changed the protocol unasked"));
    }
    let reader = match call.proceed() {
        Some(RecvResponseResult::RecvBody(reader)) if !switched => Some(reader),
        _ => None,
    };
    let mode = reader.as_ref().map(Call::body_mode);
    let body = match mode {
        Some(BodyMode::LengthDelimited(length)) => Body::Length(length),
        Some(BodyMode::Chunked | BodyMode::CloseDelimited) => Body::Open,
        Some(BodyMode::NoBody) | None => Body::None,
    };
    let keep_back = forward::reusable(&response, body);
    let keep_client = facts.keep && !facts.to_the_end && !state.sending.get();
    let response = forward::response(response, body, !keep_client, facts.hsts);
    // To a client that reads to the end, any body goes as it is: for the library the answer is then a head only.
    let mut reply = answering(facts.head_only || facts.to_the_end)
        .and_then(|reply| reply.provide(response).ok())
        .ok_or(Failure::Back("its answer contradicts itself"))?;
    state.answering.set(true);
    let mut out = vec![0; OUT];
    while !reply.is_finished() {
        let count = reply.write(&mut out).map_err(|_| Failure::Cut)?;
        near.write_all(out.get(..count).unwrap_or_default()).await.map_err(|_| Failure::Cut)?;
    }
    if switched {
        return Ok(End::Switched(outlet));
    }
    let mut writer = match reply.proceed() {
        SendResponseResult::SendBody(writer) => Some(writer),
        SendResponseResult::Cleanup(_) => None,
    };
    if let Some(reader) = reader {
        relay(reader, writer.as_mut(), far, &mut outlet, near, &mut out).await.map_err(|_| Failure::Cut)?;
    }
    if let Some(mut writer) = writer.filter(|writer| !writer.is_finished()) {
        let (_, count) = writer.write(&[], &mut out).map_err(|_| Failure::Cut)?;
        near.write_all(out.get(..count).unwrap_or_default()).await.map_err(|_| Failure::Cut)?;
    }
    let sent = state.sent.get();
    Ok(End::Whole(Passed { keep_client: keep_client && sent, keep_back: keep_back && sent && outlet.is_empty() }))
}

/// The head of the back end's final answer.
async fn response(
    call: &mut Call<RecvResponse>,
    far: &Shared<'_>,
    outlet: &mut Inlet,
) -> Result<Response<()>, Failure> {
    let mut heard = false;
    loop {
        let answer = call.try_response(outlet.bytes(), false);
        let (used, response) = answer.map_err(|_| Failure::Back("its answer is no HTTP/1.1"))?;
        outlet.used(used);
        if let Some(response) = response {
            return Ok(response);
        }
        // Something was used: an interim answer (RFC 9110 §15.2), and the next one may be here already.
        if used > 0 {
            continue;
        }
        match outlet.more_of(far).await {
            Ok(true) => heard = true,
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                return Err(Failure::Back("the head of its answer is over 8 KiB"));
            }
            _ if heard => return Err(Failure::Back("it closed in the middle of its answer")),
            _ => return Err(Failure::Gone),
        }
    }
}

/// The response's body, framed anew, or as it is without a writer.
async fn relay(
    mut reader: Call<client::state::RecvBody>,
    mut writer: Option<&mut Reply<server::state::SendBody>>,
    far: &Shared<'_>,
    outlet: &mut Inlet,
    near: &Shared<'_>,
    out: &mut [u8],
) -> io::Result<()> {
    let to_the_end = reader.body_mode() == BodyMode::CloseDelimited;
    let mut piece = vec![0; PIECE];
    loop {
        let (used, count) = reader.read(outlet.bytes(), &mut piece).map_err(|_| io::ErrorKind::InvalidData)?;
        outlet.used(used);
        let bytes = piece.get(..count).unwrap_or_default();
        match &mut writer {
            Some(writer) => framed(&mut |bytes, out| writer.write(bytes, out), bytes, out, near).await?,
            None => near.write_all(bytes).await?,
        }
        if !to_the_end && reader.can_proceed() {
            return Ok(());
        }
        if used == 0 && count == 0 && !outlet.more_of(far).await? {
            return if to_the_end { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    }
}

type Frame<'a> = &'a mut dyn FnMut(&[u8], &mut [u8]) -> Result<(usize, usize), ureq_proto::Error>;

/// Writes a piece of a body as the other side expects it. `out` must hold a whole piece and its frame: the library would
/// take a chunk that it can only cut to nothing for the last one.
async fn framed(frame: Frame<'_>, mut bytes: &[u8], out: &mut [u8], to: &Shared<'_>) -> io::Result<()> {
    while !bytes.is_empty() {
        let (used, count) = frame(bytes, out).map_err(|_| io::ErrorKind::InvalidData)?;
        to.write_all(out.get(..count).unwrap_or_default()).await?;
        bytes = bytes.get(used..).unwrap_or_default();
    }
    Ok(())
}

/// A client half that has asked already: it only listens.
fn listening(head_only: bool) -> Option<Call<RecvResponse>> {
    let mut asked = Request::new(());
    *asked.method_mut() = method(head_only);
    let mut call = Call::new(asked).ok()?.proceed();
    let mut nowhere = [0; 64];
    while !call.can_proceed() {
        call.write(&mut nowhere).ok()?;
    }
    match call.proceed() {
        Ok(Some(SendRequestResult::RecvResponse(call))) => Some(call),
        _ => None,
    }
}

/// A server half that has been asked already: it only answers.
fn answering(head_only: bool) -> Option<Reply<ProvideResponse>> {
    let mut reply = Reply::new().ok()?;
    let asked: &[u8] = if head_only { b"HEAD / HTTP/1.1\r\n\r\n" } else { b"GET / HTTP/1.1\r\n\r\n" };
    reply.try_request(asked).ok()?;
    match reply.proceed() {
        Some(RecvRequestResult::ProvideResponse(reply)) => Some(reply),
        _ => None,
    }
}

fn method(head_only: bool) -> Method {
    if head_only { Method::HEAD } else { Method::GET }
}

/// Bytes as they come, both ways, until both sides have ended or nothing moves.
async fn tunnel(
    near: &Shared<'_>,
    inlet: &mut Inlet,
    far: &Shared<'_>,
    mut outlet: Inlet,
    still: impl Future<Output = ()>,
) {
    near.always_waits();
    let both = smol::future::zip(pour(near, inlet, far), pour(far, &mut outlet, near));
    smol::future::or(async { _ = both.await }, still).await;
}

async fn pour(from: &Shared<'_>, inlet: &mut Inlet, to: &Shared<'_>) {
    loop {
        let count = inlet.bytes().len();
        if to.write_all(inlet.bytes()).await.is_err() {
            break;
        }
        inlet.used(count);
        if !matches!(inlet.more_of(from).await, Ok(true)) {
            break;
        }
    }
    to.end();
}
