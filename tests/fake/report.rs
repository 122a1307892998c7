//! A report as the keeper posts it, of an MD that has one certificate and no trouble.

use edgemd::words::board::{CertReport, Diary, Next, Report};
use edgemd::words::cert::{Backoff, Held, KeyKind};
use edgemd::words::config::Md;
use std::sync::Arc;

/// What the keeper would have put on the board.
pub fn report(md: &Md, held: Option<Held>) -> Report {
    let cert = CertReport {
        kind: KeyKind::P256,
        own: false,
        held,
        staged: None,
        suggested: None,
        why: None,
        next: Next::Nothing,
        renew_at: None,
        order: Backoff::default(),
        tell: Backoff::default(),
        told: true,
        waits_for: "",
        staple: None,
        ends_soon: false,
    };
    Report {
        md: Arc::new(md.clone()),
        ca: String::new(),
        account: None,
        records: vec![],
        certs: vec![cert],
        log: Diary::default(),
        warning: Backoff::default(),
        trouble: None,
        fault: None,
    }
}
