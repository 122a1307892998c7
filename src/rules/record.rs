//! What stands in a file of the store: one record, whole, that knows its kind and its version and proves that it is
//! undamaged.
//!
//! ```text
//! kind (1) | version (1) | postcard of the body | the first 8 bytes of SHA-256 over all before
//! ```
//! The frame never changes; a new version means another body. A sequence number stands first in the body of those
//! records that come in two slots: the higher one is the newer one.

use crate::words::cert::{Account, Bundle, Fingerprint, Held, Slot, Tried};
use crate::words::config::Md;
use crate::words::name::Name;
use ring::digest::{SHA256, digest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

const CERT: Kind = Kind { byte: b'C', version: 1, noun: "certificate" };
const TRIED: Kind = Kind { byte: b'T', version: 1, noun: "trial" };
const ACCOUNT: Kind = Kind { byte: b'A', version: 1, noun: "account" };
const STATE: Kind = Kind { byte: b'S', version: 1, noun: "state" };

pub fn encode_cert(sequence: u32, held: &Held, bundle: &Bundle) -> Vec<u8> {
    seal(&CERT, &(sequence, held, bundle))
}

/// What is wrong with the bytes is said in a fragment that completes `file: …`; so for all that follow.
pub fn decode_cert(bytes: &[u8]) -> Result<(u32, Held, Bundle), String> {
    open(&CERT, bytes)
}

pub fn encode_tried(tried: &Tried) -> Vec<u8> {
    seal(&TRIED, tried)
}

pub fn decode_tried(bytes: &[u8]) -> Result<Tried, String> {
    open(&TRIED, bytes)
}

pub fn encode_account(sequence: u32, account: &Account) -> Vec<u8> {
    seal(&ACCOUNT, &(sequence, account))
}

pub fn decode_account(bytes: &[u8]) -> Result<(u32, Account), String> {
    open(&ACCOUNT, bytes)
}

/// The state file: everything that was tried, for as long as the device is up.
pub fn encode_state(state: &BTreeMap<Slot, Tried>) -> Vec<u8> {
    let rows: Vec<(&Name, &str, &Tried)> = state.iter().map(|(slot, tried)| (&slot.md, slot.family, tried)).collect();
    seal(&STATE, &rows)
}

/// Key families that this program does not know are left out.
pub fn decode_state(bytes: &[u8]) -> Result<BTreeMap<Slot, Tried>, String> {
    let rows: Vec<(Name, String, Tried)> = open(&STATE, bytes)?;
    Ok(rows.into_iter().filter_map(|(md, family, tried)| Some((Slot::new(md, &family)?, tried))).collect())
}

/// Changes with anything that the operator wrote for this MD.
pub fn fingerprint(md: &Md) -> Fingerprint {
    // Only a path that is not UTF-8 can't be written down; then a changed configuration forgives nothing, no more.
    let text = postcard::to_allocvec(md).unwrap_or_default();
    short(&text)
}

/// A name for the file of something whose own name can't be one: 16 bytes of its SHA-256, in hexadecimal.
pub fn file_stem(text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

struct Kind {
    byte: u8,
    version: u8,
    noun: &'static str,
}

type Checksum = [u8; 8];

fn seal<T: Serialize>(kind: &Kind, body: &T) -> Vec<u8> {
    let head = vec![kind.byte, kind.version];
    let mut bytes = postcard::to_extend(body, head).expect("plain data of known length into memory");
    bytes.extend(short(&bytes));
    bytes
}

fn open<T: DeserializeOwned>(kind: &Kind, bytes: &[u8]) -> Result<T, String> {
    let body = checked(kind, bytes)?;
    let noun = kind.noun;
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(format!("more bytes than a {noun} record has")),
        Err(_) => Err(format!("not the fields of a {noun} record")),
    }
}

/// The body, if the frame around it is right. Not generic, so that it stands in the program once.
fn checked<'a>(kind: &Kind, bytes: &'a [u8]) -> Result<&'a [u8], String> {
    let Some((rest, checksum)) = bytes.split_last_chunk::<8>() else { return Err("too short for a record".into()) };
    let [byte, version, body @ ..] = rest else { return Err("too short for a record".into()) };
    if short(rest) != *checksum {
        return Err("checksum differs".into());
    }
    if *byte != kind.byte {
        return Err(format!("not a {} record", kind.noun));
    }
    if *version > kind.version {
        return Err(format!("version {version} is newer than this program knows"));
    }
    if *version < kind.version {
        return Err(format!("version {version} was never in use"));
    }
    Ok(body)
}

fn short(bytes: &[u8]) -> Checksum {
    let hash = digest(&SHA256, bytes);
    hash.as_ref().first_chunk().copied().unwrap_or_default()
}
