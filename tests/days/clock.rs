//! The clock that is set and jumps, and the link that comes and goes.

use super::fake::ca::{Bad, Weather};
use super::{ONE, START, World};
use edgemd::doors::clock::Knock;
use edgemd::rules::status;
use edgemd::words::time::{Span, Unix};

/// 2037-11-24, which is within twenty years of the build: nothing tells it from the truth but the CA's own certificate.
const FAR: Unix = Unix::from_secs(2_142_547_200);

fn state(world: &World) -> serde_json::Value {
    world.board.read(|reports| status::md_json(&reports[0]))["state"].clone()
}

/// The clock is at fault for days: what is held is served, the CA is hardly troubled, and afterwards all is as before.
#[test]
fn a_clock_of_another_decade_stops_nothing_and_starts_no_storm() {
    for wrong in [FAR, Unix::from_secs(0), Unix::from_secs(2_145_916_799)] {
        let world = World::new();
        world.live(ONE, Span::hours(1));
        let (served, told) = (world.served(), world.ear.heard().len());
        for at_boot in [true, false] {
            // No handshake succeeds: the CA's own certificate is of another time.
            let ca = world.ca.clone();
            if at_boot {
                world.hands.jump(Some(wrong));
                ca.weather(|weather| weather.down = true);
            } else {
                world.hands.jump_in(Span::hours(1), Some(wrong));
                world.hands.do_in(Span::hours(1), move || ca.weather(|weather| weather.down = true));
            }
            let naps = world.hands.naps();
            world.live(ONE, Span::days(2));
            assert_eq!((world.served(), state(&world)), (served.clone(), 2.into()), "{}", world.status().0);
            let naps = world.hands.naps() - naps;
            assert!(naps < 3200, "{naps} naps in two days");
            // The way back, by an NTP client.
            world.ca.weather(|weather| *weather = Weather::default());
            let requests = world.ca.requests();
            world.hands.jump_in(Span::secs(10), Some(START.plus(Span::days(5))));
            world.hands.knock_in(Span::secs(11), Knock::ClockSet);
            world.hands.jump(Some(wrong));
            world.ca.weather(|weather| weather.down = true);
            let ca = world.ca.clone();
            world.hands.do_in(Span::secs(10), move || ca.weather(|weather| weather.down = false));
            world.live(ONE, Span::days(1));
            assert_eq!((world.issued(), world.served()), (1, served.clone()));
            assert!(world.status().1 && world.ca.requests() - requests <= 8, "{}", world.status().0);
            assert_eq!(world.ear.heard().len(), told, "nothing is told of again");
            world.hands.jump(Some(START.plus(Span::days(6))));
        }
        // And it is renewed when it is due.
        world.hands.jump(Some(START.plus(Span::days(61))));
        world.live(ONE, Span::hours(1));
        assert_eq!(world.issued(), 2);
    }
}

#[test]
fn clock_set_ends_the_wait_for_the_time_at_once() {
    let world = World::new();
    world.hands.jump(None);
    world.hands.jump_in(Span::secs(10), Some(START));
    world.hands.knock_in(Span::secs(12), Knock::ClockSet);
    world.live(ONE, Span::secs(20));
    assert_eq!(world.issued(), 1, "{}", world.status().0);
}

/// A year ahead, and back: a wait that was written down then is none now.
#[test]
fn a_wait_of_a_wrong_year_ends_with_it() {
    let world = World::new();
    world.hands.jump(Some(START.plus(Span::days(300))));
    world.ca.weather(|weather| weather.down = true);
    world.live(ONE, Span::hours(5));
    world.ca.weather(|weather| weather.down = false);
    world.hands.jump(Some(START));
    world.live(ONE, Span::mins(5));
    assert_eq!(world.issued(), 1, "{}", world.status().0);
}

#[test]
fn a_link_that_comes_up_ends_the_wait_for_it() {
    let world = World::new();
    world.ca.weather(|weather| weather.down = true);
    world.live(ONE, Span::hours(10));
    let wait = |world: &World| {
        let next = world.board.read(|reports| status::md_json(&reports[0]))["renewal"]["next-run"].to_string();
        (next, world.issued())
    };
    let before = wait(&world);
    world.ca.weather(|weather| weather.down = false);
    world.live(ONE, Span::secs(30));
    assert_eq!(wait(&world), before, "a restart does not forgive");
    world.hands.knock_in(Span::secs(10), Knock::LinkUp);
    world.live(ONE, Span::secs(30));
    assert_eq!(world.issued(), 1, "{}", world.status().0);
}

/// Flapping links are no reason to be refused as often, and what the CA has imposed is the CA's to end.
#[test]
fn a_link_that_flaps_does_not_ask_a_ca_that_has_just_refused() {
    for (wait, after_a_while) in [(None, 1), (Some(Span::hours(5)), 0)] {
        let world = World::new();
        world.ca.weather(|weather| weather.spoil = Some(("/new-order", Bad::Problem(403, "unauthorized", wait))));
        // A long wait of our own.
        let conf = format!("MDRetryDelay 2h\n{ONE}");
        world.live(&conf, Span::mins(1));
        let orders = |world: &World| world.ca.log().iter().filter(|line| line.contains("new-order")).count();
        let before = orders(&world);
        for second in 0..30 {
            world.hands.knock_in(Span::secs(20 * second), Knock::LinkUp);
        }
        world.live(&conf, Span::mins(11));
        assert_eq!(orders(&world), before, "{}", world.status().0);
        world.hands.knock_in(Span::mins(10), Knock::LinkUp);
        world.live(&conf, Span::mins(12));
        assert_eq!(orders(&world) - before, after_a_while, "{wait:?}");
    }
}

/// Somebody in between answers with a page: that is no word of the CA's, so it is waited for as for the net, an hour at most.
#[test]
fn a_captive_portal_is_named_and_outlasted() {
    let world = World::new();
    world.ca.weather(|weather| weather.spoil = Some(("/", Bad::Html)));
    world.live(ONE, Span::days(2));
    let (text, _) = world.status();
    assert!(text.contains("is a captive portal in between, where somebody has to log in?"), "{text}");
    let requests = world.ca.requests();
    assert!((40..=110).contains(&requests), "{requests} in two days");
    world.ca.weather(|weather| *weather = Weather::default());
    world.live(ONE, Span::hours(2));
    assert!(world.status().1, "{}", world.status().0);
}
