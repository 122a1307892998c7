//! Stapling: who is asked about what and when, what is kept where, and what follows from the answers.

use super::fake::responder::{Mood, Says};
use super::{ONE, START, World, config, journal};
use edgemd::doors::clock::{Knock, Push};
use edgemd::doors::disk::Disk;
use edgemd::rules::control::Say;
use edgemd::rules::{pem, status};
use edgemd::words::time::{Span, Unix};
use serde_json::{Value, json};
use std::path::Path;

const URL: &str = "http://ocsp.example/";
type Change = fn(&mut Mood);

const FILE: &str = "/store/certs/a.example/secp256r1.ocsp";

fn on() -> String {
    format!("MDStapling on\n{ONE}")
}

/// A CA that has a responder.
fn world() -> World {
    let world = World::new();
    world.ca.weather(|weather| weather.ocsp = Some(URL));
    world
}

fn mood(world: &World, change: impl FnOnce(&mut Mood)) {
    world.ca.responder().mood(change);
}

fn asked(world: &World) -> usize {
    world.ca.responder().asked()
}

fn md(world: &World, at: usize) -> Value {
    world.board.read(|reports| status::md_json(&reports[at]))
}

fn ocsp(world: &World) -> Value {
    md(world, 0)["cert"]["secp256r1"]["ocsp"].clone()
}

fn stored(world: &World) -> Option<Vec<u8>> {
    world.disk.read(Path::new(FILE)).unwrap()
}

/// How often responses were written.
fn written(world: &World) -> usize {
    world.disk.replaced().iter().filter(|path| path.ends_with("secp256r1.ocsp")).count()
}

/// The serial number of the newest certificate, as OCSP speaks of it.
fn serial(world: &World) -> Vec<u8> {
    let number = u64::try_from(world.issued()).unwrap() + 999;
    number.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect()
}

#[test]
fn md_801_001_on_and_off_again() {
    let world = world();
    world.live(ONE, Span::hours(1));
    assert_eq!((asked(&world), &md(&world, 0)["stapling"], ocsp(&world)), (0, &json!(false), Value::Null));
    world.live(&on(), Span::hours(1));
    assert_eq!((asked(&world), &md(&world, 0)["stapling"]), (1, &json!(true)));
    let valid = json!({"from": "Fri, 15 Jan 2027 08:00:00 GMT", "until": "Fri, 22 Jan 2027 08:00:00 GMT"});
    assert_eq!(ocsp(&world), json!({"status": "good", "valid": valid}));
    assert!(world.status().0.contains(", OCSP good until 2027-01-22T08:00:00Z; renewal from"), "{}", world.status().0);
    world.live(ONE, Span::hours(1));
    assert_eq!((asked(&world), &md(&world, 0)["stapling"], ocsp(&world)), (1, &json!(false), Value::Null));
}

#[test]
fn md_801_003_each_md_for_itself() {
    let world = world();
    let conf = "MDCertificateAgreement accepted\nMDCertificateAuthority https://ca.example/directory\n\
        MDInitialDelay 0\n<MDomainSet a.example>\nMDStapling on\n</MDomainSet>\nMDomain b.example\n";
    world.live(conf, Span::hours(1));
    assert_eq!((asked(&world), &md(&world, 1)["stapling"]), (1, &json!(false)));
    assert_eq!(ocsp(&world)["status"], "good");
    assert_eq!(md(&world, 1)["cert"]["secp256r1"]["ocsp"], Value::Null);
    let public = world.board.read(|reports| status::public_json(&reports[0]));
    assert_eq!(public["secp256r1"]["ocsp"], Value::Null, "strangers see it in the handshake");
}

#[test]
fn md_801_005_a_restart_asks_nobody_and_keeping_has_an_end() {
    let world = world();
    world.live(&on(), Span::hours(1));
    let first = stored(&world).unwrap();
    assert!(first.len() < 600, "{} bytes", first.len());
    world.live(&on(), Span::hours(1));
    assert_eq!((asked(&world), written(&world), stored(&world)), (1, 1, Some(first.clone())));

    let brief = format!("MDStaplingKeepResponse 1s\n{}", on());
    world.live(&brief, Span::hours(1));
    assert_eq!((asked(&world), stored(&world)), (1, None), "used from memory");
    assert_eq!(ocsp(&world)["status"], "good");
    world.live(&on(), Span::hours(1));
    assert_eq!((asked(&world), written(&world)), (2, 2));
    assert_ne!(stored(&world), Some(first));
    // One that was kept for long enough goes, whether or not it is still wanted.
    world.hands.turn(Span::days(8));
    world.live(ONE, Span::hours(1));
    assert_eq!(stored(&world), None);
}

#[test]
fn md_801_006_a_window_longer_than_the_life() {
    let world = world();
    world.live(&on(), Span::hours(1));
    let first = stored(&world);
    let longer = format!("MDStaplingRenewWindow 10d\n{}", on());
    world.hands.turn(Span::mins(1));
    world.live(&longer, Span::mins(59));
    assert_eq!((asked(&world), written(&world)), (2, 2));
    assert_ne!(stored(&world), first);
    world.live(&longer, Span::hours(5));
    assert_eq!(asked(&world), 2 + 5, "at once after a start, then once an hour");
}

#[test]
fn md_801_007_static_files() {
    let world = world();
    let (chain, key) = world.ca.responder().issue("s.example", 77, URL);
    let chain: String = chain.iter().map(|der| pem::encode("CERTIFICATE", der)).collect();
    world.disk.plant(Path::new("/etc/own/s.crt"), chain.as_bytes());
    world.disk.plant(Path::new("/etc/own/s.key"), pem::encode("PRIVATE KEY", &key).as_bytes());
    let conf = "<MDomainSet s.example>\nMDStapling on\nMDCertificateFile /etc/own/s.crt\n\
        MDCertificateKeyFile /etc/own/s.key\n</MDomainSet>\n";
    world.live(conf, Span::hours(1));
    assert_eq!((asked(&world), ocsp(&world)["status"].as_str()), (1, Some("good")));
    let file = Path::new("/store/certs/s.example/own-secp256r1.ocsp");
    assert!(world.disk.read(file).unwrap().is_some());
    world.live(conf, Span::hours(1));
    assert_eq!(asked(&world), 1);

    // Revoked, it is for the operator to replace.
    mood(&world, |mood| mood.revoked = vec![vec![77]]);
    world.hands.turn(Span::days(6));
    world.live(conf, Span::hours(1));
    assert_eq!(
        (world.issued(), ocsp(&world)["status"].as_str(), md(&world, 0)["renew"].as_bool()),
        (0, Some("revoked"), Some(true))
    );
    let (text, well) = world.status();
    assert!(text.contains("; its CA has revoked the certificate; its own files") && !well, "{text}");
}

#[test]
fn md_801_009_without_a_responder_there_is_nothing() {
    let world = World::new();
    world.live(&on(), Span::hours(1));
    assert_eq!((asked(&world), ocsp(&world), &md(&world, 0)["stapling"]), (0, Value::Null, &json!(true)));
    assert!(world.status().1, "{}", world.status().0);
    assert!(journal::take().iter().all(|line| !line.to_lowercase().contains("ocsp")), "no line above debug");
    assert!(world.board.read(status::counts).contains("\nManagedStaplingsTotal: 0\n"));
}

#[test]
fn md_801_010_an_unused_md() {
    let world = world();
    world.live(
        &format!(
            "{}<VirtualHost *:443>\nServerName c.example\n</VirtualHost>\n",
            on().replace("MDExport /run/tls combined\n", "")
        ),
        Span::hours(1),
    );
    assert_eq!(
        (asked(&world), &md(&world, 0)["stapling"], &md(&world, 0)["watched"]),
        (0, &json!(true), &json!(false))
    );
    assert!(world.status().0.contains("no certificate"), "{}", world.status().0);
}

/// A responder that is slow, or for one of them leaves us hanging, holds up no other MD.
#[test]
fn md_801_011_seven_mds_and_a_slow_responder() {
    let world = world();
    let mds: String = (0..7).map(|at| format!("MDomain m{at}.example\n")).collect();
    let head =
        "MDCertificateAgreement accepted\nMDCertificateAuthority https://ca.example/directory\nMDInitialDelay 0\n";
    world.live(&format!("{head}{mds}"), Span::hours(1));
    mood(&world, |mood| mood.takes = Span::secs(20));
    let conf = format!("MDStapling on\n{head}{mds}");
    world.live(&conf, Span::secs(24));
    let good =
        |world: &World| (0..7).filter(|at| md(world, *at)["cert"]["secp256r1"]["ocsp"]["status"] == "good").count();
    assert_eq!((asked(&world), good(&world)), (4, 4), "four at first");
    world.live(&conf, Span::secs(22));
    assert_eq!((asked(&world), good(&world)), (7, 7), "the rest five seconds later, or at once");
    assert_eq!(
        world.board.read(status::counts).lines().skip(5).take(2).collect::<Vec<_>>(),
        ["ManagedStaplingsTotal: 7", "ManagedStaplingsOK: 7"]
    );
}

#[test]
fn md_901_020_md_920_010_said_and_counted() {
    let world = world();
    let conf = on().replace("MDNotifyCmd /bin/reload-ui now\n", "MDMessageCmd /bin/message\n");
    world.live(&conf, Span::hours(1));
    let said = world.ear.words(0);
    let from = said.iter().position(|word| word == "renewed").unwrap();
    assert_eq!(said[from..], ["renewed", "installed", "ocsp-renewed"]);
    let counts = |world: &World| {
        let text = world.board.read(status::counts);
        text.lines().skip(5).map(str::to_owned).collect::<Vec<_>>()
    };
    let word = "ManagedStaplings";
    let expected = |numbers: [u32; 4]| {
        let words = ["Total", "OK", "Renew", "Errored"];
        let lines = words.iter().zip(numbers).map(|(what, number)| format!("{word}{what}: {number}"));
        lines.chain(["ManagedDomain[0]Stapling: on".into()]).collect::<Vec<_>>()
    };
    assert_eq!(counts(&world), expected([1, 1, 0, 0]));
    mood(&world, |mood| mood.down = true);
    world.hands.turn(Span::days(8));
    let heard = world.ear.heard().len();
    world.live(&conf, Span::hours(3));
    assert_eq!(counts(&world), expected([1, 0, 0, 1]));
    assert_eq!(world.ear.words(heard), ["ocsp-errored"; 3], "once an hour");
}

/// A quarter of a year: asked in the last third of each life, written once for each response, and nothing else.
#[test]
fn a_season() {
    let world = world();
    let mut last = (0, 0, 0);
    for day in 0..60 {
        world.live(&on(), Span::days(1));
        assert_eq!(ocsp(&world)["status"], "good", "on day {day}");
        let now = (asked(&world), written(&world), world.disk.replaced().len());
        if day > 0 {
            assert_eq!(now.1 - last.1, now.0 - last.0, "each response once, day {day}");
            assert_eq!(now.2 - last.2, now.0 - last.0, "and nothing else, day {day}");
        }
        last = now;
    }
    // Of seven days, an hour ago at first, 67 % to 71 % pass between two.
    assert!((12..=13).contains(&last.0), "{last:?}");
}

#[test]
fn what_is_revoked_is_replaced() {
    let world = world();
    world.live(&on(), Span::days(3));
    mood(&world, |mood| mood.revoked = vec![serial(&world)]);
    world.live(&on(), Span::days(4));
    assert_eq!(world.issued(), 2);
    assert_eq!(ocsp(&world)["status"], "good", "the new one is");
    assert!(journal::take().iter().any(|line| line.contains(": its CA has revoked the certificate")));
    assert!(world.status().1, "{}", world.status().0);
}

/// It stays so over a restart, and while it is not replaced, it is said.
#[test]
fn revoked_and_the_ca_is_down() {
    let world = world();
    world.live(&on(), Span::days(3));
    mood(&world, |mood| mood.revoked = vec![serial(&world)]);
    world.ca.weather(|weather| weather.down = true);
    world.live(&on(), Span::days(4));
    let asked_before = asked(&world);
    world.live(&on(), Span::mins(1));
    assert_eq!(asked(&world), asked_before, "the store knows");
    assert_eq!((ocsp(&world)["status"].as_str(), md(&world, 0)["renew"].as_bool()), (Some("revoked"), Some(true)));
    assert!(world.status().0.contains("; its CA has revoked the certificate; "), "{}", world.status().0);
    assert!(world.board.read(status::counts).contains("ManagedStaplingsRenew: 1"));
}

/// A responder that calls everything revoked does not make us order without end.
#[test]
fn a_mad_responder() {
    let world = world();
    world.live(&on(), Span::days(3));
    mood(&world, |mood| mood.revoked = (1000_u64..1100).map(|number| number.to_be_bytes()[6..].to_vec()).collect());
    world.live(&on(), Span::days(2));
    let before = world.issued();
    world.live(&on(), Span::hours(12));
    assert!((10..=13).contains(&(world.issued() - before)), "{}", world.issued() - before);
}

#[test]
fn a_responder_that_fails_is_asked_with_back_off() {
    let world = world();
    mood(&world, |mood| mood.down = true);
    world.live(&on(), Span::mins(10));
    // 30 s, a minute, two, four, give or take a half.
    assert!((4..=6).contains(&asked(&world)), "{}", asked(&world));
    let renewal = ocsp(&world)["renewal"].clone();
    assert_eq!(
        (ocsp(&world)["status"].as_str(), renewal["errors"].as_u64()),
        (Some("unknown"), Some(asked(&world) as u64))
    );
    assert_eq!(renewal["last"]["detail"], "ocsp.example: Connection refused");
    let (text, well) = world.status();
    assert!(
        text.contains("    stapling failed ")
            && text.contains("asking its OCSP responder: ocsp.example: Connection refused"),
        "{text}"
    );
    assert!(text.ends_with("nothing yet, it is tried again by itself") && well, "nobody has to see to it: {text}");

    // Not even days of it are many questions.
    let before = asked(&world);
    world.live(&on(), Span::days(1));
    assert!(asked(&world) - before < 55, "{}", asked(&world) - before);
    mood(&world, |mood| mood.down = false);
    world.live(&on(), Span::hours(2));
    assert_eq!(ocsp(&world).as_object().unwrap().keys().collect::<Vec<_>>(), ["status", "valid"]);
}

#[test]
fn what_a_responder_asks_for_is_kept() {
    let world = world();
    mood(&world, |mood| mood.http = Some((429, Some(Span::hours(5)))));
    world.live(&on(), Span::hours(4));
    assert_eq!(asked(&world), 1);
    assert!(world.status().0.contains("it answered with status 429"), "{}", world.status().0);
}

#[test]
fn what_can_not_be_used_is_not_kept() {
    let changes: [(Change, &str); 3] = [
        (|mood| mood.says = Says::Unknown, "the answer can't be used: the responder does not know the certificate"),
        (|mood| mood.damages_signature = true, "it is signed by nobody who may speak for the CA"),
        (|mood| mood.age = Span::days(9), "it has ended already, at 2027-01-13T08:00:"),
    ];
    for (change, why) in changes {
        let world = world();
        mood(&world, change);
        world.live(&on(), Span::mins(1));
        assert!(world.status().0.contains(why), "{}", world.status().0);
        assert_eq!((stored(&world), ocsp(&world)["status"].as_str()), (None, Some("unknown")));
    }
}

/// Must-staple without a staple is what a person has to see to.
#[test]
fn must_staple_and_nothing_to_staple() {
    let world = world();
    mood(&world, |mood| mood.down = true);
    world.live(&format!("MDMustStaple on\n{}", on()), Span::hours(1));
    let (text, well) = world.status();
    assert!(!well && text.contains("what to do: see to the device's network"), "{text}");
    let said = super::asked(&world, &format!("MDMustStaple on\n{}", on()), &[], Push::Force);
    assert_eq!(said.last(), Some(&Say::End(0)), "the renewal has not failed: {said:?}");
}

#[test]
fn an_old_answer_is_never_taken_for_a_newer_one() {
    let world = world();
    world.live(&on(), Span::days(4));
    let first = stored(&world);
    mood(&world, |mood| mood.age = Span::hours(165));
    world.live(&on(), Span::days(2));
    assert!(asked(&world) > 2, "{}", asked(&world));
    assert_eq!((stored(&world), written(&world)), (first, 1));
    assert_eq!(ocsp(&world)["valid"]["until"], "Fri, 22 Jan 2027 07:00:00 GMT");
}

#[test]
fn without_a_clock_nothing_is_judged_and_nobody_asked() {
    let world = world();
    world.live(&on(), Span::hours(1));
    world.hands.jump(Some(Unix::from_secs(0)));
    world.live(&on(), Span::days(30));
    assert_eq!((asked(&world), ocsp(&world)["status"].as_str()), (1, Some("good")));
    world.hands.jump(Some(START.plus(Span::days(30))));
    world.live(&on(), Span::hours(1));
    assert_eq!(asked(&world), 2);
}

#[test]
fn a_damaged_response_is_fetched_anew() {
    let world = world();
    world.live(&on(), Span::hours(1));
    world.disk.plant(Path::new(FILE), b"damaged");
    world.live(&on(), Span::hours(1));
    assert_eq!((asked(&world), ocsp(&world)["status"].as_str()), (2, Some("good")));
    assert!(stored(&world).unwrap().len() > 100);
}

#[test]
fn what_ends_soon_is_not_worth_the_flash() {
    let world = world();
    mood(&world, |mood| (mood.age, mood.life) = (Span::ZERO, Some(Span::mins(10))));
    world.live(&on(), Span::hours(2));
    assert!((10..40).contains(&asked(&world)), "{}", asked(&world));
    assert_eq!((written(&world), ocsp(&world)["status"].as_str()), (0, Some("good")));
}

#[test]
fn prune_takes_the_response_with_the_rest() {
    let world = world();
    world.live(&on(), Span::hours(1));
    let (ended, _ends) = smol::channel::unbounded();
    world.hands.knock_in(Span::mins(1), Knock::Prune { yes: true, ended });
    world.live(
        "MDStapling on\nMDCertificateAuthority https://ca.example/directory\nMDDriveMode manual\nMDomain c.example\n",
        Span::hours(1),
    );
    assert_eq!(stored(&world), None);
    assert!(world.disk.files().iter().all(|path| !path.starts_with("/store/certs/a.example")));
}

#[test]
fn an_md_under_another_name_keeps_its_response() {
    let world = world();
    world.live(&on(), Span::hours(1));
    let renamed = on().replace("a.example b.example", "b.example a.example");
    world.live(&renamed, Span::hours(1));
    world.live(&renamed, Span::hours(1));
    assert_eq!((asked(&world), ocsp(&world)["status"].as_str(), stored(&world)), (1, Some("good"), None));
}

/// A reload forgives the waits, and what was switched off is gone at once.
#[test]
fn a_reload_counts_at_once() {
    let world = world();
    mood(&world, |mood| mood.down = true);
    world.hands.knock_in(Span::hours(20), Knock::Reload(Box::new(config(&on()))));
    let responder = world.ca.responder();
    world.hands.do_in(Span::mins(20 * 60 - 1), move || responder.mood(|mood| mood.down = false));
    world.live(&on(), Span::mins(20 * 60 + 1));
    assert_eq!(ocsp(&world)["status"], "good");
    world.hands.knock_in(Span::mins(1), Knock::Reload(Box::new(config(ONE))));
    world.live(&on(), Span::mins(2));
    assert_eq!(ocsp(&world), Value::Null);
}
