//! The TXT records that prove a name: where each stands, what it says, and whether what stands there says it.

use crate::rules::acme::jws::base64url;
use crate::words::name::Name;
use core::fmt;

/// A record that is to be seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Txt {
    pub name: String,
    pub value: String,
}

/// As a zone file has it. There is no quote in any value of ours.
impl fmt::Display for Txt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. IN TXT \"{}\"", self.name, self.value)
    }
}

impl Txt {
    /// RFC 8555 §8.4.
    pub fn dns_01(name: &Name, key_authorization: &str) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, key_authorization.as_bytes());
        Self { name: format!("_acme-challenge.{}", base(name)), value: base64url(digest.as_ref()) }
    }

    /// dns-persist-01, by its draft (draft-ietf-acme-dns-persist): the CA, our account there, and how far it reaches.
    /// `None`: what the CA says can't stand in a record.
    pub fn persist(name: &Name, issuer: &str, account: &str, wildcard: bool) -> Option<Self> {
        let issuer = issuer.trim_end_matches('.').to_ascii_lowercase();
        let plain = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b';' | b'"' | b'\\'))
        };
        let policy = if wildcard { "; policy=wildcard" } else { "" };
        let value = format!("{issuer}; accounturi={account}{policy}");
        (plain(&issuer) && plain(account)).then(|| Self { name: format!("_validation-persist.{}", base(name)), value })
    }

    /// Whether this text says what ours says: word for word, or, where it is a statement of dns-persist-01, in substance.
    pub fn is_said_by(&self, text: &[u8]) -> bool {
        if text == self.value.as_bytes() {
            return true;
        }
        let statement = core::str::from_utf8(text).ok().and_then(Statement::read);
        let (Some(ours), Some(theirs)) = (Statement::read(&self.value), statement) else { return false };
        let reaches = theirs.wildcard || !ours.wildcard;
        theirs.issuer.eq_ignore_ascii_case(ours.issuer) && theirs.account == ours.account && reaches
    }
}

/// The name under which the records stand; one for a name and its wildcard.
pub fn base(name: &Name) -> &str {
    name.as_str().strip_prefix("*.").unwrap_or(name.as_str())
}

/// The value of a CAA record (RFC 8659 §4.2), with what dns-persist-01 wants in it.
struct Statement<'a> {
    issuer: &'a str,
    account: &'a str,
    wildcard: bool,
}

impl<'a> Statement<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (issuer, mut account, mut wildcard) = (parts.next()?, None, false);
        for part in parts {
            let (tag, value) = part.split_once('=')?;
            let (tag, value) = (tag.trim_end().to_ascii_lowercase(), value.trim_start());
            match tag.as_str() {
                "accounturi" if account.replace(value).is_some() => return None,
                "policy" => wildcard = value.eq_ignore_ascii_case("wildcard"),
                _ => {}
            }
        }
        Some(Self { issuer, account: account?, wildcard })
    }
}

/// The body of a fuzz target: of two texts from a CA a record is made that says what it says, or none.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (issuer, account) = text.split_once('\n').unwrap_or((&text, "https://ca.example/acct/1"));
    let name = Name::parse("*.a.example", crate::words::name::Labels::Two).expect("a name");
    for wildcard in [false, true] {
        let Some(txt) = Txt::persist(&name, issuer, account, wildcard) else { continue };
        assert!(txt.value.is_ascii() && !txt.value.contains(|c: char| c.is_control() || c == '"' || c == '\\'));
        assert!(txt.is_said_by(txt.value.as_bytes()) && txt.is_said_by(txt.value.replace("; ", ";").as_bytes()));
        assert!(!txt.is_said_by(txt.value.replace("accounturi=", "accounturi=x").as_bytes()));
    }
    let ours = Txt::persist(&name, "ca.example", "https://ca.example/acct/1", false);
    let said = ours.is_some_and(|ours| ours.is_said_by(bytes));
    assert!(!said || text.contains("https://ca.example/acct/1"), "another account's");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::name::Labels;

    fn name(text: &str) -> Name {
        Name::parse(text, Labels::Two).unwrap()
    }

    #[test]
    fn rfc_8555_8_4_the_record_of_dns_01() {
        let txt = Txt::dns_01(&name("*.example.org"), "token.thumbprint");
        assert_eq!(
            txt.to_string(),
            "_acme-challenge.example.org. IN TXT \"61rBZ_4knHblO0MNoxFsXZ_eTFUHum0B6IVRbhvUn5I\""
        );
        assert!(txt.is_said_by(txt.value.as_bytes()) && !txt.is_said_by(b"") && !txt.is_said_by(b"x; accounturi=y"));
    }

    const ACCOUNT: &str = "https://ca.example/acct/1";

    #[test]
    fn the_record_of_dns_persist_01() {
        let txt = Txt::persist(&name("a.example"), "CA.example.", ACCOUNT, false).unwrap();
        let said = "_validation-persist.a.example. IN TXT \"ca.example; accounturi=https://ca.example/acct/1\"";
        assert_eq!(txt.to_string(), said);
        let wide = Txt::persist(&name("*.a.example"), "ca.example", ACCOUNT, true).unwrap();
        assert_eq!(wide.value, "ca.example; accounturi=https://ca.example/acct/1; policy=wildcard");
        assert_eq!(wide.name, txt.name);
        for (issuer, account) in [("", ACCOUNT), ("ca.example", ""), ("ca;x", ACCOUNT), ("ca", "a\"b"), ("c a", "x")] {
            assert_eq!(Txt::persist(&name("a.example"), issuer, account, false), None, "{issuer} {account}");
        }
    }

    /// What people write is as good in substance.
    #[test]
    fn statements_are_compared_in_substance() {
        let narrow = Txt::persist(&name("a.example"), "ca.example", ACCOUNT, false).unwrap();
        let wide = Txt::persist(&name("a.example"), "ca.example", ACCOUNT, true).unwrap();
        for (text, as_narrow, as_wide) in [
            ("ca.example; accounturi=https://ca.example/acct/1", true, false),
            ("CA.example;accounturi=https://ca.example/acct/1;policy=Wildcard", true, true),
            ("ca.example; policy=wildcard; persistUntil=1900000000; ACCOUNTURI=https://ca.example/acct/1", true, true),
            ("ca.example; accounturi=https://ca.example/ACCT/1", false, false),
            ("other.example; accounturi=https://ca.example/acct/1", false, false),
            ("ca.example; accounturi=x; accounturi=https://ca.example/acct/1", false, false),
            ("ca.example; accounturi=https://ca.example/acct/1;", false, false),
            ("ca.example", false, false),
        ] {
            let said = (narrow.is_said_by(text.as_bytes()), wide.is_said_by(text.as_bytes()));
            assert_eq!(said, (as_narrow, as_wide), "{text}");
        }
        assert!(!narrow.is_said_by(b"\xff"));
    }
}
