//! Many devices and one CA, in no time: each device takes the steps that the real rules name, and remembers what they say;
//! an order takes its five seconds, and nobody's key, socket or disk is asked.
#![allow(dead_code, reason = "the test has an event that the program has not")]

pub mod ca;
pub mod chart;
#[path = "../fake/xorshift.rs"]
mod xorshift;

use ca::{Ca, Demand};
use edgemd::rules::acme::advice::{self, Hint};
use edgemd::rules::crowd::{self, LONGEST, Start};
use edgemd::rules::plan::{self, THROW};
use edgemd::words::cert::{Held, KeyKind, Outcome, Step, Tried, Want, Window};
use edgemd::words::name::{Labels, Name};
use edgemd::words::time::{Span, Unix};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use xorshift::Xorshift;

/// 2027-01-15T08:00:00Z.
pub const BEGIN: Unix = Unix::from_secs(1_800_000_000);

/// The calm before.
const AFTER: Span = Span::days(1);

/// A device looks at everything at least so often, and an order takes so long.
const LOOK: Span = Span::hours(12);
const ORDER: Span = Span::secs(5);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The CA is away for a day: half of it without a sound, half of it with a 503 that does not say for how long.
    Outage,
    /// The CA wants every certificate that there is to be replaced now.
    Revocation,
    /// Everybody is without power for eight hours, and starts within the same minute.
    PowerReturn,
    /// All are new, start within the same minute, and have their names under one domain of their vendor's.
    FirstStart,
}

impl Event {
    /// Those that any fleet has to stand.
    pub const MASS: [Self; 3] = [Self::Outage, Self::Revocation, Self::PowerReturn];

    fn lasts(self) -> Span {
        match self {
            Self::Outage => Span::days(1),
            Self::Revocation | Self::FirstStart => Span::ZERO,
            Self::PowerReturn => Span::hours(8),
        }
    }

    /// How long it is looked at.
    fn echoes(self) -> Span {
        match self {
            Self::FirstStart => Span::days(50),
            _ => Span::days(5),
        }
    }
}

struct Device {
    held: Vec<Held>,
    tried: Tried,
    start: Option<Start>,
    /// Before this moment there is no power.
    up_at: Unix,
    /// Whether the event has kept it from a certificate that it needs.
    held_up: bool,
    expired: bool,
}

/// What came of it.
pub struct Record {
    pub event: Event,
    /// Requests that arrived at the CA, in spans of this length from [`BEGIN`] on.
    pub span: Span,
    pub requests: Vec<u32>,
    /// The event, and when all that it held up was made up for.
    pub from: Unix,
    pub until: Unix,
    pub made_up: Unix,
    pub held_up: usize,
    /// Devices without a valid certificate in the end, and those that were without one in between.
    pub lost: usize,
    pub expired: usize,
    pub refused: u32,
}

impl Record {
    /// In requests per second, from the end of the event on: the mean until all is made up for, of one hour at least, so
    /// that nothing is excused by being short; and the peak of all that follows.
    pub fn mean_and_peak(&self) -> (f64, f64) {
        let place = |at: Unix| usize::try_from(at.since(BEGIN).as_secs() / self.span.as_secs()).unwrap();
        let after = &self.requests[place(self.until)..];
        let end = self.made_up.max(self.until.plus(Span::hours(1)));
        let busy = &after[..place(end) + 1 - place(self.until)];
        let secs = self.span.as_secs() as f64;
        let mean = busy.iter().map(|n| f64::from(*n)).sum::<f64>() / busy.len() as f64 / secs;
        (mean, f64::from(*after.iter().max().unwrap()) / secs)
    }
}

/// Half of the devices have certificates of 90 days, half of them of 160 hours.
pub fn run(event: Event, devices: u32, span: Span) -> Record {
    let until = BEGIN.plus(AFTER).plus(event.lasts());
    let mut fleet = Fleet::new(event, devices, span, until);
    for device in 0..devices {
        fleet.furnish(device);
    }
    fleet.live_until(until);
    fleet.happen(event, until);
    fleet.live_until(until.plus(event.echoes()));
    fleet.close(event, until)
}

fn life_of(device: u32) -> Span {
    if device.is_multiple_of(2) { Span::days(90) } else { Span::hours(160) }
}

struct Fleet {
    want: Want,
    devices: Vec<Device>,
    /// Who is awake when. A device may be in it more than once; looking too often does no harm.
    wakes: BinaryHeap<Reverse<(Unix, u32)>>,
    ca: Ca,
    dice: Dice,
    held_up: usize,
    made_up: Unix,
    off_from: Option<Unix>,
    up_from: Unix,
}

impl Fleet {
    fn new(event: Event, devices: u32, span: Span, until: Unix) -> Self {
        let from = BEGIN.plus(AFTER);
        let ca = Ca::new(span, (event == Event::Outage).then_some((from, until)));
        let off_from = (event == Event::PowerReturn).then_some(from);
        let name = Name::parse("router.example.org", Labels::Two).unwrap();
        let want = Want {
            md: name.clone(),
            names: vec![name],
            kind: KeyKind::P256,
            cas: vec![ca::DIRECTORY.into()],
            failover: 5,
            must_staple: false,
            window: Window::Percent(33),
            ari: true,
            driven: true,
            activation: Span::ZERO,
            tells: false,
            forced: false,
            revoked: false,
            retry: Span::secs(30),
            fingerprint: [0; 8],
        };
        let devices = Vec::with_capacity(devices as usize);
        let (wakes, dice) = (BinaryHeap::new(), Dice(Xorshift(0x2545_f491_4f6c_dd1d)));
        Self { want, devices, wakes, ca, dice, held_up: 0, made_up: until, off_from, up_from: until }
    }

    /// A device in the midst of its life: somewhere between two renewals, and between two questions.
    fn furnish(&mut self, device: u32) {
        let life = life_of(device);
        let renewal = ca::centre(life).minus(life.percent(1));
        let age = self.dice.share(renewal);
        let held = self.ca.issue(&self.want, BEGIN.minus(age), life);
        let hint = self.ca.window(&held, BEGIN);
        let mut tried =
            Tried { advice: Some(advice::learn(&held, None, &hint, BEGIN, self.dice.throw())), ..Tried::default() };
        tried.advice.as_mut().unwrap().again = BEGIN.plus(self.dice.share(ca::ASK_AGAIN));
        self.devices.push(Device {
            held: vec![held],
            tried,
            start: None,
            up_at: BEGIN,
            held_up: false,
            expired: false,
        });
        self.wakes.push(Reverse((BEGIN, device)));
    }

    fn live_until(&mut self, end: Unix) {
        while let Some(Reverse((now, device))) = self.wakes.pop_if_before(end) {
            let off = self.off_from.is_some_and(|from| now >= from && now < self.up_from);
            if !off && now >= self.devices[device as usize].up_at {
                let next = self.wake(device, now);
                self.wakes.push(Reverse((next.max(now.plus(Span::millis(1))), device)));
            }
        }
    }

    /// One look of one device: the step that is due, and when the next one is.
    fn wake(&mut self, number: u32, now: Unix) -> Unix {
        let device = &mut self.devices[number as usize];
        device.expired |= device.held.first().is_some_and(|held| held.not_after <= now);
        let imposed = device.tried.imposed.iter().map(|imposed| imposed.until).max();
        let until = crowd::wait(&self.want, &device.held, &device.tried, imposed, device.start, Some(now));
        match plan::decide(&self.want, &device.held, &device.tried, until, Some(now)) {
            Step::Wait { until } => until.min(now.plus(LOOK)),
            Step::Ask => {
                let hint = self.ca.advise(&device.held[0], now);
                self.learn(number, &hint, now);
                now
            }
            Step::Order { .. } => self.order(number, now),
            step => panic!("nobody is told, and everybody has a clock: {step:?}"),
        }
    }

    fn order(&mut self, number: u32, now: Unix) -> Unix {
        let device = &mut self.devices[number as usize];
        let demand = Demand { device: number, replaces: device.held.first(), life: life_of(number) };
        match self.ca.order(&self.want, &demand, now) {
            Ok(held) => {
                let now = now.plus(ORDER);
                device.tried = plan::settle(&self.want, &device.tried, &Outcome::Ordered, now, 0);
                device.held = vec![held];
                if std::mem::take(&mut device.held_up) {
                    self.made_up = self.made_up.max(now);
                }
                // The question rides on the order's line.
                let hint = self.ca.advise(&self.devices[number as usize].held[0], now);
                self.learn(number, &hint, now);
                now
            }
            Err(failure) => {
                let throw = self.dice.below(THROW);
                device.tried = plan::settle(&self.want, &device.tried, &Outcome::OrderFailed(failure), now, throw);
                now
            }
        }
    }

    fn learn(&mut self, number: u32, hint: &Hint, now: Unix) {
        let throw = self.dice.throw();
        let device = &mut self.devices[number as usize];
        let advice = advice::learn(&device.held[0], device.tried.advice.as_ref(), hint, now, throw);
        device.tried.advice = Some(advice);
    }

    /// The event is over, or is here.
    fn happen(&mut self, event: Event, now: Unix) {
        if event == Event::Revocation {
            self.ca.revoke_all(now);
        }
        self.ca.one_domain = event == Event::FirstStart;
        for number in 0..self.devices.len() {
            let minute = self.dice.share(Span::mins(1));
            let thrown = Span::millis(u64::from(self.dice.below(u32::try_from(LONGEST.as_millis()).unwrap())));
            let device = &mut self.devices[number];
            let due = plan::why(&self.want, device.held.first(), &device.tried, now).is_some();
            device.held_up = due || (event == Event::Revocation && device.held[0].since < now);
            if event == Event::FirstStart {
                (device.held, device.tried, device.held_up) = (vec![], Tried::default(), true);
            }
            if matches!(event, Event::PowerReturn | Event::FirstStart) {
                device.up_at = now.plus(minute);
                device.start = Some(Start { at: device.up_at, thrown });
                // What stood in memory.
                device.tried.advice = None;
                self.wakes.push(Reverse((device.up_at, u32::try_from(number).unwrap())));
            }
            self.held_up += usize::from(device.held_up);
        }
    }

    fn close(self, event: Event, until: Unix) -> Record {
        let end = until.plus(event.echoes());
        let count = |is: fn(&Device, Unix) -> bool| self.devices.iter().filter(|device| is(device, end)).count();
        let lost = count(|device, end| device.held.first().is_none_or(|held| held.not_after <= end) || device.held_up);
        let expired = count(|device, _| device.expired);
        Record {
            event,
            span: self.ca.span,
            from: BEGIN.plus(AFTER),
            until,
            made_up: self.made_up,
            held_up: self.held_up,
            lost,
            expired,
            refused: self.ca.refused,
            requests: self.ca.requests,
        }
    }
}

trait PopIf {
    fn pop_if_before(&mut self, end: Unix) -> Option<Reverse<(Unix, u32)>>;
}

impl PopIf for BinaryHeap<Reverse<(Unix, u32)>> {
    fn pop_if_before(&mut self, end: Unix) -> Option<Reverse<(Unix, u32)>> {
        self.peek().is_some_and(|Reverse((at, _))| *at < end).then(|| self.pop())?
    }
}

struct Dice(Xorshift);

impl Dice {
    fn throw(&mut self) -> u32 {
        u32::try_from(self.0.throw() >> 32).unwrap()
    }

    fn below(&mut self, bound: u32) -> u32 {
        u32::try_from((u64::from(self.throw()) * u64::from(bound)) >> 32).unwrap()
    }

    fn share(&mut self, span: Span) -> Span {
        let part = (u128::from(span.as_millis()) * u128::from(self.throw())) >> 32;
        Span::millis(u64::try_from(part).unwrap())
    }
}
