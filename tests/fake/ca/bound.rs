//! Accounts that have to be bound to one at the CA's own site (RFC 8555 §7.3.4).

use super::{Ca, FakeCa, No};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::Value;

impl FakeCa {
    /// What each account is bound to.
    pub fn bound_to(&self) -> Vec<Option<String>> {
        self.lock().accounts.iter().map(|account| account.kid.clone()).collect()
    }
}

impl Ca {
    /// The key id that a new account is to be bound to.
    pub(super) fn check_binding(&self, point: &[u8], payload: &Value, known: bool) -> Result<Option<String>, No> {
        let (weather, binding) = (&self.weather, &payload["externalAccountBinding"]);
        let Some((kid, key, alg)) = weather.binding else {
            return match binding {
                Value::Null => Ok(None),
                _ => Err(No(400, "malformed", "nothing can be bound here".into())),
            };
        };
        let asks = payload["onlyReturnExisting"] == true;
        if asks || (known && !weather.binds_once) {
            return Ok(None);
        }
        if binding.is_null() {
            return Err(No(403, "externalAccountRequired", "an account has to be bound".into()));
        }
        let part = |name: &str| binding[name].as_str().unwrap_or_default();
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
        let json = |name: &str| serde_json::from_slice::<Value>(&decode(part(name))).unwrap_or_default();
        let header = json("protected");
        if header["alg"] != alg {
            return Err(No(400, "badSignatureAlgorithm", format!("{alg} only")));
        }
        let algorithm = match alg {
            "HS256" => hmac::HMAC_SHA256,
            "HS384" => hmac::HMAC_SHA384,
            _ => hmac::HMAC_SHA512,
        };
        let input = format!("{}.{}", part("protected"), part("payload"));
        let good = hmac::verify(&hmac::Key::new(algorithm, &decode(key)), input.as_bytes(), &decode(part("signature")));
        let jwk = json("payload");
        let signed = [decode(jwk["x"].as_str().unwrap_or_default()), decode(jwk["y"].as_str().unwrap_or_default())];
        let here = format!("{}/new-account", self.base);
        let spent = weather.binds_once && self.accounts.iter().any(|account| account.kid.as_deref() == Some(kid));
        let fits = header["kid"] == kid && header["url"] == here.as_str() && header.get("nonce").is_none();
        if good.is_err() || !fits || signed.concat() != point[1..] || spent {
            return Err(No(403, "unauthorized", "the binding is not good".into()));
        }
        Ok(Some(kid.into()))
    }
}
