//! What was tried and told, in its two places: in flash what must outlive a reboot, in the state file all of it, with what
//! was said of each MD.

use crate::doors::disk::{Access, Disk};
use crate::house::store::Store;
use crate::house::store::reader::Reader;
use crate::rules::acme::proving::SETUP_FAILURE;
use crate::rules::record::{self, State};
use crate::words::cert::{Backoff, Held, Slot, Tried};
use crate::words::fault::{Failure, Trouble};
use crate::words::message::Said;
use crate::words::name::Name;
use crate::words::sorted::Map;

impl Store {
    /// Writes to each of the two places only what belongs there and is not there yet.
    pub fn put_tried(&mut self, disk: &mut dyn Disk, slot: &Slot, tried: &Tried) -> Result<(), Trouble> {
        let flash = self.put_flash(disk, slot, tried);
        let state = self.put_state(disk, &[(slot, tried)]);
        flash.and(state)
    }

    /// What was said of an MD is worth no flash.
    pub fn put_said(&mut self, disk: &mut dyn Disk, md: &Name, said: &Said) -> Result<(), Trouble> {
        if self.state.said.get(md) == Some(said) {
            return Ok(());
        }
        let mut state = self.state.clone();
        state.said.insert(md.clone(), said.clone());
        self.write_state(disk, state)
    }

    /// All of these in one go, as far as they are worth no flash.
    pub fn put_state(&mut self, disk: &mut dyn Disk, rows: &[(&Slot, &Tried)]) -> Result<(), Trouble> {
        let mut changed = None;
        for (slot, tried) in rows {
            // What flash says as well needs no line there: of a thousand MDs that are well it knows what the CA advises.
            let in_flash = self.flash.get(slot).map(telling).unwrap_or_default();
            let wanted = Some(telling(tried)).filter(|tried| *tried != in_flash);
            let there = (self.state.tried.get(slot), self.state.advice.get(slot));
            if there == (wanted.as_ref(), tried.advice.as_ref()) {
                continue;
            }
            let state = changed.get_or_insert_with(|| self.state.clone());
            match wanted {
                Some(tried) => _ = state.tried.insert((*slot).clone(), tried),
                None => _ = state.tried.remove(slot),
            }
            match &tried.advice {
                Some(advice) => _ = state.advice.insert((*slot).clone(), advice.clone()),
                None => _ = state.advice.remove(slot),
            }
        }
        changed.map_or(Ok(()), |state| self.write_state(disk, state))
    }

    pub(super) fn put_flash(&mut self, disk: &mut dyn Disk, slot: &Slot, tried: &Tried) -> Result<(), Trouble> {
        if self.only_read {
            return Ok(());
        }
        let there = self.flash.get(slot).cloned().unwrap_or_default();
        let lasting = lasting(tried, &there);
        if lasting != there {
            disk.replace(&self.tried_path(slot), &record::encode_tried(&lasting), disk.private_in(&self.root))?;
            self.flash.insert(slot.clone(), lasting);
        }
        Ok(())
    }

    pub(super) fn forget_state(&mut self, disk: &mut dyn Disk, slot: &Slot) -> Result<(), Trouble> {
        let mut state = self.state.clone();
        match (state.tried.remove(slot), state.advice.remove(slot)) {
            (None, None) => Ok(()),
            _ => self.write_state(disk, state),
        }
    }

    pub(super) fn load_state(&mut self, reader: &mut Reader<'_>) {
        let Some(path) = &self.state_path else { return };
        // The folder may be one that is shared with others: only our own leftover is looked for.
        reader.disk.sweep(path);
        self.state = reader.record(path, record::decode_state).unwrap_or_default();
    }

    /// That something was told is believed of flash alone (of the state file where flash is another's), so that nothing is
    /// told too seldom; all else is newer in the state file.
    pub(super) fn merge(&self, certs: &Map<Slot, Vec<Held>>) -> Map<Slot, Tried> {
        let mut all = self.flash.clone();
        all.extend(self.state.tried.iter().map(|(slot, tried)| (slot.clone(), tried.clone())));
        for (slot, tried) in all.iter_mut() {
            let there = if self.only_read { self.state.tried.get(slot) } else { self.flash.get(slot) };
            tried.told = there.and_then(|there| there.told);
            tried.revoked = there.and_then(|there| there.revoked);
            tried.exported = there.map(|there| there.exported.clone()).unwrap_or_default();
            // A success forgives, but its record does not say so: that would be a third file for a renewal.
            let since = certs.get(slot).and_then(|held| held.first()).map(|newest| newest.since);
            if tried.order.last_at.is_some_and(|at| Some(at) < since) {
                tried.order = Backoff::default();
            }
        }
        for (slot, advice) in self.state.advice.iter() {
            all.or_default(slot.clone()).advice = Some(advice.clone());
        }
        all
    }

    fn write_state(&mut self, disk: &mut dyn Disk, state: State) -> Result<(), Trouble> {
        let Some(path) = &self.state_path else { return Ok(()) };
        if let Some(dir) = path.parent() {
            // The control socket stands beside it, and a group may go there.
            disk.make_dirs(dir, Access::OPEN_FOLDER)?;
        }
        let access = path.parent().map_or(Access::PRIVATE, |dir| disk.private_in(dir));
        disk.replace(path, &record::encode_state(&state), access)?;
        self.state = state;
        Ok(())
    }
}

/// What there is to tell of a want: which one it was is of no interest where nothing has failed.
fn telling(tried: &Tried) -> Tried {
    let well = tried.order == Backoff::default() && tried.tell == Backoff::default();
    Tried { fingerprint: if well { Default::default() } else { tried.fingerprint }, advice: None, ..tried.clone() }
}

/// What flash shall hold, given what it holds. Losing the net or a script is no reason to wear it; nor is it that
/// something is forgiven or owed again, which can wait for the next real news.
fn lasting(tried: &Tried, there: &Tried) -> Tried {
    let (imposed, exported) = (tried.imposed.clone(), tried.exported.clone());
    let mut lasting = Tried { told: tried.told, imposed, exported, revoked: tried.revoked, ..Tried::default() };
    let mut news = (lasting.told, &lasting.exported, lasting.revoked) != (there.told, &there.exported, there.revoked);
    news |= lasting.imposed.iter().any(|imposed| !there.imposed.contains(imposed));
    let source = match &tried.order.last {
        Some(Failure::Refusal(refusal)) if refusal.problem != SETUP_FAILURE => {
            news |= (tried.fingerprint, &tried.order) != (there.fingerprint, &there.order);
            tried
        }
        Some(_) => there,
        None => &lasting,
    };
    (lasting.fingerprint, lasting.order) = (source.fingerprint, source.order.clone());
    if news { lasting } else { there.clone() }
}
