//! Seats: how many connections are open at once. The number can change while they are taken; nobody is sent away.

use smol::lock::Semaphore;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

pub struct Seats {
    free: Arc<Semaphore>,
    count: Cell<usize>,
    /// Taken ones that are no more when they are left.
    surplus: Cell<usize>,
}

/// Left when it is dropped.
pub struct Seat(Rc<Seats>);

impl Seats {
    pub fn new(count: usize) -> Rc<Self> {
        let free = Arc::new(Semaphore::new(count));
        Rc::new(Self { free, count: Cell::new(count), surplus: Cell::new(0) })
    }

    /// Waits for a free one.
    pub async fn take(self: &Rc<Self>) -> Seat {
        self.free.acquire_arc().await.forget();
        Seat(self.clone())
    }

    /// From now on there are so many.
    pub fn change(&self, count: usize) {
        let before = self.count.replace(count);
        let more = count.saturating_sub(before);
        let kept = more.min(self.surplus.get());
        self.free.add_permits(more - kept);
        let mut less = before.saturating_sub(count);
        while less > 0
            && let Some(seat) = self.free.try_acquire_arc()
        {
            seat.forget();
            less -= 1;
        }
        self.surplus.set(self.surplus.get() - kept + less);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        match self.0.surplus.get() {
            0 => self.0.free.add_permits(1),
            more => self.0.surplus.set(more - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smol::future::{FutureExt, block_on, ready};

    #[test]
    fn the_number_changes_under_those_who_sit() {
        let seats = Seats::new(2);
        let take = || block_on(async { Some(seats.take().await) }.or(ready(None)));
        let (first, second) = (take().unwrap(), take().unwrap());
        assert!(take().is_none());
        seats.change(4);
        let third = take().unwrap();
        // One of the four is free, three are taken: two of these are no more when they are left.
        seats.change(1);
        assert!(take().is_none());
        drop(first);
        assert!(take().is_none());
        seats.change(2);
        assert!(take().is_none(), "two are taken still");
        drop(second);
        let second = take().unwrap();
        assert!(take().is_none());
        drop((second, third));
        assert!(take().is_some());
        let all: Vec<_> = (0..3).map(|_| take()).collect();
        assert_eq!(all.iter().flatten().count(), 2);
    }
}
