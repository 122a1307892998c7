//! One name's proof, read from an authorization: what can be served for it, or why it failed.

use crate::rules::acme::asking::is_base64url;
use crate::rules::acme::problem::{UNEXPECTED, from_problem};
use crate::rules::acme::turns::{Brief, Proof};
use crate::rules::acme::types::{Authorization, Challenge as Offered, Offer, Problem};
use crate::rules::tame::tame;
use crate::rules::txt::{self, Txt};
use crate::words::config::Challenge;
use crate::words::fault::{ACME_ERROR, Refusal};
use crate::words::name::Name;
use std::collections::VecDeque;

/// A challenge of the CA's that we can answer.
#[derive(Debug)]
pub struct Candidate {
    pub proof: Proof,
    /// Where the CA is told that the answer is in place.
    pub url: String,
    /// The CA looks already, because an earlier order told it to.
    pub begun: bool,
    /// The CA was told twice.
    pub told_again: bool,
}

/// The name among the asked ones that this authorization is for.
pub fn name_of(authorization: &Authorization, brief: &Brief) -> Result<Name, Refusal> {
    let value = authorization.identifier.value.to_ascii_lowercase();
    let wildcard = authorization.wildcard == Some(true);
    let address = value.parse().ok();
    let fits = |name: &&Name| match name.as_str().strip_prefix("*.") {
        Some(parent) => wildcard && parent == value,
        None => !wildcard && (name.as_str() == value || (address.is_some() && name.ip() == address)),
    };
    brief.names.iter().find(fits).cloned().ok_or_else(|| {
        let value = tame(&value);
        Refusal::ours(READING, UNEXPECTED, format!("the CA wants a proof for {value}, which was not asked for"))
    })
}

pub const READING: &str = "reading an authorization";

/// What can be tried for a name, the preferred type first; never empty.
pub fn candidates(
    authorization: Authorization,
    name: &Name,
    brief: &Brief,
    account: &str,
) -> Result<VecDeque<Candidate>, Refusal> {
    let doing = format!("proving {name}");
    let mut offered: Vec<Offered> = Vec::new();
    for offer in authorization.challenges {
        if let Offer::Known(challenge) = offer {
            offered.push(*challenge);
        }
    }
    let mut candidates = VecDeque::new();
    for challenge in &brief.challenges {
        // A rejected one is never looked at again.
        let fits = |offer: &&Offered| offer.kind == challenge.word() && offer.status.as_deref() != Some("invalid");
        let Some(offer) = offered.iter().find(fits) else { continue };
        let Some(proof) = proof(*challenge, offer, name, (brief, account)) else { continue };
        let has_token = is_base64url(&proof.token) || *challenge == Challenge::DnsPersist01;
        if proof.token.len() > 128 || !has_token {
            let why = format!("the CA's token for {} is not 1 to 128 characters of base64url", challenge.word());
            return Err(Refusal::ours(&doing, UNEXPECTED, why));
        }
        let begun = offer.status.as_deref().is_some_and(|status| status != "pending");
        candidates.push_back(Candidate { proof, url: offer.url.clone(), begun, told_again: false });
    }
    if candidates.is_empty() {
        return Err(mismatch(&doing, &offered, brief));
    }
    Ok(candidates)
}

/// What would answer it; `None` where something is missing that this type lives by.
fn proof(challenge: Challenge, offer: &Offered, name: &Name, (brief, account): (&Brief, &str)) -> Option<Proof> {
    let mut proof =
        Proof { challenge, name: name.clone(), token: String::new(), key_authorization: String::new(), txt: None };
    if challenge == Challenge::DnsPersist01 {
        let issuer = offer.issuers.as_ref()?.first()?;
        let account = offer.account.as_deref().unwrap_or(account);
        proof.txt = Some(Txt::persist(name, issuer, account, reaches_below(name, &brief.names))?);
        return Some(proof);
    }
    proof.token.clone_from(offer.token.as_ref()?);
    proof.key_authorization = format!("{}.{}", proof.token, brief.thumbprint);
    proof.txt = (challenge == Challenge::Dns01).then(|| Txt::dns_01(name, &proof.key_authorization));
    Some(proof)
}

/// Whether one record shall do for a name and its wildcard.
pub fn reaches_below(name: &Name, names: &[Name]) -> bool {
    names.iter().any(|other| other.is_wildcard() && txt::base(other) == txt::base(name))
}

fn mismatch(doing: &str, offered: &[Offered], brief: &Brief) -> Refusal {
    let offered: Vec<&str> = offered.iter().map(|challenge| challenge.kind.as_str()).collect();
    let possible: Vec<&str> = brief.challenges.iter().map(|challenge| challenge.word()).collect();
    let (offered, possible) = (tame(&offered.join(", ")), possible.join(", "));
    let offered = if offered.is_empty() { "nothing".into() } else { offered };
    Refusal::ours(doing, MISMATCH, format!("the CA offers {offered}; possible here: {possible}"))
}

pub const MISMATCH: &str = "challenge-mismatch";
pub const UNSUITABLE: &str = "None of the ACME challenge methods configured for this domain are suitable.";

/// An answer could not be put in place here; the CA was not asked about it.
pub const SETUP_FAILURE: &str = "challenge-setup-failure";

/// What the CA says about a challenge of ours that it does not look at any more, but has not refused.
pub fn left_open<'a>(authorization: &'a Authorization, candidate: &Candidate) -> Option<&'a Problem> {
    authorization.challenges.iter().find_map(|offer| match offer {
        Offer::Known(challenge) if challenge.url == candidate.url && challenge.status.as_deref() == Some("pending") => {
            challenge.error.as_ref()
        }
        _ => None,
    })
}

/// Why an authorization will never become valid: the CA's own words about the challenge, if it left any. Some CAs leave
/// none, and only mark the challenge.
pub fn rejected(authorization: &Authorization, name: &Name) -> Refusal {
    let mut marked: Option<&Offered> = None;
    for offer in &authorization.challenges {
        let Offer::Known(challenge) = offer else { continue };
        let better = match marked {
            Some(known) => known.error.is_none() && challenge.error.is_some(),
            None => challenge.error.is_some() || challenge.status.as_deref() == Some("invalid"),
        };
        if better {
            marked = Some(challenge);
        }
    }
    let doing = match marked {
        Some(challenge) => format!("proving {name} by {}", tame(&challenge.kind)),
        None => format!("proving {name}"),
    };
    let refusal = match marked.and_then(|challenge| challenge.error.as_ref()) {
        Some(error) => from_problem(&doing, error),
        None => {
            let why = format!("the authorization is {}, and the CA gave no reason", tame(&authorization.status));
            Refusal::ours(&doing, &format!("{ACME_ERROR}unauthorized"), why)
        }
    };
    Refusal { rejected: marked.and_then(|challenge| Challenge::of_word(&challenge.kind)), ..refusal }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::name::Labels;

    fn read(json: &str) -> Authorization {
        serde_json::from_str(json).unwrap()
    }

    fn brief(names: &[&str]) -> Brief {
        let names = names.iter().map(|text| Name::parse(text, Labels::One).unwrap()).collect();
        Brief { names, challenges: vec![Challenge::Http01], ..Brief::default() }
    }

    #[test]
    fn an_authorization_is_for_one_of_the_names() {
        let brief = brief(&["*.a.example", "a.example", "*.b.example", "2001:db8::7"]);
        for (kind, value, wildcard, name) in [
            ("dns", "A.example", "", Some("a.example")),
            ("dns", "a.example", r#","wildcard":false"#, Some("a.example")),
            ("dns", "a.example", r#","wildcard":true"#, Some("*.a.example")),
            ("dns", "b.example", r#","wildcard":true"#, Some("*.b.example")),
            ("dns", "b.example", "", None),
            ("dns", "c.example", r#","wildcard":true"#, None),
            ("ip", "2001:DB8:0::7", "", Some("2001:db8::7")),
            ("ip", "2001:db8::8", "", None),
        ] {
            let text = format!(
                r#"{{"status":"pending","identifier":{{"type":"{kind}","value":"{value}"}},"challenges":[]{wildcard}}}"#
            );
            let found = name_of(&read(&text), &brief).ok();
            assert_eq!(found.as_ref().map(Name::as_str), name, "{value} {wildcard}");
        }
    }

    #[test]
    fn a_token_has_an_end() {
        let brief = brief(&["a.example"]);
        for (length, fits) in [(1, true), (128, true), (129, false)] {
            let text = format!(
                r#"{{"status":"pending","identifier":{{"type":"dns","value":"a.example"}},
                "challenges":[{{"type":"http-01","url":"https://ca/c","token":"{}"}}]}}"#,
                "x".repeat(length)
            );
            assert_eq!(candidates(read(&text), &brief.names[0], &brief, "").is_ok(), fits, "{length}");
        }
    }

    /// The first challenge that has a reason counts, else the first that is marked.
    #[test]
    fn of_several_challenges_the_one_that_failed_is_named() {
        let name = Name::parse("a.example", Labels::One).unwrap();
        let invalid = r#""status":"invalid""#;
        let error = r#""error":{"type":"urn:ietf:params:acme:error:dns","detail":"nobody"}"#;
        for (http, dns, by) in [
            (invalid, "", "proving a.example by http-01: unauthorized"),
            (invalid, invalid, "proving a.example by http-01: unauthorized"),
            (invalid, error, "proving a.example by dns-01: dns: nobody"),
            (error, error, "proving a.example by http-01: dns: nobody"),
            ("", "", "proving a.example: unauthorized"),
        ] {
            let challenge = |kind: &str, more: &str| {
                let comma = if more.is_empty() { "" } else { "," };
                format!(r#"{{"type":"{kind}","url":"https://ca/c","token":"t"{comma}{more}}}"#)
            };
            let text = format!(
                r#"{{"status":"invalid","identifier":{{"type":"dns","value":"a.example"}},"challenges":[{},{}]}}"#,
                challenge("http-01", http),
                challenge("dns-01", dns)
            );
            let said = rejected(&read(&text), &name).to_string();
            assert!(said.starts_with(by), "{said} | {by}");
        }
    }
}
