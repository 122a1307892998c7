//! The CA says when it wants a certificate to be renewed (RFC 9773), and gets what it wants with few questions.

use super::fake::ca::{Bad, Weather};
use super::fake::disk::Keep;
use super::{ONE, START, World, asked, config, journal};
use edgemd::doors::clock::{Clock, Knock, Push};
use edgemd::doors::dice::Dice;
use edgemd::rules::control::Say;
use edgemd::rules::status;
use edgemd::words::time::{Span, Unix};
use serde_json::{Value, json};

/// A world whose CA has renewal windows: 43.2 hours about the 60th day.
fn world() -> World {
    let world = World::new();
    world.ca.weather(|weather| weather.ari = true);
    world
}

fn json(world: &World) -> Value {
    world.board.read(|reports| status::md_json(&reports[0]))
}

/// The moment that is drawn for the first MD.
fn drawn(world: &World) -> Unix {
    world.board.read(|reports| reports[0].certs[0].suggested.as_ref().map(|window| window.at)).expect("a window")
}

/// The questions after the first `known` requests.
fn since(world: &World, known: usize) -> Vec<String> {
    world.ca.log()[known..].to_vec()
}

fn count(log: &[String], begin: &str) -> usize {
    log.iter().filter(|line| line.starts_with(begin)).count()
}

const ORDER: &str = "POST /new-order";
const QUESTION: &str = "GET /renewal-info/";

/// The question about the new certificate is the order's last one, on its line.
#[test]
fn the_first_question_rides_on_the_line_of_the_order() {
    let deaf = World::new();
    deaf.live(ONE, Span::hours(1));
    let world = world();
    world.live(ONE, Span::hours(1));
    assert_eq!((world.ca.lines(), world.ca.requests()), (1, deaf.ca.requests() + 1));
    let log = world.ca.log();
    assert!(
        log[log.len() - 2].starts_with("POST /certificate/") && log[log.len() - 1].starts_with(QUESTION),
        "{log:?}"
    );
    let issued = world.ca.issued()[0].clone();
    let middle = issued.not_before.plus(Span::days(60));
    let (from, until) = (middle.minus(Span::days(90).percent(1)), middle.plus(Span::days(90).percent(1)));
    let md = json(&world);
    let cert = &md["cert"]["secp256r1"];
    assert_eq!(cert["ari-window"], json!({"from": from.http_date(), "until": until.http_date()}), "{md}");
    let id = cert["ari-cert-id"].as_str().unwrap_or_default();
    assert_eq!(log.last(), Some(&format!("{QUESTION}{id}")));
    assert_eq!(md["renew-at"], drawn(&world).http_date());
    assert!(drawn(&world) >= from && drawn(&world) <= until);
    let public = world.board.read(|reports| status::public_json(&reports[0]));
    assert!(!public.to_string().contains("ari"), "nobody else's business: {public}");
    assert!(!md["renew"].as_bool().unwrap_or(true), "{md}");
    let (text, well) = world.status();
    assert!(well && text.ends_with(&format!("; renewal from {}", drawn(&world))), "{text}");
    let told = format!("a.example: told of it; renewal from {}", drawn(&world));
    assert!(journal::take().contains(&told), "what is not known yet is not said");
}

/// Awake in time, after sixty days of asking four times a day; one line each, and one request after the first.
#[test]
fn it_is_renewed_at_the_moment_that_was_drawn() {
    let world = world();
    world.live(ONE, Span::hours(1));
    let (at, known, flash) = (drawn(&world), world.ca.requests(), world.disk.replaced().len());
    let ca = world.ca.clone();
    let just_before = at.since(world.hands.now().unwrap()).minus(Span::millis(1));
    let after = at.since(world.hands.now().unwrap()).plus(Span::secs(2));
    world.hands.do_in(just_before, move || assert_eq!(count(&ca.log(), ORDER), 1, "too early"));
    let ca = world.ca.clone();
    world.hands.do_in(after, move || assert_eq!(ca.issued().len(), 2, "too late"));
    world.live(ONE, Span::days(61));
    let log = since(&world, known);
    let order = log.iter().position(|line| line == ORDER).unwrap();
    let (questions, directories) = (count(&log[..order], QUESTION), count(&log[..order], "GET /directory"));
    assert_eq!((questions, directories), (59 * 4, 2), "its directory once, by the life of a daemon, and for the order");
    assert!(world.ca.issued()[0].replaced, "the CA was told which one the new one replaces");
    assert_eq!(world.disk.replaced().len() - flash, 2, "no question costs any flash");
    assert!(
        journal::take()
            .iter()
            .any(|line| line.ends_with("from https://ca.example/directory: the CA asks for its renewal"))
    );
}

/// The moment is kept through reloads and restarts, and so is the pace of the questions.
#[test]
fn restarts_and_reloads_keep_the_moment() {
    let world = world();
    world.live(ONE, Span::hours(1));
    let (at, known) = (drawn(&world), world.ca.requests());
    for n in 0..40 {
        let conf = if n % 2 == 0 { ONE.replace("/bin/reload-ui now", "/bin/reload-ui then") } else { ONE.into() };
        world.hands.knock_in(Span::mins(1), Knock::Reload(Box::new(config(&conf))));
        world.live(ONE, Span::mins(3));
        assert_eq!(drawn(&world), at);
    }
    assert_eq!(since(&world, known).len(), 0, "{:?}", since(&world, known));
    world.hands.turn(Span::hours(6));
    world.live(ONE, Span::mins(3));
    assert_eq!(since(&world, known).len(), 2, "{:?}", since(&world, known));
    assert_eq!(drawn(&world), at, "the window is the same");
}

/// A window that has moved is seen at the next question; one that is over means at once. The CA's reason is shown.
#[test]
fn a_window_that_is_over_is_acted_on_at_the_next_question() {
    let world = world();
    world.live(ONE, Span::hours(1));
    let over = (START.minus(Span::hours(1)), START.minus(Span::mins(30)));
    world.ca.weather(|weather| {
        (weather.window, weather.explanation) = (Some(over), Some("https://ca.example/why\u{1b}[2J"));
        weather.spoil = Some(("/new-order", Bad::Problem(503, "serverInternal", None)));
    });
    let known = world.ca.requests();
    world.live(ONE, Span::mins(299));
    assert_eq!(world.ca.requests(), known, "Retry-After");
    world.live(ONE, Span::mins(2));
    let (text, _) = world.status();
    assert!(text.contains("; the CA asks for its renewal; next try "), "{text}");
    assert!(text.contains("\n    the CA says why it wants it renewed: https://ca.example/why\\u{1b}[2J"), "{text}");
    let md = json(&world);
    assert_eq!(md["cert"]["secp256r1"]["ari-explanation-url"], "https://ca.example/why\\u{1b}[2J", "{md}");
    assert_eq!((&md["renew"], &md["state"]), (&true.into(), &2.into()), "{md}");
    assert!(journal::take().iter().any(|line| line.contains("; it says why at https://ca.example/why\\u{1b}[2J; ")));
    let asked = count(&since(&world, known), QUESTION);
    world.live(ONE, Span::hours(20));
    assert_eq!(count(&since(&world, known), QUESTION), asked, "what is due is not asked about");

    world.ca.weather(|weather| *weather = Weather { ari: true, ..Weather::default() });
    world.live(ONE, Span::days(1));
    assert_eq!(world.issued(), 2);
    assert!(world.status().1 && !world.status().0.contains("why"), "{}", world.status().0);
}

/// A CA whose windows are nonsense does not get one order after the other.
#[test]
fn a_new_certificate_whose_window_is_over_waits_for_half_its_life() {
    let world = world();
    world.ca.weather(|weather| {
        weather.window = Some((START.minus(Span::hours(1)), START.minus(Span::mins(30))));
        weather.life = Span::days(6);
    });
    world.live(ONE, Span::days(30));
    assert!((9..=11).contains(&world.issued()), "{} orders in thirty days", world.issued());
}

#[test]
fn what_fails_is_asked_again_with_patience() {
    for (bad, questions) in [
        // A minute, doubling, six times; then four times a day.
        (Bad::Problem(500, "serverInternal", None), 6..=13),
        (Bad::Problem(503, "serverInternal", Some(Span::secs(1))), 6..=13),
        (Bad::Problem(503, "serverInternal", Some(Span::hours(8))), 3..=4),
        (Bad::Problem(404, "malformed", None), 4..=5),
        (Bad::Html, 4..=5),
        (Bad::Empty, 4..=5),
    ] {
        let world = world();
        world.live(ONE, Span::hours(1));
        let (at, known) = (drawn(&world), world.ca.requests());
        world.ca.weather(|weather| weather.spoil = Some(("/renewal-info", bad.clone())));
        world.live(ONE, Span::hours(30));
        let log = since(&world, known);
        assert!(questions.contains(&count(&log, QUESTION)), "{bad:?}: {}", count(&log, QUESTION));
        assert_eq!(drawn(&world), at, "{bad:?}: what was said still counts");
        assert!(world.status().1, "{bad:?}: nobody needs to know: {}", world.status().0);
    }
    let world = world();
    world.live(ONE, Span::hours(1));
    let lines = world.ca.lines();
    world.ca.weather(|weather| weather.down = true);
    world.live(ONE, Span::days(3));
    assert!(world.ca.lines() - lines < 30, "{} tries in three days", world.ca.lines() - lines);
}

/// The order goes out once more, without it, whatever the CA has against the certificate that is to be replaced.
#[test]
fn a_certificate_that_is_not_to_be_replaced_holds_up_no_order() {
    for no in [
        (409, "alreadyReplaced"),
        (409, "conflict"),
        (409, "whatever"),
        (400, "malformed"),
        (403, "unauthorized"),
        (404, "malformed"),
        (500, "serverInternal"),
    ] {
        let world = world();
        world.live(ONE, Span::hours(1));
        world.ca.weather(|weather| weather.keeps_replaced = Some(no));
        world.hands.turn(Span::days(60).plus(Span::hours(20)));
        let known = world.ca.requests();
        world.live(ONE, Span::hours(1));
        assert_eq!(world.issued(), 2, "{no:?}: {}", world.status().0);
        assert_eq!(count(&since(&world, known), ORDER), 2, "{no:?}");
        assert!(!world.ca.issued()[0].replaced);
    }
    // What is refused without it is refused.
    let world = world();
    world.live(ONE, Span::hours(1));
    world.hands.turn(Span::days(61));
    world.ca.weather(|weather| weather.spoil = Some(("/new-order", Bad::Problem(400, "malformed", None))));
    let known = world.ca.requests();
    world.live(ONE, Span::hours(1));
    assert_eq!(count(&since(&world, known), ORDER), 2);
    assert!(world.status().0.contains("placing the order: malformed"), "{}", world.status().0);
}

/// Another account, another CA, and no name in common: the old one is not the new one's forerunner.
#[test]
fn only_what_may_be_replaced_is_named() {
    let world = world();
    world.live(ONE, Span::hours(1));
    world.ca.end_accounts();
    world.hands.turn(Span::days(61));
    world.live(ONE, Span::hours(1));
    assert!(world.issued() == 2 && !world.ca.issued()[0].replaced, "the account is another one");

    let conf = ONE.replace("a.example b.example", "a.example b.example c.example");
    let known = world.ca.requests();
    world.live(&conf, Span::hours(1));
    assert!(world.ca.issued()[1].replaced, "a name more");
    assert_eq!(count(&since(&world, known), ORDER), 1);

    world.other.weather(|weather| weather.ari = true);
    world.live(&ONE.replace("//ca.", "//other."), Span::hours(1));
    assert_eq!(world.other.issued().len(), 1);
    assert_eq!(count(&world.other.log(), ORDER), 1, "nothing was refused");
}

#[test]
fn it_can_be_switched_off() {
    let world = world();
    let off = format!("MDRenewViaARI off\n{ONE}");
    world.live(&off, Span::days(61));
    assert_eq!(world.issued(), 2, "at 33 %");
    assert_eq!(count(&world.ca.log(), QUESTION), 0);
    assert!(!world.ca.issued()[0].replaced);
    assert!(json(&world)["cert"]["secp256r1"]["ari-window"].is_null());
    world.live(ONE, Span::mins(1));
    assert_eq!(count(&world.ca.log(), QUESTION), 1, "and on");
    let at = drawn(&world);
    world.live(&off, Span::mins(1));
    assert_ne!(json(&world)["renew-at"], at.http_date(), "and off again");
}

/// A CA without windows is asked once in the life of a device.
#[test]
fn a_ca_that_has_no_windows_is_not_asked_again() {
    let world = World::new();
    world.live(ONE, Span::hours(1));
    let known = world.ca.requests();
    world.live(ONE, Span::days(50));
    assert_eq!(since(&world, known), [""; 0]);
    world.disk.reboot(Keep::Synced);
    world.live(ONE, Span::days(5));
    assert_eq!(since(&world, known), ["GET /directory"]);
    assert_eq!(asked(&world, ONE, &["a.example"], Push::Now).last(), Some(&Say::End(0)));
    assert_eq!(since(&world, known).len(), 1);
}

#[test]
fn without_a_clock_nobody_is_asked() {
    let world = world();
    world.live(ONE, Span::hours(1));
    let known = world.ca.requests();
    world.hands.jump(Some(START.minus(Span::days(1))));
    world.live(ONE, Span::hours(23));
    assert_eq!(since(&world, known), [""; 0]);
}

/// Power comes back to many devices at once, and all have forgotten: each asks at a moment of its own, unless
/// MDInitialDelay says otherwise.
#[test]
fn after_a_boot_they_do_not_all_ask_at_once() {
    for (conf, mins) in [(ONE.into(), 0), (ONE.replace("MDInitialDelay 0\n", ""), 20)] {
        let world = world();
        world.live(&conf, Span::hours(1));
        world.disk.reboot(Keep::Synced);
        let mut dice = world.dice.clone();
        // As a throw 10 s, and 20 minutes for what is not urgent.
        while dice.throws() < 10_000 {
            dice.below(1);
        }
        let known = world.ca.requests();
        for (span, requests) in [(Span::mins(mins).minus(Span::secs(1)), 0), (Span::mins(mins).plus(Span::secs(1)), 2)]
        {
            let ca = world.ca.clone();
            world
                .hands
                .do_in(span, move || assert!(span == Span::ZERO || ca.requests() == known + requests, "{span:?}"));
        }
        world.live(&conf, Span::mins(25));
    }
}

/// Whoever has many certificates of one CA asks about all of them on one line; where an order is due, on its line.
#[test]
fn one_line_asks_about_all() {
    let world = world();
    let mds: String = (0..20).map(|n| format!("MDomain n{n}.example\n")).collect();
    let conf = format!(
        "MDCertificateAgreement accepted\nMDCertificateAuthority https://ca.example/directory\nMDInitialDelay 0\n{mds}"
    );
    world.live(&conf, Span::hours(1));
    assert_eq!((world.issued(), world.ca.lines()), (20, 20));
    let known = world.ca.requests();
    world.hands.turn(Span::hours(6));
    world.live(&conf, Span::mins(1));
    assert_eq!((since(&world, known).len(), world.ca.lines()), (21, 21), "the directory, and one for each");

    let known = world.ca.requests();
    world.hands.turn(Span::hours(6));
    world.live(&conf.replace("n7.example", "n7.example more.example"), Span::mins(1));
    let log = since(&world, known);
    assert_eq!((count(&log, QUESTION), count(&log, ORDER), world.ca.lines()), (20, 1, 22), "{log:?}");
    assert_eq!(count(&log, "GET /directory"), 1);
    assert!(world.status().1, "{}", world.status().0);
}

/// `edgemd renew` looks at how things stand now.
#[test]
fn a_renewal_on_demand_asks_the_ca_first() {
    let world = world();
    world.live(ONE, Span::hours(1));
    assert_eq!(asked(&world, ONE, &["a.example"], Push::Now).last(), Some(&Say::End(0)));
    assert_eq!(world.issued(), 1);
    world.ca.weather(|weather| weather.window = Some((START.minus(Span::days(1)), START.plus(Span::days(1)))));
    assert_eq!(asked(&world, ONE, &["a.example"], Push::Now).last(), Some(&Say::End(0)));
    assert_eq!(world.issued(), 1, "it was asked before its time just now");
    world.hands.turn(Span::hours(6));
    world.live(ONE, Span::mins(1));
    assert_eq!(world.issued(), 2);
    world.ca.weather(|weather| weather.window = Some((START.minus(Span::days(1)), START.plus(Span::days(2)))));
    assert_eq!(asked(&world, ONE, &["a.example"], Push::Due).last(), Some(&Say::End(0)));
    assert_eq!(world.issued(), 2, "one pass keeps to Retry-After");
    let said = asked(&world, ONE, &["a.example"], Push::Now);
    assert_eq!((said.last(), world.issued()), (Some(&Say::End(0)), 3), "{said:?}");
}

/// Two kinds of one MD are told of once, however slowly the CA says when it wants each of them renewed; but a CA that hangs
/// is not waited for.
#[test]
fn the_questions_of_two_kinds_are_one_call() {
    for takes in [Span::ZERO, Span::millis(300), Span::secs(2)] {
        let world = world();
        world.ca.weather(|weather| weather.takes = takes);
        world.live(&format!("MDPrivateKeys P-256 P-384\n{ONE}"), Span::hours(1));
        assert_eq!((world.issued(), world.ear.heard().len()), (2, 1), "{takes}");
    }
    let world = world();
    world.ca.weather(|weather| weather.takes = Span::secs(1));
    for n in 1..400 {
        let ca = world.ca.clone();
        world.hands.do_in(Span::millis(100 * n), move || {
            // The certificate is on its way, and the question comes after it.
            if ca.log().last().is_some_and(|last| last.starts_with("POST /order/")) {
                ca.weather(|weather| weather.takes = Span::secs(29));
            }
        });
    }
    let (ca, ear) = (world.ca.clone(), world.ear.clone());
    world.hands.do_in(Span::secs(25), move || {
        assert_eq!((ca.issued().len(), count(&ca.log(), QUESTION), ear.heard().len()), (1, 0, 1));
    });
    world.live(ONE, Span::mins(1));
    assert_eq!((count(&world.ca.log(), QUESTION), world.ear.heard().len()), (1, 1));
}
