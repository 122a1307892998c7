//! What an order asks for, and how its names are proven.

use super::fake::ca::Weather;
use super::fake::disk::{NO_SPACE, READ_ONLY, RamDisk};
use super::{ONE, START, World, asked, config, journal};
use edgemd::doors::clock::{Knock, Push};
use edgemd::doors::disk::Disk;
use edgemd::rules::control::Say;
use edgemd::rules::{status, x509};
use edgemd::words::cert::KeyKind;
use edgemd::words::time::Span;
use serde_json::json;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A changed wish is due; a CA that ignores it is told of in one line and asked no more.
#[test]
fn md_800_must_staple_is_asked_for_once() {
    let world = World::new();
    let on = format!("MDMustStaple on\n{ONE}");
    let json = |world: &World| world.board.read(|reports| status::md_json(&reports[0]));
    let has = |world: &World| {
        x509::facts(&world.ca.issued().last().unwrap().der, KeyKind::P256, "", START).unwrap().must_staple
    };
    world.live(ONE, Span::hours(1));
    assert!(!has(&world) && json(&world)["must-staple"] == false);
    world.ca.weather(|weather| weather.down = true);
    world.live(&on, Span::secs(5));
    let md = json(&world);
    assert_eq!((&md["state"], &md["must-staple"]), (&json!(1), &json!(true)), "{md}");
    assert_eq!(md["state-descr"], "certificate(secp256r1) differs in must-staple.");
    world.ca.weather(|weather| *weather = Weather::default());
    for (conf, issued, with) in [(&on, 2, true), (&on, 2, true), (&ONE.to_string(), 3, false)] {
        world.live(conf, Span::hours(1));
        assert_eq!((world.issued(), has(&world)), (issued, with));
        assert!(world.status().1, "{}", world.status().0);
    }

    journal::take();
    world.ca.weather(|weather| weather.ignores_staple = true);
    for _ in 0..3 {
        world.live(&on, Span::days(1));
    }
    assert_eq!((world.issued(), has(&world)), (4, false), "asked once, and content");
    assert!(world.status().1 && json(&world)["state"] == 2, "{}", world.status().0);
    let lines = journal::take();
    assert_eq!(lines.iter().filter(|line| line.contains("MDMustStaple is on")).count(), 1, "{lines:#?}");
    world.live(ONE, Span::hours(1));
    assert_eq!(world.issued(), 4, "nor is there anything to take back");
}

#[test]
fn a_key_is_used_again_if_that_is_said_and_it_is_of_the_kind() {
    let world = World::new();
    let key = |world: &World| world.disk.read(Path::new("/run/tls/a.example.key")).unwrap().unwrap();
    let reuse = format!("MDReuseKey on\n{ONE}");
    let mut keys = vec![];
    for conf in [
        ONE,
        &reuse,
        &reuse,
        ONE,
        &format!("MDPrivateKeys RSA 2048\n{reuse}"),
        &format!("MDPrivateKeys RSA 3072\n{reuse}"),
    ] {
        world.live(conf, Span::hours(1));
        assert_eq!(asked(&world, conf, &[], Push::Force).last(), Some(&Say::End(0)), "{}", world.status().0);
        keys.push(key(&world));
    }
    assert!(keys[1] == keys[0] && keys[2] == keys[1], "kept");
    assert!(
        keys[3] != keys[2] && keys[4] != keys[3] && keys[5] != keys[4],
        "fresh: not asked for, another kind, another size"
    );
    // A pair that the disk did not take yet has a key, too.
    world.disk.fail_below("/store", NO_SPACE);
    for _ in 0..2 {
        let before = key(&world);
        let (ended, ends) = smol::channel::unbounded();
        world.hands.knock_in(Span::secs(1), Knock::Renew { names: vec![], push: Push::Force, ended });
        world.live(&format!("MDPrivateKeys RSA 3072\n{reuse}"), Span::mins(5));
        assert!(ends.try_recv().is_ok());
        assert!(key(&world) == before);
    }
}

/// A key that is pinned somewhere is not given up at once, but a certificate that ends is worse.
#[test]
fn a_key_that_can_not_be_read_any_more_is_not_waited_for() {
    let world = World::new();
    let key = |world: &World| world.disk.read(Path::new("/run/tls/a.example.key")).unwrap().unwrap();
    let reuse = format!("MDReuseKey on\n{ONE}");
    world.live(&reuse, Span::hours(1));
    let (before, disk) = (key(&world), world.disk.clone());
    world.hands.do_in(Span::days(1), move || disk.plant(Path::new("/store/certs/a.example/secp256r1.0"), b"edgemd"));
    journal::take();
    world.live(&reuse, Span::days(70));
    let lines = journal::take();
    let has = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    assert_eq!((world.issued(), has("MDReuseKey or not")), (2, 1), "{lines:#?}");
    assert!(has("reading /store/certs/a.example/secp256r1.0: ") > 3, "{lines:#?}");
    assert!(key(&world) != before);
    assert!(world.status().1, "{}", world.status().0);
}

const WEB: &str = "
MDCertificateAgreement accepted
MDCertificateAuthority https://ca.example/directory
MDInitialDelay 0
MDPortMap http:- https:-
MDChallengeWebroot /srv/www
MDomain a.example
";

/// The answers that stand in the web server's folder, each with its content.
fn answers_in(disk: &RamDisk) -> Vec<(String, String)> {
    let folder = Path::new("/srv/www/.well-known/acme-challenge");
    let names = disk.list(folder).unwrap();
    let content = |name: &String| String::from_utf8(disk.read(&folder.join(name)).unwrap().unwrap()).unwrap();
    names.iter().map(|name| (name.clone(), content(name))).collect()
}

/// A CA that is not done for a while, and what stands in the web server's folder meanwhile.
fn web_server(world: &World) -> Arc<Mutex<Vec<(String, String)>>> {
    world.disk.plant(Path::new("/srv/www/index.html"), b"hello");
    world.ca.weather(|weather| (weather.polls, weather.retry_after) = (3, Some(Span::secs(10))));
    let (seen, disk) = (Arc::new(Mutex::new(vec![])), world.disk.clone());
    let look = seen.clone();
    world.hands.do_in(Span::secs(15), move || *look.lock().unwrap() = answers_in(&disk));
    seen
}

/// Where another web server owns port 80, answers are files in its folder while they are needed, for everybody to read.
#[test]
fn an_answer_is_a_file_for_another_web_server() {
    let world = World::new();
    let seen = web_server(&world);
    let disk = world.disk.clone();
    world.hands.do_in(Span::secs(16), move || {
        let mode = |path: &str| disk.mode(&Path::new("/srv/www").join(path));
        assert_eq!((mode(".well-known"), mode(".well-known/acme-challenge")), (Some(0o755), Some(0o755)));
        let token = &answers_in(&disk)[0].0;
        assert_eq!(mode(&format!(".well-known/acme-challenge/{token}")), Some(0o644));
    });
    world.live(WEB, Span::hours(1));
    assert!(world.status().1 && world.issued() == 1, "{}", world.status().0);
    let seen = seen.lock().unwrap();
    assert!(matches!(&seen[..], [(token, answer)] if answer.starts_with(&format!("{token}."))), "{seen:?}");
    assert_eq!(answers_in(&world.disk), []);
}

#[test]
fn answers_in_files_are_withdrawn_on_every_way_out() {
    let gone = WEB.replace("MDomain a.example", "");
    let changed = WEB.replace("/srv/www", "/srv/other");
    let refuses: fn(&World) = |world| world.ca.weather(|weather| weather.reject = true);
    let nothing: fn(&World) = |_| {};
    for (weather, reload, life) in [
        (nothing, None, Span::secs(20)),
        (nothing, Some(&gone), Span::mins(1)),
        (nothing, Some(&changed), Span::mins(1)),
        (refuses, None, Span::hours(1)),
    ] {
        let world = World::new();
        let seen = web_server(&world);
        weather(&world);
        if let Some(conf) = reload {
            world.hands.knock_in(Span::secs(20), Knock::Reload(Box::new(config(conf))));
        }
        world.live(WEB, life);
        assert_eq!(seen.lock().unwrap().len(), 1, "it stood there");
        assert_eq!(answers_in(&world.disk), [], "{reload:?}");
    }
}

/// What a killed daemon left is swept at the next start; what others put there is not.
#[test]
fn leftover_answers_of_ours_are_swept_and_others_are_not() {
    let world = World::new();
    let seen = web_server(&world);
    world.live(WEB, Span::hours(1));
    let (token, answer) = seen.lock().unwrap()[0].clone();
    let thumbprint = answer.strip_prefix(&token).unwrap();
    let folder = Path::new("/srv/www/.well-known/acme-challenge");
    let others = [
        ("somebody".to_string(), format!("somebody.{}", "x".repeat(43))),
        ("other".into(), answer.clone()),
        ("a b".into(), format!("a b{thumbprint}")),
        ("index.html".into(), "hello".into()),
    ];
    for (name, content) in others.iter().chain([&(token, answer)]) {
        world.disk.plant(&folder.join(name), content.as_bytes());
    }
    world.live(WEB, Span::secs(1));
    let mut left = answers_in(&world.disk);
    left.sort();
    let mut others = others.to_vec();
    others.sort();
    assert_eq!(left, others);
}

#[test]
fn an_answer_that_can_t_be_written_says_where_and_what_to_do() {
    let world = World::new();
    world.live(WEB, Span::secs(10));
    let problem =
        |world: &World| world.board.read(|reports| status::md_json(&reports[0]))["renewal"]["last"]["problem"].clone();
    let (text, _) = world.status();
    assert!(text.contains("MDChallengeWebroot /srv/www: there is no such folder; name the one that"), "{text}");
    assert_eq!(problem(&world), "challenge-setup-failure");
    world.disk.plant(Path::new("/srv/www/index.html"), b"hello");
    world.disk.fail_below("/srv/www", READ_ONLY);
    world.live(WEB, Span::mins(2));
    let (text, _) = world.status();
    assert!(text.contains("making /srv/www/.well-known: read-only file system"), "{text}");
    assert_eq!((problem(&world), world.issued()), (json!("challenge-setup-failure"), 0));
    world.disk.mend();
    world.live(WEB, Span::hours(1));
    assert!(world.status().1, "{}", world.status().0);
}

/// What can't be proven is not begun: the CA hears nothing, not even of a new key.
#[test]
fn md_702_010_md_702_006_without_a_way_to_prove_names_there_is_no_account() {
    for (conf, why) in [
        (
            ONE.replace("MDExport", "MDPortMap http:- https:-\nMDExport"),
            "http-01: port 80 does not arrive here (MDPortMap http:-)",
        ),
        (
            ONE.replace("MDExport", "MDPortMap http:99 https:-\nListen 8080 http\nMDExport"),
            "http-01: port 80 arrives on port 99 (MDPortMap), where nobody listens",
        ),
        (
            ONE.replace("b.example", "*.b.example"),
            "proving *.b.example: challenge-mismatch: only dns-01 can prove a wildcard",
        ),
    ] {
        let world = World::new();
        world.live(&conf, Span::mins(1));
        let (text, well) = world.status();
        assert!(!well && text.contains(why), "{text}");
        assert!(why.contains("wildcard") || text.contains("suitable."), "{text}");
        assert_eq!((world.ca.requests(), world.ca.accounts()), (0, 0));
        assert!(!world.disk.files().iter().any(|path| path.starts_with("/store/accounts")));
        world.live(ONE, Span::mins(1));
        assert_eq!(world.issued(), 1, "a changed configuration ends the wait");
    }
}
