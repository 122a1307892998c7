//! What other clients write down beside a certificate: where it comes from, and whose account it was.

use crate::rules::conf::url;
use crate::rules::pkcs8;
use crate::words::cert::KeyKind;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// The value of a setting in certbot's or acme.sh's way of writing it: `server = url`, `Le_API='url'`.
pub fn setting(text: &[u8], key: &str) -> Option<String> {
    let text = core::str::from_utf8(text).ok()?;
    let values = text.lines().filter_map(|line| line.split_once('='));
    let mut found =
        values.filter(|(word, _)| word.trim() == key).map(|(_, value)| value.trim().trim_matches(['\'', '"']));
    found.next().filter(|value| !value.is_empty()).map(str::to_owned)
}

/// The text at a path of keys in a JSON document.
pub fn text_at(json: &[u8], path: &[&str]) -> Option<String> {
    let document: Value = serde_json::from_slice(json).ok()?;
    let found = path.iter().try_fold(&document, |value, key| value.get(key))?;
    found.as_str().map(str::to_owned)
}

/// A private key in JSON (RFC 7518 §6.2 and §6.3), as PKCS#8.
pub fn key_of_jwk(json: &[u8]) -> Result<Vec<u8>, String> {
    let number = |name: &str| {
        let digits = text_at(json, &[name]).ok_or_else(|| format!("the key has no member \"{name}\""))?;
        URL_SAFE_NO_PAD.decode(digits).map_err(|_| format!("the key's member \"{name}\" is not base64url"))
    };
    match text_at(json, &["kty"]).as_deref() {
        Some("RSA") => {
            let names = ["n", "e", "d", "p", "q", "dp", "dq", "qi"];
            let numbers = names.iter().map(|name| number(name)).collect::<Result<Vec<_>, _>>()?;
            Ok(pkcs8::from_rsa_numbers(&numbers))
        }
        Some("EC") => pkcs8::from_ec_numbers(&number("d")?, &number("x")?, &number("y")?),
        _ => Err("it is no RSA or EC key in JSON".into()),
    }
}

/// The CA that a certificate is from, where nobody wrote it down: by its issuer, else the configured one. The result is
/// empty where it can't be that one either.
pub fn giver<'a>(issuer: &str, configured: &'a str, kind: KeyKind) -> (String, &'static str) {
    let known = |name: &str| url::ca(name).map(|ca| ca.url(kind).to_owned()).unwrap_or_default();
    let by_name = ISSUERS.iter().find(|(part, _)| issuer.contains(part)).map(|(_, name)| known(name));
    let is_known = |url: &'a str| ISSUERS.iter().any(|(_, name)| known(name) == url);
    match by_name {
        Some(url) => (url, "by its issuer"),
        None if is_known(configured) => (String::new(), "whichever that was"),
        None => (configured.into(), "as configured, its issuer does not say otherwise"),
    }
}

/// What stands in the issuer's name, the more special first.
const ISSUERS: [(&str, &str); 8] = [
    ("(STAGING)", "LetsEncrypt-Test"),
    ("Let's Encrypt", "LetsEncrypt"),
    ("Internet Security Research Group", "LetsEncrypt"),
    ("ZeroSSL", "ZeroSSL"),
    ("Google Trust Services", "Google"),
    ("SSL Corp", "SSLcom"),
    ("Actalis", "Actalis"),
    ("Sectigo", "Sectigo"),
];

/// The folders in which a client keeps what belongs to a CA: its host (and port, or not) and its path; its host alone.
pub fn folders_of(ca: &str) -> Vec<String> {
    let Some((_, rest)) = ca.split_once("://") else { return vec![] };
    let (host, path) = rest.trim_end_matches('/').split_once('/').unwrap_or((rest, ""));
    let name = if host.starts_with('[') { host } else { host.split(':').next().unwrap_or(host) };
    let mut folders = vec![format!("{host}/{path}"), format!("{name}/{path}"), name.to_owned()];
    folders.dedup();
    // What a URL says may lead nowhere but down.
    folders.retain(|folder| !folder.split('/').any(|part| part == ".."));
    folders
}

/// The body of a fuzz target: what is found in other clients' files is text of theirs, a key is in the form of ours, and no
/// folder leads up.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for key in ["server", "account", "Le_API", "ACCOUNT_URL"] {
        assert!(
            setting(bytes, key).is_none_or(|value| !value.is_empty() && text.contains(&value) && !value.contains('\n'))
        );
    }
    for path in [&["uri"][..], &["ca", "url"], &["kty"]] {
        let _ = text_at(bytes, path);
    }
    match key_of_jwk(bytes) {
        Ok(key) => assert!(crate::rules::der::only(&key, crate::rules::der::SEQUENCE).is_some()),
        Err(why) => assert!(why.len() < 100),
    }
    for folder in folders_of(&text) {
        assert!(!std::path::Path::new("x").join(&folder).components().any(|part| part.as_os_str() == ".."), "{folder}");
    }
    let (url, _) = giver(&text, "https://ca.example/dir", KeyKind::P256);
    assert!(url.starts_with("https://"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_both_kinds() {
        let certbot = b"# renew_before_expiry = 30 days\nversion = 2.1.0\n[renewalparams]\naccount = 0123\nserver = https://ca.example/dir\n";
        let acme_sh = b"Le_Domain='a.example'\nLe_Alt='no'\nLe_API='https://ca.example/dir'\nLe_Keylength=\"ec-256\"\n";
        assert_eq!(setting(certbot, "server").as_deref(), Some("https://ca.example/dir"));
        assert_eq!(setting(certbot, "account").as_deref(), Some("0123"));
        assert_eq!(setting(acme_sh, "Le_API").as_deref(), Some("https://ca.example/dir"));
        assert_eq!(setting(acme_sh, "Le_Keylength").as_deref(), Some("ec-256"));
        for (text, key) in
            [(&b"server ="[..], "server"), (b"server", "server"), (b"\xff=x", "x"), (b"Xserver = y", "server")]
        {
            assert_eq!(setting(text, key), None);
        }
    }

    #[test]
    fn text_in_json() {
        let json =
            br#"{"body":{},"uri":"https://ca.example/acct/1","ca":{"url":"https://ca.example/dir","urls":["x"]}}"#;
        assert_eq!(text_at(json, &["uri"]).as_deref(), Some("https://ca.example/acct/1"));
        assert_eq!(text_at(json, &["ca", "url"]).as_deref(), Some("https://ca.example/dir"));
        for path in [&["none"][..], &["ca"], &["ca", "urls"], &["uri", "x"]] {
            assert_eq!(text_at(json, path), None);
        }
        assert_eq!(text_at(b"{", &["uri"]), None);
    }

    #[test]
    fn a_key_that_is_none_is_said_to_be() {
        for (json, why) in [
            (&b"[]"[..], "it is no RSA or EC key in JSON"),
            (br#"{"kty":"oct"}"#, "it is no RSA or EC key in JSON"),
            (br#"{"kty":"RSA","n":"AQAB"}"#, "the key has no member \"e\""),
            (br#"{"kty":"EC","d":"!"}"#, "the key's member \"d\" is not base64url"),
            (br#"{"kty":"EC","d":"AQAB","x":"AQAB","y":"AQAB"}"#, "the key is on another curve than P-256 and P-384"),
        ] {
            assert_eq!(key_of_jwk(json).unwrap_err(), why);
        }
    }

    #[test]
    fn the_issuer_tells_and_the_configuration_fills_in() {
        let letsencrypt = "https://acme-v02.api.letsencrypt.org/directory";
        for (issuer, configured, url) in [
            ("Let's Encrypt, E5", "https://ca.example/dir", letsencrypt),
            (
                "(STAGING) Let's Encrypt, (STAGING) Puzzling Parsnip E7",
                letsencrypt,
                "https://acme-staging-v02.api.letsencrypt.org/directory",
            ),
            ("ZeroSSL, ZeroSSL ECC Domain Secure Site CA", letsencrypt, "https://acme.zerossl.com/v2/DV90"),
            ("Pebble Intermediate CA", "https://ca.example/dir", "https://ca.example/dir"),
            ("router", letsencrypt, ""),
        ] {
            assert_eq!(giver(issuer, configured, KeyKind::P256).0, url, "{issuer}");
        }
    }

    #[test]
    fn folders_of_a_ca() {
        let letsencrypt = "acme-v02.api.letsencrypt.org";
        assert_eq!(
            folders_of(&format!("https://{letsencrypt}/directory")),
            [format!("{letsencrypt}/directory"), letsencrypt.into()]
        );
        assert_eq!(folders_of("https://localhost:14000/dir"), ["localhost:14000/dir", "localhost/dir", "localhost"]);
        assert_eq!(folders_of("https://ca.example/a/../../etc"), ["ca.example"]);
        assert_eq!(folders_of("x"), [""; 0]);
    }
}
