//! JWS as ACME wants it: the account key's public form, its thumbprint, and a request in flattened JSON. Signing is
//! handed in.

use crate::rules::acme::turns::{Ask, How, Mac, Signer};
use crate::rules::acme::types::{Method, Request};
use crate::words::fault::Trouble;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A public key in the canonical form of RFC 7638 §3.3: the required members, sorted, without a space. That is also a
/// valid `jwk` header, so there is only this one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Jwk {
    text: String,
    /// What its private key signs by (RFC 7518 §3.1).
    algorithm: &'static str,
}

impl Jwk {
    /// From the uncompressed point of a key of P-256 or P-384; `None` for anything else.
    pub fn ec(point: &[u8]) -> Option<Self> {
        let (form, point) = point.split_first()?;
        let (curve, algorithm) = match point.len() {
            64 => ("P-256", "ES256"),
            96 => ("P-384", "ES384"),
            _ => return None,
        };
        let (x, y) = point.split_at_checked(point.len() / 2)?;
        if *form != 4 {
            return None;
        }
        let text = format!(r#"{{"crv":"{curve}","kty":"EC","x":"{}","y":"{}"}}"#, base64url(x), base64url(y));
        Some(Self { text, algorithm })
    }

    /// From modulus and exponent, big-endian, without leading zeros.
    pub fn rsa(n: &[u8], e: &[u8]) -> Self {
        let text = format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, base64url(e), base64url(n));
        Self { text, algorithm: "RS256" }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// RFC 7638 §3: the SHA-256 of the canonical form, base64url.
    pub fn thumbprint(&self) -> String {
        base64url(ring::digest::digest(&ring::digest::SHA256, self.text.as_bytes()).as_ref())
    }
}

/// Signs a message by some private key.
pub type Sign<'a> = &'a dyn Fn(&[u8]) -> Result<Vec<u8>, Trouble>;

/// The request for a question: as it is, or signed by `sign` (RFC 8555 §6.2).
pub fn request(ask: &Ask, jwk: &Jwk, sign: Sign<'_>) -> Result<Request, Trouble> {
    let (method, body) = match &ask.how {
        How::Get => (Method::Get, Vec::new()),
        How::Head => (Method::Head, Vec::new()),
        How::Post { payload, nonce, signer } => {
            let protected = protected(&ask.url, nonce, signer, jwk);
            (Method::Post, signed(&protected, payload, sign)?.into_bytes())
        }
    };
    Ok(Request { method, url: ask.url.clone(), accept: ask.accept, body })
}

/// What the account's new key says when it takes the place of the old one (RFC 8555 §7.3.5): a JWS without a nonce.
pub fn change(url: &str, account: &str, old: &Jwk, new: &Jwk, sign: Sign<'_>) -> Result<String, Trouble> {
    let protected = format!(r#"{{"alg":"{}","jwk":{},"url":{}}}"#, new.algorithm, new.as_str(), quoted(url));
    let payload = format!(r#"{{"account":{},"oldKey":{}}}"#, quoted(account), old.as_str());
    signed(&protected, &payload, sign)
}

fn signed(protected: &str, payload: &str, sign: Sign<'_>) -> Result<String, Trouble> {
    let (protected, payload) = (base64url(protected.as_bytes()), base64url(payload.as_bytes()));
    let signature = sign(format!("{protected}.{payload}").as_bytes())?;
    Ok(flattened(&protected, &payload, &base64url(&signature)))
}

/// The key that a CA's own site has given, from base64url, padded or not.
pub fn mac_key(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok().filter(|key| !key.is_empty())
}

/// The payload of newAccount with what binds the account to that of `kid` (RFC 8555 §7.3.4).
pub fn bound(payload: &str, url: &str, jwk: &Jwk, (kid, key): (&str, &[u8]), mac: Mac) -> String {
    let (word, algorithm) = match mac {
        Mac::Hs256 => ("HS256", hmac::HMAC_SHA256),
        Mac::Hs384 => ("HS384", hmac::HMAC_SHA384),
        Mac::Hs512 => ("HS512", hmac::HMAC_SHA512),
    };
    let protected = format!(r#"{{"alg":"{word}","kid":{},"url":{}}}"#, quoted(kid), quoted(url));
    let (protected, inner) = (base64url(protected.as_bytes()), base64url(jwk.as_str().as_bytes()));
    let tag = hmac::sign(&hmac::Key::new(algorithm, key), format!("{protected}.{inner}").as_bytes());
    let binding = flattened(&protected, &inner, &base64url(tag.as_ref()));
    let rest = payload.trim_start_matches('{');
    let comma = if rest.starts_with('}') { "" } else { "," };
    format!(r#"{{"externalAccountBinding":{binding}{comma}{rest}"#)
}

/// URLs and nonces come from the CA, so they are quoted as JSON wants it.
fn protected(url: &str, nonce: &str, signer: &Signer, jwk: &Jwk) -> String {
    let (url, nonce) = (quoted(url), quoted(nonce));
    let who = match signer {
        Signer::Key | Signer::Bound(_) => format!(r#""jwk":{}"#, jwk.as_str()),
        Signer::Account(account) | Signer::Changing(account) => format!(r#""kid":{}"#, quoted(account)),
    };
    format!(r#"{{"alg":"{}",{who},"nonce":{nonce},"url":{url}}}"#, jwk.algorithm)
}

/// RFC 7515 §7.2.2.
fn flattened(protected: &str, payload: &str, signature: &str) -> String {
    format!(r#"{{"protected":"{protected}","payload":"{payload}","signature":"{signature}"}}"#)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_7638_3_1_thumbprint() {
        let n = concat!(
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aP",
            "FFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_F",
            "DW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lF",
            "d2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
        );
        let jwk = Jwk::rsa(&URL_SAFE_NO_PAD.decode(n).unwrap(), &[1, 0, 1]);
        assert_eq!(jwk.as_str(), format!(r#"{{"e":"AQAB","kty":"RSA","n":"{n}"}}"#));
        assert_eq!(jwk.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    /// RFC 7515 §A.3.1 has this key.
    #[test]
    fn rfc_7515_a_3_key() {
        let x = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
        let y = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
        let mut point = vec![4];
        point.extend(URL_SAFE_NO_PAD.decode(x).unwrap());
        point.extend(URL_SAFE_NO_PAD.decode(y).unwrap());
        let jwk = Jwk::ec(&point).unwrap();
        assert_eq!(jwk.as_str(), format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#));
        assert_eq!(Jwk::ec(&point[1..]), None);
        assert_eq!(Jwk::ec(&point[..64]), None);
        assert_eq!(Jwk::ec(&[]), None);
        point[0] = 2;
        assert_eq!(Jwk::ec(&point), None);
    }

    fn read(text: &str) -> serde_json::Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
    }

    #[test]
    fn rfc_8555_6_2_exactly_one_of_jwk_and_kid() {
        let mut point = vec![4; 65];
        point[1] = 9;
        let jwk = Jwk::ec(&point).unwrap();
        for (signer, has, lacks) in
            [(Signer::Key, "jwk", "kid"), (Signer::Account("https://ca/acct/\"1\"".into()), "kid", "jwk")]
        {
            let how = How::Post { payload: "{\"a\":1}".into(), nonce: "n-1".into(), signer };
            let ask = Ask { url: "https://ca/new\"order".into(), accept: None, how };
            let signed = core::cell::RefCell::default();
            let sign = |bytes: &[u8]| {
                *signed.borrow_mut() = bytes.to_vec();
                Ok::<_, Trouble>(vec![1, 2, 3])
            };
            let request = request(&ask, &jwk, &sign).unwrap();
            let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
            let header = read(body["protected"].as_str().unwrap());
            assert_eq!(header["alg"], "ES256");
            let rsa = protected("https://ca/", "n", &Signer::Key, &Jwk::rsa(&[7; 256], &[1, 0, 1]));
            assert!(rsa.starts_with(r#"{"alg":"RS256","jwk":{"e":"AQAB","kty":"RSA","n":"BwcH"#), "{rsa}");
            assert_eq!(header["nonce"], "n-1");
            assert_eq!(header["url"], "https://ca/new\"order");
            assert!(header.get(has).is_some() && header.get(lacks).is_none(), "{header}");
            assert_eq!(read(body["payload"].as_str().unwrap())["a"], 1);
            assert_eq!(body["signature"], "AQID");
            let input = format!("{}.{}", body["protected"].as_str().unwrap(), body["payload"].as_str().unwrap());
            assert_eq!(*signed.borrow(), input.as_bytes());
        }
    }

    #[test]
    fn rfc_8555_7_3_5_the_new_key_speaks_of_the_old_one() {
        let (old, new) = (Jwk::ec(&[4; 65]).unwrap(), Jwk::ec(&[[4; 97]].concat()).unwrap());
        let sign = |bytes: &[u8]| Ok::<_, Trouble>(bytes[..4].to_vec());
        let url = "https://example.com/acme/key-change";
        let inner = change(url, "https://example.com/acme/acct/1", &old, &new, &sign).unwrap();
        let inner: serde_json::Value = serde_json::from_str(&inner).unwrap();
        let header = read(inner["protected"].as_str().unwrap());
        assert_eq!((&header["alg"], &header["url"]), (&"ES384".into(), &url.into()));
        assert_eq!(header["jwk"].to_string(), new.as_str());
        assert!(header.get("nonce").is_none() && header.get("kid").is_none(), "{header}");
        let payload = read(inner["payload"].as_str().unwrap());
        assert_eq!(payload["account"], "https://example.com/acme/acct/1");
        assert_eq!(payload["oldKey"].to_string(), old.as_str());
        assert_eq!(payload.as_object().unwrap().len(), 2);
    }

    /// The tags are those of another program's.
    #[test]
    fn rfc_8555_7_3_4_the_binding() {
        let point = ["f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"];
        let point = point.map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).concat();
        let jwk = Jwk::ec(&[&[4], &point[..]].concat()).unwrap();
        let (url, key) = ("https://example.com/acme/new-account", (1..=32).collect::<Vec<u8>>());
        for (mac, alg, tag) in [
            (Mac::Hs256, "HS256", "Hztk4o981NGpMYhUXnH_lz_hIy_jHrDaC9fgM9OFjb8"),
            (Mac::Hs384, "HS384", "KO29Qe2MuomF5acQ_2f1c2Gl9_hExdlvejGBbV8ry457tEMkGZH5TJ9FVIWU09LV"),
            (
                Mac::Hs512,
                "HS512",
                "CyGJahmX-3_h__GpqNzdDsiVnEWoogQzFQWF3KDioTDMMxft7SejKe4W-PBw7RNuk03OtMBdBw4MAkGiJTC6iQ",
            ),
        ] {
            for payload in ["{}", r#"{"termsOfServiceAgreed":true}"#] {
                let payload: serde_json::Value =
                    serde_json::from_str(&bound(payload, url, &jwk, ("kid-1", &key), mac)).unwrap();
                let binding = &payload["externalAccountBinding"];
                assert_eq!(binding["signature"], tag);
                let header = read(binding["protected"].as_str().unwrap());
                assert_eq!(header, serde_json::json!({"alg": alg, "kid": "kid-1", "url": url}), "and no nonce");
                assert_eq!(read(binding["payload"].as_str().unwrap()).to_string(), jwk.as_str());
            }
        }
        let odd = bound("{}", url, &jwk, ("k\"\n", &key), Mac::Hs256);
        assert!(serde_json::from_str::<serde_json::Value>(&odd).is_ok(), "{odd}");
        for text in ["c2VjcmV0", "c2VjcmV0cw", "c2VjcmV0cw==", "-_-_"] {
            assert!(mac_key(text).is_some(), "{text}");
        }
        for text in ["", "=", "c2VjcmV0c", "+/+/", "a b", "\u{fc}"] {
            assert_eq!(mac_key(text), None, "{text}");
        }
    }

    /// The flattened form, and nothing beside its three members (RFC 7515 §7.2.2); the header is that of the examples in
    /// RFC 8555 §7.4 and §7.3.
    #[test]
    fn rfc_8555_6_2_the_examples_headers() {
        let jwk = Jwk::ec(&[4; 65]).unwrap();
        let account = Signer::Account("https://example.com/acme/acct/evOfKhNU60wg".into());
        for (signer, nonce, url, key) in [
            (
                account,
                "5XJ1L3lEkMG7tR6pA00clA",
                "https://example.com/acme/new-order",
                r#""kid":"https://example.com/acme/acct/evOfKhNU60wg""#.to_string(),
            ),
            (
                Signer::Key,
                "6S8IqOGY7eL2lsGoTZYifg",
                "https://example.com/acme/new-account",
                format!(r#""jwk":{}"#, jwk.as_str()),
            ),
        ] {
            let how = How::Post { payload: "{}".into(), nonce: nonce.into(), signer };
            let ask = Ask { url: url.into(), accept: None, how };
            let request = request(&ask, &jwk, &|_| Ok::<_, Trouble>(vec![0; 64])).unwrap();
            let header = format!(r#"{{"alg":"ES256",{key},"nonce":"{nonce}","url":"{url}"}}"#);
            let (header, signature) = (base64url(header.as_bytes()), "A".repeat(86));
            let body = format!(r#"{{"protected":"{header}","payload":"e30","signature":"{signature}"}}"#);
            assert_eq!(String::from_utf8(request.body).unwrap(), body);
            assert_eq!((request.url.as_str(), request.method), (url, Method::Post));
        }
    }

    #[test]
    fn rfc_8555_6_3_post_as_get_has_an_empty_payload() {
        let jwk = Jwk::ec(&[4; 65]).unwrap();
        let how = How::Post { payload: String::new(), nonce: "n".into(), signer: Signer::Key };
        let request =
            request(&Ask { url: "https://ca/o".into(), accept: None, how }, &jwk, &|_| Ok::<_, Trouble>(vec![]))
                .unwrap();
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body["payload"], "");
    }
}
