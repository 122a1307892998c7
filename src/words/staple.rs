//! The nouns of stapling: what the CA's responder says of a certificate.

use crate::words::time::Unix;

/// What an OCSP response says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    pub revoked: bool,
    pub from: Unix,
    /// From here on it is of no use.
    pub until: Unix,
}

/// One that was verified, DER, as it is stapled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    pub verdict: Verdict,
    pub der: Vec<u8>,
}

/// A response as the store has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// The SHA-256 of the certificate that it is for.
    pub sha256: [u8; 32],
    /// When it came.
    pub since: Unix,
    pub der: Vec<u8>,
}
