//! A report as the keeper posts it, of an MD that has one certificate and no trouble.

use edgemd::words::board::{CertReport, Report};
use edgemd::words::cert::Held;
use edgemd::words::config::Md;
use std::sync::Arc;

/// What the keeper would have put on the board.
pub fn report(md: &Md, held: Option<Held>) -> Report {
    Report::sample(Arc::new(md.clone()), vec![CertReport::sample(held)])
}
