//! The end of an order: the CA's chain, or the one of its others that the operator prefers (RFC 8555 §7.4.2).

use super::{Flow, Next, Stage};
use crate::rules::acme::asking::is_success;
use crate::rules::acme::headers::links;
use crate::rules::acme::turns::{Granted, Turn};
use crate::rules::acme::types::Reply;
use crate::rules::pem::decode_chain;
use crate::rules::x509::{linked, pleases};
use crate::words::config::Chain;
use crate::words::fault::Refusal;

/// No CA has more.
const MOST_CHAINS: usize = 8;

impl Flow {
    pub(super) fn read_certificate(&mut self, doing: &str, reply: &Reply) -> Next {
        self.chain = decode_chain(&reply.body).map_err(|why| Refusal::ours(doing, "bad-certificate", why))?;
        if self.brief.chain.as_ref().is_some_and(|wish| !pleases(&self.chain, wish)) {
            self.alternates = links(&reply.links, "alternate").into_iter().take(MOST_CHAINS).map(Into::into).collect();
        }
        Ok(self.next_chain())
    }

    /// What can't be had or read is passed over: what was issued is not lost for a wish.
    pub(super) fn read_alternate(&mut self, reply: Option<&Reply>) -> Turn {
        let reply = reply.filter(|reply| is_success(reply.status));
        let chain = reply.and_then(|reply| decode_chain(&reply.body).ok()).unwrap_or_default();
        let is_preferred = match &self.brief.chain {
            Some(Chain::Shortest) => chain.len() < self.chain.len(),
            Some(wish) => pleases(&chain, wish),
            None => false,
        };
        if is_preferred && chain.first() == self.chain.first() && linked(&chain).is_ok() {
            if self.brief.chain != Some(Chain::Shortest) {
                self.alternates.clear();
            }
            self.chain = chain;
        }
        self.next_chain()
    }

    fn next_chain(&mut self) -> Turn {
        while let Some(url) = self.alternates.pop_front() {
            if let Ok(turn) = self.post(Stage::Alternate, url, String::new()) {
                return turn;
            }
        }
        self.stage = Stage::Over;
        let (chain, profile, spurned) = (core::mem::take(&mut self.chain), self.profile.take(), self.spurned.take());
        Turn::Done(Granted { chain, profile, spurned, renewal_info: self.directory.renewal_info.take() })
    }
}
