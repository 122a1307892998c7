//! What other programs find of a certificate, through changes of layout, place, owner and name.

use super::fake::disk::Keep;
use super::{ONE, START, World, config};
use edgemd::doors::clock::Knock;
use edgemd::doors::disk::{Access, Disk};
use edgemd::house::exports;
use edgemd::house::store::Store;
use edgemd::words::cert::Slot;
use edgemd::words::name::{Labels, Name};
use edgemd::words::time::Span;
use std::path::Path;

fn with(export: &str) -> String {
    ONE.replace("MDExport /run/tls combined", export)
}

/// The files below `/etc/tls` and `/etc/ssl`.
fn exported(world: &World) -> Vec<String> {
    let files = world.disk.files().into_iter().map(|path| path.display().to_string());
    files.filter(|path| path.starts_with("/etc/")).collect()
}

fn text(world: &World, path: &str) -> String {
    String::from_utf8(world.disk.read(Path::new(path)).unwrap().unwrap_or_default()).unwrap()
}

fn access(world: &World, path: &str) -> Access {
    world.disk.access(Path::new(path)).unwrap().unwrap_or_else(|| panic!("there is no {path}"))
}

/// A running daemon gets this configuration.
fn reload(world: &World, from: &str, to: &str) {
    world.hands.knock_in(Span::secs(1), Knock::Reload(Box::new(config(to))));
    world.live(from, Span::mins(10));
}

#[test]
fn every_layout_has_its_owner_and_only_its_group_reads_keys() {
    for (layout, files) in [
        ("pair", vec!["a.example.crt", "a.example.key!"]),
        ("combined", vec!["a.example.crt", "a.example.key!", "a.example.pem!"]),
        (
            "acme",
            vec![
                "a.example.chain.crt",
                "a.example.combined.crt!",
                "a.example.crt",
                "a.example.fullchain.crt",
                "a.example.key!",
            ],
        ),
        (
            "live",
            vec!["a.example/cert.pem", "a.example/chain.pem", "a.example/fullchain.pem", "a.example/privkey.pem!"],
        ),
    ] {
        for (rest, owner, group, mode) in [("", None, None, 0o600), (" 33:44 0640", Some(33), Some(44), 0o640)] {
            let world = World::new();
            world.live(&with(&format!("MDExport /etc/tls {layout}{rest}")), Span::hours(1));
            let mut found = vec![];
            for path in exported(&world) {
                let access = access(&world, &path);
                let secret = text(&world, &path).contains("PRIVATE KEY");
                assert_eq!(access.mode, if secret { mode } else { 0o644 }, "{path}");
                assert_eq!((access.owner, access.group), (owner, group), "{path}");
                found.push(path.replace("/etc/tls/", "") + if secret { "!" } else { "" });
            }
            assert_eq!(found, files, "{layout}");
            let (_, event) = world.ear.heard().remove(0);
            let value = |name| event.env.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value);
            assert!(text(&world, value("EDGEMD_KEY")).starts_with("-----BEGIN PRIVATE KEY"), "{:?}", event.env);
            assert!(text(&world, value("EDGEMD_CERT")).starts_with(&world.newest_pem()), "{:?}", event.env);
            assert_eq!(text(&world, value("EDGEMD_FULLCHAIN")).matches("BEGIN CERT").count(), 2, "{:?}", event.env);
            assert_eq!((value("EDGEMD_MD"), value("EDGEMD_NAMES")), ("a.example", "a.example b.example"));
            assert_eq!(value("EDGEMD_EVENT"), "renewed");
        }
    }
}

/// By a reload and by a restart; the old files go when the script has answered, so that nobody misses them.
#[test]
fn a_change_of_layout_or_place_is_carried_out_and_old_files_go_last() {
    for (to, files) in [
        ("MDExport /etc/tls live", vec!["cert.pem", "chain.pem", "fullchain.pem", "privkey.pem"]),
        ("MDExport /etc/ssl pair", vec!["a.example.crt", "a.example.key"]),
        ("MDExport /etc/tls acme", vec!["chain.crt", "combined.crt", "crt", "fullchain.crt", "a.example.key"]),
        ("MDExport /etc/tls pair", vec!["a.example.crt", "a.example.key"]),
        ("", vec![]),
    ] {
        for restart in [false, true] {
            let world = World::new();
            let (from, to) = (with("MDExport /etc/tls combined"), with(to));
            world.live(&from, Span::hours(1));
            world.ear.refuse(2);
            let (disk, before) = (world.disk.clone(), exported(&world));
            assert_eq!(before.len(), 3);
            world.hands.do_in(Span::secs(20), move || {
                let files = disk.files();
                assert!(before.iter().all(|path| files.contains(&path.into())), "gone before the script has answered");
            });
            let replaced = world.disk.replaced().len();
            if restart {
                world.live(&to, Span::mins(10));
            } else {
                reload(&world, &from, &to);
            }
            assert_eq!(world.ear.heard().len(), 4, "{to}: two refusals and one answer");
            let found = exported(&world);
            assert_eq!(found.len(), files.len(), "{found:?}");
            for file in &files {
                assert!(found.iter().any(|path| path.ends_with(*file)), "{file} is not among {found:?}");
            }
            let store = world.disk.replaced().split_off(replaced);
            let store = store.iter().filter(|path| path.starts_with("/store")).count();
            assert_eq!(store, 1, "what is exported now is written down once, refusals or not");
            world.live(&to, Span::days(1));
            assert_eq!((world.ear.heard().len(), exported(&world).len()), (4, found.len()), "done for good");
            assert!(world.status().1, "{}", world.status().0);
            assert_eq!(world.issued(), 1);
        }
    }
}

#[test]
fn files_of_others_stay_where_ours_have_been() {
    let world = World::new();
    let from = with("MDExport /etc/tls combined");
    world.live(&from, Span::hours(1));
    world.disk.plant(Path::new("/etc/tls/a.example.pem"), b"somebody else's");
    world.disk.plant(Path::new("/etc/tls/a.example.rsa.key"), b"never ours");
    world.disk.plant(Path::new("/etc/tls/other.pem"), b"never ours");
    reload(&world, &with("MDExport /etc/tls pair"), &with("MDExport /etc/ssl pair"));
    let left = ["/etc/tls/a.example.pem", "/etc/tls/a.example.rsa.key", "/etc/tls/other.pem"];
    let ours = ["/etc/ssl/a.example.crt", "/etc/ssl/a.example.key"];
    assert_eq!(exported(&world), [&ours[..], &left[..]].concat());
}

/// A renewal that is told while an older pair's files still stand elsewhere: both pairs are known to be ours.
#[test]
fn old_files_are_known_after_a_renewal_too() {
    let world = World::new();
    world.live(&with("MDExport /etc/tls pair"), Span::hours(1));
    world.hands.turn(Span::days(61));
    world.ear.refuse(1);
    world.live(&with("MDExport /etc/ssl pair"), Span::hours(1));
    assert_eq!(world.issued(), 2);
    assert_eq!(exported(&world), ["/etc/ssl/a.example.crt", "/etc/ssl/a.example.key"]);
    assert!(text(&world, "/etc/ssl/a.example.crt").starts_with(&world.newest_pem()));
}

#[test]
fn a_wrong_mode_or_owner_is_put_right() {
    let world = World::new();
    let conf = with("MDExport /etc/tls pair 33:44 0640");
    world.live(&conf, Span::hours(1));
    let key = Path::new("/etc/tls/a.example.key");
    let right = access(&world, "/etc/tls/a.example.key");
    for wrong in
        [Access { mode: 0o644, ..right }, Access { owner: Some(0), ..right }, Access { group: Some(7), ..right }]
    {
        let (heard, replaced) = (world.ear.heard().len(), world.disk.replaced().len());
        world.disk.hand_over(key, wrong);
        world.live(&conf, Span::mins(1));
        assert_eq!(access(&world, "/etc/tls/a.example.key"), right);
        assert_eq!(world.ear.heard().len(), heard + 1, "the hooks run, because something was written");
        assert_eq!(world.disk.replaced()[replaced..], [key], "this file alone");
    }
    let heard = world.ear.heard().len();
    reload(&world, &conf, &with("MDExport /etc/tls pair 33:44 0600"));
    assert_eq!(access(&world, "/etc/tls/a.example.key").mode, 0o600);
    assert_eq!(world.ear.heard().len(), heard + 1);
    // Without an owner in the configuration they stay as they are.
    let heard = world.ear.heard().len();
    world.live(&with("MDExport /etc/tls pair"), Span::mins(1));
    assert_eq!((access(&world, "/etc/tls/a.example.key").owner, world.ear.heard().len()), (Some(33), heard));
}

#[test]
fn the_files_of_a_renamed_md_go_and_those_of_a_removed_one_stay() {
    let world = World::new();
    let conf = with("MDExport /etc/tls pair");
    let renamed = conf.replace("MDomain a.example b.example", "MDomain b.example");
    world.live(&conf, Span::hours(1));
    for again in 0..2 {
        reload(&world, if again == 0 { &conf } else { &renamed }, &renamed);
        assert_eq!(exported(&world), ["/etc/tls/b.example.crt", "/etc/tls/b.example.key"], "{again}");
        assert_eq!((world.issued(), world.ear.heard().len()), (1, 2));
    }
    // Renamed and exported no more, with nobody to be told.
    let other = World::new();
    other.live(&conf, Span::hours(1));
    other.live(&renamed.replace("MDExport", "#").replace("MDNotifyCmd", "#"), Span::hours(1));
    assert_eq!((exported(&other).len(), other.issued()), (0, 1));
    reload(&world, &renamed, &conf.replace("MDomain a.example b.example", "MDomain other.example"));
    let files = exported(&world);
    assert_eq!(files.iter().filter(|path| path.contains("b.example")).count(), 2, "{files:?}");

    let (store, _) = Store::open(Path::new("/store"), None, &mut world.disk.clone()).unwrap();
    let slot = |md| Slot::new(Name::parse(md, Labels::Two).unwrap(), "secp256r1").unwrap();
    let listed = exports::exported(&store, &world.disk, &slot("b.example")).unwrap();
    assert_eq!(listed, ["/etc/tls/b.example.key", "/etc/tls/b.example.crt"], "for `prune`");
    world.disk.plant(Path::new("/etc/tls/b.example.key"), b"somebody else's");
    let listed = exports::exported(&store, &world.disk, &slot("b.example")).unwrap();
    assert_eq!(listed, ["/etc/tls/b.example.crt"]);
    assert!(exports::exported(&store, &world.disk, &slot("a.example")).unwrap().is_empty());
}

/// The first kind's files have the plain name: when another kind becomes the first, they change places.
#[test]
fn kinds_of_keys_change_places() {
    let world = World::new();
    let keys = |order| format!("MDPrivateKeys {order}\n{}", with("MDExport /etc/tls pair"));
    world.live(&keys("P-256 P-384"), Span::hours(1));
    let (first, second) = (text(&world, "/etc/tls/a.example.key"), text(&world, "/etc/tls/a.example.p384.key"));
    reload(&world, &keys("P-256 P-384"), &keys("P-384 P-256"));
    assert_eq!(text(&world, "/etc/tls/a.example.key"), second);
    assert_eq!(text(&world, "/etc/tls/a.example.p256.key"), first);
    assert_eq!(exported(&world).len(), 4, "{:?}", exported(&world));
    assert_eq!((world.issued(), world.ear.heard().len()), (2, 2));
}

/// A device whose exports are in memory boots without the time: whoever starts meanwhile finds its pair; the script is
/// called when there is a time to write down.
#[test]
fn without_a_clock_the_exports_are_there_all_the_same() {
    let world = World::new();
    world.live(ONE, Span::hours(1));
    let served = world.served();
    world.disk.reboot(Keep::Synced);
    world.hands.jump(None);
    world.hands.jump_in(Span::hours(2), Some(START.plus(Span::days(1))));
    let (disk, ear) = (world.disk.clone(), world.ear.clone());
    world.hands.do_in(Span::hours(1), move || {
        assert_eq!(disk.read(Path::new("/run/tls/a.example.crt")).unwrap(), Some(served.into_bytes()));
        assert_eq!(ear.heard().len(), 1);
    });
    world.live(ONE, Span::hours(3));
    assert_eq!(world.ear.heard().len(), 2);
}
