//! What is asked of port 80, and what follows from it: a challenge's answer, the back end, or 404.

use crate::words::config::Config;

/// What counts on port 80, precomputed from the configuration.
pub struct Facade {}

impl Facade {
    pub fn new(config: &Config) -> Self {
        let _ = config;
        Self {}
    }
}
