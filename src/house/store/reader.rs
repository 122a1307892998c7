//! Reading records of which any may be damaged.

use super::{Newest, Side};
use crate::doors::disk::{Disk, Op, is_temp};
use std::path::{Path, PathBuf};

/// Reads what may be damaged.
pub(super) struct Reader<'a> {
    pub disk: &'a mut dyn Disk,
    /// Nothing is moved or removed.
    pub only_read: bool,
    pub set_aside: Vec<String>,
}

impl Reader<'_> {
    /// Those of the two that decode, the newer one first.
    pub fn both<T>(
        &mut self,
        path: impl Fn(Side) -> PathBuf,
        decode: impl Fn(&[u8]) -> Result<(u32, T), String>,
    ) -> Vec<(Newest, T)> {
        let mut found = vec![];
        for side in [Side::Zero, Side::One] {
            let record = self.record(&path(side), &decode);
            found.extend(record.map(|(sequence, value)| (Newest { side, sequence }, value)));
        }
        found.sort_by_key(|(newest, _)| core::cmp::Reverse(newest.sequence));
        found
    }

    /// What can't be read stays where it is: it may be readable once somebody has set it right.
    pub fn record<T>(&mut self, path: &Path, decode: impl Fn(&[u8]) -> Result<T, String>) -> Option<T> {
        let why = match self.disk.read(path) {
            Ok(None) => return None,
            Ok(Some(bytes)) => match decode(&bytes) {
                Ok(value) => return Some(value),
                Err(why) => why,
            },
            Err(trouble) => {
                self.set_aside.push(trouble.to_string());
                return None;
            }
        };
        self.put_aside(path, &why);
        None
    }

    /// One bad file of a name is kept for a person to look at; a later one takes its place.
    fn put_aside(&mut self, path: &Path, why: &str) {
        if self.only_read {
            return self.set_aside.push(format!("{}: {why}; left as it is, this daemon only reads", path.display()));
        }
        let mut bad = path.as_os_str().to_owned();
        bad.push(".bad");
        let moved = self.disk.act(Op::Rename { from: path, to: Path::new(&bad) });
        let settled = moved.and_then(|()| self.disk.act(Op::SyncDir(path.parent().unwrap_or(path))));
        let path = path.display();
        self.set_aside.push(match settled {
            Ok(()) => format!("{path}: {why}; set aside as {}", Path::new(&bad).display()),
            Err(trouble) => format!("{path}: {why}; it can't be set aside: {}", trouble.why),
        });
    }

    /// Removes what a power cut left half-written; a read-only disk may keep it.
    pub fn sweep(&mut self, dir: &Path, mut names: Vec<String>) -> Vec<String> {
        names.retain(|name| {
            let leftover = is_temp(name);
            if leftover && !self.only_read {
                let _ = self.disk.act(Op::Unlink(&dir.join(name)));
            }
            !leftover
        });
        names
    }
}
