//! A CA with Let's Encrypt's limits, as far as a fleet can see them.

use super::BEGIN;
use edgemd::rules::acme::advice::{self, Hint};
use edgemd::rules::acme::problem::refusal;
use edgemd::rules::acme::types::Reply;
use edgemd::words::cert::{Held, Want};
use edgemd::words::fault::{Failure, Trouble};
use edgemd::words::time::{Span, Unix};
use std::collections::HashMap;

pub const DIRECTORY: &str = "https://ca.example/directory";

/// Retry-After of its answers about renewal.
pub const ASK_AGAIN: Span = Span::hours(6);

/// So many devices are behind one address of their provider's, and have a name under one domain.
const NEIGHBOURS: u32 = 20;

/// When the requests of an order arrive, in milliseconds after its begin.
const REQUESTS: [u64; 10] = [0, 100, 200, 300, 400, 600, 1600, 1700, 2700, 2800];

pub struct Ca {
    pub span: Span,
    pub requests: Vec<u32>,
    pub refused: u32,
    /// All devices have their names under one domain.
    pub one_domain: bool,
    /// It is away.
    down: Option<(Unix, Unix)>,
    /// What it gave before this moment is to be replaced.
    revoked: Unix,
    serial: u64,
    buckets: HashMap<(Limit, u32), Unix>,
}

/// An order, and what the CA knows of whoever places it.
pub struct Demand<'a> {
    pub device: u32,
    pub replaces: Option<&'a Held>,
    pub life: Span,
}

/// Let's Encrypt's, of August 2026: so many at once, and one more each time this has passed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Limit {
    Account,
    Domain,
    SameNames,
    /// The load balancer's, per address; the narrowest one of those that an order meets.
    NewNonce,
}

impl Limit {
    fn rate(self) -> (u64, Span) {
        match self {
            Self::Account => (300, Span::secs(36)),
            Self::Domain => (50, Span::mins(202)),
            Self::SameNames => (5, Span::hours(34)),
            Self::NewNonce => (20, Span::millis(50)),
        }
    }
}

/// The middle of the window that it wants a certificate renewed in.
pub fn centre(life: Span) -> Span {
    if life < Span::days(10) { life.divided(2) } else { life.divided(3).times(2) }
}

impl Ca {
    pub fn new(span: Span, down: Option<(Unix, Unix)>) -> Self {
        let (requests, buckets) = (vec![], HashMap::new());
        Self { span, requests, refused: 0, one_domain: false, down, revoked: Unix::default(), serial: 0, buckets }
    }

    pub fn revoke_all(&mut self, now: Unix) {
        self.revoked = now;
    }

    pub fn order(&mut self, want: &Want, demand: &Demand<'_>, now: Unix) -> Result<Held, Failure> {
        self.count(now);
        self.answers(now)?;
        let (device, address) = (demand.device, demand.device / NEIGHBOURS);
        self.take(Limit::NewNonce, address, now)?;
        // RFC 9773: who comes in the window is exempt from the limits.
        let window = demand.replaces.map(|held| self.suggests(held, now));
        if window.is_none_or(|(start, end)| now < start || now >= end) {
            self.take(Limit::Domain, if self.one_domain { 0 } else { address }, now)?;
            self.take(Limit::Account, device, now)?;
            self.take(Limit::SameNames, device, now)?;
        }
        for after in &REQUESTS[1..] {
            self.count(now.plus(Span::millis(*after)));
        }
        Ok(self.issue(want, now.plus(Span::millis(2800)), demand.life))
    }

    pub fn issue(&mut self, want: &Want, now: Unix, life: Span) -> Held {
        self.serial += 1;
        let mut sha256 = [0; 32];
        sha256[..8].copy_from_slice(&self.serial.to_be_bytes());
        Held {
            kind: want.kind,
            ca: DIRECTORY.into(),
            serial: sha256[..8].to_vec(),
            sha256,
            authority: vec![1],
            ..Held::sample(want.names.clone(), now, now.plus(life))
        }
    }

    /// The answer to the question when to renew.
    pub fn advise(&mut self, held: &Held, now: Unix) -> Hint {
        self.count(now);
        match self.answers(now) {
            Ok(()) => self.window(held, now),
            Err(Failure::Refusal(no)) => advice::read(&Reply { status: no.status.unwrap_or(503), ..Reply::default() }),
            Err(Failure::Trouble(why)) => Hint::Passing { why: why.to_string(), retry_after: None },
        }
    }

    pub fn window(&self, held: &Held, now: Unix) -> Hint {
        let (start, end) = self.suggests(held, now);
        Hint::Window { start, end, explanation: None, retry_after: Some(ASK_AGAIN) }
    }

    fn suggests(&self, held: &Held, now: Unix) -> (Unix, Unix) {
        if held.since < self.revoked {
            let start = now.minus(Span::hours(1));
            return (start, start.plus(Span::mins(30)));
        }
        let (centre, half) = (held.not_before.plus(centre(held.life())), held.life().percent(1));
        (centre.minus(half), centre.plus(half))
    }

    fn count(&mut self, at: Unix) {
        let place = usize::try_from(at.since(BEGIN).as_millis() / self.span.as_millis()).unwrap();
        if self.requests.len() <= place {
            self.requests.resize(place + 1, 0);
        }
        self.requests[place] += 1;
    }

    /// Away, it is not reached at first; then something in front of it answers.
    fn answers(&self, now: Unix) -> Result<(), Failure> {
        match self.down {
            Some((from, until)) if now >= from && now < until => {
                if now.since(from) < until.since(from).divided(2) {
                    return Err(Trouble::new("reading the directory", "connection refused").into());
                }
                Err(refusal("reading the directory", &Reply { status: 503, ..Reply::default() }).into())
            }
            _ => Ok(()),
        }
    }

    fn take(&mut self, limit: Limit, whose: u32, now: Unix) -> Result<(), Failure> {
        let (at_once, each) = limit.rate();
        let empty_at = self.buckets.get(&(limit, whose)).copied().unwrap_or(now).max(now);
        let free_at = empty_at.minus(each.times(at_once - 1));
        if free_at <= now {
            self.buckets.insert((limit, whose), empty_at.plus(each));
            return Ok(());
        }
        self.refused += 1;
        let (status, wait) = match limit {
            Limit::NewNonce => (503, Span::secs(10)),
            _ => (429, free_at.since(now)),
        };
        let body = r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many"}"#;
        let reply = Reply { status, body: body.into(), retry_after: Some(wait), ..Reply::default() };
        Err(refusal("placing the order", &reply).into())
    }
}
