//! A clock whose hands a test turns: naps advance it, nobody waits.

use super::locked;
use edgemd::doors::clock::{Clock, Knock};
use edgemd::words::time::{Span, Unix};
use std::sync::{Arc, Mutex};

#[derive(Clone)]
pub struct Hands(Arc<Mutex<Inner>>);

struct Inner {
    wall: Option<Unix>,
    steady: Span,
    /// The earliest first.
    script: Vec<(Span, Deed)>,
    naps: u32,
    /// Naps in a row during which no time passed.
    stuck: u32,
}

enum Deed {
    Knock(Knock),
    Jump(Option<Unix>),
    Do(Box<dyn FnOnce() + Send>),
}

impl Hands {
    /// `None` is a machine without a clock.
    pub fn at(wall: Option<Unix>) -> Self {
        Self(Arc::new(Mutex::new(Inner { wall, steady: Span::ZERO, script: Vec::new(), naps: 0, stuck: 0 })))
    }

    /// Time passes.
    pub fn turn(&self, span: Span) {
        locked(&self.0).pass(span);
    }

    /// Somebody sets the clock; no time passes.
    pub fn jump(&self, wall: Option<Unix>) {
        locked(&self.0).wall = wall;
    }

    /// Somebody will knock after this much time, and so end the nap that it falls into.
    pub fn knock_in(&self, span: Span, knock: Knock) {
        locked(&self.0).plan(span, Deed::Knock(knock));
    }

    /// Somebody will set the clock after this much time; a nap that it falls into goes on.
    pub fn jump_in(&self, span: Span, wall: Option<Unix>) {
        locked(&self.0).plan(span, Deed::Jump(wall));
    }

    /// Something will happen after this much time, in the midst of a nap.
    pub fn do_in(&self, span: Span, deed: impl FnOnce() + Send + 'static) {
        locked(&self.0).plan(span, Deed::Do(Box::new(deed)));
    }

    /// Nothing of what was planned will happen.
    pub fn forget(&self) {
        locked(&self.0).script.clear();
    }

    pub fn naps(&self) -> u32 {
        locked(&self.0).naps
    }
}

impl Inner {
    fn plan(&mut self, span: Span, deed: Deed) {
        let at = self.steady.plus(span);
        let place = self.script.partition_point(|(other, _)| *other <= at);
        self.script.insert(place, (at, deed));
    }

    fn pass(&mut self, span: Span) {
        self.steady = self.steady.plus(span);
        self.wall = self.wall.map(|wall| wall.plus(span));
    }
}

impl Clock for Hands {
    fn now(&self) -> Option<Unix> {
        locked(&self.0).wall
    }

    fn steady(&self) -> Span {
        locked(&self.0).steady
    }

    /// Like the real one never longer than an hour.
    fn nap(&mut self, span: Span) -> Knock {
        let mut inner = locked(&self.0);
        inner.naps += 1;
        let start = inner.steady;
        let end = start.plus(span.min(Span::hours(1)));
        while inner.script.first().is_some_and(|(at, _)| *at <= end) {
            let (at, deed) = inner.script.remove(0);
            let span = at.minus(inner.steady);
            inner.pass(span);
            match deed {
                Deed::Knock(knock) => {
                    inner.stuck = 0;
                    return knock;
                }
                Deed::Jump(wall) => inner.wall = wall,
                Deed::Do(deed) => deed(),
            }
        }
        let rest = end.minus(inner.steady);
        inner.pass(rest);
        inner.stuck = if inner.steady > start { 0 } else { inner.stuck + 1 };
        assert!(inner.stuck < 10_000, "a busy loop: ten thousand naps in a row without any time passing");
        Knock::Nobody
    }
}
