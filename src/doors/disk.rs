//! The disk: files that are whole or absent, whatever happens to the power.

mod lock;
mod way;

use crate::words::fault::Trouble;
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use way::{NEW, folder, open, place, remove, rename};

pub use lock::{Lock, lock};

/// Who may touch a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    pub mode: u32,
    /// Owner and group; `None` leaves them as they come.
    pub owner: Option<u32>,
    pub group: Option<u32>,
}

impl Access {
    /// For our own eyes: 0600.
    pub const PRIVATE: Self = Self { mode: 0o600, owner: None, group: None };
    /// For every program: 0644.
    pub const PUBLIC: Self = Self { mode: 0o644, owner: None, group: None };

    /// For a folder that everybody may look into, whatever the files in it are: 0755.
    pub const OPEN_FOLDER: Self = Self { mode: 0o755, owner: None, group: None };

    /// Whether a file that may be touched by `found` is as this says.
    pub fn is_met_by(self, found: Self) -> bool {
        let same = |wanted: Option<u32>, found| wanted.is_none() || wanted == found;
        self.mode == found.mode && same(self.owner, found.owner) && same(self.group, found.group)
    }

    /// For a folder that is made for such a file: who may read the file may enter.
    fn of_folder(self) -> Self {
        Self { mode: self.mode | (self.mode & 0o444) >> 2, ..self }
    }
}

/// One primitive operation; a power cut falls between two of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op<'a> {
    /// Makes one folder; nothing if it is there.
    MakeDir {
        path: &'a Path,
        access: Access,
    },
    /// Writes a new file with these bytes, in the place of a leftover one.
    Write {
        path: &'a Path,
        bytes: &'a [u8],
        access: Access,
    },
    /// Returns when the file's bytes are on the medium.
    Sync(&'a Path),
    Rename {
        from: &'a Path,
        to: &'a Path,
    },
    /// Removes a file; nothing if there is none.
    Unlink(&'a Path),
    /// Removes an empty folder; nothing if there is none or something is in it.
    RemoveDir(&'a Path),
    /// Returns when the folder's entries are on the medium.
    SyncDir(&'a Path),
}

pub trait Disk {
    fn act(&mut self, op: Op<'_>) -> Result<(), Trouble>;
    /// The whole file, or `None` where there is none.
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, Trouble>;
    /// The names in a folder, sorted; none where there is no folder.
    fn list(&self, dir: &Path) -> Result<Vec<String>, Trouble>;
    fn has_dir(&self, dir: &Path) -> bool;
    /// Whether this is a symbolic link, wherever it leads.
    fn is_link(&self, path: &Path) -> bool;
    /// Who may touch a file, owner and group included; `None` where there is none.
    fn access(&self, path: &Path) -> Result<Option<Access>, Trouble>;

    /// How a file that is nobody else's business is made in this folder. Where root works for a daemon that has a user of
    /// its own, it becomes that user's.
    fn private_in(&self, _dir: &Path) -> Access {
        Access::PRIVATE
    }

    /// After this the file holds `bytes`, after a power cut within it the old bytes or the new ones. Folders on the way
    /// are made.
    fn replace(&mut self, path: &Path, bytes: &[u8], access: Access) -> Result<(), Trouble> {
        let dir = folder_of(path);
        let temp = temp_of(path);
        self.make_dirs(dir, access.of_folder())?;
        let written = self.act(Op::Write { path: &temp, bytes, access });
        let ready = written.and_then(|()| self.act(Op::Sync(&temp)));
        if let Err(trouble) = ready.and_then(|()| self.act(Op::Rename { from: &temp, to: path })) {
            // Half a file would keep the space that the next try needs. The first trouble is the one to tell of.
            let _ = self.act(Op::Unlink(&temp));
            return Err(trouble);
        }
        self.act(Op::SyncDir(dir))
    }

    /// Whether [`Disk::replace`] would find room for these: they are written beside the file and removed.
    fn has_room(&mut self, path: &Path, bytes: &[u8], access: Access) -> Result<(), Trouble> {
        let temp = temp_of(path);
        self.make_dirs(folder_of(path), access.of_folder())?;
        let written = self.act(Op::Write { path: &temp, bytes, access });
        written.and(self.act(Op::Unlink(&temp)))
    }

    /// Removes what a power cut has left of a file that was being written; a disk that can't be written may keep it.
    fn sweep(&mut self, path: &Path) {
        let temp = temp_of(path);
        if matches!(self.access(&temp), Ok(Some(_))) {
            let _ = self.act(Op::Unlink(&temp));
        }
    }

    fn remove(&mut self, path: &Path) -> Result<(), Trouble> {
        self.act(Op::Unlink(path))?;
        self.act(Op::SyncDir(folder_of(path)))
    }

    /// Makes a folder and those above it to last; costs nothing if it is there.
    fn make_dirs(&mut self, dir: &Path, access: Access) -> Result<(), Trouble> {
        if self.has_dir(dir) {
            return Ok(());
        }
        let above = folder_of(dir);
        if above != dir {
            self.make_dirs(above, access)?;
        }
        self.act(Op::MakeDir { path: dir, access })?;
        self.act(Op::SyncDir(above))
    }
}

/// Where a file stands while it is being written: beside its place, under a name that no record has.
pub fn temp_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // File systems end a name at 255 bytes.
    if name.len() <= 250 {
        return path.with_file_name(format!(".{name}.new"));
    }
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    path.with_file_name(format!(".{hash:08x}.new"))
}

/// Whether a name is one that [`temp_of`] gives.
pub fn is_temp(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".new")
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if dir.as_os_str().is_empty() => Path::new("."),
        Some(dir) => dir,
        None => Path::new("/"),
    }
}

/// The machine's own disk.
#[derive(Clone, Copy, Default, Debug)]
pub struct SystemDisk;

/// No file of ours, and none that we compare with ours, is longer.
const LONGEST: u64 = 1 << 20;

impl Disk for SystemDisk {
    fn act(&mut self, op: Op<'_>) -> Result<(), Trouble> {
        match op {
            Op::MakeDir { path, access } => make_dir(path, access).map_err(|error| said("making", path, &error)),
            Op::Write { path, bytes, access } => {
                write_new(path, bytes, access).map_err(|error| match Errno::from_io_error(&error) {
                    Some(Errno::NOSPC) => full(path, bytes.len()),
                    _ => said("writing", path, &error),
                })
            }
            Op::Sync(path) => open(path, OFlags::RDONLY)
                .and_then(|file| file.sync_all())
                .map_err(|error| said("syncing", path, &error)),
            Op::Rename { from, to } => rename(from, to).map_err(|error| said("replacing", to, &error)),
            Op::Unlink(path) => remove(path, AtFlags::empty()).map_err(|error| said("removing", path, &error)),
            Op::RemoveDir(path) => match remove(path, AtFlags::REMOVEDIR) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
                removed => removed.map_err(|error| said("removing", path, &error)),
            },
            Op::SyncDir(path) => sync_dir(path).map_err(|error| said("syncing", path, &error)),
        }
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, Trouble> {
        read_file(path).map_err(|error| said("reading", path, &error))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, Trouble> {
        list_dir(dir).map_err(|error| said("listing", dir, &error))
    }

    fn has_dir(&self, dir: &Path) -> bool {
        dir.is_dir()
    }

    fn private_in(&self, dir: &Path) -> Access {
        match fs::metadata(dir) {
            Ok(about) if geteuid().is_root() => {
                Access { owner: Some(about.uid()), group: Some(about.gid()), ..Access::PRIVATE }
            }
            _ => Access::PRIVATE,
        }
    }

    fn is_link(&self, path: &Path) -> bool {
        path.is_symlink()
    }

    fn access(&self, path: &Path) -> Result<Option<Access>, Trouble> {
        match fs::symlink_metadata(path) {
            Ok(about) => {
                let (owner, group) = (Some(about.uid()), Some(about.gid()));
                Ok(Some(Access { mode: about.mode() & 0o7777, owner, group }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(said("looking at", path, &error)),
        }
    }
}

fn make_dir(path: &Path, access: Access) -> io::Result<()> {
    let (at, name) = place(path)?;
    match mkdirat(&at, name, Mode::from_raw_mode(access.mode)) {
        Err(Errno::EXIST) if path.is_dir() => return Ok(()),
        made => made?,
    }
    hand_over(&open(path, OFlags::DIRECTORY)?, access)
}

/// The leftover is unlinked and the new file must not be there yet: so no link, and no program that holds the old file
/// open, gets at the new bytes.
fn write_new(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    remove(path, AtFlags::empty())?;
    let mut file = open(path, NEW)?;
    hand_over(&file, access)?;
    file.write_all(bytes)
}

/// The owner first: a changed mode would let the old group in for a moment.
fn hand_over(file: &File, access: Access) -> io::Result<()> {
    if access.owner.is_some() || access.group.is_some() {
        fchown(file, access.owner, access.group)?;
    }
    file.set_permissions(Permissions::from_mode(access.mode))
}

fn sync_dir(path: &Path) -> io::Result<()> {
    let dir = File::from(openat(folder(path)?, ".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?);
    match dir.sync_all() {
        // A file system that knows no such thing for folders.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        done => done,
    }
}

fn read_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let about = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        about => about?,
    };
    // Opening a pipe would wait for somebody to write into it.
    if !about.is_file() {
        return Err(io::Error::other("not a file"));
    }
    // It may hold a key, and what grows leaves what it was behind.
    let mut bytes = Vec::with_capacity(usize::try_from(about.len().min(LONGEST)).unwrap_or(0) + 32);
    // In the meantime it may have become one.
    let nonblock = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblock).open(path)?;
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(io::Error::other("longer than 1 MB"));
    }
    Ok(Some(bytes))
}

/// A name that is not UTF-8 is none of ours.
fn list_dir(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

/// The reason, and what a person can do about it.
fn said(doing: &str, path: &Path, error: &io::Error) -> Trouble {
    let remedy = match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT) => "; free some space there",
        Some(Errno::ROFS) => "; mount it writable, or name another place",
        Some(Errno::ACCESS | Errno::PERM) => "; the daemon's user needs the right to it",
        Some(Errno::IO) => "; the medium may be failing",
        Some(Errno::ISDIR) => "; move it away",
        _ => "",
    };
    Trouble::new(format!("{doing} {}", path.display()), format!("{}{remedy}", reason(error)))
}

/// The system's words without Rust's `(os error 28)`.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let cut = text.find(" (os error ").unwrap_or(text.len());
    text.get(..cut).unwrap_or(&text).into()
}

/// How much is free, without the part of the file that got there, says whether a person has to tidy up a little or a lot.
fn full(path: &Path, needed: usize) -> Trouble {
    let _ = remove(path, AtFlags::empty());
    let free = rustix::fs::statvfs(folder_of(path)).map_or(0, |about| about.f_bavail.saturating_mul(about.f_frsize));
    Trouble::new(
        format!("writing {}", path.display()),
        format!("no space left: {needed} bytes needed, {free} free; free some space there"),
    )
}

/// What is made without saying its mode is no more open than usual, nor than whoever started the program wants it, hooks'
/// files among it; files and folders of ours say their mode.
pub fn plain_umask() {
    let others = Mode::RWXG | Mode::RWXO;
    let wanted = rustix::process::umask(others);
    rustix::process::umask(wanted & others | Mode::WGRP | Mode::WOTH);
}

/// Refuses a folder with secrets that is open to others, or that is none.
pub fn keeps_others_out(dir: &Path) -> Result<(), Trouble> {
    let Ok(about) = fs::metadata(dir) else { return Ok(()) };
    let mode = about.mode() & 0o7777;
    let shown = dir.display();
    let why = match about.is_dir() {
        false => "it is no folder; MDStoreDir names one".into(),
        true if mode & 0o077 == 0 => return Ok(()),
        true => format!("it is open to others (mode {mode:04o}); chmod 700 {shown}"),
    };
    Err(Trouble::new(format!("opening the store {shown}"), why))
}
