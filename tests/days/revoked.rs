//! What is held is revoked: it is due from then on, whatever happens to the power.

use super::fake::ca::Weather;
use super::{ONE, World, asked, journal};
use edgemd::doors::clock::{Knock, Push};
use edgemd::doors::disk::Disk;
use edgemd::rules::control::{Accounts, Say};
use edgemd::rules::status;
use edgemd::words::time::Span;
use serde_json::{Value, json};
use std::path::Path;

/// What somebody was told who asked for that.
fn revoke(world: &World, conf: &str, name: &str, reason: Option<u8>, then: Span) -> Vec<Say> {
    let (ended, ends) = smol::channel::unbounded();
    world.hands.knock_in(Span::secs(1), Knock::Revoke { name: name.into(), reason, ended });
    world.live(conf, then);
    std::iter::from_fn(|| ends.try_recv().ok()).collect()
}

#[test]
fn what_is_revoked_is_replaced_at_once() {
    let world = World::new();
    world.live(ONE, Span::hours(1));
    let first = world.ca.issued()[0].der.clone();
    let said = revoke(&world, ONE, "a.example", Some(1), Span::mins(5));
    let line = "a.example (secp256r1): the certificate 03E8 is revoked; another one is ordered";
    assert_eq!(said, [Say::Line(line.into()), Say::End(0)]);
    assert_eq!(world.ca.revoked(), [(first, json!(1))]);
    assert_eq!(world.issued(), 2);
    assert!(world.served().starts_with(&world.newest_pem()) && world.status().1, "{}", world.status().0);
    assert_eq!(world.ear.heard().len(), 2, "it is told of as any other");
    assert!(journal::take().iter().any(|line| line.contains(": its CA has revoked the certificate")));
    world.live(ONE, Span::days(1));
    assert_eq!(world.issued(), 2);
}

/// The CA gives no other one for now: what was revoked is known to be so after a reboot, too.
#[test]
fn that_something_was_revoked_is_not_forgotten() {
    let world = World::new();
    world.live(ONE, Span::hours(1));
    world.ca.weather(|weather| weather.denies_orders = true);
    assert_eq!(revoke(&world, ONE, "a.example", None, Span::mins(1)).last(), Some(&Say::End(0)));
    let _ = world.disk.clone().remove(Path::new("/run/edgemd/state"));
    world.live(ONE, Span::secs(10));
    let json = world.board.read(|reports| status::md_json(&reports[0]));
    assert_eq!((&json["renew"], &json["state"]), (&Value::Bool(true), &json!(2)), "it is whole, and due: {json}");
    let (text, well) = world.status();
    assert!(!well && text.contains("its CA has revoked the certificate; next try "), "{text}");
    world.ca.weather(|weather| *weather = Weather::default());
    let other_names = ONE.replace("MDomain a.example b.example", "MDomain b.example a.example");
    assert_eq!(asked(&world, &other_names, &[], Push::Now).last(), Some(&Say::End(0)));
    assert_eq!(world.issued(), 2, "nor under another name: {}", world.status().0);
}

/// A newer one that waits for its activation takes the place of what was revoked.
#[test]
fn one_that_is_staged_comes_into_use() {
    let world = World::new();
    let conf = format!("MDActivationDelay 5d\n{ONE}");
    world.live(&conf, Span::hours(1));
    world.hands.turn(Span::days(61));
    world.live(&conf, Span::hours(1));
    let (old, new) = (world.ca.issued()[0].der.clone(), world.ca.issued()[1].der.clone());
    assert!(!world.served().starts_with(&world.newest_pem()));
    assert_eq!(revoke(&world, &conf, "a.example", None, Span::mins(5)).last(), Some(&Say::End(0)));
    assert_eq!(world.ca.revoked(), [(old, Value::Null)]);
    assert!(world.served().starts_with(&world.newest_pem()));
    assert_eq!((world.issued(), world.ca.issued()[1].der == new), (2, true));
}

/// A key that may be known to others is used no more, MDReuseKey or not.
#[test]
fn the_key_of_what_was_revoked_is_not_used_again() {
    let world = World::new();
    let conf = format!("MDReuseKey on\n{ONE}");
    world.live(&conf, Span::hours(1));
    let key = |world: &World| world.disk.read(Path::new("/run/tls/a.example.key")).unwrap().unwrap();
    let first = key(&world);
    assert_eq!(asked(&world, &conf, &[], Push::Force).last(), Some(&Say::End(0)));
    assert_eq!(key(&world), first);
    assert_eq!(revoke(&world, &conf, "a.example", Some(1), Span::mins(5)).last(), Some(&Say::End(0)));
    assert_eq!(world.issued(), 3);
    assert_ne!(key(&world), first);
}

#[test]
fn what_can_t_be_revoked_is_said() {
    let world = World::new();
    world.live(ONE, Span::hours(1));
    let said = revoke(&world, ONE, "c.example", None, Span::mins(1));
    assert_eq!(said, [Say::Line("no certificate is held for an MD \"c.example\"".into()), Say::End(1)]);
    world.ca.weather(|weather| weather.down = true);
    let said = revoke(&world, ONE, "a.example", None, Span::mins(1));
    let why = "a.example (secp256r1): not revoked: reading the directory: ca.example: connection refused";
    assert_eq!(said, [Say::Line(why.into()), Say::End(1)]);
    assert_eq!(world.issued(), 1, "and nothing is due for that");

    // Who is not driven, or no longer configured, can have it revoked all the same; without an account, too.
    world.ca.weather(|weather| *weather = Weather::default());
    let gone = ONE.replace("MDomain a.example b.example", "MDDriveMode manual\nMDomain z.example");
    let end = Accounts::Deactivate { ca: None };
    assert_eq!(super::accounts::accounts(&world, &gone, end).last(), Some(&Say::End(0)));
    let said = revoke(&world, &gone, "A.example", None, Span::mins(1));
    let line = "a.example (secp256r1): the certificate 03E8 is revoked; it is not renewed by itself";
    assert_eq!(said, [Say::Line(line.into()), Say::End(0)]);
    assert_eq!((world.ca.revoked().len(), world.issued()), (1, 1));
}

/// Both kinds of an MD, each by itself.
#[test]
fn two_kinds_of_keys_are_both_revoked() {
    let world = World::new();
    let conf = format!("MDPrivateKeys P-256 P-384\n{ONE}");
    world.live(&conf, Span::hours(1));
    let said = revoke(&world, &conf, "a.example", None, Span::mins(5));
    assert_eq!((said.len(), said.last()), (3, Some(&Say::End(0))), "{said:?}");
    assert_eq!((world.ca.revoked().len(), world.issued()), (2, 4));
}
