//! Pruning: what is kept for nobody is listed, and removed if that is asked for. Record after record, each with what was
//! exported from it before it, so that a power cut leaves whole ones.

use crate::doors::disk::{Disk, Op};
use crate::house::exports;
use crate::house::keeper::Keeper;
use crate::house::store::Store;
use crate::words::cert::{Account, Slot};
use crate::words::config::Config;
use crate::words::fault::Trouble;
use std::path::{Path, PathBuf};

/// Why nothing is done where another daemon writes the store: what it is kept for is written in that one's configuration.
pub const ONLY_READ: &str = "the store is only read here (MDStoreLocks off); do it where the store is written";

/// What came of it.
#[derive(Default)]
pub struct Pruned {
    pub lines: Vec<String>,
    pub failed: bool,
    places: Vec<Slot>,
    accounts: Vec<String>,
}

/// Something that is kept for nobody.
struct Leftover {
    what: String,
    files: Vec<PathBuf>,
    thing: Thing,
}

enum Thing {
    /// A place, and which of its exported files are still ours.
    Place(Slot, Vec<PathBuf>),
    /// By its place.
    Account(String),
    SetAside,
}

/// Lists what no MD of the configuration has a use for; removes it if `yes`.
pub fn prune<'a>(
    store: &mut Store,
    disk: &mut dyn Disk,
    config: &Config,
    accounts: impl Iterator<Item = &'a Account>,
    yes: bool,
) -> Pruned {
    let mut pruned = Pruned::default();
    let mut leftovers: Vec<Leftover> = vec![];
    for slot in store.places().into_iter().filter(|slot| !config.asks_for(slot)) {
        match place(store, disk, &slot) {
            Ok(leftover) => leftovers.push(leftover),
            Err(trouble) => pruned.fail(format!("{slot}: {trouble}")),
        }
    }
    let orphans = accounts.filter(|account| !config.mds.iter().any(|md| md.uses(account)));
    leftovers.extend(orphans.map(|account| self::account(store, disk, account)));
    leftovers.extend(store.set_aside(disk).into_iter().map(|path| Leftover {
        what: "a damaged file that was set aside".into(),
        files: vec![path],
        thing: Thing::SetAside,
    }));
    if leftovers.is_empty() {
        pruned.lines.push("there is nothing to prune".into());
        return pruned;
    }
    for leftover in leftovers {
        let removed = if yes { remove(store, disk, &leftover) } else { Ok(()) };
        let files = leftover.files.iter().map(|path| format!("    {}", path.display()));
        let what = leftover.what;
        match removed {
            Ok(()) => pruned.lines.push(if yes { format!("removed: {what}") } else { what }),
            Err(trouble) => pruned.fail(format!("not removed: {what}: {trouble}")),
        }
        pruned.lines.extend(files);
        if yes {
            match leftover.thing {
                Thing::Place(slot, _) => pruned.places.push(slot),
                Thing::Account(place) => pruned.accounts.push(place),
                Thing::SetAside => {}
            }
        }
    }
    if !yes {
        pruned.lines.push("nothing was removed; `edgemd prune --yes` removes these files".into());
    }
    pruned
}

impl Pruned {
    fn fail(&mut self, line: String) {
        self.lines.push(line);
        self.failed = true;
    }
}

fn place(store: &Store, disk: &dyn Disk, slot: &Slot) -> Result<Leftover, Trouble> {
    let exported: Vec<PathBuf> = exports::exported(store, disk, slot)?.into_iter().map(PathBuf::from).collect();
    let until = match store.pairs(disk, slot)?.first() {
        Some((held, _)) => format!("the certificate until {}", held.not_after),
        None => "what was tried".into(),
    };
    let files = store.files(disk, slot).into_iter().chain(exported.iter().cloned()).collect();
    let what = format!("{slot}: {until}, which is no longer configured");
    Ok(Leftover { what, files, thing: Thing::Place(slot.clone(), exported) })
}

fn account(store: &Store, disk: &dyn Disk, account: &Account) -> Leftover {
    let url = account.url.as_deref().unwrap_or("its URL was never learnt");
    let what = format!("the account at {} ({url}), which no MD uses; the CA keeps its side of it", account.ca);
    let files = store.account_files(disk, &account.place());
    Leftover { what, files, thing: Thing::Account(account.place()) }
}

fn remove(store: &mut Store, disk: &mut dyn Disk, leftover: &Leftover) -> Result<(), Trouble> {
    match &leftover.thing {
        Thing::Place(slot, exported) => {
            for path in exported {
                disk.remove(path)?;
                // The folder that a layout made for the MD alone.
                if let Some(dir) = path.parent().filter(|dir| dir.ends_with(slot.md.as_str())) {
                    disk.act(Op::RemoveDir(dir))?;
                }
            }
            store.remove(disk, slot)
        }
        Thing::Account(place) => store.remove_account(disk, place),
        Thing::SetAside => leftover.files.iter().try_for_each(|path| {
            disk.remove(path)?;
            disk.act(Op::RemoveDir(path.parent().unwrap_or(Path::new(""))))
        }),
    }
}

impl Keeper<'_> {
    /// The same on what the daemon knows.
    pub(super) fn prune(&mut self, yes: bool) -> (Vec<String>, bool) {
        if self.config.only_reads() {
            return (vec![ONLY_READ.into()], false);
        }
        let accounts = self.lives.accounts();
        let pruned = prune(&mut self.store, self.doors.disk, &self.config, accounts, yes);
        if yes {
            pruned.lines.iter().for_each(|line| log::info!("{}", line.trim_start()));
        }
        self.lives.forget(&pruned.places, &pruned.accounts);
        self.look_again();
        (pruned.lines, !pruned.failed)
    }
}
