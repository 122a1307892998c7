//! What people have to publish in DNS for dns-persist-01, as far as it is known.

use super::{Lives, places};
use crate::rules::acme::proving::reaches_below;
use crate::rules::txt::Txt;
use crate::words::config::Md;

impl Lives {
    /// The CA that this MD is to ask next.
    pub fn next_ca(&self, md: &Md) -> String {
        let slot = places(md).find_map(|slot| self.ca(&slot));
        slot.or(md.cas.first().map(String::as_str)).unwrap_or_default().into()
    }

    /// Whether this CA has said what it is called, and what the account is called that this MD has there.
    pub fn is_learnt(&self, ca: &str, md: &Md) -> bool {
        let account = self.account(&md.account_at(ca));
        self.issuers.contains_key(ca) && account.is_some_and(|account| account.url.is_some())
    }

    /// What this CA is called in DNS; what it said in an order counts.
    pub fn learn(&mut self, ca: &str, issuer: Option<&str>) {
        let known = self.issuers.or_default(ca.into());
        *known = issuer.map(String::from).or(known.take());
        self.touched.extend(self.order.iter().cloned());
    }

    /// The records that an MD needs for dns-persist-01, each once, as far as they are known.
    pub fn records(&self, md: &Md) -> Vec<String> {
        let ca = self.next_ca(md);
        let account = self.account(&md.account_at(&ca)).and_then(|account| account.url.as_deref());
        let (Some(account), Some(Some(issuer))) = (account, self.issuers.get(&ca)) else { return vec![] };
        let mut records: Vec<String> = vec![];
        for name in &md.names {
            let record = Txt::persist(name, issuer, account, reaches_below(name, &md.names));
            let record = record.map(|record| record.to_string());
            records.extend(record.filter(|record| !records.contains(record)));
        }
        records
    }
}
