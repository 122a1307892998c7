//! What a change of the configuration does when it is read: the table of behaviours, row by row, and mod_md's cases of it.

use super::fake::ca::Bad;
use super::{ONE, START, World, config, journal};
use edgemd::doors::clock::Knock;
use edgemd::doors::disk::Disk;
use edgemd::house::store::Store;
use edgemd::rules::status;
use edgemd::words::cert::Held;
use edgemd::words::time::Span;
use serde_json::{Value, json};
use std::path::Path;

const HEAD: &str = "MDCertificateAgreement accepted\nMDInitialDelay 0\n";
const CA: &str = "MDCertificateAuthority https://ca.example/directory\n";

/// The status of all MDs.
fn mds(world: &World) -> Vec<Value> {
    world.board.read(|reports| reports.iter().map(status::md_json).collect())
}

fn conf(text: &str) -> String {
    format!("{HEAD}{CA}{text}\n")
}

/// The first MD before and after a reload, and how many certificates were ordered because of it.
fn changed(before: &str, after: &str) -> (Value, Value, usize) {
    let world = World::new();
    world.live(&conf(before), Span::hours(1));
    let (old, issued) = (mds(&world).remove(0), world.issued());
    world.hands.knock_in(Span::secs(1), Knock::Reload(Box::new(config(&conf(after)))));
    world.live(&conf(before), Span::hours(1));
    (old, mds(&world).remove(0), world.issued() - issued)
}

/// In force at once and no reason for another certificate: this key's value after each of these reloads.
#[track_caller]
fn in_force(key: &[&str], rows: &[(&str, Value)]) {
    let world = World::new();
    let text = |line: &str| conf(&format!("<MDomainSet a.example b.example>\n{line}\n</MDomainSet>"));
    world.live(&text(""), Span::hours(1));
    let mut before = "";
    for (after, is) in rows {
        world.hands.knock_in(Span::secs(1), Knock::Reload(Box::new(config(&text(after)))));
        world.live(&text(before), Span::mins(10));
        let md = mds(&world).remove(0);
        let found = key.iter().fold(md, |value, key| value.get(*key).cloned().unwrap_or_default());
        assert_eq!(found, *is, "{before} → {after}");
        before = after;
    }
    assert_eq!(world.issued(), 1, "{rows:?}");
}

#[test]
fn md_310_001_md_120_000_nothing_is_configured() {
    let world = World::new();
    world.live(&conf(""), Span::hours(1));
    assert_eq!(world.board.read(status::all_json)["managed-domains"], json!([]));
    assert_eq!(world.issued(), 0);
}

#[test]
fn md_310_100_101_md_100_000_001_002_md_120_001_mds_are_added() {
    let world = World::new();
    let one = "MDDriveMode manual\nMDomain a.example www.a.example mail.a.example";
    let two = format!("{one}\nMDomain b.example");
    world.hands.knock_in(Span::mins(1), Knock::Reload(Box::new(config(&conf(&two)))));
    world.hands.do_in(Span::secs(30), {
        let board = world.board.clone();
        move || {
            let md = board.read(|reports| status::md_json(&reports[0]));
            assert_eq!(md["domains"], json!(["a.example", "www.a.example", "mail.a.example"]));
            assert_eq!((&md["state"], &md["state-descr"]), (&json!(1), &json!("certificate(secp256r1) is missing.")));
        }
    });
    world.live(&conf(one), Span::mins(2));
    let names: Vec<Value> = mds(&world).into_iter().map(|md| md["name"].clone()).collect();
    assert_eq!(names, ["a.example", "b.example"]);
}

#[test]
fn md_310_103_104_204_302_md_100_004_md_110_100_402_the_ca_and_its_terms() {
    let text = |ca: &str| format!("{ca}MDDriveMode manual\nMDomain a.example");
    let ca = |text: &str| {
        let world = World::new();
        world.live(text, Span::mins(1));
        mds(&world).remove(0)["ca"].clone()
    };
    let letsencrypt = "https://acme-v02.api.letsencrypt.org/directory";
    assert_eq!(ca(&text("")), json!({"url": letsencrypt, "urls": [letsencrypt], "proto": "ACME"}));
    let chosen = ca(&text(&format!("{CA}MDCertificateProtocol ACME\nMDCertificateAgreement accepted\n")));
    let ours = "https://ca.example/directory";
    assert_eq!(chosen, json!({"url": ours, "urls": [ours], "proto": "ACME", "agreement": "accepted"}));

    // Another CA is due, with an account of its own; back again, too. A deleted line is the default.
    let world = World::new();
    let of = |ca: &str| format!("{HEAD}{}MDomain a.example\n", ca.replace("ca.example", "other.example"));
    world.live(&conf("MDomain a.example"), Span::hours(1));
    assert_eq!((world.issued(), world.ca.accounts(), world.other.accounts()), (1, 1, 0));
    world.hands.knock_in(Span::secs(1), Knock::Reload(Box::new(config(&of(CA)))));
    world.live(&conf("MDomain a.example"), Span::hours(1));
    assert_eq!((world.other.issued().len(), world.ca.accounts(), world.other.accounts()), (1, 1, 1));
    let md = mds(&world).remove(0);
    assert_eq!((&md["ca"]["url"], &md["state"]), (&json!("https://other.example/directory"), &json!(2)));
    world.live(&conf("MDomain a.example"), Span::hours(1));
    assert_eq!((world.issued(), world.ca.accounts()), (2, 1), "the old account is used again");
    world.live(&format!("MDDriveMode manual\n{}", of("")), Span::hours(1));
    let md = mds(&world).remove(0);
    assert_eq!(md["ca"]["urls"], json!([letsencrypt]));
    assert_eq!((&md["state"], &md["state-descr"]), (&json!(1), &json!("certificate(secp256r1) is from another CA.")));
}

#[test]
fn md_310_105_106_205_303_md_110_300_305_md_502_000_contacts() {
    let contacts = |text: &str| {
        let world = World::new();
        world.live(&conf(text), Span::mins(1));
        mds(&world).remove(0)["contacts"].clone()
    };
    assert_eq!(contacts("ServerAdmin admin@a.example\nMDomain a.example"), json!(["mailto:admin@a.example"]));
    assert_eq!(contacts("MDContactEmail mailto:me@a.example\nMDomain a.example"), json!(["mailto:me@a.example"]));
    let text = |mail: &str| format!("{mail}MDomain a.example");
    let (old, new, orders) = changed(&text(""), &text("ServerAdmin x@a.example\n"));
    assert_eq!(old["state"], 2, "orders go out without a contact: {old}");
    assert_eq!((&old["contacts"], &new["contacts"], orders), (&json!([]), &json!(["mailto:x@a.example"]), 0));
    let (old, new, orders) = changed(&text("MDContactEmail x@a.example\n"), &text("MDContactEmail y@a.example\n"));
    assert_eq!(
        (&old["contacts"][0], &new["contacts"][0]),
        (&json!("mailto:x@a.example"), &json!("mailto:y@a.example"))
    );
    assert_eq!(orders, 0);
    let (_, new, _) = changed(&text("ServerAdmin x@a.example\n"), &text(""));
    assert_eq!(new["contacts"], json!([]), "a deleted line is the default again");
}

#[test]
fn md_310_109_110_111_112_207_304_the_mode() {
    let mode = |word: &str, number: i32| (format!("MDDriveMode {word}"), json!(number));
    let rows = [
        (String::new(), json!(1)),
        mode("manual", 0),
        mode("auto", 1),
        mode("always", 2),
        (String::new(), json!(1)),
        ("MDRenewMode manual".into(), json!(0)),
        (String::new(), json!(1)),
        mode("auto", 1),
        (String::new(), json!(1)),
    ];
    let rows: Vec<(&str, Value)> = rows.iter().map(|(line, value)| (line.as_str(), value.clone())).collect();
    in_force(&["renew-mode"], &rows);
}

#[test]
fn md_310_113a_113b_118_206_305_310_windows() {
    let rows =
        [("MDRenewWindow 14d", json!("14d")), ("MDRenewWindow 10", json!("10d")), ("MDRenewWindow 10%", json!("10%"))];
    in_force(&["renew-window"], &[&rows[..], &[("", json!("33%"))]].concat());
    in_force(&["warn-window"], &[("MDWarnWindow 5d", json!("5d")), ("", json!("10%"))]);
}

#[test]
fn md_310_114_115_116_208_306_challenges() {
    let key = ["ca", "challenges"];
    in_force(&key, &[("MDCAChallenges http-01", json!(["http-01"])), ("", Value::Null)]);
    let world = World::new();
    world.live(&conf("MDDriveMode manual\nMDCAChallenges http-01\nMDomain a.example"), Span::mins(1));
    assert_eq!(mds(&world)[0]["ca"]["challenges"], json!(["http-01"]));
    world.live(&conf("MDDriveMode manual\nMDomain a.example"), Span::mins(1));
    assert!(!mds(&world)[0]["ca"].as_object().unwrap().contains_key("challenges"));
}

/// A size counts for the next key; a kind that is added is due; what is the default is not said.
#[test]
fn md_310_119_120_209_307_keys() {
    let rsa = |bits: u16| json!({"type": "RSA", "bits": bits});
    let world = World::new();
    for (line, privkey, orders) in [
        ("MDPrivateKeys RSA 2048", rsa(2048), 1),
        ("MDPrivateKeys RSA 4096", rsa(4096), 0),
        ("MDPrivateKeys RSA 2048", rsa(2048), 0),
        ("MDPrivateKeys P-384 RSA 2048", json!([{"type": "EC", "curve": "secp384r1"}, rsa(2048)]), 1),
        ("", Value::Null, 1),
    ] {
        let issued = world.issued();
        world.live(&conf(&format!("{line}\nMDomain a.example")), Span::mins(10));
        assert_eq!(mds(&world)[0].get("privkey").cloned().unwrap_or_default(), privkey, "{line}");
        assert_eq!(world.issued() - issued, orders, "{line}");
    }
    assert_eq!(mds(&world)[0]["cert"].as_object().unwrap().keys().collect::<Vec<_>>(), ["secp256r1", "valid"]);
}

#[test]
fn md_310_121_210_308_require_https() {
    let rows = [("", Value::Null), ("MDRequireHttps temporary", json!("temporary"))];
    let back = [("MDRequireHttps permanent", json!("permanent")), ("", Value::Null)];
    in_force(&["require-https"], &[&rows[..], &back].concat());
}

/// A certificate that differs is due, and renewed at once.
#[test]
fn md_310_122_211_309_must_staple() {
    for (before, after, is) in [("", "MDMustStaple on", true), ("MDMustStaple on", "", false)] {
        let text = |line: &str| format!("{line}\nMDomain a.example");
        let (old, new, orders) = changed(&text(before), &text(after));
        assert_eq!((&old["must-staple"], &new["must-staple"]), (&json!(!is), &json!(is)));
        assert_eq!(orders, 1, "{before} → {after}");
    }
}

/// A name that goes is kept in the certificate; one that comes is due, and the old one serves meanwhile; the order is
/// nobody's business.
#[test]
fn md_310_200_201_300_301_md_110_000_004_names_come_go_and_change_places() {
    for (before, after, orders) in [
        ("a.example b.example", "a.example", 0),
        ("a.example b.example c.example", "a.example c.example b.example", 0),
        ("a.example", "a.example sub.a.example", 1),
        ("a.example b.example", "a.example x.example y.example", 1),
    ] {
        let (_, new, ordered) = changed(&format!("MDomain {before}"), &format!("MDomain {after}"));
        assert_eq!(new["domains"], json!(after.split(' ').collect::<Vec<_>>()), "the order is as written");
        assert_eq!((&new["state"], ordered), (&json!(2), orders), "{before} → {after}");
    }
    // The CA is away: what is held is served for as long as it takes.
    let world = World::new();
    world.live(ONE, Span::hours(1));
    let served = world.served();
    world.ca.weather(|weather| weather.down = true);
    world.live(&ONE.replace("b.example", "b.example c.example"), Span::days(1));
    assert_eq!(world.served(), served);
    assert_eq!(mds(&world)[0]["state-descr"], "certificate(secp256r1) does not cover all domains.");
}

/// The names of `old` and `new` MDs, and how many certificates are ordered.
fn moved(old: &str, new: &str) -> (usize, World) {
    let text = |list: &str| list.split(',').map(|names| format!("MDomain {names}\n")).collect::<String>();
    let world = World::new();
    world.live(&conf(&text(old)), Span::hours(1));
    let issued = world.issued();
    world.hands.knock_in(Span::secs(1), Knock::Reload(Box::new(config(&conf(&text(new))))));
    world.live(&conf(&text(old)), Span::hours(1));
    assert!(world.status().1, "{old} → {new}: {}", world.status().0);
    (world.issued() - issued, world)
}

#[test]
fn md_310_202_203_a_first_name_goes_and_the_md_is_recognised() {
    let said = |what: &str| journal::take().into_iter().any(|line| line.contains(what));
    for (old, new, orders, goes_on) in [
        ("a.example b.example", "b.example", 0, "b.example: goes on with the certificate of a.example"),
        ("a.example b.example c.example", "b.example c.example d.example", 1, "b.example: goes on with"),
        ("a.example b.example", "x.example b.example", 1, "x.example: goes on with the certificate of a.example"),
        // Of two the one that covers all.
        (
            "a.example b.example,c.example d.example",
            "d.example",
            0,
            "d.example: goes on with the certificate of c.example",
        ),
    ] {
        let (ordered, world) = moved(old, new);
        assert_eq!(ordered, orders, "{old} → {new}");
        assert!(said(goes_on), "{old} → {new}: {goes_on}");
        assert_eq!(mds(&world)[0]["name"], json!(new.split(' ').next()));
    }
    // Nothing in common: nothing is taken over, and nothing is lost.
    let (ordered, world) = moved("a.example", "x.example");
    assert_eq!(ordered, 1);
    assert!(!said("goes on with"));
    assert!(world.disk.files().iter().any(|path| path.starts_with("/store/certs/a.example")));
}

#[test]
fn names_move_between_mds_and_mds_merge() {
    for (old, new, orders) in [
        // The one that gained is due, the other is not.
        ("a.example b.example,c.example", "a.example,c.example b.example", 1),
        ("a.example b.example,c.example d.example", "a.example d.example,c.example b.example", 2),
        // Two become one, and one becomes two.
        ("a.example,b.example", "a.example b.example", 1),
        ("a.example b.example", "a.example,b.example", 1),
    ] {
        let (ordered, _) = moved(old, new);
        assert_eq!(ordered, orders, "{old} → {new}");
    }
}

#[test]
fn an_md_that_is_removed_is_neither_served_nor_driven_and_its_record_stays() {
    let world = World::new();
    let both = conf("MDomain a.example\nMDomain b.example");
    world.live(&both, Span::hours(1));
    let record = Path::new("/store/certs/b.example/secp256r1.0");
    let before = world.disk.read(record).unwrap().unwrap();
    world.hands.knock_in(Span::secs(1), Knock::Reload(Box::new(config(&conf("MDomain a.example")))));
    world.live(&both, Span::hours(1));
    assert_eq!(mds(&world).len(), 1);
    world.live(&conf("MDomain a.example"), Span::days(89));
    assert_eq!(world.issued(), 3, "only the other one is renewed");
    assert_eq!(world.disk.read(record).unwrap().unwrap(), before);
}

#[test]
fn md_310_500_another_store_is_empty() {
    let world = World::new();
    world.live(&conf("MDomain a.example"), Span::hours(1));
    let files = world.disk.files();
    world.live_in("/elsewhere", &conf("MDomain a.example"), Span::hours(1));
    assert_eq!((world.issued(), world.ca.accounts()), (2, 2), "nothing is known of the first one");
    assert!(world.disk.files().iter().any(|path| path.starts_with("/elsewhere/certs/a.example")));
    let still: Vec<_> = world.disk.files().into_iter().filter(|path| path.starts_with("/store")).collect();
    assert_eq!(still, files.into_iter().filter(|path| path.starts_with("/store")).collect::<Vec<_>>());
}

#[test]
fn md_310_501_files_of_others_are_no_reason_to_stop() {
    let world = World::new();
    world.disk.plant(Path::new("/store/certs/.DS_Store"), b"x");
    world.disk.plant(Path::new("/store/certs/a.example/notes.txt"), b"x");
    world.live(&conf("MDomain a.example"), Span::hours(1));
    world.live(&conf("MDomain a.example"), Span::hours(1));
    assert!(world.status().1, "{}", world.status().0);
    assert!(world.disk.read(Path::new("/store/certs/.DS_Store")).unwrap().is_some());
}

/// The states by their numbers, as the store has it.
#[test]
fn md_120_002_the_state_follows_from_what_is_held() {
    let world = World::new();
    let manual = conf("MDDriveMode manual\nMDomain a.example");
    let seen = |world: &World| {
        let md = mds(world).remove(0);
        (md["state"].as_u64(), md["renew"].as_bool(), md["state-descr"].clone())
    };
    world.live(&manual, Span::mins(1));
    assert_eq!(seen(&world), (Some(1), Some(true), json!("certificate(secp256r1) is missing.")));
    world.live(&conf("MDomain a.example"), Span::hours(1));
    world.live(&manual, Span::mins(1));
    assert_eq!(seen(&world), (Some(2), Some(false), Value::Null));
    // It ages in silence: nobody restarts, nothing is ordered, and the status follows all the same.
    let board = world.board.clone();
    for (day, renew) in [(59, false), (61, true), (91, true)] {
        let board = board.clone();
        world.hands.do_in(Span::days(day), move || {
            let md = board.read(|reports| status::md_json(&reports[0]));
            assert_eq!(
                (&md["state"], &md["renew"]),
                (&json!(2), &json!(renew)),
                "day {day}: expired alone is complete"
            );
        });
    }
    world.live(&manual, Span::days(92));
    assert!(!world.status().1, "it has expired, and a person has to see to it");
    let other = conf("MDDriveMode manual\nMDomain a.example other.example");
    world.live(&other, Span::mins(1));
    assert_eq!(seen(&world), (Some(1), Some(true), json!("certificate(secp256r1) does not cover all domains.")));
}

/// What the operator has not said yet.
#[test]
fn what_is_missing_in_the_configuration_has_a_number_of_its_own() {
    let world = World::new();
    let silent = conf("MDomain a.example").replace("MDCertificateAgreement accepted\n", "");
    world.live(&silent, Span::hours(1));
    assert_eq!(mds(&world)[0]["state"], 5, "{}", mds(&world)[0]);
    assert!(world.status().0.contains("MDCertificateAgreement accepted"), "{}", world.status().0);
    world.live(&conf("MDomain a.example"), Span::hours(1));
    assert_eq!(mds(&world)[0]["state"], 2);
    // New terms: what is held is complete as long as it lasts.
    world.ca.weather(|weather| weather.spoil = Some(("/new-order", Bad::Problem(403, "userActionRequired", None))));
    world.hands.turn(Span::days(61));
    world.live(&conf("MDomain a.example"), Span::hours(1));
    assert_eq!(mds(&world)[0]["state"], 2);
    assert!(!world.status().1, "but a person has to read them: {}", world.status().0);
}

#[test]
fn md_920_010_the_counters() {
    let world = World::new();
    let counts = |world: &World| {
        let text = world.board.read(status::counts);
        text.lines().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect::<Vec<u32>>()
    };
    let both = conf("MDomain a.example\n<MDomainSet b.example>\nMDDriveMode manual\n</MDomainSet>");
    world.live(&both, Span::hours(1));
    assert!(world.board.read(status::counts).starts_with("ManagedCertificatesTotal: 2\nManagedCertificatesOK: 1\n"));
    assert_eq!(counts(&world), [2, 1, 1, 0, 0, 0, 0, 0, 0]);
    world.ca.weather(|weather| weather.down = true);
    world.hands.turn(Span::days(61));
    world.live(&both, Span::hours(1));
    assert_eq!(counts(&world), [2, 1, 2, 1, 0, 0, 0, 0, 0]);
}

/// The renew-at of mod_md's readers: now when incomplete, else when the window opens.
#[test]
fn renew_at_is_now_or_when_the_window_opens() {
    let world = World::new();
    world.ca.weather(|weather| weather.down = true);
    world.live(&conf("MDomain a.example"), Span::secs(10));
    assert_eq!(mds(&world)[0]["renew-at"], START.http_date());
    world.ca.weather(|weather| weather.down = false);
    world.live(&conf("MDRenewWindow 30d\nMDomain a.example"), Span::hours(1));
    let until = world.ca.issued()[0].not_after;
    assert_eq!(mds(&world)[0]["renew-at"], until.minus(Span::days(30)).http_date());
}

/// Not used, not driven; used after a reload, and it completes. What is watched is what somebody uses.
#[test]
fn md_702_001_an_md_that_nobody_uses_waits_until_somebody_does() {
    let site = |name: &str| format!("<VirtualHost *:443>\nServerName {name}\n</VirtualHost>\n");
    let (unused, used) = (site("x.example"), site("a.example"));
    let md = "MDomain a.example www.a.example\n";
    let (old, new, orders) = changed(&format!("{md}{unused}"), &format!("{md}{used}"));
    assert_eq!(
        (&old["watched"], &old["state"], &new["watched"], &new["state"]),
        (&json!(false), &json!(1), &json!(true), &json!(2))
    );
    assert_eq!(orders, 1);
    let (_, new, orders) = changed(&format!("{md}{used}"), &format!("{md}{unused}"));
    assert_eq!((&new["watched"], &new["state"], orders), (&json!(false), &json!(2), 0), "what is held stays");
}

/// A pair near its end is in the store, as somebody has put it there: it is used, and renewed.
#[test]
fn md_702_009_what_is_found_near_its_end_is_used_and_renewed() {
    let world = World::new();
    world.live(&conf("MDomain a.example"), Span::hours(1));
    let mut disk = world.disk.clone();
    let (mut store, loaded) = Store::open(Path::new("/store"), None, &mut disk).unwrap();
    let (slot, held) = loaded.certs.iter().next().map(|(slot, held)| (slot.clone(), held[0].clone())).unwrap();
    let bundle = store.read_bundle(&disk, &slot, &held.sha256).unwrap().unwrap();
    let (since, not_after) = (START.minus(Span::days(88)), START.plus(Span::days(2)));
    let short = Held { not_before: since, not_after, since, serial: vec![0x70, 0x29], sha256: [0x70; 32], ..held };
    store.put_cert(&mut disk, &slot, &short, &bundle).unwrap();
    let text = conf("MDRenewWindow 10d\nMDExport /run/tls\nMDomain a.example");
    world.ca.weather(|weather| weather.down = true);
    world.live(&text, Span::mins(1));
    assert_eq!(mds(&world)[0]["cert"]["secp256r1"]["serial"], "7029");
    assert!(world.disk.read(Path::new("/run/tls/a.example.crt")).unwrap().is_some(), "it is used");
    world.ca.weather(|weather| weather.down = false);
    world.live(&text, Span::hours(1));
    assert!(mds(&world)[0]["cert"]["secp256r1"]["serial"] != "7029" && world.issued() == 2);
}

/// tls-alpn-01 alone, and 443 does not arrive: nobody answers the protocol, and the try says why.
#[test]
fn md_702_041_a_protocol_that_nobody_answers() {
    let world = World::new();
    world.live(&conf("MDPortMap http:80 https:-\nMDCAChallenges tls-alpn-01\nMDomain a.example"), Span::mins(5));
    let md = mds(&world).remove(0);
    assert_eq!(md["proto"]["acme-tls/1"], json!([]));
    assert!(md["renewal"]["errors"].as_u64() > Some(0), "{md}");
}

/// The CA does not accept the answer: trying goes on, with patience.
#[test]
fn md_741_001_an_answer_that_is_rejected_is_tried_again_with_patience() {
    let world = World::new();
    world.ca.weather(|weather| weather.reject = true);
    let text = conf("MDRetryDelay 1s\nMDCAChallenges http-01\nMDomain a.example");
    world.live(&text, Span::secs(10));
    let errors = |world: &World| mds(world)[0]["renewal"]["errors"].as_u64().unwrap_or_default();
    let first = errors(&world);
    assert!((2..10).contains(&first), "{first} errors within ten seconds");
    world.live(&text, Span::mins(10));
    assert!(errors(&world) > first && errors(&world) < first + 10, "{} after ten minutes", errors(&world));
}

#[test]
fn md_741_002_garbage_in_a_record_is_set_aside_and_the_certificate_is_ordered_anew() {
    let world = World::new();
    world.live(&conf("MDomain a.example"), Span::hours(1));
    for side in ["0", "1"] {
        world.disk.plant(Path::new(&format!("/store/certs/a.example/secp256r1.{side}")), b"garbage");
    }
    world.live(&conf("MDomain a.example"), Span::hours(1));
    assert_eq!((world.issued(), &mds(&world)[0]["state"]), (2, &json!(2)));
    assert!(world.disk.read(Path::new("/store/certs/a.example/secp256r1.0.bad")).unwrap().is_some());
}

#[test]
fn md_810_005_three_kinds_of_key_are_three_certificates() {
    let world = World::new();
    world.live(&conf("MDPrivateKeys RSA 2048 P-256 P-384\nMDomain a.example"), Span::hours(1));
    let md = mds(&world).remove(0);
    assert_eq!(md["cert"].as_object().unwrap().keys().collect::<Vec<_>>(), ["rsa", "secp256r1", "secp384r1", "valid"]);
    assert_eq!((world.issued(), &md["state"]), (3, &json!(2)));
}
