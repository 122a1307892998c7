//! The program on real disks that are full, read-only, and somebody else's, with a real CA.

mod harness;

use harness::ca::{Ca, Knobs};
use harness::device::{Device, Said, bounded};
use harness::{LATER, net};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const A: &str = "a.example.org";

/// A device whose store is a disk of its own, of 64 KiB.
struct Small {
    device: Device,
    store: PathBuf,
}

impl Small {
    fn new(ca: &Ca) -> Self {
        let device = Device::new(ca);
        let store = device.folder.join("store");
        fs::create_dir(&store).expect("our own folder");
        let small = Self { device, store };
        small.mount(&["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "none"]);
        small
    }

    fn mount(&self, words: &[&str]) {
        let done = Command::new(words[0]).args(&words[1..]).arg(&self.store).status().expect("the program");
        assert!(done.success(), "{words:?}");
    }

    /// A view of it that is read-only, in its place: as long as its lock is held the disk itself does not become so.
    fn turn_read_only(&self) {
        let store = self.store.display().to_string();
        self.mount(&["mount", "--bind", &store]);
        self.mount(&["mount", "-o", "remount,bind,ro"]);
    }

    fn turn_writable(&self) {
        self.mount(&["umount"]);
    }

    /// Leaves no byte free.
    fn fill(&self) {
        let full = fs::write(self.store.join("filler"), vec![0; 1 << 20]).expect_err("1 MB in 64 KiB");
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    fn said(&self) -> Said {
        self.device.run(&["status"])
    }

    /// It has just been renewed, and the disk did not take that.
    #[track_caller]
    fn is_served_from_memory(&self, before: &str, words: &[&str]) -> String {
        let now = self.device.exported(A).serial;
        assert_ne!(now, before, "the new pair is exported");
        let said = self.said();
        assert_eq!(said.code, Some(1), "{said:?}");
        for word in [&["not stored yet: ", "/store/certs"], words].concat() {
            assert!(said.out.contains(word), "{word}: {said:?}");
        }
        now
    }

    /// When the disk takes it again it is stored, and a restart finds it there.
    #[track_caller]
    fn is_stored(&mut self, ca: &Ca, serial: &str) {
        let issued = ca.issued();
        let said = self.device.run(&["renew", A]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(self.said().code, Some(0), "{:?}", self.said());
        assert!(self.device.stop().success());
        self.device.start();
        self.device.complete(A);
        assert_eq!((self.device.exported(A).serial.as_str(), ca.issued()), (serial, issued));
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // The daemon still has its lock there.
        let _ = Command::new("umount").arg("-l").arg(&self.store).status();
    }
}

#[test]
fn a_disk_that_is_full_or_turns_read_only() {
    if !net::inside("a_disk_that_is_full_or_turns_read_only", "") {
        return;
    }
    let ca = Ca::start(&Knobs::default());
    let mut small = Small::new(&ca);
    small.device.start_with(&format!("MDomain {A}"));
    small.device.complete(A);
    let first = small.device.exported(A).serial;
    for round in 0..2 {
        let before = small.device.exported(A).serial;
        small.fill();
        small.device.run(&["renew", "--force", A]);
        let words = ["no space left: ", " bytes needed, 0 free; free some space there"];
        let now = small.is_served_from_memory(&before, &words);
        fs::remove_file(small.store.join("filler")).expect("it is there");
        small.is_stored(&ca, &now);

        let before = now;
        small.turn_read_only();
        small.device.run(&["renew", "--force", A]);
        let words = ["Read-only file system; mount it writable, or name another place"];
        let now = small.is_served_from_memory(&before, &words);
        small.turn_writable();
        small.is_stored(&ca, &now);
        assert_eq!(ca.accounts(), 1, "round {round}");
    }
    assert_ne!(first, small.device.exported(A).serial);
    let left: Vec<_> = fs::read_dir(small.store.join("certs").join(A)).expect("its folder").flatten().collect();
    assert_eq!(left.len(), 3, "two records and what was told: {left:?}");
}

#[test]
fn a_disk_that_is_read_only_or_full_from_the_start() {
    if !net::inside("a_disk_that_is_read_only_or_full_from_the_start", "") {
        return;
    }
    for full in [false, true] {
        let ca = Ca::start(&Knobs::default());
        let mut small = Small::new(&ca);
        let words: &[&str] = match full {
            // A folder takes no space there; a file does.
            true => &["no space left: ", "; free some space there"],
            false => &["Read-only file system; mount it writable, or name another place"],
        };
        if full {
            small.fill();
        } else {
            small.turn_read_only();
        }
        small.device.start_with(&format!("MDomain {A}"));
        small.device.logs("told of it");
        let now = small.is_served_from_memory("", words);
        if full {
            fs::remove_file(small.store.join("filler")).expect("it is there");
        } else {
            small.turn_writable();
        }
        small.is_stored(&ca, &now);
        assert_eq!((ca.accounts(), ca.issued()), (1, 1));

        // Held, and then read-only over a start: it is served, and nothing is ordered.
        small.turn_read_only();
        assert!(small.device.stop().success());
        small.device.start();
        assert_eq!((small.device.exported(A).serial, ca.issued()), (now, 1));
        assert_eq!(small.said().code, Some(0), "{:?}", small.said());
    }
}

/// Root has put a store back from a backup, and the daemon has a user of its own.
#[test]
fn a_store_that_is_another_user_s() {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        return net::skipped("a_store_that_is_another_user_s", "it takes root to be another user");
    }
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.write(&format!("MDomain {A}"));
    let mine = |path: &Path| chown(path, Some(NOBODY), Some(NOBODY)).expect("root may");
    mine(device.folder.path());
    let once = |force: bool| {
        let words: &[&str] = if force { &["renew", "--force", A] } else { &["once"] };
        let mut command = device.command(words);
        let output = bounded(command.uid(NOBODY).gid(NOBODY), LATER);
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let (code, said) = once(false);
    assert_eq!(code, Some(0), "{said}");
    let store = device.folder.join("store");
    let account = fs::read_dir(store.join("accounts")).expect("ours").flatten().map(|entry| entry.path());
    let accounts: Vec<PathBuf> = account.collect();
    let remedy = "ermission denied; the daemon's user needs the right to it";

    for file in &accounts {
        chown(file, Some(0), Some(0)).expect("root may");
    }
    let (code, said) = once(true);
    assert!(code == Some(1) && said.contains(remedy) && said.contains("/store/accounts/"), "{code:?}: {said}");
    assert_eq!(ca.accounts(), 1, "what can't be read is no reason for another one");
    accounts.iter().for_each(|file| mine(file));
    let (code, said) = once(true);
    assert_eq!((code, ca.accounts(), ca.issued()), (Some(0), 1, 2), "{said}");

    chown(&store, Some(0), Some(0)).expect("root may");
    let (code, said) = once(false);
    assert!(code == Some(69) && said.contains(remedy) && said.contains("/store"), "{code:?}: {said}");
    assert_eq!(ca.issued(), 2);
    let about = fs::metadata(&store).expect("it is there");
    assert_eq!((about.uid(), about.permissions().mode() & 0o777), (0, 0o700), "it is left as it was");
    mine(&store);
    assert_eq!((once(false).0, ca.issued()), (Some(0), 2));
}
