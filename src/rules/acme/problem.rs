//! What a CA's no means: the problem document (RFC 7807, RFC 8555 §6.7), and how much patience it asks of us.

use crate::rules::acme::headers::links;
use crate::rules::acme::types::{AccountState, Authorization, Directory, Order, Problem, Reply};
use crate::rules::tame::{LONGEST, is_odd, tame};
use crate::words::fault::{ACME_ERROR, Failure, Refusal, Subproblem};
use serde::de::DeserializeOwned;

/// How the waits grow after a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// The CA was not reached, or something in front of it says that it can't answer now: nothing is lost by trying, so the
    /// waits grow to an hour only.
    Offline,
    /// The CA refused: the waits grow to a day.
    Refused,
    /// Our own input is at fault and trying again cannot help: a day at once.
    Ours,
}

pub fn patience(failure: &Failure) -> Patience {
    match failure {
        Failure::Trouble(_) => Patience::Offline,
        Failure::Refusal(refusal) if refusal.status >= Some(500) => Patience::Offline,
        // It was not the CA that has spoken.
        Failure::Refusal(refusal) if refusal.problem == PORTAL => Patience::Offline,
        Failure::Refusal(refusal) if refusal.problem == BAD_BINDING => Patience::Ours,
        Failure::Refusal(refusal) if OURS.iter().any(|short| is(refusal, short)) => Patience::Ours,
        Failure::Refusal(_) => Patience::Refused,
    }
}

/// The types that say "the same question will get the same answer".
const OURS: [&str; 14] = [
    "agreementRequired",
    "badCSR",
    "badPublicKey",
    "badRevocationReason",
    "badSignatureAlgorithm",
    "caa",
    "externalAccountRequired",
    "invalidContact",
    "invalidProfile",
    "malformed",
    "rejectedIdentifier",
    "unsupportedContact",
    "unsupportedIdentifier",
    "userActionRequired",
];

/// Our own word for a page, as those put in between who want a person to log in.
const PORTAL: &str = "captive-portal";
/// mod_md's word for a binding whose key is not what it should be.
pub const BAD_BINDING: &str = "apache:eab-hmac-invalid";

/// Our own word for an answer that RFC 8555 does not know.
pub const UNEXPECTED: &str = "unexpected-answer";

/// Whether the refusal is of this ACME type, given without its name space.
pub fn is(refusal: &Refusal, short: &str) -> bool {
    refusal.problem.strip_prefix(ACME_ERROR) == Some(short)
}

/// The refusal in a reply that is not 2xx, whether or not it brought a document.
pub fn refusal(doing: &str, reply: &Reply) -> Refusal {
    let document: Option<Problem> = fits(&reply.body).then(|| serde_json::from_slice(&reply.body).ok()).flatten();
    let mut refusal = match document {
        Some(problem) if problem.kind.is_some() => from_problem(doing, &problem),
        _ => Refusal::ours(doing, UNEXPECTED, bare(reply)),
    };
    refusal.status = Some(reply.status);
    refusal.retry_after = reply.retry_after;
    // RFC 8555 §7.3.3: new terms stand in a link.
    if let Some(terms) = links(&reply.links, "terms-of-service").first() {
        refusal.detail = format!("{}; the terms of service are at {}", refusal.detail, tame(terms));
    }
    refusal
}

/// The refusal in a document that stands inside of an order or a challenge.
pub fn from_problem(doing: &str, problem: &Problem) -> Refusal {
    let mut refusal =
        Refusal::ours(doing, &tame(problem.kind.as_deref().unwrap_or(UNEXPECTED)), said(problem.detail.as_deref()));
    for sub in problem.subproblems.iter().flatten().take(MOST_SUBPROBLEMS) {
        let name = sub.identifier.as_ref().map(|identifier| tame(&identifier.value)).unwrap_or_default();
        let problem = tame(sub.kind.as_deref().unwrap_or(UNEXPECTED));
        refusal.subproblems.push(Subproblem { problem, detail: said(sub.detail.as_deref()), name });
    }
    refusal
}

/// As many as an order may have names.
const MOST_SUBPROBLEMS: usize = 100;

fn said(detail: Option<&str>) -> String {
    tame(detail.unwrap_or("the CA gave no reason"))
}

/// What to say of a refusal that came without a document.
fn bare(reply: &Reply) -> String {
    let kind = reply.content_type.as_deref().unwrap_or("no content type");
    match reply.status {
        300..=399 => {
            let to = reply.location.as_deref().unwrap_or("nowhere");
            format!("the CA answered {} and points to {}; ACME knows no redirects", reply.status, tame(to))
        }
        status if reply.body.is_empty() => format!("the CA answered {status} and gave no reason"),
        status => format!("the CA answered {status} without a problem document ({})", tame(kind)),
    }
}

/// The JSON in an answer that was no refusal, or what it is instead.
pub fn json<T: DeserializeOwned>(doing: &str, reply: &Reply) -> Result<T, Refusal> {
    if !fits(&reply.body) {
        return Err(Refusal::ours(doing, UNEXPECTED, "the CA's answer has too many parts"));
    }
    serde_json::from_slice(&reply.body).map_err(|why| {
        let kind = reply.content_type.as_deref().unwrap_or("").to_ascii_lowercase();
        let detail = if reply.body.trim_ascii().is_empty() {
            "the CA's answer is empty".into()
        } else if kind.contains("html") || reply.body.trim_ascii_start().starts_with(b"<") {
            return Refusal {
                status: Some(reply.status),
                ..Refusal::ours(
                    doing,
                    PORTAL,
                    "the CA answered HTML instead of JSON; is a captive portal in between, where somebody has to log in?",
                )
            };
        } else if why.is_eof() {
            format!("the CA's answer breaks off after {} bytes", reply.body.len())
        } else {
            format!("the CA's answer is not what RFC 8555 describes: {}", tame(&why.to_string()))
        };
        Refusal { status: Some(reply.status), ..Refusal::ours(doing, UNEXPECTED, detail) }
    })
}

/// Whether what is made of an answer stays small: a megabyte of `0,0,0` would become a hundred megabytes of challenges.
fn fits(body: &[u8]) -> bool {
    body.iter().filter(|byte| **byte == b',').count() <= MOST_COMMAS
}

/// An order of 100 names, the most that any CA takes, has 400.
const MOST_COMMAS: usize = 4000;

/// The body of a fuzz target: whatever a CA sends, as any of the documents of RFC 8555, what is said of it is one line of
/// bounded length that a terminal can be shown.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let html = bytes.len().is_multiple_of(2).then(|| "text/html\u{202e}\n".to_owned());
    let mut reply = Reply { content_type: html, body: bytes.into(), ..Reply::default() };
    for status in [200, 302, 400, 503] {
        reply.status = status;
        reply.location = Some(String::from_utf8_lossy(bytes).into_owned());
        reply.links = vec![format!("<{}>;rel=\"terms-of-service\"", String::from_utf8_lossy(bytes))];
        let refusal = refusal("asking", &reply);
        assert!(refusal.subproblems.len() <= MOST_SUBPROBLEMS && !refusal.detail.is_empty());
        is_presentable(&refusal.into());
    }
    reply.status = 200;
    let _: Option<Directory> = read_any(&reply);
    let _: Option<AccountState> = read_any(&reply);
    if let Some(order) = read_any::<Order>(&reply) {
        order.error.iter().for_each(|problem| is_presentable(&from_problem("asking", problem).into()));
    }
    if let Some(authorization) = read_any::<Authorization>(&reply) {
        assert!(authorization.challenges.len() <= MOST_COMMAS + 1);
    }
}

fn read_any<T: DeserializeOwned>(reply: &Reply) -> Option<T> {
    json("asking", reply).map_err(|refusal| is_presentable(&refusal.into())).ok()
}

/// One line, in which nothing of the CA's is longer than what is kept of it.
#[doc(hidden)]
pub fn is_presentable(failure: &Failure) {
    let text = failure.to_string();
    let pieces = match failure {
        Failure::Refusal(refusal) => 4 + 3 * refusal.subproblems.len(),
        Failure::Trouble(_) => 4,
    };
    assert!(!text.contains(is_odd), "{text:?}");
    assert!(text.len() < pieces * (LONGEST + 100), "{} bytes of {pieces} pieces", text.len());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::fault::Trouble;
    use crate::words::time::Span;

    fn reply(status: u16, body: &str) -> Reply {
        Reply { status, body: body.into(), ..Reply::default() }
    }

    #[test]
    fn rfc_8555_6_7_1_subproblems() {
        let body = r#"{
            "type": "urn:ietf:params:acme:error:malformed",
            "detail": "Some of the identifiers requested were rejected",
            "subproblems": [
                {
                    "type": "urn:ietf:params:acme:error:malformed",
                    "detail": "Invalid underscore in DNS name \"_example.org\"",
                    "identifier": { "type": "dns", "value": "_example.org" }
                },
                {
                    "type": "urn:ietf:params:acme:error:rejectedIdentifier",
                    "detail": "This CA will not issue for \"example.net\"",
                    "identifier": { "type": "dns", "value": "example.net" }
                }
            ]
        }"#;
        let refusal = refusal("placing the order", &reply(400, body));
        assert_eq!(refusal.status, Some(400));
        assert_eq!(refusal.short(), "malformed");
        assert_eq!(refusal.subproblems.len(), 2);
        assert_eq!(
            refusal.to_string(),
            "placing the order: malformed: Some of the identifiers requested were rejected; \
             _example.org: malformed: Invalid underscore in DNS name \"_example.org\"; \
             example.net: rejectedIdentifier: This CA will not issue for \"example.net\""
        );
    }

    #[test]
    fn a_no_without_a_document_is_told_too() {
        for (status, kind, body, said) in [
            (503, Some("text/html"), "<html>", "the CA answered 503 without a problem document (text/html)"),
            (404, None, "", "the CA answered 404 and gave no reason"),
            (400, None, "{}", "the CA answered 400 without a problem document (no content type)"),
            (301, None, "", "the CA answered 301 and points to nowhere; ACME knows no redirects"),
        ] {
            let mut reply = reply(status, body);
            reply.content_type = kind.map(Into::into);
            reply.retry_after = Some(Span::secs(7));
            let refusal = refusal("placing the order", &reply);
            assert_eq!(refusal.detail, said);
            assert_eq!(refusal.problem, UNEXPECTED);
            assert_eq!(refusal.retry_after, Some(Span::secs(7)));
        }
    }

    #[test]
    fn what_is_no_json_says_what_it_is() {
        let (html, portal) = (Some("Text/HTML; charset=utf-8"), "captive-portal: the CA answered HTML");
        for (kind, body, said) in [
            (html, "Please log in", portal),
            (None, " <html>", portal),
            (html, " \n", "unexpected-answer: the CA's answer is empty"),
            (None, "{", "unexpected-answer: the CA's answer breaks off after 1 bytes"),
            (None, "{}", "unexpected-answer: the CA's answer is not what RFC 8555 describes: missing field"),
        ] {
            let reply = Reply { content_type: kind.map(Into::into), ..reply(201, body) };
            let refusal = json::<Order>("placing the order", &reply).unwrap_err();
            assert!(refusal.to_string().starts_with(&format!("placing the order: {said}")), "{refusal} | {said}");
            assert_eq!(refusal.status, Some(201), "{body}");
        }
    }

    #[test]
    fn an_answer_has_so_many_parts() {
        let of = |commas: usize| format!("[0{}]", ",0".repeat(commas));
        assert_eq!(json::<Vec<u8>>("asking", &reply(200, &of(MOST_COMMAS))).unwrap().len(), MOST_COMMAS + 1);
        let no = json::<Vec<u8>>("asking", &reply(200, &of(MOST_COMMAS + 1))).unwrap_err();
        assert_eq!(no.to_string(), "asking: unexpected-answer: the CA's answer has too many parts");
        let document = format!(r#"{{"type":"{ACME_ERROR}caa","x":{}}}"#, of(MOST_COMMAS));
        assert_eq!(refusal("asking", &reply(400, &document)).problem, UNEXPECTED);
    }

    #[test]
    fn odd_documents_keep_their_type() {
        for body in [
            r#"{"type":"urn:ietf:params:acme:error:badNonce"}"#,
            r#"{"type":"urn:ietf:params:acme:error:badNonce","detail":null,"status":null,"subproblems":null}"#,
            r#"{"type":"urn:ietf:params:acme:error:badNonce","status":"400","instance":7}"#,
        ] {
            assert!(is(&refusal("x", &reply(400, body)), "badNonce"), "{body}");
        }
    }

    #[test]
    fn the_link_to_new_terms_is_printed() {
        let mut reply =
            reply(403, r#"{"type":"urn:ietf:params:acme:error:userActionRequired","detail":"Terms changed"}"#);
        reply.links = vec!["<https://ca/tos>;rel=\"terms-of-service\"".into()];
        assert_eq!(refusal("x", &reply).detail, "Terms changed; the terms of service are at https://ca/tos");
    }

    #[test]
    fn patience_by_type() {
        let refusal = |problem: &str| Failure::Refusal(Refusal::ours("x", problem, "y"));
        assert_eq!(patience(&Trouble::new("x", "y").into()), Patience::Offline);
        for short in OURS {
            assert_eq!(patience(&refusal(&format!("{ACME_ERROR}{short}"))), Patience::Ours);
        }
        for problem in ["urn:ietf:params:acme:error:rateLimited", "malformed", "challenge-mismatch", ""] {
            assert_eq!(patience(&refusal(problem)), Patience::Refused, "{problem}");
        }
        assert_eq!(patience(&refusal(BAD_BINDING)), Patience::Ours);
        let bare = |status: u16| patience(&super::refusal("x", &reply(status, "<html>")).into());
        assert_eq!([429, 500, 503].map(bare), [Patience::Refused, Patience::Offline, Patience::Offline]);
    }
}
