//! What any release has written is read by this one, and what a later one has written is left to it.

mod fake;

use edgemd::doors::disk::{Disk, SystemDisk};
use edgemd::doors::keys;
use edgemd::house::store::Store;
use edgemd::rules::record::{self, State};
use edgemd::rules::x509;
use edgemd::words::cert::{Account, Advice, Bundle, Held, Imposed, KeyKind, Slot, Suggested, Tried};
use edgemd::words::fault::{Refusal, Subproblem, Trouble};
use edgemd::words::message::{Said, Topic};
use edgemd::words::name::{Labels, Name};
use edgemd::words::staple::Stored;
use edgemd::words::time::{Span, Unix};
use fake::Fresh;
use fake::disk::RamDisk;
use fake::responder::TestCa;
use ring::digest::{SHA256, digest};
use serde::Serialize;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const CA: &str = "https://ca.example/directory";
/// The newest version of each kind.
const NEWEST: [(&str, u8); 5] = [("certificate", 3), ("trial", 2), ("account", 2), ("ocsp", 1), ("state", 2)];

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(name)
}

fn frozen(name: &str) -> Vec<u8> {
    fs::read(place(name)).unwrap_or_else(|why| panic!("{name}: {why}; see tests/formats/README.md"))
}

fn slot() -> Slot {
    Slot::new(Name::parse("a.example", Labels::One).unwrap(), "secp256r1").unwrap()
}

/// The pair that all of them are about; it was made once.
fn bundle() -> Bundle {
    static ONCE: OnceLock<Bundle> = OnceLock::new();
    let pair = ONCE.get_or_init(|| match fs::read(place("certificate.1")) {
        Ok(bytes) => record::decode_cert(&bytes).expect("a frozen record").2,
        Err(_) => {
            let (chain, key) = TestCa::new("Frozen CA").issue("a.example", 7, None);
            Bundle { key: key.into(), chain }
        }
    });
    pair.clone()
}

fn held(version: u8) -> Held {
    let leaf = &bundle().chain[0];
    let since = Unix::from_secs(1_795_000_000);
    let facts = x509::facts(leaf, KeyKind::P256, CA, since).expect("a certificate");
    Held { must_staple: false, staple_asked: version > 1, profile: (version > 2).then(|| "shortlived".into()), ..facts }
}

fn tried(version: u8) -> Tried {
    let mut refusal = Refusal::ours("new order", "urn:ietf:params:acme:error:rateLimited", "too many certificates");
    (refusal.status, refusal.retry_after) = (Some(429), Some(Span::mins(10)));
    refusal.subproblems.push(Subproblem { name: "a.example".into(), ..Subproblem::default() });
    let until = Unix::from_secs(1_795_100_000);
    let mut tried = Tried {
        fingerprint: [3; 8],
        told: Some(held(1).sha256),
        imposed: vec![Imposed { ca: CA.into(), until }],
        exported: vec!["/etc/ssl/a.example.key".into()],
        revoked: (version > 1).then_some([9; 32]),
        ..Tried::default()
    };
    (tried.order.failures, tried.order.until, tried.order.last) = (3, Some(until), Some(refusal.into()));
    tried.order.last_at = Some(Unix::from_secs(1_795_090_000));
    tried
}

fn account(version: u8) -> Account {
    Account {
        ca: CA.into(),
        url: Some("https://ca.example/account/1".into()),
        key: bundle().key,
        contacts: vec!["mailto:admin@example.org".into()],
        agreement: Some("accepted".into()),
        kid: (version > 1).then(|| "kid-1".into()),
        next: (version > 1).then(|| bundle().key),
    }
}

fn stored() -> Stored {
    Stored { sha256: held(1).sha256, since: Unix::from_secs(1_795_000_100), der: vec![0x30; 40] }
}

fn state(version: u8) -> State {
    let mut tried = tried(1);
    tried.tell.last = Some(Trouble::new("running /bin/reload", "exited with 1").into());
    let said = Said { last: [(Topic::Renewed, Unix::from_secs(1_795_000_200))].into(), ..Said::default() };
    let (start, end, at) =
        (Unix::from_secs(1_799_000_000), Unix::from_secs(1_799_090_000), Unix::from_secs(1_799_050_000));
    let window = Some(Suggested { start, end, at, explanation: Some("https://ca.example/why".into()) });
    let again = Unix::from_secs(1_795_020_000);
    let advice = Advice { sha256: held(1).sha256, window, again, failures: 1, hurried: false };
    State {
        tried: [(slot(), tried)].into(),
        said: [(slot().md, said)].into(),
        advice: if version > 1 { [(slot(), advice)].into() } else { Default::default() },
    }
}

/// What this program writes for the contents of that version; one that no encoder writes any more, by hand.
fn written(kind: &str, version: u8) -> Vec<u8> {
    let (held, bundle) = (held(version), bundle());
    match (kind, version) {
        ("certificate", 1) => framed(b'C', 1, &(1_u32, held, bundle)),
        ("certificate", 2) => framed(b'C', 2, &(2_u32, &held, bundle, (held.must_staple, held.staple_asked))),
        ("certificate", _) => record::encode_cert(3, &held, &bundle),
        ("trial", _) => record::encode_tried(&tried(version)),
        ("account", _) => record::encode_account(version.into(), &account(version)),
        ("ocsp", _) => record::encode_staple(&stored()),
        ("state", 1) => {
            let state = state(1);
            let rows: Vec<_> = state.tried.iter().map(|(slot, tried)| (&slot.md, slot.family, tried)).collect();
            framed(b'S', 1, &(rows, &state.said))
        }
        ("state", _) => record::encode_state(&state(version)),
        _ => panic!("{kind} {version}"),
    }
}

fn framed(kind: u8, version: u8, body: &impl Serialize) -> Vec<u8> {
    sealed(&[&[kind, version][..], &postcard::to_allocvec(body).unwrap()].concat())
}

fn sealed(bytes: &[u8]) -> Vec<u8> {
    [bytes, &digest(&SHA256, bytes).as_ref()[..8]].concat()
}

/// The bytes of each version are what they were, mean what they meant, and no version is without a file.
#[test]
fn every_version_of_every_record_is_frozen_and_read() {
    for (kind, newest) in NEWEST {
        for version in 1..=newest {
            let name = format!("{kind}.{version}");
            let bytes = written(kind, version);
            if std::env::var_os("FREEZE").is_some() && !place(&name).exists() {
                fs::write(place(&name), &bytes).unwrap();
            }
            let frozen = frozen(&name);
            assert_eq!(frozen[1], version, "{name}");
            assert!(frozen == bytes, "{name} is not what is written today");
            match kind {
                "certificate" => {
                    let sequence = u32::from(version);
                    assert!(record::decode_cert(&frozen) == Ok((sequence, held(version), bundle())), "{name}");
                }
                "trial" => assert!(record::decode_tried(&frozen) == Ok(tried(version)), "{name}"),
                "account" => {
                    let sequence = u32::from(version);
                    assert!(record::decode_account(&frozen) == Ok((sequence, account(version))), "{name}");
                }
                "ocsp" => assert!(record::decode_staple(&frozen) == Ok(stored()), "{name}"),
                _ => assert!(record::decode_state(&frozen) == Ok(state(version)), "{name}"),
            }
        }
        let today = written(kind, newest)[1];
        assert_eq!(today, newest, "{kind}: a new version is frozen, too (tests/formats/README.md)");
    }
}

/// A store as an earlier program left it, at the same places.
fn planted(cert: u8, trial: u8, account: u8) -> RamDisk {
    let disk = RamDisk::new();
    let put = |path: &str, name: String| disk.plant(&Path::new("/store").join(path), &frozen(&name));
    put("certs/a.example/secp256r1.0", format!("certificate.{cert}"));
    put("certs/a.example/secp256r1.tried", format!("trial.{trial}"));
    put("certs/a.example/secp256r1.ocsp", "ocsp.1".into());
    put(&format!("accounts/{}.0", record::file_stem(&self::account(account).place())), format!("account.{account}"));
    disk.mend();
    disk
}

/// Nothing of an old store is set aside or written anew; what comes next stands beside it.
#[test]
fn a_store_of_every_version_is_opened_and_goes_on() {
    for (cert, trial, version) in [(1, 1, 1), (2, 2, 2), (3, 2, 2)] {
        let mut disk = planted(cert, trial, version);
        let open = |disk: &RamDisk| Store::open(Path::new("/store"), None, &mut disk.clone()).unwrap();
        let (mut store, loaded) = open(&disk);
        assert_eq!((loaded.set_aside.as_slice(), disk.ops()), (&[][..], 0));
        assert_eq!(loaded.certs[&slot()], [held(cert)]);
        assert_eq!(loaded.tried[&slot()].told, tried(trial).told);
        assert_eq!(loaded.accounts[&account(version).place()], account(version));
        assert_eq!(store.staple(&disk, &slot()), Some(stored()));
        let pair = &store.pairs(&disk, &slot()).unwrap()[0].1;
        let (kind, public) = keys::identify(&pair.key).unwrap();
        assert!(x509::paired(&pair.chain, &public, kind, CA, Unix::default()).is_ok(), "the key is the certificate's");

        let renewed = Held { since: Unix::from_secs(1_799_000_000), ..held(3) };
        store.put_cert(&mut disk, &slot(), &renewed, &bundle()).unwrap();
        let (_, loaded) = open(&disk);
        assert_eq!(loaded.certs[&slot()], [renewed, held(cert)], "the newer one, and the old one beside it");
    }
}

/// A downgrade is refused with a sentence, and nothing is touched: not what only the newer program can read, and not what
/// is damaged beside it.
#[test]
fn a_store_of_a_later_version_is_refused_and_left_as_it_is() {
    let later = |name: &str| {
        let mut bytes = frozen(name);
        bytes.truncate(bytes.len() - 8);
        bytes[1] += 1;
        bytes.extend(b"something that comes later");
        sealed(&bytes)
    };
    let account_path = format!("accounts/{}.0", record::file_stem(&account(2).place()));
    for (path, name, noun) in [
        ("certs/a.example/secp256r1.0", "certificate.3", "certificate record of version 4, this one knows 3"),
        ("certs/a.example/secp256r1.1", "certificate.3", "certificate record of version 4, this one knows 3"),
        ("certs/a.example/secp256r1.tried", "trial.2", "trial record of version 3, this one knows 2"),
        (account_path.as_str(), "account.2", "account record of version 3, this one knows 2"),
    ] {
        let disk = planted(3, 2, 2);
        disk.plant(&Path::new("/store").join(path), &later(name));
        disk.plant(Path::new("/store/certs/b.example/rsa.0"), b"damaged");
        disk.plant(Path::new("/store/certs/b.example/.rsa.1.new"), b"half-written");
        disk.mend();
        for open in [Store::open, Store::look] {
            let said = open(Path::new("/store"), None, &mut disk.clone()).err().expect("it is refused").to_string();
            assert_eq!(
                said,
                format!(
                    "reading /store/{path}: a newer edgemd has written it ({noun}); install that one again, or name \
                     another MDStoreDir; nothing was changed"
                )
            );
            assert_eq!(disk.ops(), 0, "{said}");
        }
    }
    // What can be had again is no reason to serve nothing.
    let (state, ocsp) = (Path::new("/run/state"), Path::new("/store/certs/a.example/secp256r1.ocsp"));
    let disk = planted(3, 2, 2);
    disk.plant(state, &later("state.2"));
    disk.plant(ocsp, &later("ocsp.1"));
    let (store, loaded) = Store::open(Path::new("/store"), Some(state), &mut disk.clone()).unwrap();
    assert_eq!((loaded.certs.len(), loaded.set_aside.len(), store.staple(&disk, &slot())), (1, 1, None));
    // Nor is what only calls itself later.
    let mut damaged = later("certificate.3");
    damaged[30] ^= 1;
    disk.plant(Path::new("/store/certs/a.example/secp256r1.1"), &damaged);
    let (_, loaded) = Store::open(Path::new("/store"), None, &mut disk.clone()).unwrap();
    assert!(loaded.set_aside[0].contains("checksum differs"), "{:?}", loaded.set_aside);
}

/// The same through the program: exit 69, and every file as it was.
#[test]
fn the_daemon_of_an_older_release_does_not_start_on_a_newer_store() {
    let fresh = Fresh::new();
    let (root, conf) = (fresh.path().join("store"), fresh.path().join("conf"));
    let file = root.join("certs/a.example/secp256r1.0");
    let mut bytes = frozen("certificate.3");
    bytes.truncate(bytes.len() - 8);
    bytes[1] = 9;
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(&file, sealed(&bytes)).unwrap();
    let text =
        format!("MDStoreDir {}\nMDControlSocket off\nMDPortMap http:- https:-\nMDomain a.example\n", root.display());
    fs::write(&conf, text).unwrap();
    for verb in ["run", "once", "check"] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_edgemd")).arg(verb).arg("-f").arg(&conf).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(if verb == "check" { 0 } else { 69 }), "{verb}: {said}");
        assert!(said.contains("a newer edgemd has written it (certificate record of version 9"), "{verb}: {said}");
        assert!(!said.contains("would order"), "{verb}: {said}");
        assert_eq!(SystemDisk.read(&file).unwrap(), Some(sealed(&bytes)), "{verb}");
        assert_eq!(SystemDisk.list(file.parent().unwrap()).unwrap(), ["secp256r1.0"], "{verb}");
    }
}
