//! Telling: the exports are written, then the operator's command is run. It is owed until both are done.

use crate::doors::script::Event;
use crate::house::keeper::Keeper;
use crate::rules::export;
use crate::words::cert::{Outcome, Slot, Step};
use crate::words::config::Md;
use crate::words::fault::Trouble;
use crate::words::name::Name;
use crate::words::time::Unix;
use std::collections::BTreeSet;

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
                        let exported = self.clear_exports(&md, slot);
                        if let Some(sha256) = self.lives.held(slot).map(|held| held.sha256) {
                            self.succeeded(slot, &Outcome::Told { sha256, exported });
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
            self.export(md, slot)?;
        }
        let Some(argv) = &md.notify else { return Ok(()) };
        let mut argv = argv.clone();
        argv.push(md.name.to_string());
        self.doors.script.run(&Event { argv, env: environment(md, "renewed"), limit: md.hook_limit })
    }
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
        let paths = export::paths(export.layout, &md.name);
        let whole = |name: &str| export.dir.join(name).to_string_lossy().into_owned();
        env.push(("EDGEMD_CERT", whole(&paths.cert)));
        env.push(("EDGEMD_KEY", whole(&paths.key)));
        env.push(("EDGEMD_FULLCHAIN", whole(&paths.fullchain)));
    }
    env
}
