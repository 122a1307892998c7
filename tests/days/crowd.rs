//! Many certificates on one device, and many devices that start together: neither comes to the CA's door at once.

use super::fake::ca::Bad;
use super::{ONE, START, World, asked, config};
use edgemd::doors::clock::{Knock, Push};
use edgemd::rules::control::Say;
use edgemd::words::time::Span;

fn many(count: usize) -> String {
    let mds = (1..=count).map(|n| format!("MDomain md{n:03}.example\n")).collect::<String>();
    format!(
        "MDCertificateAgreement accepted\nMDCertificateAuthority https://ca.example/directory\nMDInitialDelay 0\n{mds}"
    )
}

/// Let's Encrypt takes 300 orders in three hours from an account, and there may be more than one start in that time.
#[test]
fn a_hundred_mds_at_once_and_more_at_a_pace() {
    let world = World::new();
    for (span, issued) in [(Span::secs(53), 100), (Span::secs(55), 101), (Span::secs(54 * 20 + 1), 120)] {
        let ca = world.ca.clone();
        world.hands.do_in(span, move || assert_eq!(ca.issued().len(), issued, "after {span}"));
    }
    let board = world.board.clone();
    world.hands.do_in(Span::secs(30), move || {
        let line = board.read(|reports| edgemd::rules::status::text(&reports[129]).0.join("\n"));
        let at = START.plus(Span::secs(54));
        assert_eq!(line, format!("md130.example [P-256]: no certificate; next try {at}, after others at this CA"));
    });
    world.live(&many(130), Span::mins(30));
    assert_eq!(world.issued(), 130);
}

/// Whoever asks for all of them waits for all of them.
#[test]
fn a_job_goes_on_while_orders_wait_for_each_other() {
    let world = World::new();
    let said = asked(&world, &many(103), &[], Push::Due);
    assert_eq!(said.last(), Some(&Say::End(0)), "{:?}", said.last());
    assert_eq!((world.issued(), said.len()), (103, 104));
}

#[test]
fn a_private_ca_says_itself_what_it_takes() {
    let world = World::new();
    world.live(&format!("MDCACertificateFile /etc/ssl/own.pem\n{}", many(110)), Span::secs(10));
    assert_eq!(world.issued(), 110);
}

/// A hundred that fail don't keep the one from its certificate that was never tried.
#[test]
fn what_has_failed_comes_last() {
    let world = World::new();
    world.ca.weather(|weather| weather.spoil = Some(("/authorization", Bad::Problem(403, "unauthorized", None))));
    let ca = world.ca.clone();
    world.hands.do_in(Span::mins(10), move || ca.weather(|weather| weather.spoil = None));
    let more = format!("{}MDomain zz.example\n", many(100));
    world.hands.knock_in(Span::mins(10), Knock::Reload(Box::new(config(&more))));
    let ca = world.ca.clone();
    world.hands.do_in(Span::mins(10).plus(Span::secs(55)), move || {
        let names: Vec<_> = ca.issued().into_iter().flat_map(|issued| issued.names).collect();
        assert_eq!(names, ["zz.example"]);
    });
    world.live(&many(100), Span::mins(12));
}

/// Power comes back to a whole country: what is due but not urgent takes its time, and so do questions.
#[test]
fn after_a_start_only_what_is_urgent_is_done_at_once() {
    let world = World::new();
    world.live(ONE, Span::hours(1));
    world.hands.turn(Span::days(61));
    // As a throw 20 s, or 40 minutes.
    (0..20_000).for_each(|_| _ = super::Dice::below(&mut world.dice.clone(), 1));
    let calm = ONE.replace("MDInitialDelay 0\n", "");
    let (before, ca) = (world.ca.requests(), world.ca.clone());
    world.hands.do_in(Span::mins(40), move || assert_eq!(ca.requests(), before));
    world.live(&calm, Span::mins(39));
    assert_eq!(world.issued(), 1);
    let (status, _) = world.status();
    assert!(status.contains("is in its renewal window; next try 2027-03-17T"), "{status}");
    world.live(&calm, Span::mins(41));
    assert_eq!(world.issued(), 2);

    world.hands.turn(Span::days(61));
    let said = asked(&world, &calm, &["a.example"], Push::Now);
    assert_eq!((world.issued(), said.last()), (3, Some(&Say::End(0))), "somebody waits for it: {said:?}");
    world.hands.turn(Span::days(91));
    world.live(&calm, Span::mins(1));
    assert_eq!(world.issued(), 4, "that one had expired");
}

/// A rate limit is told with its end, of the one that met it and of the others that wait for it too.
#[test]
fn a_rate_limit_is_a_sentence_with_the_time_it_ends() {
    let world = World::new();
    world.ca.weather(|weather| {
        weather.spoil = Some(("/new-order", Bad::Problem(429, "rateLimited", Some(Span::hours(5)))))
    });
    super::journal::take();
    let conf = many(1);
    world.hands.knock_in(Span::mins(1), Knock::Reload(Box::new(config(&many(2)))));
    world.live(&conf, Span::mins(2));
    let (status, well) = world.status();
    let lines: Vec<&str> = status.lines().collect();
    // The counter throws one, or two.
    let at = lines[0].split("next try ").nth(1).unwrap();
    assert!(at.starts_with("2027-01-15T13:00:0") && at.ends_with("Z, as the CA asked"), "{status}");
    assert_eq!(lines[0], format!("md001.example [P-256]: no certificate; next try {at}"));
    assert_eq!(lines[1], "    order failed once: placing the order: rateLimited: bad weather");
    assert_eq!(
        lines[2],
        "    what to do: nothing, the CA's wait is kept; MDCertificateAuthority LetsEncrypt-Test is for practising"
    );
    assert_eq!(lines[3], format!("md002.example [P-256]: no certificate; next try {at}"));
    assert!(!well && lines.len() == 4, "{status}");
    let said = super::journal::take();
    let line = "md001.example: order failed: placing the order: rateLimited: bad weather; next try 2027-01-15T13:00:0";
    assert!(said.iter().any(|said| said.contains(line)), "{said:#?}");
}

/// A command that hangs for all MDs, again and again: between two of its calls the others' work goes on.
#[test]
fn one_hook_that_hangs_is_waited_for_at_a_time() {
    let world = World::new();
    let conf = |names: &str, dir: &str| {
        let mds: String = names.chars().map(|c| format!("MDomain {c}.example\n")).collect();
        ONE.replace("MDomain a.example b.example", &mds).replace("/run/tls", dir)
    };
    world.live(&conf("abcdef", "/run/tls"), Span::hours(1));
    assert_eq!((world.issued(), world.ear.heard().len()), (6, 6));
    // Elsewhere the exports of all are missing, so all are owed their call; and there is one more MD.
    world.ear.hang(6);
    let begin = START.plus(Span::hours(1));
    world.live(&conf("abcdefg", "/run/other"), Span::hours(1));
    let heard = world.ear.heard().split_off(6);
    let hung: Vec<Span> = heard.iter().take(6).map(|(at, _)| at.unwrap_or_default().since(begin)).collect();
    // The fake CA's certificates begin an hour before they are given.
    let issued = world.ca.issued().pop().map(|issued| issued.not_before.plus(Span::hours(1)).since(begin));
    println!("called after {hung:?}; the other one's order was through after {issued:?}");
    assert!(hung[5] >= Span::mins(5) && issued < Some(Span::mins(4)), "{hung:?} {issued:?}");
    assert_eq!((world.issued(), heard.len()), (7, 13), "each is called again, until it answers");
}
