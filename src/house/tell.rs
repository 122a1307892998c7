//! Telling: the exports are written, then the operator's command is run. It is owed until both are done.

use crate::doors::disk::{Access, Disk};
use crate::doors::script::Event;
use crate::house::keeper::Keeper;
use crate::rules::export::{self, PemFile};
use crate::words::cert::{Outcome, Slot, Step};
use crate::words::config::Md;
use crate::words::fault::Trouble;
use crate::words::name::Name;
use crate::words::time::Unix;
use std::collections::BTreeSet;
use std::path::Path;

impl Keeper<'_> {
    /// Tells of these certificates, MD by MD, each MD once for all of its kinds; one of which another kind is still to
    /// come waits for it.
    pub(super) fn tell(&mut self, slots: Vec<Slot>, now: Option<Unix>) {
        let mds: BTreeSet<Name> = slots.iter().map(|slot| slot.md.clone()).collect();
        for name in mds {
            let Some(md) = self.lives.md(&name).cloned() else { continue };
            let kinds = md.keys.iter().map(|kind| Slot { md: name.clone(), family: kind.family() });
            let coming = |slot: &Slot| self.busy(slot) || matches!(self.lives.step(slot, now), Step::Order { .. });
            if kinds.into_iter().any(|slot| coming(&slot)) {
                continue;
            }
            let owed: Vec<&Slot> = slots.iter().filter(|slot| slot.md == name).collect();
            match self.tell_md(&md, &owed) {
                Ok(()) => {
                    for slot in owed {
                        if let Some(sha256) = self.lives.held(slot).map(|held| held.sha256) {
                            self.succeeded(slot, &Outcome::Told(sha256));
                        }
                    }
                    let outlook = slots.iter().find(|slot| slot.md == name).map(|slot| self.lives.outlook(slot, now));
                    log::info!("{name}: told of it{}", outlook.unwrap_or_default());
                }
                Err(trouble) => {
                    for slot in owed {
                        self.failed(slot, Outcome::TellFailed(trouble.clone()));
                    }
                }
            }
        }
    }

    fn tell_md(&mut self, md: &Md, slots: &[&Slot]) -> Result<(), Trouble> {
        for slot in slots {
            for (path, file) in self.files(md, slot)? {
                // A script may fail for days; the flash under the exports is not to pay for that.
                if !differs(self.doors.disk, &path, &file) {
                    continue;
                }
                let path = Path::new(&path);
                if let Some(dir) = path.parent() {
                    self.doors.disk.make_dirs(dir, Access::OPEN_FOLDER)?;
                }
                let access = if file.secret { Access::PRIVATE } else { Access::PUBLIC };
                self.doors.disk.replace(path, file.text.as_bytes(), access)?;
            }
        }
        let Some(argv) = &md.notify else { return Ok(()) };
        let mut argv = argv.clone();
        argv.push(md.name.to_string());
        self.doors.script.run(&Event { argv, env: environment(md, "renewed"), limit: md.hook_limit })
    }

    /// The files of one certificate's export, each with its path.
    fn files(&mut self, md: &Md, slot: &Slot) -> Result<Vec<(String, PemFile)>, Trouble> {
        let Some(export) = &md.export else { return Ok(vec![]) };
        let unsaved = self.lives.life(slot).and_then(|life| life.unsaved.as_ref().map(|(bundle, _)| bundle.clone()));
        let bundle = match unsaved {
            Some(bundle) => bundle,
            None => match self.store.read_bundle(self.doors.disk, slot)? {
                Some(bundle) => bundle,
                None => return Err(Trouble::new("exporting", "the record is no longer in the store")),
            },
        };
        let first = md.keys.first().map(|kind| kind.family());
        let extra = md.keys.iter().find(|kind| kind.family() == slot.family && first != Some(slot.family)).copied();
        let files = export::files(export.layout, &md.name, extra, &bundle);
        Ok(files.into_iter().map(|file| (export.dir.join(&file.name).to_string_lossy().into_owned(), file)).collect())
    }

    /// Exports that are missing or differ are owed again: after a boot where their folder is in memory, after a change
    /// of place or layout.
    pub(super) fn owe_missing_exports(&mut self) {
        for slot in self.lives.wanted() {
            let Some(md) = self.lives.md(&slot.md).cloned() else { continue };
            if self.lives.held(&slot).is_none() {
                continue;
            }
            let differs = match self.files(&md, &slot) {
                Ok(files) => files.iter().any(|(path, file)| differs(self.doors.disk, path, file)),
                Err(_) => true,
            };
            if differs {
                self.lives.owe(&slot);
            }
        }
    }
}

fn differs(disk: &dyn Disk, path: &str, file: &PemFile) -> bool {
    !matches!(disk.read(Path::new(path)), Ok(Some(bytes)) if bytes == file.text.as_bytes())
}

/// What a hook finds in its environment: paths and names, never a secret.
fn environment(md: &Md, event: &str) -> Vec<(&'static str, String)> {
    let names: Vec<&str> = md.names.iter().map(Name::as_str).collect();
    let mut env = vec![
        ("EDGEMD_EVENT", event.to_string()),
        ("EDGEMD_MD", md.name.to_string()),
        ("EDGEMD_NAMES", names.join(" ")),
    ];
    if let Some(export) = &md.export {
        let path = |ending: &str| export.dir.join(format!("{}.{ending}", md.name)).to_string_lossy().into_owned();
        env.push(("EDGEMD_CERT", path("crt")));
        env.push(("EDGEMD_FULLCHAIN", path("crt")));
        env.push(("EDGEMD_KEY", path("key")));
    }
    env
}
