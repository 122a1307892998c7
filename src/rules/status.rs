//! The status in its two forms: JSON with mod_md's key names, and sentences for people.

use crate::words::board::{CertReport, Next, Report};
use crate::words::cert::{Backoff, Held, KeyKind};
use crate::words::config::{DriveMode, RequireHttps};
use crate::words::fault::{Failure, Hook};
use crate::words::time::Unix;
use serde_json::{Map, Value, json};

/// `{version, managed-domains: […]}`, as mod_md's readers know it.
pub fn all_json(reports: &[Report]) -> Value {
    let mds: Vec<Value> = reports.iter().map(md_json).collect();
    json!({ "version": env!("CARGO_PKG_VERSION"), "managed-domains": mds })
}

pub fn md_json(report: &Report) -> Value {
    let md = &report.md;
    let (state, descr) = state(report);
    let mut value = json!({
        "name": md.name.as_str(),
        "domains": md.names.iter().map(|name| name.as_str()).collect::<Vec<_>>(),
        "contacts": md.contacts,
        "ca": { "url": report.ca, "urls": md.cas, "proto": "ACME", "account": report.account },
        "state": state,
        "renew-mode": match md.drive { DriveMode::Manual => 0, DriveMode::Auto => 1, DriveMode::Always => 2 },
        "renew-window": md.window.to_string(),
        "privkey": keys_json(&md.keys),
        "cert": certs_json(report),
        "renew": report.certs.iter().any(|cert| cert.why.is_some()),
        "watched": md.driven(),
    });
    if let Value::Object(map) = &mut value {
        put(map, "state-descr", descr);
        put(map, "renew-at", report.certs.iter().filter_map(|cert| cert.renew_at).min().map(Unix::http_date));
        put(map, "ca-agreement", md.agreement.clone());
        put(map, "require-https", require_https(md.require_https));
        put(map, "renewal", renewal_json(report));
        put(map, "trouble", report.trouble.clone());
    }
    value
}

/// One key is an object, several are a list of them.
fn keys_json(keys: &[KeyKind]) -> Value {
    let key = |kind: &KeyKind| match kind {
        KeyKind::Rsa(bits) => json!({ "type": "RSA", "bits": bits }),
        KeyKind::P256 | KeyKind::P384 => json!({ "type": "EC", "curve": kind.family() }),
    };
    match keys {
        [one] => key(one),
        many => many.iter().map(key).collect(),
    }
}

fn require_https(mode: RequireHttps) -> Option<&'static str> {
    match mode {
        RequireHttps::Off => None,
        RequireHttps::Temporary => Some("temporary"),
        RequireHttps::Permanent => Some("permanent"),
    }
}

fn put(map: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        map.insert(key.into(), value.into());
    }
}

/// mod_md's number for the state of an MD, and what is amiss.
fn state(report: &Report) -> (u8, Option<String>) {
    use crate::words::cert::Why::{Missing, OtherCa, OtherKey, Renamed};
    let incomplete = |cert: &CertReport| {
        let what = match cert.why? {
            Missing => "is missing.",
            Renamed => "does not cover all domains.",
            OtherCa => "is from another CA.",
            OtherKey => "has another kind of key.",
            _ => return None,
        };
        Some(format!("certificate({}) {what}", cert.kind.family()))
    };
    match report.certs.iter().find_map(incomplete) {
        Some(descr) => (1, Some(descr)),
        None => (2, None),
    }
}

/// What anybody may know who can reach the MD's host: the certificates that are held, and whether a renewal is under way.
/// No account, no contact, no error.
pub fn public_json(report: &Report) -> Value {
    let mut value = certs_json(report);
    if let (Value::Object(map), true) = (&mut value, is_under_way(report)) {
        map.insert("renewal".into(), json!({}));
    }
    value
}

fn certs_json(report: &Report) -> Value {
    let mut map = Map::new();
    let held = || report.certs.iter().filter_map(|cert| cert.held.as_ref().map(|held| (cert.kind, held)));
    for (kind, held) in held() {
        map.insert(kind.family().into(), cert_json(held));
    }
    let from = held().map(|(_, held)| held.not_before).max();
    let until = held().map(|(_, held)| held.not_after).min();
    if let (Some(from), Some(until)) = (from, until) {
        map.insert("valid".into(), valid_json(from, until));
    }
    Value::Object(map)
}

fn cert_json(held: &Held) -> Value {
    json!({
        "valid": valid_json(held.not_before, held.not_after),
        "serial": held.serial_hex(),
        "sha256-fingerprint": held.sha256.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
    })
}

fn valid_json(from: Unix, until: Unix) -> Value {
    json!({ "from": from.http_date(), "until": until.http_date() })
}

fn is_under_way(report: &Report) -> bool {
    let under_way = |cert: &CertReport| {
        cert.order.failures > 0
            || cert.tell.failures > 0
            || cert.next == Next::Ordering
            || (cert.held.is_some() && !cert.told)
    };
    report.warning.failures > 0 || report.certs.iter().any(under_way)
}

/// The renewal under way, or the one whose news are still owed.
fn renewal_json(report: &Report) -> Option<Value> {
    let certs = &report.certs;
    if !is_under_way(report) {
        return None;
    }
    let errors = certs.iter().fold(report.warning.failures, |sum, cert| {
        sum.saturating_add(cert.order.failures).saturating_add(cert.tell.failures)
    });
    let tried = certs.iter().flat_map(|cert| [&cert.order, &cert.tell]).chain([&report.warning]);
    let last = tried.filter(|backoff| backoff.last.is_some()).max_by_key(|backoff| backoff.last_at);
    let next = certs.iter().filter_map(|cert| if let Next::At(at) = cert.next { Some(at) } else { None }).min();
    let entries: Vec<Value> = report
        .log
        .entries()
        .map(|entry| json!({ "when": entry.when.http_date(), "type": entry.what, "detail": entry.detail }))
        .collect();
    let mut value = json!({
        "name": report.md.name.as_str(),
        "finished": certs.iter().all(|cert| cert.why.is_none()),
        "notified": certs.iter().all(|cert| cert.told),
        "errors": errors,
        "log": { "entries": entries },
    });
    if let Value::Object(map) = &mut value {
        put(map, "next-run", next.map(Unix::http_date));
        put(map, "last", last.and_then(|backoff| backoff.last.as_ref()).map(last_json));
        put(map, "last-run", last.and_then(|backoff| backoff.last_at).map(Unix::http_date));
    }
    Some(value)
}

fn last_json(failure: &Failure) -> Value {
    match failure {
        Failure::Refusal(refusal) => {
            let subproblems: Vec<Value> = refusal
                .subproblems
                .iter()
                .map(|sub| json!({ "type": sub.problem, "detail": sub.detail, "identifier": sub.name }))
                .collect();
            json!({
                "status": refusal.status.unwrap_or(1),
                "status-description": refusal.short(),
                "problem": refusal.problem,
                "detail": refusal.detail,
                "activity": refusal.doing,
                "subproblems": subproblems,
            })
        }
        Failure::Trouble(trouble) => {
            let mut last = json!({
                "status": 1,
                "status-description": trouble.why,
                "detail": trouble.why,
                "activity": trouble.doing,
            });
            if let Value::Object(map) = &mut last {
                put(map, "problem", trouble.hook.map(Hook::problem));
            }
            last
        }
    }
}

/// All of it in one line: how many MDs are well, and the first trouble or else the next renewal.
pub fn line(reports: &[Report]) -> String {
    let mut well = 0_usize;
    let mut trouble = None;
    for report in reports {
        let (lines, is_well) = text(report);
        well += usize::from(is_well);
        if !is_well && trouble.is_none() {
            // What went wrong stands indented below what is held.
            let wrong = lines.iter().rev().find_map(|line| line.strip_prefix("    "));
            let what = wrong.map(|wrong| format!("{}: {wrong}", report.md.name));
            trouble = what.or_else(|| lines.first().cloned());
        }
    }
    let next = || reports.iter().flat_map(|report| &report.certs).filter_map(|cert| cert.renew_at).min();
    let then = trouble.map_or_else(|| next().map(|at| format!("next renewal from {at}")), Some);
    let then = then.map(|then| format!("; {then}")).unwrap_or_default();
    match reports.len() {
        0 => "no MD is configured".into(),
        1 if well == 1 => format!("1 MD is well{then}"),
        many => format!("{well} of {many} MDs are well{then}"),
    }
}

/// One line for each certificate, and whether all is well.
pub fn text(report: &Report) -> (Vec<String>, bool) {
    let mut well = report.trouble.is_none() && report.warning.failures == 0;
    let mut lines = vec![];
    for cert in &report.certs {
        let name = &report.md.name;
        let held = match &cert.held {
            Some(held) => format!("certificate until {} ({})", held.not_after, held.serial_hex()),
            None => "no certificate".into(),
        };
        well &= cert.held.is_some() && cert.order.failures == 0 && cert.tell.failures == 0;
        // What we don't drive a person has to.
        well &= cert.why.is_none() || report.md.driven();
        lines.push(format!("{name} [{}]: {held}; {}", cert.kind, next(report, cert)));
        lines.extend([("order", &cert.order), ("notification", &cert.tell)].into_iter().filter_map(failed));
    }
    lines.extend(failed(("warning", &report.warning)));
    lines.extend(report.trouble.iter().map(|trouble| format!("    {trouble}")));
    (lines, well)
}

fn failed((what, backoff): (&str, &Backoff)) -> Option<String> {
    let last = backoff.last.as_ref().filter(|_| backoff.failures > 0)?;
    Some(match backoff.failures {
        1 => format!("    {what} failed once: {last}"),
        many => format!("    {what} failed {many} times, last: {last}"),
    })
}

fn next(report: &Report, cert: &CertReport) -> String {
    match (&cert.next, cert.why) {
        (Next::NoClock, _) => "waiting for the clock to be set".into(),
        (Next::Ordering, _) => "being renewed now".into(),
        (Next::Telling, _) => "telling of it now".into(),
        _ if !report.md.driven() => "renewed by hand (MDDriveMode), or used by no virtual host".into(),
        (Next::At(at), Some(why)) => format!("{why}; next try {at}"),
        (Next::At(at), None) => match cert.renew_at {
            Some(renewal) if renewal > *at => format!("notification is tried again {at}"),
            _ => format!("renewal from {at}"),
        },
        (Next::Nothing, Some(why)) => format!("{why}; next try shortly"),
        (Next::Nothing, None) => "nothing to do".into(),
    }
}
