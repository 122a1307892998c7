//! The cryptography of TLS, on both sides: `rustls`' own choice, without what a device never uses. Values only.

use rustls::SupportedCipherSuite;
use rustls::crypto::ring::{self, cipher_suite::*};
use rustls::crypto::{CryptoProvider, KeyProvider};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;
use std::sync::Arc;

/// What a CA's own handshakes speak (RFC 8737 §4).
pub const ACME: &[u8] = b"acme-tls/1";

pub fn provider() -> CryptoProvider {
    CryptoProvider { cipher_suites: suites(), key_provider: &NoKeys, ..ring::default_provider() }
}

/// Every x86-64 that matters has instructions for AES, and every server offers it: ChaCha20 would be 45 KB of tuned
/// code that no handshake chooses. Elsewhere it is the faster one, and small.
fn suites() -> Vec<SupportedCipherSuite> {
    let chacha20 = cfg!(not(target_arch = "x86_64"));
    let mut suites = vec![TLS13_AES_256_GCM_SHA384, TLS13_AES_128_GCM_SHA256];
    if chacha20 {
        suites.push(TLS13_CHACHA20_POLY1305_SHA256);
    }
    suites.extend([TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]);
    if chacha20 {
        suites.push(TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256);
    }
    suites.extend([TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]);
    if chacha20 {
        suites.push(TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256);
    }
    suites
}

/// No key comes to TLS this way: to a CA we show no certificate, and the listeners have theirs from the shelf.
#[derive(Debug)]
struct NoKeys;

impl KeyProvider for NoKeys {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General("keys come from the shelf".into()))
    }
}
