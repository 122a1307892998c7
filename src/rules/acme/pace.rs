//! How often a CA is asked "are you done?", without a clock: by counting the rests that were asked for.

use crate::words::time::Span;

const FIRST: Span = Span::millis(100);
const LONGEST: Span = Span::secs(10);
const IN_ALL: Span = Span::mins(5);

/// The rests of one stage of an order.
#[derive(Debug)]
pub struct Pace {
    next: Span,
    spent: Span,
}

impl Default for Pace {
    fn default() -> Self {
        Self { next: FIRST, spent: Span::ZERO }
    }
}

impl Pace {
    /// The rest before the next poll: as the CA `asked`, else ever longer; `None` when the stage's time is used up.
    pub fn rest(&mut self, asked: Option<Span>) -> Option<Span> {
        let rest = asked.filter(|span| *span >= FIRST).unwrap_or(self.next);
        self.next = self.next.times(2).min(LONGEST);
        self.spent = self.spent.plus(rest);
        (self.spent <= IN_ALL).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_double_up_to_ten_seconds_and_end_after_five_minutes() {
        let mut pace = Pace::default();
        let rests: Vec<u64> = core::iter::from_fn(|| pace.rest(None)).map(Span::as_millis).collect();
        assert_eq!(rests[..9], [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(rests.len(), 7 + 28);
        assert!(rests.iter().sum::<u64>() <= 300_000);
        assert_eq!(pace.rest(None), None);
    }

    #[test]
    fn the_ca_may_ask_for_a_pace() {
        let mut pace = Pace::default();
        assert_eq!(pace.rest(Some(Span::secs(3))), Some(Span::secs(3)));
        assert_eq!(pace.rest(None), Some(Span::millis(200)));
        assert_eq!(pace.rest(Some(Span::ZERO)), Some(Span::millis(400)), "nobody is asked without a pause");
        assert_eq!(pace.rest(Some(Span::mins(6))), None);
        let mut pace = Pace::default();
        assert_eq!(core::iter::from_fn(|| pace.rest(Some(Span::secs(1)))).count(), 300);
    }
}
