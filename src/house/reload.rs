//! Another configuration, and what another daemon has written: what becomes of all that is held and under way.

use crate::house::keeper::Keeper;
use crate::words::config::Config;

impl Keeper<'_> {
    /// A changed configuration: orders for wants that are no more are dropped, everything else goes on.
    pub(super) fn reload(&mut self, config: Config) {
        let changes_hands = config.only_reads() != self.config.only_reads();
        self.lives.rewant(&config);
        self.config = config;
        if changes_hands {
            self.reread();
        }
        self.drop_stale();
        self.inherit();
        self.look_at_own();
        self.look_at_exports();
        self.look_again();
        self.post_all();
        let lives = &self.lives;
        self.shelved.retain(|name, _| lives.md(name).is_some());
        self.shelve(&self.lives.names());
    }

    /// An MD whose first name was removed or changed goes on with what it had; where another daemon writes the store, that
    /// one sees to it.
    pub(super) fn inherit(&mut self) {
        if self.config.only_reads() {
            return;
        }
        for (new, old) in self.lives.heirs() {
            match self.store.rename(self.doors.disk, &old, &new) {
                Ok(()) => {
                    log::info!("{}: goes on with the certificate of {}, which is no longer configured", new.md, old.md);
                    self.lives.inherit(&new, &old, None);
                    self.save_tried(&new);
                }
                Err(trouble) => {
                    log::error!("{}: can't take over the certificate of {} yet: {trouble}", new.md, old.md);
                    // It is used from memory, and moved when the store can be written; it is no reason to order.
                    let held = self.lives.newest(&old);
                    let bundle = held.map(|held| self.store.read_bundle(self.doors.disk, &old, &held.sha256));
                    if let Some(Ok(Some(bundle))) = bundle {
                        self.lives.inherit(&new, &old, Some((bundle, trouble)));
                        self.save_later();
                    }
                }
            }
        }
    }

    /// What the store holds now that somebody else may have written it.
    pub(super) fn reread(&mut self) {
        match self.store.again(self.doors.disk, self.config.only_reads()) {
            Ok((store, loaded)) => {
                for line in &loaded.set_aside {
                    log::error!("{line}");
                }
                self.store = store;
                for line in self.lives.found(loaded) {
                    log::info!("{line}");
                }
            }
            Err(trouble) => log::error!("what is new in the store is not seen: {trouble}"),
        }
    }
}
