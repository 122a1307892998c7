//! What MDMessageCmd hears, in which order, how often, and what its answer does.

use super::fake::disk::Keep;
use super::{ONE, START, World, asked, config, journal};
use edgemd::doors::clock::{Knock, Push};
use edgemd::doors::disk::Disk;
use edgemd::rules::control::Say;
use edgemd::rules::status;
use edgemd::words::time::{Span, Unix};
use serde_json::Value;
use std::path::Path;

const NOTIFY: &str = "MDNotifyCmd /bin/reload-ui now\n";

/// Only messages.
fn alone() -> String {
    ONE.replace(NOTIFY, "MDMessageCmd /bin/message\n")
}

fn both() -> String {
    ONE.replace(NOTIFY, "MDMessageCmd /bin/message\nMDNotifyCmd /bin/reload-ui\n")
}

fn count(words: &[String], word: &str) -> usize {
    words.iter().filter(|said| said.starts_with(word)).count()
}

fn json(world: &World) -> Value {
    world.board.read(|reports| status::md_json(&reports[0]))
}

fn writes(world: &World) -> usize {
    world.disk.replaced().len()
}

#[test]
fn md_901_020_the_events_come_in_their_order() {
    let world = World::new();
    world.live(&both(), Span::hours(1));
    let heard: Vec<Vec<String>> = world.ear.heard().into_iter().map(|(_, event)| event.argv).collect();
    let message = |event| vec!["/bin/message", event, "a.example"];
    let expected = [
        message("renewing"),
        message("challenge-setup:http-01:a.example"),
        message("challenge-setup:http-01:b.example"),
        vec!["/bin/reload-ui", "a.example"],
        message("renewed"),
        message("installed"),
    ];
    assert_eq!(heard, expected);
    for (_, event) in world.ear.heard() {
        let value = |name| event.env.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value);
        let said = if event.argv[0] == "/bin/reload-ui" { "renewed" } else { &event.argv[1] };
        assert_eq!((value("EDGEMD_EVENT"), value("EDGEMD_MD")), (said, "a.example"));
        assert_eq!(value("EDGEMD_KEY"), "/run/tls/a.example.key");
        assert!(event.env.iter().all(|(_, value)| !value.contains("PRIVATE")), "{:?}", event.env);
    }
}

/// The log of an MD has the messages beside what they are about, the newest first.
#[test]
fn md_901_003_the_log_has_the_messages() {
    let world = World::new();
    world.live(&both(), Span::hours(1));
    let log = world.board.read(|reports| reports[0].log.clone());
    let kinds: Vec<(&str, &str)> = log.entries().map(|entry| (entry.what, entry.detail.as_str())).collect();
    let messages: Vec<_> = kinds.iter().filter(|(what, _)| what.starts_with("message-")).copied().collect();
    let expected = [
        ("message-installed", ""),
        ("message-renewed", ""),
        ("message-challenge-setup", "http-01:b.example"),
        ("message-challenge-setup", "http-01:a.example"),
        ("message-renewing", ""),
    ];
    assert_eq!(messages, expected);
    assert_eq!(kinds.iter().position(|(what, _)| *what == "renewed"), Some(2), "{kinds:?}");
}

/// Each event once for each renewal, and flash no more than without a command.
#[test]
fn two_years_of_messages() {
    let world = World::new();
    for day in 0..730 {
        let (issued, before) = (world.issued(), writes(&world));
        world.live(&both(), Span::days(1));
        let flash = writes(&world) - before;
        let expected = if day == 0 { 4 } else { 2 * (world.issued() - issued) };
        assert_eq!(flash, expected, "files replaced on day {day}");
        assert!(world.status().1, "{}", world.status().0);
    }
    let words = world.ear.words(0);
    let counts =
        ["renewing", "challenge-setup:http-01:a", "challenge-setup:http-01:b", "a.example", "renewed", "installed"]
            .map(|word| count(&words, word));
    assert_eq!((world.issued(), counts), (13, [13; 6]));
    assert_eq!(words.len(), 13 * 6, "and nothing else was ever said");
}

/// Asked before an order, and once for all kinds of keys; an answer that is not 0 is respected for an hour.
#[test]
fn a_veto_puts_a_renewal_off_by_an_hour() {
    let world = World::new();
    let conf = format!("MDPrivateKeys P-256 P-384\n{}", alone());
    world.ear.deny("renewing");
    world.live(&conf, Span::mins(150));
    let times: Vec<Span> = world.ear.heard().iter().map(|(at, _)| at.unwrap().since(START)).collect();
    assert_eq!(times, [Span::ZERO, Span::hours(1), Span::hours(2)]);
    assert_eq!((world.ca.requests(), writes(&world)), (0, 0), "nobody is asked, and flash is not written");
    let last = json(&world)["renewal"]["last"].clone();
    assert_eq!(last["problem"], "urn:org:apache:httpd:log:AH10109:", "{last}");
    let (text, well) = world.status();
    assert!(!well && text.contains("MDMessageCmd renewing: running /bin/message: exited with 1"), "{text}");

    let said = asked(&world, &conf, &[], Push::Now);
    assert_eq!(said.last(), Some(&Say::End(1)), "whoever asks is told: {said:?}");
    assert!(matches!(&said[0], Say::Line(line) if line.contains("renewal put off")), "{said:?}");
    world.ear.deny(None);
    world.live(&conf, Span::hours(2));
    assert_eq!(world.issued(), 2);
    assert!(world.status().1, "{}", world.status().0);
}

/// A try that follows within the hour is not asked about again, and a failure is said once an hour; restarts change
/// neither.
#[test]
fn what_is_said_of_failures_is_bounded_over_restarts() {
    let world = World::new();
    world.ca.weather(|weather| weather.down = true);
    for _ in 0..6 * 24 {
        world.live(&alone(), Span::mins(10));
    }
    let tries = world.ca.lines();
    let words = world.ear.words(0);
    let (renewing, errored) = (count(&words, "renewing"), count(&words, "errored"));
    assert!((15..=24).contains(&renewing) && (15..=24).contains(&errored), "{renewing} and {errored} in a day");
    assert!(tries as usize > renewing, "{tries} tries");
    assert_eq!(words.len(), renewing + errored);
    for word in ["renewing", "errored"] {
        let heard = world.ear.heard();
        let times: Vec<Unix> =
            heard.iter().filter(|(_, event)| event.argv[1] == word).filter_map(|(at, _)| *at).collect();
        assert!(times.windows(2).all(|pair| pair[1].since(pair[0]) >= Span::hours(1)), "{word}: {times:?}");
    }
    assert_eq!(writes(&world), 1, "the account's key, before anybody was called");
}

#[test]
fn md_901_040_an_answer_that_the_command_refuses_is_not_offered() {
    let world = World::new();
    world.ear.deny("challenge-setup");
    world.live(&alone(), Span::secs(5));
    assert_eq!(world.ear.words(0), ["renewing", "challenge-setup:http-01:a.example", "errored"]);
    let md = json(&world);
    assert_eq!(md["renewal"]["last"]["problem"], "challenge-setup-failure", "{md}");
    assert!(md["renewal"]["last"]["detail"].to_string().contains("exited with 1"), "{md}");
    let asked = world.ca.log();
    assert!(!asked.iter().any(|request| request.contains("/challenge/")), "the CA is told of no answer: {asked:?}");

    let flash = writes(&world);
    world.live(&alone(), Span::days(2));
    assert!(json(&world)["renewal"]["errors"].as_u64() > Some(5));
    assert_eq!(writes(&world), flash, "what fails here is no reason to write");
    world.ear.deny(None);
    world.live(&alone(), Span::days(2));
    assert!(world.status().1 && world.issued() == 1, "{}", world.status().0);
}

/// A command that does its work is not called again because another one does not.
#[test]
fn renewed_is_owed_and_nobody_else_hears_of_that() {
    let world = World::new();
    world.ear.deny("renewed");
    world.live(&both(), Span::secs(1));
    let flash = writes(&world);
    // In half a day, with a restart.
    world.live(&both(), Span::hours(6));
    world.live(&both(), Span::hours(6));
    let words = world.ear.words(0);
    assert_eq!((count(&words, "a.example"), count(&words, "installed")), (1, 0));
    assert!((12..40).contains(&count(&words, "renewed")), "{words:?}");
    assert_eq!(writes(&world), flash);
    let last = json(&world)["renewal"]["last"].clone();
    assert_eq!(last["problem"], "urn:org:apache:httpd:log:AH10109:", "{last}");
    world.ear.deny(None);
    let heard = world.ear.heard().len();
    world.live(&both(), Span::hours(2));
    assert_eq!(world.ear.words(heard), ["renewed", "installed"]);
    assert_eq!(writes(&world), flash + 1);
    assert!(world.status().1, "{}", world.status().0);
}

#[test]
fn what_is_owed_to_nobody_is_logged() {
    let world = World::new();
    world.ear.deny("installed");
    world.live(&both(), Span::hours(1));
    assert!(world.status().1, "{}", world.status().0);
    assert_eq!(count(&world.ear.words(0), "installed"), 1);
    let lines = journal::take();
    assert!(lines.iter().any(|line| line.contains("MDMessageCmd installed: running /bin/message: exited with 1")));
}

/// A second renewal on the same day is a call of the notification, and no second message of its kind.
#[test]
fn the_limits_outlive_a_restart_and_not_a_boot() {
    let world = World::new();
    world.live(&both(), Span::hours(1));
    for (boot, renewed) in [(false, 1), (true, 2)] {
        if boot {
            world.disk.reboot(Keep::Synced);
            world.live(&both(), Span::hours(1));
        }
        asked(&world, &both(), &[], Push::Force);
        let words = world.ear.words(0);
        assert_eq!((count(&words, "renewed"), count(&words, "installed")), (renewed, renewed), "{words:?}");
    }
    world.disk.plant(Path::new("/run/edgemd/state"), b"garbage");
    world.live(&both(), Span::hours(1));
    assert!(world.status().1, "{}", world.status().0);
    assert!(journal::take().iter().any(|line| line.contains("told of it")));
}

const MANUAL: &str = "
MDCertificateAgreement accepted
MDCertificateAuthority https://ca.example/directory
MDInitialDelay 0
MDDriveMode manual
MDExport /run/tls
MDomain a.example
";

/// What nobody renews is warned of from the beginning of its window, once a day, expired or not.
#[test]
fn an_md_that_is_not_driven_is_warned_of_once_a_day() {
    let world = World::new();
    world.live(&MANUAL.replace("manual", "auto"), Span::hours(1));
    let held = world.ca.issued()[0].clone();
    let conf = format!("MDWarnWindow 10d\nMDMessageCmd /bin/message\n{MANUAL}");
    journal::take();
    world.live(&conf, Span::days(95));
    let from = held.not_after.minus(Span::days(10));
    let times: Vec<Unix> = world.ear.heard().iter().map(|(at, _)| at.unwrap()).collect();
    let expected: Vec<Unix> = (0..16).map(|day| from.plus(Span::days(day))).collect();
    assert_eq!(times, expected);
    assert!(world.ear.words(0).iter().all(|word| word == "expiring"));
    let lines = journal::take();
    assert_eq!(lines.iter().filter(|line| line.contains("its certificate ends")).count(), 10);
    assert_eq!(lines.iter().filter(|line| line.contains("its certificate has ended")).count(), 6);

    // The line is there without a command too, and once a day over restarts.
    let silent = format!("MDWarnWindow 10d\n{MANUAL}");
    for _ in 0..24 {
        world.live(&silent, Span::hours(2));
    }
    let lines = journal::take();
    assert_eq!(lines.iter().filter(|line| line.contains("its certificate has ended")).count(), 2, "{lines:#?}");
}

#[test]
fn md_901_030_a_warning_is_owed_until_it_is_heard() {
    let world = World::new();
    world.live(&MANUAL.replace("manual", "auto"), Span::hours(1));
    world.hands.turn(Span::days(85));
    let conf = format!("MDMessageCmd /bin/message\n{MANUAL}");
    let flash = writes(&world);
    world.ear.deny("expiring");
    world.live(&conf, Span::hours(3));
    let md = json(&world);
    assert!(md["renewal"]["errors"].as_u64() > Some(5), "{md}");
    assert_eq!(md["renewal"]["last"]["problem"], "urn:org:apache:httpd:log:AH10109:", "{md}");
    let (text, well) = world.status();
    assert!(!well && text.contains("warning failed ") && text.contains("MDMessageCmd expiring"), "{text}");
    let lines = journal::take();
    assert_eq!(lines.iter().filter(|line| line.contains("its certificate ends")).count(), 1, "{lines:#?}");
    // Mended, and started again: a wait of our own ends with a changed configuration.
    world.ear.deny(None);
    let heard = world.ear.heard().len();
    world.live(&conf.replace("/bin/message", "/bin/mended"), Span::mins(1));
    assert_eq!(world.ear.words(heard), ["expiring"]);
    assert!(json(&world)["renewal"].is_null(), "{}", json(&world));
    world.live(&conf.replace("/bin/message", "/bin/mended"), Span::hours(20));
    assert_eq!(world.ear.words(heard), ["expiring"]);
    assert_eq!(writes(&world), flash);
}

#[test]
fn md_901_010_in_its_renew_window_alone_nothing_is_said() {
    let world = World::new();
    world.live(&MANUAL.replace("manual", "auto"), Span::hours(1));
    world.hands.turn(Span::days(70));
    world.live(&format!("MDMessageCmd /bin/message\n{MANUAL}"), Span::days(10));
    assert_eq!(count(&world.ear.words(0), "expiring"), 0);
}

/// A driven one is warned of when its renewal fails for long, and not when it is only just being renewed.
#[test]
fn a_warning_waits_for_a_renewal_under_way() {
    let world = World::new();
    world.live(&alone(), Span::hours(1));
    world.hands.turn(Span::days(88));
    world.live(&alone(), Span::hours(1));
    assert_eq!((world.issued(), count(&world.ear.words(0), "expiring")), (2, 0));
    world.ca.weather(|weather| weather.down = true);
    world.live(&alone(), Span::days(89));
    let warned = count(&world.ear.words(0), "expiring");
    assert!((7..=9).contains(&warned), "{warned} days of the last nine");
    world.ca.weather(|weather| weather.down = false);
    let heard = world.ear.heard().len();
    world.live(&alone(), Span::days(30));
    assert_eq!(count(&world.ear.words(heard), "expiring"), 0);
    assert_eq!(world.issued(), 3);
}

/// A reload takes the command away: what was owed to it is owed no more.
#[test]
fn a_command_that_is_gone_is_owed_nothing() {
    let world = World::new();
    world.ear.deny("renewed");
    world.hands.knock_in(Span::mins(10), Knock::Reload(Box::new(config(&ONE.replace(NOTIFY, "")))));
    world.live(&alone(), Span::mins(20));
    assert!(world.status().1, "{}", world.status().0);
    assert!(world.disk.read(Path::new("/run/tls/a.example.key")).unwrap().is_some());
}
