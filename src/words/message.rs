//! What MDMessageCmd is told of an MD, and when it was told what.

use crate::words::cert::{Backoff, Fingerprint};
use crate::words::sorted::Map;
use crate::words::time::Unix;
use serde::{Deserialize, Serialize};

/// What an event is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Topic {
    /// An order is about to begin.
    Renewing,
    /// An answer to a challenge is in place.
    ChallengeSetup,
    Renewed,
    /// Committed and exported.
    Installed,
    /// In its warn window.
    Expiring,
    /// A try has failed.
    Errored,
    /// There is a newer OCSP response.
    OcspRenewed,
    /// There is none.
    OcspErrored,
}

impl Topic {
    /// The event's word as the command hears it.
    pub fn word(self) -> &'static str {
        // An entry's word is this one with a few letters before it.
        self.entry().trim_start_matches("message-")
    }

    /// The word under which an MD's log has it.
    pub fn entry(self) -> &'static str {
        match self {
            Self::Renewing => "message-renewing",
            Self::ChallengeSetup => "message-challenge-setup",
            Self::Renewed => "message-renewed",
            Self::Installed => "message-installed",
            Self::Expiring => "message-expiring",
            Self::Errored => "message-errored",
            Self::OcspRenewed => "message-ocsp-renewed",
            Self::OcspErrored => "message-ocsp-errored",
        }
    }
}

/// What was said of one MD.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Said {
    /// When each was said last.
    pub last: Map<Topic, Unix>,
    /// A warning that is owed because the command did not take it.
    pub warning: Backoff,
    /// The MD that `warning` speaks of, as it was configured then; for any other one it counts as never tried.
    pub fingerprint: Fingerprint,
}

impl Said {
    /// What came of warning of the MD with this fingerprint.
    pub fn warning_for(&self, fingerprint: Fingerprint) -> Backoff {
        if self.fingerprint == fingerprint { self.warning.clone() } else { Backoff::default() }
    }
}
