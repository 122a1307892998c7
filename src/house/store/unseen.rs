//! Records that could not be read when the store was opened: they are not there, but their places are not free.

use super::{Newest, Side, Store};
use crate::doors::disk::Disk;
use crate::rules::record;
use crate::words::cert::{Account, Slot};
use crate::words::fault::Trouble;
use crate::words::secret::Secret;

impl Store {
    /// The account there, if it has come since the store was opened. One that can't be read is not taken for none: another
    /// one would be made in its place.
    pub fn find_account(&mut self, disk: &dyn Disk, place: &str) -> Result<Option<Account>, Trouble> {
        let stem = record::file_stem(place);
        let mut found: Option<(Newest, Account)> = None;
        for side in [Side::Zero, Side::One] {
            let Some(bytes) = disk.read(&self.account_path(&stem, side))?.map(Secret::from) else { continue };
            let Ok((sequence, account)) = record::decode_account(&bytes) else { continue };
            if account.place() == place && found.as_ref().is_none_or(|(newest, _)| newest.sequence < sequence) {
                found = Some((Newest { side, sequence }, account));
            }
        }
        Ok(found.map(|(newest, account)| {
            self.accounts.insert(stem, newest);
            account
        }))
    }

    /// The newest of the records that could not be read when the store was opened. One that still can't may have any number,
    /// and is not to win against what comes now.
    pub(super) fn unseen(&self, disk: &dyn Disk, slot: &Slot) -> Option<Newest> {
        let mut newest: Option<Newest> = None;
        for side in [Side::Zero, Side::One] {
            let sequence = match disk.read(&self.cert_path(slot, side)).map(|bytes| bytes.map(Secret::from)) {
                Ok(None) => continue,
                Ok(Some(bytes)) => record::decode_cert(&bytes).map_or(0, |(sequence, ..)| sequence),
                Err(_) => u32::MAX / 2,
            };
            if newest.is_none_or(|newest| newest.sequence <= sequence) {
                newest = Some(Newest { side, sequence });
            }
        }
        newest
    }
}
