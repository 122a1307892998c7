//! A renewed certificate waits for its activation (MDActivationDelay); meanwhile the one before stays in use.

use super::fake::disk::Keep;
use super::power::each_cut;
use super::{ONE, World, asked, config};
use edgemd::doors::clock::{Clock, Knock, Push};
use edgemd::doors::disk::Disk;
use edgemd::rules::control::Say;
use edgemd::rules::{pem, status};
use edgemd::words::time::{Span, Unix};
use serde_json::Value;
use std::path::Path;

fn delayed(delay: &str) -> String {
    format!("MDActivationDelay {delay}\n{ONE}")
}

/// Alive to the moment of the first renewal, and a while longer.
fn renewed(world: &World, conf: &str, longer: Span) -> Unix {
    world.live(conf, Span::hours(1));
    world.hands.turn(Span::days(61));
    world.live(conf, longer);
    assert_eq!(world.issued(), 2);
    world.ca.issued()[1].not_before
}

/// The leaf of the `n`-th certificate, as it is exported.
fn leaf(world: &World, n: usize) -> String {
    pem::encode("CERTIFICATE", &world.ca.issued()[n].der)
}

fn json(world: &World) -> Value {
    world.board.read(|reports| status::md_json(&reports[0]))
}

fn serial(value: &Value) -> &str {
    value["secp256r1"]["serial"].as_str().unwrap_or_default()
}

#[test]
fn md_702_002_md_920_002_a_renewed_certificate_is_staged_until_its_activation() {
    let world = World::new();
    let conf = delayed("12h");
    world.live(&conf, Span::mins(1));
    assert_eq!(world.ear.heard().len(), 1, "a first certificate is active at once");
    assert!(json(&world)["renewal"].is_null(), "{}", json(&world));
    let before = json(&world)["cert"].clone();

    let flash = world.disk.replaced().len();
    let from = renewed(&world, &conf, Span::hours(1)).plus(Span::hours(12));
    assert!(world.served().starts_with(&leaf(&world, 0)), "the one before stays exported");
    assert_eq!(world.ear.heard().len(), 1);
    let md = json(&world);
    assert_eq!(md["cert"], before, "and is the one that is shown");
    let staged = &md["renewal"]["cert"];
    let issued = world.ca.issued()[1].clone();
    assert_eq!(serial(staged), format!("{:04X}", 1001), "{md}");
    assert_eq!(md["renewal"]["notified"], false, "that comes with its activation: {md}");
    assert_eq!(staged["secp256r1"]["valid"]["from"], issued.not_before.http_date(), "{md}");
    assert_eq!(staged["valid"]["until"], issued.not_after.http_date(), "{md}");
    assert_eq!((&md["renew"], &md["state"]), (&Value::Bool(false), &2.into()), "nothing is due: {md}");
    let (text, well) = world.status();
    assert!(well && text.contains(&format!("a newer one is used from {from}")), "{text}");

    world.live(&conf, Span::hours(13));
    let (when, _) = world.ear.heard().remove(1);
    assert_eq!(when, Some(from), "awake at that moment, and not at the next look");
    assert!(world.served().starts_with(&leaf(&world, 1)));
    let md = json(&world);
    assert_eq!(serial(&md["cert"]), format!("{:04X}", 1001));
    assert!(md["renewal"].is_null(), "{md}");
    assert_eq!(world.disk.replaced().len() - flash, 2, "as many files as without a delay");
    world.live(&conf, Span::days(30));
    assert_eq!((world.issued(), world.ear.heard().len()), (2, 2));
}

#[test]
fn two_years_with_a_delay() {
    let world = World::new();
    let conf = delayed("2d");
    for _ in 0..730 {
        world.live(&conf, Span::days(1));
        assert!(world.status().1, "{}", world.status().0);
    }
    assert_eq!((world.issued(), world.ear.heard().len()), (13, 13));
    for (issued, (when, _)) in world.ca.issued().into_iter().zip(world.ear.heard()).skip(1) {
        assert_eq!(when, Some(issued.not_before.plus(Span::days(2))));
    }
}

/// The folder of the exports is in memory, and the device boots while a certificate is staged, with or without the time.
#[test]
fn a_boot_writes_the_exports_of_the_one_in_use() {
    for clock in [true, false] {
        let world = World::new();
        let conf = delayed("12h");
        let from = renewed(&world, &conf, Span::hours(1)).plus(Span::hours(12));
        world.disk.reboot(Keep::Synced);
        assert_eq!(world.served(), "");
        if !clock {
            let time = world.hands.now();
            world.hands.jump(None);
            world.live(&conf, Span::mins(30));
            assert_eq!(world.ear.heard().len(), 1, "nobody is called without the time");
            assert!(world.served().starts_with(&leaf(&world, 0)), "and whoever starts finds its pair");
            world.hands.jump(time.map(|time| time.plus(Span::mins(30))));
        }
        world.live(&conf, Span::hours(1));
        assert!(world.served().starts_with(&leaf(&world, 0)));
        assert_eq!(world.ear.heard().len(), 2, "the files were written, so the script is called");
        world.live(&conf, Span::hours(12));
        assert!(world.served().starts_with(&leaf(&world, 1)));
        assert_eq!(world.ear.heard().last().unwrap().0, Some(from));
        assert_eq!((world.issued(), world.ear.heard().len()), (2, 3));
        // And afterwards the time is no reason to go back to the old one.
        world.disk.reboot(Keep::Synced);
        world.hands.jump(None);
        world.live(&conf, Span::hours(1));
        assert!(world.served().starts_with(&leaf(&world, 1)));
    }
}

#[test]
fn two_kinds_of_keys_come_into_use_together() {
    let world = World::new();
    world.ca.weather(|weather| (weather.polls, weather.retry_after) = (2, Some(Span::secs(5))));
    let conf = format!("MDPrivateKeys P-256 P-384\n{}", delayed("12h"));
    world.live(&conf, Span::hours(1));
    world.hands.turn(Span::days(61));
    world.live(&conf, Span::days(1));
    assert_eq!((world.issued(), world.ear.heard().len()), (4, 2));
}

/// Whatever the delay, a certificate that has ended is not what is used while there is a better one.
#[test]
fn the_end_of_the_one_before_is_an_activation() {
    let world = World::new();
    let conf = delayed("400d");
    renewed(&world, &conf, Span::days(1));
    let end = world.ca.issued()[0].not_after;
    world.live(&conf, Span::days(35));
    assert_eq!(world.ear.heard()[1].0, Some(end));
    assert!(world.served().starts_with(&leaf(&world, 1)));
    assert!(world.status().1, "{}", world.status().0);
}

/// The delay is changed by a reload: shorter is at once; longer takes nothing back that is in use.
#[test]
fn a_changed_delay_is_in_force_at_once() {
    let world = World::new();
    let conf = delayed("3d");
    renewed(&world, &conf, Span::hours(2));
    world.hands.knock_in(Span::mins(1), Knock::Reload(Box::new(config(&delayed("1h")))));
    world.live(&conf, Span::mins(2));
    assert!(world.served().starts_with(&leaf(&world, 1)));
    assert_eq!(world.ear.heard().len(), 2);
    world.hands.knock_in(Span::mins(1), Knock::Reload(Box::new(config(&delayed("30d")))));
    world.live(&delayed("1h"), Span::hours(1));
    world.live(&delayed("30d"), Span::hours(1));
    assert!(world.served().starts_with(&leaf(&world, 1)));
    assert_eq!(world.ear.heard().len(), 2);
    // One that is asked for is staged like any other, and the next one takes its place.
    asked(&world, &delayed("30d"), &[], Push::Force);
    assert_eq!(world.issued(), 3);
    assert!(world.served().starts_with(&leaf(&world, 1)));
    assert_eq!(serial(&json(&world)["renewal"]["cert"]), format!("{:04X}", 1002));
}

/// Two that were asked for one after the other: neither is in use yet, and what was before them is gone. The newest is
/// when its time has come.
#[test]
fn two_that_are_staged_are_told_of_at_the_activation_of_the_newer_one() {
    let world = World::new();
    let conf = delayed("5mi");
    world.live(&conf, Span::hours(1));
    // As a CA does that dates nothing back.
    world.ca.weather(|weather| weather.backdate = Span::ZERO);
    let (ended, ends) = smol::channel::unbounded();
    for at in [1, 61] {
        world.hands.knock_in(Span::secs(at), Knock::Renew { names: vec![], push: Push::Force, ended: ended.clone() });
    }
    world.live(&conf, Span::mins(7));
    assert_eq!(world.issued(), 3);
    assert!(world.served().starts_with(&leaf(&world, 2)), "{}", world.status().0);
    let said: Vec<Say> = std::iter::from_fn(|| ends.try_recv().ok()).collect();
    assert_eq!(said.iter().filter(|said| **said == Say::End(0)).count(), 2, "{said:?}");
}

/// A first name that goes takes both certificates along.
#[test]
fn a_renamed_md_keeps_what_is_staged() {
    let world = World::new();
    let conf = delayed("12h");
    let from = renewed(&world, &conf, Span::hours(1)).plus(Span::hours(12));
    let gone = conf.replace("MDomain a.example b.example", "MDomain b.example");
    world.live(&gone, Span::mins(1));
    let exported = |world: &World| {
        let pem = world.disk.read(Path::new("/run/tls/b.example.crt")).unwrap().unwrap_or_default();
        String::from_utf8(pem).unwrap()
    };
    assert!(exported(&world).starts_with(&leaf(&world, 0)));
    world.live(&gone, Span::hours(12));
    assert!(exported(&world).starts_with(&leaf(&world, 1)));
    assert_eq!((world.issued(), world.ear.heard().last().unwrap().0), (2, Some(from)));
}

/// The plug is pulled in every operation of a renewal and of its activation; never is anything exported too early, and in
/// the end the new one is.
#[test]
fn the_plug_is_pulled_while_a_certificate_is_staged() {
    let conf = delayed("12h");
    let before = || {
        let world = World::new();
        world.live(&conf, Span::hours(1));
        world.hands.turn(Span::days(61));
        world
    };
    let cuts = each_cut(&before, &|world| world.live(&conf, Span::hours(13)), &mut |world, _, when| {
        world.live(&conf, Span::mins(5));
        let from = world.ca.issued().last().unwrap().not_before.plus(Span::hours(12));
        if world.hands.now() < Some(from) {
            assert!(world.served().starts_with(&leaf(world, 0)), "{when}: too early");
        }
        world.live(&conf, Span::hours(13));
        assert!(world.served().starts_with(&world.newest_pem()), "{when}");
        assert!(world.status().1, "{when}: {}", world.status().0);
    });
    assert!(cuts.cuts > 15, "only {cuts:?}");
}
