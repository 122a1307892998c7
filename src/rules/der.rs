//! DER by hand: tags and lengths, in the one order that DER allows.

pub const INTEGER: u8 = 0x02;
pub const BITS: u8 = 0x03;
pub const OCTETS: u8 = 0x04;
pub const OID: u8 = 0x06;
pub const ENUMERATED: u8 = 0x0a;
pub const SEQUENCE: u8 = 0x30;

pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut out = vec![tag];
    match length {
        [0, 0, 0, short @ 0..=127] => out.push(short),
        _ => {
            let skip = length.iter().take_while(|byte| **byte == 0).count();
            let digits = length.get(skip..).unwrap_or_default();
            out.push(0x80 | u8::try_from(digits.len()).unwrap_or(4));
            out.extend(digits);
        }
    }
    out.extend(content);
    out
}

/// Tag, content and what follows.
pub fn split(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=127 => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// The content of what comes next, if it has this tag; else it stays where it is.
pub fn take<'a>(der: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (found, content, rest) = split(der)?;
    (found == tag).then(|| {
        *der = rest;
        content
    })
}

/// All of what comes next, tag and length included.
pub fn whole<'a>(der: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (_, _, rest) = split(der)?;
    let whole = der.get(..der.len() - rest.len());
    *der = rest;
    whole
}

/// The content, if nothing follows it.
pub fn only(der: &[u8], tag: u8) -> Option<&[u8]> {
    let mut der = der;
    take(&mut der, tag).filter(|_| der.is_empty())
}

/// The body of a fuzz target: what is cut off is all there was, and put together again it is in DER's own form.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    if let Some((tag, content, rest)) = split(bytes) {
        let head = bytes.len() - content.len() - rest.len();
        assert!((2..=6).contains(&head) && bytes.ends_with(rest));
        assert_eq!(split(&tlv(tag, content)), Some((tag, content, &[][..])));
        assert!(tlv(tag, content).len() <= head + content.len(), "the shortest form");
        let mut left = bytes;
        assert_eq!(whole(&mut left).map(<[u8]>::len), Some(head + content.len()));
        assert_eq!(left, rest);
        assert_eq!(only(bytes, tag), rest.is_empty().then_some(content));
        assert_eq!(take(&mut left, tag).is_some(), split(rest).is_some_and(|(next, ..)| next == tag));
    }
    if let Ok(key) = crate::rules::pkcs8::from_ec(bytes) {
        assert!(key.ends_with(bytes) && only(&key, SEQUENCE).is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_in_their_shortest_form() {
        for (length, head) in [
            (0, &[4, 0][..]),
            (127, &[4, 127]),
            (128, &[4, 0x81, 128]),
            (255, &[4, 0x81, 255]),
            (256, &[4, 0x82, 1, 0]),
            (65_536, &[4, 0x83, 1, 0, 0]),
        ] {
            let content = vec![7; length];
            let der = tlv(OCTETS, &content);
            assert_eq!(der[..der.len() - length], *head);
            assert_eq!(split(&der), Some((OCTETS, &content[..], &[][..])));
        }
        for der in [&[][..], &[4], &[4, 1], &[4, 0x80], &[4, 0x85, 0, 0, 0, 0, 1, 7], &[4, 0x81], &[4, 0x82, 0, 9]] {
            assert_eq!(split(der), None, "{der:?}");
        }
    }

    #[test]
    fn one_after_the_other() {
        let bytes = [2, 1, 7, 4, 2, 8, 9];
        let mut der = &bytes[..];
        assert_eq!(take(&mut der, OCTETS), None);
        assert_eq!(take(&mut der, INTEGER), Some(&[7][..]));
        assert_eq!((only(der, INTEGER), only(der, OCTETS)), (None, Some(&[8, 9][..])));
        assert_eq!((whole(&mut der), whole(&mut der)), (Some(&bytes[3..]), None));
        assert_eq!(only(&bytes, INTEGER), None, "something follows");
    }
}
