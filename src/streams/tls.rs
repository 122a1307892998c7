//! The cryptography of TLS, on both sides.

use rustls::crypto::ring::cipher_suite::*;
use rustls::crypto::ring::kx_group::{SECP256R1, SECP384R1, X25519};
use rustls::crypto::{CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, WebPkiSupportedAlgorithms};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;
use rustls::{SignatureScheme, SupportedCipherSuite};
use std::sync::Arc;
use webpki::ring::*;

/// What a CA's own handshakes speak (RFC 8737 §4).
pub const ACME: &[u8] = b"acme-tls/1";

/// The cryptography of TLS: `rustls`' own choice, without what a device never uses. It is put
/// together here, because whoever names `ring::default_provider()` links all of it.
pub fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: suites(),
        kx_groups: vec![X25519, SECP256R1, SECP384R1],
        signature_verification_algorithms: SIGNATURES,
        secure_random: &Ours,
        key_provider: &Ours,
    }
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

/// What a certificate or a handshake may be signed with.
const SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: webpki::ALL_VERIFICATION_ALGS,
    // TLS 1.2 leaves the curve open; TLS 1.3 means the first.
    mapping: &[
        (SignatureScheme::ECDSA_NISTP384_SHA384, &[ECDSA_P384_SHA384, ECDSA_P256_SHA384]),
        (SignatureScheme::ECDSA_NISTP256_SHA256, &[ECDSA_P256_SHA256, ECDSA_P384_SHA256]),
        (SignatureScheme::ED25519, &[ED25519]),
        (SignatureScheme::RSA_PSS_SHA512, &[RSA_PSS_2048_8192_SHA512_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA384, &[RSA_PSS_2048_8192_SHA384_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA256, &[RSA_PSS_2048_8192_SHA256_LEGACY_KEY]),
        (SignatureScheme::RSA_PKCS1_SHA512, &[RSA_PKCS1_2048_8192_SHA512]),
        (SignatureScheme::RSA_PKCS1_SHA384, &[RSA_PKCS1_2048_8192_SHA384]),
        (SignatureScheme::RSA_PKCS1_SHA256, &[RSA_PKCS1_2048_8192_SHA256]),
    ],
};

#[derive(Debug)]
struct Ours;

impl SecureRandom for Ours {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        use ::ring::rand::{SecureRandom, SystemRandom};
        SystemRandom::new().fill(bytes).map_err(|_| GetRandomFailed)
    }
}

/// No key comes to TLS this way: a client here shows no certificate, and the listeners have theirs from the shelf.
impl KeyProvider for Ours {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General("keys come from the shelf".into()))
    }
}
