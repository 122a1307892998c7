//! Private keys in the form that all of the house uses (PKCS#8, RFC 5208), made of the forms that other programs write.

use crate::rules::der::{BITS, INTEGER, OCTETS, SEQUENCE, split, tlv};

/// The tag of publicKey in an ECPrivateKey (RFC 5915 §3).
const PUBLIC: u8 = 0xa1;

/// rsaEncryption with its NULL (RFC 8017 §A.1).
const RSA: &[u8] = &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
/// ecPublicKey with the curve (RFC 5480 §2.1.1).
const P256: &[u8] = &[0x30, 19, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const P384: &[u8] = &[0x30, 16, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 34];

/// From an RSAPrivateKey (RFC 8017 §A.1.2).
pub fn from_rsa(der: &[u8]) -> Vec<u8> {
    wrap(RSA, der)
}

/// From an ECPrivateKey (RFC 5915 §3); its length says its curve.
pub fn from_ec(der: &[u8]) -> Result<Vec<u8>, String> {
    let no = || "the key is not an EC key of RFC 5915".to_string();
    let (SEQUENCE, body, []) = split(der).ok_or_else(no)? else { return Err(no()) };
    let (INTEGER, [1], rest) = split(body).ok_or_else(no)? else { return Err(no()) };
    let (OCTETS, secret, _) = split(rest).ok_or_else(no)? else { return Err(no()) };
    match secret.len() {
        32 => Ok(wrap(P256, der)),
        48 => Ok(wrap(P384, der)),
        _ => Err("the key is on another curve than P-256 and P-384".into()),
    }
}

/// From the numbers of an RSA private key, big-endian: n, e, d, p, q, dp, dq, qi (RFC 8017 §A.1.2).
pub fn from_rsa_numbers(numbers: &[Vec<u8>]) -> Vec<u8> {
    let version = tlv(INTEGER, &[0]);
    let numbers = numbers.iter().flat_map(|number| integer(number));
    from_rsa(&tlv(SEQUENCE, &version.into_iter().chain(numbers).collect::<Vec<u8>>()))
}

/// From the numbers of an EC private key: the secret one, and its point.
pub fn from_ec_numbers(d: &[u8], x: &[u8], y: &[u8]) -> Result<Vec<u8>, String> {
    // A BIT STRING without unused bits, and the mark of an uncompressed point (RFC 5480 §2.2).
    let point = tlv(BITS, &[&[0, 4], x, y].concat());
    let parts = [tlv(INTEGER, &[1]), tlv(OCTETS, d), tlv(PUBLIC, &point)];
    from_ec(&tlv(SEQUENCE, &parts.concat()))
}

/// An unsigned number: the shortest form that is not taken for a negative one.
fn integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let digits = number.get(zeros..).unwrap_or_default();
    match digits.first() {
        Some(0x80..) | None => tlv(INTEGER, &[&[0], digits].concat()),
        Some(_) => tlv(INTEGER, digits),
    }
}

fn wrap(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    tlv(SEQUENCE, &[&tlv(INTEGER, &[0]), algorithm, &tlv(OCTETS, key)].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unsigned_and_short() {
        for (number, der) in [
            (&[][..], &[2, 1, 0][..]),
            (&[0, 0], &[2, 1, 0]),
            (&[0, 0x7f], &[2, 1, 0x7f]),
            (&[0x80], &[2, 2, 0, 0x80]),
            (&[0, 1, 0], &[2, 2, 1, 0]),
        ] {
            assert_eq!(integer(number), der);
        }
    }

    #[test]
    fn rfc_8017_a_1_2_numbers_in_their_order_behind_the_version() {
        let key = from_rsa_numbers(&[vec![0x80], vec![3]]);
        assert_eq!(key, from_rsa(&[SEQUENCE, 10, INTEGER, 1, 0, INTEGER, 2, 0, 0x80, INTEGER, 1, 3]));
    }

    #[test]
    fn an_ec_key_is_of_a_curve_that_we_know() {
        let key = |bytes| tlv(SEQUENCE, &[tlv(INTEGER, &[1]), tlv(OCTETS, &vec![1; bytes])].concat());
        assert!(from_ec(&key(32)).unwrap().windows(P256.len()).any(|part| part == P256));
        assert!(from_ec(&key(48)).unwrap().windows(P384.len()).any(|part| part == P384));
        assert!(from_ec(&key(66)).unwrap_err().contains("another curve"));
        for der in [key(32)[1..].to_vec(), [key(32), vec![0]].concat(), tlv(SEQUENCE, &tlv(INTEGER, &[2]))] {
            assert!(from_ec(&der).unwrap_err().contains("RFC 5915"));
        }
    }
}
