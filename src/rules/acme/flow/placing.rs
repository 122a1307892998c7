//! Placing the order: with what it is wished for, and once more without it where the CA does not want to hear of it.

use super::{Flow, Next, Stage, text};
use crate::rules::acme::problem::is;
use crate::rules::acme::turns::Turn;
use crate::rules::acme::types::{Identifier, NewOrder};
use crate::rules::tame::tame;
use crate::rules::x509::requested;
use crate::words::fault::{ACME_ERROR, Refusal};
use serde_json::Value;

impl Flow {
    /// A profile is only asked for where the directory lists it.
    pub(super) fn choose_profile(&mut self) -> Result<(), Refusal> {
        let Some(wish) = &self.brief.profile else { return Ok(()) };
        let offered = self.directory.meta.as_ref().and_then(|meta| meta.profiles.as_ref()).and_then(Value::as_object);
        if offered.is_some_and(|offered| offered.contains_key(wish)) {
            self.profile = Some(wish.clone());
            return Ok(());
        }
        let offered: Vec<&str> = offered.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        let offered = if offered.is_empty() { "none".into() } else { tame(&offered.join(", ")) };
        let why = format!("the CA does not offer the profile \"{wish}\" (MDProfile); it offers {offered}");
        if self.brief.profile_mandatory {
            return Err(Refusal::ours("creating new order", &format!("{ACME_ERROR}{NO_PROFILE}"), why));
        }
        self.spurned = Some(why);
        Ok(())
    }

    pub(super) fn new_order(&mut self) -> Next {
        if self.brief.names.is_empty() {
            self.stage = Stage::Over;
            let issuers = self.directory.meta.as_ref().and_then(|meta| meta.caa_identities.clone());
            return Ok(Turn::Known(issuers.unwrap_or_default()));
        }
        let identifiers = requested(&self.brief.names).into_iter().map(|name| Identifier {
            kind: if name.ip().is_some() { "ip" } else { "dns" }.into(),
            value: name.as_str().into(),
        });
        let identifiers = identifiers.collect();
        // A CA without renewal windows does not know what this is (RFC 9773 §5).
        self.brief.replaces.take_if(|_| self.directory.renewal_info.is_none());
        let (profile, replaces) = (self.profile.as_deref(), self.brief.replaces.as_deref());
        let payload = text(&NewOrder { identifiers, profile, replaces });
        self.post(Stage::NewOrder, self.directory.new_order.clone(), payload)
    }

    /// What was refused may have been the wish, and not the order.
    pub(super) fn refused_order(&mut self, no: Refusal) -> Next {
        let about_replaces = matches!(no.status, Some(404 | 409)) || REPLACED.iter().any(|short| is(&no, short));
        if about_replaces && self.brief.replaces.take().is_some() {
            return self.new_order();
        }
        if is(&no, NO_PROFILE) && !self.brief.profile_mandatory && self.profile.take().is_some() {
            self.spurned = Some(no.to_string());
            return self.new_order();
        }
        self.doubt_account(no)
    }
}

/// By what a CA refuses to replace a certificate: it was replaced already (RFC 9773 §5; boulder once had another word), it
/// is not known, shares no name, or is another account's; or, as Pebble says of one that it has issued this moment, is not
/// filed yet.
const REPLACED: [&str; 5] = ["alreadyReplaced", "conflict", "malformed", "serverInternal", "unauthorized"];

const NO_PROFILE: &str = "invalidProfile";
