//! CAs in trouble: one that hangs, one that wants to be left alone, several of which each has its turn.

use super::fake::ca::{Bad, Weather};
use super::{ONE, World, asked, config, journal};
use edgemd::doors::clock::{Clock, Knock, Push};
use edgemd::rules::control::Say;
use edgemd::rules::status;
use edgemd::words::time::Span;

/// A CA that takes connections and says nothing holds up those who want something of it, and nobody else: not even when
/// it has taken every place that there is.
#[test]
fn a_hanging_ca_delays_nobody_else() {
    let world = World::new();
    let slow: String = (0..9).map(|n| format!("MDomain a{n}.example\n")).collect();
    let conf = format!(
        "MDCertificateAgreement accepted\nMDInitialDelay 0\nMDCertificateAuthority https://other.example/directory\n{slow}
        <MDomainSet z.example>\nMDCertificateAuthority https://ca.example/directory\n</MDomainSet>\n"
    );
    world.live(&conf, Span::hours(1));
    assert_eq!((world.other.issued().len(), world.issued()), (9, 1));

    world.hands.turn(Span::days(61));
    world.other.weather(|weather| weather.hangs = true);
    world.ca.weather(|weather| weather.takes = Span::secs(1));
    let ca = world.ca.clone();
    world.hands.do_in(Span::secs(20), move || assert_eq!(ca.issued().len(), 2, "it waits for the other CA"));
    world.live(&conf, Span::mins(2));
    let (text, _) = world.status();
    let sentence = "order failed once: reading the directory: other.example: silent for 30s";
    assert!(text.matches(sentence).count() == 4, "its deadline has come: {text}");
    assert!(world.other.lines() < 9 + 16, "{} lines", world.other.lines());

    world.other.weather(|weather| *weather = Weather::default());
    world.live(&conf, Span::hours(2));
    assert!(world.status().1 && world.other.issued().len() == 18, "{}", world.status().0);
}

/// Whatever is changed meanwhile, the calls that hang on don't pile up, and a stop is heard at once.
#[test]
fn calls_that_hang_are_few_whatever_is_reloaded() {
    let world = World::new();
    world.ca.weather(|weather| weather.hangs = true);
    for n in 1..=25 {
        let conf = ONE.replace("b.example", &format!("b{n}.example"));
        world.hands.knock_in(Span::secs(n), Knock::Reload(Box::new(config(&conf))));
    }
    let start = world.hands.steady();
    world.live(ONE, Span::secs(29));
    assert_eq!(world.hands.steady().minus(start), Span::secs(29));
    assert_eq!(world.ca.lines(), 16);
}

/// And when they have come to their end, whoever waited for a place gets it.
#[test]
fn what_waited_for_calls_that_hung_goes_on_when_they_end() {
    let world = World::new();
    world.ca.weather(|weather| weather.hangs = true);
    for n in 1..=20 {
        let conf = ONE.replace("b.example", &format!("b{n}.example"));
        world.hands.knock_in(Span::secs(n), Knock::Reload(Box::new(config(&conf))));
    }
    let ca = world.ca.clone();
    world.hands.do_in(Span::secs(25), move || ca.weather(|weather| weather.hangs = false));
    world.live(ONE, Span::mins(1));
    assert_eq!(world.issued(), 1, "{}", world.status().0);
}

/// What ends a wait that we gave ourselves: a changed configuration, and somebody who asks. A restart and a reload of the
/// same do not, nor does anything end one that the CA imposed before it is over.
#[test]
fn what_ends_a_wait_and_what_does_not() {
    let changed = ONE.replace("a.example b.example", "a.example b.example c.example");
    let beside = format!("{ONE}MDomain z.example\n");
    let elsewhere =
        format!("{ONE}<MDomainSet z.example>\nMDCertificateAuthority https://other.example/directory\n</MDomainSet>");
    // The CA can't be reached, it refuses, or it refuses and says for how long.
    let down: fn(&mut Weather) = |weather| weather.down = true;
    let refuses: fn(&mut Weather) = |weather| weather.spoil = Some(("/", Bad::Problem(500, "serverInternal", None)));
    let imposes: fn(&mut Weather) =
        |weather| weather.spoil = Some(("/", Bad::Problem(429, "rateLimited", Some(Span::hours(12)))));
    for (weather, imposed) in [(down, false), (refuses, false), (imposes, true)] {
        let world = World::new();
        world.ca.weather(weather);
        // Ten failures: the next try is an hour away, or much more.
        world.live(ONE, Span::hours(5));
        let tries = |deed: &dyn Fn()| {
            let lines = world.ca.lines();
            deed();
            world.ca.lines() - lines
        };
        let reload = |conf: &str| {
            world.hands.knock_in(Span::secs(1), Knock::Reload(Box::new(config(conf))));
            world.live(ONE, Span::secs(10));
        };
        assert_eq!(tries(&|| world.live(ONE, Span::secs(10))), 0, "a restart");
        assert_eq!(tries(&|| reload(ONE)), 0, "the same configuration");
        let asks = || {
            let said = asked(&world, ONE, &["a.example"], Push::Now);
            assert_eq!(said.last(), Some(&Say::End(1)), "{said:?}");
        };
        assert!((tries(&asks) > 0) != imposed, "somebody asks");
        assert!((tries(&|| reload(&changed)) > 0) != imposed, "a changed configuration");
        assert!((tries(&|| reload(&beside)) > 0) != imposed, "another MD at this CA");
        reload(&elsewhere);
        assert_eq!(world.other.issued().len(), 1, "another CA is not this one's affair");
        world.ca.weather(|weather| *weather = Weather::default());
        world.live(ONE, Span::hours(24));
        assert_eq!(world.issued(), 1);
    }
}

/// `MDRetryFailover` failures, and the next CA gets as many tries; at the next renewal it is the first one's turn again.
#[test]
fn md_790_failover_goes_round_and_begins_with_the_first() {
    let world = World::new();
    let conf = ONE.replace("directory\n", "directory https://other.example/directory\nMDRetryFailover 2\n");
    let ca = |world: &World| world.board.read(|reports| status::md_json(&reports[0])["ca"].clone());
    world.ca.weather(|weather| weather.down = true);
    world.other.weather(|weather| weather.spoil = Some(("/", Bad::Problem(500, "serverInternal", None))));
    world.live(&conf, Span::secs(10));
    assert_eq!(ca(&world)["url"], "https://ca.example/directory");
    // 30 s, 1 min, 2 min, 4 min, each give or take a half: by then both have had their two.
    world.live(&conf, Span::mins(12));
    assert!(world.ca.lines() >= 2 && world.other.lines() == 2, "{} {}", world.ca.lines(), world.other.lines());
    let lines = journal::take();
    let next = |url: &str| lines.iter().filter(|line| line.ends_with(&format!(" at {url}"))).count();
    assert_eq!(next("https://other.example/directory"), 3, "the log says who is asked next: {lines:#?}");

    world.other.weather(|weather| *weather = Weather::default());
    world.live(&conf, Span::days(1));
    assert_eq!((world.issued(), world.other.issued().len()), (0, 1));
    assert!(world.status().1, "a certificate of any of them is as good: {}", world.status().0);
    assert_eq!(ca(&world)["url"], "https://other.example/directory", "who gave it");
    assert_eq!(ca(&world)["urls"].as_array().unwrap().len(), 2);
    assert!(ca(&world)["account"].as_str().unwrap().starts_with("https://other.example/"));
    assert_eq!(world.ear.heard().len(), 1);

    world.ca.weather(|weather| *weather = Weather::default());
    world.live(&conf, Span::days(61));
    assert_eq!((world.issued(), world.other.issued().len()), (1, 1), "the first again");
    let alone = conf.replace("https://ca.example/directory ", "");
    world.live(&alone, Span::hours(1));
    assert_eq!(world.other.issued().len(), 2, "one that is no longer configured is due");
}

/// A CA that says for how long is left alone for as long, be it short or long, and for no more than a tenth longer; but no
/// longer than a day.
#[test]
fn retry_after_is_obeyed_and_for_a_day_at_most() {
    for (status, kind, asked_for, obeyed) in [
        (429, "rateLimited", Span::secs(2), Span::secs(2)),
        (429, "rateLimited", Span::hours(5), Span::hours(5)),
        (503, "serverInternal", Span::hours(3), Span::hours(3)),
        (503, "serverInternal", Span::days(9), Span::hours(24)),
    ] {
        for place in ["/directory", "/new-nonce", "/new-account", "/new-order", "/authorization", "/finalize"] {
            let world = World::new();
            world.ca.weather(|weather| weather.spoil = Some((place, Bad::Problem(status, kind, Some(asked_for)))));
            let ca = world.ca.clone();
            world.hands.do_in(Span::secs(1), move || ca.weather(|weather| *weather = Weather::default()));
            let (ca, issued) = (world.ca.clone(), world.ca.clone());
            world.hands.do_in(obeyed.minus(Span::millis(1)), move || assert_eq!(ca.lines(), 1, "too early: {place}"));
            let late = obeyed.percent(110).min(Span::hours(24)).plus(Span::secs(1));
            world.hands.do_in(late, move || assert_eq!(issued.issued().len(), 1, "late: {place}"));
            world.live(ONE, late.plus(Span::secs(1)));
        }
    }
}

/// What an answer calls itself is not what it is.
#[test]
fn answers_with_a_wrong_content_type_are_read_all_the_same() {
    let world = World::new();
    world.ca.weather(|weather| weather.mislabels = true);
    world.live(ONE, Span::mins(1));
    assert!(world.status().1 && world.issued() == 1, "{}", world.status().0);
    world.ca.weather(|weather| weather.spoil = Some(("/new-order", Bad::Problem(400, "rejectedIdentifier", None))));
    assert_eq!(asked(&world, ONE, &[], Push::Force).last(), Some(&Say::End(1)));
    assert!(journal::take().iter().any(|line| line.contains("placing the order: rejectedIdentifier: bad weather")));
}

/// A CA that asks to be asked again at once, for ever: what it gets, and what the flash has to bear.
#[test]
fn a_ca_that_wants_to_be_asked_at_once_is_asked_with_patience() {
    for wait in [Span::ZERO, Span::secs(30)] {
        let world = World::new();
        world.ca.weather(|weather| weather.spoil = Some(("/new-order", Bad::Problem(429, "rateLimited", Some(wait)))));
        world.live(ONE, Span::days(1));
        let orders = world.ca.log().iter().filter(|line| *line == "POST /new-order").count();
        assert!((6..20).contains(&orders), "{wait}: {orders} orders in a day");
    }
}

/// Certificates that end as soon as they are there, and a window that begins with them.
#[test]
fn certificates_that_end_at_once_are_not_ordered_in_a_loop() {
    for (life, backdate, window, most) in [
        (Span::secs(2), Span::ZERO, "33%", 0),
        (Span::mins(2), Span::ZERO, "33%", 0),
        (Span::mins(10), Span::ZERO, "33%", 3),
        (Span::mins(10), Span::ZERO, "10d", 3),
        (Span::hours(13), Span::hours(1), "12h", 1),
    ] {
        let world = World::new();
        world.ca.weather(|weather| (weather.life, weather.backdate) = (life, backdate));
        world.live(&format!("MDRenewWindow {window}\n{ONE}"), Span::mins(15));
        let (issued, told) = (world.issued(), world.status().0);
        println!("{life}, {window}: {issued} certificates in a quarter of an hour\n{told}");
        if most == 0 {
            // They are asked for with patience, and none is kept.
            assert!(
                (4..8).contains(&issued) && told.contains("bad-certificate: it ends at once, at"),
                "{issued}: {told}"
            );
        } else {
            assert!((1..=most).contains(&issued), "{life}, {window}: {issued} certificates");
        }
    }
}

/// What a CA gives in place of the certificate that was ordered: the one in use stays, is not told of again, and the
/// reason is said.
#[test]
fn certificates_that_are_not_what_was_ordered_change_nothing() {
    type Change = fn(&mut Weather);
    let cases: [(Change, &str); 4] = [
        (|weather| weather.wrong_key = true, "it is for another key"),
        (|weather| weather.wrong_names = true, "it does not cover"),
        (|weather| (weather.life, weather.backdate) = (Span::days(5), Span::days(10)), "it has expired already"),
        (|weather| weather.life = Span::hours(1).plus(Span::secs(100)), "it ends at once"),
    ];
    for (change, says) in cases {
        let world = World::new();
        world.live(ONE, Span::hours(1));
        let (told, kept) = (world.ear.heard().len(), world.served());
        world.hands.turn(Span::days(61));
        world.ca.weather(|weather| (weather.backdate, weather.life) = (Span::hours(1), Span::days(90)));
        world.ca.weather(change);
        world.live(ONE, Span::hours(3));
        let (text, _) = world.status();
        assert!(text.contains(says), "{says}: {text}");
        assert!(world.issued() > 1, "it was given");
        assert_eq!((world.ear.heard().len(), world.served()), (told, kept), "{says}");
    }
}
