//! What keeps a crowd from a CA's door: of the many certificates that one device may have, and of the many devices that
//! start together when power or the time comes back.

use crate::rules::plan::decide;
use crate::words::cert::{Held, Step, Tried, Want, Why};
use crate::words::time::{Span, Unix};

/// Until when a want waits: as `imposed`, and longer where a start holds back the step that would be next. [`decide`] under
/// this says what there is to do meanwhile.
pub fn wait(
    want: &Want,
    held: &[Held],
    tried: &Tried,
    imposed: Option<Unix>,
    start: Option<Start>,
    now: Option<Unix>,
) -> Option<Unix> {
    let (Some(start), Some(at)) = (start, now) else { return imposed };
    imposed.max(start.holds(&decide(want, held, tried, imposed, now), held.first(), at))
}

/// The orders of this device at one CA, as a bucket that leaks.
#[derive(Clone, Copy, Default)]
pub struct Orders {
    empty_at: Unix,
}

/// So many at once, then one in this time: in no three hours more than the 300 that Let's Encrypt takes from an account,
/// however it counts them; and there is some left for one that starts anew.
const AT_ONCE: u64 = 100;
const PACE: Span = Span::secs(54);

impl Orders {
    pub fn began(&mut self, now: Unix) {
        self.empty_at = self.empties(now).plus(PACE);
    }

    /// The next one does not begin before this moment.
    pub fn free_at(self, now: Unix) -> Unix {
        self.empties(now).minus(PACE.times(AT_ONCE - 1))
    }

    /// What is fuller than it can be was filled by another clock.
    fn empties(self, now: Unix) -> Unix {
        if self.empty_at.since(now) > PACE.times(AT_ONCE) { now } else { self.empty_at.max(now) }
    }
}

/// The moment from which a daemon that has started can work, and what it threw then: less than [`LONGEST`].
#[derive(Clone, Copy)]
pub struct Start {
    pub at: Unix,
    pub thrown: Span,
}

/// How long what is urgent waits after a start.
pub const LONGEST: Span = Span::secs(30);

/// What is not waits so many times as long, but not longer than this part of what is left of the certificate.
const CALM: u64 = 120;
const PART: u64 = 10;

impl Start {
    /// The end of the wait for this step, if it may not be taken yet.
    fn holds(self, step: &Step, held: Option<&Held>, now: Unix) -> Option<Unix> {
        let calm = self.thrown.times(CALM);
        let wait = match (step, held) {
            (Step::Order { why: Why::Due | Why::Asked }, Some(held)) => {
                calm.min(held.not_after.since(now).divided(PART))
            }
            (Step::Order { .. }, _) => self.thrown,
            (Step::Ask, _) => calm,
            _ => return None,
        };
        let until = self.at.plus(wait);
        // A clock that was set back says nothing of how long ago it was.
        (now >= self.at && now < until).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Unix = Unix::from_secs(1_800_000_000);

    /// Whoever always orders as soon as he may, for two days, after having done nothing or a little.
    #[test]
    fn no_three_hours_see_more_than_300_orders() {
        for rests in [Span::ZERO, Span::mins(20), Span::hours(4)] {
            let (mut orders, mut now, mut all) = (Orders::default(), NOW, vec![]);
            while now < NOW.plus(Span::days(2)) {
                if all.len() % 150 == 149 {
                    now = now.plus(rests);
                }
                now = orders.free_at(now).max(now);
                orders.began(now);
                all.push(now);
            }
            assert_eq!(all[99], NOW, "a hundred MDs are no crowd");
            for (at, first) in all.iter().enumerate() {
                let end = first.plus(Span::hours(3));
                let there = all[at..].iter().take_while(|order| **order < end).count();
                assert!(there <= 300, "{there} orders in the three hours from {first}");
            }
            // The same as a bucket (Let's Encrypt's way): 300, and one more each 36 seconds.
            let (mut full, mut last) = (300_000.0, NOW);
            for order in &all {
                full = f64::min(full + order.since(last).as_millis() as f64 / 36.0, 300_000.0) - 1000.0;
                assert!(full >= 0.0, "the CA refuses at {order}");
                last = *order;
            }
        }
    }

    #[test]
    fn a_clock_that_jumps_delays_nobody_for_long() {
        for jump in [Span::hours(1), Span::hours(30), Span::days(4000)] {
            for then in [NOW.plus(jump), NOW.minus(jump)] {
                let mut orders = Orders::default();
                (0..100).for_each(|_| orders.began(NOW));
                assert_eq!(orders.free_at(NOW), NOW.plus(PACE));
                assert!(orders.free_at(then) <= then.plus(Span::mins(90)));
                orders.began(then);
                assert!(orders.free_at(then) <= then.plus(Span::mins(90)));
            }
        }
    }

    #[test]
    fn what_is_not_urgent_waits_longer_after_a_start() {
        let order = |why: Why| Step::Order { why };
        let left = |left: Span| Held { since: NOW, ..Held::sample(vec![], NOW.minus(Span::days(1)), NOW.plus(left)) };
        let start = Start { at: NOW, thrown: Span::secs(15) };
        let wait = |step: Step, held: Option<&Held>| start.holds(&step, held, NOW).map(|until| until.since(NOW));
        let (plenty, little, nothing) = (left(Span::days(3)), left(Span::mins(50)), left(Span::ZERO));
        for why in [Why::Due, Why::Asked] {
            assert_eq!(wait(order(why), Some(&plenty)), Some(Span::mins(30)));
            assert_eq!(wait(order(why), Some(&little)), Some(Span::mins(5)), "none may end meanwhile");
            assert_eq!(wait(order(why), Some(&nothing)), None);
        }
        assert_eq!(wait(Step::Ask, Some(&plenty)), Some(Span::mins(30)));
        assert_eq!(wait(order(Why::Missing), None), Some(Span::secs(15)));
        for why in [Why::Expired, Why::Renamed, Why::OtherCa] {
            assert_eq!(wait(order(why), Some(&plenty)), Some(Span::secs(15)));
        }
        for step in [Step::Tell, Step::NoClock, Step::Wait { until: NOW }] {
            assert_eq!(wait(step, Some(&plenty)), None);
        }
        let later = |now: Unix| start.holds(&Step::Ask, None, now);
        let until = NOW.plus(Span::mins(30));
        assert_eq!(later(until.minus(Span::millis(1))), Some(until));
        assert_eq!(later(until), None);
        assert_eq!(later(NOW.minus(Span::millis(1))), None, "the clock was set back");
    }

    #[test]
    fn a_start_holds_a_first_order_back_and_no_longer_wait_ends_with_it() {
        use crate::words::config::Md;
        use crate::words::fault::Place;
        use crate::words::name::{Labels, Name};
        let name = Name::parse("a.example", Labels::Two).unwrap();
        let md = Md { tls_arrives: true, ..Md::plain(name, Place { file: "f".into(), line: 1, column: 1 }) };
        let want = Want { driven: true, ..md.wants([1; 8]).next().unwrap() };
        let start = Some(Start { at: NOW, thrown: Span::secs(15) });
        let until = |imposed: Option<Unix>, start: Option<Start>, now: Option<Unix>| {
            wait(&want, &[], &Tried::default(), imposed, start, now)
        };
        let (soon, late) = (NOW.plus(Span::secs(1)), NOW.plus(Span::hours(1)));
        assert_eq!(until(None, start, Some(NOW)), Some(NOW.plus(Span::secs(15))));
        assert_eq!(until(None, None, Some(NOW)), None);
        assert_eq!(until(None, start, None), None, "nothing is ordered without a clock");
        // While the CA wants to be left alone there is no order to be held back.
        for imposed in [soon, late] {
            assert_eq!(until(Some(imposed), start, Some(NOW)), Some(imposed));
            assert_eq!(until(Some(imposed), None, Some(NOW)), Some(imposed));
        }
    }
}
