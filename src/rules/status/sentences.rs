//! The status for people: what is held and until when, what happens next, what is wrong and what to do about it; and
//! whether a person has to do it.

use super::state;
use crate::rules::acme::problem::{BAD_BINDING, Patience, patience};
use crate::words::board::{CertReport, Next, Report};
use crate::words::cert::{Backoff, Why};
use crate::words::config::{Challenge, DriveMode};
use crate::words::fault::{Failure, Trouble};

/// All of it in one line: how many MDs are well, and the first trouble or else the next renewal.
pub fn line(reports: &[Report]) -> String {
    let mut well = 0_usize;
    let mut trouble = None;
    for report in reports {
        let (lines, is_well) = text(report);
        well += usize::from(is_well);
        if !is_well && trouble.is_none() {
            // What went wrong stands indented below what is held.
            let mut below = lines.iter().filter_map(|line| line.strip_prefix("    "));
            let wrong = below.find(|line| !line.starts_with("what to do: "));
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

/// One line for each certificate and more below it where something is wrong, and whether nobody has to see to it.
pub fn text(report: &Report) -> (Vec<String>, bool) {
    let mut well = report.trouble.is_none() && report.fault.is_none() && report.warning.failures == 0;
    let mut lines = vec![];
    for cert in &report.certs {
        let held = match &cert.held {
            Some(held) => format!("certificate until {} ({}){}", held.not_after, held.serial_hex(), stapled(cert)),
            None => "no certificate".into(),
        };
        let needs_help = needs_help(report, cert);
        // Nobody is needed while a first one is on its way, but all is not well either.
        well &= !needs_help && cert.held.is_some();
        lines.push(format!("{} [{}]: {held}; {}", report.md.name, cert.kind, next(report, cert)));
        failed(&mut lines, "order", &cert.order, needs_help);
        failed(&mut lines, "notification", &cert.tell, true);
        if let Some(staple) = &cert.staple {
            let lacks = staple.verdict.is_none() && cert.held.as_ref().is_some_and(|held| held.must_staple);
            well &= !lacks || staple.tried.failures == 0;
            failed(&mut lines, "stapling", &staple.tried, lacks);
        }
        if let Some(url) = cert.suggested.as_ref().and_then(|window| window.explanation.as_ref()) {
            lines.push(format!("    the CA says why it wants it renewed: {url}"));
        }
        if let Some(what) = by_hand(report, cert).filter(|_| needs_help) {
            lines.push(format!("    what to do: {what}"));
        }
    }
    if report.certs.is_empty() {
        let what = if state(report).1.is_some() { "no certificate" } else { "not looked at yet" };
        lines.push(format!("{}: {what}", report.md.name));
    }
    failed(&mut lines, "warning", &report.warning, true);
    lines.extend(report.records.iter().map(|record| format!("    in DNS: {record}")));
    lines.extend(report.fault.iter().chain(&report.trouble).map(|trouble| format!("    {trouble}")));
    (lines, well)
}

fn stapled(cert: &CertReport) -> String {
    let verdict = cert.staple.as_ref().and_then(|staple| staple.verdict).filter(|verdict| !verdict.revoked);
    verdict.map(|verdict| format!(", OCSP good until {}", verdict.until)).unwrap_or_default()
}

/// As many tries in vain are no passing trouble any more: with the usual back-off they take more than an hour.
const PASSING: u32 = 8;

/// Whether a person has to see to it. A renewal that fails a few times while what is held is good for days needs nobody.
fn needs_help(report: &Report, cert: &CertReport) -> bool {
    if cert.tell.failures > 0 {
        return true;
    }
    let failing = cert.order.failures > 0;
    // What we don't renew a person has to.
    let stuck = failing || !is_driven(report, cert);
    match cert.why {
        Some(Why::Due | Why::Asked | Why::Forced) | None => {
            let hopeless = cert.order.last.as_ref().is_some_and(|last| patience(last) == Patience::Ours);
            (stuck && cert.ends_soon) || (failing && (hopeless || cert.order.failures >= PASSING))
        }
        Some(_) => stuck,
    }
}

fn is_driven(report: &Report, cert: &CertReport) -> bool {
    report.md.driven() && !cert.own
}

/// What went wrong, and what to do where that needs a person.
fn failed(lines: &mut Vec<String>, what: &str, backoff: &Backoff, needs_help: bool) {
    let Some(last) = backoff.last.as_ref().filter(|_| backoff.failures > 0) else { return };
    lines.push(match backoff.failures {
        1 => format!("    {what} failed once: {last}"),
        many => format!("    {what} failed {many} times, last: {last}"),
    });
    match remedy(last) {
        Some(remedy) if needs_help => lines.push(format!("    what to do: {remedy}")),
        _ if needs_help => {}
        _ => lines.push("    what to do: nothing yet, it is tried again by itself".into()),
    }
}

/// What a person can do about it, where the text of the failure does not say so already.
fn remedy(failure: &Failure) -> Option<&'static str> {
    let refusal = match failure {
        Failure::Refusal(refusal) => refusal,
        Failure::Trouble(Trouble { hook: Some(_), .. }) => {
            return Some("run the command by hand and see what it says; it is called again");
        }
        Failure::Trouble(Trouble { why, .. }) if why.contains("publish _validation-persist.") => return None,
        // A file that the operator has named; its directive, path and fault are said.
        Failure::Trouble(Trouble { doing, .. }) if doing.starts_with("reading MD") => return None,
        Failure::Trouble(Trouble { doing, .. }) if doing.contains(" /") => {
            return Some("see to that file and the disk that it is on; it is tried again by itself");
        }
        Failure::Trouble(_) => {
            return Some("see to the device's network, DNS and clock; MDHttpProxy if it needs a proxy");
        }
    };
    Some(match refusal.short() {
        "unauthorized" | "connection" | "dns" | "incorrectResponse" | "tls" => match refusal.rejected {
            Some(Challenge::Dns01 | Challenge::DnsPersist01) => {
                "see that the record is shown by the zone's own servers; for dns-01 run MDChallengeDns01's command by hand"
            }
            Some(Challenge::TlsAlpn01) => {
                "see that https on port 443 of this name arrives here: DNS (the AAAA record too), port forwarding, firewall"
            }
            Some(Challenge::Http01) | None => {
                "see that http on port 80 of this name arrives here: DNS (the AAAA record too), port forwarding, firewall"
            }
        },
        "rateLimited" => "nothing, the CA's wait is kept; MDCertificateAuthority LetsEncrypt-Test is for practising",
        "agreementRequired" | "userActionRequired" => "read the terms, then set MDCertificateAgreement accepted",
        "externalAccountRequired" => {
            "make an account at the CA's own site and set MDExternalAccountBinding to what it gives, or choose another CA"
        }
        BAD_BINDING => "correct MDExternalAccountBinding",
        "invalidContact" | "unsupportedContact" => "correct MDContactEmail",
        "rejectedIdentifier" | "unsupportedIdentifier" | "malformed" => "take the name that is refused out of the MD",
        "invalidProfile" => "choose a profile that the CA offers (MDProfile), or set MDProfileMandatory off",
        "caa" => "allow this CA in the name's CAA record, or choose the one that it allows",
        "badPublicKey" | "badCSR" => "choose another kind of key (MDPrivateKeys)",
        "challenge-mismatch" => "see MDCAChallenges and MDPortMap",
        "challenge-setup-failure" => "see what the log says of the answer that could not be put in place",
        _ => return None,
    })
}

/// What is to be done about a certificate that we don't renew.
fn by_hand(report: &Report, cert: &CertReport) -> Option<&'static str> {
    match report.md.drive {
        _ if cert.own => Some("put a newer pair into its files; that is seen by itself"),
        _ if report.md.driven() => None,
        DriveMode::Manual => Some("set MDDriveMode auto, or `edgemd import` one that another program has"),
        _ => Some("let a virtual host or an export use it, or set MDDriveMode always"),
    }
}

fn next(report: &Report, cert: &CertReport) -> String {
    // That there is none was said already.
    let why = cert.why.filter(|why| *why != Why::Missing).map(|why| format!("{why}; ")).unwrap_or_default();
    match &cert.next {
        Next::At(_) if let (Some((_, at)), None) = (&cert.staged, cert.why) => format!("a newer one is used from {at}"),
        Next::NoClock => "waiting for the clock to be set".into(),
        Next::Ordering if cert.held.is_none() => "being ordered now".into(),
        Next::Ordering => "being renewed now".into(),
        Next::Telling => "telling of it now".into(),
        Next::At(at) if cert.why.is_none() && cert.renew_at.is_some_and(|renewal| renewal > *at) => {
            format!("notification is tried again {at}")
        }
        _ if !is_driven(report, cert) => {
            let how = match report.md.drive {
                _ if cert.own => "its own files (MDCertificateFile) are watched, not renewed",
                DriveMode::Manual => "not renewed by itself (MDDriveMode manual)",
                _ => "not renewed by itself, no virtual host and no export uses it",
            };
            why + how
        }
        Next::At(at) if cert.why.is_some() => format!("{why}next try {at}{}", cert.waits_for),
        Next::At(at) => format!("renewal from {at}"),
        Next::Nothing if cert.why.is_some() => format!("{why}next try shortly"),
        Next::Nothing => "nothing to do".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::status::tests::{self, name};
    use crate::words::board::StapleReport;
    use crate::words::cert::Held;
    use crate::words::config::{Md, Static};
    use crate::words::fault::{ACME_ERROR, Hook, Refusal};
    use crate::words::staple::Verdict;
    use crate::words::time::{Span, Unix};
    use std::sync::Arc;

    /// 2027-01-15T08:00:00Z.
    const NOW: Unix = Unix::from_secs(1_800_000_000);
    const AT: Unix = NOW.plus(Span::hours(1));

    fn cert(days: u64) -> CertReport {
        let not_after = NOW.plus(Span::days(days));
        CertReport {
            why: (days < 30).then_some(Why::Due),
            next: Next::At(if days < 30 { AT } else { not_after.minus(Span::days(30)) }),
            renew_at: Some(not_after.minus(Span::days(30))),
            ends_soon: days < 9,
            ..CertReport::sample(Some(Held::sample(vec![name()], not_after.minus(Span::days(90)), not_after)))
        }
    }

    fn missing(next: Next) -> CertReport {
        CertReport { held: None, why: Some(Why::Missing), next, renew_at: Some(NOW), ends_soon: false, ..cert(89) }
    }

    fn report(cert: CertReport) -> Report {
        tests::report(vec![cert])
    }

    fn of(report: Report, change: impl FnOnce(&mut Md)) -> Report {
        let mut md = (*report.md).clone();
        change(&mut md);
        Report { md: Arc::new(md), ..report }
    }

    fn refused(failures: u32, short: &str) -> Backoff {
        let refusal = Refusal::ours("ordering a.example", &format!("{ACME_ERROR}{short}"), "no");
        Backoff { failures, until: Some(AT), last: Some(refusal.into()), last_at: Some(NOW) }
    }

    fn trouble(failures: u32) -> Backoff {
        Backoff {
            last: Some(Trouble::new("reading the directory", "no route to host").into()),
            ..refused(failures, "")
        }
    }

    fn on_disk() -> Backoff {
        let last = Trouble::new("replacing /export/a.example.key", "Is a directory");
        Backoff { last: Some(last.into()), ..trouble(1) }
    }

    fn staple(failures: u32) -> StapleReport {
        let verdict = Verdict { revoked: false, from: NOW, until: AT };
        StapleReport { verdict: Some(verdict), tried: trouble(failures) }
    }

    /// What is read is what a person reads: each situation with its sentences, and whether it needs one.
    #[test]
    fn golden_sentences() {
        let hook = Trouble::new("running /bin/reload-ui", "exited with 1").with(Hook::Notify);
        let order = |cert: CertReport, order: Backoff| report(CertReport { order, ..cert });
        let own = |days| {
            let own = report(CertReport { own: true, ..cert(days) });
            of(own, |md| md.statics = vec![Static { cert: "/a.crt".into(), key: "/a.key".into() }])
        };
        let with_text = |trouble: Option<String>, fault: Option<String>| Report { trouble, fault, ..report(cert(89)) };
        let rejected = |challenge| {
            let refusal = Refusal::ours("ordering a.example", &format!("{ACME_ERROR}unauthorized"), "no");
            let last = Some(Refusal { rejected: Some(challenge), ..refusal }.into());
            Backoff { last, ..refused(1, "") }
        };
        let no_roots = Trouble::new("reading MDCACertificateFile /ca.pem", "it is not PEM");
        let situations: Vec<(Report, bool, &str)> = vec![
            (report(cert(89)), true, "certificate until 2027-04-14T08:00:00Z (0ABC); renewal from 2027-03-15T08:00:00Z"),
            (
                report(CertReport { staple: Some(staple(0)), ..cert(89) }),
                true,
                "certificate until 2027-04-14T08:00:00Z (0ABC), OCSP good until 2027-01-15T09:00:00Z; renewal from 2027-03-15T08:00:00Z",
            ),
            (
                report(CertReport { staple: Some(StapleReport { verdict: None, ..staple(2) }), ..cert(89) }),
                true,
                "certificate until 2027-04-14T08:00:00Z (0ABC); renewal from 2027-03-15T08:00:00Z
    stapling failed 2 times, last: reading the directory: no route to host
    what to do: nothing yet, it is tried again by itself",
            ),
            (
                report(CertReport { next: Next::Nothing, ..cert(89) }),
                true,
                "certificate until 2027-04-14T08:00:00Z (0ABC); nothing to do",
            ),
            (report(missing(Next::Ordering)), false, "no certificate; being ordered now"),
            (report(missing(Next::Nothing)), false, "no certificate; next try shortly"),
            (report(missing(Next::NoClock)), false, "no certificate; waiting for the clock to be set"),
            (
                report(CertReport { next: Next::Ordering, ..cert(20) }),
                true,
                "certificate until 2027-02-04T08:00:00Z (0ABC); being renewed now",
            ),
            (
                order(missing(Next::At(AT)), trouble(1)),
                false,
                "no certificate; next try 2027-01-15T09:00:00Z
    order failed once: reading the directory: no route to host
    what to do: see to the device's network, DNS and clock; MDHttpProxy if it needs a proxy",
            ),
            (
                report(CertReport { tell: on_disk(), next: Next::At(AT), ..cert(89) }),
                false,
                "certificate until 2027-04-14T08:00:00Z (0ABC); notification is tried again 2027-01-15T09:00:00Z
    notification failed once: replacing /export/a.example.key: Is a directory
    what to do: see to that file and the disk that it is on; it is tried again by itself",
            ),
            (
                order(cert(20), trouble(2)),
                true,
                "certificate until 2027-02-04T08:00:00Z (0ABC); the certificate is in its renewal window; next try 2027-01-15T09:00:00Z
    order failed 2 times, last: reading the directory: no route to host
    what to do: nothing yet, it is tried again by itself",
            ),
            (
                order(cert(20), trouble(8)),
                false,
                "certificate until 2027-02-04T08:00:00Z (0ABC); the certificate is in its renewal window; next try 2027-01-15T09:00:00Z
    order failed 8 times, last: reading the directory: no route to host
    what to do: see to the device's network, DNS and clock; MDHttpProxy if it needs a proxy",
            ),
            (
                order(cert(5), refused(1, "unauthorized")),
                false,
                "certificate until 2027-01-20T08:00:00Z (0ABC); the certificate is in its renewal window; next try 2027-01-15T09:00:00Z
    order failed once: ordering a.example: unauthorized: no
    what to do: see that http on port 80 of this name arrives here: DNS (the AAAA record too), port forwarding, firewall",
            ),
            (
                order(cert(5), rejected(Challenge::TlsAlpn01)),
                false,
                "certificate until 2027-01-20T08:00:00Z (0ABC); the certificate is in its renewal window; next try 2027-01-15T09:00:00Z
    order failed once: ordering a.example: unauthorized: no
    what to do: see that https on port 443 of this name arrives here: DNS (the AAAA record too), port forwarding, firewall",
            ),
            (
                order(cert(5), rejected(Challenge::Dns01)),
                false,
                "certificate until 2027-01-20T08:00:00Z (0ABC); the certificate is in its renewal window; next try 2027-01-15T09:00:00Z
    order failed once: ordering a.example: unauthorized: no
    what to do: see that the record is shown by the zone's own servers; for dns-01 run MDChallengeDns01's command by hand",
            ),
            (
                order(missing(Next::At(AT)), Backoff { last: Some(no_roots.into()), ..refused(2, "") }),
                false,
                "no certificate; next try 2027-01-15T09:00:00Z
    order failed 2 times, last: reading MDCACertificateFile /ca.pem: it is not PEM",
            ),
            (
                order(cert(20), refused(1, "caa")),
                false,
                "certificate until 2027-02-04T08:00:00Z (0ABC); the certificate is in its renewal window; next try 2027-01-15T09:00:00Z
    order failed once: ordering a.example: caa: no
    what to do: allow this CA in the name's CAA record, or choose the one that it allows",
            ),
            (
                order(cert(5), refused(3, "serverInternal")),
                false,
                "certificate until 2027-01-20T08:00:00Z (0ABC); the certificate is in its renewal window; next try 2027-01-15T09:00:00Z
    order failed 3 times, last: ordering a.example: serverInternal: no",
            ),
            (
                report(CertReport {
                    tell: Backoff { last: Some(hook.into()), ..refused(1, "") },
                    told: false,
                    next: Next::At(AT),
                    ..cert(89)
                }),
                false,
                "certificate until 2027-04-14T08:00:00Z (0ABC); notification is tried again 2027-01-15T09:00:00Z
    notification failed once: running /bin/reload-ui: exited with 1
    what to do: run the command by hand and see what it says; it is called again",
            ),
            (
                order(CertReport { why: Some(Why::Renamed), ..cert(89) }, Backoff::default()),
                true,
                "certificate until 2027-04-14T08:00:00Z (0ABC); the certificate does not cover all names; next try 2027-03-15T08:00:00Z",
            ),
            (
                of(report(cert(89)), |md| md.drive = DriveMode::Manual),
                true,
                "certificate until 2027-04-14T08:00:00Z (0ABC); not renewed by itself (MDDriveMode manual)",
            ),
            (
                of(report(cert(5)), |md| md.drive = DriveMode::Manual),
                false,
                "certificate until 2027-01-20T08:00:00Z (0ABC); the certificate is in its renewal window; not renewed by itself (MDDriveMode manual)
    what to do: set MDDriveMode auto, or `edgemd import` one that another program has",
            ),
            (
                of(report(missing(Next::Nothing)), |md| md.used = false),
                false,
                "no certificate; not renewed by itself, no virtual host and no export uses it
    what to do: let a virtual host or an export use it, or set MDDriveMode always",
            ),
            (
                own(89),
                true,
                "certificate until 2027-04-14T08:00:00Z (0ABC); its own files (MDCertificateFile) are watched, not renewed",
            ),
            (
                own(5),
                false,
                "certificate until 2027-01-20T08:00:00Z (0ABC); the certificate is in its renewal window; its own files (MDCertificateFile) are watched, not renewed
    what to do: put a newer pair into its files; that is seen by itself",
            ),
            (
                with_text(Some("not stored yet: no space left".into()), None),
                false,
                "certificate until 2027-04-14T08:00:00Z (0ABC); renewal from 2027-03-15T08:00:00Z\n    not stored yet: no space left",
            ),
            (
                with_text(None, Some("reading /a.crt: there is no such file; put it there".into())),
                false,
                "certificate until 2027-04-14T08:00:00Z (0ABC); renewal from 2027-03-15T08:00:00Z\n    reading /a.crt: there is no such file; put it there",
            ),
        ];
        for (report, well, golden) in situations {
            let (lines, is_well) = text(&report);
            let said = lines.join("\n");
            assert_eq!(said, format!("a.example [P-256]: {golden}"));
            assert_eq!(is_well, well, "{said}");
        }
    }

    #[test]
    fn a_refusal_says_which_directive_it_is_about() {
        for (short, remedies) in [
            ("agreementRequired userActionRequired", "MDCertificateAgreement accepted"),
            ("externalAccountRequired", "set MDExternalAccountBinding to what it gives"),
            (BAD_BINDING, "correct MDExternalAccountBinding"),
            ("invalidContact unsupportedContact", "MDContactEmail"),
            ("rejectedIdentifier unsupportedIdentifier malformed", "out of the MD"),
            ("invalidProfile", "MDProfile"),
            ("badPublicKey badCSR", "MDPrivateKeys"),
            ("challenge-mismatch", "MDCAChallenges and MDPortMap"),
            ("challenge-setup-failure", "see what the log says of the answer"),
            ("rateLimited", "nothing, the CA's wait is kept"),
            ("connection dns incorrectResponse tls", "http on port 80"),
        ] {
            for short in short.split(' ') {
                let problem = if short == BAD_BINDING { short.into() } else { format!("{ACME_ERROR}{short}") };
                let said = remedy(&Refusal::ours("ordering", &problem, "no").into()).unwrap_or_default();
                assert!(said.contains(remedies), "{short}: {said}");
            }
        }
        assert_eq!(remedy(&Refusal::ours("ordering", "urn:of:another:kind", "no").into()), None);
    }
}
