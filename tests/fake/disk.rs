//! A disk in RAM that loses power when it is told to, and then keeps what was synced, and of the rest what its model says.
//!
//! A file's bytes are safe after `Sync`; a name (made, renamed, removed) after `SyncDir` of its folder. What is below
//! `/run` is gone with the power.

use super::locked;
use edgemd::doors::disk::{Access, Disk, Op};
use edgemd::words::fault::Trouble;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

#[derive(Clone)]
pub struct RamDisk(Arc<Mutex<Medium>>);

/// What a power cut leaves of that which was not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// Nothing: files without a synced byte are empty, unsynced names are as they were before.
    Synced,
    /// Everything, the half of the write that was cut included.
    All,
    /// The names, before any bytes: files are empty.
    Names,
    /// The same, and files have their length already.
    Zeros,
    /// Of the bytes a third.
    Begun,
    /// Of the bytes the first page and the last one; between them every second one of this size is missing.
    Pages(usize),
    /// What was removed is gone, and what was made or moved is not there.
    Lost,
    /// What was made or moved is there, and what was removed has come back.
    Back,
    /// A file that was made, moved or replaced has no name any more, old or new.
    Nameless,
    /// Each name as it was at some moment since it was synced, each page of 512 bytes there or not.
    Any(u32),
}

impl Keep {
    /// The models in which every deed is cut.
    pub const MODELS: [Self; 14] = [
        Self::Synced,
        Self::All,
        Self::Names,
        Self::Zeros,
        Self::Begun,
        Self::Pages(512),
        Self::Pages(4096),
        Self::Lost,
        Self::Back,
        Self::Nameless,
        Self::Any(1),
        Self::Any(2),
        Self::Any(3),
        Self::Any(4),
    ];

    /// What a name stands for in the end: it was `safe`, and then `past` one after the other.
    fn name(self, safe: Option<Node>, past: &[Option<Node>], dice: &mut u32) -> Option<Node> {
        let now = past.last().copied().unwrap_or(safe);
        let is_dir = [safe, now].contains(&Some(Node::Dir));
        match self {
            Self::Synced => safe,
            Self::All | Self::Names | Self::Zeros | Self::Begun | Self::Pages(_) => now,
            Self::Lost => now.and(safe),
            Self::Back => past.iter().copied().rfind(Option::is_some).unwrap_or(safe),
            Self::Nameless if is_dir => safe,
            Self::Nameless => None,
            Self::Any(_) => match throw(dice) as usize % (past.len() + 1) {
                0 => safe,
                at => past[at - 1],
            },
        }
    }

    /// What is left of bytes that were not synced.
    fn bytes(self, bytes: &[u8], dice: &mut u32) -> Vec<u8> {
        let mut left = bytes.to_vec();
        let mut blot = |size: usize, is_missing: &mut dyn FnMut(usize) -> bool| {
            let pages = left.chunks_mut(size).enumerate().filter(|(at, _)| is_missing(*at));
            pages.for_each(|(_, page)| page.fill(0));
        };
        match self {
            Self::Synced | Self::Names => left.clear(),
            Self::All | Self::Lost | Self::Back | Self::Nameless => {}
            Self::Begun => left.truncate(bytes.len() / 3),
            Self::Zeros => left.fill(0),
            // Of one page alone the bytes are missing.
            Self::Pages(size) if bytes.len() <= size => left.fill(0),
            Self::Pages(size) => blot(size, &mut |at| at % 2 == 1),
            Self::Any(_) => {
                blot(512, &mut |_| throw(dice) % 2 == 1);
                if throw(dice).is_multiple_of(4) {
                    left.truncate(bytes.len() / 512 * 512);
                }
            }
        }
        left
    }
}

/// The xorshift of George Marsaglia.
fn throw(dice: &mut u32) -> u32 {
    *dice ^= *dice << 13;
    *dice ^= *dice >> 17;
    *dice ^= *dice << 5;
    *dice
}

/// What a disk says it has done, and has not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    None,
    /// The bytes of files are not forced out.
    Bytes,
    /// The names in folders are not.
    Names,
}

#[derive(Clone)]
struct Medium {
    /// What programs see.
    names: BTreeMap<PathBuf, Node>,
    /// What of it is safe.
    safe_names: BTreeMap<PathBuf, Node>,
    /// What each name that is not safe has stood for since it was, one after the other.
    past: BTreeMap<PathBuf, Vec<Option<Node>>>,
    files: Vec<File>,
    ops: u32,
    reads: u32,
    syncs: u32,
    replaced: Vec<PathBuf>,
    /// Folders that are another user's, with what is below them.
    owners: BTreeMap<PathBuf, (u32, u32)>,
    /// What each folder was made with.
    folders: BTreeMap<PathBuf, u32>,
    fate: Fate,
    lie: Lie,
    /// So many bytes have room in all; those below `/run` need none.
    room: usize,
    dead: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Node {
    Dir,
    File(usize),
}

#[derive(Clone)]
struct File {
    bytes: Vec<u8>,
    safe: Vec<u8>,
    access: Access,
    /// It stands on a bad sector.
    unreadable: bool,
}

#[derive(Clone, Copy)]
enum Fate {
    None,
    /// In the midst of this operation the power goes.
    Cut(u32),
    /// This one fails.
    Once(u32, &'static str),
    /// This one fails, and all after it.
    From(u32, &'static str),
    /// Those fail that touch something below this folder.
    Below(&'static str, &'static str),
    /// This look at the disk fails.
    ReadOnce(u32, &'static str),
    /// This look at the disk fails, and all after it.
    ReadFrom(u32, &'static str),
}

pub const NO_SPACE: &str = "no space left on the device";
pub const READ_ONLY: &str = "read-only file system";
pub const BROKEN: &str = "input/output error";
pub const DENIED: &str = "permission denied";

impl RamDisk {
    /// Empty but for `/` and `/run`.
    pub fn new() -> Self {
        let names: BTreeMap<_, _> = ["/", "/run"].map(|name| (name.into(), Node::Dir)).into();
        Self(Arc::new(Mutex::new(Medium {
            safe_names: names.clone(),
            names,
            past: BTreeMap::new(),
            files: Vec::new(),
            ops: 0,
            reads: 0,
            syncs: 0,
            replaced: Vec::new(),
            owners: BTreeMap::new(),
            folders: BTreeMap::new(),
            fate: Fate::None,
            lie: Lie::None,
            room: usize::MAX,
            dead: false,
        })))
    }

    /// Another disk with the same content, for another course of things.
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(locked(&self.0).clone())))
    }

    /// From now on operations count from 1; the power goes within the `n`-th.
    pub fn cut_at(&self, n: u32) {
        locked(&self.0).doom(Fate::Cut(n));
    }

    /// From now on operations count from 1; the `n`-th fails.
    pub fn fail_at(&self, n: u32, why: &'static str) {
        locked(&self.0).doom(Fate::Once(n, why));
    }

    /// From now on operations count from 1; the `n`-th fails and so do all that follow, until [`RamDisk::mend`].
    pub fn fail_from(&self, n: u32, why: &'static str) {
        locked(&self.0).doom(Fate::From(n, why));
    }

    /// From now on what touches this folder or something below it fails, until [`RamDisk::mend`].
    pub fn fail_below(&self, dir: &'static str, why: &'static str) {
        locked(&self.0).doom(Fate::Below(dir, why));
    }

    /// From now on looks at the disk (reading, listing) count from 1; the `n`-th fails.
    pub fn fail_read_at(&self, n: u32, why: &'static str) {
        locked(&self.0).doom(Fate::ReadOnce(n, why));
    }

    /// The same, and so do all that follow, until [`RamDisk::mend`].
    pub fn fail_reads_from(&self, n: u32, why: &'static str) {
        locked(&self.0).doom(Fate::ReadFrom(n, why));
    }

    /// From now on this file can't be read, for as long as it is there.
    pub fn loses(&self, path: &Path) {
        let mut medium = locked(&self.0);
        let Some(Node::File(number)) = medium.names.get(path).cloned() else { panic!("{}: no file", path.display()) };
        medium.files[number].unreadable = true;
    }

    /// No more cuts and failures; counts from zero.
    pub fn mend(&self) {
        locked(&self.0).doom(Fate::None);
    }

    /// From now on there is room for so many bytes in all, whatever happens.
    pub fn holds(&self, room: usize) {
        locked(&self.0).room = room;
    }

    /// How many bytes there are, where room is short.
    pub fn size(&self) -> usize {
        locked(&self.0).size()
    }

    /// From now on it says that it has done what it has not.
    pub fn lies(&self, lie: Lie) {
        locked(&self.0).lie = lie;
    }

    /// How often it was looked at.
    pub fn reads(&self) -> u32 {
        locked(&self.0).reads
    }

    /// What a power cut would leave in this model, file by file.
    pub fn left(&self, keep: Keep) -> Vec<(PathBuf, Vec<u8>)> {
        let copy = self.copy();
        copy.reboot(keep);
        let medium = locked(&copy.0);
        let file = |(path, node): (&PathBuf, &Node)| match node {
            Node::Dir => (path.clone(), vec![]),
            Node::File(number) => (path.clone(), medium.files[*number].bytes.clone()),
        };
        medium.names.iter().map(file).collect()
    }

    /// Forgets what it remembers for tests alone: files without a name, what was replaced.
    pub fn tidy(&self) {
        locked(&self.0).tidy();
    }

    /// The power comes back (after it has been taken away, if it was there).
    pub fn reboot(&self, keep: Keep) {
        locked(&self.0).reboot(keep);
    }

    pub fn is_dead(&self) -> bool {
        locked(&self.0).dead
    }

    pub fn ops(&self) -> u32 {
        locked(&self.0).ops
    }

    /// How often a file's bytes or a folder's names were forced to the medium.
    pub fn syncs(&self) -> u32 {
        locked(&self.0).syncs
    }

    /// The files that were replaced on the medium, in order; not those in RAM.
    pub fn replaced(&self) -> Vec<PathBuf> {
        locked(&self.0).replaced.iter().filter(|path| !path.starts_with("/run")).cloned().collect()
    }

    pub fn files(&self) -> Vec<PathBuf> {
        let medium = locked(&self.0);
        medium.names.iter().filter(|(_, node)| **node != Node::Dir).map(|(path, _)| path.clone()).collect()
    }

    pub fn mode(&self, path: &Path) -> Option<u32> {
        let medium = locked(&self.0);
        match medium.names.get(path)? {
            Node::Dir => medium.folders.get(path).copied(),
            Node::File(number) => Some(medium.files[*number].access.mode),
        }
    }

    /// Somebody says who may touch a file.
    pub fn hand_over(&self, path: &Path, access: Access) {
        let mut medium = locked(&self.0);
        let Some(Node::File(number)) = medium.names.get(path).copied() else { panic!("no such file: {path:?}") };
        medium.files[number].access = access;
    }

    /// We are root, and this folder is somebody else's.
    pub fn belongs_to(&self, dir: &Path, owner: u32, group: u32) {
        locked(&self.0).owners.insert(dir.into(), (owner, group));
    }

    /// Puts a file there to last, folders and all, behind the program's back.
    pub fn plant(&self, path: &Path, bytes: &[u8]) {
        let mut medium = locked(&self.0);
        for dir in path.ancestors().skip(1) {
            medium.names.insert(dir.into(), Node::Dir);
        }
        let number = medium.create(bytes, Access::PRIVATE);
        medium.files[number].safe = bytes.into();
        medium.names.insert(path.into(), Node::File(number));
        for name in path.ancestors() {
            let node = medium.names[name];
            medium.safe_names.insert(name.into(), node);
            medium.past.remove(name);
        }
    }
}

/// What an operation touches.
fn place(op: Op<'_>) -> &Path {
    match op {
        Op::MakeDir { path, .. } | Op::Write { path, .. } | Op::Rename { to: path, .. } => path,
        Op::Sync(path) | Op::Unlink(path) | Op::RemoveDir(path) | Op::SyncDir(path) => path,
    }
}

impl Medium {
    fn doom(&mut self, fate: Fate) {
        self.fate = fate;
        self.ops = 0;
        self.reads = 0;
        self.syncs = 0;
        self.replaced.clear();
    }

    fn reboot(&mut self, keep: Keep) {
        let mut dice = if let Keep::Any(seed) = keep { seed.wrapping_mul(0x9e37_79b9) | 1 } else { 1 };
        for (path, past) in std::mem::take(&mut self.past) {
            match keep.name(self.safe_names.get(&path).copied(), &past, &mut dice) {
                Some(node) => _ = self.names.insert(path, node),
                None => _ = self.names.remove(&path),
            }
        }
        let names = self.names.clone();
        let has = |dir: &Path| names.get(dir) == Some(&Node::Dir);
        self.names.retain(|path, _| path.ancestors().skip(1).all(has));
        self.names.retain(|path, _| !path.starts_with("/run") || path == Path::new("/run"));
        for file in &mut self.files {
            if file.bytes != file.safe {
                file.bytes = keep.bytes(&file.bytes, &mut dice);
                file.safe.clone_from(&file.bytes);
            }
        }
        self.safe_names = self.names.clone();
        self.dead = false;
        self.doom(Fate::None);
    }

    fn set(&mut self, path: &Path, node: Option<Node>) {
        if self.names.get(path) == node.as_ref() {
            return;
        }
        self.past.entry(path.into()).or_default().push(node);
        match node {
            Some(node) => _ = self.names.insert(path.into(), node),
            None => _ = self.names.remove(path),
        }
    }

    fn size(&self) -> usize {
        let long = |(path, node): (&PathBuf, &Node)| match node {
            Node::File(number) if !path.starts_with("/run") => self.files[*number].bytes.len(),
            _ => 0,
        };
        self.names.iter().map(long).sum()
    }

    fn tidy(&mut self) {
        self.replaced = vec![];
        let used: BTreeSet<usize> = [&self.names, &self.safe_names]
            .into_iter()
            .flat_map(|names| names.values())
            .chain(self.past.values().flatten().flatten())
            .filter_map(|node| if let Node::File(number) = node { Some(*number) } else { None })
            .collect();
        let at = |node: &mut Node| {
            if let Node::File(number) = node {
                *number = used.range(..*number).count();
            }
        };
        self.names.values_mut().chain(self.safe_names.values_mut()).for_each(at);
        self.past.values_mut().flatten().flatten().for_each(at);
        let files = std::mem::take(&mut self.files).into_iter().enumerate();
        self.files = files.filter(|(number, _)| used.contains(number)).map(|(_, file)| file).collect();
    }

    /// Whether this look at the disk fails, and why.
    fn look(&mut self) -> Result<(), &'static str> {
        self.reads += 1;
        match self.fate {
            _ if self.dead => Err("there is no power"),
            Fate::ReadOnce(n, why) if n == self.reads => Err(why),
            Fate::ReadFrom(n, why) if n <= self.reads => Err(why),
            _ => Ok(()),
        }
    }

    fn create(&mut self, bytes: &[u8], access: Access) -> usize {
        self.files.push(File { bytes: bytes.into(), safe: Vec::new(), access, unreadable: false });
        self.files.len() - 1
    }

    fn act(&mut self, op: Op<'_>) -> Result<(), &'static str> {
        if self.dead {
            return Err("there is no power");
        }
        self.ops += 1;
        let fails = match self.fate {
            Fate::Cut(n) if n == self.ops => {
                self.dead = true;
                Some("the power went")
            }
            Fate::Once(n, why) if n == self.ops => Some(why),
            Fate::From(n, why) if n <= self.ops => Some(why),
            Fate::Below(dir, why) if place(op).starts_with(dir) => Some(why),
            _ => None,
        };
        match (fails, op) {
            (None, Op::Write { path, bytes, access }) if !path.starts_with("/run") => {
                let there = self.names.get(path).copied();
                let room = match there {
                    Some(Node::File(number)) => self.room.saturating_add(self.files[number].bytes.len()),
                    _ => self.room,
                };
                let room = room.saturating_sub(self.size()).min(bytes.len());
                self.perform(Op::Write { path, bytes: &bytes[..room], access })?;
                if room < bytes.len() { Err(NO_SPACE) } else { Ok(()) }
            }
            (None, op) => self.perform(op),
            (Some(why), Op::Write { path, bytes, access }) if why != READ_ONLY && why != DENIED => {
                self.perform(Op::Write { path, bytes: &bytes[..bytes.len() / 2], access })?;
                Err(why)
            }
            (Some(why), _) => Err(why),
        }
    }

    fn perform(&mut self, op: Op<'_>) -> Result<(), &'static str> {
        match op {
            Op::MakeDir { path, access } => {
                self.folders.entry(path.into()).or_insert(access.mode);
                self.above(path)?;
                match self.names.get(path) {
                    Some(Node::File(_)) => return Err("it is a file"),
                    _ => self.set(path, Some(Node::Dir)),
                };
            }
            Op::Write { path, bytes, access } => {
                self.above(path)?;
                if self.names.get(path) == Some(&Node::Dir) {
                    return Err("it is a folder");
                }
                let number = self.create(bytes, access);
                self.set(path, Some(Node::File(number)));
            }
            Op::Sync(path) => {
                let Some(Node::File(number)) = self.names.get(path) else { return Err("no such file") };
                let file = &mut self.files[*number];
                if self.lie != Lie::Bytes {
                    file.safe = file.bytes.clone();
                }
                self.syncs += 1;
            }
            Op::Rename { from, to } => {
                self.above(to)?;
                if self.names.get(to) == Some(&Node::Dir) {
                    return Err("it is a folder");
                }
                let node = *self.names.get(from).ok_or("no such file")?;
                self.set(from, None);
                self.set(to, Some(node));
                self.replaced.push(to.into());
            }
            Op::Unlink(path) => {
                if self.names.get(path) == Some(&Node::Dir) {
                    return Err("it is a folder");
                }
                self.set(path, None);
            }
            Op::RemoveDir(dir) => {
                if self.names.keys().all(|path| path.parent() != Some(dir)) {
                    self.set(dir, None);
                }
            }
            Op::SyncDir(dir) => {
                if self.names.get(dir) != Some(&Node::Dir) {
                    return Err("no such folder");
                }
                self.syncs += 1;
                if self.lie != Lie::Names {
                    self.past.retain(|path, _| path.parent() != Some(dir));
                    self.safe_names.retain(|path, _| path.parent() != Some(dir));
                    let within = self.names.iter().filter(|(path, _)| path.parent() == Some(dir));
                    self.safe_names.extend(within.map(|(path, node)| (path.clone(), *node)));
                }
            }
        }
        Ok(())
    }

    fn above(&self, path: &Path) -> Result<(), &'static str> {
        let dir = path.parent().ok_or("it has no folder")?;
        if self.names.get(dir) == Some(&Node::Dir) { Ok(()) } else { Err("no such folder") }
    }
}

impl Disk for RamDisk {
    fn act(&mut self, op: Op<'_>) -> Result<(), Trouble> {
        let doing = match op {
            Op::MakeDir { path, .. } => format!("making {}", path.display()),
            Op::Write { path, .. } => format!("writing {}", path.display()),
            Op::Sync(path) | Op::SyncDir(path) => format!("syncing {}", path.display()),
            Op::Rename { to, .. } => format!("replacing {}", to.display()),
            Op::Unlink(path) | Op::RemoveDir(path) => format!("removing {}", path.display()),
        };
        locked(&self.0).act(op).map_err(|why| Trouble::new(doing, why))
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, Trouble> {
        let mut medium = locked(&self.0);
        let trouble = |why| Trouble::new(format!("reading {}", path.display()), why);
        medium.look().map_err(trouble)?;
        match medium.names.get(path) {
            None => Ok(None),
            Some(Node::Dir) => Err(trouble("not a file")),
            Some(Node::File(number)) if medium.files[*number].unreadable => Err(trouble(BROKEN)),
            Some(Node::File(number)) => Ok(Some(medium.files[*number].bytes.clone())),
        }
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, Trouble> {
        let mut medium = locked(&self.0);
        medium.look().map_err(|why| Trouble::new(format!("listing {}", dir.display()), why))?;
        let within = medium.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(within.filter_map(|path| path.file_name()?.to_str().map(String::from)).collect())
    }

    fn access(&self, path: &Path) -> Result<Option<Access>, Trouble> {
        let medium = locked(&self.0);
        match medium.names.get(path) {
            _ if medium.dead => Err(Trouble::new(format!("looking at {}", path.display()), "there is no power")),
            Some(Node::File(number)) => Ok(Some(medium.files[*number].access)),
            _ => Ok(None),
        }
    }

    fn private_in(&self, dir: &Path) -> Access {
        let owner = locked(&self.0).owners.get(dir).copied();
        owner.map_or(Access::PRIVATE, |(owner, group)| Access {
            owner: Some(owner),
            group: Some(group),
            ..Access::PRIVATE
        })
    }

    /// It knows none.
    fn is_link(&self, _: &Path) -> bool {
        false
    }

    fn has_dir(&self, dir: &Path) -> bool {
        let medium = locked(&self.0);
        !medium.dead && medium.names.get(dir) == Some(&Node::Dir)
    }
}
