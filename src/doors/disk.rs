//! The disk: files that are whole or absent, whatever happens to the power.

use crate::words::fault::Trouble;
use std::path::{Path, PathBuf};

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
}

/// One primitive operation; a power cut falls between two of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op<'a> {
    /// Makes a folder (and those above it), for our own eyes; nothing if it is there.
    MakeDir(&'a Path),
    /// Creates or truncates a file and writes all of it.
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
    Unlink(&'a Path),
    /// Returns when the folder's entries are on the medium.
    SyncDir(&'a Path),
}

pub trait Disk {
    fn act(&mut self, op: Op<'_>) -> Result<(), Trouble>;
    /// The whole file, or `None` where there is none.
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, Trouble>;
    /// The names in a folder, sorted; none where there is no folder.
    fn list(&self, dir: &Path) -> Result<Vec<String>, Trouble>;

    /// After this the file holds `bytes`, after a power cut within it the old bytes or the new ones.
    fn replace(&mut self, path: &Path, bytes: &[u8], access: Access) -> Result<(), Trouble> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        let temp = temp_of(path);
        self.act(Op::MakeDir(dir))?;
        self.act(Op::Write { path: &temp, bytes, access })?;
        self.act(Op::Sync(&temp))?;
        self.act(Op::Rename { from: &temp, to: path })?;
        self.act(Op::SyncDir(dir))
    }

    fn remove(&mut self, path: &Path) -> Result<(), Trouble> {
        self.act(Op::Unlink(path))?;
        self.act(Op::SyncDir(path.parent().unwrap_or(Path::new("/"))))
    }
}

/// Where a file stands while it is being written: beside its place, under a name that no record has.
pub fn temp_of(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.new"))
}
