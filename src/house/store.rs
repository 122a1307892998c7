//! Which record lives under which path: loads all, puts one.

use crate::doors::disk::Disk;
use crate::words::cert::{Account, Bundle, Held, Slot, Tried};
use crate::words::fault::Trouble;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub struct Store {
    root: PathBuf,
    state_path: Option<PathBuf>,
}

/// What stood in the store when it was opened.
#[derive(Default, Debug)]
pub struct Loaded {
    pub certs: BTreeMap<Slot, Held>,
    pub tried: BTreeMap<Slot, Tried>,
    /// By the CA's directory URL.
    pub accounts: BTreeMap<String, Account>,
    /// A sentence for each file that could not be used.
    pub set_aside: Vec<String>,
}

impl Store {
    /// Loads all that decodes; only a store that can't be looked into at all is trouble.
    pub fn open(root: &Path, state: Option<&Path>, disk: &mut dyn Disk) -> Result<(Store, Loaded), Trouble> {
        let _ = disk;
        Ok((Store { root: root.into(), state_path: state.map(Into::into) }, Loaded::default()))
    }

    /// Key and chain of what is held there.
    pub fn read_bundle(&self, disk: &dyn Disk, slot: &Slot) -> Result<Option<Bundle>, Trouble> {
        let _ = (&self.root, &self.state_path, disk, slot);
        Ok(None)
    }

    /// The one commit point of a certificate.
    pub fn put_cert(&mut self, disk: &mut dyn Disk, slot: &Slot, held: &Held, bundle: &Bundle) -> Result<(), Trouble> {
        let _ = (disk, slot, held, bundle);
        Ok(())
    }

    pub fn put_tried(&mut self, disk: &mut dyn Disk, slot: &Slot, tried: &Tried) -> Result<(), Trouble> {
        let _ = (disk, slot, tried);
        Ok(())
    }

    pub fn put_account(&mut self, disk: &mut dyn Disk, account: &Account) -> Result<(), Trouble> {
        let _ = (disk, account);
        Ok(())
    }
}
