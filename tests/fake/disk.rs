//! A disk in RAM that loses power when it is told to, and then keeps only what was synced, or all of it.
//!
//! A file's bytes are safe after `Sync`; a name (made, renamed, removed) after `SyncDir` of its folder. What is below
//! `/run` is gone with the power.

use super::locked;
use edgemd::doors::disk::{Access, Disk, Op};
use edgemd::words::fault::Trouble;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

#[derive(Clone)]
pub struct RamDisk(Arc<Mutex<Medium>>);

/// What a power cut leaves of that which was not synced. A real one leaves something in between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// Nothing: files without a synced byte are empty, unsynced names are as they were before.
    Synced,
    /// Everything, the half of the write that was cut included.
    All,
}

#[derive(Clone)]
struct Medium {
    /// What programs see.
    names: BTreeMap<PathBuf, Node>,
    /// What a power cut leaves of it.
    safe_names: BTreeMap<PathBuf, Node>,
    files: Vec<File>,
    ops: u32,
    syncs: u32,
    replaced: Vec<PathBuf>,
    /// Folders that are another user's, with what is below them.
    owners: BTreeMap<PathBuf, (u32, u32)>,
    /// What each folder was made with.
    folders: BTreeMap<PathBuf, u32>,
    fate: Fate,
    dead: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    File(usize),
}

#[derive(Clone)]
struct File {
    bytes: Vec<u8>,
    safe: Vec<u8>,
    access: Access,
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
}

pub const NO_SPACE: &str = "no space left on the device";
pub const READ_ONLY: &str = "read-only file system";
pub const BROKEN: &str = "input/output error";

impl RamDisk {
    /// Empty but for `/` and `/run`.
    pub fn new() -> Self {
        let names: BTreeMap<_, _> = ["/", "/run"].map(|name| (name.into(), Node::Dir)).into();
        Self(Arc::new(Mutex::new(Medium {
            safe_names: names.clone(),
            names,
            files: Vec::new(),
            ops: 0,
            syncs: 0,
            replaced: Vec::new(),
            owners: BTreeMap::new(),
            folders: BTreeMap::new(),
            fate: Fate::None,
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

    /// No more cuts and failures; counts from zero.
    pub fn mend(&self) {
        locked(&self.0).doom(Fate::None);
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
        self.syncs = 0;
        self.replaced.clear();
    }

    fn reboot(&mut self, keep: Keep) {
        if keep == Keep::Synced {
            self.names = self.safe_names.clone();
            let names = self.names.clone();
            let has = |dir: &Path| names.get(dir) == Some(&Node::Dir);
            self.names.retain(|path, _| path.ancestors().skip(1).all(has));
        }
        self.names.retain(|path, _| !path.starts_with("/run") || path == Path::new("/run"));
        for file in &mut self.files {
            match keep {
                Keep::Synced => file.bytes = file.safe.clone(),
                Keep::All => file.safe = file.bytes.clone(),
            }
        }
        self.safe_names = self.names.clone();
        self.dead = false;
        self.doom(Fate::None);
    }

    fn create(&mut self, bytes: &[u8], access: Access) -> usize {
        self.files.push(File { bytes: bytes.into(), safe: Vec::new(), access });
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
            (None, op) => self.perform(op),
            (Some(why), Op::Write { path, bytes, access }) if why != READ_ONLY => {
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
                    _ => self.names.insert(path.into(), Node::Dir),
                };
            }
            Op::Write { path, bytes, access } => {
                self.above(path)?;
                if self.names.get(path) == Some(&Node::Dir) {
                    return Err("it is a folder");
                }
                let number = self.create(bytes, access);
                self.names.insert(path.into(), Node::File(number));
            }
            Op::Sync(path) => {
                let Some(Node::File(number)) = self.names.get(path) else { return Err("no such file") };
                let file = &mut self.files[*number];
                file.safe = file.bytes.clone();
                self.syncs += 1;
            }
            Op::Rename { from, to } => {
                self.above(to)?;
                if self.names.get(to) == Some(&Node::Dir) {
                    return Err("it is a folder");
                }
                let node = self.names.remove(from).ok_or("no such file")?;
                self.names.insert(to.into(), node);
                self.replaced.push(to.into());
            }
            Op::Unlink(path) => {
                if self.names.get(path) == Some(&Node::Dir) {
                    return Err("it is a folder");
                }
                self.names.remove(path);
            }
            Op::RemoveDir(dir) => {
                if self.names.keys().all(|path| path.parent() != Some(dir)) {
                    self.names.remove(dir);
                }
            }
            Op::SyncDir(dir) => {
                if self.names.get(dir) != Some(&Node::Dir) {
                    return Err("no such folder");
                }
                self.safe_names.retain(|path, _| path.parent() != Some(dir));
                let within = self.names.iter().filter(|(path, _)| path.parent() == Some(dir));
                self.safe_names.extend(within.map(|(path, node)| (path.clone(), *node)));
                self.syncs += 1;
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
        let medium = locked(&self.0);
        let trouble = |why| Trouble::new(format!("reading {}", path.display()), why);
        match medium.names.get(path) {
            _ if medium.dead => Err(trouble("there is no power")),
            None => Ok(None),
            Some(Node::Dir) => Err(trouble("not a file")),
            Some(Node::File(number)) => Ok(Some(medium.files[*number].bytes.clone())),
        }
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, Trouble> {
        let medium = locked(&self.0);
        if medium.dead {
            return Err(Trouble::new(format!("listing {}", dir.display()), "there is no power"));
        }
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
