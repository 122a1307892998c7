//! The way to a CA: one connection for each errand, by a blocking client.

use crate::rules::acme::types::{Reply, Request};
use crate::words::fault::Trouble;
use std::path::PathBuf;

/// How a CA is reached.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Route {
    /// Trust roots (PEM); `None` is the built-in ones.
    pub roots: Option<PathBuf>,
    pub proxy: Option<String>,
}

pub trait Wire {
    /// Prepares a line; nothing is sent before its first call.
    fn dial(&mut self, route: &Route) -> Result<Box<dyn Line>, Trouble>;
}

/// One errand's connection, closed when it is dropped.
pub trait Line: Send {
    fn call(&mut self, request: &Request) -> Result<Reply, Trouble>;
}
