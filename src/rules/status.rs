//! The status in its two forms: JSON with mod_md's key names, and sentences for people.

mod sentences;

pub use sentences::{line, text};

use crate::rules::acme::advice;
use crate::rules::acme::problem::{BAD_BINDING, is};
use crate::words::board::{CertReport, Next, Report, StapleReport};
use crate::words::cert::{Held, KeyKind, Why};
use crate::words::config::{Challenge, DriveMode, RequireHttps, Static};
use crate::words::fault::{Failure, Hook};
use crate::words::time::Unix;
use serde_json::{Map, Value, json};
use std::path::Path;

/// `{version, managed-domains: […]}`, as mod_md's readers know it.
pub fn all_json(reports: &[Report]) -> Value {
    let mds: Vec<Value> = reports.iter().map(md_json).collect();
    json!({ "version": env!("CARGO_PKG_VERSION"), "managed-domains": mds })
}

pub fn md_json(report: &Report) -> Value {
    let md = &report.md;
    let (state, descr) = state(report);
    let names: Vec<&str> = md.names.iter().map(|name| name.as_str()).collect();
    let mut value = json!({
        "name": md.name.as_str(),
        "domains": names,
        "contacts": md.contacts,
        "ca": ca_json(report),
        "state": state as u8,
        "renew-mode": match md.drive {
            DriveMode::Auto if md.statics.is_empty() => 1,
            DriveMode::Always => 2,
            // What is the operator's own counts as renewed by hand.
            DriveMode::Auto | DriveMode::Manual => 0,
        },
        "renew-window": md.window.to_string(),
        "warn-window": md.warn.to_string(),
        "must-staple": md.must_staple,
        "stapling": md.stapling.on,
        "proto": { "acme-tls/1": if md.tls_arrives { names.clone() } else { vec![] } },
        "cert": private_json(report),
        "renew": is_due(report),
        "watched": md.used || md.drive != DriveMode::Auto,
    });
    if let Value::Object(map) = &mut value {
        put(map, "state-descr", descr);
        put(map, "renew-at", report.certs.iter().filter_map(|cert| cert.renew_at).min().map(Unix::http_date));
        put(map, "require-https", require_https(md.require_https));
        put(map, "privkey", (md.keys != [KeyKind::P256]).then(|| keys_json(&md.keys)));
        put(map, "eab", md.binding.as_ref().map(|binding| json!({ "kid": binding.kid, "hmac": "***" })));
        put(map, "dns-records", (!report.records.is_empty()).then(|| report.records.clone()));
        put(map, "proxy-url", md.proxy.clone());
        put(map, "profile", md.profile.clone());
        put(map, "ca-certs", md.roots.as_ref().map(|path| path.to_string_lossy()));
        let files = |file: fn(&Static) -> &Path| {
            let files: Vec<_> = md.statics.iter().map(|files| file(files).to_string_lossy()).collect();
            (!files.is_empty()).then_some(files)
        };
        put(map, "cert-files", files(|files| &files.cert));
        put(map, "pkey-files", files(|files| &files.key));
        put(map, "renewal", renewal_json(report));
        put(map, "trouble", report.trouble.clone());
    }
    value
}

/// The numbers that mod_md's readers count with.
pub fn counts(reports: &[Report]) -> String {
    let count = |word: &str, counts: fn(&Report) -> bool| {
        let number = reports.iter().filter(|report| counts(report)).count();
        format!("ManagedCertificates{word}: {number}")
    };
    let errored = |report: &Report| {
        let failed = |cert: &CertReport| cert.order.failures > 0 || cert.tell.failures > 0;
        !matches!(state(report).0, State::Complete | State::Incomplete) || report.certs.iter().any(failed)
    };
    let lines = [
        count("Total", |_| true),
        count("OK", |report| state(report).0 == State::Complete),
        count("Renew", is_due),
        count("Errored", errored),
        count("Ready", |report| is_under_way(report) && !is_due(report)),
    ];
    let staples = || reports.iter().flat_map(|report| &report.certs).filter_map(|cert| cert.staple.as_ref());
    let staple = |word: &str, counts: fn(&StapleReport) -> bool| {
        format!("ManagedStaplings{word}: {}", staples().filter(|staple| counts(staple)).count())
    };
    let staples = [
        staple("Total", |_| true),
        staple("OK", |staple| standing(staple) == "good"),
        staple("Renew", |staple| standing(staple) == "revoked"),
        staple("Errored", |staple| standing(staple) == "unknown"),
    ];
    let on = reports.iter().enumerate().filter(|(_, report)| report.md.stapling.on);
    let on = on.map(|(at, _)| format!("ManagedDomain[{at}]Stapling: on"));
    lines.into_iter().chain(staples).chain(on).collect::<Vec<_>>().join("\n")
}

/// What the CA's responder says, in mod_md's words.
fn standing(staple: &StapleReport) -> &'static str {
    match staple.verdict {
        Some(verdict) if verdict.revoked => "revoked",
        Some(_) => "good",
        None => "unknown",
    }
}

fn is_due(report: &Report) -> bool {
    report.certs.iter().any(|cert| cert.why.is_some())
}

fn ca_json(report: &Report) -> Value {
    let md = &report.md;
    let mut value = json!({ "url": report.ca, "urls": md.cas, "proto": "ACME" });
    if let Value::Object(map) = &mut value {
        put(map, "account", report.account.clone());
        put(map, "agreement", md.agreement.clone());
        let words = |challenges: &Vec<Challenge>| challenges.iter().map(|one| one.word()).collect::<Vec<_>>();
        put(map, "challenges", md.challenges.as_ref().map(words));
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

/// The state of an MD, by mod_md's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Unknown = 0,
    Incomplete = 1,
    Complete = 2,
    Error = 4,
    MissingInformation = 5,
}

/// The state, and what is amiss.
fn state(report: &Report) -> (State, Option<String>) {
    use Why::{Missing, OtherCa, OtherKey, OtherStaple, Renamed};
    let incomplete = |cert: &CertReport| {
        let what = match cert.why? {
            Missing => "is missing.",
            Renamed => "does not cover all domains.",
            OtherCa => "is from another CA.",
            OtherKey => "has another kind of key.",
            OtherStaple => "differs in must-staple.",
            _ => return None,
        };
        let state = if lacks_information(cert) { State::MissingInformation } else { State::Incomplete };
        Some((state, format!("certificate({}) {what}", cert.kind.family())))
    };
    if let Some(fault) = &report.fault {
        return (State::Error, Some(fault.clone()));
    }
    match report.certs.iter().find_map(incomplete) {
        Some((state, descr)) => (state, Some(descr)),
        None if report.certs.is_empty() => (State::Unknown, None),
        None => (State::Complete, None),
    }
}

/// Whether the CA has said that it wants to hear something that only the operator can say.
fn lacks_information(cert: &CertReport) -> bool {
    let wanted = ["agreementRequired", "userActionRequired", "externalAccountRequired", "invalidContact"];
    match &cert.order.last {
        Some(Failure::Refusal(refusal)) => {
            refusal.problem == BAD_BINDING || wanted.iter().any(|short| is(refusal, short))
        }
        _ => false,
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

/// The certificates, and what is nobody's business but the operator's.
fn private_json(report: &Report) -> Value {
    let mut value = certs_json(report);
    // The first of a kind is the one that is shown.
    for cert in report.certs.iter().rev() {
        let Some(held) = &cert.held else { continue };
        let Some(Value::Object(map)) = value.get_mut(held.kind.family()) else { continue };
        put(map, "ari-cert-id", advice::cert_id(held));
        put(map, "profile", held.profile.clone());
        put(map, "ocsp", cert.staple.as_ref().map(staple_json));
        // It speaks of the newest one.
        if let (Some(window), None) = (&cert.suggested, &cert.staged) {
            map.insert("ari-window".into(), valid_json(window.start, window.end));
            put(map, "ari-explanation-url", window.explanation.clone());
        }
    }
    value
}

fn certs_json(report: &Report) -> Value {
    let held = report.certs.iter().filter_map(|cert| cert.held.as_ref());
    of_kinds(held)
}

fn staple_json(staple: &StapleReport) -> Value {
    let (mut map, tried) = (Map::new(), &staple.tried);
    put(&mut map, "status", Some(standing(staple)));
    put(&mut map, "valid", staple.verdict.map(|verdict| valid_json(verdict.from, verdict.until)));
    if tried.failures > 0 {
        let mut renewal = Map::new();
        put(&mut renewal, "errors", Some(tried.failures));
        put(&mut renewal, "next-run", tried.until.map(Unix::http_date));
        put(&mut renewal, "last", tried.last.as_ref().map(last_json));
        put(&mut renewal, "last-run", tried.last_at.map(Unix::http_date));
        map.insert("renewal".into(), renewal.into());
    }
    map.into()
}

/// Each by its kind, and the time in which all of them are valid.
fn of_kinds<'a>(held: impl Iterator<Item = &'a Held> + Clone) -> Value {
    let mut map = Map::new();
    for held in held.clone() {
        // The operator's own come first, and they are what others are given.
        map.entry(held.kind.family()).or_insert_with(|| cert_json(held));
    }
    let from = held.clone().map(|held| held.not_before).max();
    let until = held.map(|held| held.not_after).min();
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
    let by_us = report.md.statics.is_empty() || report.md.driven();
    let under_way = |cert: &CertReport| {
        let failed = cert.order.failures > 0 || cert.tell.failures > 0;
        let goes_on = cert.next == Next::Ordering || cert.staged.is_some();
        failed || goes_on || (by_us && cert.held.is_some() && !cert.told)
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
        "notified": certs.iter().all(|cert| cert.told && cert.staged.is_none()),
        "errors": errors,
        "log": { "entries": entries },
    });
    if let Value::Object(map) = &mut value {
        let staged = certs.iter().filter_map(|cert| cert.staged.as_ref()).map(|(held, _)| held);
        put(map, "cert", staged.clone().next().map(|_| of_kinds(staged)));
        put(map, "next-run", next.map(Unix::http_date));
        put(map, "last", last.and_then(|backoff| backoff.last.as_ref()).map(last_json));
        put(map, "last-run", last.and_then(|backoff| backoff.last_at).map(Unix::http_date));
    }
    Some(value)
}

/// As mod_md has it: it begins with a capital.
fn sentence(doing: &str) -> String {
    let (first, rest) = doing.split_at_checked(1).unwrap_or((doing, ""));
    first.to_ascii_uppercase() + rest
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
                "activity": sentence(&refusal.doing),
                "subproblems": subproblems,
            })
        }
        Failure::Trouble(trouble) => {
            let mut last = json!({
                "status": 1,
                "status-description": trouble.why,
                "detail": trouble.why,
                "activity": sentence(&trouble.doing),
            });
            if let Value::Object(map) = &mut last {
                put(map, "problem", trouble.hook.map(Hook::problem));
            }
            last
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::config::Md;
    use crate::words::fault::{ACME_ERROR, Place, Refusal};
    use crate::words::name::{Labels, Name};
    use std::sync::Arc;

    const NOW: Unix = Unix::from_secs(1_800_000_000);

    pub(super) fn name() -> Name {
        Name::parse("a.example", Labels::Two).unwrap()
    }

    pub(super) fn report(certs: Vec<CertReport>) -> Report {
        let place = Place { file: "edgemd.conf".into(), line: 1, column: 1 };
        Report::sample(Arc::new(Md::plain(name(), place)), certs)
    }

    fn held() -> CertReport {
        CertReport::sample(Some(Held::sample(vec![name()], NOW, Unix::from_secs(1_900_000_000))))
    }

    fn due(why: Why) -> CertReport {
        CertReport { why: Some(why), ..held() }
    }

    fn refused(problem: &str) -> CertReport {
        let mut cert = due(Why::Missing);
        (cert.order.failures, cert.order.last) = (1, Some(Refusal::ours("ordering", problem, "no").into()));
        cert
    }

    #[test]
    fn each_state_has_its_number() {
        let what = |cert: CertReport| {
            let (state, descr) = state(&report(vec![cert]));
            (state as u8, descr.unwrap_or_default())
        };
        for (why, number, said) in [
            (Why::Missing, 1, "certificate(secp256r1) is missing."),
            (Why::Renamed, 1, "certificate(secp256r1) does not cover all domains."),
            (Why::OtherCa, 1, "certificate(secp256r1) is from another CA."),
            (Why::OtherKey, 1, "certificate(secp256r1) has another kind of key."),
            (Why::OtherStaple, 1, "certificate(secp256r1) differs in must-staple."),
            (Why::Due, 2, ""),
        ] {
            assert_eq!(what(due(why)), (number, said.into()));
        }
        for (problem, number) in [("externalAccountRequired", 5), ("agreementRequired", 5), ("caa", 1)] {
            assert_eq!(what(refused(&format!("{ACME_ERROR}{problem}"))).0, number, "{problem}");
        }
        assert_eq!(what(refused(BAD_BINDING)).0, 5);
        assert_eq!(state(&report(vec![])).0, State::Unknown);
        let fault = Report { fault: Some("no such file".into()), ..report(vec![held()]) };
        assert_eq!(state(&fault), (State::Error, Some("no such file".into())));
    }

    #[test]
    fn md_920_010_each_md_is_counted_where_it_belongs() {
        let mut owed = held();
        (owed.told, owed.tell.failures) = (false, 1);
        let reports = [
            vec![held()],
            vec![owed],
            vec![due(Why::Due)],
            vec![refused(BAD_BINDING)],
            vec![CertReport { next: Next::Ordering, ..due(Why::Missing) }],
        ];
        let said = counts(&reports.map(report));
        for line in ["Total: 5", "OK: 3", "Renew: 3", "Errored: 2", "Ready: 1"] {
            assert!(said.contains(&format!("ManagedCertificates{line}\n")), "{line} of {said}");
        }
    }

    #[test]
    fn what_was_not_told_of_is_under_way_if_it_is_ours() {
        let with = |told: bool, change: fn(&mut Md)| {
            let mut report = report(vec![CertReport { told, ..held() }]);
            change(Arc::make_mut(&mut report.md));
            is_under_way(&report)
        };
        let own = |md: &mut Md| md.statics = vec![Static { cert: "/a.crt".into(), key: "/a.key".into() }];
        assert_eq!([with(false, |_| ()), with(true, |_| ())], [true, false]);
        assert!(with(false, |md| md.drive = DriveMode::Manual), "it was imported");
        assert!(!with(false, own), "whose files these are knows of them");
    }
}
