//! Reading records of which any may be damaged.

use super::{Newest, Side};
use crate::doors::disk::{Disk, Op, is_temp};
use crate::rules::record;
use crate::words::fault::Trouble;
use crate::words::secret::Secret;
use std::path::{Path, PathBuf};

/// Reads what may be damaged.
pub(super) struct Reader<'a> {
    pub disk: &'a mut dyn Disk,
    /// Nothing is moved or removed.
    only_read: bool,
    pub set_aside: Vec<String>,
    /// What is damaged, and in which way.
    damaged: Vec<(PathBuf, String)>,
    /// What a power cut left half-written.
    leftovers: Vec<PathBuf>,
    newer: Option<Trouble>,
}

impl<'a> Reader<'a> {
    pub fn new(disk: &'a mut dyn Disk, only_read: bool) -> Self {
        Self { disk, only_read, set_aside: vec![], damaged: vec![], leftovers: vec![], newer: None }
    }

    /// Only when all was read is anything moved or removed. Returns a sentence for each file that could not be used.
    pub fn finish(mut self) -> Result<Vec<String>, Trouble> {
        if let Some(newer) = self.newer {
            return Err(newer);
        }
        for (path, why) in std::mem::take(&mut self.damaged) {
            self.put_aside(&path, &why);
        }
        // A read-only disk may keep them.
        for path in self.leftovers {
            let _ = self.disk.act(Op::Unlink(&path));
        }
        Ok(self.set_aside)
    }

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
        let why = match self.disk.read(path).map(|bytes| bytes.map(Secret::from)) {
            Ok(None) => return None,
            Ok(Some(bytes)) => match decode(&bytes) {
                Ok(value) => return Some(value),
                Err(why) => match record::newer(&bytes) {
                    None => why,
                    Some(why) => {
                        self.newer.get_or_insert_with(|| Trouble::new(format!("reading {}", path.display()), why));
                        return None;
                    }
                },
            },
            Err(trouble) => {
                self.set_aside.push(trouble.to_string());
                return None;
            }
        };
        self.damaged.push((path.into(), why));
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

    /// The names without those of what a power cut left half-written, which is to be removed.
    pub fn sweep(&mut self, dir: &Path, mut names: Vec<String>) -> Vec<String> {
        names.retain(|name| {
            let leftover = is_temp(name);
            if leftover && !self.only_read {
                self.leftovers.push(dir.join(name));
            }
            !leftover
        });
        names
    }
}
