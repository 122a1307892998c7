//! JWS as ACME wants it: the account key's public form, its thumbprint, and a request in flattened JSON. Signing is
//! handed in.

use crate::rules::acme::turns::{Ask, How, Signer};
use crate::rules::acme::types::{Method, Request};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

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
    /// From the uncompressed point of a P-256 key; `None` for anything else.
    pub fn p256(point: &[u8]) -> Option<Self> {
        let (form, point) = point.split_first()?;
        let (x, y) = point.split_at_checked(32)?;
        if *form != 4 || y.len() != 32 {
            return None;
        }
        let text = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, base64url(x), base64url(y));
        Some(Self { text, algorithm: "ES256" })
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

/// The request for a question: as it is, or signed by `sign` (RFC 8555 §6.2).
pub fn request<E>(ask: &Ask, jwk: &Jwk, sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>) -> Result<Request, E> {
    let (method, body) = match &ask.how {
        How::Get => (Method::Get, Vec::new()),
        How::Head => (Method::Head, Vec::new()),
        How::Post { payload, nonce, signer } => {
            let protected = base64url(protected(&ask.url, nonce, signer, jwk).as_bytes());
            let payload = base64url(payload.as_bytes());
            let signature = base64url(&sign(format!("{protected}.{payload}").as_bytes())?);
            (Method::Post, flattened(&protected, &payload, &signature).into_bytes())
        }
    };
    Ok(Request { method, url: ask.url.clone(), accept: ask.accept, body })
}

/// URLs and nonces come from the CA, so they are quoted as JSON wants it.
fn protected(url: &str, nonce: &str, signer: &Signer, jwk: &Jwk) -> String {
    let (url, nonce) = (quoted(url), quoted(nonce));
    let who = match signer {
        Signer::Key => format!(r#""jwk":{}"#, jwk.as_str()),
        Signer::Account(account) => format!(r#""kid":{}"#, quoted(account)),
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
    use core::convert::Infallible;

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
        let jwk = Jwk::p256(&point).unwrap();
        assert_eq!(jwk.as_str(), format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#));
        assert_eq!(Jwk::p256(&point[1..]), None);
        assert_eq!(Jwk::p256(&point[..64]), None);
        assert_eq!(Jwk::p256(&[]), None);
        point[0] = 2;
        assert_eq!(Jwk::p256(&point), None);
    }

    fn read(text: &str) -> serde_json::Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
    }

    #[test]
    fn rfc_8555_6_2_exactly_one_of_jwk_and_kid() {
        let mut point = vec![4; 65];
        point[1] = 9;
        let jwk = Jwk::p256(&point).unwrap();
        for (signer, has, lacks) in
            [(Signer::Key, "jwk", "kid"), (Signer::Account("https://ca/acct/\"1\"".into()), "kid", "jwk")]
        {
            let how = How::Post { payload: "{\"a\":1}".into(), nonce: "n-1".into(), signer };
            let ask = Ask { url: "https://ca/new\"order".into(), accept: None, how };
            let mut signed = Vec::new();
            let sign = |bytes: &[u8]| {
                signed = bytes.to_vec();
                Ok::<_, Infallible>(vec![1, 2, 3])
            };
            let request = request(&ask, &jwk, sign).unwrap();
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
            assert_eq!(signed, input.as_bytes());
        }
    }

    /// The flattened form, and nothing beside its three members (RFC 7515 §7.2.2); the header is that of the examples in
    /// RFC 8555 §7.4 and §7.3.
    #[test]
    fn rfc_8555_6_2_the_examples_headers() {
        let jwk = Jwk::p256(&[4; 65]).unwrap();
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
            let request = request(&ask, &jwk, |_| Ok::<_, Infallible>(vec![0; 64])).unwrap();
            let header = format!(r#"{{"alg":"ES256",{key},"nonce":"{nonce}","url":"{url}"}}"#);
            let (header, signature) = (base64url(header.as_bytes()), "A".repeat(86));
            let body = format!(r#"{{"protected":"{header}","payload":"e30","signature":"{signature}"}}"#);
            assert_eq!(String::from_utf8(request.body).unwrap(), body);
            assert_eq!((request.url.as_str(), request.method), (url, Method::Post));
        }
    }

    #[test]
    fn rfc_8555_6_3_post_as_get_has_an_empty_payload() {
        let jwk = Jwk::p256(&[4; 65]).unwrap();
        let how = How::Post { payload: String::new(), nonce: "n".into(), signer: Signer::Key };
        let request =
            request(&Ask { url: "https://ca/o".into(), accept: None, how }, &jwk, |_| Ok::<_, Infallible>(vec![]))
                .unwrap();
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body["payload"], "");
    }
}
