//! What can go wrong, by whose doing: the operator's text ([`Fault`]), the CA's no ([`Refusal`]), the world ([`Trouble`]).

use crate::words::time::Span;
use core::fmt;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A place in the operator's text; lines and columns count from 1.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    pub file: Arc<str>,
    pub line: u32,
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Something in the operator's text that can't be done: where it stands, and why.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Fault {
    pub place: Place,
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.why)
    }
}

/// The CA said no, or what it said can't be used. `problem` is the type of RFC 8555 §6.7, or one of our own words where
/// we came to the conclusion ourselves (`challenge-mismatch`, `bad-certificate`).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Refusal {
    pub doing: String,
    pub problem: String,
    pub detail: String,
    pub status: Option<u16>,
    pub subproblems: Vec<Subproblem>,
    /// How long the CA wants to be left alone, from either form of Retry-After.
    pub retry_after: Option<Span>,
}

/// One name's part of a refusal (RFC 8555 §6.7.1).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Subproblem {
    pub problem: String,
    pub detail: String,
    pub name: String,
}

impl Refusal {
    /// A conclusion of our own, without a document from the CA.
    pub fn ours(doing: &str, problem: &str, detail: impl Into<String>) -> Self {
        Self { doing: doing.into(), problem: problem.into(), detail: detail.into(), ..Self::default() }
    }

    /// The last part of the problem's type: `rateLimited`.
    pub fn short(&self) -> &str {
        self.problem.strip_prefix(ACME_ERROR).unwrap_or(&self.problem)
    }
}

/// The name space of problem types in RFC 8555 §6.7.
pub const ACME_ERROR: &str = "urn:ietf:params:acme:error:";

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.doing, self.short(), self.detail)?;
        for sub in &self.subproblems {
            let short = sub.problem.strip_prefix(ACME_ERROR).unwrap_or(&sub.problem);
            write!(f, "; {}: {short}: {}", sub.name, sub.detail)?;
        }
        Ok(())
    }
}

/// The world did not do as asked: what we were doing, and what came of it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Trouble {
    pub doing: String,
    pub why: String,
    /// The command that did not do its work, if that is what it was.
    pub hook: Option<Hook>,
}

/// One of the operator's commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Hook {
    Notify,
    Message,
}

impl Hook {
    /// Where mod_md files it.
    pub fn problem(self) -> &'static str {
        match self {
            Self::Notify => "urn:org:apache:httpd:log:AH10108:",
            Self::Message => "urn:org:apache:httpd:log:AH10109:",
        }
    }
}

impl Trouble {
    pub fn new(doing: impl Into<String>, why: impl fmt::Display) -> Self {
        Self { doing: doing.into(), why: why.to_string(), hook: None }
    }

    /// The same, as that of a command's.
    pub fn with(self, hook: Hook) -> Self {
        Self { hook: Some(hook), ..self }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.why)
    }
}

/// Why an errand came back empty-handed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Failure {
    Refusal(Refusal),
    Trouble(Trouble),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refusal(refusal) => refusal.fmt(f),
            Self::Trouble(trouble) => trouble.fmt(f),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}
