//! What goes over the wire of RFC 8555: requests, replies, and the JSON in them.

use crate::words::time::Span;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A request, ready to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    pub method: Method,
    pub url: String,
    pub accept: Option<&'static str>,
    /// A JWS in its flattened JSON form with [`Method::Post`], a question in DER with [`Method::Ocsp`].
    pub body: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    Get,
    Head,
    Post,
    /// A POST, too: to an OCSP responder (RFC 6960 §A.1).
    Ocsp,
}

/// What came back, reduced to the parts that ACME gives a meaning to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub content_type: Option<String>,
    pub location: Option<String>,
    pub nonce: Option<String>,
    pub retry_after: Option<Span>,
    /// The values of all Link headers, unread.
    pub links: Vec<String>,
    pub body: Vec<u8>,
}

/// RFC 8555 §7.1.1. Unknown members are skipped: some CAs put random ones in.
#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "camelCase")]
pub struct Directory {
    pub new_nonce: String,
    pub new_account: String,
    pub new_order: String,
    pub key_change: Option<String>,
    pub revoke_cert: Option<String>,
    /// RFC 9773 §4.
    pub renewal_info: Option<String>,
    pub meta: Option<Meta>,
}

#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    pub terms_of_service: Option<String>,
    pub external_account_required: Option<bool>,
    /// RFC 8659: what it is called in CAA records.
    pub caa_identities: Option<Vec<String>>,
    /// Names and their descriptions (draft-ietf-acme-profiles).
    pub profiles: Option<Value>,
}

/// The body of newAccount (RFC 8555 §7.3, §7.3.1).
#[derive(Serialize, Debug, Default)]
#[serde(rename_all = "camelCase")]
pub struct NewAccount<'a> {
    #[serde(skip_serializing_if = "no_contact")]
    pub contact: &'a [String],
    #[serde(skip_serializing_if = "is_false")]
    pub terms_of_service_agreed: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub only_return_existing: bool,
}

/// RFC 8555 §7.3.2: the whole list; an empty one is a list, too.
#[derive(Serialize, Debug)]
pub struct Contacts<'a> {
    pub contact: &'a [String],
}

/// RFC 8555 §7.1.2, as far as it tells us anything.
#[derive(Deserialize, Debug)]
pub struct AccountState {
    pub status: String,
}

fn no_contact(contact: &&[String]) -> bool {
    contact.is_empty()
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// RFC 8555 §9.7.7, RFC 8738 §3: `dns` or `ip`.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Identifier {
    #[serde(rename = "type")]
    pub kind: String,
    pub value: String,
}

/// The body of newOrder (RFC 8555 §7.4).
#[derive(Serialize, Debug)]
pub struct NewOrder<'a> {
    pub identifiers: Vec<Identifier>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<&'a str>,
    /// RFC 9773 §5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<&'a str>,
}

/// The body of finalize (RFC 8555 §7.4): the request's DER in base64url.
#[derive(Serialize, Debug)]
pub struct Finalize {
    pub csr: String,
}

/// RFC 8555 §7.1.3.
#[derive(Deserialize, Debug)]
pub struct Order {
    pub status: String,
    #[serde(default)]
    pub authorizations: Vec<String>,
    pub finalize: Option<String>,
    pub certificate: Option<String>,
    pub error: Option<Problem>,
}

/// RFC 8555 §7.1.4.
#[derive(Deserialize, Debug)]
pub struct Authorization {
    pub identifier: Identifier,
    pub status: String,
    pub wildcard: Option<bool>,
    #[serde(default)]
    pub challenges: Vec<Offer>,
}

/// One challenge of an authorization. What has not even this shape is skipped unread: CAs offer types to come.
#[derive(Deserialize, Debug)]
#[serde(untagged)]
pub enum Offer {
    Known(Box<Challenge>),
    Other(IgnoredAny),
}

/// RFC 8555 §7.1.5. Not every type has a token.
#[derive(Deserialize, Debug)]
pub struct Challenge {
    #[serde(rename = "type")]
    pub kind: String,
    pub url: String,
    pub status: Option<String>,
    pub token: Option<String>,
    /// Only with dns-persist-01: what the CA calls itself in DNS, and what our account is called there.
    #[serde(rename = "issuer-domain-names")]
    pub issuers: Option<Vec<String>>,
    #[serde(rename = "accounturi")]
    pub account: Option<String>,
    pub error: Option<Problem>,
}

/// RFC 7807, RFC 8555 §6.7. Its `status` is not read: the reply's own counts, and some CAs write it as text.
#[derive(Deserialize, Debug)]
pub struct Problem {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub detail: Option<String>,
    pub subproblems: Option<Vec<Subproblem>>,
}

/// RFC 8555 §6.7.1.
#[derive(Deserialize, Debug)]
pub struct Subproblem {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub detail: Option<String>,
    pub identifier: Option<Identifier>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_8555_7_3_what_is_not_said_is_left_out() {
        let said = |account: NewAccount<'_>| serde_json::to_string(&account).unwrap();
        assert_eq!(said(NewAccount::default()), "{}");
        let contact = &["mailto:a@b.example".to_string()];
        assert_eq!(said(NewAccount { contact, ..NewAccount::default() }), r#"{"contact":["mailto:a@b.example"]}"#);
        assert_eq!(serde_json::to_string(&Contacts { contact: &[] }).unwrap(), r#"{"contact":[]}"#);
    }
}
