//! A report as the keeper posts it, of an MD that has one certificate and no trouble.

use edgemd::words::board::{CertReport, Diary, Report};
use edgemd::words::cert::{Backoff, Held};
use edgemd::words::config::Md;
use std::sync::Arc;

/// What the keeper would have put on the board.
pub fn report(md: &Md, held: Option<Held>) -> Report {
    Report {
        md: Arc::new(md.clone()),
        ca: String::new(),
        account: None,
        records: vec![],
        certs: vec![CertReport::sample(held)],
        log: Diary::default(),
        warning: Backoff::default(),
        trouble: None,
        fault: None,
    }
}
