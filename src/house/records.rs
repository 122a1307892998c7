//! `edgemd dns`: the records that people have to publish for dns-persist-01. What the CA is called there and what our
//! account is called is learnt from the CA, if no order has done so yet.

use crate::doors::clock::Ended;
use crate::house::errand::{Errand, Task};
use crate::house::inquiries::route;
use crate::house::jobs;
use crate::house::keeper::Keeper;
use crate::house::prune::ONLY_READ;
use crate::rules::acme::flow::{Brief, Flow};
use crate::words::config::{Challenge, Md};
use crate::words::fault::{Failure, Trouble};
use crate::words::name::Name;
use std::sync::Arc;

impl Keeper<'_> {
    /// Says the records of this MD; of all that are proven so, if none is named.
    pub(super) fn show_records(&mut self, name: Option<Name>, ended: Ended) {
        let fits = |md: &&Arc<Md>| name.as_ref().map_or(md.proves_by(Challenge::DnsPersist01), |name| md.name == *name);
        let mds: Vec<Arc<Md>> = self.lives.mds().filter(fits).cloned().collect();
        let mut lines = vec![];
        for md in &mds {
            let ca = self.lives.next_ca(md);
            if !self.lives.is_learnt(&ca, md) {
                return match self.ask_for_records(md, &ca, name, &ended) {
                    Ok(()) => {}
                    Err(why) => jobs::end(&ended, vec![format!("{}: {why}", md.name)], 1),
                };
            }
            let records = self.lives.records(md);
            if records.is_empty() {
                lines.push(format!("{}: what {ca} is called in DNS shows in the first order there", md.name));
            }
            lines.extend(records);
        }
        if mds.is_empty() {
            lines.push(match &name {
                Some(name) => format!("there is no MD \"{name}\""),
                None => "no MD is proven by dns-persist-01 (MDCAChallenges)".into(),
            });
        }
        jobs::end(&ended, lines, u8::from(mds.is_empty() && name.is_some()));
    }

    fn ask_for_records(&mut self, md: &Md, ca: &str, name: Option<Name>, ended: &Ended) -> Result<(), String> {
        if self.config.only_reads() {
            return Err(ONLY_READ.into());
        }
        if self.errands.iter().any(|errand| errand.ca == ca) {
            return Err(format!("the CA {ca} is being talked to just now; ask again when that is over"));
        }
        self.send_learner(md, ca, name, ended).map_err(|trouble| trouble.to_string())
    }

    fn send_learner(&mut self, md: &Md, ca: &str, name: Option<Name>, ended: &Ended) -> Result<(), Trouble> {
        let (facts, key, place) = self.introduce(ca, md)?;
        let line = self.doors.wire.dial(&route(md))?;
        // No names: it ends with the account.
        let flow = Flow::new(Brief { challenges: vec![Challenge::DnsPersist01], ..facts });
        let (task, none) = (Task::Learn { name, ended: ended.clone() }, (self.answers.clone(), None));
        self.errands.push(Errand::new(task, (ca.into(), place), key, Box::new(flow), line, none));
        Ok(())
    }

    /// The CA has said what it is called; or why it does not.
    pub(super) fn learnt(&mut self, ca: &str, came: Result<Vec<String>, Failure>, name: Option<Name>, ended: Ended) {
        match came {
            Ok(issuers) => {
                self.lives.learn(ca, issuers.first().map(String::as_str));
                self.show_records(name, ended);
            }
            Err(failure) => jobs::end(&ended, vec![format!("{ca}: {failure}")], 1),
        }
    }
}
