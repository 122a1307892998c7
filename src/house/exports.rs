//! Exports: PEM files for other programs. Those of a certificate are in place before anybody is told of it; those that a
//! changed configuration has left behind go when everybody was.

use crate::doors::disk::{Access, Disk};
use crate::house::keeper::Keeper;
use crate::house::store::Store;
use crate::rules::export::{self, PemFile};
use crate::rules::plan;
use crate::words::cert::{Bundle, KeyKind, Slot};
use crate::words::config::{Export, Md};
use crate::words::fault::{Hook, Trouble};
use crate::words::secret::Secret;
use crate::words::sorted::Set;
use crate::words::time::Unix;
use log::Level;
use std::path::Path;

impl Keeper<'_> {
    /// Writes the files of this certificate that are not there as they should be. A script may fail for days; the flash
    /// under the exports is not to pay for that.
    pub(super) fn export(&mut self, md: &Md, slot: &Slot, now: Option<Unix>) -> Result<(), Trouble> {
        for (path, access, file) in self.files(md, slot, now)? {
            if is_there(self.doors.disk, &path, &file, access) {
                continue;
            }
            let path = Path::new(&path);
            if let Some(dir) = path.parent() {
                self.doors.disk.make_dirs(dir, Access::OPEN_FOLDER)?;
            }
            self.doors.disk.replace(path, file.text.as_bytes(), access)?;
        }
        Ok(())
    }

    /// Exports that are missing or differ are owed again, and so are files that are to go: after a boot where their folder
    /// is in memory, after a change of place, layout or owner. Without a clock nobody can be told yet, but who starts
    /// meanwhile shall find them.
    pub(super) fn look_at_exports(&mut self) {
        let now = self.now();
        for slot in self.lives.wanted() {
            let Some(md) = self.lives.md(&slot.md).cloned() else { continue };
            let tried = self.lives.tried(&slot).cloned().unwrap_or_default();
            // A file system may know one file by its old name and its new one when the power goes; it may be a key.
            let paths = self.paths(&md, &slot);
            for path in paths.iter().chain(&tried.exported) {
                self.doors.disk.sweep(Path::new(path));
            }
            let Some(held) = self.lives.active(&slot, now) else { continue };
            let disk = &*self.doors.disk;
            let there = |(path, access, file): &(String, Access, PemFile)| is_there(disk, path, file, *access);
            let in_place = self.files(&md, &slot, now).is_ok_and(|files| files.iter().all(there));
            // What is owed anyway was perhaps half done; who was notified of it need not hear of it twice.
            let owed = plan::is_owed(held, &tried) && self.lives.want(&slot).is_some_and(|want| want.tells);
            if in_place && (owed || tried.exported == paths) {
                continue;
            }
            self.lives.owe(&slot);
            if !owed {
                // Should we end before everybody was told, the files in their place will say nothing of it.
                self.save_tried(&slot);
            }
            if let (None, Err(trouble)) = (now, self.export(&md, &slot, now)) {
                log::error!("{}: not exported: {trouble}", slot.md);
            }
        }
    }

    /// Removes what this certificate's export consisted of before and does no longer. The result is what it consists of,
    /// with what could not be removed yet: that may be a key.
    pub(super) fn clear_exports(&mut self, md: &Md, slot: &Slot, level: Level) -> Vec<String> {
        let mut expected = self.paths(md, slot);
        let mut left = self.lives.tried(slot).map(|tried| tried.exported.clone()).unwrap_or_default();
        left.retain(|path| !expected.contains(path));
        if left.is_empty() {
            return expected;
        }
        let wanted = self.lives.wanted();
        let in_use: Set<String> =
            wanted.iter().flat_map(|slot| self.lives.md(&slot.md).map(|md| self.paths(md, slot))).flatten().collect();
        left.retain(|path| !in_use.contains(path));
        let unsaved = self.lives.life(slot).and_then(|life| life.unsaved.as_ref().map(|(bundle, _)| bundle.clone()));
        let pairs = self.store.pairs(self.doors.disk, slot).unwrap_or_default();
        let bundles: Vec<Bundle> = pairs.into_iter().map(|(_, bundle)| bundle).chain(unsaved).collect();
        for path in ours(self.doors.disk, &left, &bundles) {
            match self.doors.disk.remove(Path::new(path)) {
                Ok(()) => log::info!("{}: removed {path}, which is no longer exported", slot.md),
                Err(trouble) => {
                    log::log!(level, "{}: {path} is no longer exported, but stays for now: {trouble}", slot.md);
                    expected.push(path.clone());
                    self.save_later();
                }
            }
        }
        expected
    }

    /// Tries again to remove what could not be removed when everybody was told. Whether all is gone.
    pub(super) fn clear_again(&mut self) -> bool {
        let now = self.now();
        let mut is_clear = true;
        for slot in self.lives.wanted() {
            let Some(md) = self.lives.md(&slot.md).cloned() else { continue };
            let (Some(tried), Some(held)) = (self.lives.tried(&slot), self.lives.active(&slot, now)) else { continue };
            let paths = self.paths(&md, &slot);
            if plan::is_owed(held, tried) || tried.exported == paths {
                continue;
            }
            let exported = self.clear_exports(&md, &slot, Level::Debug);
            is_clear &= exported == paths;
            if let Some(life) = self.lives.life(&slot) {
                life.exported(exported);
            }
            self.save_tried(&slot);
        }
        is_clear
    }

    /// The files of one certificate's export, each with its path and who may touch it.
    fn files(&self, md: &Md, slot: &Slot, now: Option<Unix>) -> Result<Vec<(String, Access, PemFile)>, Trouble> {
        let (Some((export, extra)), Some(held)) = (self.exported_as(md, slot), self.lives.active(slot, now)) else {
            return Ok(vec![]);
        };
        let (_, bundle) = self.pair(slot, held)?;
        let files = export::files(export.layout, &md.name, extra, &bundle);
        Ok(files.into_iter().map(|file| (whole(export, &file.name), access(export, &file), file)).collect())
    }

    /// Whether those who were told of the files have left them there.
    pub(super) fn still_exported(&self, md: &Md, slot: &Slot) -> Result<(), Trouble> {
        let gone = |path: &String| matches!(self.doors.disk.access(Path::new(path)), Ok(None));
        let why = "it is gone again, since a command was run; it is put back";
        match self.paths(md, slot).into_iter().find(gone) {
            Some(path) => Err(Trouble::new(format!("looking after {path}"), why).with(Hook::Notify)),
            None => Ok(()),
        }
    }

    /// The paths of one certificate's export.
    fn paths(&self, md: &Md, slot: &Slot) -> Vec<String> {
        let Some((export, extra)) = self.exported_as(md, slot) else { return vec![] };
        export::names(export.layout, &md.name, extra).map(|name| whole(export, &name)).collect()
    }

    /// Where to, and the kind that its files are called after. Where an MD has the operator's own certificates, these are
    /// exported and no others.
    fn exported_as<'m>(&self, md: &'m Md, slot: &Slot) -> Option<(&'m Export, Option<KeyKind>)> {
        let export = md.export.as_ref()?;
        match (md.statics.is_empty(), slot.is_own()) {
            (true, false) => Some((export, export::extra(md, slot.family))),
            (false, true) => Some((export, self.lives.extra_own(slot))),
            _ => None,
        }
    }
}

/// Which of the files that were exported from this place are still ours: their content is that of a pair that is held
/// there now or was before.
pub fn exported(store: &Store, disk: &dyn Disk, slot: &Slot) -> Result<Vec<String>, Trouble> {
    let bundles: Vec<Bundle> = store.pairs(disk, slot)?.into_iter().map(|(_, bundle)| bundle).collect();
    Ok(ours(disk, store.exported(slot), &bundles).into_iter().cloned().collect())
}

fn ours<'a>(disk: &dyn Disk, paths: &'a [String], bundles: &[Bundle]) -> Vec<&'a String> {
    let ours = |bytes: &[u8]| bundles.iter().any(|bundle| export::is_of(bytes, bundle));
    let is_ours = |path: &&String| matches!(read(disk, Path::new(path)), Some(bytes) if ours(&bytes));
    paths.iter().filter(is_ours).collect()
}

fn whole(export: &Export, name: &str) -> String {
    export.dir.join(name).to_string_lossy().into_owned()
}

fn access(export: &Export, file: &PemFile) -> Access {
    let mode = if file.secret { export.mode } else { Access::PUBLIC.mode };
    Access { mode, owner: export.owner, group: export.group }
}

/// There may be a key in it.
fn read(disk: &dyn Disk, path: &Path) -> Option<Secret> {
    disk.read(path).ok()?.map(Secret::from)
}

fn is_there(disk: &dyn Disk, path: &str, file: &PemFile, access: Access) -> bool {
    let path = Path::new(path);
    let same = matches!(read(disk, path), Some(bytes) if *bytes == *file.text.as_bytes());
    same && matches!(disk.access(path), Ok(Some(found)) if access.is_met_by(found))
}
