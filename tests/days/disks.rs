//! Disks that are bad: full, read-only, failing, somebody else's, and ones that flip bits. What is held is served, the
//! status says what it is, and when the trouble is over the work goes on by itself.

use super::fake::disk::{BROKEN, DENIED, Keep, NO_SPACE, READ_ONLY, RamDisk};
use super::power::{DEEDS, Deed, Verge, held, issued, newest_of, shown};
use super::{ONE, World, journal};
use edgemd::doors::clock::{Knock, Push};
use edgemd::doors::disk::Disk;
use edgemd::house::store::Store;
use edgemd::rules::status;
use edgemd::words::time::Span;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const STATE: &str = "/run/edgemd/state";

/// How long a trouble lasts that ends by itself, and the life that it is in.
const TROUBLE: Span = Span::hours(1);
const LIFE: Span = Span::hours(4);

/// The daemon is not the first to be asked about these: somebody imports, by hand, and sees what comes of it.
fn by_hand(deed: &Deed) -> bool {
    deed.name == "import"
}

/// What the status says in the midst of it: nothing to be said, or the reason. What is on the disk is no more than what
/// it knows.
fn look_in_the_midst(world: &World, why: &'static str, wrong: &Arc<Mutex<Option<String>>>) {
    let (board, disk, ca, other) = (world.board.clone(), world.disk.clone(), world.ca.clone(), world.other.clone());
    let wrong = wrong.clone();
    world.hands.do_in(TROUBLE, move || {
        let (text, well) = board.read(|reports| {
            let (lines, well) = status::text(&reports[0]);
            (lines.join("\n"), well)
        });
        disk.mend();
        disk.holds(usize::MAX);
        let all: Vec<_> = other.issued().into_iter().chain(ca.issued()).map(|issued| issued.der).collect();
        let kept = held(&disk, &all).map(|held| newest_of(&held).map_or(0, |at| at + 1) == all.len());
        // A disk is no matter of the network.
        let wrong_way = text.contains("MDHttpProxy");
        if wrong_way || !well && !text.contains(why) || kept == Ok(false) && well {
            *wrong.lock().unwrap() = Some(format!("well: {well}, on the disk: {kept:?}: {text}"));
        }
    });
}

/// Does a deed on a disk that `spoil` has made bad, and looks whether all is well when that is over, without a restart.
/// `more` orders are explained by the trouble. Whether the disk was ever bad is for `was_bad` to say.
fn spoilt(deed: &Deed, why: &'static str, more: usize, spoil: impl Fn(&RamDisk)) -> Result<(), String> {
    let (world, conf) = ((deed.before)(), (deed.conf)());
    let verge = Verge::of(&world);
    let wrong = Arc::new(Mutex::new(None));
    spoil(&world.disk);
    look_in_the_midst(&world, why, &wrong);
    // A panic is no good end, and a store that can't be looked at is said to be so.
    let ended = catch_unwind(AssertUnwindSafe(|| (deed.act)(&world, &conf, LIFE)));
    world.hands.forget();
    world.disk.mend();
    world.disk.holds(usize::MAX);
    let refused = ended.err().map(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default());
    if let Some(said) = &refused
        && !(said.contains("why: ") && said.contains(why) && said.contains("/store"))
    {
        return Err(format!("it panicked: {said}"));
    }
    if let Some(wrong) = wrong.lock().unwrap().take() {
        return Err(wrong);
    }
    if refused.is_none() && !by_hand(deed) {
        let (text, well) = world.status();
        if !well {
            return Err(format!("it did not get well by itself: {text}"));
        }
    }
    let all = issued(&world);
    if all.len() - verge.issued > deed.orders + more {
        return Err(format!("{} orders", all.len() - verge.issued));
    }
    // Whoever was told that it can't be done asks again.
    (deed.again)(&world, &conf, Span::mins(5));
    world.live(&conf, Span::hours(1));
    let left = held(&world.disk, &issued(&world))?;
    let newest = newest_of(&left).map(|at| issued(&world)[at].clone());
    if newest_of(&left) < newest_of(&verge.held) || newest.is_none() || shown(&world, &conf)? != newest {
        return Err(format!("{:?} were held, and now {left:?}", verge.held));
    }
    if issued(&world).len() > verge.issued + deed.orders + more || world.ca.accounts() != 1 {
        return Err(format!("{} orders, {} accounts", issued(&world).len() - verge.issued, world.ca.accounts()));
    }
    // With a record that can't be read it is forgotten, too, what was exported before.
    let clears = ["exports to another place", "first name removed", "prune"].contains(&deed.name);
    match world.status() {
        (_, true) if clears && more > 0 => Ok(()),
        (_, true) if issued(&world).len() == verge.issued || world.ear.heard().len() > verge.heard => {
            (deed.after)(&world)
        }
        (text, _) => Err(format!("in the end: {text}")),
    }
}

/// One position after the other until a deed is over before the trouble comes.
fn everywhere(
    deed: &Deed,
    why: &'static str,
    more: usize,
    spoil: impl Fn(&RamDisk, u32),
    count: fn(&RamDisk) -> u32,
) -> u32 {
    // So many there are where nothing is wrong.
    let world = (deed.before)();
    world.disk.mend();
    (deed.act)(&world, &(deed.conf)(), LIFE);
    let positions = count(&world.disk);
    for n in 1..=positions {
        journal::take();
        if let Err(what) = spoilt(deed, why, more, |disk| spoil(disk, n)) {
            panic!("{}: {why} at {n}: {what}\n{}", deed.name, journal::take().join("\n"));
        }
    }
    positions
}

fn all_deeds(
    why: &'static str,
    more: usize,
    spoil: fn(&RamDisk, u32, &'static str),
    count: fn(&RamDisk) -> u32,
) -> u32 {
    DEEDS.iter().map(|deed| everywhere(deed, why, more, |disk, n| spoil(disk, n, why), count)).sum()
}

#[test]
fn every_operation_fails_once() {
    println!("{BROKEN}, once: {} positions", all_deeds(BROKEN, 0, RamDisk::fail_at, RamDisk::ops));
}

#[test]
fn every_operation_and_all_after_it_fail_for_an_hour() {
    for why in [NO_SPACE, READ_ONLY] {
        println!("{why}, from there on: {} positions", all_deeds(why, 0, RamDisk::fail_from, RamDisk::ops));
    }
}

/// What can't be read is not held: one order is explained by that. It is never a reason for another account.
#[test]
fn every_look_at_the_disk_fails() {
    println!("{BROKEN}, once: {} looks", all_deeds(BROKEN, 1, RamDisk::fail_read_at, RamDisk::reads));
    println!("{DENIED}, from there on: {} looks", all_deeds(DENIED, 1, RamDisk::fail_reads_from, RamDisk::reads));
}

/// A disk with room for so many bytes: each size from none to what is needed, for an hour.
#[test]
fn a_disk_of_every_size_is_full_at_some_point() {
    let mut sizes = 0;
    for deed in DEEDS.iter().filter(|deed| deed.name != "prune") {
        let (world, conf) = ((deed.before)(), (deed.conf)());
        let before = world.disk.size();
        (deed.act)(&world, &conf, LIFE);
        // The older record, and another name while it is written.
        let most = world.disk.size() + 3000;
        for room in (before..most).step_by(173) {
            journal::take();
            sizes += 1;
            if let Err(what) = spoilt(deed, NO_SPACE, 0, |disk| disk.holds(room)) {
                panic!("{}: room for {room} of {most}: {what}\n{}", deed.name, journal::take().join("\n"));
            }
        }
    }
    println!("{sizes} disks were full at some point");
}

/// A daemon serves what a full disk did not take; one pass after the other would have nothing, and orders nothing.
#[test]
fn one_pass_orders_what_can_be_kept() {
    for (passes, orders) in [(false, 2), (true, 0)] {
        let world = World { passes, ..World::new() };
        world.disk.fail_below("/store/certs", NO_SPACE);
        let lives = [(); 2].map(|()| {
            let (ended, ends) = smol::channel::unbounded();
            world.hands.knock_in(Span::secs(1), Knock::Renew { names: vec![], push: Push::Due, ended });
            world.live(ONE, Span::mins(5));
            format!("{:?}", ends.try_recv())
        });
        assert_eq!(world.issued(), orders);
        assert!(lives[1].contains(NO_SPACE), "{lives:?}");
        world.disk.mend();
        world.live(ONE, Span::hours(1));
        assert_eq!(world.issued(), orders + 1);
        assert!(world.disk.files().iter().all(|path| !path.to_string_lossy().ends_with(".new")));
    }
}

/// An account that is in memory alone is a thing to be said: with the power it would be gone.
#[test]
fn an_account_that_is_not_stored_is_said() {
    let world = World::new();
    world.disk.fail_below("/store/accounts", DENIED);
    let (board, disk) = (world.board.clone(), world.disk.clone());
    world.hands.do_in(TROUBLE, move || {
        let (lines, well) = board.read(|reports| status::text(&reports[0]));
        assert!(!well && lines[1].contains("not stored yet: ") && lines[1].contains("/store/accounts"), "{lines:?}");
        disk.mend();
    });
    world.live(ONE, LIFE);
    assert!(world.status().1, "{}", world.status().0);
    world.live(&ONE.replace("b.example", "c.example"), Span::hours(1));
    assert_eq!((world.issued(), world.ca.accounts()), (2, 1));
}

/// Its files, but for what it exports.
fn records(world: &World) -> Vec<PathBuf> {
    world
        .disk
        .files()
        .into_iter()
        .filter(|path| path.starts_with("/store") || path.starts_with("/run/edgemd"))
        .collect()
}

/// A device with all there can be: two pairs, what was told and refused, an account with both its records, a response.
fn full() -> (World, String) {
    let conf = format!("MDStapling on\n{ONE}");
    let world = World::new();
    world.ca.weather(|weather| weather.ocsp = Some("http://ocsp.example/"));
    world.live(&conf, Span::hours(1));
    world.live(&conf, Span::days(62));
    world.ear.refuse(1);
    world.live(&conf, Span::mins(1));
    assert_eq!(world.issued(), 2);
    (world, conf)
}

/// At each byte of each record a bit is flipped, another one at each: the pair is the newest or the one before, whole, the
/// account is the same or is found again by its key, the file is set aside and said, and no other suffers.
#[test]
fn a_flipped_bit_in_any_byte_of_any_record_is_seen() {
    let (world, _) = full();
    let all = issued(&world);
    let (_, good) = Store::open(Path::new("/store"), Some(Path::new(STATE)), &mut world.disk.copy()).unwrap();
    let mut bytes = 0;
    for file in records(&world) {
        let whole = world.disk.read(&file).unwrap().unwrap();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            let disk = world.disk.copy();
            disk.plant(&file, &flipped);
            let (store, loaded) = Store::open(Path::new("/store"), Some(Path::new(STATE)), &mut disk.clone()).unwrap();
            let context = format!("{name}, byte {at}");
            let (slot, held) = loaded.certs.iter().next().expect("a pair");
            let is_newest = name == "secp256r1.1";
            assert_eq!(held[0], good.certs[slot][usize::from(is_newest)], "{context}");
            let pairs = store.pairs(&disk, slot).unwrap();
            assert!(pairs.iter().all(|(_, bundle)| all.contains(&bundle.chain[0])), "{context}");
            assert_eq!(pairs.len(), if name.starts_with("secp256r1.0") || is_newest { 1 } else { 2 }, "{context}");
            assert_eq!(loaded.accounts.len(), 1, "{context}");
            assert_eq!(store.staple(&disk, slot).is_some(), name != "secp256r1.ocsp", "{context}");
            // A response is looked at when it is needed, and fetched again.
            let said: Vec<String> = match name.as_str() {
                "secp256r1.ocsp" => vec![],
                _ => vec![format!("{0}: checksum differs; set aside as {0}.bad", file.display())],
            };
            assert_eq!(loaded.set_aside, said, "{context}");
        }
        bytes += whole.len();
    }
    println!("{bytes} bytes, one bit of each");
}

/// The same between two lives and in the midst of one, once for each file: it gets well by itself, and the next renewal
/// comes.
#[test]
fn a_device_lives_on_with_a_damaged_record() {
    for (file, running) in records(&full().0).iter().flat_map(|file| [(file, false), (file, true)]) {
        let (world, conf) = full();
        let mut bytes = world.disk.read(file).unwrap().unwrap();
        bytes[30] ^= 4;
        journal::take();
        if running {
            let (disk, file) = (world.disk.clone(), file.clone());
            world.hands.do_in(Span::mins(30), move || disk.plant(&file, &bytes));
        } else {
            world.disk.plant(file, &bytes);
        }
        // The one before is due: what was lost is ordered again.
        let lost = usize::from(!running && file.ends_with("secp256r1.1"));
        lives_on(&world, &conf, lost, format!("{}, running: {running}", file.display()));
    }
}

/// A bad sector below one record, for good, and a boot: the pair is the newest, or ordered anew; it is exported from the
/// start, and the next renewal comes.
#[test]
fn a_device_lives_on_with_a_record_that_can_t_be_read() {
    for file in records(&full().0).iter().filter(|file| file.starts_with("/store")) {
        let (world, conf) = full();
        world.disk.reboot(Keep::Synced);
        world.disk.loses(file);
        journal::take();
        let lost = usize::from(file.ends_with("secp256r1.1"));
        lives_on(&world, &conf, lost, file.display().to_string());
    }
}

/// Well on the next day, with what was `lost` ordered again and all exported; the renewal comes, and a restart asks for nothing.
fn lives_on(world: &World, conf: &str, lost: usize, what: String) {
    let (board, ca, disk, name) = (world.board.clone(), world.ca.clone(), world.disk.clone(), what.clone());
    world.hands.do_in(Span::days(1), move || {
        let (lines, well) = board.read(|reports| status::text(&reports[0]));
        let exported = disk.read(Path::new("/run/tls/a.example.crt")).unwrap();
        assert!(well && ca.issued().len() == 2 + lost && exported.is_some(), "{name}: {lines:?}");
    });
    world.live(conf, Span::days(62));
    let context = format!("{what}: {}", world.status().0);
    assert_eq!((world.issued(), world.ca.accounts()), (3 + lost, 1), "{context}");
    assert!(world.status().1 && world.served().starts_with(&world.newest_pem()), "{context}");
    world.live(conf, Span::days(1));
    assert!(world.status().1 && world.issued() == 3 + lost, "after a restart: {context}");
}
