//! What is done in the store with no daemon to do it: under the lock, in one go.

use crate::doors::clock;
use crate::doors::disk::{Disk, SystemDisk};
use crate::house::boot::unlock;
use crate::house::import::{self, Imported};
use crate::house::preview::Glass;
use crate::house::prune::{self, Pruned};
use crate::house::store::Store;
use crate::rules::plan;
use crate::words::config::Config;
use crate::words::fault::Trouble;
use crate::words::time::Span;
use std::path::Path;

/// Tidies up the store.
pub fn prune(config: &Config, yes: bool) -> Result<Pruned, Trouble> {
    let mut disk = SystemDisk;
    let (_lock, mut store, loaded) = unlock(&written_here(config, "pruning")?, &mut disk)?;
    Ok(prune::prune(&mut store, &mut disk, config, loaded.accounts.values(), yes))
}

/// Takes over what another client has in this folder; `dry` only says what would be.
pub fn import(config: &Config, dir: &Path, dry: bool) -> Result<Imported, Trouble> {
    let config = written_here(config, "importing")?;
    let mut disk = SystemDisk;
    let mut glass = Glass(disk);
    let (lock, mut store, loaded) = match dry {
        true => Store::open(&config.store, None, &mut glass).map(|(store, loaded)| (None, store, loaded))?,
        false => unlock(&config, &mut disk)?,
    };
    let now = plan::believe(clock::wall(), plan::floor(loaded.certs.values().flatten()));
    let now = now.ok_or_else(|| Trouble::new("importing", "the clock can't be believed; set it first"))?;
    let (disk, done): (&mut dyn Disk, _) = if dry { (&mut glass, "to be imported") } else { (&mut disk, "imported") };
    let imported = import::import(&mut store, &loaded, disk, &config, (dir, now, done));
    drop(lock);
    Ok(imported)
}

/// The configuration for a moment in which the store is ours. Whoever asks is there to end the daemon that has it, so there
/// is no waiting for that.
fn written_here(config: &Config, doing: &str) -> Result<Config, Trouble> {
    if config.only_reads() {
        return Err(Trouble::new(doing, prune::ONLY_READ));
    }
    Ok(Config { locks: Some(Span::ZERO), ..config.clone() })
}
