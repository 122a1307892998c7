//! What the store holds, file by file, for those who tidy up in it.

use super::{OCSP, Side, Store};
use crate::doors::disk::{Disk, Op};
use crate::rules::record;
use crate::words::cert::Slot;
use crate::words::fault::Trouble;
use crate::words::sorted::Set;
use std::path::{Path, PathBuf};

impl Store {
    /// The places of which there is a record, wanted or not.
    pub fn places(&self) -> Set<Slot> {
        let mut places = self.staples.clone();
        places.extend(self.certs.keys().chain(self.flash.keys()).cloned());
        places
    }

    /// The files of one place; the older record before the newer one, so that what is left is never older than what was.
    pub fn files(&self, disk: &dyn Disk, slot: &Slot) -> Vec<PathBuf> {
        let newest = self.certs.get(slot).map_or(Side::One, |newest| newest.side);
        let certs = [newest.other(), newest].map(|side| self.cert_path(slot, side));
        let mut paths = [&certs[..], &[self.tried_path(slot), self.md_path(slot, OCSP)]].concat();
        paths.retain(|path| !matches!(disk.read(path), Ok(None)));
        paths
    }

    /// The files of the account in this place, likewise.
    pub fn account_files(&self, disk: &dyn Disk, place: &str) -> Vec<PathBuf> {
        let stem = record::file_stem(place);
        let newest = self.accounts.get(&stem).map_or(Side::One, |newest| newest.side);
        let mut paths: Vec<_> = [newest.other(), newest].map(|side| self.account_path(&stem, side)).into();
        paths.retain(|path| !matches!(disk.read(path), Ok(None)));
        paths
    }

    /// Where there is a response.
    pub fn staples(&self) -> Vec<Slot> {
        self.staples.iter().cloned().collect()
    }

    /// Removes the response there.
    pub fn remove_staple(&mut self, disk: &mut dyn Disk, slot: &Slot) -> Result<(), Trouble> {
        if !self.only_read {
            disk.remove(&self.md_path(slot, OCSP))?;
            self.staples.remove(slot);
        }
        Ok(())
    }

    /// Every file that was set aside.
    pub fn set_aside(&self, disk: &dyn Disk) -> Vec<PathBuf> {
        let within = |dir: &Path| disk.list(dir).unwrap_or_default().into_iter().map(|name| dir.join(name)).collect();
        let mds: Vec<PathBuf> = within(&self.root.join("certs"));
        let dirs = mds.into_iter().chain([self.root.join("accounts")]).filter(|dir| disk.has_dir(dir));
        let files = dirs.flat_map(|dir| -> Vec<PathBuf> { within(&dir) });
        files.filter(|path| path.extension().is_some_and(|ending| ending == "bad")).collect()
    }

    /// Removes everything of one place.
    pub fn remove(&mut self, disk: &mut dyn Disk, slot: &Slot) -> Result<(), Trouble> {
        for path in self.files(disk, slot) {
            disk.remove(&path)?;
        }
        self.certs.remove(slot);
        self.staples.remove(slot);
        self.flash.remove(slot);
        self.forget_state(disk, slot)?;
        let folder = self.md_path(slot, "");
        disk.act(Op::RemoveDir(folder.parent().unwrap_or(&folder)))
    }

    /// Removes the account in this place.
    pub fn remove_account(&mut self, disk: &mut dyn Disk, place: &str) -> Result<(), Trouble> {
        for path in self.account_files(disk, place) {
            disk.remove(&path)?;
        }
        self.accounts.remove(&record::file_stem(place));
        Ok(())
    }
}
