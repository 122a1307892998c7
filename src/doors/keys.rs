//! Keys: made here, from the system's dice; signatures and certificate requests by them. Nothing here prints a key.

use crate::rules::acme::jws::{self, Jwk};
use crate::rules::acme::turns::{Ask, How, Signer};
use crate::rules::acme::types::Request;
use crate::rules::x509::{STATUS_REQUEST, TLS_FEATURE, requested};
use crate::words::cert::{Bundle, KeyKind};
use crate::words::config::Binding;
use crate::words::fault::Trouble;
use crate::words::name::Name;
use crate::words::secret::Secret;
use crate::words::time::{Span, Unix};
use core::fmt;
use crypto_primes::{Flavor, is_prime};
use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, KeyPair, PublicKeyData, SanType, SignatureAlgorithm,
};
use ring::rand::{SecureRandom, SystemRandom};
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rsa::BoxedUint;
use rsa::pkcs8::EncodePrivateKey;
use rustls::pki_types::PrivatePkcs8KeyDer;
use zeroize::Zeroizing;

/// From here on the kernel writes no core of us, and lets nobody but root look into our memory: hooks have our user.
pub fn keep_from_dumps() {
    if rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).is_err() {
        log::warn!(
            "the kernel can't be kept from writing keys into a core dump; ulimit -c 0 before the start does that"
        );
    }
}

/// A fresh private key, PKCS#8 DER.
pub fn generate(kind: KeyKind) -> Result<Secret, Trouble> {
    match kind {
        KeyKind::P256 => generate_ec(&ECDSA_P256_SHA256_ASN1_SIGNING, kind),
        KeyKind::P384 => generate_ec(&ECDSA_P384_SHA384_ASN1_SIGNING, kind),
        KeyKind::Rsa(bits) => generate_rsa(bits, kind),
    }
}

/// The SubjectPublicKeyInfo of a private key, DER.
pub fn public_key(pkcs8: &[u8], kind: KeyKind) -> Result<Vec<u8>, Trouble> {
    Ok(read(pkcs8, kind)?.subject_public_key_info())
}

/// What kind a private key from elsewhere is, and its SubjectPublicKeyInfo, DER.
pub fn identify(pkcs8: &[u8]) -> Result<(KeyKind, Vec<u8>), Trouble> {
    let bits = RsaKeyPair::from_pkcs8(pkcs8).map_or(2048, |pair| pair.public().modulus_len() * 8);
    let kinds = [KeyKind::P256, KeyKind::P384, KeyKind::Rsa(u16::try_from(bits).unwrap_or(u16::MAX))];
    let mut found = kinds.into_iter().filter_map(|kind| Some((kind, public_key(pkcs8, kind).ok()?)));
    found.next().ok_or_else(|| {
        Trouble::new("reading the key", "it is no key of P-256, P-384 or RSA with 2048 to 4096 bits, or it is damaged")
    })
}

/// A certificate request (RFC 2986), DER: the names as SANs, `must_staple` as a TLS feature, and nothing else.
pub fn request(pkcs8: &[u8], kind: KeyKind, names: &[Name], must_staple: bool) -> Result<Vec<u8>, Trouble> {
    let doing = "writing the certificate request";
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if must_staple {
        params.custom_extensions.push(CustomExtension::from_oid_content(&TLS_FEATURE, STATUS_REQUEST.into()));
    }
    for name in requested(names) {
        params.subject_alt_names.push(san(name)?);
    }
    let request = params.serialize_request(&*read(pkcs8, kind)?).map_err(|why| Trouble::new(doing, why))?;
    Ok(request.der().to_vec())
}

/// A self-signed certificate and its key, P-256: what TLS shows while there is nothing better.
pub fn self_signed(names: &[Name], from: Unix, until: Unix) -> Result<Bundle, Trouble> {
    forge(names, from, until, None)
}

/// The certificate that answers a tls-alpn-01 challenge (RFC 8737 §3).
pub fn answer(name: &Name, key_authorization: &str, now: Unix) -> Result<Bundle, Trouble> {
    let digest = ring::digest::digest(&ring::digest::SHA256, key_authorization.as_bytes());
    let extension = CustomExtension::new_acme_identifier(digest.as_ref());
    // A CA's clock may be behind ours.
    forge(std::slice::from_ref(name), now.minus(Span::days(1)), now.plus(Span::days(7)), Some(extension))
}

fn forge(names: &[Name], from: Unix, until: Unix, extension: Option<CustomExtension>) -> Result<Bundle, Trouble> {
    let trouble = |why| Trouble::new("signing a certificate of our own", why);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for name in names {
        params.subject_alt_names.push(san(name)?);
    }
    (params.not_before, params.not_after) = (from.calendar(), until.calendar());
    params.custom_extensions.extend(extension);
    let key = generate(KeyKind::P256)?;
    let cert = params.self_signed(&*read(&key, KeyKind::P256)?).map_err(trouble)?;
    Ok(Bundle { key, chain: vec![cert.der().to_vec()] })
}

fn san(name: &Name) -> Result<SanType, Trouble> {
    Ok(match name.ip() {
        Some(address) => SanType::IpAddress(address),
        None => SanType::DnsName(
            Ia5String::try_from(name.as_str()).map_err(|why| Trouble::new("writing a name into a certificate", why))?,
        ),
    })
}

/// The key of an account. Those that are made here are P-256, for ES256; one that comes from another program may be RSA,
/// for RS256; and that of a certificate, which may speak for itself, of P-384, too, for ES384.
pub struct AccountKey {
    pair: AccountPair,
    jwk: Jwk,
    /// What a new account is bound to: the key id at the CA's own site, and the key.
    bond: Option<(String, Secret)>,
    /// The one that is to take its place.
    next: Option<Box<AccountKey>>,
}

enum AccountPair {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl AccountKey {
    /// A fresh one, PKCS#8 DER.
    pub fn generate() -> Result<Secret, Trouble> {
        generate(KeyKind::P256)
    }

    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, Trouble> {
        if let Ok(pair) = RsaKeyPair::from_pkcs8(pkcs8) {
            let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
            return Ok(Self {
                jwk: Jwk::rsa(&public.n, &public.e),
                pair: AccountPair::Rsa(pair),
                bond: None,
                next: None,
            });
        }
        let doing = "reading the account key";
        let dice = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &dice)
            .or_else(|why| EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, pkcs8, &dice).map_err(|_| why))
            .map_err(|why| Trouble::new(doing, why))?;
        let jwk = Jwk::ec(pair.public_key().as_ref()).ok_or_else(|| Trouble::new(doing, "it is on no known curve"))?;
        Ok(Self { pair: AccountPair::Ec(pair), jwk, bond: None, next: None })
    }

    /// A new account with this key is bound so (RFC 8555 §7.3.4); whether that can be done.
    pub fn bind(&mut self, binding: &Binding) -> bool {
        self.bond = jws::mac_key(&binding.hmac).map(|key| (binding.kid.clone(), key.into()));
        self.bond.is_some()
    }

    /// The CA is to be told that this one takes its place.
    pub fn gives_way_to(&mut self, next: Self) {
        self.next = Some(Box::new(next));
    }

    /// It takes the place of another one, with all that goes with an account.
    pub fn in_place_of(self, other: &mut Self) -> Self {
        Self { bond: other.bond.take(), ..self }
    }

    pub fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    pub fn thumbprint(&self) -> String {
        self.jwk.thumbprint()
    }

    /// ES256 and ES384: r and s, 32 or 48 bytes each (RFC 7518 §3.4); or RS256 (§3.3).
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Trouble> {
        let dice = SystemRandom::new();
        let signature = match &self.pair {
            AccountPair::Ec(pair) => pair.sign(&dice, message).map(|signature| signature.as_ref().to_vec()),
            AccountPair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &dice, message, &mut signature).map(|()| signature)
            }
        };
        signature.map_err(|_| Trouble::new("signing", NO_DICE))
    }

    /// The request for a flow's question, signed where it has to be.
    pub fn request(&self, ask: &Ask) -> Result<Request, Trouble> {
        let mut ask = ask.clone();
        if let How::Post { payload, signer, .. } = &mut ask.how {
            match (signer, &self.bond, &self.next) {
                (Signer::Bound(mac), Some((kid, key)), _) => {
                    *payload = jws::bound(payload, &ask.url, &self.jwk, (kid, key), *mac);
                }
                (Signer::Changing(account), _, Some(next)) => {
                    *payload = jws::change(&ask.url, account, &self.jwk, &next.jwk, &|message| next.sign(message))?;
                }
                (Signer::Bound(_) | Signer::Changing(_), ..) => {
                    return Err(Trouble::new("signing", "there is nothing to be bound or changed to"));
                }
                _ => {}
            }
        }
        jws::request(&ask, &self.jwk, &|message| self.sign(message))
    }
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountKey(..)")
    }
}

const NO_DICE: &str = "the system gives no random numbers";

fn making(kind: KeyKind) -> String {
    format!("making a key of kind {kind}")
}

fn generate_ec(algorithm: &'static EcdsaSigningAlgorithm, kind: KeyKind) -> Result<Secret, Trouble> {
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new());
    document.map(|document| document.as_ref().to_vec().into()).map_err(|_| Trouble::new(making(kind), NO_DICE))
}

fn generate_rsa(bits: u16, kind: KeyKind) -> Result<Secret, Trouble> {
    if !matches!(bits, 2048 | 3072 | 4096) {
        return Err(Trouble::new(making(kind), "RSA keys have 2048, 3072 or 4096 bits here"));
    }
    let half = usize::from(bits / 8 / 2);
    let key = rsa::PrivateKey::from_p_q(prime(half, kind)?, prime(half, kind)?, u64::from(EXPONENT).into())
        .map_err(|why| Trouble::new(making(kind), why))?;
    let document = key.to_pkcs8_der().map_err(|why| Trouble::new(making(kind), why))?;
    Ok(document.as_bytes().to_vec().into())
}

/// What everybody takes: the fourth of Fermat's primes.
const EXPONENT: u32 = 65_537;

/// A prime of so many bytes for an RSA key: dice until one is found (FIPS 186-5 A.1.3). The search in `rsa` would bring
/// a table of 49 KB.
fn prime(length: usize, kind: KeyKind) -> Result<BoxedUint, Trouble> {
    let dice = SystemRandom::new();
    let mut bytes = Zeroizing::new(vec![0; length]);
    let bits = u32::try_from(length * 8).unwrap_or(u32::MAX);
    loop {
        dice.fill(&mut bytes).map_err(|_| Trouble::new(making(kind), NO_DICE))?;
        // Two numbers whose highest two bits are set have a product of twice their length.
        if let [first, .., last] = &mut bytes[..] {
            *first |= 0b1100_0000;
            *last |= 1;
        }
        // Most fall here, which is cheap. Without the exponent's own test there may be no key to the primes.
        let divided = (3..1 << 12).step_by(2).any(|by| rest(&bytes, by) == 0) || rest(&bytes, EXPONENT) == 1;
        if divided {
            continue;
        }
        let candidate = BoxedUint::from_be_slice(&bytes, bits).map_err(|why| Trouble::new(making(kind), why))?;
        if is_prime(Flavor::Any, &candidate) {
            return Ok(candidate);
        }
    }
}

/// What is left of a number when it is divided by a small one.
fn rest(number: &[u8], by: u32) -> u32 {
    number.iter().fold(0, |rest, byte| (rest << 8 | u32::from(*byte)) % by)
}

/// It keeps the key as it was written, too.
fn read(pkcs8: &[u8], kind: KeyKind) -> Result<Zeroizing<KeyPair>, Trouble> {
    let algorithm: &'static SignatureAlgorithm = match kind {
        KeyKind::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        KeyKind::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        KeyKind::Rsa(_) => &rcgen::PKCS_RSA_SHA256,
    };
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), algorithm)
        .map(Zeroizing::new)
        .map_err(|why| Trouble::new(format!("reading a key of kind {kind}"), why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::pkcs8;
    use crate::words::name::Labels;
    use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use x509_parser::certification_request::X509CertificationRequest;
    use x509_parser::extensions::{GeneralName, ParsedExtension};
    use x509_parser::prelude::FromDer;

    fn name(text: &str) -> Name {
        Name::parse(text, Labels::One).unwrap()
    }

    #[test]
    fn what_is_left_of_a_number() {
        for (number, by, left) in
            [(&[0x01, 0x00][..], 3, 1), (&[0x01, 0x02], 3, 0), (&[0xff; 128], 257, 0), (&[1, 0, 2], EXPONENT, 1)]
        {
            assert_eq!(rest(number, by), left, "{number:?} by {by}");
        }
    }

    #[test]
    fn each_kind_makes_keys_that_can_ask() {
        for kind in [KeyKind::P256, KeyKind::P384, KeyKind::Rsa(2048)] {
            let key = generate(kind).unwrap();
            assert_ne!(key, generate(kind).unwrap());
            let names = [name("a.example.org"), name("*.example.net"), name("b.example.net"), name("2001:db8::1")];
            let der = request(&key, kind, &names, false).unwrap();
            let (rest, parsed) = X509CertificationRequest::from_der(&der).unwrap();
            assert!(rest.is_empty());
            let info = &parsed.certification_request_info;
            assert_eq!(info.subject_pki.raw, public_key(&key, kind).unwrap());
            assert_eq!(info.subject.iter().count(), 0, "no common name");
            let mut sans = Vec::new();
            for extension in parsed.requested_extensions().unwrap() {
                let ParsedExtension::SubjectAlternativeName(names) = extension else { panic!("SANs only") };
                sans.extend(names.general_names.iter().cloned());
            }
            let ip = name("2001:db8::1").ip().map(|ip| match ip {
                std::net::IpAddr::V6(v6) => v6.octets(),
                std::net::IpAddr::V4(_) => unreachable!(),
            });
            assert_eq!(
                sans,
                [
                    GeneralName::DNSName("a.example.org"),
                    GeneralName::DNSName("*.example.net"),
                    GeneralName::IPAddress(&ip.unwrap()),
                ]
            );
            assert_eq!(identify(&key).unwrap(), (kind, info.subject_pki.raw.to_vec()));
            for other in [KeyKind::P256, KeyKind::P384, KeyKind::Rsa(2048)] {
                assert_eq!(public_key(&key, other).is_ok(), other == kind);
            }
        }
        assert!(generate(KeyKind::Rsa(1024)).is_err());
        assert!(identify(b"").unwrap_err().why.contains("or it is damaged"));
    }

    /// The forms inside of PKCS#8 are those that other programs write to files of their own.
    #[test]
    fn a_key_wrapped_again_is_the_same_key() {
        let key = |kind| generate(kind).unwrap();
        for (key, inner) in [(key(KeyKind::P256), 29), (key(KeyKind::P384), 27)] {
            assert_eq!(pkcs8::from_ec(&key[inner..]).unwrap()[..], key[..]);
        }
        let rsa = key(KeyKind::Rsa(2048));
        assert_eq!(pkcs8::from_rsa(&rsa[26..])[..], rsa[..]);
        assert_eq!(identify(&pkcs8::from_rsa(&rsa[26..])).unwrap().0, KeyKind::Rsa(2048));
    }

    /// SEQUENCE { OID 1.3.6.1.5.5.7.1.31, TRUE, OCTET STRING { OCTET STRING, the SHA-256 of the key authorization } }, and
    /// the one name.
    #[test]
    fn rfc_8737_3_the_certificate_that_answers() {
        let at = Unix::from_secs(1_795_000_000);
        for text in ["a.example.org", "192.0.2.1"] {
            let bundle = answer(&name(text), "token.thumbprint", at).unwrap();
            let (_, cert) = x509_parser::certificate::X509Certificate::from_der(&bundle.chain[0]).unwrap();
            let found = cert.extensions().iter().find(|extension| extension.oid.to_id_string() == "1.3.6.1.5.5.7.1.31");
            let found = found.expect("the extension");
            let digest = ring::digest::digest(&ring::digest::SHA256, b"token.thumbprint");
            assert!(found.critical);
            assert_eq!(found.value, [&[4, 32], digest.as_ref()].concat());
            let names = cert.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
            assert!(
                matches!(names[..], [GeneralName::DNSName("a.example.org")] | [GeneralName::IPAddress([192, 0, 2, 1])]),
                "{names:?}"
            );
        }
    }

    #[test]
    fn an_account_key_on_p_384_signs_es384() {
        let key = AccountKey::from_pkcs8(&generate(KeyKind::P384).unwrap()).unwrap();
        assert!(key.jwk().as_str().starts_with(r#"{"crv":"P-384","kty":"EC","x":""#), "{}", key.jwk().as_str());
        assert_eq!(key.sign(b"message").unwrap().len(), 96);
        assert!(AccountKey::from_pkcs8(b"no key").is_err());
    }

    #[test]
    fn rfc_7633_a_request_for_must_staple() {
        let key = generate(KeyKind::P256).unwrap();
        let der = request(&key, KeyKind::P256, &[name("a.example.org")], true).unwrap();
        let (_, parsed) = X509CertificationRequest::from_der(&der).unwrap();
        let info = &parsed.certification_request_info;
        let kinds: Vec<bool> = parsed
            .requested_extensions()
            .unwrap()
            .map(|extension| matches!(extension, ParsedExtension::SubjectAlternativeName(_)))
            .collect();
        assert_eq!(kinds.len(), 2, "both: {kinds:?}");
        // SEQUENCE { OID 1.3.6.1.5.5.7.1.24, OCTET STRING { SEQUENCE { INTEGER 5 } } }, not critical.
        let feature = [0x30, 17, 6, 8, 0x2b, 6, 1, 5, 5, 7, 1, 24, 4, 5, 0x30, 3, 2, 1, 5];
        assert!(info.raw.windows(feature.len()).any(|window| window == feature), "{:02x?}", info.raw);
    }

    /// With the key authorization of RFC 8555 §8.3's example.
    #[test]
    fn rfc_8737_3_the_answer_to_tls_alpn_01() {
        let authorization = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";
        let digest = [
            0x2c, 0xfb, 0x08, 0xc1, 0x3a, 0x3b, 0xa3, 0xc0, 0x68, 0x1b, 0x4f, 0xaf, 0x8c, 0x2c, 0x86, 0x40, 0x60, 0x56,
            0x49, 0x52, 0x0f, 0xc4, 0x8f, 0xa2, 0xfd, 0x7d, 0xf7, 0xe9, 0xe5, 0x0e, 0x41, 0x9a,
        ];
        let now = Unix::from_secs(1_800_000_000);
        for (subject, san) in [
            ("a.example.org", GeneralName::DNSName("a.example.org")),
            ("192.0.2.1", GeneralName::IPAddress(&[192, 0, 2, 1])),
        ] {
            let bundle = answer(&name(subject), authorization, now).unwrap();
            let (_, cert) = x509_parser::certificate::X509Certificate::from_der(&bundle.chain[0]).unwrap();
            // SEQUENCE { OID 1.3.6.1.5.5.7.1.31, BOOLEAN TRUE, OCTET STRING { OCTET STRING (32) } }
            let mut extension = vec![0x30, 49, 6, 8, 0x2b, 6, 1, 5, 5, 7, 1, 31, 1, 1, 0xff, 4, 34, 4, 32];
            extension.extend(digest);
            let count = cert.as_raw().windows(extension.len()).filter(|window| *window == extension).count();
            assert_eq!(count, 1, "{:02x?}", cert.as_raw());
            let names = cert.subject_alternative_name().unwrap().unwrap();
            assert_eq!(names.value.general_names, [san], "this name and no other");
            assert_eq!(cert.issuer(), cert.subject());
            assert_eq!(cert.public_key().raw, public_key(&bundle.key, KeyKind::P256).unwrap());
        }
    }

    #[test]
    fn an_account_key_signs_es256() {
        let pkcs8 = AccountKey::generate().unwrap();
        let key = AccountKey::from_pkcs8(&pkcs8).unwrap();
        let signature = key.sign(b"message").unwrap();
        assert_eq!(signature.len(), 64);
        let AccountPair::Ec(pair) = &key.pair else { panic!("it is made here") };
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref())
            .verify(b"message", &signature)
            .unwrap();
        assert_eq!(key.thumbprint(), AccountKey::from_pkcs8(&pkcs8).unwrap().thumbprint());
        assert_eq!(key.thumbprint().len(), 43);
        assert_eq!(format!("{key:?}"), "AccountKey(..)");
        assert!(AccountKey::from_pkcs8(b"").is_err());
    }

    #[test]
    fn an_account_key_of_another_program_signs_rs256() {
        let key = AccountKey::from_pkcs8(&generate(KeyKind::Rsa(2048)).unwrap()).unwrap();
        let signature = key.sign(b"message").unwrap();
        let AccountPair::Rsa(pair) = &key.pair else { panic!("it is RSA") };
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref())
            .verify(b"message", &signature)
            .unwrap();
        assert!(key.jwk().as_str().starts_with(r#"{"e":"AQAB","kty":"RSA","n":""#), "{:?}", key.jwk());
    }
}
