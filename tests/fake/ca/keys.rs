//! What is done with keys: an account gets another one (RFC 8555 §7.3.5), a certificate is revoked (RFC 8555 §7.6).

use super::{Answer, Ca, FakeCa, No, ok};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edgemd::rules::acme::jws::Jwk;
use edgemd::rules::acme::types::Reply;
use ring::signature::{self, UnparsedPublicKey};
use serde_json::{Value, json};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

impl FakeCa {
    /// The DER of what was revoked, and the reason that was given.
    pub fn revoked(&self) -> Vec<(Vec<u8>, Value)> {
        self.lock().revoked.clone()
    }

    /// The thumbprints of the accounts' keys.
    pub fn thumbprints(&self) -> Vec<String> {
        self.lock().accounts.iter().map(|account| account.thumbprint.clone()).collect()
    }
}

fn decode(text: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text.as_str().unwrap_or_default()).unwrap_or_default()
}

fn point(jwk: &Value) -> Vec<u8> {
    [vec![4], decode(&jwk["x"]), decode(&jwk["y"])].concat()
}

impl Ca {
    pub(super) fn change_key(&mut self, account: usize, payload: &[u8], url: &str) -> Answer {
        let malformed = |why: &str| No(400, "malformed", why.into());
        let inner: Value = serde_json::from_slice(payload).map_err(|_| malformed("no JWS inside"))?;
        let json = |part: &Value| serde_json::from_slice::<Value>(&decode(part)).unwrap_or_default();
        let (header, change) = (json(&inner["protected"]), json(&inner["payload"]));
        let new = point(&header["jwk"]);
        let input =
            format!("{}.{}", inner["protected"].as_str().unwrap_or(""), inner["payload"].as_str().unwrap_or(""));
        UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, &new)
            .verify(input.as_bytes(), &decode(&inner["signature"]))
            .map_err(|_| malformed("the inner signature is wrong"))?;
        if header["url"] != url || header.get("nonce").is_some() || header["alg"] != "ES256" {
            return Err(malformed("the inner header is wrong"));
        }
        let here = format!("{}/account/{account}", self.base);
        if change["account"] != here.as_str() || point(&change["oldKey"]) != self.accounts[account].point {
            return Err(malformed("account and old key are those of the outer signature"));
        }
        if let Some(other) = self.accounts.iter().position(|account| account.point == new) {
            let mut reply = super::problem(&No(409, "conflict", "an account has this key".into()));
            reply.location = Some(format!("{}/account/{other}", self.base));
            return Ok(reply);
        }
        self.accounts[account].thumbprint = Jwk::ec(&new).ok_or_else(|| malformed("no P-256"))?.thumbprint();
        self.accounts[account].point = new;
        Ok(ok(200, &json!({"status": "valid"})))
    }

    pub(super) fn revoke(&mut self, key: &[u8], account: Option<usize>, payload: &[u8]) -> Answer {
        let payload: Value = serde_json::from_slice(payload).unwrap_or_default();
        let der = decode(&payload["certificate"]);
        let Some(index) = self.issued.iter().position(|issued| issued.der == der) else {
            return Err(No(404, "malformed", "it is none of ours".into()));
        };
        let may = match account {
            Some(account) => self
                .orders
                .iter()
                .any(|order| order.certificate.is_some_and(|(issued, _)| issued == index) && order.account == account),
            None => X509Certificate::from_der(&der)
                .is_ok_and(|(_, leaf)| leaf.public_key().subject_public_key.data.as_ref() == key),
        };
        if !may {
            return Err(No(403, "unauthorized", "it is not yours".into()));
        }
        if self.revoked.iter().any(|(revoked, _)| *revoked == der) {
            return Err(No(400, "alreadyRevoked", "it was revoked before".into()));
        }
        self.revoked.push((der, payload["reason"].clone()));
        Ok(Reply { status: 200, ..Reply::default() })
    }
}
