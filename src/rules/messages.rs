//! Messages: how often each event may be said of an MD, and when a certificate is to be warned of.

use crate::rules::plan;
use crate::words::cert::{Backoff, Fingerprint, Held, Window};
use crate::words::config::Challenge;
use crate::words::fault::{Failure, Trouble};
use crate::words::message::{Said, Topic};
use crate::words::name::Name;
use crate::words::time::{Span, Unix};

/// At most once in this time.
const PAUSES: [(Topic, Span); 8] = [
    (Topic::Renewing, Span::hours(1)),
    (Topic::ChallengeSetup, Span::ZERO),
    (Topic::Renewed, Span::hours(24)),
    (Topic::Installed, Span::hours(24)),
    (Topic::Expiring, Span::hours(24)),
    (Topic::Errored, Span::hours(1)),
    (Topic::OcspRenewed, Span::hours(24)),
    (Topic::OcspErrored, Span::hours(1)),
];

/// Whether this may be said now.
pub fn may(topic: Topic, said: &Said, now: Unix) -> bool {
    again(topic, said, now).is_none()
}

/// The moment, still to come, from which this may be said again.
fn again(topic: Topic, said: &Said, now: Unix) -> Option<Unix> {
    let (_, pause) = PAUSES.iter().find(|(known, _)| *known == topic)?;
    // What was said in the future was noted by another clock.
    let last = said.last.get(&topic).filter(|last| **last <= now)?;
    Some(last.plus(*pause)).filter(|again| *again > now)
}

/// Whether it counts as said although the command did not take it: what it says is owed to nobody.
pub fn is_passing(topic: Topic) -> bool {
    matches!(topic, Topic::Installed | Topic::Errored | Topic::OcspRenewed | Topic::OcspErrored)
}

/// `challenge-setup:http-01:example.org`.
pub fn setup(challenge: Challenge, name: &Name) -> String {
    format!("{}:{}:{name}", Topic::ChallengeSetup.word(), challenge.word())
}

/// When this certificate is to be warned of next: at once if the moment is not ahead of `now`. A warning is owed once a
/// day from the beginning of the window, whether or not the certificate has ended; one that the command did not take is
/// tried again before.
pub fn warn_at(held: &Held, window: Window, said: &Said, fingerprint: Fingerprint, now: Unix) -> Unix {
    let owed = plan::pending(said.warning_for(fingerprint).until, now);
    let from = held.not_after.minus(plan::tail(held, window));
    [again(Topic::Expiring, said, now), owed].into_iter().flatten().fold(from, Unix::max)
}

/// What to remember of a warning. `retry` and `throw` are those of [`plan::settle`].
pub fn warned(
    said: &Said,
    came: Result<(), Trouble>,
    fingerprint: Fingerprint,
    retry: Span,
    now: Unix,
    throw: u32,
) -> Said {
    let mut next = Said { fingerprint, warning: said.warning_for(fingerprint), ..said.clone() };
    match came {
        Ok(()) => {
            next.last.insert(Topic::Expiring, now);
            next.warning = Backoff::default();
        }
        Err(trouble) => next.warning = plan::failed(&next.warning, &Failure::Trouble(trouble), retry, now, throw),
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Unix = Unix::from_secs(1_800_000_000);

    fn said(topic: Topic, at: Unix) -> Said {
        Said { last: [(topic, at)].into(), ..Said::default() }
    }

    #[test]
    fn each_event_has_its_word_and_its_pause() {
        let hour = Span::hours(1);
        for (topic, word, pause, passing) in [
            (Topic::Renewing, "renewing", hour, false),
            (Topic::ChallengeSetup, "challenge-setup", Span::ZERO, false),
            (Topic::Renewed, "renewed", hour.times(24), false),
            (Topic::Installed, "installed", hour.times(24), true),
            (Topic::Expiring, "expiring", hour.times(24), false),
            (Topic::Errored, "errored", hour, true),
            (Topic::OcspRenewed, "ocsp-renewed", hour.times(24), true),
            (Topic::OcspErrored, "ocsp-errored", hour, true),
        ] {
            assert_eq!((topic.word(), is_passing(topic)), (word, passing));
            assert_eq!(topic.entry(), format!("message-{word}"));
            assert!(may(topic, &Said::default(), NOW), "{word}: never said");
            let said = said(topic, NOW);
            assert_eq!(may(topic, &said, NOW), pause.is_zero(), "{word}");
            assert!(may(topic, &said, NOW.plus(pause)), "{word}");
            assert_eq!(may(topic, &said, NOW.plus(pause).minus(Span::millis(1))), pause.is_zero(), "{word}");
            assert!(may(topic, &said, NOW.minus(Span::days(1))), "{word}: the clock was set back");
            for other in PAUSES.map(|(other, _)| other) {
                assert!(other == topic || may(other, &said, NOW), "{word} is no {}", other.word());
            }
        }
        let name = Name::parse("a.example", crate::words::name::Labels::Two).unwrap();
        assert_eq!(setup(Challenge::Http01, &name), "challenge-setup:http-01:a.example");
    }

    fn held(from: Unix, until: Unix) -> Held {
        Held::sample(vec![], from, until)
    }

    #[test]
    fn a_warning_comes_with_the_window_and_then_once_a_day() {
        let held = held(NOW, NOW.plus(Span::days(90)));
        let from = NOW.plus(Span::days(81));
        let at = |said: &Said, now| warn_at(&held, Window::Percent(10), said, [1; 8], now);
        assert_eq!(at(&Said::default(), NOW), from);
        assert_eq!(at(&Said::default(), from), from);
        let expired = held.not_after.plus(Span::days(3));
        assert!(at(&Said::default(), expired) <= expired);
        let said = warned(&Said::default(), Ok(()), [1; 8], Span::secs(30), from, 0);
        assert_eq!(at(&said, from), from.plus(Span::days(1)));
        assert!(at(&said, from.plus(Span::days(1))) <= from.plus(Span::days(1)));
        // A window as long as the life would warn of every certificate.
        assert_eq!(
            warn_at(&held, Window::Fixed(Span::days(400)), &Said::default(), [1; 8], NOW),
            NOW.plus(Span::days(45))
        );
    }

    #[test]
    fn a_warning_that_was_not_taken_is_owed_with_back_off() {
        let held = held(NOW.minus(Span::days(89)), NOW.plus(Span::days(1)));
        let mut said = Said::default();
        let fails = || Err(Trouble::new("running x", "exited with 1"));
        for (failures, secs) in [(1, 30), (2, 60), (3, 120)] {
            said = warned(&said, fails(), [1; 8], Span::secs(30), NOW, 500);
            assert_eq!(said.warning.failures, failures);
            let again = warn_at(&held, Window::Percent(10), &said, [1; 8], NOW);
            assert_eq!(again, NOW.plus(Span::secs(secs)));
        }
        assert!(warn_at(&held, Window::Percent(10), &said, [2; 8], NOW) <= NOW, "a changed configuration forgives");
        assert_eq!(warned(&said, fails(), [2; 8], Span::secs(30), NOW, 500).warning.failures, 1);
        said = warned(&said, Ok(()), [1; 8], Span::secs(30), NOW, 500);
        assert_eq!((said.warning.failures, said.last[&Topic::Expiring]), (0, NOW));
    }
}
