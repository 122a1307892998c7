//! Certificates of the operator's own: served, watched, never ordered, and no danger to anybody else's.

use super::fake::disk::RamDisk;
use super::{ONE, START, World, config};
use edgemd::doors::clock::Knock;
use edgemd::doors::disk::{Disk, Op};
use edgemd::rules::{pem, status};
use edgemd::words::time::Span;
use rcgen::{CertificateParams, DnType, KeyPair, SerialNumber, SignatureAlgorithm};
use serde_json::Value;
use std::path::Path;
use time::{Duration, OffsetDateTime};

const CERT: &str = "/etc/own/site.crt";
const KEY: &str = "/etc/own/site.key";

/// A self-signed pair, PEM: valid from and until so many days from the start.
fn made(names: &[&str], from: i64, until: i64, algorithm: &'static SignatureAlgorithm) -> (String, String) {
    let day = |days| {
        let start = OffsetDateTime::from_unix_timestamp(START.secs().cast_signed()).unwrap();
        start + Duration::days(days)
    };
    let key = KeyPair::generate_for(algorithm).unwrap();
    let mut params = CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "their own");
    (params.not_before, params.not_after) = (day(from), day(until));
    params.serial_number = Some(SerialNumber::from(vec![7, 0x30, 1]));
    let cert = params.self_signed(&key).unwrap();
    (pem::encode("CERTIFICATE", cert.der()), pem::encode("PRIVATE KEY", &key.serialize_der()))
}

fn plant(disk: &RamDisk, (cert, key): &(String, String)) {
    disk.plant(Path::new(CERT), cert.as_bytes());
    disk.plant(Path::new(KEY), key.as_bytes());
}

fn conf(more: &str) -> String {
    let section = format!(
        "<MDomainSet s.example www.s.example>\nMDCertificateFile {CERT}\nMDCertificateKeyFile {KEY}\n{more}</MDomainSet>\n"
    );
    format!("{ONE}{section}")
}

const NAMES: &[&str] = &["s.example", "www.s.example"];

fn json(world: &World, md: usize) -> Value {
    world.board.read(|reports| status::md_json(&reports[md]))
}

#[test]
fn md_730_001_md_920_011_a_static_pair_near_its_end_is_held_and_not_ordered() {
    let world = World::new();
    plant(&world.disk, &made(NAMES, -80, 10, &rcgen::PKCS_ECDSA_P256_SHA256));
    world.live(&conf(""), Span::days(1));
    assert_eq!(world.issued(), 1, "the other MD's");
    let md = json(&world, 1);
    assert_eq!(md["cert"]["secp256r1"]["serial"], "073001", "{md}");
    assert_eq!((&md["state"], &md["renew"], &md["renew-mode"]), (&2.into(), &true.into(), &0.into()), "{md}");
    assert_eq!((&md["cert-files"][0], &md["pkey-files"][0]), (&CERT.into(), &KEY.into()));
    assert!(!md.as_object().unwrap().contains_key("renewal"), "{md}");
    // Exported and told of like any other.
    let exported = world.disk.read(Path::new("/run/tls/s.example.crt")).unwrap().unwrap();
    assert_eq!(exported, world.disk.read(Path::new(CERT)).unwrap().unwrap());
    let told = |world: &World| {
        let all = world.ear.heard().into_iter();
        all.filter(|(_, event)| event.argv.last().is_some_and(|md| md == "s.example")).count()
    };
    assert_eq!(told(&world), 1);
    world.live(&conf(""), Span::days(1));
    assert_eq!(told(&world), 1, "once");
}

/// A static pair is nobody's to renew here: no message of that; but of its end there is one a day.
#[test]
fn md_901_010_md_901_011_a_static_pair_is_warned_of_and_nothing_else() {
    for (until, warnings) in [(20, 0), (5, 1)] {
        let world = World::new();
        plant(&world.disk, &made(NAMES, until - 90, until, &rcgen::PKCS_ECDSA_P256_SHA256));
        let conf = conf("MDMessageCmd /bin/message\n").replace("MDNotifyCmd /bin/reload-ui now\n", "");
        let heard = || {
            let events = world.ear.heard().into_iter().map(|(_, event)| event.argv.join(" "));
            events.filter(|line| line.ends_with(" s.example")).collect::<Vec<_>>()
        };
        for _ in 0..3 {
            world.live(&conf, Span::hours(6));
            assert_eq!(heard(), vec!["/bin/message expiring s.example"; warnings], "{until}");
        }
        world.live(&conf, Span::hours(12));
        assert_eq!(heard().len(), 2 * warnings, "{until}: once a day");
    }
}

/// Somebody renews the file: it is seen within a check interval, without a reload.
#[test]
fn a_static_file_that_changes_is_seen() {
    let world = World::new();
    plant(&world.disk, &made(NAMES, -80, 10, &rcgen::PKCS_ECDSA_P256_SHA256));
    let (disk, new) = (world.disk.clone(), made(NAMES, 0, 90, &rcgen::PKCS_ECDSA_P384_SHA384));
    let (expected, then) = (new.0.clone(), new);
    world.hands.do_in(Span::hours(30), move || plant(&disk, &then));
    world.live(&conf(""), Span::hours(43));
    let md = json(&world, 1);
    assert!(md["cert"]["secp384r1"].is_object() && md["cert"]["secp256r1"].is_null(), "{md}");
    let exported = world.disk.read(Path::new("/run/tls/s.example.crt")).unwrap().unwrap();
    assert_eq!(String::from_utf8(exported).unwrap(), expected);
    assert!(world.status().1, "{}", world.status().0);
}

/// Whatever is wrong with the files is said with path and remedy, stops no other MD, and heals by itself.
#[test]
fn bad_static_files_harm_nobody() {
    let good = made(NAMES, 0, 90, &rcgen::PKCS_ECDSA_P256_SHA256);
    let other = made(NAMES, 0, 90, &rcgen::PKCS_ECDSA_P256_SHA256);
    for (cert, key, why) in [
        (None, None, "reading /etc/own/site.crt: there is no such file; put it there, or remove MDCertificateFile"),
        (Some(&good.0), None, "reading /etc/own/site.key: there is no such file; put it there, or remove"),
        (Some(&good.1), Some(&good.1), "reading /etc/own/site.crt: there is no certificate in it; it shall be PEM"),
        (Some(&good.0), Some(&good.0), "reading /etc/own/site.key: there is no private key in it; it shall be"),
        (Some(&good.0), Some(&other.1), "reading /etc/own/site.crt: it is for another key; /etc/own/site.key has to"),
    ] {
        let world = World::new();
        for (path, text) in [(CERT, cert), (KEY, key)] {
            text.iter().for_each(|text| world.disk.plant(Path::new(path), text.as_bytes()));
        }
        world.live(&conf(""), Span::hours(1));
        let (text, well) = world.status();
        assert!(!well && text.contains(why), "{text}");
        assert_eq!(json(&world, 1)["state"], 4, "{why}");
        assert!(json(&world, 1)["state-descr"].as_str().unwrap().contains(why), "{why}");
        assert_eq!((world.issued(), &json(&world, 0)["state"]), (1, &2.into()), "the other MD");
        let disk = world.disk.clone();
        let mended = good.clone();
        world.hands.do_in(Span::hours(1), move || plant(&disk, &mended));
        world.live(&conf(""), Span::hours(14));
        assert!(world.status().1, "{}", world.status().0);

        // What was good once is held while the files are being replaced.
        let disk = world.disk.clone();
        world.hands.do_in(Span::hours(1), move || disk.clone().act(Op::Unlink(Path::new(KEY))).unwrap());
        world.live(&conf(""), Span::hours(14));
        let md = json(&world, 1);
        assert!(md["state"] == 4 && md["cert"]["secp256r1"].is_object(), "{md}");
    }
}

/// Names that the pair lacks, static files that come and go, and an MD that is driven all the same.
#[test]
fn static_files_come_and_go_by_reload() {
    let world = World::new();
    let driven = format!("{ONE}MDomain s.example www.s.example\n");
    world.live(&driven, Span::hours(1));
    assert_eq!(world.issued(), 2);
    plant(&world.disk, &made(&NAMES[..1], 0, 90, &rcgen::PKCS_ECDSA_P256_SHA256));
    world.hands.knock_in(Span::mins(1), Knock::Reload(Box::new(config(&conf("")))));
    world.live(&driven, Span::hours(1));
    let md = json(&world, 1);
    assert_eq!((&md["cert"]["secp256r1"]["serial"], &md["state"]), (&"073001".into(), &1.into()), "{md}");
    assert_eq!(md["state-descr"], "certificate(secp256r1) does not cover all domains.");
    assert_eq!(world.issued(), 2, "not driven");
    // Without them again it goes on with what it had, and asks for nothing.
    world.live(&driven, Span::hours(1));
    assert_eq!(world.issued(), 2);
    let exported = world.disk.read(Path::new("/run/tls/s.example.crt")).unwrap().unwrap();
    assert!(String::from_utf8(exported).unwrap().contains("BEGIN CERTIFICATE"));
    assert!(world.status().1, "{}", world.status().0);

    // `always`: the static pair is given to others, the ordered one waits in the store.
    let always = conf("MDDriveMode always\nMDPrivateKeys RSA 2048\n");
    world.live(&always, Span::hours(1));
    assert_eq!(world.issued(), 3);
    let md = json(&world, 1);
    assert!(md["cert"]["secp256r1"]["serial"] == "073001" && md["cert"]["rsa"].is_object(), "{md}");
    let exported = world.disk.read(Path::new("/run/tls/s.example.crt")).unwrap();
    assert_eq!(exported, world.disk.read(Path::new(CERT)).unwrap());
    assert_eq!(world.disk.read(Path::new("/run/tls/s.example.rsa.crt")).unwrap(), None);
}

#[test]
fn several_static_pairs_have_files_of_their_own() {
    let world = World::new();
    let (first, second) =
        (made(NAMES, 0, 90, &rcgen::PKCS_ECDSA_P384_SHA384), made(NAMES, 0, 90, &rcgen::PKCS_ECDSA_P256_SHA256));
    plant(&world.disk, &first);
    world.disk.plant(Path::new("/etc/own/2.pem"), format!("{}{}", second.1, second.0).as_bytes());
    let both = "MDCertificateFile /etc/own/2.pem\nMDCertificateKeyFile /etc/own/2.pem\n";
    world.live(&conf(both), Span::hours(1));
    let read = |name: &str| {
        let bytes = world.disk.read(Path::new("/run/tls").join(name).as_path()).unwrap();
        bytes.map(|bytes| String::from_utf8(bytes).unwrap())
    };
    assert_eq!((read("s.example.crt"), read("s.example.key")), (Some(first.0), Some(first.1)));
    assert_eq!((read("s.example.p256.crt"), read("s.example.p256.key")), (Some(second.0), Some(second.1)));
    plant(&world.disk, &made(NAMES, 0, 90, &rcgen::PKCS_ECDSA_P256_SHA256));
    world.live(&conf(both), Span::hours(1));
    assert!(world.status().0.contains("two of its own certificates have keys of kind P-256"), "{}", world.status().0);
}
