//! Which record lives under which path: loads all, puts one.
//!
//! ```text
//! <store>/certs/<md>/<family>.0 .1    one certificate with its key; of the two the higher sequence number counts
//! <store>/certs/<md>/<family>.ocsp    what the CA's responder said of it last
//! <store>/certs/<md>/<family>.tried   what must outlive a reboot: what was told, what the CA refused
//! <store>/accounts/<hash>.0 .1        our account whose place (the CA's URL, and what it is bound to) has this hash
//! <state>                             in RAM: all that was tried, and said
//! ```
//! A record that does not decode is set aside as `<name>.bad`, is reported, and counts as not held; but where a newer
//! program has written, nothing is touched. Names that are not ours are left alone.

mod leftovers;
mod reader;
mod tried;
mod unseen;

use crate::doors::disk::Disk;
use crate::rules::record::{self, State};
use crate::words::cert::{Account, Bundle, Held, Slot, Tried};
use crate::words::fault::Trouble;
use crate::words::message::Said;
use crate::words::name::{Labels, Name};
use crate::words::secret::Secret;
use crate::words::sorted::{Map, Set};
use crate::words::staple::Stored;
use reader::Reader;
use std::path::{Path, PathBuf};

pub struct Store {
    root: PathBuf,
    /// Another daemon writes it; the state file is ours all the same.
    only_read: bool,
    state_path: Option<PathBuf>,
    certs: Map<Slot, Newest>,
    /// Where there is a response.
    staples: Set<Slot>,
    /// By the stem of their files.
    accounts: Map<String, Newest>,
    /// As it stands in flash.
    flash: Map<Slot, Tried>,
    /// As it stands in the state file.
    state: State,
}

/// The ending of a response's file.
const OCSP: &str = "ocsp";

/// What stood in the store when it was opened.
#[derive(Default, Debug)]
pub struct Loaded {
    /// The newest first, and the one before it if there is one.
    pub certs: Map<Slot, Vec<Held>>,
    pub tried: Map<Slot, Tried>,
    pub said: Map<Name, Said>,
    /// By their places.
    pub accounts: Map<String, Account>,
    /// A sentence for each file that could not be used.
    pub set_aside: Vec<String>,
}

/// What a record of a certificate holds.
type Pair = (Held, Bundle);

/// Which of the two files of a record counts.
#[derive(Clone, Copy)]
struct Newest {
    side: Side,
    sequence: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Zero,
    One,
}

impl Store {
    /// Loads all that decodes. Only a store that can't be looked into at all, or that only a newer program can read, is
    /// trouble: what is in it may be good.
    pub fn open(root: &Path, state: Option<&Path>, disk: &mut dyn Disk) -> Result<(Self, Loaded), Trouble> {
        Self::load(root, state, disk, false)
    }

    /// Loads all that decodes of a store that another daemon writes, and moves nothing in it.
    pub fn look(root: &Path, state: Option<&Path>, disk: &mut dyn Disk) -> Result<(Self, Loaded), Trouble> {
        Self::load(root, state, disk, true)
    }

    /// The same again, as it is now: for `only_read` like [`Store::look`], else like [`Store::open`].
    pub fn again(&self, disk: &mut dyn Disk, only_read: bool) -> Result<(Self, Loaded), Trouble> {
        Self::load(&self.root, self.state_path.as_deref(), disk, only_read)
    }

    fn load(
        root: &Path,
        state: Option<&Path>,
        disk: &mut dyn Disk,
        only_read: bool,
    ) -> Result<(Self, Loaded), Trouble> {
        let mut store = Self {
            root: root.into(),
            only_read,
            state_path: state.map(Into::into),
            certs: Map::new(),
            staples: Set::new(),
            accounts: Map::new(),
            flash: Map::new(),
            state: State::default(),
        };
        let mut loaded = Loaded::default();
        let mut reader = Reader::new(disk, only_read);
        for text in reader.disk.list(&root.join("certs"))? {
            match Name::parse(&text, Labels::One) {
                Ok(md) if md.as_str() == text => store.load_md(&mut reader, &md, &mut loaded),
                _ => {}
            }
        }
        store.load_accounts(&mut reader, &mut loaded)?;
        // What was tried and told there is another daemon's business.
        if only_read {
            store.flash.clear();
        }
        store.load_state(&mut reader);
        loaded.set_aside = reader.finish()?;
        loaded.tried = store.merge(&loaded.certs);
        loaded.said.clone_from(&store.state.said);
        Ok((store, loaded))
    }

    /// Key and chain of the certificate with this SHA-256, if it is held there. What is wrong with the record
    /// beside its own does not matter.
    pub fn read_bundle(&self, disk: &dyn Disk, slot: &Slot, sha256: &[u8; 32]) -> Result<Option<Bundle>, Trouble> {
        let Some(newest) = self.certs.get(slot) else { return Ok(None) };
        let mut missing = Ok(None);
        for side in [newest.side, newest.side.other()] {
            match self.pair(disk, slot, side).and_then(Option::transpose) {
                Ok(Some((held, bundle))) if held.sha256 == *sha256 => return Ok(Some(bundle)),
                Err(trouble) if missing.is_ok() => missing = Err(trouble),
                _ => {}
            }
        }
        missing
    }

    /// The one commit point of a certificate. The one before stays beside it until the next.
    pub fn put_cert(&mut self, disk: &mut dyn Disk, slot: &Slot, held: &Held, bundle: &Bundle) -> Result<(), Trouble> {
        let newest = self.certs.get(slot).copied().or_else(|| self.unseen(disk, slot));
        let next = Newest::after(newest.as_ref());
        let bytes = Secret::from(record::encode_cert(next.sequence, held, bundle));
        disk.replace(&self.cert_path(slot, next.side), &bytes, disk.private_in(&self.root))?;
        self.certs.insert(slot.clone(), next);
        Ok(())
    }

    /// Whether a certificate could be put there. `bytes` are as long as one, and such that no file system packs them.
    pub fn has_room(&self, disk: &mut dyn Disk, slot: &Slot, bytes: &[u8]) -> Result<(), Trouble> {
        disk.has_room(&self.cert_path(slot, Side::Zero), bytes, disk.private_in(&self.root))
    }

    /// What is held there and what was held before it, the newest first. The one before is passed over if it is damaged.
    pub fn pairs(&self, disk: &dyn Disk, slot: &Slot) -> Result<Vec<Pair>, Trouble> {
        let Some(newest) = self.certs.get(slot) else { return Ok(vec![]) };
        let mut pairs = vec![];
        for side in [newest.side, newest.side.other()] {
            match self.pair(disk, slot, side)? {
                Some(Ok(pair)) => pairs.push(pair),
                Some(Err(trouble)) if side == newest.side => return Err(trouble),
                _ => {}
            }
        }
        Ok(pairs)
    }

    /// The pair on one side, if there is a record and it can be read; what is wrong with it, if it is damaged.
    fn pair(&self, disk: &dyn Disk, slot: &Slot, side: Side) -> Result<Option<Result<Pair, Trouble>>, Trouble> {
        let path = self.cert_path(slot, side);
        let decode = |bytes: Secret| match record::decode_cert(&bytes) {
            Ok((_, held, bundle)) => Ok((held, bundle)),
            Err(why) => Err(Trouble::new(format!("reading {}", path.display()), why)),
        };
        Ok(disk.read(&path)?.map(Secret::from).map(decode))
    }

    /// The response there, for whichever certificate.
    pub fn staple(&self, disk: &dyn Disk, slot: &Slot) -> Option<Stored> {
        let bytes = self.staples.contains(slot).then(|| disk.read(&self.md_path(slot, OCSP)).ok()).flatten()?;
        // What is damaged is fetched anew, and replaced.
        record::decode_staple(&bytes?).ok()
    }

    pub fn put_staple(&mut self, disk: &mut dyn Disk, slot: &Slot, stored: &Stored) -> Result<(), Trouble> {
        if self.only_read {
            return Ok(());
        }
        let access = disk.private_in(&self.root);
        disk.replace(&self.md_path(slot, OCSP), &record::encode_staple(stored), access)?;
        self.staples.insert(slot.clone());
        Ok(())
    }

    /// The files that were exported from there, as flash knows it.
    pub fn exported(&self, slot: &Slot) -> &[String] {
        self.flash.get(slot).map_or(&[], |tried| &tried.exported)
    }

    /// Moves what is held to another place: the new records stand before the old ones go.
    pub fn rename(&mut self, disk: &mut dyn Disk, old: &Slot, new: &Slot) -> Result<(), Trouble> {
        let pairs = self.pairs(disk, old)?;
        // The newest goes first: should the power go too, nothing older stands in its place.
        let (first, second) = (Newest { side: Side::One, sequence: 2 }, Newest { side: Side::Zero, sequence: 1 });
        for (place, (held, bundle)) in [first, second].into_iter().zip(&pairs) {
            let bytes = Secret::from(record::encode_cert(place.sequence, held, bundle));
            disk.replace(&self.cert_path(new, place.side), &bytes, disk.private_in(&self.root))?;
        }
        if !pairs.is_empty() {
            self.certs.insert(new.clone(), first);
        }
        if let Some(stored) = self.staple(disk, old) {
            self.put_staple(disk, new, &stored)?;
        }
        let exported = self.exported(old).to_vec();
        if !exported.is_empty() {
            self.put_flash(disk, new, &Tried { exported, ..Tried::default() })?;
        }
        // What can't be removed just now is held twice: that is seen to by the next start, or by `prune`.
        if let Err(trouble) = self.remove(disk, old) {
            log::warn!("{old}: its record was moved, but stays there for now: {trouble}");
        }
        Ok(())
    }

    pub fn put_account(&mut self, disk: &mut dyn Disk, account: &Account) -> Result<(), Trouble> {
        let stem = record::file_stem(&account.place());
        let newest = self.accounts.get(&stem).copied();
        if let Some(newest) = newest
            && let Some(bytes) = disk.read(&self.account_path(&stem, newest.side))?.map(Secret::from)
            && record::decode_account(&bytes).is_ok_and(|(_, stored)| stored == *account)
        {
            return Ok(());
        }
        let next = Newest::after(newest.as_ref());
        let bytes = Secret::from(record::encode_account(next.sequence, account));
        disk.replace(&self.account_path(&stem, next.side), &bytes, disk.private_in(&self.root))?;
        self.accounts.insert(stem, next);
        Ok(())
    }

    fn load_md(&mut self, reader: &mut Reader<'_>, md: &Name, loaded: &mut Loaded) {
        let dir = self.root.join("certs").join(md.as_str());
        let names = match reader.disk.list(&dir) {
            Ok(names) => reader.sweep(&dir, names),
            Err(trouble) => return reader.set_aside.push(trouble.to_string()),
        };
        let stems: Set<&str> = names.iter().filter_map(|name| name.rsplit_once('.')).map(|(stem, _)| stem).collect();
        for slot in stems.into_iter().filter_map(|stem| Slot::new(md.clone(), stem)) {
            let facts = |bytes: &[u8]| record::decode_cert(bytes).map(|(sequence, held, _)| (sequence, held));
            let found = reader.both(|side| self.cert_path(&slot, side), facts);
            if let Some((newest, _)) = found.first() {
                self.certs.insert(slot.clone(), *newest);
                loaded.certs.insert(slot.clone(), found.into_iter().map(|(_, held)| held).collect());
            }
            if names.iter().any(|name| name.strip_suffix(OCSP) == Some(&format!("{}.", slot.family))) {
                self.staples.insert(slot.clone());
            }
            if let Some(tried) = reader.record(&self.tried_path(&slot), record::decode_tried) {
                self.flash.insert(slot, tried);
            }
        }
    }

    fn load_accounts(&mut self, reader: &mut Reader<'_>, loaded: &mut Loaded) -> Result<(), Trouble> {
        let dir = self.root.join("accounts");
        let names = reader.disk.list(&dir)?;
        let names = reader.sweep(&dir, names);
        let ours = |name: &String| name.strip_suffix(".0").or(name.strip_suffix(".1")).map(String::from);
        let stems: Set<String> = names.iter().filter_map(ours).filter(|stem| stem.len() == 32).collect();
        for stem in stems {
            let in_place = |bytes: &[u8]| match record::decode_account(bytes)? {
                (_, account) if record::file_stem(&account.place()) != stem => Err("the account of another CA".into()),
                found => Ok(found),
            };
            if let Some((newest, account)) =
                reader.both(|side| self.account_path(&stem, side), in_place).into_iter().next()
            {
                self.accounts.insert(stem, newest);
                loaded.accounts.insert(account.place(), account);
            }
        }
        Ok(())
    }

    fn cert_path(&self, slot: &Slot, side: Side) -> PathBuf {
        self.md_path(slot, side.suffix())
    }

    fn tried_path(&self, slot: &Slot) -> PathBuf {
        self.md_path(slot, "tried")
    }

    fn md_path(&self, slot: &Slot, suffix: &str) -> PathBuf {
        self.root.join("certs").join(slot.md.as_str()).join(format!("{}.{suffix}", slot.family))
    }

    fn account_path(&self, stem: &str, side: Side) -> PathBuf {
        self.root.join("accounts").join(format!("{stem}.{}", side.suffix()))
    }
}

impl Newest {
    /// The older one makes room.
    fn after(newest: Option<&Newest>) -> Self {
        match newest {
            None => Self { side: Side::Zero, sequence: 1 },
            Some(newest) => Self { side: newest.side.other(), sequence: newest.sequence.saturating_add(1) },
        }
    }
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Zero => Self::One,
            Self::One => Self::Zero,
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Zero => "0",
            Self::One => "1",
        }
    }
}
