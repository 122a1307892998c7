//! Whole lives of a device, on fake doors: the real keeper, store, flow and rules, and a clock whose hands are turned.

#[path = "days/accounts.rs"]
mod accounts;
#[path = "days/activation.rs"]
mod activation;
#[path = "days/ari.rs"]
mod ari;
#[path = "days/bound.rs"]
mod bound;
#[path = "days/cas.rs"]
mod cas;
#[path = "days/clock.rs"]
mod clock;
#[path = "days/crowd.rs"]
mod crowd;
#[path = "days/disks.rs"]
mod disks;
#[path = "days/dns.rs"]
mod dns;
#[path = "days/exports.rs"]
mod exports;
mod fake;
#[allow(dead_code, reason = "what is kept here is on no real disk")]
#[path = "harness/growth.rs"]
mod growth;
#[path = "days/messages.rs"]
mod messages;
#[path = "days/orders.rs"]
mod orders;
#[path = "days/own.rs"]
mod own;
#[path = "days/power.rs"]
mod power;
#[path = "days/prune.rs"]
mod prune;
#[path = "days/reload.rs"]
mod reload;
#[path = "days/revoked.rs"]
mod revoked;
#[path = "days/rolled.rs"]
mod rolled;
#[path = "days/served.rs"]
mod served;
#[path = "days/soak.rs"]
mod soak;
#[path = "days/stapling.rs"]
mod stapling;
#[path = "days/years.rs"]
mod years;

use edgemd::doors::clock::{Clock, Knock, Push};
use edgemd::doors::dice::Dice;
use edgemd::doors::disk::{Access, Disk, Op};
use edgemd::doors::front::shelf::Shelf;
use edgemd::house::keeper::{Doors, Keeper};
use edgemd::house::store::Store;
use edgemd::rules::conf::read::{self, Library};
use edgemd::rules::control::Say;
use edgemd::rules::{pem, status};
use edgemd::words::answers::Answers;
use edgemd::words::board::Board;
use edgemd::words::config::Config;
use edgemd::words::fault::Trouble;
use edgemd::words::name::{Labels, Name};
use edgemd::words::time::{Span, Unix};
use fake::ca::{Bad, FakeCa, FakeWire, Reuse, Weather};
use fake::dice::Counter;
use fake::disk::{Keep, NO_SPACE, READ_ONLY, RamDisk};
use fake::ear::Ear;
use fake::eye::Eye;
use fake::hands::Hands;
use fake::zone::Zone;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;

/// 2027-01-15: any day after the release.
const START: Unix = Unix::from_secs(1_800_000_000);

const ONE: &str = "
MDCertificateAgreement accepted
MDCertificateAuthority https://ca.example/directory
MDInitialDelay 0
MDExport /run/tls combined
MDNotifyCmd /bin/reload-ui now
MDomain a.example b.example
";

struct World {
    hands: Hands,
    answers: Arc<Answers>,
    board: Arc<Board>,
    shelf: Arc<Shelf>,
    ca: FakeCa,
    /// Another CA, for configurations that name it.
    other: FakeCa,
    disk: RamDisk,
    ear: Ear,
    eye: Eye,
    dice: Counter,
    zone: Zone,
    /// Whether each life is one pass.
    passes: bool,
}

impl World {
    fn new() -> Self {
        Self::telling_time_by(|hands| hands.now().unwrap_or_default())
    }

    /// One in which the CAs' clocks have a time of their own, whatever the device's shows.
    fn telling_time_by(time: fn(&Hands) -> Unix) -> Self {
        journal::keep();
        let hands = Hands::at(Some(START));
        let answers = Arc::new(Answers::default());
        let [ca, other] = ["https://ca.example", "https://other.example"].map(|base| {
            let hands = hands.clone();
            FakeCa::at(base, move || time(&hands), answers.clone())
        });
        let ear = Ear::new(&hands);
        let (board, shelf) = (Arc::<Board>::default(), Arc::<Shelf>::default());
        let (disk, dice) = (RamDisk::new(), Counter::default());
        let eye = Eye::on(&disk, "/run/tls/a.example.crt");
        let zone = Zone::new(&hands);
        ear.writes_to(&zone);
        ca.asks(&zone);
        Self { hands, answers, board, shelf, ca, other, disk, ear, eye, dice, zone, passes: false }
    }

    /// One life of the daemon: from a start to a stop after `span`.
    fn live(&self, conf: &str, span: Span) {
        self.hands.knock_in(span, Knock::Stop);
        self.run(conf);
    }

    /// The same with another store.
    fn live_in(&self, root: &str, conf: &str, span: Span) {
        self.hands.knock_in(span, Knock::Stop);
        self.run_in(root, conf);
    }

    fn run(&self, conf: &str) {
        self.run_in("/store", conf);
    }

    fn run_in(&self, root: &str, conf: &str) {
        self.try_in(root, conf).unwrap();
    }

    /// The same with a store that may refuse to be looked at.
    fn try_in(&self, root: &str, conf: &str) -> Result<(), Trouble> {
        self.keep(root, conf, &mut self.hands.clone())
    }

    /// The same by a clock that somebody holds.
    fn keep(&self, root: &str, conf: &str, clock: &mut dyn Clock) -> Result<(), Trouble> {
        let mut disk = Mortal(self.disk.clone());
        let state = Path::new("/run/edgemd/state");
        let config = config(conf);
        let open = if config.only_reads() { Store::look } else { Store::open };
        let (store, loaded) = open(Path::new(root), Some(state), &mut disk)?;
        let mut wire = FakeWire { cas: vec![self.ca.clone(), self.other.clone()], hands: self.hands.clone() };
        let (mut script, mut dice) = (self.ear.clone(), self.dice.clone());
        let (mut look, mut dns) = (self.eye.clone(), self.zone.clone());
        let doors = Doors {
            clock,
            wire: &mut wire,
            disk: &mut disk,
            script: &mut script,
            look: &mut look,
            dice: &mut dice,
            dns: &mut dns,
        };
        let shared = (self.answers.clone(), self.board.clone(), self.shelf.clone());
        Keeper::new(doors, store, loaded, config, shared).passing(self.passes).run();
        assert!(self.answers.is_empty(), "an answer was left standing");
        Ok(())
    }

    /// A life that a power cut may end; whether it did. What is in memory is gone then.
    fn live_or_die(&self, conf: &str, span: Span) -> bool {
        self.dies(|| self.live(conf, span))
    }

    /// The same for whatever is done.
    fn dies(&self, deed: impl FnOnce()) -> bool {
        match catch_unwind(AssertUnwindSafe(deed)) {
            Ok(()) => false,
            Err(_) if self.disk.is_dead() => {
                self.answers.withdraw_all();
                self.hands.forget();
                true
            }
            Err(panic) => resume_unwind(panic),
        }
    }

    /// The same world, seen from beside.
    fn neighbour(&self) -> Self {
        Self {
            hands: self.hands.clone(),
            answers: self.answers.clone(),
            board: self.board.clone(),
            shelf: self.shelf.clone(),
            ca: self.ca.clone(),
            other: self.other.clone(),
            eye: self.eye.clone(),
            disk: self.disk.clone(),
            ear: self.ear.clone(),
            dice: self.dice.clone(),
            zone: self.zone.clone(),
            passes: self.passes,
        }
    }

    /// How many certificates the CA has given.
    fn issued(&self) -> usize {
        self.ca.issued().len()
    }

    /// The leaf that the CA gave last.
    fn newest_pem(&self) -> String {
        self.ca.issued().last().map(|issued| pem::encode("CERTIFICATE", &issued.der)).unwrap_or_default()
    }

    /// What `edgemd status` says of everything, and whether all is well.
    fn status(&self) -> (String, bool) {
        self.board.read(|reports| {
            let texts: Vec<_> = reports.iter().map(status::text).collect();
            let lines: Vec<_> = texts.iter().flat_map(|(lines, _)| lines.clone()).collect();
            (lines.join("\n"), texts.iter().all(|(_, well)| *well))
        })
    }

    fn served(&self) -> String {
        let pem = self.disk.read(Path::new("/run/tls/a.example.crt")).unwrap().unwrap_or_default();
        String::from_utf8(pem).unwrap()
    }
}

/// A disk whose power cut ends the program in that instant.
struct Mortal(RamDisk);

impl Disk for Mortal {
    fn act(&mut self, op: Op<'_>) -> Result<(), Trouble> {
        let done = self.0.act(op);
        if self.0.is_dead() {
            // Not a panic of the program's: no report, no backtrace.
            resume_unwind(Box::new("the power went"));
        }
        done
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, Trouble> {
        self.0.read(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, Trouble> {
        self.0.list(dir)
    }

    fn is_link(&self, path: &Path) -> bool {
        self.0.is_link(path)
    }

    fn has_dir(&self, dir: &Path) -> bool {
        self.0.has_dir(dir)
    }

    fn access(&self, path: &Path) -> Result<Option<Access>, Trouble> {
        self.0.access(path)
    }
}

fn config(text: &str) -> Config {
    struct Only<'a>(&'a str);
    impl Library for Only<'_> {
        fn text(&self, _: &str) -> Result<Vec<u8>, String> {
            Ok(self.0.as_bytes().to_vec())
        }
        fn glob(&self, _: &str) -> Vec<String> {
            vec![]
        }
        fn env(&self, _: &str) -> Option<String> {
            None
        }
    }
    read::read("/etc/edgemd.conf", &Only(text)).unwrap_or_else(|faults| panic!("{faults:?}"))
}

#[test]
fn two_years_of_one_device() {
    let world = World::new();
    let mut told = 0;
    let mut orders = vec![];
    for day in 0..730 {
        let (issued, replaced) = (world.issued(), world.disk.replaced().len());
        world.live(ONE, Span::days(1));
        let flash = world.disk.replaced().len() - replaced;
        let heard = world.ear.heard().len();
        match world.issued() - issued {
            0 => assert_eq!((flash, heard), (0, told), "nothing is written and nobody called on idle day {day}"),
            1 => {
                // The account once: its key before the CA sees it, its URL after.
                assert_eq!(flash, if day == 0 { 4 } else { 2 }, "files replaced on day {day}");
                assert_eq!(heard, told + 1, "one call on day {day}");
                orders.push(day);
            }
            many => panic!("{many} orders on day {day}"),
        }
        told = heard;
        assert!(world.status().1, "{}", world.status().0);
    }
    // Of 90 days, which begin an hour before the order, 33 % are left after 60.26.
    assert_eq!(orders, [0, 60, 120, 180, 241, 301, 361, 421, 482, 542, 602, 662, 723]);
    let (_, event) = world.ear.heard().remove(0);
    assert_eq!(event.argv, ["/bin/reload-ui", "now", "a.example"]);
    assert_eq!(world.ca.accounts(), 1);
}

#[test]
fn a_hundred_restarts_order_nothing() {
    let world = World::new();
    world.live(ONE, Span::hours(1));
    let (requests, heard) = (world.ca.requests(), world.ear.heard().len());
    for _ in 0..100 {
        world.live(ONE, Span::mins(1));
    }
    assert_eq!((world.ca.requests(), world.ear.heard().len()), (requests, heard));
}

#[test]
fn a_ca_that_is_down_is_asked_with_patience_and_costs_no_flash() {
    let world = World::new();
    world.live(ONE, Span::hours(1));
    world.hands.turn(Span::days(60));
    let (served, replaced) = (world.served(), world.disk.replaced().len());
    world.ca.weather(|weather| weather.down = true);
    let lines = world.ca.lines();
    world.live(ONE, Span::days(2));
    assert_eq!(world.served(), served, "what is held is served");
    assert_eq!(world.disk.replaced().len(), replaced, "being offline writes nothing");
    // 30 s doubling to an hour, each with its jitter: about ten in the first two hours, then one an hour.
    let asked = world.ca.lines() - lines;
    assert!((40..120).contains(&asked), "{asked} tries in two days");
    assert!(!world.status().1, "{}", world.status().0);

    world.ca.weather(|weather| *weather = Weather::default());
    world.live(ONE, Span::hours(2));
    assert_ne!(world.served(), served);
    assert!(world.status().1, "{}", world.status().0);
}

/// A restart does not forgive: the next try comes when it was due.
#[test]
fn back_off_survives_a_restart() {
    let world = World::new();
    world.ca.weather(|weather| weather.down = true);
    world.live(ONE, Span::hours(3));
    let lines = world.ca.lines();
    for _ in 0..60 {
        world.live(ONE, Span::secs(10));
    }
    let tries = world.ca.lines() - lines;
    assert!(tries <= 1, "{tries} tries in ten minutes, when one an hour is due");
}

#[test]
fn a_script_that_refuses_is_owed_until_it_answers() {
    let world = World::new();
    world.ear.refuse(3);
    world.ear.hang(1);
    world.live(ONE, Span::mins(2));
    assert!(!world.status().1, "{}", world.status().0);
    assert!(world.status().0.contains("notification failed"), "{}", world.status().0);
    world.live(ONE, Span::hours(2));
    assert_eq!(world.ear.heard().len(), 5);
    assert_eq!(world.issued(), 1);
    assert!(world.status().1, "{}", world.status().0);
    world.live(ONE, Span::days(10));
    assert_eq!(world.ear.heard().len(), 5, "told once, told for good");
}

/// The export folder is in memory: after a boot its files are written again and the script is called, once.
#[test]
fn exports_in_memory_come_back_after_a_boot() {
    let world = World::new();
    world.live(ONE, Span::hours(1));
    let (served, requests) = (world.served(), world.ca.requests());
    world.disk.reboot(Keep::Synced);
    assert_eq!(world.served(), "");
    world.live(ONE, Span::hours(1));
    world.live(ONE, Span::hours(1));
    assert_eq!((world.served(), world.ear.heard().len()), (served, 2));
    // What was in memory, too: that this CA has no renewal windows.
    assert_eq!(world.ca.log()[requests..], ["GET /directory"]);
}

#[test]
fn without_a_clock_nothing_is_asked_and_nothing_judged() {
    let world = World::new();
    world.live(ONE, Span::hours(1));
    let (served, requests) = (world.served(), world.ca.requests());
    for wrong in [None, Some(Unix::from_secs(0)), Some(START.minus(Span::days(1))), Some(START.plus(Span::days(9000)))]
    {
        world.hands.jump(wrong);
        world.live(ONE, Span::hours(12));
        assert_eq!((world.served(), world.ca.requests()), (served.clone(), requests), "{wrong:?}");
        assert!(world.status().0.contains("waiting for the clock"), "{}", world.status().0);
    }
    world.hands.jump_in(Span::hours(1), Some(START.plus(Span::days(70))));
    world.live(ONE, Span::hours(3));
    assert_ne!(world.served(), served, "once the clock is set, work goes on by itself");
}

#[test]
fn a_full_disk_keeps_the_new_pair_in_memory_and_stores_it_later() {
    let world = World::new();
    world.live(ONE, Span::hours(1));
    world.hands.turn(Span::days(61));
    let served = world.served();
    world.disk.fail_from(1, NO_SPACE);
    world.hands.knock_in(Span::hours(1), Knock::Stop);
    let disk = world.disk.clone();
    // Space comes back after half an hour; no restart.
    let board = world.board.clone();
    world.hands.do_in(Span::mins(30), move || {
        let (lines, well) = board.read(|reports| status::text(&reports[0]));
        assert!(!well && lines.join("\n").contains(NO_SPACE), "{lines:?}");
        disk.mend();
    });
    world.run(ONE);
    assert_ne!(world.served(), served);
    assert_eq!(world.issued(), 2, "what is held in memory is not ordered again");
    assert!(world.status().1, "{}", world.status().0);
    world.live(ONE, Span::hours(1));
    assert_eq!(world.issued(), 2, "and after a restart it is held");
}

/// A store that takes nothing is no reason not to serve: the new pair is exported from memory and told of, the sentence
/// says what is wrong, and the store gets it when it can be written again.
#[test]
fn a_full_or_read_only_store_is_served_from_memory_and_tried_again() {
    for why in [NO_SPACE, READ_ONLY] {
        let world = World::new();
        world.live(ONE, Span::hours(1));
        world.hands.turn(Span::days(61));
        let served = world.served();
        world.disk.fail_below("/store", why);
        world.hands.knock_in(Span::hours(3), Knock::Stop);
        let (disk, board) = (world.disk.clone(), world.board.clone());
        world.hands.do_in(Span::hours(1), move || {
            let (lines, well) = board.read(|reports| status::text(&reports[0]));
            assert!(
                !well && lines.join("\n").contains("not stored yet: ") && lines.join("\n").contains(why),
                "{lines:?}"
            );
            let line = board.read(status::line);
            assert!(line.starts_with("0 of 1 MDs are well; a.example: ") && line.contains(why), "{line}");
            disk.mend();
        });
        world.run(ONE);
        assert_ne!(world.served(), served, "{why}");
        assert!(world.served().starts_with(&world.newest_pem()), "{why}");
        assert_eq!((world.issued(), world.ear.heard().len()), (2, 2), "{why}");
        assert!(world.status().1, "{why}: {}", world.status().0);
        let line = world.board.read(status::line);
        assert!(line.starts_with("1 MD is well; next renewal from 20"), "{line}");
        world.disk.reboot(Keep::Synced);
        world.live(ONE, Span::hours(1));
        assert_eq!(world.issued(), 2, "{why}: it is held after a power cut");
    }
}

#[test]
fn two_mds_and_two_kinds_of_key_share_one_account() {
    let world = World::new();
    let conf = format!("{ONE}\nMDomain c.example\nMDPrivateKeys P-256 P-384\n");
    world.live(&conf, Span::hours(1));
    assert_eq!((world.issued(), world.ca.accounts()), (4, 1));
    let mds: Vec<String> = world.ear.heard().into_iter().filter_map(|(_, event)| event.argv.last().cloned()).collect();
    assert_eq!(mds.len(), 2, "each MD is told of once, for both of its keys: {mds:?}");
    // The same where one key's order is done before the other's.
    world.hands.turn(Span::days(61));
    world.ca.weather(|weather| {
        (weather.reuse, weather.prompt, weather.refuse_nonce_every) = (Reuse::Always, true, 3);
    });
    world.live(&conf, Span::hours(1));
    assert_eq!((world.issued(), world.ear.heard().len()), (8, 4));
    let files = world.disk.files();
    for file in ["a.example.crt", "a.example.p384.crt", "c.example.key", "c.example.p384.pem"] {
        assert!(files.contains(&Path::new("/run/tls").join(file)), "{file} is not among {files:?}");
    }
    assert_eq!(world.disk.mode(Path::new("/run/tls/a.example.key")), Some(0o600));
    assert_eq!(world.disk.mode(Path::new("/run/tls/a.example.pem")), Some(0o600));
}

/// Whatever the CA answers, the old pair is served, the sentence says what it was, and the next try waits.
#[test]
fn a_ca_that_answers_nonsense_gets_a_sentence_and_time() {
    type Change = fn(&mut Weather);
    let table: [(&str, Change, &str); 7] = [
        ("html", |weather| weather.spoil = Some(("/", Bad::Html)), "HTML"),
        ("huge", |weather| weather.spoil = Some(("/", Bad::Huge)), "more than"),
        ("truncated", |weather| weather.spoil = Some(("/", Bad::Truncated)), "breaks off"),
        ("empty", |weather| weather.spoil = Some(("/", Bad::Empty)), "empty"),
        ("names", |weather| weather.wrong_names = true, "does not cover"),
        ("key", |weather| weather.wrong_key = true, "another key"),
        (
            "busy",
            |weather| weather.spoil = Some(("/", Bad::Problem(429, "rateLimited", Some(Span::mins(10))))),
            "rateLimited",
        ),
    ];
    for (weather, change, words) in table {
        let world = World::new();
        world.live(ONE, Span::hours(1));
        world.hands.turn(Span::days(61));
        let served = world.served();
        world.ca.weather(change);
        let requests = world.ca.requests();
        world.live(ONE, Span::mins(5));
        let (text, well) = world.status();
        assert!(text.contains(words), "{weather}: {text}");
        assert!(well && text.contains("nothing yet"), "a month before its end that needs nobody: {weather}: {text}");
        assert_eq!(world.served(), served, "{weather}");
        assert!(world.ca.requests() - requests < 80, "{weather}: {} requests", world.ca.requests() - requests);
        world.ca.weather(|weather| *weather = Weather::default());
        world.live(ONE, Span::days(2));
        assert!(world.status().1, "{weather}: {}", world.status().0);
        assert_ne!(world.served(), served, "{weather}");
    }
}

/// A renewal that somebody asks for says how it ended, and does not wait for a window.
#[test]
fn a_renewal_on_demand_says_how_it_ended() {
    let world = World::new();
    world.live(ONE, Span::hours(1));
    for (push, orders, code) in [(Push::Due, 0, 0), (Push::Now, 0, 0), (Push::Force, 1, 0)] {
        let issued = world.issued();
        let (ended, ends) = smol::channel::unbounded();
        world.hands.knock_in(Span::secs(1), Knock::Renew { names: vec![], push, ended });
        world.live(ONE, Span::mins(5));
        let said: Vec<Say> = std::iter::from_fn(|| ends.try_recv().ok()).collect();
        assert_eq!(said.last(), Some(&Say::End(code)), "{push:?}: {said:?}");
        assert!(matches!(said.first(), Some(Say::Line(line)) if line.contains("a.example")), "{push:?}: {said:?}");
        assert_eq!(world.issued() - issued, orders, "{push:?}");
    }
    world.ca.weather(|weather| weather.down = true);
    let (ended, ends) = smol::channel::unbounded();
    world.hands.knock_in(Span::secs(1), Knock::Renew { names: vec![], push: Push::Force, ended });
    world.live(ONE, Span::mins(5));
    let said: Vec<Say> = std::iter::from_fn(|| ends.try_recv().ok()).collect();
    assert_eq!(said.last(), Some(&Say::End(1)), "{said:?}");
    assert!(world.status().1, "what was only asked for is no worry: {}", world.status().0);
}

/// A reload in the midst of an order: what changed is begun anew, what did not goes on.
#[test]
fn a_reload_changes_what_is_wanted_at_once() {
    let world = World::new();
    world.live(ONE, Span::hours(1));
    let more = ONE.replace("b.example", "b.example c.example");
    let less = ONE.replace(" b.example", "");
    for (conf, orders) in [(ONE, 0), (less.as_str(), 0), (more.as_str(), 1), (ONE, 0)] {
        let issued = world.issued();
        world.hands.knock_in(Span::secs(1), Knock::Reload(Box::new(config(conf))));
        world.live(ONE, Span::mins(10));
        assert_eq!(world.issued() - issued, orders, "{conf}");
        world.hands.turn(Span::mins(1));
    }
}

/// What a job was told, after a life in which it was asked for.
fn asked(world: &World, conf: &str, names: &[&str], push: Push) -> Vec<Say> {
    let names = names.iter().map(|name| Name::parse(name, Labels::One).unwrap()).collect();
    let (ended, ends) = smol::channel::unbounded();
    world.hands.knock_in(Span::secs(1), Knock::Renew { names, push, ended });
    world.live(conf, Span::mins(5));
    std::iter::from_fn(|| ends.try_recv().ok()).collect()
}

/// An order that was asked for and may not begin is no success, whoever forbids it.
#[test]
fn what_was_asked_for_and_not_done_is_said_to_be_so() {
    let world = World::new();
    world.live(ONE, Span::hours(1));
    world.ca.weather(|weather| {
        weather.spoil = Some(("/", Bad::Problem(429, "rateLimited", Some(Span::hours(10)))));
    });
    for again in 0..2 {
        let said = asked(&world, ONE, &[], Push::Force);
        assert_eq!(said.last(), Some(&Say::End(1)), "try {again}, the CA wants to be left alone: {said:?}");
    }
    world.hands.jump(None);
    let said = asked(&world, ONE, &[], Push::Due);
    assert_eq!(said.last(), Some(&Say::End(1)), "nobody can say what is due: {said:?}");
}

#[test]
fn an_md_that_is_not_driven_is_not_renewed_and_that_is_said() {
    let world = World::new();
    world.live(ONE, Span::hours(1));
    let manual = format!("MDDriveMode manual\n{ONE}");
    let said = asked(&world, &manual, &["a.example"], Push::Force);
    assert_eq!(said.last(), Some(&Say::End(1)), "{said:?}");
    assert!(matches!(&said[0], Say::Line(line) if line.contains("MDDriveMode")), "{said:?}");
    let said = asked(&world, &manual, &[], Push::Force);
    assert_eq!(said, [Say::End(0)], "all that may be renewed is none");
    assert_eq!(world.issued(), 1);
    world.live(&manual, Span::hours(1));
    assert!(world.status().1, "{}", world.status().0);
    world.hands.turn(Span::days(91));
    world.live(&manual, Span::hours(1));
    assert!(!world.status().1, "it has expired, and a person has to renew it: {}", world.status().0);
}

#[test]
fn md_110_007_a_name_that_the_keeper_does_not_know_is_said_to_be_unknown() {
    let world = World::new();
    let said = asked(&world, ONE, &["a.example", "other.example"], Push::Now);
    assert!(said.contains(&Say::Line("there is no MD \"other.example\"".into())), "{said:?}");
    assert_eq!(said.last(), Some(&Say::End(1)), "{said:?}");
    assert_eq!(world.issued(), 1, "the other one is renewed all the same");
}

/// A script that fails for days is tried again every hour; the flash under the exports is not worn by that.
#[test]
fn exports_that_are_in_place_are_not_written_again() {
    let world = World::new();
    let conf = ONE.replace("/run/tls", "/etc/tls");
    world.ear.refuse(1000);
    world.live(&conf, Span::days(2));
    assert!(world.ear.heard().len() > 40, "{}", world.ear.heard().len());
    let exports = world.disk.replaced().iter().filter(|path| path.starts_with("/etc/tls")).count();
    assert_eq!(exports, 3, "{:?}", world.disk.replaced());
}

/// Others shall find the chain, so they may enter the folder whichever file is written first.
#[test]
fn the_folder_of_an_export_is_open_and_that_of_the_store_is_not() {
    for layout in ["pair", "combined"] {
        let world = World::new();
        // Nothing is noted beside the control socket where all goes well.
        world.ear.refuse(1);
        world.live(&ONE.replace("/run/tls combined", &format!("/etc/tls/web {layout}")), Span::hours(1));
        let mode = |path: &str| world.disk.mode(Path::new(path));
        assert_eq!((mode("/etc/tls"), mode("/etc/tls/web")), (Some(0o755), Some(0o755)), "{layout}");
        assert_eq!(mode("/etc/tls/web/a.example.crt"), Some(0o644));
        assert_eq!(mode("/run/edgemd"), Some(0o755), "the control socket is for a group");
        assert_eq!((mode("/store"), mode("/store/certs/a.example")), (Some(0o700), Some(0o700)));
    }
}

/// A power failure ends for a whole street at once, and so does the wait for the time: the dice are thrown for what
/// comes after it.
#[test]
fn the_random_moment_is_counted_from_a_believable_clock() {
    let world = World::new();
    let conf = ONE.replace("MDInitialDelay 0\n", "");
    for _ in 0..20_000 {
        world.dice.clone().below(30_000);
    }
    world.hands.jump(None);
    world.hands.jump_in(Span::hours(1), Some(START));
    let ca = world.ca.clone();
    world.hands.do_in(Span::hours(1).plus(Span::secs(10)), move || {
        assert_eq!(ca.requests(), 0, "it rushed to the CA");
    });
    world.live(&conf, Span::hours(2));
    assert_eq!(world.issued(), 1);
}

/// What the disk did not take is offered to it again within minutes, not at the next look in half a day.
#[test]
fn a_pair_and_an_account_in_memory_are_stored_soon_after_the_disk_is_mended() {
    let world = World::new();
    let conf = ONE.replace("MDExport /run/tls combined\n", "");
    world.disk.fail_from(1, NO_SPACE);
    let disk = world.disk.clone();
    world.hands.do_in(Span::mins(30), move || disk.mend());
    world.live(&conf, Span::mins(45));
    assert!(world.status().1, "{}", world.status().0);
    assert_eq!(world.ear.heard().len(), 1);
    world.live(&conf, Span::hours(1));
    assert_eq!((world.issued(), world.ear.heard().len()), (1, 1), "it was stored, and that it was told too");
    world.live(&conf, Span::days(62));
    assert_eq!((world.issued(), world.ca.accounts()), (2, 1), "the account was stored too");
}

/// Each thing that happens is said once, with what follows from it; what goes on is not said again.
#[test]
fn the_log_says_each_thing_once() {
    let world = World::new();
    world.live(ONE, Span::hours(1));
    let count = |lines: &[String], words: &str| lines.iter().filter(|line| line.contains(words)).count();
    let lines = journal::take();
    assert_eq!(count(&lines, "a.example: told"), 1, "{lines:#?}");
    assert_eq!(count(&lines, "renewal from 2027-03-"), 1, "what happens next: {lines:#?}");

    let unexported = ONE.replace("MDExport /run/tls combined\n", "");
    world.live(&unexported, Span::hours(1));
    journal::take();
    world.hands.turn(Span::days(61));
    world.disk.fail_from(1, READ_ONLY);
    world.live(&unexported, Span::days(2));
    let lines = journal::take();
    assert_eq!(count(&lines, "the new pair is not stored"), 1, "{lines:#?}");
    assert_eq!(count(&lines, "what was tried is not stored"), 1, "{lines:#?}");
    assert!(lines.len() < 10, "{lines:#?}");

    world.disk.mend();
    world.hands.jump(Some(Unix::from_secs(0)));
    world.hands.jump_in(Span::hours(12), Some(START.plus(Span::days(63))));
    world.live(ONE, Span::days(1));
    let lines = journal::take();
    assert_eq!(count(&lines, "clock can't be believed"), 1, "{lines:#?}");
    assert_eq!(count(&lines, "clock is believed"), 1, "{lines:#?}");
}

#[test]
fn status_speaks_plainly_and_json_as_mod_md_does() {
    let world = World::new();
    let json = |world: &World| world.board.read(|reports| status::md_json(&reports[0]));
    world.ca.weather(|weather| weather.down = true);
    world.live(&format!("MDPrivateKeys P-256 RSA 3072\n{ONE}"), Span::secs(10));
    let (text, well) = world.status();
    assert!(!well && text.contains("order failed once: ") && !text.contains("1 times"), "{text}");
    let md = json(&world);
    assert_eq!(md["renew-at"], START.http_date(), "what is missing is due now: {md}");
    assert_eq!(md["privkey"].to_string(), r#"[{"curve":"secp256r1","type":"EC"},{"bits":3072,"type":"RSA"}]"#, "{md}");
    let last = md["renewal"]["last"].as_object().unwrap();
    assert!(!last.contains_key("problem"), "no problem document, no problem: {md}");

    world.ca.weather(|weather| *weather = Weather::default());
    world.ear.hang(1);
    let board = world.board.clone();
    world.live(ONE, Span::mins(1));
    let md = board.read(|reports| status::md_json(&reports[0]));
    assert!(md["privkey"].is_null(), "what is the default is not said: {md}");
    assert_eq!(md["renewal"]["last"]["problem"], "urn:org:apache:httpd:log:AH10108:", "{md}");
    world.live(ONE, Span::hours(1));
    assert!(!json(&world).as_object().unwrap().contains_key("renewal"), "{}", json(&world));
}

/// Asleep means asleep: a device with nothing to do is not woken every minute.
#[test]
fn with_nothing_to_do_the_nap_is_an_hour() {
    let world = World::new();
    world.live(ONE, Span::hours(1));
    for conf in [ONE, "MDInitialDelay 0\n"] {
        let naps = world.hands.naps();
        world.live(conf, Span::days(1));
        assert!(world.hands.naps() - naps <= 30, "{} naps in a day: {conf}", world.hands.naps() - naps);
    }
}

/// The first name of an MD goes or changes: what is held goes on under the new name, is exported and told of there, and
/// only a name that it lacks is a reason to order.
#[test]
fn md_702_030_the_first_name_goes_and_the_certificate_stays() {
    let world = World::new();
    world.live(ONE, Span::hours(1));
    let leaf = world.newest_pem();
    let gone = ONE.replace("MDomain a.example b.example", "MDomain b.example");
    world.live(&gone, Span::hours(1));
    assert_eq!(world.issued(), 1, "what is held covers the name that is left");
    let exported = world.disk.read(Path::new("/run/tls/b.example.crt")).unwrap().unwrap();
    assert!(String::from_utf8(exported).unwrap().starts_with(&leaf));
    assert_eq!(world.ear.heard().last().unwrap().1.argv.last().unwrap(), "b.example");
    let files = world.disk.files();
    assert!(!files.iter().any(|path| path.starts_with("/store/certs/a.example")), "{files:?}");

    let renamed = ONE.replace("MDomain a.example b.example", "MDomain x.example b.example");
    world.hands.knock_in(Span::secs(1), Knock::Reload(Box::new(config(&renamed))));
    world.live(&gone, Span::hours(1));
    assert_eq!(world.issued(), 2, "a new name is a reason");
    let other = ONE.replace("MDomain a.example b.example", "MDomain other.example");
    world.live(&other, Span::hours(1));
    assert!(world.disk.files().iter().any(|path| path.starts_with("/store/certs/x.example")), "nothing is lost");
}

/// Two nodes, one store: the one that only reads it sees a renewal within a check interval, exports it and tells of it,
/// and writes nothing there.
#[test]
fn md_820_002_a_node_that_only_reads_sees_what_the_other_writes() {
    let world = World::new();
    world.live(ONE, Span::hours(1));
    let reads = ONE.replace("/run/tls", "/run/reader").replace("/bin/reload-ui now", "/bin/reader");
    let reads = format!("MDStoreLocks off\nMDDriveMode manual\nMDCheckInterval 2h\n{reads}");
    // On a device of its own: with its own state file.
    let disk = world.disk.copy();
    disk.clone().act(Op::Unlink(Path::new("/run/edgemd/state"))).unwrap();
    let reader = World { board: Arc::default(), ear: Ear::new(&world.hands), disk, ..world.neighbour() };
    let served = || {
        let pem = reader.disk.read(Path::new("/run/reader/a.example.crt")).unwrap().unwrap_or_default();
        String::from_utf8(pem).unwrap()
    };
    let replaced = reader.disk.replaced().len();
    reader.live(&reads, Span::hours(1));
    assert!(served().starts_with(&reader.newest_pem()));
    reader.live(&reads, Span::hours(1));
    assert_eq!((reader.ear.heard().len(), reader.disk.replaced().len()), (1, replaced), "told once, nothing written");
    assert!(!reader.served().is_empty(), "what the other exports is none of ours to remove");

    // The other node renews, and this one is up when its record comes.
    world.hands.turn(Span::days(61));
    let old = served();
    world.live(ONE, Span::hours(1));
    let (mine, theirs) = (reader.disk.clone(), world.disk.clone());
    reader.hands.do_in(Span::hours(1), move || {
        for side in ["0", "1"] {
            let path = format!("/store/certs/a.example/secp256r1.{side}");
            mine.plant(Path::new(&path), &theirs.read(Path::new(&path)).unwrap().unwrap());
        }
    });
    reader.live(&reads, Span::hours(4));
    assert_eq!(reader.issued(), 2);
    assert!(served() != old && served().starts_with(&reader.newest_pem()));
    assert_eq!(reader.ear.heard().len(), 2);
    assert!(reader.status().1, "{}", reader.status().0);

    // Driven again, it is a writer.
    let drives = reads.replace("manual", "auto");
    reader.hands.turn(Span::days(62));
    reader.hands.knock_in(Span::secs(1), Knock::Reload(Box::new(config(&drives))));
    reader.live(&reads, Span::hours(1));
    assert_eq!(reader.issued(), 3);
}

/// An order for what is no longer wanted is dropped by a reload, and its answer with it.
#[test]
fn a_reload_in_the_midst_of_an_order_drops_it() {
    let world = World::new();
    world.ca.weather(|weather| (weather.polls, weather.retry_after) = (u32::MAX, Some(Span::secs(10))));
    let none = ONE.replace("MDomain a.example b.example", "");
    let (answers, ca) = (world.answers.clone(), world.ca.clone());
    world.hands.do_in(Span::secs(29), move || assert!(!answers.is_empty(), "an answer is pending"));
    world.hands.knock_in(Span::secs(30), Knock::Reload(Box::new(config(&none))));
    let answers = world.answers.clone();
    world.hands.do_in(Span::secs(31), move || {
        assert!(answers.is_empty(), "the answer goes with its order");
        ca.weather(|weather| *weather = Weather::default());
    });
    let requests = world.ca.requests();
    world.live(ONE, Span::mins(10));
    assert!(world.ca.requests() > requests, "it was under way");
    assert_eq!(world.issued(), 0);
}

/// Nothing is begun by itself before the delay is over; what somebody asks for does not wait.
#[test]
fn the_initial_delay_is_kept() {
    let world = World::new();
    let conf = ONE.replace("MDInitialDelay 0", "MDInitialDelay 90s");
    let ca = world.ca.clone();
    world.hands.do_in(Span::secs(89), move || assert_eq!(ca.requests(), 0));
    world.live(&conf, Span::secs(95));
    assert_eq!(world.issued(), 1);

    let world = World::new();
    let (ended, _ends) = smol::channel::unbounded();
    world.hands.knock_in(Span::secs(1), Knock::Renew { names: vec![], push: Push::Now, ended });
    world.live(&conf, Span::secs(30));
    assert_eq!(world.issued(), 1);
}

/// The lines of the log, for the thread that made them: each test has its own.
mod journal {
    use std::cell::RefCell;
    use std::sync::Once;

    thread_local!(static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) });

    struct Journal;

    impl log::Log for Journal {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
        fn flush(&self) {}
    }

    pub fn keep() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let _ = log::set_boxed_logger(Box::new(Journal));
            log::set_max_level(log::LevelFilter::Info);
        });
    }

    pub fn take() -> Vec<String> {
        LINES.take()
    }
}
