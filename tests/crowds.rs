//! The simulation of tests/sim.rs in small.

mod fleet;

use edgemd::words::time::Span;
use fleet::{Event, chart, run};

/// Whatever happens to all of them at once: what follows is spread, and each has its certificate in time.
#[test]
fn three_thousand_devices_come_one_after_the_other() {
    for event in Event::MASS {
        let record = run(event, 3000, Span::mins(10));
        let (mean, peak) = record.mean_and_peak();
        assert!(peak <= 3.0 * mean, "{event:?}: a peak of {peak}/s, at a mean of {mean}/s");
        assert_eq!((record.lost, record.expired), (0, 0), "{event:?}");
        assert!(record.held_up > 100, "{event:?} happened to {} devices", record.held_up);
        let svg = chart::svg(&[record]);
        assert!(svg.contains("<polyline points=\"0.0,") && svg.ends_with("</svg>\n"));
    }
}

/// Fifty certificates a week is what a domain gets that is on no list of public suffixes. All come to theirs in the end, and
/// none asks more often than it is told to.
#[test]
fn new_devices_under_one_domain_share_what_it_gets() {
    let record = run(Event::FirstStart, 300, Span::mins(1));
    assert_eq!((record.lost, record.expired), (0, 0));
    let days = record.made_up.since(record.until).as_secs() / 86_400;
    assert!((33..37).contains(&days), "250 more by one in 202 minutes: {days} days");
    assert!(u64::from(record.refused) < 300 * days * 24 * 60 / 202, "{} refused", record.refused);
    // Some 250 are told the same moment again and again.
    let most = record.requests[usize::try_from(24 * 60 + 60).unwrap()..].iter().max().unwrap();
    assert!(*most < 50, "{most} requests in a minute");
}
