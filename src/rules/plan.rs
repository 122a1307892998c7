//! The one function that decides, and the one that learns: [`decide`] names the next step for a want, [`settle`] says
//! what to remember of how it went. Neither reads a clock or throws dice; both come in as values. [`ca`] says whose turn
//! it is where several CAs are configured.

use crate::rules::acme::problem::{Patience, patience};
use crate::rules::served;
use crate::words::cert::{Backoff, Held, Imposed, NEVER, Outcome, Step, Suggested, Tried, Want, Why, Window};
use crate::words::fault::Failure;
use crate::words::time::{Span, Unix};

/// The next step for one want. `imposed` is the end of the longest wait that the CA whose turn it is ([`ca`]) has asked
/// of us, for whichever want it did so. The same values give the same step.
pub fn decide(want: &Want, held: &[Held], tried: &Tried, imposed: Option<Unix>, now: Option<Unix>) -> Step {
    let Some(now) = now else { return Step::NoClock };
    let newest = held.first();
    if tell_at(want, held, tried, now) == Some(now) {
        return Step::Tell;
    }
    match why(want, newest, tried, now) {
        Some(why) if want.driven && order_at(want, newest, tried, imposed, now) <= now => Step::Order { why },
        why => {
            let ask_at = if why.is_none() { ask_at(want, newest, tried, imposed, now) } else { NEVER };
            let until = ask_at.min(acts_at(want, held, tried, imposed, now));
            if ask_at <= now { Step::Ask } else { Step::Wait { until } }
        }
    }
}

/// Whether we had this certificate revoked.
pub fn is_revoked(held: &Held, tried: &Tried) -> bool {
    tried.revoked == Some(held.sha256)
}

/// The next moment at which more is done about a want than asking.
pub fn acts_at(want: &Want, held: &[Held], tried: &Tried, imposed: Option<Unix>, now: Unix) -> Unix {
    let order_at = if want.driven { order_at(want, held.first(), tried, imposed, now) } else { NEVER };
    let activates_at = staged(want, held, tried, Some(now)).map(|(_, at)| at);
    [tell_at(want, held, tried, now), activates_at].into_iter().flatten().fold(order_at, Unix::min)
}

/// When somebody is to be told, if it is owed.
fn tell_at(want: &Want, held: &[Held], tried: &Tried, now: Unix) -> Option<Unix> {
    let owed = want.tells && active(want, held, tried, Some(now)).is_some_and(|held| is_owed(held, tried));
    let own = if tried.fingerprint == want.fingerprint { tried.tell.until } else { None };
    owed.then(|| pending(own, now).unwrap_or(now))
}

/// Whether somebody has yet to hear of this certificate.
pub fn is_owed(held: &Held, tried: &Tried) -> bool {
    tried.owed || tried.told != Some(held.sha256)
}

/// The certificate that is in use, of those that are held (the newest first): the newest one whose activation has come.
/// The first that there ever was is in use at once, and so is one whose forerunner has ended or was revoked; one that was
/// told of stays in use. Without a clock it is the one that was told of.
pub fn active<'a>(want: &Want, held: &'a [Held], tried: &Tried, now: Option<Unix>) -> Option<&'a Held> {
    match staged(want, held, tried, now) {
        Some(_) => held.get(1),
        None => held.first(),
    }
}

/// The newest certificate, if it is not in use yet, and the moment from which it will be.
pub fn staged<'a>(want: &Want, held: &'a [Held], tried: &Tried, now: Option<Unix>) -> Option<(&'a Held, Unix)> {
    let [newest, before, ..] = held else { return None };
    let end = if is_revoked(before, tried) { newest.not_before } else { before.not_after };
    let at = newest.not_before.plus(want.activation).min(end);
    let waits = match now {
        Some(now) => now < at && tried.told != Some(newest.sha256),
        None => tried.told == Some(before.sha256),
    };
    waits.then_some((newest, at))
}

/// The CA whose turn it is: after so many failures the next one of the list gets as many tries, and so on round. A success
/// leaves no failures, so the next renewal begins with the first.
pub fn ca<'a>(want: &'a Want, tried: &Tried) -> &'a str {
    let failures = if tried.fingerprint == want.fingerprint { tried.order.failures } else { 0 };
    let turns = usize::try_from(failures / want.failover.max(1)).unwrap_or(usize::MAX);
    let place = turns.checked_rem(want.cas.len()).unwrap_or(0);
    want.cas.get(place).map_or("", String::as_str)
}

/// When the next order may begin: when it is due, and when neither our own back-off nor the CA forbids it.
fn order_at(want: &Want, held: Option<&Held>, tried: &Tried, imposed: Option<Unix>, now: Unix) -> Unix {
    let due = match (why(want, held, tried, now), held) {
        (Some(Why::Revoked), Some(held)) if !is_revoked(held, tried) => {
            held.since.plus(YOUNG).min(renew_at(want, held, tried)).max(now)
        }
        (Some(_), _) | (_, None) => now,
        (None, Some(held)) => renew_at(want, held, tried),
    };
    let own = if tried.fingerprint == want.fingerprint { tried.order.until } else { None };
    [own, imposed].into_iter().filter_map(|until| pending(until, now)).fold(due, Unix::max)
}

/// So old a certificate must be before one that was revoked by others is replaced: a responder may say so of whatever is issued.
const YOUNG: Span = Span::hours(1);

/// When the CA is to be asked for its window: what is not due needs it. Whoever asked us to wait for orders is left alone.
fn ask_at(want: &Want, held: Option<&Held>, tried: &Tried, imposed: Option<Unix>, now: Unix) -> Unix {
    let Some(held) = held.filter(|held| want.ari && want.driven && !held.authority.is_empty()) else { return NEVER };
    let again = match &tried.advice {
        Some(advice) if advice.sha256 == held.sha256 && advice.again == NEVER => return NEVER,
        Some(advice) if advice.sha256 == held.sha256 => Some(advice.again),
        _ => None,
    };
    [again, imposed].into_iter().filter_map(|until| pending(until, now)).fold(now, Unix::max)
}

/// A wait that lies ahead. One that ends later than any wait we ever agree to was noted by another clock: it is over.
pub fn pending(until: Option<Unix>, now: Unix) -> Option<Unix> {
    until.filter(|until| *until > now && until.since(now) <= LONGEST_WAIT)
}

/// Whether these failures were noted while the clock was ahead; they say nothing of today.
pub fn by_another_clock(backoff: &Backoff, now: Unix) -> bool {
    backoff.last_at.is_some_and(|at| at.since(now) > LONGEST_WAIT)
}

/// A day, and the jitter on top of it.
const LONGEST_WAIT: Span = Span::hours(36);

/// Why a certificate is due, if it is.
pub fn why(want: &Want, held: Option<&Held>, tried: &Tried, now: Unix) -> Option<Why> {
    let Some(held) = held else { return Some(Why::Missing) };
    if held.kind.family() != want.kind.family() {
        Some(Why::OtherKey)
    } else if !held.covers(&want.names) {
        Some(Why::Renamed)
    } else if !want.cas.contains(&held.ca) {
        Some(Why::OtherCa)
    } else if held.must_staple != want.must_staple && held.staple_asked != want.must_staple {
        Some(Why::OtherStaple)
    } else if is_revoked(held, tried) {
        Some(Why::Revoked)
    } else if held.not_after <= now {
        Some(Why::Expired)
    } else if want.forced {
        Some(Why::Forced)
    } else if renew_at(want, held, tried) <= now {
        let asked = suggested(want, held, tried).is_some_and(|window| window.at <= now);
        Some(if asked { Why::Asked } else { Why::Due })
    } else if want.revoked {
        Some(Why::Revoked)
    } else {
        None
    }
}

/// When a certificate is renewed: at the beginning of its window, or when the CA wants it if that is earlier.
pub fn renew_at(want: &Want, held: &Held, tried: &Tried) -> Unix {
    let suggested = suggested(want, held, tried);
    let window = match want.window {
        // A third of six days is no time for a CA that is away; one that has a window of its own knows best.
        USUAL if suggested.is_none() && held.life() < SHORT => Window::Percent(50),
        window => window,
    };
    let own = held.not_after.minus(tail(held, window));
    suggested.map_or(own, |window| window.at.min(own))
}

/// What MDRenewWindow is unless something else is written.
const USUAL: Window = Window::Percent(33);
const SHORT: Span = Span::days(10);

/// The window that the CA has for this certificate, where that counts.
pub fn suggested<'a>(want: &Want, held: &Held, tried: &'a Tried) -> Option<&'a Suggested> {
    let advice = tried.advice.as_ref().filter(|advice| want.ari && advice.sha256 == held.sha256);
    advice?.window.as_ref()
}

/// The end of a certificate's life that lies in the window. One as long as the life would order one certificate after
/// the other without end; it counts as half of it. A life begins when we got it: CAs backdate.
pub fn tail(held: &Held, window: Window) -> Span {
    let tail = window.of(held.life());
    let backdated = held.since.since(held.not_before).min(Span::days(1));
    if tail >= held.life().minus(backdated) { held.life().percent(50) } else { tail }
}

/// The wall clock, if it can be believed: not before `floor` (what is known to have passed), and not twenty years later.
pub fn believe(now: Option<Unix>, floor: Unix) -> Option<Unix> {
    now.filter(|now| *now >= floor && now.since(floor) <= Span::days(20 * 365 + 5))
}

/// What is known to have passed: the build of this program, and the issuance of everything that is held.
pub fn floor<'a>(held: impl Iterator<Item = &'a Held>) -> Unix {
    held.map(|held| held.not_before.min(held.since)).fold(BUILT, Unix::max)
}

/// SOURCE_DATE_EPOCH of the build, else the day of the last release.
const BUILT: Unix = Unix::from_secs(match option_env!("SOURCE_DATE_EPOCH") {
    Some(text) => match u64::from_str_radix(text, 10) {
        Ok(secs) => secs,
        Err(_) => RELEASED,
    },
    None => RELEASED,
});

/// 2026-11-01; raised at each release.
const RELEASED: u64 = 1_793_491_200;

/// Whether a link that comes up ends this wait: one for a lost net does, and so does any other that is not of a moment ago.
pub fn link_ends(backoff: &Backoff, now: Option<Unix>) -> bool {
    let offline = matches!(backoff.last, Some(Failure::Trouble(_)));
    let is_old = now.zip(backoff.last_at).is_some_and(|(now, at)| now.since(at) >= Span::mins(15));
    backoff.until.is_some() && (offline || is_old)
}

/// What to remember after a step. `throw` is an even throw of 0 to [`THROW`]` - 1`: the jitter is fixed here, once.
pub fn settle(want: &Want, tried: &Tried, outcome: &Outcome, now: Unix, throw: u32) -> Tried {
    let mut next = tried.clone();
    next.imposed.retain(|imposed| pending(Some(imposed.until), now).is_some());
    if next.fingerprint != want.fingerprint {
        next.fingerprint = want.fingerprint;
        (next.order, next.tell) = Default::default();
    }
    match outcome {
        Outcome::Ordered => next.order = Backoff::default(),
        Outcome::OrderFailed(failure) => {
            let asked = ca(want, &next);
            next.order = failed(&next.order, failure, want.retry, now, throw);
            if let Failure::Refusal(refusal) = failure
                && let Some(span) = refusal.retry_after
            {
                let span = span.max(Span::secs(1));
                // A CA tells many the same moment: they come in the tenth of the wait that follows it.
                let later = span.divided(10 * u64::from(THROW - 1)).times(throw.into());
                let until = now.plus(span.plus(later).min(Span::hours(24)));
                next.imposed.retain(|imposed| imposed.ca != asked);
                next.imposed.push(Imposed { ca: asked.into(), until });
                // The CA's wait outranks ours in both directions, as long as it is this CA that we wait for; but whoever
                // says "at once" for ever is not believed for ever.
                if ca(want, &next) == asked && (next.order.failures <= HASTY || next.order.until < Some(until)) {
                    next.order.until = Some(until);
                }
            }
        }
        Outcome::Vetoed(trouble) => {
            // No failure of the CA's: it is counted where the other commands are, and the next try is at the end of it.
            next.order.until = Some(now.plus(VETO));
            let until = next.tell.until;
            next.tell = failed(&next.tell, &Failure::Trouble(trouble.clone()), want.retry, now, throw);
            next.tell.until = until;
        }
        Outcome::Notified(sha256) => (next.notified, next.looks) = (Some(*sha256), 0),
        Outcome::Unseen(trouble) => match served::pause(next.looks) {
            Some(pause) => (next.looks, next.tell.until) = (next.looks.saturating_add(1), Some(now.plus(pause))),
            None => {
                // Who does not serve it is notified once more.
                (next.looks, next.notified) = (0, None);
                next.tell = failed(&next.tell, &Failure::Trouble(trouble.clone()), want.retry, now, throw);
            }
        },
        Outcome::Told { sha256, exported } => {
            (next.told, next.owed, next.notified, next.looks) = (Some(*sha256), false, None, 0);
            next.tell = Backoff::default();
            // What was revoked is not in use any more, and takes no room in flash from here on.
            next.revoked = next.revoked.filter(|revoked| revoked == sha256);
            next.exported.clone_from(exported);
        }
        Outcome::TellFailed(trouble) => {
            next.tell = failed(&next.tell, &Failure::Trouble(trouble.clone()), want.retry, now, throw);
        }
    }
    next
}

/// How often a CA may ask us to hurry.
const HASTY: u32 = 5;

/// How long a veto is respected.
const VETO: Span = Span::hours(1);

/// The number of faces of the dice that [`settle`] wants thrown.
pub const THROW: u32 = 1001;

/// One more failure, and the wait that follows it.
pub fn failed(before: &Backoff, failure: &Failure, retry: Span, now: Unix, throw: u32) -> Backoff {
    let counted = if by_another_clock(before, now) { 0 } else { before.failures };
    let failures = counted.saturating_add(1);
    let until = now.plus(back_off(failures, patience(failure), retry, throw));
    Backoff { failures, until: Some(until), last: Some(failure.clone()), last_at: Some(now) }
}

/// `min(retry · 2^(n-1), cap)`, give or take a half.
fn back_off(failures: u32, patience: Patience, retry: Span, throw: u32) -> Span {
    let doublings = failures.saturating_sub(1).min(63);
    let grown = retry.times(1 << doublings);
    let base = match patience {
        Patience::Offline => grown.min(Span::hours(1)),
        Patience::Refused => grown.min(Span::hours(24)),
        Patience::Ours => Span::hours(24),
    };
    base.times(u64::from(500 + throw.min(THROW - 1))).divided(1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::cert::{Advice, KeyKind};
    use crate::words::fault::{Hook, Refusal, Trouble};
    use crate::words::name::{Labels, Name};

    const NOW: Unix = Unix::from_secs(1_800_000_000);
    const CA: &str = "https://ca.example/dir";
    const OTHER: &str = "https://other.example/dir";

    fn name(text: &str) -> Name {
        Name::parse(text, Labels::One).unwrap()
    }

    fn want() -> Want {
        Want {
            md: name("a.example"),
            names: vec![name("a.example")],
            kind: KeyKind::P256,
            cas: vec![CA.into()],
            failover: 5,
            must_staple: false,
            window: Window::Percent(33),
            ari: true,
            driven: true,
            activation: Span::ZERO,
            tells: true,
            revoked: false,
            forced: false,
            retry: Span::secs(30),
            fingerprint: [1; 8],
        }
    }

    fn held(from: Unix, until: Unix) -> Held {
        Held { ca: CA.into(), sha256: [7; 32], ..Held::sample(vec![name("a.example")], from, until) }
    }

    fn wants() -> Vec<Want> {
        let mut all = vec![];
        for (driven, ari) in [(true, true), (true, false), (false, true)] {
            for tells in [true, false] {
                for forced in [true, false] {
                    for window in [Window::Percent(33), Window::Fixed(Span::days(10)), Window::Fixed(Span::days(400))] {
                        for cas in [vec![CA], vec![OTHER], vec![OTHER, CA]] {
                            for names in [vec![name("a.example")], vec![name("a.example"), name("b.example")]] {
                                for kind in [KeyKind::P256, KeyKind::Rsa(2048)] {
                                    all.push(Want {
                                        driven,
                                        ari,
                                        tells,
                                        forced,
                                        window,
                                        cas: cas.iter().map(|ca| (*ca).into()).collect(),
                                        must_staple: names.len() == 2,
                                        revoked: cas.len() == 2,
                                        names: names.clone(),
                                        kind,
                                        ..want()
                                    });
                                }
                            }
                        }
                    }
                }
            }
        }
        all
    }

    #[test]
    fn what_was_revoked_is_due_and_gives_way_to_what_is_staged() {
        let tried = Tried { revoked: Some([7; 32]), ..Tried::default() };
        let why = |want: &Want, held: Held| why(want, Some(&held), &tried, NOW);
        let revoked = || held(day(-1), day(89));
        assert_eq!(why(&want(), revoked()), Some(Why::Revoked));
        assert_eq!(why(&Want { forced: true, ..want() }, revoked()), Some(Why::Revoked));
        assert_eq!(why(&Want { cas: vec![OTHER.into()], ..want() }, revoked()), Some(Why::OtherCa));
        assert_eq!(why(&want(), Held { sha256: [8; 32], ..revoked() }), None, "it was another one");
        let late = Want { activation: Span::days(5), ..want() };
        let newest = Held { sha256: [8; 32], ..held(day(-1), day(89)) };
        for (tried, staged_until) in [(Tried::default(), Some(day(4))), (tried.clone(), None)] {
            let pairs = [newest.clone(), held(day(-80), day(10))];
            let found = staged(&late, &pairs, &tried, Some(NOW)).map(|(_, at)| at);
            assert_eq!(found, staged_until);
        }
    }

    fn day(n: i64) -> Unix {
        let span = Span::days(n.unsigned_abs());
        if n < 0 { NOW.minus(span) } else { NOW.plus(span) }
    }

    fn helds() -> Vec<Vec<Held>> {
        let mut all = vec![vec![]];
        for (from, until) in [(-90, 0), (-95, -5), (-60, 30), (-61, 29), (-1, 89), (-80, 10), (1, 91), (-1, 0)] {
            all.push(vec![held(day(from), day(until))]);
        }
        for must_staple in [true, false] {
            let names = vec![name("*.example")];
            all.push(vec![Held { names, must_staple, staple_asked: true, ..held(day(-1), day(89)) }]);
        }
        all
    }

    fn untils() -> [Option<Unix>; 7] {
        [
            None,
            Some(Unix::default()),
            Some(NOW.minus(Span::millis(1))),
            Some(NOW),
            Some(NOW.plus(Span::millis(1))),
            Some(NOW.plus(Span::hours(36))),
            Some(NOW.plus(Span::days(4000))),
        ]
    }

    fn trieds() -> Vec<Tried> {
        let mut all = vec![];
        for fingerprint in [[1; 8], [2; 8]] {
            for order in untils() {
                for tell in untils().into_iter().step_by(2) {
                    for told in [None, Some([7; 32]), Some([9; 32])] {
                        all.push(Tried {
                            fingerprint,
                            order: Backoff { failures: 3, until: order, ..Backoff::default() },
                            told,
                            tell: Backoff { failures: 1, until: tell, ..Backoff::default() },
                            ..Tried::default()
                        });
                    }
                }
            }
        }
        all
    }

    /// Every value of every edge against every other: what must hold for all of them, not what comes out for each.
    #[test]
    fn the_whole_cross_product_keeps_the_promises() {
        let (mut cases, mut orders, mut tells) = (0_u32, 0_u32, 0_u32);
        for want in wants() {
            for held in helds() {
                for tried in trieds() {
                    for imposed in untils() {
                        cases += 1;
                        match check(&want, &held, &tried, imposed) {
                            Step::Order { .. } => orders += 1,
                            Step::Tell => tells += 1,
                            _ => {}
                        }
                    }
                }
            }
        }
        assert!(cases > 500_000 && orders > 10_000 && tells > 10_000, "{cases} cases, {orders} orders, {tells} tells");
    }

    /// The same for a certificate beside the one before it: every order of the moments at which the one comes into use,
    /// the other ends, and now; whatever was told of.
    #[test]
    fn activation_keeps_the_promises_too() {
        let (mut early, mut late) = (0_u32, 0_u32);
        for activation in [Span::ZERO, Span::days(1), Span::days(2), Span::days(400), Span::millis(u64::MAX)] {
            for (newest, before) in [(-1, -1), (-1, 0), (-1, 1), (-2, 20), (-100, 20), (1, 20), (0, 0)] {
                for want in wants().into_iter().filter(|want| want.window == Window::Percent(33)) {
                    let want = Want { activation, ..want };
                    let newest = Held { sha256: [9; 32], ..held(day(newest), day(newest + 90)) };
                    let held = [newest, held(day(before - 90), day(before))];
                    for (fingerprint, owed) in [([1; 8], false), ([1; 8], true), ([2; 8], false)] {
                        for (told, tell) in
                            [None, Some([7; 32]), Some([9; 32]), Some([5; 32])].into_iter().zip(untils())
                        {
                            let tell = Backoff { until: tell, ..Backoff::default() };
                            let tried = Tried { fingerprint, told, owed, tell, ..Tried::default() };
                            check(&want, &held, &tried, None);
                            let at = activation_of(&want, &held, &tried);
                            if at > NOW { late += 1 } else { early += 1 }
                        }
                    }
                }
            }
        }
        assert!(early > 1000 && late > 1000, "{early} and {late} cases");
    }

    /// What the CA may have said: every window beside every moment of the next question, about this certificate or another.
    fn advices() -> Vec<Option<Advice>> {
        let ahead = |span: Span| Some(NOW.plus(span));
        let moments = [None, Some(day(-3)), Some(NOW), ahead(Span::millis(1)), ahead(Span::days(40))];
        let mut all = vec![None];
        for sha256 in [[7; 32], [8; 32]] {
            for at in moments {
                for again in untils().into_iter().flatten().chain([NEVER]) {
                    let window = at.map(|at| Suggested { start: day(-4), end: day(50), at, explanation: None });
                    all.push(Some(Advice { sha256, window, again, failures: 0, hurried: false }));
                }
            }
        }
        all
    }

    #[test]
    fn the_ca_s_window_keeps_the_promises_too() {
        let (mut asks, mut asked) = (0_u32, 0_u32);
        let advices = advices();
        for want in wants() {
            for held in helds() {
                for authority in [vec![], vec![5]] {
                    let held: Vec<Held> =
                        held.iter().map(|held| Held { authority: authority.clone(), ..held.clone() }).collect();
                    for (advice, order) in advices.iter().zip(untils().into_iter().cycle()) {
                        let (advice, order) = (advice.clone(), Backoff { until: order, ..Backoff::default() });
                        let tried =
                            Tried { fingerprint: [1; 8], told: Some([7; 32]), order, advice, ..Tried::default() };
                        for imposed in untils().into_iter().step_by(4) {
                            let step = check(&want, &held, &tried, imposed);
                            asks += u32::from(step == Step::Ask);
                            asked += u32::from(step == Step::Order { why: Why::Asked });
                            advised(&want, &held, &tried);
                        }
                    }
                }
            }
        }
        assert!(asks > 1000 && asked > 1000, "{asks} asks, {asked} orders because of one");
    }

    /// Whichever is earlier counts, and nobody sleeps through it.
    fn advised(want: &Want, held: &[Held], tried: &Tried) {
        let Some(held) = held.first() else { return };
        let shown = || format!("{want:?}\n{held:?}\n{tried:?}");
        let deaf = Want { ari: false, ..want.clone() };
        let at = tried.advice.as_ref().filter(|advice| want.ari && advice.sha256 == held.sha256);
        let at = at.and_then(|advice| advice.window.as_ref()).map(|window| window.at);
        let own = held.not_after.minus(tail(held, want.window));
        let earlier = at.map_or(renew_at(&deaf, held, tried), |at| at.min(own));
        assert_eq!(renew_at(want, held, tried), earlier, "{}", shown());
        let free = Tried { order: Backoff::default(), ..tried.clone() };
        let step = decide(want, core::slice::from_ref(held), &free, None, Some(NOW));
        if let (Step::Wait { until }, Some(at), true) = (&step, at, want.driven) {
            assert!(*until <= at, "{}", shown());
        }
        if why(&deaf, Some(held), tried, NOW).is_none() && at.is_some_and(|at| at <= NOW) {
            assert_eq!(why(want, Some(held), tried, NOW), Some(Why::Asked), "{}", shown());
        }
    }

    #[test]
    fn a_short_life_is_renewed_at_its_half_unless_the_ca_knows_better() {
        let held = held(NOW, NOW.plus(Span::hours(160)));
        let own = |hours: u64| NOW.plus(Span::hours(hours));
        let suggest = |at: Unix| {
            let window = Some(Suggested { start: own(78), end: own(120), at, explanation: None });
            Tried {
                advice: Some(Advice { sha256: [7; 32], window, again: NEVER, failures: 0, hurried: false }),
                ..Tried::default()
            }
        };
        assert_eq!(renew_at(&want(), &held, &Tried::default()), own(80));
        assert_eq!(renew_at(&want(), &held, &suggest(own(79))), own(79));
        assert_eq!(renew_at(&want(), &held, &suggest(own(100))), own(100));
        let third = held.not_after.minus(held.life().percent(33));
        assert_eq!(renew_at(&want(), &held, &suggest(own(110))), third);
        let written = Want { window: Window::Fixed(Span::days(1)), ..want() };
        assert_eq!(renew_at(&written, &held, &Tried::default()), own(136));
        assert_eq!(
            renew_at(&want(), &Held { not_after: day(10), ..held }, &Tried::default()),
            day(10).minus(Span::days(10).percent(33))
        );
    }

    /// What must hold for a pair of certificates at any time; the moment from which the newer one is in use.
    fn activation_of(want: &Want, held: &[Held], tried: &Tried) -> Unix {
        let at = held[0].not_before.plus(want.activation).min(held[1].not_after);
        let sha256 = |now: Unix| active(want, held, tried, Some(now)).map(|held| held.sha256);
        let told = tried.told == Some(held[0].sha256);
        for now in [NOW, at.minus(Span::millis(1)), at, at.plus(Span::days(500))] {
            let newer = told || now >= at;
            let shown = || format!("{want:?}\n{held:?}\n{tried:?}\n{now}");
            assert_eq!(sha256(now), Some(held[usize::from(!newer)].sha256), "{}", shown());
            assert_eq!(staged(want, held, tried, Some(now)).is_none(), newer, "{}", shown());
            let single = active(want, &held[..1], tried, Some(now));
            assert_eq!(single, Some(&held[0]), "the only one is in use: {}", shown());
            // Whoever waits is awake when it comes into use.
            if let (false, Step::Wait { until }) = (newer, decide(want, held, tried, None, Some(now))) {
                assert!(until <= at, "{}", shown());
            }
        }
        let clockless = active(want, held, tried, None).map(|held| held.sha256);
        assert_eq!(clockless == Some(held[1].sha256), tried.told == Some(held[1].sha256));
        at
    }

    fn check(want: &Want, held: &[Held], tried: &Tried, imposed: Option<Unix>) -> Step {
        let newest = held.first();
        let step = decide(want, held, tried, imposed, Some(NOW));
        let ahead = |until: Option<Unix>| until.is_some_and(|until| until > NOW && until <= NOW.plus(Span::hours(36)));
        let shown = || format!("{want:?}\n{held:?}\n{tried:?}\n{imposed:?}\n{step:?}");
        assert_eq!(step, decide(want, held, tried, imposed, Some(NOW)));
        assert_eq!(decide(want, held, tried, imposed, None), Step::NoClock);
        match &step {
            Step::NoClock => panic!("there is a clock: {}", shown()),
            Step::Wait { until } => {
                assert!(*until > NOW, "a wait ends in the future: {}", shown());
                let due = want.driven && why(want, newest, tried, NOW).is_some();
                let own = tried.fingerprint == want.fingerprint && ahead(tried.order.until);
                let young = newest.is_some_and(|held| {
                    why(want, newest, tried, NOW) == Some(Why::Revoked) && held.since.plus(YOUNG) > NOW
                });
                assert!(!due || own || young || ahead(imposed), "nobody asked to wait: {}", shown());
                let later = decide(want, held, tried, imposed, Some(*until));
                assert!(
                    *until == NEVER || !matches!(later, Step::Wait { until: again } if again == *until),
                    "{}",
                    shown()
                );
            }
            Step::Ask => {
                let held = newest.unwrap_or_else(|| panic!("about nothing: {}", shown()));
                assert!(want.ari && want.driven && !held.authority.is_empty(), "{}", shown());
                assert_eq!(why(want, newest, tried, NOW), None, "what is due needs no advice: {}", shown());
                assert!(!ahead(imposed), "the CA asked us to wait: {}", shown());
                if let Some(advice) = tried.advice.as_ref().filter(|advice| advice.sha256 == held.sha256) {
                    assert!(advice.again != NEVER && !ahead(Some(advice.again)), "it was asked: {}", shown());
                }
            }
            Step::Tell => {
                let held = active(want, held, tried, Some(NOW)).unwrap_or_else(|| panic!("of nothing: {}", shown()));
                let own = tried.fingerprint == want.fingerprint && ahead(tried.tell.until);
                assert!(want.tells && is_owed(held, tried) && !own, "{}", shown());
            }
            Step::Order { why: reason } => {
                assert!(want.driven, "{}", shown());
                assert_eq!(Some(*reason), why(want, newest, tried, NOW), "{}", shown());
                assert!(!ahead(imposed), "the CA asked us to wait: {}", shown());
                let own = tried.fingerprint == want.fingerprint && ahead(tried.order.until);
                assert!(!own, "backing off for this very want: {}", shown());
                for later in [Span::millis(1), Span::days(1), Span::days(500)] {
                    let now = NOW.plus(later);
                    assert!(why(want, newest, tried, now).is_some(), "once due, due for ever: {}", shown());
                }
            }
        }
        step
    }

    #[test]
    fn the_step_to_expiry() {
        let held = held(NOW.minus(Span::days(60)), NOW.plus(Span::days(30)));
        let tried = Tried { told: Some([7; 32]), ..Tried::default() };
        let at = |now: Unix| decide(&want(), core::slice::from_ref(&held), &tried, None, Some(now));
        let due = held.not_after.minus(Span::days(90).percent(33));
        assert_eq!(at(NOW.minus(Span::days(10))), Step::Wait { until: due });
        assert_eq!(at(due.minus(Span::millis(1))), Step::Wait { until: due });
        assert_eq!(at(due), Step::Order { why: Why::Due });
        assert_eq!(at(held.not_after), Step::Order { why: Why::Expired });
    }

    /// A CA that ignores the wish is not asked again and again; a wish that was never uttered is.
    #[test]
    fn a_revoked_certificate_is_due_but_not_one_after_the_other() {
        let old = held(NOW.minus(Span::days(3)), NOW.plus(Span::days(87)));
        let revoked = Want { revoked: true, ..want() };
        let told = Tried { told: Some(old.sha256), ..Tried::default() };
        let step = |held: &Held| decide(&revoked, core::slice::from_ref(held), &told, None, Some(NOW));
        assert_eq!(step(&old), Step::Order { why: Why::Revoked });
        let fresh = Held { since: NOW.minus(Span::mins(10)), ..old };
        assert_eq!(why(&revoked, Some(&fresh), &told, NOW), Some(Why::Revoked));
        assert_eq!(step(&fresh), Step::Wait { until: NOW.plus(Span::mins(50)) });
        // For one that we had revoked ourselves nobody waits.
        let ours = Tried { revoked: Some(fresh.sha256), ..told };
        let step = decide(&want(), core::slice::from_ref(&fresh), &ours, None, Some(NOW));
        assert_eq!(step, Step::Order { why: Why::Revoked });
    }

    #[test]
    fn what_was_heard_of_one_certificate_is_no_reason_not_to_ask_about_the_next() {
        let held = Held { authority: vec![1], ..held(day(-1), day(89)) };
        let again = NOW.plus(Span::hours(3));
        for (sha256, asks) in [(held.sha256, false), ([8; 32], true)] {
            let advice = Advice { sha256, window: None, again, failures: 0, hurried: false };
            let tried = Tried { told: Some(held.sha256), advice: Some(advice), ..Tried::default() };
            let step = decide(&want(), core::slice::from_ref(&held), &tried, None, Some(NOW));
            assert_eq!(step == Step::Ask, asks, "{step:?}");
        }
    }

    #[test]
    fn what_differs_in_must_staple_is_due_unless_it_was_asked_for() {
        for (wanted, has, asked, due) in [
            (false, false, false, false),
            (false, false, true, false),
            (false, true, false, false),
            (false, true, true, true),
            (true, false, false, true),
            (true, false, true, false),
            (true, true, false, false),
            (true, true, true, false),
        ] {
            let want = Want { must_staple: wanted, ..want() };
            let held = Held { must_staple: has, staple_asked: asked, ..held(NOW, NOW.plus(Span::days(90))) };
            assert_eq!(
                why(&want, Some(&held), &Tried::default(), NOW),
                due.then_some(Why::OtherStaple),
                "{wanted} {has} {asked}"
            );
        }
    }

    #[test]
    fn a_window_as_long_as_what_is_left_of_a_backdated_life_does_not_order_for_ever() {
        let want = Want { window: Window::Fixed(Span::hours(12)), ..want() };
        let backdated = NOW.minus(Span::mins(1));
        let held = Held { since: NOW, ..held(backdated, NOW.plus(Span::hours(12))) };
        assert_eq!(renew_at(&want, &held, &Tried::default()).since(NOW).as_millis() / 60_000, 5 * 60 + 59);
    }

    #[test]
    fn a_window_longer_than_life_does_not_order_for_ever() {
        let want = Want { window: Window::Fixed(Span::days(400)), ..want() };
        let held = held(NOW, NOW.plus(Span::days(90)));
        assert_eq!(renew_at(&want, &held, &Tried::default()), NOW.plus(Span::days(45)));
    }

    #[test]
    fn a_clock_is_believed_from_the_newest_issuance_for_twenty_years() {
        let from = NOW.plus(Span::days(100));
        let floor = floor([held(from, from.plus(Span::days(90)))].iter());
        assert_eq!(floor, from);
        assert_eq!(believe(Some(from.minus(Span::millis(1))), floor), None);
        assert_eq!(believe(Some(from), floor), Some(from));
        assert_eq!(believe(Some(from.plus(Span::days(20 * 365))), floor), Some(from.plus(Span::days(20 * 365))));
        assert_eq!(believe(Some(from.plus(Span::days(21 * 365))), floor), None);
        assert_eq!(believe(Some(Unix::from_secs(0)), BUILT), None);
        assert_eq!(believe(None, BUILT), None);
    }

    fn refused(problem: &str, retry_after: Option<Span>) -> Outcome {
        let problem = format!("{}{problem}", crate::words::fault::ACME_ERROR);
        Outcome::OrderFailed(Failure::Refusal(Refusal { problem, retry_after, ..Refusal::default() }))
    }

    fn offline() -> Outcome {
        Outcome::OrderFailed(Failure::Trouble(Trouble::new("asking", "no route")))
    }

    /// The waits of a row of failures, each with the lowest or the highest throw.
    fn waits(outcome: &Outcome, throw: u32, count: u32) -> Vec<Span> {
        let mut tried = Tried::default();
        let wait = |_| {
            tried = settle(&want(), &tried, outcome, NOW, throw);
            tried.order.until.unwrap().since(NOW)
        };
        (0..count).map(wait).collect()
    }

    #[test]
    fn the_back_off_doubles_to_its_cap() {
        let secs = |list: &[u64]| list.iter().map(|n| Span::secs(*n)).collect::<Vec<_>>();
        assert_eq!(waits(&offline(), 500, 9), secs(&[30, 60, 120, 240, 480, 960, 1920, 3600, 3600]));
        assert_eq!(waits(&offline(), 0, 3), secs(&[15, 30, 60]));
        assert_eq!(waits(&offline(), 1000, 3), secs(&[45, 90, 180]));
        let refused_waits = waits(&refused("connection", None), 500, 14);
        assert_eq!(refused_waits[..3], secs(&[30, 60, 120])[..]);
        assert_eq!(refused_waits[11..], secs(&[61_440, 86_400, 86_400])[..]);
        assert_eq!(waits(&refused("caa", None), 500, 2), secs(&[86_400, 86_400]));
    }

    /// Every failure up to the fortieth and the millionth, with every kind of throw: `min(retry · 2^(n-1), cap)`, give or
    /// take a half.
    #[test]
    fn the_whole_sequence_within_its_bounds() {
        let (hour, day, retry) = (3_600_000_u128, 86_400_000_u128, 30_000_u128);
        for (outcome, cap) in [
            (offline(), Some(hour)),
            (refused("rateLimited", None), Some(day)),
            (refused("serverInternal", None), Some(day)),
            (refused("malformed", None), None),
            (refused("externalAccountRequired", None), None),
        ] {
            for n in (1..=40).chain([1_000_000]) {
                let base = cap.map_or(day, |cap| (retry << (n - 1).min(60)).min(cap));
                for throw in (0..THROW).step_by(50) {
                    let order = Backoff { failures: n - 1, ..Backoff::default() };
                    let before = Tried { fingerprint: want().fingerprint, order, ..Tried::default() };
                    let after = settle(&want(), &before, &outcome, NOW, throw).order;
                    let wait = u128::from(after.until.unwrap().since(NOW).as_millis());
                    assert_eq!(wait, base * u128::from(500 + throw) / 1000, "failure {n}, throw {throw}");
                    assert!(wait >= base / 2 && wait <= base + base / 2, "failure {n}, throw {throw}");
                    assert_eq!(after.failures, n);
                }
            }
        }
    }

    /// CVE-2025-55753: a doubling that overflowed to nothing.
    #[test]
    fn a_million_failures_still_wait() {
        for failures in [1, 31, 32, 33, 63, 64, 65, 1_000_000, u32::MAX] {
            for (patience, cap) in [(Patience::Offline, Span::hours(1)), (Patience::Refused, Span::hours(24))] {
                for retry in [Span::millis(100), Span::secs(30), Span::millis(u64::MAX)] {
                    for throw in [0, 500, 1000, u32::MAX] {
                        let wait = back_off(failures, patience, retry, throw);
                        assert!(wait >= retry.min(cap).percent(50) && wait <= cap.percent(150), "{failures} {wait:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_ca_s_wait_outranks_ours_and_is_not_forgiven() {
        let short = settle(&want(), &Tried::default(), &refused("serverInternal", Some(Span::secs(3))), NOW, 1000);
        assert_eq!(short.order.until, Some(NOW.plus(Span::secs(3))));
        let long = settle(&want(), &Tried::default(), &refused("rateLimited", Some(Span::days(9))), NOW, 0);
        let day = NOW.plus(Span::hours(24));
        assert_eq!(long.imposed, [Imposed { ca: CA.into(), until: day }]);

        let often = (0..6).fold(Tried::default(), |tried, _| {
            settle(&want(), &tried, &refused("rateLimited", Some(Span::hours(9))), NOW, 0)
        });
        assert_eq!(
            often.order.until,
            Some(NOW.plus(Span::hours(9))),
            "it may be longer than ours as often as it likes"
        );

        let other = Want { fingerprint: [2; 8], ..want() };
        let imposed = Some(day);
        assert_eq!(decide(&other, &[], &long, imposed, Some(NOW)), Step::Wait { until: day });
        assert_eq!(decide(&other, &[], &long, None, Some(NOW)), Step::Order { why: Why::Missing });
        assert_eq!(decide(&want(), &[], &long, None, Some(NOW)), Step::Wait { until: day });
        assert_eq!(decide(&want(), &[], &long, imposed, Some(day)), Step::Order { why: Why::Missing });
    }

    #[test]
    fn after_so_many_failures_it_is_the_next_ca_s_turn() {
        let want = Want { cas: vec![CA.into(), OTHER.into(), "third".into()], failover: 2, ..want() };
        let mut tried = Tried::default();
        let mut asked = vec![];
        for _ in 0..8 {
            asked.push(ca(&want, &tried));
            tried = settle(&want, &tried, &offline(), NOW, 500);
        }
        assert_eq!(asked, [CA, CA, OTHER, OTHER, "third", "third", CA, CA]);
        assert_eq!(ca(&want, &tried), OTHER);
        let changed = Want { fingerprint: [2; 8], ..want.clone() };
        assert_eq!(ca(&changed, &tried), CA, "a changed configuration begins with the first");
        tried = settle(&want, &tried, &Outcome::Ordered, NOW, 500);
        assert_eq!(ca(&want, &tried), CA, "a success, too");
        for cas in [vec![], vec![CA.into()]] {
            let want = Want { cas, failover: 0, ..want.clone() };
            let order = Backoff { failures: u32::MAX, ..Backoff::default() };
            let tried = Tried { fingerprint: want.fingerprint, order, ..Tried::default() };
            assert_eq!(ca(&want, &tried), want.cas.first().map_or("", String::as_str));
        }
    }

    /// A wait is the affair of the CA that imposed it: the next one is asked when our own back-off is over, and each is
    /// left alone for as long as it said itself.
    #[test]
    fn one_ca_s_wait_is_not_another_s() {
        let want = Want { cas: vec![CA.into(), OTHER.into()], failover: 1, ..want() };
        let waiting = |hours: u64| refused("rateLimited", Some(Span::hours(hours)));
        let first = settle(&want, &Tried::default(), &waiting(10), NOW, 500);
        assert_eq!(ca(&want, &first), OTHER);
        assert_eq!(first.order.until, Some(NOW.plus(Span::secs(30))), "our own");
        let then = NOW.plus(Span::secs(30));
        assert_eq!(decide(&want, &[], &first, None, Some(then)), Step::Order { why: Why::Missing });
        let second = settle(&want, &first, &waiting(2), then, 500);
        let later = |hours: u64| Span::hours(hours).percent(105);
        let until = [(CA, NOW.plus(later(10))), (OTHER, then.plus(later(2)))];
        assert_eq!(second.imposed, until.map(|(ca, until)| Imposed { ca: ca.into(), until }));
        assert_eq!(ca(&want, &second), CA);
        let now = then.plus(Span::hours(3));
        let third = settle(&want, &second, &offline(), now, 500);
        assert_eq!(third.imposed, [Imposed { ca: CA.into(), until: until[0].1 }], "what is over is dropped");
        let over = settle(&want, &third, &offline(), until[0].1, 500);
        assert_eq!(over.imposed, [], "in the moment it ends");
        let shorter = settle(&want, &third, &waiting(1), now, 500);
        let again = settle(&want, &shorter, &offline(), now, 500);
        let newest = settle(&want, &again, &waiting(3), now, 500);
        let waits: Vec<&str> = newest.imposed.iter().map(|imposed| imposed.ca.as_str()).collect();
        assert_eq!(waits, [CA, OTHER], "one for each, the newest");
        assert_eq!(newest.imposed[1].until, now.plus(later(3)));
    }

    /// Those that a CA has told the same moment come one after the other, none too early.
    #[test]
    fn the_same_wait_ends_at_different_moments() {
        let after = |span: Span, throw: u32| {
            let tried = settle(&want(), &Tried::default(), &refused("rateLimited", Some(span)), NOW, throw);
            assert_eq!(tried.order.until, Some(tried.imposed[0].until));
            tried.imposed[0].until.since(NOW)
        };
        let two = Span::hours(2);
        assert_eq!([0, 500, 1000].map(|throw| after(two, throw)), [100, 105, 110].map(|percent| two.percent(percent)));
        assert_eq!([0, 500, 1000].map(|throw| after(Span::hours(24), throw)), [Span::hours(24); 3]);
    }

    /// A CA that asks for no wait at all is not hammered.
    #[test]
    fn a_wait_of_nothing_is_a_second() {
        let tried = settle(&want(), &Tried::default(), &refused("serverInternal", Some(Span::ZERO)), NOW, 0);
        assert_eq!(tried.order.until, Some(NOW.plus(Span::secs(1))));
    }

    /// Failures of a clock that ran ahead are not counted; one that was no more than a wait ahead may have been ours.
    #[test]
    fn failures_of_another_clock_do_not_count() {
        for (ahead, failures) in [(Span::ZERO, 6), (LONGEST_WAIT, 6), (LONGEST_WAIT.plus(Span::millis(1)), 1)] {
            let order = Backoff { failures: 5, last_at: Some(NOW.plus(ahead)), ..Backoff::default() };
            let tried = Tried { fingerprint: want().fingerprint, order, ..Tried::default() };
            assert_eq!(settle(&want(), &tried, &offline(), NOW, 500).order.failures, failures, "{ahead:?}");
        }
    }

    #[test]
    fn a_changed_configuration_starts_counting_anew() {
        let mut tried = Tried::default();
        for _ in 0..5 {
            tried = settle(&want(), &tried, &offline(), NOW, 500);
        }
        assert_eq!(tried.order.failures, 5);
        let other = Want { fingerprint: [2; 8], ..want() };
        assert_eq!(decide(&other, &[], &tried, None, Some(NOW)), Step::Order { why: Why::Missing });
        assert_eq!(settle(&other, &tried, &offline(), NOW, 500).order.failures, 1);
    }

    fn told(held: &Held) -> Outcome {
        Outcome::Told { sha256: held.sha256, exported: vec!["/etc/tls/a.example.crt".into()] }
    }

    #[test]
    fn a_veto_lasts_an_hour_and_is_no_failure_of_the_ca_s() {
        let veto = || Outcome::Vetoed(Trouble::new("MDMessageCmd renewing", "exited with 1").with(Hook::Message));
        let mut tried = settle(&want(), &Tried::default(), &veto(), NOW, 0);
        let hour = NOW.plus(Span::hours(1));
        assert_eq!(decide(&want(), &[], &tried, None, Some(NOW)), Step::Wait { until: hour });
        assert_eq!(decide(&want(), &[], &tried, None, Some(hour)), Step::Order { why: Why::Missing });
        assert_eq!((tried.order.failures, tried.tell.failures, tried.tell.until), (0, 1, None));
        tried = settle(&want(), &tried, &veto(), hour, 1000);
        let until = hour.plus(Span::hours(1));
        assert_eq!(decide(&want(), &[], &tried, None, Some(hour)), Step::Wait { until });
        let other = Want { fingerprint: [2; 8], ..want() };
        assert_eq!(decide(&other, &[], &tried, None, Some(hour)), Step::Order { why: Why::Missing });
        // What is held meanwhile is told of at once.
        let held = held(NOW.minus(Span::days(80)), NOW.plus(Span::days(10)));
        assert_eq!(decide(&want(), core::slice::from_ref(&held), &tried, None, Some(hour)), Step::Tell);
    }

    #[test]
    fn a_server_that_does_not_serve_it_is_looked_at_for_a_while_and_then_notified_again() {
        let held = held(NOW.minus(Span::days(1)), NOW.plus(Span::days(89)));
        let unseen = Outcome::Unseen(Trouble::new("looking at ui:443", "Connection refused"));
        let mut tried = settle(&want(), &Tried::default(), &Outcome::Notified(held.sha256), NOW, 500);
        let mut now = NOW;
        for secs in [1, 2, 4] {
            tried = settle(&want(), &tried, &unseen, now, 500);
            now = now.plus(Span::secs(secs));
            assert_eq!((tried.tell.failures, tried.tell.until), (0, Some(now)));
            assert_eq!(tried.notified, Some(held.sha256));
        }
        tried = settle(&want(), &tried, &unseen, now, 500);
        assert_eq!((tried.tell.failures, tried.notified, tried.looks), (1, None, 0));
        let until = now.plus(Span::secs(30));
        assert_eq!(decide(&want(), core::slice::from_ref(&held), &tried, None, Some(now)), Step::Wait { until });
    }

    #[test]
    fn telling_is_owed_until_it_is_done() {
        let held = held(NOW.minus(Span::days(1)), NOW.plus(Span::days(89)));
        let mut tried = Tried { fingerprint: want().fingerprint, ..Tried::default() };
        assert_eq!(decide(&want(), core::slice::from_ref(&held), &tried, None, Some(NOW)), Step::Tell);
        tried = settle(&want(), &tried, &Outcome::TellFailed(Trouble::new("hook", "exit status 1")), NOW, 500);
        let again = NOW.plus(Span::secs(30));
        assert_eq!(decide(&want(), core::slice::from_ref(&held), &tried, None, Some(NOW)), Step::Wait { until: again });
        assert_eq!(decide(&want(), core::slice::from_ref(&held), &tried, None, Some(again)), Step::Tell);
        let other = Want { fingerprint: [2; 8], ..want() };
        assert_eq!(
            decide(&other, core::slice::from_ref(&held), &tried, None, Some(NOW)),
            Step::Tell,
            "a changed command is tried at once"
        );
        tried = settle(&want(), &tried, &Outcome::Notified(held.sha256), NOW, 500);
        assert_eq!((tried.told, tried.notified, tried.tell.failures), (None, Some(held.sha256), 1));
        tried = settle(&want(), &tried, &told(&held), NOW, 500);
        assert_eq!((tried.told, tried.notified, tried.tell.failures), (Some(held.sha256), None, 0));
        let due = renew_at(&want(), &held, &tried);
        assert_eq!(decide(&want(), core::slice::from_ref(&held), &tried, None, Some(NOW)), Step::Wait { until: due });
    }
}
