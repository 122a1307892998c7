//! Seats: how many connections are open at once, in all and from one host; the numbers can change while seats are taken.
//!
//! Most that come in numbers come to sit: they say nothing, or a byte a minute. So a seat that is wanted is taken from
//! somebody for whom we wait, of the host that has the most of them the one who has kept us waiting the longest. Nobody
//! who waits for us is sent away.

use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::{Poll, Waker};
use smol::Task;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

pub struct Seats {
    all: Cell<usize>,
    /// For one host.
    each: Cell<usize>,
    taken: RefCell<Vec<Rc<Chair>>>,
    /// One for each beginning of a wait.
    turns: Cell<u32>,
    /// Who is to be woken when there may be a seat.
    wanting: RefCell<Vec<Waker>>,
    /// Said once: strangers choose how often it happens.
    refused: Cell<bool>,
}

/// Left when it is dropped.
pub struct Seat {
    seats: Rc<Seats>,
    chair: Rc<Chair>,
}

pub struct Chair {
    /// All chairs of a host share it.
    host: Rc<Host>,
    /// Since when we wait for who sits here; `None` while it is the other way round.
    since: Cell<Option<u32>>,
    task: Cell<Option<Task<()>>>,
}

struct Host {
    addr: IpAddr,
    seats: Cell<usize>,
}

impl Seats {
    pub fn new(all: usize, each: usize) -> Rc<Self> {
        Rc::new(Self {
            all: Cell::new(all),
            each: Cell::new(each),
            taken: RefCell::default(),
            turns: Cell::new(0),
            wanting: RefCell::default(),
            refused: Cell::new(false),
        })
    }

    /// A seat, once there is one; `None` for a host that has its share and waits for us on each.
    pub async fn take(self: &Rc<Self>, peer: IpAddr) -> Option<Seat> {
        let addr = host_of(peer);
        let known = || self.taken.borrow().iter().find(|chair| chair.host.addr == addr).map(|chair| chair.host.clone());
        poll_fn(|cx| {
            let host = known().unwrap_or_else(|| Rc::new(Host { addr, seats: Cell::new(0) }));
            while host.seats.get() >= self.each.get() {
                if !self.send_away(Some(&host)) {
                    self.say_refused(addr);
                    return Poll::Ready(None);
                }
            }
            while self.taken.borrow().len() >= self.all.get() {
                if !self.send_away(None) {
                    self.wanting.borrow_mut().push(cx.waker().clone());
                    return Poll::Pending;
                }
            }
            host.seats.set(host.seats.get() + 1);
            let chair = Rc::new(Chair { host, since: Cell::new(self.turn()), task: Cell::default() });
            self.taken.borrow_mut().push(chair.clone());
            Poll::Ready(Some(Seat { seats: self.clone(), chair }))
        })
        .await
    }

    /// From now on there are so many; those who sit stay.
    pub fn change(&self, all: usize, each: usize) {
        self.all.set(all);
        self.each.set(each);
        self.refused.set(false);
        self.call();
    }

    /// Makes one of those leave for whom we wait, of this host or of all.
    fn send_away(&self, host: Option<&Rc<Host>>) -> bool {
        let may_go = |chair: &Chair| host.is_none_or(|host| Rc::ptr_eq(host, &chair.host));
        let rank = |(at, chair): (usize, &Rc<Chair>)| {
            Some((chair.host.seats.get(), self.turns.get().wrapping_sub(chair.since.get()?), at))
        };
        let taken = self.taken.borrow();
        let chosen = taken.iter().enumerate().filter(|(_, chair)| may_go(chair)).filter_map(rank).max();
        drop(taken);
        let Some((_, _, at)) = chosen else { return false };
        // The task ends with this, and the connection with it.
        self.leave(at).task.take();
        true
    }

    fn leave(&self, at: usize) -> Rc<Chair> {
        let chair = self.taken.borrow_mut().swap_remove(at);
        chair.host.seats.set(chair.host.seats.get().saturating_sub(1));
        chair
    }

    fn turn(&self) -> Option<u32> {
        let turn = self.turns.get();
        self.turns.set(turn.wrapping_add(1));
        Some(turn)
    }

    fn call(&self) {
        for waker in self.wanting.take() {
            waker.wake();
        }
    }

    fn say_refused(&self, host: IpAddr) {
        if !self.refused.replace(true) {
            let each = self.each.get();
            log::warn!("{host} has {each} connections (MaxConnectionsPerHost): more are refused, which is said once");
        }
    }
}

impl Seat {
    /// What is done with this connection; to hold it is to be able to end it.
    pub fn chair(&self) -> Rc<Chair> {
        self.chair.clone()
    }

    /// From here on we wait for who sits here.
    pub fn waits(&self) {
        self.chair.since.set(self.seats.turn());
        self.seats.call();
    }

    /// From here on it is the other way round.
    pub fn works(&self) {
        self.chair.since.set(None);
    }

    pub fn turns(&self, waits: bool) {
        if waits { self.waits() } else { self.works() }
    }
}

impl Chair {
    pub fn hold(&self, task: Task<()>) {
        self.task.set(Some(task));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let at = self.seats.taken.borrow().iter().position(|chair| Rc::ptr_eq(chair, &self.chair));
        // Who was sent away sits here no more.
        let Some(at) = at else { return };
        if let Some(task) = self.seats.leave(at).task.take() {
            task.detach();
        }
        self.seats.call();
    }
}

/// Whoever has one address of IPv6 has the 2^64 beside it, too.
fn host_of(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smol::LocalExecutor;
    use smol::future::{FutureExt, block_on, pending, ready};

    /// Tries once.
    fn take(seats: &Rc<Seats>, host: &str) -> Option<Seat> {
        let peer = host.parse().unwrap();
        block_on(async { seats.take(peer).await }.or(ready(None)))
    }

    #[test]
    fn the_number_changes_under_those_who_sit() {
        let seats = Seats::new(2, 9);
        let working = |host: &str| take(&seats, host).inspect(Seat::works);
        let (first, second) = (working("::1").unwrap(), working("::1").unwrap());
        assert!(working("::1").is_none());
        seats.change(4, 9);
        let third = working("::1").unwrap();
        seats.change(1, 9);
        assert!(working("::1").is_none());
        drop(first);
        assert!(working("::1").is_none());
        seats.change(2, 9);
        assert!(working("::1").is_none(), "two are taken still");
        drop(second);
        let second = working("::1").unwrap();
        assert!(working("::1").is_none());
        drop((second, third));
        let all: Vec<_> = (0..3).map(|_| working("::1")).collect();
        assert_eq!(all.iter().flatten().count(), 2);
    }

    #[test]
    fn a_host_has_its_share_and_no_more() {
        let seats = Seats::new(9, 2);
        let _two = [take(&seats, "2001:db8::1").unwrap(), take(&seats, "2001:db8::2").unwrap()].map(|s| (s.works(), s));
        assert!(take(&seats, "2001:db8::3").is_none(), "all of them are one host");
        let elsewhere = take(&seats, "2001:db8:0:1::1").unwrap();
        elsewhere.works();
        let _more: Vec<Seat> = (0..5).map(|n| take(&seats, &format!("192.0.2.{n}")).unwrap()).collect();
    }

    /// Who gets up when another one wants to sit: each is named by its host and a letter.
    #[test]
    fn the_longest_wait_of_the_largest_crowd_ends() {
        let executor = LocalExecutor::new();
        let seats = Seats::new(5, 3);
        let up = Rc::new(RefCell::new(vec![]));
        let sit = |name: &'static str, host: &str| {
            let seat = take(&seats, host)?;
            struct GetsUp(&'static str, Rc<RefCell<Vec<&'static str>>>);
            impl Drop for GetsUp {
                fn drop(&mut self) {
                    self.1.borrow_mut().push(self.0);
                }
            }
            let (chair, gone) = (seat.chair(), GetsUp(name, up.clone()));
            let seat = Rc::new(seat);
            let kept = seat.clone();
            chair.hold(executor.spawn(async move {
                let _both = (kept, gone);
                pending::<()>().await;
            }));
            Some(Rc::downgrade(&seat))
        };
        let gone = || {
            while executor.try_tick() {}
            up.take()
        };
        let (crowd, other) = ("192.0.2.1", "192.0.2.2");
        let a = sit("a", crowd).unwrap();
        sit("b", crowd).unwrap();
        let c = sit("c", crowd).unwrap();
        assert_eq!(gone(), [""; 0]);
        // It has its share: it makes room for itself.
        sit("d", crowd).unwrap();
        assert_eq!(gone(), ["a"]);
        assert!(a.upgrade().is_none());
        sit("x", other).unwrap();
        sit("y", other).unwrap();
        assert_eq!(gone(), [""; 0], "all are taken");
        // Of the largest crowd, not of all; and not whom we serve.
        sit("z", "192.0.2.3").unwrap();
        assert_eq!(gone(), ["b"]);
        c.upgrade().unwrap().works();
        sit("v", crowd).unwrap();
        assert_eq!(gone(), ["d"]);
        c.upgrade().unwrap().waits();
        sit("w", crowd).unwrap();
        assert_eq!(gone(), ["x"], "of two alike the longest wait");
        // Its wait began anew, behind v's.
        sit("u", crowd).unwrap();
        assert_eq!(gone(), ["v"]);
        assert_eq!(seats.taken.borrow().len(), 5);
        drop(executor);
        assert_eq!(seats.taken.borrow().len(), 0);
    }
}
