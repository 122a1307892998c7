//! What nobody is to see: bytes that no log can print, and that are wiped when nobody needs them any more.

use core::fmt;
use core::ops::Deref;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

/// A private key, or something that has one in it.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(Vec<u8>);

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Deref for Secret {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_shows_nothing_and_is_written_as_plain_bytes() {
        let secret = Secret::from(vec![1, 2, 3]);
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "*** Some(***)");
        let plain = postcard::to_allocvec(&vec![1_u8, 2, 3]).unwrap();
        assert_eq!(postcard::to_allocvec(&secret).unwrap(), plain);
        assert_eq!(postcard::from_bytes::<Secret>(&plain).unwrap(), secret);
        assert_eq!(secret[..], [1, 2, 3]);
    }
}
