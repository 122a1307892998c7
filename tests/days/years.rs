//! Five years of a device whose certificates live for six days: its CA is away for days now and then, somebody pulls the
//! plug, and the clock shows what it likes.

use super::fake::disk::Keep;
use super::fake::hands::Hands;
use super::fake::xorshift::Xorshift;
use super::{ONE, START, World, journal};
use edgemd::doors::clock::Clock;
use edgemd::words::time::{Span, Unix};

/// The time that it is, whatever the device's clock shows.
fn time(hands: &Hands) -> Unix {
    START.plus(hands.steady())
}

struct Fate(Xorshift);

impl Fate {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.throw() % bound
    }

    /// Once in so many times.
    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// When nobody could renew anything: the CA or the device itself was away.
struct Absence {
    from: Unix,
    until: Unix,
}

const YEARS: Span = Span::days(5 * 365 + 1);

/// Every month the CA is away for two days, in some of them for six.
fn outages(fate: &mut Fate) -> Vec<Absence> {
    let mut outages = vec![];
    let mut from = START.plus(Span::days(10));
    // One more, so that there is always a next one.
    while outages.last().is_none_or(|last: &Absence| last.until < START.plus(YEARS)) {
        let days = if fate.once_in(12) { 6 } else { 2 };
        let until = from.plus(Span::days(days));
        outages.push(Absence { from, until });
        from = until.plus(Span::hours(24 * 14 + fate.below(24 * 28)));
    }
    outages
}

/// The device wakes up in 1970, and the network tells it the time some minutes later.
fn wake(world: &World, fate: &mut Fate) {
    world.hands.jump(Some(Unix::default()));
    let minutes = Span::secs(20 + fate.below(600));
    world.hands.jump_in(minutes, Some(time(&world.hands).plus(minutes)));
}

/// Somebody sets the clock wrong, and the network sets it right again.
fn mistake(world: &World, fate: &mut Fate) {
    let now = time(&world.hands);
    let wrong = match fate.below(5) {
        0 => Unix::default(),
        1 => now.plus(Span::days(3 * 365)),
        2 => now.plus(Span::days(40 * 365)),
        3 => now.minus(Span::hours(1)),
        _ => now.plus(Span::hours(1)),
    };
    let (then, back) = (Span::hours(fate.below(6)), Span::mins(1 + fate.below(90)));
    world.hands.jump_in(then, Some(wrong));
    world.hands.jump_in(then.plus(back), Some(now.plus(then).plus(back)));
}

/// What is held has ended, and nobody is to blame: there was no time in which it could have been renewed.
fn is_excused(ended: Unix, now: Unix, absences: &[Absence]) -> bool {
    // The longest back-off of who is offline, and the time that it takes to get the time.
    let late = Span::mins(105);
    let covers = |absence: &Absence| absence.from < ended && ended < absence.until && now < absence.until.plus(late);
    absences.iter().any(covers)
}

#[test]
fn five_years_of_six_day_certificates() {
    let world = World::telling_time_by(time);
    world.ca.weather(|weather| (weather.ari, weather.profiles) = (true, vec!["classic", "shortlived"]));
    let conf = format!("MDProfile shortlived\n{}", ONE.replace("MDInitialDelay 0\n", ""));
    let mut fate = Fate(Xorshift(0x9e37_79b9_7f4a_7c15));
    let outages = outages(&mut fate);
    let mut absences: Vec<Absence> = vec![];
    let (mut cuts, mut late, mut looks, mut last) = (0, 0, 0, START);
    while last < START.plus(YEARS) {
        let now = time(&world.hands);
        let outage = outages.iter().find(|outage| now < outage.until).expect("one after the end");
        let down = outage.from <= now;
        world.ca.weather(|weather| weather.down = down);
        let border = if down { outage.until } else { outage.from };
        let span = Span::mins(60 + fate.below(23 * 60)).min(border.since(now));
        if fate.once_in(25) {
            mistake(&world, &mut fate);
        }
        if fate.once_in(20) {
            world.disk.cut_at(1 + fate.below(40) as u32);
        }
        if world.live_or_die(&conf, span) {
            cuts += 1;
            world.disk.reboot(Keep::Synced);
            wake(&world, &mut fate);
        } else if fate.once_in(60) {
            let off = Span::hours(1 + fate.below(72));
            let from = time(&world.hands);
            world.hands.forget();
            world.hands.turn(off);
            world.disk.reboot(Keep::Synced);
            absences.push(Absence { from, until: from.plus(off) });
            wake(&world, &mut fate);
        }
        last = time(&world.hands);
        let ends = world.board.read(|reports| Some(reports.first()?.certs.first()?.held.as_ref()?.not_after));
        if let Some(ended) = ends.filter(|ended| *ended <= last) {
            late += 1;
            assert!(
                is_excused(ended, last, &merged(&outages, &absences)),
                "{ended} has passed, it is {last}\n{}\n{}",
                world.status().0,
                journal::take().iter().rev().take(20).rev().cloned().collect::<Vec<_>>().join("\n")
            );
        }
        looks += 1;
        journal::take();
    }
    let (certificates, requests) = (world.issued(), world.ca.requests());
    let days = YEARS.as_secs() / 86_400;
    println!(
        "{days} days: {certificates} certificates, {requests} requests, that is {:.1} each and {:.1} a day; {} connections; \
         {cuts} power cuts, {} outages; {late} of {looks} looks found one that had ended",
        requests as f64 / certificates as f64,
        requests as f64 / days as f64,
        world.ca.lines(),
        outages.len(),
    );
    assert!(cuts > 20 && looks > 2000, "{cuts} cuts, {looks} looks");
    // One in eighty hours, and those that were lost with the power or ordered by a clock that was wrong.
    assert!((548..720).contains(&certificates), "{certificates} certificates");
    assert!(requests / certificates < 32, "{requests} requests for {certificates} certificates");
}

/// The times in which nothing could be done, those that touch one another as one.
fn merged(outages: &[Absence], absences: &[Absence]) -> Vec<Absence> {
    let mut all: Vec<(Unix, Unix)> =
        outages.iter().chain(absences).map(|absence| (absence.from, absence.until)).collect();
    all.sort_unstable();
    let mut merged: Vec<Absence> = vec![];
    for (from, until) in all {
        match merged.last_mut() {
            Some(before) if from <= before.until.plus(Span::hours(2)) => before.until = before.until.max(until),
            _ => merged.push(Absence { from, until }),
        }
    }
    merged
}
