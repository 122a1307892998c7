//! What stands in a file of the store: one record, whole, that knows its kind and its version and proves that it is
//! undamaged.
//!
//! ```text
//! kind (1) | version (1) | postcard of the body | the first 8 bytes of SHA-256 over all before
//! ```
//! The frame never changes; a new version means another body. A sequence number stands first in the body of those
//! records that come in two slots: the higher one is the newer one.
//!
//! A new version's fields stand behind all of those before, and their reader says what a record meant that has none: so
//! each version reads all before it, and a record is written anew when there is news for it, not for its version's sake.
//! Whoever raises `version` freezes a record of it in `tests/formats`. A store with a record that is [`newer`] is left to
//! the program that wrote it.

use crate::rules::x509;
use crate::words::cert::{Account, Advice, Bundle, Fingerprint, Held, Slot, Tried};
use crate::words::config::Md;
use crate::words::message::Said;
use crate::words::name::Name;
use crate::words::sorted::Map;
use crate::words::staple::Stored;
use ring::digest::{SHA256, digest};
use serde::Serialize;
use serde::de::DeserializeOwned;

const CERT: Kind = Kind { byte: b'C', oldest: 1, version: 3, noun: "certificate" };
const TRIED: Kind = Kind { byte: b'T', oldest: 1, version: 2, noun: "trial" };
const ACCOUNT: Kind = Kind { byte: b'A', oldest: 1, version: 2, noun: "account" };
const OCSP: Kind = Kind { byte: b'O', oldest: 1, version: 1, noun: "OCSP" };
const STATE: Kind = Kind { byte: b'S', oldest: 1, version: 2, noun: "state" };

pub fn encode_cert(sequence: u32, held: &Held, bundle: &Bundle) -> Vec<u8> {
    seal(&CERT, &(sequence, held, bundle, (held.must_staple, held.staple_asked), &held.profile))
}

/// What is wrong with the bytes is said in a fragment that completes `file: …`; so for all that follow.
pub fn decode_cert(bytes: &[u8]) -> Result<(u32, Held, Bundle), String> {
    let (version, body) = checked(&CERT, bytes)?;
    let ((sequence, mut held, bundle), rest): ((u32, Held, Bundle), _) = fields(&CERT, body)?;
    // The first version asked for no such thing.
    let ((has, asked), rest) = if version > 1 { fields(&CERT, rest)? } else { ((false, false), rest) };
    (held.must_staple, held.staple_asked) = (has, asked);
    let (profile, rest) = if version > 2 { fields(&CERT, rest)? } else { (None, rest) };
    held.profile = profile;
    held.authority = bundle.chain.first().map(|leaf| x509::authority(leaf)).unwrap_or_default();
    if rest.is_empty() { Ok((sequence, held, bundle)) } else { Err(too_long(&CERT)) }
}

pub fn encode_tried(tried: &Tried) -> Vec<u8> {
    // What the first version can say is said in it: it is shorter, and an older program can read it.
    match tried.revoked {
        None => seal(&Kind { version: 1, ..TRIED }, tried),
        Some(_) => seal(&TRIED, &(tried, tried.revoked)),
    }
}

pub fn decode_tried(bytes: &[u8]) -> Result<Tried, String> {
    let (version, body) = checked(&TRIED, bytes)?;
    let (mut tried, rest): (Tried, _) = fields(&TRIED, body)?;
    // With the first version nothing was revoked.
    let (revoked, rest) = if version > 1 { fields(&TRIED, rest)? } else { (None, rest) };
    tried.revoked = revoked;
    if rest.is_empty() { Ok(tried) } else { Err(too_long(&TRIED)) }
}

pub fn encode_account(sequence: u32, account: &Account) -> Vec<u8> {
    match (&account.kid, &account.next) {
        (None, None) => seal(&Kind { version: 1, ..ACCOUNT }, &(sequence, account)),
        (kid, next) => seal(&ACCOUNT, &(sequence, account, kid, next)),
    }
}

pub fn decode_account(bytes: &[u8]) -> Result<(u32, Account), String> {
    let (version, body) = checked(&ACCOUNT, bytes)?;
    let ((sequence, mut account), rest): ((u32, Account), _) = fields(&ACCOUNT, body)?;
    // In the first version no account was bound, and none got another key.
    let (added, rest) = if version > 1 { fields(&ACCOUNT, rest)? } else { ((None, None), rest) };
    (account.kid, account.next) = added;
    if rest.is_empty() { Ok((sequence, account)) } else { Err(too_long(&ACCOUNT)) }
}

pub fn encode_staple(stored: &Stored) -> Vec<u8> {
    seal(&OCSP, &(&stored.sha256, stored.since, &stored.der))
}

pub fn decode_staple(bytes: &[u8]) -> Result<Stored, String> {
    let (_, body) = checked(&OCSP, bytes)?;
    let ((sha256, since, der), rest) = fields(&OCSP, body)?;
    if rest.is_empty() { Ok(Stored { sha256, since, der }) } else { Err(too_long(&OCSP)) }
}

/// The state file: everything that was tried and said, for as long as the device is up.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    pub tried: Map<Slot, Tried>,
    pub said: Map<Name, Said>,
    pub advice: Map<Slot, Advice>,
}

pub fn encode_state(state: &State) -> Vec<u8> {
    let tried = state.tried.iter().map(|(slot, tried)| (&slot.md, slot.family, tried));
    let advice = state.advice.iter().map(|(slot, advice)| (&slot.md, slot.family, advice));
    seal(&STATE, &(tried.collect::<Vec<_>>(), &state.said, advice.collect::<Vec<_>>()))
}

/// Key families that this program does not know are left out.
pub fn decode_state(bytes: &[u8]) -> Result<State, String> {
    let (version, body) = checked(&STATE, bytes)?;
    let (tried, rest): (Rows<Tried>, _) = fields(&STATE, body)?;
    let (said, rest) = fields(&STATE, rest)?;
    // The first version knew no advice.
    let (advice, rest): (Rows<Advice>, _) = if version > 1 { fields(&STATE, rest)? } else { (vec![], rest) };
    if !rest.is_empty() {
        return Err(too_long(&STATE));
    }
    let tried = tried.into_iter().filter_map(|(md, family, tried)| Some((Slot::new(md, &family)?, tried)));
    let advice = advice.into_iter().filter_map(|(md, family, advice)| Some((Slot::new(md, &family)?, advice)));
    Ok(State { tried: tried.collect(), said, advice: advice.collect() })
}

type Rows<T> = Vec<(Name, String, T)>;

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
    /// The oldest version that was ever in use.
    oldest: u8,
    version: u8,
    noun: &'static str,
}

type Checksum = [u8; 8];

fn seal<T: Serialize>(kind: &Kind, body: &T) -> Vec<u8> {
    // With room for all of it: what grows leaves what it was behind.
    let mut head = Vec::with_capacity(8 << 10);
    head.extend([kind.byte, kind.version]);
    let mut bytes = postcard::to_extend(body, head).expect("plain data of known length into memory");
    bytes.extend(short(&bytes));
    bytes
}

fn fields<'a, T: DeserializeOwned>(kind: &Kind, body: &'a [u8]) -> Result<(T, &'a [u8]), String> {
    postcard::take_from_bytes(body).map_err(|_| format!("not the fields of a {} record", kind.noun))
}

fn too_long(kind: &Kind) -> String {
    format!("more bytes than a {} record has", kind.noun)
}

/// What is to be said of a whole record that only a later program can read. What can be had again (OCSP, state) is no
/// reason to stop.
pub fn newer(bytes: &[u8]) -> Option<String> {
    let (rest, checksum) = bytes.split_last_chunk::<8>()?;
    let [byte, version, ..] = rest else { return None };
    let kind = [&CERT, &TRIED, &ACCOUNT].into_iter().find(|kind| kind.byte == *byte && kind.version < *version)?;
    (short(rest) == *checksum).then(|| {
        format!(
            "a newer edgemd has written it ({} record of version {version}, this one knows {}); install that one again, \
             or name another MDStoreDir; nothing was changed",
            kind.noun, kind.version
        )
    })
}

/// The version and the body, if the frame around them is right. Not generic, so that it stands in the program once.
fn checked<'a>(kind: &Kind, bytes: &'a [u8]) -> Result<(u8, &'a [u8]), String> {
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
    if *version < kind.oldest {
        return Err(format!("version {version} was never in use"));
    }
    Ok((*version, body))
}

fn short(bytes: &[u8]) -> Checksum {
    let hash = digest(&SHA256, bytes);
    hash.as_ref().first_chunk().copied().unwrap_or_default()
}

/// The body of a fuzz target: no bytes may do harm, in a frame or without one, and what decodes is what encodes again.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    come_back(bytes);
    let kinds = [&CERT, &TRIED, &ACCOUNT, &OCSP, &STATE];
    for (kind, version) in kinds.iter().flat_map(|kind| (kind.oldest..=kind.version).map(move |of| (kind, of))) {
        let mut framed = vec![kind.byte, version];
        framed.extend(bytes);
        framed.extend(short(&framed));
        come_back(&framed);
    }
}

fn come_back(bytes: &[u8]) {
    if let Ok((sequence, held, bundle)) = decode_cert(bytes) {
        let again = decode_cert(&encode_cert(sequence, &held, &bundle));
        assert!(again == Ok((sequence, held, bundle)), "a certificate changes");
    }
    if let Ok(tried) = decode_tried(bytes) {
        assert!(decode_tried(&encode_tried(&tried)) == Ok(tried), "a trial changes");
    }
    if let Ok((sequence, account)) = decode_account(bytes) {
        assert!(decode_account(&encode_account(sequence, &account)) == Ok((sequence, account)), "an account changes");
    }
    if let Ok(stored) = decode_staple(bytes) {
        assert!(decode_staple(&encode_staple(&stored)) == Ok(stored), "a response changes");
    }
    if let Ok(state) = decode_state(bytes) {
        assert!(decode_state(&encode_state(&state)) == Ok(state), "a state changes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::cert::{Imposed, KeyKind, NEVER, Suggested, Window};
    use crate::words::config::{Binding, Challenge, Export, Layout, RequireHttps};
    use crate::words::fault::{Place, Refusal, Subproblem, Trouble};
    use crate::words::message::Topic;
    use crate::words::name::Labels;
    use crate::words::time::{Span, Unix};

    fn name(text: &str) -> Name {
        Name::parse(text, Labels::One).unwrap()
    }

    fn held() -> Held {
        let names = vec![name("example.org"), name("*.example.org"), name("2001:db8::1")];
        Held {
            kind: KeyKind::Rsa(3072),
            since: Unix::from_secs(1_790_003_600),
            serial: vec![0, 0xa5, 3],
            must_staple: true,
            profile: Some("shortlived".into()),
            ..Held::sample(names, Unix::from_secs(1_790_000_000), Unix::from_secs(1_797_776_000))
        }
    }

    fn bundle() -> Bundle {
        Bundle { key: vec![1, 2, 3].into(), chain: vec![vec![4; 300], vec![]] }
    }

    fn tried() -> Tried {
        let mut tried = Tried { fingerprint: [3; 8], told: Some([1; 32]), ..Tried::default() };
        tried.imposed = vec![Imposed { ca: "https://ca.example/directory".into(), until: Unix::from_secs(9) }];
        let mut refusal = Refusal::ours("new order", "urn:ietf:params:acme:error:rateLimited", "too many");
        refusal.status = Some(429);
        refusal.retry_after = Some(Span::secs(7));
        refusal.subproblems.push(Subproblem { name: "example.org".into(), ..Subproblem::default() });
        tried.order.last = Some(refusal.into());
        tried.order.failures = u32::MAX;
        tried.tell.last = Some(Trouble::new("running hook", "exited with 1").into());
        tried.tell.until = Some(Unix::from_millis(u64::MAX));
        tried
    }

    fn account() -> Account {
        Account {
            ca: "https://ca.example/directory".into(),
            url: Some("https://ca.example/account/1".into()),
            key: vec![7; 138].into(),
            contacts: vec!["mailto:admin@example.org".into()],
            agreement: Some("accepted".into()),
            kid: Some("kid-1".into()),
            next: Some(vec![7; 138].into()),
        }
    }

    fn state() -> State {
        let slots =
            [("example.org", KeyKind::P256), ("example.org", KeyKind::Rsa(2048)), ("*.example.net", KeyKind::P384)];
        let last = [(Topic::Renewed, Unix::from_secs(9)), (Topic::Errored, Unix::from_millis(u64::MAX))].into();
        State {
            tried: slots.map(|(md, kind)| (Slot::new(name(md), kind.family()).unwrap(), tried())).into(),
            advice: [(Slot::new(name("example.org"), "rsa").unwrap(), advice())].into(),
            said: [(name("example.org"), Said { last, warning: tried().tell, fingerprint: [3; 8] })].into(),
        }
    }

    fn stored() -> Stored {
        Stored { sha256: [6; 32], since: Unix::from_secs(1_790_000_000), der: vec![0x30; 200] }
    }

    fn advice() -> Advice {
        let (start, end, at) = (Unix::from_secs(9), Unix::from_secs(19), Unix::from_secs(12));
        let explanation = Some("https://ca.example/why".into());
        let window = Some(Suggested { start, end, at, explanation });
        Advice { sha256: [5; 32], window, again: NEVER, failures: 3, hurried: false }
    }

    /// What an older program left in memory is no reason to forget what was tried.
    #[test]
    fn a_state_of_the_first_version_is_read() {
        let rows = vec![(name("example.org"), "rsa", tried())];
        let body = postcard::to_allocvec(&(rows, state().said)).unwrap();
        let read = decode_state(&framed([b'S', 1], &body)).unwrap();
        assert_eq!(read.tried.values().collect::<Vec<_>>(), [&tried()]);
        assert_eq!(read.said, state().said);
    }

    type Same = fn(&[u8]) -> Result<bool, String>;

    /// One of each, and whether it decodes to itself.
    fn records() -> [(Vec<u8>, Same); 5] {
        [
            (encode_cert(5, &held(), &bundle()), |bytes| decode_cert(bytes).map(|got| got == (5, held(), bundle()))),
            (encode_tried(&tried()), |bytes| decode_tried(bytes).map(|got| got == tried())),
            (encode_account(u32::MAX, &account()), |bytes| {
                decode_account(bytes).map(|got| got == (u32::MAX, account()))
            }),
            (encode_staple(&stored()), |bytes| decode_staple(bytes).map(|got| got == stored())),
            (encode_state(&state()), |bytes| decode_state(bytes).map(|got| got == state())),
        ]
    }

    #[test]
    fn records_come_back_as_they_were() {
        for (bytes, same) in records() {
            assert_eq!(same(&bytes), Ok(true));
        }
    }

    #[test]
    fn a_record_is_small() {
        let facts = encode_cert(1, &held(), &Bundle { key: vec![].into(), chain: vec![] });
        assert!(facts.len() < 180, "{} bytes of facts", facts.len());
        assert!(encode_tried(&Tried { told: Some([1; 32]), ..Tried::default() }).len() <= 64, "what a renewal writes");
    }

    #[test]
    fn a_flipped_bit_or_a_lost_byte_is_seen() {
        for (bytes, same) in records() {
            for place in 0..bytes.len() {
                for bit in 0..8 {
                    let mut bytes = bytes.clone();
                    bytes[place] ^= 1 << bit;
                    assert_eq!(same(&bytes), Err("checksum differs".into()), "byte {place}, bit {bit}");
                }
                assert!(same(&bytes[..place]).is_err(), "cut at {place}");
                assert!(same(&bytes[place + 1..]).is_err(), "begun at {place}");
            }
            assert!(same(&[&bytes[..], b"\0"].concat()).is_err());
        }
    }

    fn framed(head: [u8; 2], body: &[u8]) -> Vec<u8> {
        let bytes = [&head[..], body].concat();
        [&bytes[..], &short(&bytes)].concat()
    }

    /// What an older program stored is held, and is not ordered again for having been stored by it.
    #[test]
    fn certificates_of_earlier_versions_are_read() {
        let body = postcard::to_allocvec(&(5_u32, held(), bundle())).unwrap();
        let plain = Held { must_staple: false, staple_asked: false, profile: None, ..held() };
        assert_eq!(decode_cert(&framed([b'C', 1], &body)), Ok((5, plain, bundle())));
        assert_eq!(decode_cert(&framed([b'C', 2], &body)), Err("not the fields of a certificate record".into()));
        let second = postcard::to_allocvec(&(5_u32, held(), bundle(), (true, false))).unwrap();
        let before = Held { profile: None, ..held() };
        assert_eq!(decode_cert(&framed([b'C', 2], &second)), Ok((5, before, bundle())));
        for byte in [1, 2, 3] {
            let whole = encode_cert(5, &held(), &bundle());
            let longer = [&whole[2..whole.len() - 8], &[0]].concat();
            assert!(decode_cert(&framed([b'C', byte], &longer)).unwrap_err().starts_with("more bytes"), "{byte}");
        }
    }

    #[test]
    fn accounts_of_the_first_version_are_read() {
        let body = postcard::to_allocvec(&(5_u32, account())).unwrap();
        assert_eq!(encode_account(5, &Account { kid: None, next: None, ..account() })[..2], [b'A', 1]);
        assert_eq!(decode_account(&framed([b'A', 1], &body)), Ok((5, Account { kid: None, next: None, ..account() })));
        assert_eq!(decode_account(&framed([b'A', 2], &body)).unwrap_err(), "not the fields of a account record");
    }

    #[test]
    fn damage_is_told_apart() {
        let whole = encode_tried(&tried());
        let body = &whole[2..whole.len() - 8];
        assert_eq!(decode_tried(&framed([b'T', 1], body)), Ok(tried()));
        let revoked = Tried { revoked: Some([9; 32]), ..tried() };
        assert_eq!(encode_tried(&revoked)[1], 2);
        assert_eq!(decode_tried(&encode_tried(&revoked)), Ok(revoked));
        for (bytes, why) in [
            (vec![], "too short for a record"),
            (vec![0; 9], "too short for a record"),
            (vec![0; 10], "checksum differs"),
            (framed([b'T', 9], body), "version 9 is newer than this program knows"),
            (framed([b'T', 0], body), "version 0 was never in use"),
            (encode_account(1, &account()), "not a trial record"),
            (framed([b'T', 1], &[body, b"x"].concat()), "more bytes than a trial record has"),
            (framed([b'T', 1], &body[..body.len() - 1]), "not the fields of a trial record"),
        ] {
            assert_eq!(decode_tried(&bytes), Err(why.into()));
        }
    }

    #[test]
    fn what_a_later_program_wrote_is_left_to_it() {
        let of = |kind: u8, version: u8| newer(&framed([kind, version], b"whatever"));
        for (kind, noun, known) in [(b'C', "certificate", 3), (b'T', "trial", 2), (b'A', "account", 2)] {
            let begin = format!("({noun} record of version {}, this one knows {known})", known + 1);
            let said = of(kind, known + 1).unwrap();
            assert!(said.contains(&begin) && said.contains("install that one again"), "{said}");
            assert!(of(kind, known + 2).is_some());
            assert_eq!([of(kind, known), of(kind, known - 1)], [None, None]);
        }
        for kind in *b"OSX" {
            assert_eq!(of(kind, 9), None, "what can be had again, or is none of ours");
        }
        let mut damaged = framed([b'C', 9], b"whatever");
        damaged[5] ^= 1;
        assert_eq!([newer(&damaged), newer(&[b'C'; 9]), newer(b"")], [None, None, None]);
    }

    #[test]
    fn a_family_of_a_later_version_is_left_out() {
        let rows = ["ed25519", "rsa"].map(|family| (name("example.org"), family, tried()));
        let advice = ["ed25519", "rsa"].map(|family| (name("example.org"), family, advice()));
        let read = decode_state(&seal(&STATE, &(rows.to_vec(), state().said, advice.to_vec()))).unwrap();
        assert_eq!(read.tried.keys().map(|slot| slot.family).collect::<Vec<_>>(), ["rsa"]);
        assert_eq!(read.advice.keys().map(|slot| slot.family).collect::<Vec<_>>(), ["rsa"]);
    }

    #[test]
    fn nothing_secret_is_printed() {
        let text = format!("{:?}{:?}", account(), bundle());
        assert!(!text.contains('7') && !text.contains("account/1") && text.contains("ca.example"), "{text}");
    }

    fn md() -> Md {
        let plain = Md::plain(name("example.org"), Place { file: "edgemd.conf".into(), line: 1, column: 1 });
        Md { cas: vec!["https://ca.example/directory".into()], agreement: Some("accepted".into()), ..plain }
    }

    #[test]
    fn the_fingerprint_follows_what_the_operator_wrote_and_not_where() {
        let first = fingerprint(&md());
        assert_eq!(first, fingerprint(&Md { place: Place { file: "other".into(), line: 9, column: 9 }, ..md() }));
        let changes: [fn(&mut Md); 11] = [
            |md| md.names.push(name("www.example.org")),
            |md| md.cas.push("https://other.example/".into()),
            |md| md.contacts.push("mailto:admin@example.org".into()),
            |md| md.window = Window::Fixed(Span::days(33)),
            |md| md.challenges = Some(vec![Challenge::Http01]),
            |md| md.export = Some(Export::to("/etc/ssl".into(), Layout::Pair)),
            |md| md.notify = Some(vec!["/bin/true".into()]),
            |md| md.require_https = RequireHttps::Temporary,
            |md| md.proxy = Some("http://proxy.example:3128".into()),
            |md| md.binding = Some(Binding { kid: "kid-1".into(), hmac: "c2VjcmV0".into() }),
            |md| md.binding = Some(Binding { kid: "kid-1".into(), hmac: "c2VjcmV1".into() }),
        ];
        let mut seen = vec![first];
        for change in changes {
            let mut md = md();
            change(&mut md);
            let changed = fingerprint(&md);
            assert!(!seen.contains(&changed), "{md:?}");
            seen.push(changed);
        }
    }

    #[test]
    fn a_url_has_one_file_name() {
        // SHA-256 of "abc" (FIPS 180-4's example), its first half.
        assert_eq!(file_stem("abc"), "ba7816bf8f01cfea414140de5dae2223");
    }
}
