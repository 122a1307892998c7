//! The store on a disk that loses power at every operation, and on a real one.

mod fake;

use edgemd::doors::clock::{Clock, Knock};
use edgemd::doors::dice::Dice;
use edgemd::doors::disk::{Access, Disk, Op, SystemDisk, is_temp, lock, temp_of};
use edgemd::doors::script::{Event, Script};
use edgemd::house::store::{Loaded, Store};
use edgemd::rules::record;
use edgemd::words::cert::{Account, Bundle, Held, Imposed, KeyKind, Slot, Tried};
use edgemd::words::fault::{Failure, Refusal, Trouble};
use edgemd::words::name::{Labels, Name};
use edgemd::words::time::{Span, Unix};
use fake::Fresh;
use fake::dice::Counter;
use fake::disk::{BROKEN, Keep, NO_SPACE, READ_ONLY, RamDisk};
use fake::ear::Ear;
use fake::hands::Hands;
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const ROOT: &str = "/etc/edgemd";
const STATE: &str = "/run/edgemd/state";
const CA: &str = "https://ca.example/directory";

fn slot() -> Slot {
    slot_of("www.example.org", KeyKind::P256)
}

fn slot_of(md: &str, kind: KeyKind) -> Slot {
    Slot::new(Name::parse(md, Labels::One).unwrap(), kind.family()).unwrap()
}

/// The `n`-th certificate, and what belongs to it.
fn held(n: u8) -> Held {
    let day = Unix::from_secs(1_790_000_000).plus(Span::days(60).times(n.into()));
    let names = vec![Name::parse("www.example.org", Labels::One).unwrap()];
    Held {
        ca: CA.into(),
        since: day.plus(Span::hours(1)),
        serial: vec![n; 18],
        sha256: [n; 32],
        ..Held::sample(names, day, day.plus(Span::days(90)))
    }
}

fn bundle(n: u8) -> Bundle {
    Bundle { key: vec![n; 138].into(), chain: vec![vec![n; 900], vec![n; 1200]] }
}

fn told(n: u8) -> Tried {
    Tried { told: Some([n; 32]), fingerprint: [7; 8], ..Tried::default() }
}

fn account(n: u8) -> Account {
    let url = (n > 0).then(|| format!("https://ca.example/account/{n}"));
    Account { ca: CA.into(), url, key: vec![9; 138].into(), ..Account::default() }
}

/// An order failed `failures` times, the last time at `at`.
fn failed(mut tried: Tried, failures: u32, at: Unix, last: impl Into<Failure>) -> Tried {
    tried.order.failures = failures;
    tried.order.until = Some(at.plus(Span::hours(1)));
    tried.order.last = Some(last.into());
    tried.order.last_at = Some(at);
    tried
}

fn refusal() -> Refusal {
    Refusal::ours("new order", "rejectedIdentifier", "no")
}

fn trouble() -> Trouble {
    Trouble::new("calling the CA", "Connection refused")
}

fn open(disk: &RamDisk) -> (Store, Loaded) {
    let (store, loaded) = Store::open(Path::new(ROOT), Some(Path::new(STATE)), &mut disk.clone()).unwrap();
    (store, loaded)
}

/// The pair that counts.
fn newest(store: &Store, disk: &dyn Disk) -> Option<Bundle> {
    store.pairs(disk, &slot()).unwrap().into_iter().next().map(|(_, bundle)| bundle)
}

/// A disk that holds the first `n` certificates' worth of life; every one told.
fn lived(n: u8) -> RamDisk {
    let mut disk = RamDisk::new();
    let (mut store, _) = open(&disk);
    for n in 1..=n {
        store.put_cert(&mut disk, &slot(), &held(n), &bundle(n)).unwrap();
        store.put_tried(&mut disk, &slot(), &told(n)).unwrap();
    }
    disk.mend();
    disk
}

/// Cuts the power at every operation of `deed`, in every model, looks at what is left, and does the deed again.
fn cut_everywhere(
    start: &RamDisk,
    deed: impl Fn(&mut Store, &mut RamDisk) -> Result<(), Trouble>,
    old_or_new: impl Fn(&Store, &RamDisk, (&Loaded, Keep)) -> bool,
) -> u32 {
    for n in 1.. {
        for keep in Keep::MODELS {
            let mut disk = start.copy();
            let (mut store, _) = open(&disk);
            disk.cut_at(n);
            let done = deed(&mut store, &mut disk);
            let whole = !disk.is_dead();
            assert_eq!(done.is_ok(), whole, "{n} {keep:?}: {done:?}");
            disk.reboot(keep);
            let (mut store, loaded) = open(&disk);
            assert_eq!(loaded.set_aside, [""; 0], "{n} {keep:?}");
            let new = old_or_new(&store, &disk, (&loaded, keep));
            assert!(new || !whole, "{n} {keep:?}: it was done, and is lost");
            let leftovers: Vec<_> = disk.files().into_iter().filter(|path| is_temp(&name_of(path))).collect();
            assert!(leftovers.is_empty(), "{n} {keep:?}: {leftovers:?}");
            deed(&mut store, &mut disk).unwrap();
            disk.reboot(Keep::Synced);
            let (store, loaded) = open(&disk);
            assert!(old_or_new(&store, &disk, (&loaded, keep)), "{n} {keep:?}: not even done again");
            if whole && keep == Keep::Any(4) {
                return n - 1;
            }
        }
    }
    unreachable!("every deed ends")
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Whether the `n`-th is held; else it must be the one before, whole.
fn holds(n: u8, store: &Store, disk: &RamDisk, loaded: &Loaded) -> bool {
    let found = loaded.certs.get(&slot()).map(|held| held[0].serial[0]);
    let pair = newest(store, disk);
    assert_eq!(pair.map(|pair| pair.key[0]), found, "facts and pair are of one record");
    assert!(found == Some(n) || found == (n > 1).then(|| n - 1), "{found:?}");
    found == Some(n)
}

#[test]
fn a_power_cut_in_a_first_issuance_leaves_nothing_or_all() {
    let cuts = cut_everywhere(
        &RamDisk::new(),
        |store, disk| store.put_cert(disk, &slot(), &held(1), &bundle(1)),
        |store, disk, (loaded, _)| holds(1, store, disk, loaded),
    );
    assert!(cuts >= 10, "four folders, each made to last, and a file: {cuts}");
}

#[test]
fn a_power_cut_in_a_renewal_leaves_the_old_pair_or_the_new_one() {
    for n in 2..=4 {
        let cuts = cut_everywhere(
            &lived(n - 1),
            |store, disk| store.put_cert(disk, &slot(), &held(n), &bundle(n)),
            |store, disk, (loaded, _)| {
                let new = holds(n, store, disk, loaded);
                assert_eq!(loaded.tried[&slot()].told, Some([n - 1; 32]), "the news is still owed");
                new
            },
        );
        assert_eq!(cuts, 4, "write, sync, rename, sync the folder");
    }
}

#[test]
fn a_power_cut_in_telling_leaves_it_owed_or_done() {
    let cuts = cut_everywhere(
        &lived(1),
        |store, disk| store.put_tried(disk, &slot(), &told(2)),
        |_, _, (loaded, keep)| match loaded.tried.get(&slot()).and_then(|tried| tried.told) {
            Some([n, ..]) => n == 2,
            // It is told again then.
            None => keep != Keep::Nameless && panic!("that the first was told is lost: {keep:?}"),
        },
    );
    assert!(cuts >= 4, "{cuts}");
}

#[test]
fn a_power_cut_never_loses_the_account() {
    let mut disk = RamDisk::new();
    let put = |n: u8| move |store: &mut Store, disk: &mut RamDisk| store.put_account(disk, &account(n));
    let url = |loaded: &Loaded| loaded.accounts.get(CA).map(|account| account.url.clone());
    assert!(cut_everywhere(&disk, put(0), |_, _, (loaded, _)| url(loaded).is_some()) >= 6);
    open(&disk).0.put_account(&mut disk, &account(0)).unwrap();
    let cuts = cut_everywhere(&disk, put(1), |_, _, (loaded, _)| url(loaded).expect("the key is there").is_some());
    assert_eq!(cuts, 4);
}

#[test]
fn a_power_cut_while_setting_aside_does_not_matter() {
    let start = lived(3);
    start.plant(&path("www.example.org/secp256r1.0"), b"garbage");
    start.plant(&path("www.example.org/.secp256r1.1.new"), b"half");
    start.mend();
    open(&start.copy());
    let whole = start.copy();
    open(&whole);
    let ops = whole.ops();
    assert_eq!(ops, 3, "a leftover removed, a file renamed, its folder synced");
    for n in 1..=ops {
        for keep in Keep::MODELS {
            let disk = start.copy();
            disk.cut_at(n);
            let _ = Store::open(Path::new(ROOT), Some(Path::new(STATE)), &mut disk.clone());
            disk.reboot(keep);
            let (store, loaded) = open(&disk);
            assert_eq!(loaded.certs[&slot()][0].serial[0], 2, "the one before is there");
            assert!(newest(&store, &disk).is_some());
        }
    }
}

#[test]
fn a_disk_that_fails_anywhere_keeps_what_it_has() {
    for why in [NO_SPACE, READ_ONLY, BROKEN] {
        for n in 1..=4 {
            let mut disk = lived(1);
            let (mut store, _) = open(&disk);
            disk.fail_at(n, why);
            let said = store.put_cert(&mut disk, &slot(), &held(2), &bundle(2)).unwrap_err();
            assert_eq!(said.why, why);
            assert!(!disk.files().iter().any(|path| is_temp(&name_of(path))), "{n}: {:?}", disk.files());
            assert_eq!(newest(&store, &disk), Some(bundle(1)), "{n}");
            // Next time it goes well, into the same slot, so that the old one stays until then.
            store.put_cert(&mut disk, &slot(), &held(2), &bundle(2)).unwrap();
            assert_eq!(newest(&store, &disk), Some(bundle(2)), "{n}");
            assert_eq!(open(&disk).1.certs[&slot()][0], held(2));
        }
        let mut disk = lived(2);
        disk.fail_from(1, why);
        let (mut store, loaded) = open(&disk);
        assert_eq!(loaded.certs[&slot()][0], held(2), "a disk that can't be written can be read");
        store.put_tried(&mut disk, &slot(), &told(9)).unwrap_err();
        disk.mend();
        store.put_tried(&mut disk, &slot(), &told(9)).unwrap();
        assert_eq!(open(&disk).1.tried[&slot()].told, Some([9; 32]), "what failed is not taken for done");
    }
}

fn path(below_certs: &str) -> PathBuf {
    Path::new(ROOT).join("certs").join(below_certs)
}

#[test]
fn md_300_030_031_garbage_in_any_file_is_set_aside_and_harms_no_other() {
    let mut disk = lived(2);
    let other = slot_of("*.example.net", KeyKind::Rsa(3072));
    let (mut store, _) = open(&disk);
    store.put_cert(&mut disk, &other, &held(5), &bundle(5)).unwrap();
    store.put_account(&mut disk, &account(1)).unwrap();
    store.put_tried(&mut disk, &slot(), &failed(told(2), 3, held(2).since, trouble())).unwrap();
    let files = disk.files();
    assert_eq!(files.len(), 6, "two slots, told, the other one, the account, the state: {files:?}");
    for file in files {
        let good = disk.read(&file).unwrap().unwrap();
        let mut flipped = good.clone();
        flipped[20] ^= 1;
        let other_kind = record::encode_state(&Default::default());
        let other_kind = if file == Path::new(STATE) { record::encode_tried(&told(1)) } else { other_kind };
        for bad in [b"".into(), vec![0; 4096], good[..good.len() / 2].into(), flipped, other_kind, b"\x7fELF".into()] {
            let disk = disk.copy();
            disk.plant(&file, &bad);
            let (store, loaded) = open(&disk);
            assert_eq!(loaded.set_aside.len(), 1, "{:?}", loaded.set_aside);
            let said = &loaded.set_aside[0];
            let aside = format!("{}.bad", file.display());
            assert!(said.starts_with(&*file.to_string_lossy()) && said.ends_with(&aside), "{said}");
            assert_eq!(disk.read(Path::new(&aside)).unwrap(), Some(bad));
            let there = (loaded.certs.len(), loaded.accounts.len(), loaded.tried.len());
            let expected = match name_of(&file).as_str() {
                "rsa.0" => (1, 1, 1),
                name if name.len() > 32 => (2, 0, 1),
                _ => (2, 1, 1),
            };
            assert_eq!(there, expected, "{}", file.display());
            let pair = newest(&store, &disk).unwrap();
            assert_eq!(pair.key[0], if name_of(&file) == "secp256r1.1" { 1 } else { 2 });
            assert_eq!(open(&disk).1.set_aside, [""; 0], "said once");
        }
    }
}

#[test]
fn what_is_set_aside_is_bounded() {
    let mut disk = lived(1);
    for n in 1..5_u8 {
        disk.plant(&path("www.example.org/secp256r1.0"), &[n]);
        assert_eq!(open(&disk).1.set_aside.len(), 1);
    }
    let names = disk.list(&path("www.example.org")).unwrap();
    assert_eq!(names, ["secp256r1.0.bad", "secp256r1.tried"]);
    assert_eq!(disk.read(&path("www.example.org/secp256r1.0.bad")).unwrap(), Some(vec![4]));
    let (mut store, loaded) = open(&disk);
    assert!(loaded.certs.is_empty());
    store.put_cert(&mut disk, &slot(), &held(2), &bundle(2)).unwrap();
    assert_eq!(open(&disk).1.certs[&slot()][0], held(2));
}

#[test]
fn files_of_others_are_left_alone() {
    let disk = lived(1);
    let before = disk.files();
    let foreign = [
        path("www.example.org/readme.txt"),
        path("www.example.org/ed25519.0"),
        path("www.example.org/secp256r1"),
        path("www.example.org/secp256r1.2"),
        path("www.example.org/.0"),
        path("lost+found/x"),
        path("UPPER.example.org/rsa.5"),
        path("file"),
        Path::new(ROOT).join("accounts/backup.0"),
        Path::new(ROOT).join("lock"),
    ];
    for file in &foreign {
        disk.plant(file, b"mine");
    }
    disk.mend();
    let (_, loaded) = open(&disk);
    assert_eq!(loaded.set_aside, [""; 0]);
    assert_eq!((loaded.certs.len(), disk.ops()), (1, 0));
    assert_eq!(disk.files().len(), before.len() + foreign.len());
}

#[test]
fn the_account_of_another_ca_is_not_taken() {
    let disk = RamDisk::new();
    let file = Path::new(ROOT).join(format!("accounts/{}.0", record::file_stem("https://other.example/")));
    disk.plant(&file, &record::encode_account(1, &account(1)));
    let (_, loaded) = open(&disk);
    assert!(loaded.accounts.is_empty());
    assert!(loaded.set_aside[0].contains("the account of another CA"), "{:?}", loaded.set_aside);
}

#[test]
fn a_renewal_replaces_two_files_and_syncs_each_with_its_folder() {
    let mut disk = lived(1);
    let (mut store, loaded) = open(&disk);
    // Refused once before, as it happens in life.
    let tried = failed(loaded.tried[&slot()].clone(), 1, held(2).since.minus(Span::days(1)), refusal());
    store.put_tried(&mut disk, &slot(), &tried).unwrap();
    disk.mend();

    store.put_cert(&mut disk, &slot(), &held(2), &bundle(2)).unwrap();
    let (put, after_cert) = (disk.replaced(), disk.ops());
    assert_eq!(put, [path("www.example.org/secp256r1.1")]);
    assert_eq!((after_cert, disk.syncs()), (4, 2));

    // The success forgives: by itself that costs flash nothing.
    let forgiven = told(1);
    store.put_tried(&mut disk, &slot(), &forgiven).unwrap();
    assert_eq!(disk.replaced().len(), 1);
    let crashed = disk.copy();
    crashed.reboot(Keep::Synced);
    let (_, loaded) = open(&crashed);
    assert_eq!(loaded.tried[&slot()].order.failures, 0, "older than the certificate: forgiven");
    assert_eq!(loaded.tried[&slot()].told, Some([1; 32]), "owed");

    store.put_tried(&mut disk, &slot(), &told(2)).unwrap();
    assert_eq!(disk.replaced(), [path("www.example.org/secp256r1.1"), path("www.example.org/secp256r1.tried")]);
    disk.reboot(Keep::Synced);
    let (_, loaded) = open(&disk);
    assert_eq!(loaded.tried[&slot()], Tried { fingerprint: [0; 8], ..told(2) });
    assert_eq!(record::decode_tried(&disk.read(&path("www.example.org/secp256r1.tried")).unwrap().unwrap()), {
        Ok(Tried { fingerprint: [0; 8], ..told(2) })
    });
}

#[test]
fn nothing_new_writes_nothing() {
    let mut disk = lived(2);
    let (mut store, loaded) = open(&disk);
    store.put_account(&mut disk, &account(1)).unwrap();
    disk.mend();
    for _ in 0..100 {
        store.put_tried(&mut disk, &slot(), &loaded.tried[&slot()]).unwrap();
        store.put_account(&mut disk, &account(1)).unwrap();
        store.put_tried(&mut disk, &slot_of("new.example.org", KeyKind::P384), &Tried::default()).unwrap();
        store = open(&disk).0;
    }
    assert_eq!(disk.ops(), 0);
}

#[test]
fn a_dead_network_and_a_failing_script_do_not_wear_the_flash() {
    let mut disk = lived(1);
    let (mut store, _) = open(&disk);
    let start = held(1).since.plus(Span::days(60));
    for n in 1..50_u32 {
        let at = start.plus(Span::hours(n.into()));
        let mut tried = failed(told(1), n, at, trouble());
        tried.tell.failures = n;
        tried.tell.until = Some(at);
        store.put_tried(&mut disk, &slot(), &tried).unwrap();
        // A restart keeps it.
        let (again, loaded) = open(&disk);
        assert_eq!(loaded.tried[&slot()], tried);
        store = again;
    }
    assert!(disk.replaced().is_empty(), "{:?}", disk.replaced());
    // A reboot starts afresh, but knows what was told.
    disk.reboot(Keep::Synced);
    assert_eq!(open(&disk).1.tried[&slot()], Tried { fingerprint: [0; 8], ..told(1) });
}

#[test]
fn the_ca_s_refusals_outlive_a_reboot() {
    let mut disk = lived(1);
    let (mut store, _) = open(&disk);
    let at = held(1).since.plus(Span::days(60));
    let refused = failed(told(1), 3, at, refusal());
    store.put_tried(&mut disk, &slot(), &refused).unwrap();
    assert_eq!(disk.replaced().len(), 1);
    // Then the net is away as well: no news for the flash.
    let both = failed(refused.clone(), 4, at.plus(Span::hours(1)), trouble());
    store.put_tried(&mut disk, &slot(), &both).unwrap();
    assert_eq!(disk.replaced().len(), 1);
    assert_eq!(open(&disk).1.tried[&slot()], both);
    let rebooted = disk.copy();
    rebooted.reboot(Keep::Synced);
    assert_eq!(open(&rebooted).1.tried[&slot()], refused);
    // A wait that the CA imposes is kept even if it is all that is new.
    let imposed = Imposed { ca: CA.into(), until: at.plus(Span::hours(24)) };
    let waiting = Tried { imposed: vec![imposed.clone()], ..both };
    store.put_tried(&mut disk, &slot(), &waiting).unwrap();
    assert_eq!(disk.replaced().len(), 2);
    disk.reboot(Keep::Synced);
    assert_eq!(open(&disk).1.tried[&slot()], Tried { imposed: vec![imposed], ..refused });
}

#[test]
fn that_it_was_told_is_believed_of_flash_alone() {
    let mut disk = lived(1);
    let (mut store, _) = open(&disk);
    disk.fail_from(1, NO_SPACE);
    store.put_tried(&mut disk, &slot(), &told(2)).unwrap_err();
    disk.mend();
    // The flash stays full, the RAM has room.
    disk.fail_at(1, NO_SPACE);
    store.put_tried(&mut disk, &slot(), &told(2)).unwrap_err();
    disk.mend();
    assert!(disk.files().contains(&STATE.into()), "what can be kept is kept");
    assert_eq!(open(&disk).1.tried[&slot()].told, Some([1; 32]));
}

/// That it is owed again is worth no flash, and is known after a restart all the same.
#[test]
fn what_is_owed_again_stays_owed_over_a_restart() {
    let mut disk = lived(1);
    let (mut store, _) = open(&disk);
    let owed = Tried { owed: true, ..told(1) };
    store.put_tried(&mut disk, &slot(), &owed).unwrap();
    assert!(disk.replaced().is_empty(), "{:?}", disk.replaced());
    let (mut store, loaded) = open(&disk);
    assert!(loaded.tried[&slot()].owed);
    store.put_tried(&mut disk, &slot(), &told(1)).unwrap();
    assert!(!open(&disk).1.tried[&slot()].owed);
    let exported = Tried { exported: vec!["/etc/tls/x.key".into()], ..told(1) };
    store.put_tried(&mut disk, &slot(), &exported).unwrap();
    assert_eq!(disk.replaced().len(), 1, "what was written somewhere must outlive a reboot");
    disk.reboot(Keep::Synced);
    assert_eq!(open(&disk).1.tried[&slot()].exported, exported.exported);
}

/// Both pairs go along, and what was exported.
#[test]
fn a_power_cut_while_renaming_loses_nothing() {
    let (old, new) = (slot(), slot_of("new.example.org", KeyKind::P256));
    let mut start = lived(2);
    let exported = Tried { exported: vec!["/etc/tls/x.key".into()], ..told(2) };
    open(&start).0.put_tried(&mut start, &old, &exported).unwrap();
    start.mend();
    let cuts = cut_everywhere(
        &start,
        |store, disk| {
            store.rename(disk, &slot(), &slot_of("new.example.org", KeyKind::P256))?;
            // That the old one stays for now is no trouble, but the end of the power is.
            if disk.is_dead() { Err(trouble()) } else { Ok(()) }
        },
        |store, disk, (loaded, _)| {
            let place = if loaded.certs.contains_key(&new) { &new } else { &old };
            assert_eq!(loaded.certs[place][0], held(2), "never the one before");
            let whole = !loaded.certs.contains_key(&old);
            if whole {
                let pairs: Vec<_> = store.pairs(disk, &new).unwrap().into_iter().map(|(held, _)| held).collect();
                assert_eq!(pairs, [held(2), held(1)]);
                assert_eq!(loaded.tried[&new].exported, exported.exported);
            }
            whole
        },
    );
    assert!(cuts > 15, "{cuts}");
}

/// A daemon that only reads sees what the other one writes, moves nothing, and keeps what it told in a file of its own.
#[test]
fn a_store_of_another_daemon_is_only_read() {
    let mut disk = lived(1);
    disk.plant(&path("www.example.org/rsa.0"), b"garbage");
    disk.plant(&path("www.example.org/.rsa.1.new"), b"half");
    let look = |disk: &RamDisk| Store::look(Path::new(ROOT), Some(Path::new(STATE)), &mut disk.clone()).unwrap();
    // On a device of its own: with a state file of its own.
    disk.reboot(Keep::Synced);
    let before = disk.files();
    let (mut store, loaded) = look(&disk);
    assert_eq!(loaded.certs.get(&slot()), Some(&vec![held(1)]));
    assert_eq!(loaded.tried.get(&slot()), None, "that the other one has told is not that we have");
    let said = &loaded.set_aside;
    assert!(said.len() == 1 && said[0].ends_with("; left as it is, this daemon only reads"), "{said:?}");
    disk.mend();
    store.put_tried(&mut disk, &slot(), &told(1)).unwrap();
    assert!(disk.replaced().is_empty(), "nothing of the store: {:?}", disk.replaced());
    assert_eq!(look(&disk).1.tried.get(&slot()).and_then(|tried| tried.told), told(1).told);
    let (mut writer, _) = Store::again(&store, &mut disk.copy(), false).unwrap();
    writer.put_cert(&mut disk, &slot(), &held(2), &bundle(2)).unwrap();
    let (store, loaded) = store.again(&mut disk, true).unwrap();
    assert_eq!(loaded.certs.get(&slot()), Some(&vec![held(2), held(1)]));
    assert_eq!(store.read_bundle(&disk, &slot(), &held(2).sha256).unwrap(), Some(bundle(2)));
    assert!(before.iter().all(|path| disk.files().contains(path)), "{:?}", disk.files());
}

#[test]
fn records_are_for_our_own_eyes() {
    let mut disk = lived(2);
    open(&disk).0.put_account(&mut disk, &account(1)).unwrap();
    for file in disk.files() {
        assert_eq!(disk.mode(&file), Some(0o600), "{}", file.display());
    }
}

/// Root tidies up or imports for a daemon that has a user of its own: what it leaves there is that user's.
#[test]
fn what_root_writes_belongs_to_whom_the_store_belongs() {
    let mut disk = RamDisk::new();
    let (mut store, _) = open(&disk);
    disk.belongs_to(Path::new(ROOT), 33, 44);
    disk.belongs_to(Path::new(STATE).parent().unwrap(), 33, 44);
    store.put_cert(&mut disk, &slot(), &held(1), &bundle(1)).unwrap();
    // Something for flash and something for the state file.
    store.put_tried(&mut disk, &slot(), &Tried { owed: true, ..told(1) }).unwrap();
    store.put_account(&mut disk, &account(1)).unwrap();
    let owners: Vec<_> = disk.files().iter().map(|path| disk.access(path).unwrap().unwrap()).collect();
    assert_eq!(owners, vec![Access { mode: 0o600, owner: Some(33), group: Some(44) }; 4]);
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let fresh = Fresh::new();
    let root = fresh.path().join("store");
    std::fs::create_dir(&root).unwrap();
    std::os::unix::fs::chown(&root, Some(33), Some(44)).unwrap();
    let _lock = lock(&root.join("lock"), Span::ZERO).unwrap();
    let (mut store, _) = Store::open(&root, None, &mut SystemDisk).unwrap();
    store.put_cert(&mut SystemDisk, &slot(), &held(1), &bundle(1)).unwrap();
    for name in ["lock", "certs", "certs/www.example.org", "certs/www.example.org/secp256r1.0"] {
        let about = std::fs::metadata(root.join(name)).unwrap();
        assert_eq!((about.uid(), about.gid()), (33, 44), "{name}");
    }
}

#[test]
fn a_record_that_can_t_be_read_stays_where_it_is() {
    let fresh = Fresh::new();
    let root = fresh.path().join("store");
    let mut disk = SystemDisk;
    let (mut store, _) = Store::open(&root, None, &mut disk).unwrap();
    store.put_cert(&mut disk, &slot(), &held(1), &bundle(1)).unwrap();
    let dir = root.join("certs/www.example.org");
    std::fs::create_dir(dir.join("secp256r1.1")).unwrap();
    std::fs::create_dir(dir.join("rsa.tried")).unwrap();
    let (mut store, loaded) = Store::open(&root, None, &mut disk).unwrap();
    assert_eq!(loaded.certs.len(), 1);
    assert_eq!(loaded.set_aside.len(), 2);
    assert!(loaded.set_aside[0].ends_with("rsa.tried: not a file"), "{:?}", loaded.set_aside);
    assert!(dir.join("rsa.tried").is_dir());
    // What is beside it is none the worse for that; and its place is not taken in silence.
    assert!(store.read_bundle(&disk, &slot(), &held(1).sha256).unwrap() == Some(bundle(1)));
    let said = store.read_bundle(&disk, &slot(), &held(2).sha256).err().map(|trouble| trouble.to_string());
    assert!(said.as_ref().is_some_and(|said| said.contains("secp256r1.1: not a file")), "{said:?}");
    let said = store.put_cert(&mut disk, &slot(), &held(2), &bundle(2)).unwrap_err().to_string();
    assert!(said.ends_with("secp256r1.1: Is a directory; move it away"), "{said}");
    assert!(store.read_bundle(&disk, &slot(), &held(1).sha256).unwrap() == Some(bundle(1)));
}

#[test]
fn md_502_100_the_store_on_a_real_disk() {
    let fresh = Fresh::new();
    let root = fresh.path().join("var/store");
    let state = fresh.path().join("run/state");
    let mut disk = SystemDisk;
    let (mut store, loaded) = Store::open(&root, Some(&state), &mut disk).unwrap();
    assert!(loaded.certs.is_empty() && !root.exists(), "looking makes nothing");
    for n in 1..=3 {
        store.put_cert(&mut disk, &slot(), &held(n), &bundle(n)).unwrap();
        store.put_tried(&mut disk, &slot(), &failed(told(n), 1, held(n).since, trouble())).unwrap();
    }
    store.put_account(&mut disk, &account(1)).unwrap();
    let long = slot_of(&format!("{}{}.example", "a23456789.".repeat(24), "b".repeat(5)), KeyKind::P384);
    store.put_cert(&mut disk, &long, &held(4), &bundle(4)).unwrap();
    let (store, loaded) = Store::open(&root, Some(&state), &mut disk).unwrap();
    assert_eq!(loaded.set_aside, [""; 0]);
    assert_eq!(loaded.certs.into_iter().collect::<Vec<_>>(), [(long, vec![held(4)]), (slot(), vec![held(3), held(2)])]);
    assert_eq!(newest(&store, &disk), Some(bundle(3)));
    assert_eq!(loaded.tried[&slot()], failed(told(3), 1, held(3).since, trouble()));
    assert_eq!(loaded.accounts[CA], account(1));
    let mut seen = BTreeSet::new();
    // Where the control socket stands a group may go; the store is for our own eyes.
    let run = state.parent().unwrap().to_path_buf();
    let mut folders = vec![root, run.clone()];
    while let Some(dir) = folders.pop() {
        assert_eq!(mode(&dir), if dir == run { 0o755 } else { 0o700 }, "{}", dir.display());
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                assert_eq!(mode(&path), 0o600, "{}", path.display());
                seen.insert(name_of(&path));
            }
        }
    }
    assert_eq!(seen.len(), 6, "{seen:?}");
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

// The real disk.

#[test]
fn a_file_is_replaced_whole_with_its_mode() {
    let fresh = Fresh::new();
    let file = fresh.path().join("a/b/cert.pem");
    let mut disk = SystemDisk;
    let access = Access { mode: 0o640, owner: None, group: None };
    disk.replace(&file, b"one", access).unwrap();
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o640, 0o750));
    let before = std::fs::metadata(&file).unwrap().ino();
    disk.replace(&file, b"two", Access::PUBLIC).unwrap();
    assert_ne!(before, std::fs::metadata(&file).unwrap().ino(), "never written in place");
    assert_eq!((disk.read(&file).unwrap().unwrap(), mode(&file)), (b"two".into(), 0o644));
    assert_eq!(mode(file.parent().unwrap()), 0o750, "a folder that is there keeps its mode");
    assert_eq!(disk.list(file.parent().unwrap()).unwrap(), ["cert.pem"]);
    disk.remove(&file).unwrap();
    disk.remove(&file).unwrap();
    assert_eq!(disk.read(&file).unwrap(), None);
    assert_eq!(disk.list(&fresh.path().join("nowhere")).unwrap(), [""; 0]);
}

#[test]
fn a_link_laid_in_the_way_of_a_new_file_is_not_followed() {
    let fresh = Fresh::new();
    let file = fresh.path().join("key");
    let victim = fresh.path().join("victim");
    std::fs::write(&victim, "untouched").unwrap();
    std::os::unix::fs::symlink(&victim, temp_of(&file)).unwrap();
    SystemDisk.replace(&file, b"secret", Access::PRIVATE).unwrap();
    assert_eq!(std::fs::read(&victim).unwrap(), b"untouched");
    assert_eq!(std::fs::read(&file).unwrap(), b"secret");
    assert!(!std::fs::symlink_metadata(&file).unwrap().is_symlink());
}

/// A user who is neither root nor who runs this; `None` where we may not make files that are his.
fn stranger() -> Option<u32> {
    const NOBODY: u32 = 12345;
    rustix::process::geteuid().is_root().then_some(NOBODY)
}

/// In the folders that we write to others may have a say, too: what they lay in the way leads us nowhere, neither when
/// it was there before nor when it comes while we are at work.
#[test]
fn a_link_of_another_user_is_not_followed_on_the_way() {
    use edgemd::house::webroot;
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use std::os::unix::fs::{lchown, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};
    let (fresh, mut disk) = (Fresh::new(), SystemDisk);
    let (dir, target, link) = (fresh.path().join("dir"), fresh.path().join("target"), fresh.path().join("dir/md"));
    for dir in [&dir, &target] {
        std::fs::create_dir(dir).unwrap();
    }
    // Who has set this up may lead us where he likes.
    symlink("../target", &link).unwrap();
    disk.replace(&link.join("cert.pem"), b"ours", Access::PUBLIC).unwrap();
    disk.remove(&link.join("cert.pem")).unwrap();
    let Some(stranger) = stranger() else { return };
    lchown(&link, Some(stranger), Some(stranger)).unwrap();
    std::fs::write(target.join("kept"), "kept").unwrap();
    let said = disk.replace(&link.join("cert.pem"), b"ours", Access::PUBLIC).unwrap_err().to_string();
    assert!(said.ends_with("a symbolic link that another user has made is on the way, and is not followed"), "{said}");
    for op in [Op::Unlink(&link.join("kept")), Op::MakeDir { path: &link.join("x"), access: Access::PRIVATE }] {
        assert!(disk.act(op).is_err(), "{op:?}");
    }
    assert!(disk.act(Op::Rename { from: &target.join("kept"), to: &link.join("lost") }).is_err());
    assert_eq!(disk.list(&target).unwrap(), ["kept"]);

    // He puts the link in the folder's place, and the folder back, as fast as he can.
    let folder = dir.join(".well-known/acme-challenge");
    std::fs::create_dir_all(&folder).unwrap();
    let over = AtomicBool::new(false);
    let (mut put, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, &folder, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        while put < 500 || refused < 500 {
            let came = webroot::put(&mut disk, &dir, "token", "token.thumb");
            if came.is_ok() {
                put += 1
            } else {
                refused += 1
            }
            webroot::withdraw(&mut disk, &dir, "token");
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(disk.list(&target).unwrap(), ["kept"], "{put} answers put, {refused} refused");
}

/// Root looks after a store that is the daemon's own user's: what that one has put in the lock's place is not given to him.
#[test]
fn the_lock_of_another_users_store_gives_nothing_away() {
    use std::os::unix::fs::{chown, symlink};
    let Some(stranger) = stranger() else { return };
    let fresh = Fresh::new();
    let (store, secret) = (fresh.path().join("store"), fresh.path().join("secret"));
    std::fs::create_dir(&store).unwrap();
    chown(&store, Some(stranger), Some(stranger)).unwrap();
    std::fs::write(&secret, "root's").unwrap();
    let path = store.join("lock");
    let owner = |path: &Path| std::fs::symlink_metadata(path).unwrap().uid();
    symlink(&secret, &path).unwrap();
    let said = lock(&path, Span::ZERO).unwrap_err().to_string();
    assert!(said.starts_with(&format!("locking {}: ", path.display())), "{said}");
    assert_eq!(owner(&secret), 0);
    std::fs::remove_file(&path).unwrap();
    std::fs::hard_link(&secret, &path).unwrap();
    drop(lock(&path, Span::ZERO));
    assert_eq!((owner(&secret), mode(&secret) & 0o777), (0, 0o644));
    std::fs::remove_file(&path).unwrap();
    lock(&path, Span::ZERO).unwrap();
    assert_eq!((owner(&path), mode(&path)), (stranger, 0o600), "one that is made now is his");
}

/// Who may write into the web server's folder shall not lead us, who may write anywhere, to another place.
#[test]
fn an_answer_for_a_web_server_follows_no_link() {
    use edgemd::house::webroot;
    use std::os::unix::fs::symlink;
    let (fresh, mut disk) = (Fresh::new(), SystemDisk);
    let (root, target) = (fresh.path().join("www"), fresh.path().join("elsewhere"));
    let folder = root.join(".well-known/acme-challenge");
    for dir in [&root, &target] {
        std::fs::create_dir(dir).unwrap();
    }
    let put = |disk: &mut SystemDisk| webroot::put(disk, &root, "token", "token.thumb").map_err(|why| why.to_string());
    put(&mut disk).unwrap();
    assert_eq!((mode(&root.join(".well-known")), mode(&folder), mode(&folder.join("token"))), (0o755, 0o755, 0o644));
    assert_eq!(std::fs::read(folder.join("token")).unwrap(), b"token.thumb");
    webroot::withdraw(&mut disk, &root, "token");
    assert_eq!(disk.list(&folder).unwrap(), [""; 0]);

    // A link in the place of the file is replaced, and what it leads to is left alone, by the sweep too.
    std::fs::write(target.join("file"), "token.thumb").unwrap();
    symlink(target.join("file"), folder.join("token")).unwrap();
    webroot::sweep(&mut disk, &root, &["thumb".into()]);
    assert!(disk.is_link(&folder.join("token")));
    put(&mut disk).unwrap();
    assert!(!disk.is_link(&folder.join("token")));
    assert_eq!(std::fs::read(target.join("file")).unwrap(), b"token.thumb");
    webroot::sweep(&mut disk, &root, &["other".into(), "thumb".into()]);
    assert_eq!(disk.list(&folder).unwrap(), [""; 0]);

    for link in [folder.as_path(), &root.join(".well-known")] {
        std::fs::remove_dir(link).unwrap();
        symlink(&target, link).unwrap();
        let said = put(&mut disk).unwrap_err();
        let place = link.display();
        assert_eq!(said, format!("writing to {place}: it is a symbolic link, which is not followed; make it a folder"));
        webroot::sweep(&mut disk, &root, &["thumb".into()]);
        std::fs::remove_file(link).unwrap();
    }
    assert_eq!(disk.list(&target).unwrap(), ["file"]);
    std::fs::remove_dir(&root).unwrap();
    assert!(put(&mut disk).unwrap_err().contains("there is no such folder"));
}

#[test]
fn names_of_any_length_have_room_for_their_temporary_ones() {
    let fresh = Fresh::new();
    for length in [1, 250, 251, 253, 255] {
        let file = fresh.path().join("x".repeat(length));
        SystemDisk.replace(&file, b"", Access::PRIVATE).unwrap();
        let temp = name_of(&temp_of(&file));
        assert!(is_temp(&temp) && temp.len() <= 255, "{length}");
    }
    let (a, b) = ("a".repeat(252), "a".repeat(253));
    assert_ne!(temp_of(Path::new(&a)), temp_of(Path::new(&b)));
}

#[test]
fn trouble_names_the_place_and_the_remedy() {
    let fresh = Fresh::new();
    let mut disk = SystemDisk;
    let file = fresh.path().join("file");
    disk.replace(&file, b"x", Access::PRIVATE).unwrap();
    let below = file.join("below");
    let said = disk.replace(&below, b"x", Access::PRIVATE).unwrap_err().to_string();
    assert!(said.contains(&*file.to_string_lossy()) && !said.contains("os error"), "{said}");
    let said = disk.read(fresh.path()).unwrap_err().to_string();
    assert_eq!(said, format!("reading {}: not a file", fresh.path().display()));
    std::fs::File::create(&file).unwrap().set_len(2 << 20).unwrap();
    let said = disk.read(&file).unwrap_err().to_string();
    assert_eq!(said, format!("reading {}: longer than 1 MB", file.display()));
    let said = disk.act(Op::Rename { from: &below, to: &file }).unwrap_err().to_string();
    assert!(said.starts_with("replacing "), "{said}");
    // procfs takes nobody's files; root is told so in other words than others are.
    let said = disk.act(Op::Write { path: Path::new("/proc/edgemd"), bytes: b"", access: Access::PRIVATE });
    assert!(said.unwrap_err().to_string().starts_with("writing /proc/edgemd: "));
}

// The lock.

/// Not a test of its own: the process that [`a_second_daemon_is_refused`] starts. Holds the lock until its stdin ends.
#[test]
fn holder() {
    let Ok(path) = std::env::var("EDGEMD_TEST_LOCK") else { return };
    let held = lock(Path::new(&path), Span::ZERO).unwrap();
    println!("\nlocked");
    let _ = std::io::stdin().read_line(&mut String::new());
    drop(held);
}

#[test]
fn a_second_daemon_is_refused() {
    let fresh = Fresh::new();
    let path = fresh.path().join("store/lock");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holder", "--nocapture"])
        .env("EDGEMD_TEST_LOCK", &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(output.any(|line| line.unwrap() == "locked"), "the child holds the lock");
    let said = lock(&path, Span::millis(150)).unwrap_err().to_string();
    assert!(said.contains(&path.display().to_string()), "{said}");
    assert!(said.contains(&format!("another edgemd with process id {} ", child.id())), "{said}");
    // A daemon that is killed leaves nothing behind that would have to be cleared away; whoever waits has it then.
    let waiting = std::thread::spawn({
        let path = path.clone();
        move || lock(&path, Span::mins(1)).map(drop)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    waiting.join().unwrap().unwrap();
    let held = lock(&path, Span::ZERO).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0, "nothing is written");
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    drop(held);
}

// The fakes.

#[test]
fn the_ram_disk_forgets_what_was_not_synced() {
    let file = Path::new("/file");
    let write = |path, bytes| Op::Write { path, bytes, access: Access::PRIVATE };
    // Old bytes, safely there; then for each number of further steps, what a cut after them leaves.
    let temp = Path::new("/temp");
    let steps =
        [write(temp, b"new!"), Op::Sync(temp), Op::Rename { from: temp, to: file }, Op::SyncDir(Path::new("/"))];
    let expected: [(&[u8], &[u8]); 5] =
        [(b"old", b"old"), (b"old", b"old"), (b"old", b"old"), (b"old", b"new!"), (b"new!", b"new!")];
    for (taken, (synced, all)) in expected.into_iter().enumerate() {
        for (keep, bytes) in [(Keep::Synced, synced), (Keep::All, all)] {
            let mut disk = RamDisk::new();
            disk.plant(file, b"old");
            for step in &steps[..taken] {
                disk.act(*step).unwrap();
            }
            disk.reboot(keep);
            assert_eq!(disk.read(file).unwrap().unwrap(), bytes, "{taken} {keep:?}");
        }
    }
    // Careless writers are punished: no sync of the bytes, no sync of the folder, writing in place.
    for careless in [
        vec![steps[0], steps[2], steps[3]],
        vec![Op::Unlink(file), write(file, b"new!"), Op::SyncDir(Path::new("/"))],
        vec![write(file, b"new!"), Op::SyncDir(Path::new("/"))],
    ] {
        let mut disk = RamDisk::new();
        disk.plant(file, b"old");
        for step in careless {
            disk.act(step).unwrap();
        }
        disk.reboot(Keep::Synced);
        assert_eq!(disk.read(file).unwrap(), Some(vec![]));
    }
}

#[test]
fn the_ram_disk_tears_a_write_and_loses_a_folder() {
    let mut disk = RamDisk::new();
    let file = Path::new("/dir/file");
    disk.cut_at(3);
    let said = disk.replace(file, b"1234", Access::PRIVATE).unwrap_err();
    assert_eq!(said.why, "the power went");
    assert_eq!(disk.read(file).unwrap_err().why, "there is no power");
    assert!(disk.list(Path::new("/dir")).is_err() && !disk.has_dir(Path::new("/")));
    let synced = disk.copy();
    synced.reboot(Keep::Synced);
    assert!(synced.has_dir(Path::new("/dir")) && synced.files().is_empty());
    disk.reboot(Keep::All);
    assert_eq!(disk.read(&temp_of(file)).unwrap(), Some(b"12".into()));
    // A folder that was never made to last takes its files with it.
    let mut disk = RamDisk::new();
    let access = Access::PRIVATE;
    disk.act(Op::MakeDir { path: Path::new("/dir"), access }).unwrap();
    disk.replace(file, b"1234", access).unwrap();
    disk.reboot(Keep::Synced);
    assert!(disk.files().is_empty() && !disk.has_dir(Path::new("/dir")));
    // RAM is gone in any case, and its files are no wear.
    disk.replace(Path::new("/run/x/state"), b"", access).unwrap();
    assert_eq!((disk.replaced().len(), disk.files().len()), (0, 1));
    disk.reboot(Keep::All);
    assert!(disk.files().is_empty() && disk.has_dir(Path::new("/run")) && !disk.has_dir(Path::new("/run/x")));
}

#[test]
fn the_hands_turn_by_naps_knocks_and_jumps() {
    let start = Unix::from_secs(1_800_000_000);
    let mut hands = Hands::at(Some(start));
    hands.knock_in(Span::mins(90), Knock::Stop);
    hands.jump_in(Span::mins(80), Some(Unix::from_secs(0)));
    assert!(matches!(hands.nap(Span::days(9)), Knock::Nobody));
    assert_eq!(hands.now(), Some(start.plus(Span::hours(1))), "never longer than an hour");
    assert!(matches!(hands.nap(Span::days(9)), Knock::Stop));
    assert_eq!((hands.now(), hands.steady()), (Some(Unix::from_secs(600)), Span::mins(90)));
    hands.jump(None);
    hands.turn(Span::secs(1));
    assert_eq!((hands.now(), hands.steady(), hands.naps()), (None, Span::secs(5401), 2));
    let mut stuck = hands.clone();
    let busy = std::panic::catch_unwind(move || (0..20_000).for_each(|_| drop(stuck.nap(Span::ZERO))));
    assert!(busy.is_err(), "a busy loop is found");
}

#[test]
fn the_ear_hears_refuses_and_hangs() {
    let hands = Hands::at(Some(Unix::from_secs(1_800_000_000)));
    let mut ear = Ear::new(&hands);
    ear.refuse(1);
    ear.hang(1);
    ear.takes(Span::secs(2));
    let event = Event { argv: vec!["hook".into(), "md".into()], env: vec![], limit: Span::secs(60), clears: false };
    let answers: Vec<_> = (0..3).map(|_| ear.run(&event).map_err(|trouble| trouble.to_string())).collect();
    assert_eq!(answers[0], Err("running hook: exited with 1".into()));
    assert_eq!(answers[1], Err("running hook: still running after 1mi, so it was ended".into()));
    assert_eq!(answers[2], Ok(()));
    assert_eq!(hands.steady(), Span::secs(64));
    let heard = ear.heard();
    assert_eq!(heard.len(), 3);
    assert_eq!(heard[2], (Some(Unix::from_secs(1_800_000_062)), event));
}

#[test]
fn the_counter_counts() {
    let mut dice = Counter::default();
    assert_eq!(
        [dice.below(3), dice.below(3), dice.below(3), dice.below(3), dice.below(0), dice.below(10)],
        [0, 1, 2, 0, 0, 5]
    );
    assert_eq!(dice.throws(), 6);
}

/// A link in the place of an export is replaced, and what it led to is left alone.
#[test]
fn who_may_touch_a_real_file_and_a_link_is_replaced() {
    let fresh = Fresh::new();
    let (file, other) = (fresh.path().join("a.key"), fresh.path().join("other"));
    let mut disk = SystemDisk;
    assert_eq!(disk.access(&file).unwrap(), None);
    std::fs::write(&other, "somebody else's").unwrap();
    std::os::unix::fs::symlink(&other, &file).unwrap();
    let group = std::fs::metadata(fresh.path()).unwrap().gid();
    let wanted = Access { mode: 0o640, owner: None, group: Some(group) };
    disk.replace(&file, b"secret", wanted).unwrap();
    assert!(!std::fs::symlink_metadata(&file).unwrap().is_symlink());
    assert_eq!(std::fs::read(&other).unwrap(), b"somebody else's");
    let found = disk.access(&file).unwrap().unwrap();
    assert!(wanted.is_met_by(found) && !Access::PRIVATE.is_met_by(found), "{found:?}");
    assert!(!Access { group: Some(group + 1), ..wanted }.is_met_by(found));
}
