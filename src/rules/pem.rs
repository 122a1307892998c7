//! PEM (RFC 7468): a CA's chain and the operator's own files in, our exports out.

use crate::rules::pkcs8;
use crate::words::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The longest chains in use have four certificates, a cross-signed root included; ten leaves room for any private CA
/// and still bounds what a reply can make us keep in flash.
const MOST: usize = 10;

/// Ten certificates of 8 kB, which post-quantum keys and signatures make of them.
const LARGEST: usize = 100 << 10;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The certificates of a chain, DER, in their order. What stands between them is skipped (RFC 7468 §2 allows it).
pub fn decode_chain(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    if bytes.len() > LARGEST {
        return Err(format!("the chain has {} bytes; no more than {LARGEST} are kept", bytes.len()));
    }
    let text = core::str::from_utf8(bytes).map_err(|_| "the chain is not text".to_string())?;
    let mut chain = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(BEGIN) {
        let number = chain.len() + 1;
        if number > MOST {
            return Err(format!("the chain has more than {MOST} certificates"));
        }
        let (body, after) = after.split_once(END).ok_or_else(|| format!("certificate {number} breaks off"))?;
        let digits: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let der = STANDARD.decode(digits).map_err(|_| format!("certificate {number} is not base64"))?;
        if der.is_empty() {
            return Err(format!("certificate {number} is empty"));
        }
        chain.push(der);
        rest = after;
    }
    if chain.is_empty() { Err("there is no certificate in it".into()) } else { Ok(chain) }
}

/// The first private key, as PKCS#8 whichever of its forms it has; what else stands in the file is passed over.
pub fn decode_key(bytes: &[u8]) -> Result<Secret, String> {
    let text = core::str::from_utf8(bytes).map_err(|_| "the key is not PEM".to_string())?;
    for (label, wrap) in KEYS {
        let Some((_, after)) = text.split_once(&format!("-----BEGIN {label}-----")) else { continue };
        let (body, _) = after.split_once(&format!("-----END {label}-----")).ok_or("the key breaks off")?;
        if label.starts_with("ENCRYPTED") || body.contains(",ENCRYPTED") {
            return Err("the key is encrypted; store it without a passphrase".into());
        }
        let digits: Vec<u8> = body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let der = STANDARD.decode(&*Secret::from(digits)).map_err(|_| "the key is not base64")?;
        return Ok(wrap(der)?.into());
    }
    Err("there is no private key in it".into())
}

type Wrap = fn(Vec<u8>) -> Result<Vec<u8>, String>;

const KEYS: [(&str, Wrap); 4] = [
    ("PRIVATE KEY", Ok),
    ("RSA PRIVATE KEY", |der| Ok(pkcs8::from_rsa(&der))),
    ("EC PRIVATE KEY", |der| pkcs8::from_ec(&der)),
    ("ENCRYPTED PRIVATE KEY", Ok),
];

/// One PEM block with lines of 64 characters. It may have a key in it: no piece of it is left elsewhere.
pub fn encode(label: &str, der: &[u8]) -> String {
    let mut text = String::with_capacity(2 * label.len() + der.len() / 2 * 3 + 50);
    ["-----BEGIN ", label, "-----\n"].into_iter().for_each(|part| text.push_str(part));
    for line in der.chunks(48) {
        STANDARD.encode_string(line, &mut text);
        text.push('\n');
    }
    ["-----END ", label, "-----\n"].into_iter().for_each(|part| text.push_str(part));
    text
}

/// The body of a fuzz target: a chain written again is read again, and a key is no longer than its text.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    match decode_chain(bytes) {
        Ok(chain) => {
            assert!((1..=MOST).contains(&chain.len()) && chain.iter().all(|der| !der.is_empty()));
            let text: String = chain.iter().map(|der| encode("CERTIFICATE", der)).collect();
            // Lines of 64 may be longer than what came.
            assert!(text.len() > LARGEST || decode_chain(text.as_bytes()) == Ok(chain));
        }
        Err(why) => assert!(why.len() < 100 && !why.contains(char::is_control)),
    }
    match decode_key(bytes) {
        Ok(der) => {
            assert!(der.len() < bytes.len() + 64);
            assert_eq!(decode_key(encode("PRIVATE KEY", &der).as_bytes()), Ok(der));
        }
        Err(why) => assert!(why.len() < 100 && !why.contains(char::is_control)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each form of a key is the same key; the wrapping is held against what OpenSSL writes in `pkcs8`.
    #[test]
    fn a_key_in_any_of_its_forms() {
        let digits = |der: &[u8]| encode("X", der).lines().nth(1).unwrap().to_string();
        let found = decode_key(encode("PRIVATE KEY", &[1, 2, 3]).as_bytes()).unwrap();
        assert_eq!(found[..], [1, 2, 3]);
        // It is a header that says so, not base64 that reads so by chance.
        let word = STANDARD.decode("ENCRYPTEDAAA").unwrap();
        assert_eq!(decode_key(encode("PRIVATE KEY", &word).as_bytes()).unwrap()[..], word);
        let rsa = decode_key(encode("RSA PRIVATE KEY", &[0x30, 0]).as_bytes()).unwrap();
        assert_eq!(rsa[..], pkcs8::from_rsa(&[0x30, 0]));
        // What stands before it is passed over, as OpenSSL writes the curve, or other programs the chain.
        let both = format!("{}{}", encode("CERTIFICATE", b"x"), encode("PRIVATE KEY", &[4]));
        assert_eq!(decode_key(both.as_bytes()).unwrap()[..], [4]);
        let traditional = format!(
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n{}\n-----END RSA PRIVATE KEY-----\n",
            digits(b"x")
        );
        for (text, why) in [
            (String::new(), "there is no private key in it"),
            (encode("CERTIFICATE", b"x"), "there is no private key in it"),
            ("-----BEGIN PRIVATE KEY-----\nQUJD\n".into(), "the key breaks off"),
            ("-----BEGIN PRIVATE KEY-----\n#\n-----END PRIVATE KEY-----".into(), "the key is not base64"),
            (encode("ENCRYPTED PRIVATE KEY", b"x"), "the key is encrypted; store it without a passphrase"),
            (traditional, "the key is encrypted; store it without a passphrase"),
            (encode("EC PRIVATE KEY", &[0x30, 0]), "the key is not an EC key of RFC 5915"),
        ] {
            assert_eq!(decode_key(text.as_bytes()).unwrap_err(), why, "{text}");
        }
        assert_eq!(decode_key(&[0xff]).unwrap_err(), "the key is not PEM");
    }

    #[test]
    fn there_and_back() {
        for length in [1, 2, 3, 47, 48, 49, 95, 96, 97, 1000] {
            let der: Vec<u8> = (0u8..=255).cycle().take(length).collect();
            let text = encode("CERTIFICATE", &der);
            assert!(text.lines().all(|line| line.len() <= 64) && text.ends_with("-----\n"), "{text}");
            assert_eq!(decode_chain(text.as_bytes()).unwrap(), [der]);
        }
    }

    #[test]
    fn chains_as_cas_write_them() {
        let one = encode("CERTIFICATE", b"one");
        let two = encode("CERTIFICATE", b"two").replace('\n', "\r\n");
        let text = format!("subject=/CN=a\n{one}\n\nissuer=/CN=b\n{two}trailing words");
        assert_eq!(decode_chain(text.as_bytes()).unwrap(), [b"one".to_vec(), b"two".to_vec()]);
    }

    #[test]
    fn what_is_no_chain_says_why() {
        let one = encode("CERTIFICATE", b"one");
        for (text, why) in [
            (String::new(), "there is no certificate in it"),
            ("<html>".into(), "there is no certificate in it"),
            (encode("PRIVATE KEY", b"key"), "there is no certificate in it"),
            (format!("{one}{BEGIN}\nQUJD\n"), "certificate 2 breaks off"),
            (format!("{one}{BEGIN}\n#!?\n{END}"), "certificate 2 is not base64"),
            (format!("{BEGIN}\n{END}"), "certificate 1 is empty"),
            (one.repeat(11), "the chain has more than 10 certificates"),
        ] {
            assert_eq!(decode_chain(text.as_bytes()).unwrap_err(), why);
        }
        let long = |length: usize| decode_chain(format!("{one}{}", " ".repeat(length - one.len())).as_bytes());
        assert_eq!(long(LARGEST).unwrap().len(), 1);
        for length in [LARGEST + 1, LARGEST + 2] {
            assert_eq!(long(length), Err(format!("the chain has {length} bytes; no more than 102400 are kept")));
        }
        assert_eq!(decode_chain(&[0xff, 0xfe]).unwrap_err(), "the chain is not text");
        assert_eq!(decode_chain(one.repeat(10).as_bytes()).unwrap().len(), 10);
    }
}
