//! OCSP (RFC 6960): what the responder of a certificate's CA is asked, whether its answer is good, and when it is asked
//! again.

use crate::rules::der::{BITS, ENUMERATED, INTEGER, OCTETS, OID, SEQUENCE, only, take, tlv, whole};
use crate::rules::plan::THROW;
use crate::rules::x509::{self, extension};
use crate::words::cert::Window;
use crate::words::staple::{Response, Verdict};
use crate::words::time::{Span, Unix};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use x509_parser::certificate::X509Certificate;

/// A question that can be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query {
    pub url: String,
    /// The OCSPRequest, DER. It has no nonce: responders for the public prepare their answers (RFC 5019 §2.1.1).
    pub request: Vec<u8>,
    /// Issuer's name, issuer's key (both as SHA-1), serial number.
    id: [Vec<u8>; 3],
    issuer: Vec<u8>,
}

/// The question for the first certificate of a chain; `None` where its CA has no responder.
pub fn query(chain: &[Vec<u8>]) -> Result<Option<Query>, String> {
    let leaf = x509::parse(chain.first().ok_or("there is no certificate")?)?;
    let Some(url) = responder(&leaf) else { return Ok(None) };
    let above = chain.get(1).ok_or("the CA's own certificate is not in its chain")?;
    let issuer = x509::parse(above)?;
    if issuer.subject().as_raw() != leaf.issuer().as_raw() {
        return Err("the second certificate of its chain is not the CA's own".into());
    }
    let id = [sha1(issuer.subject().as_raw()), sha1(key_of(&issuer)), leaf.raw_serial().to_vec()];
    let [name, key, serial] = &id;
    let parts = [SHA1, &tlv(OCTETS, name), &tlv(OCTETS, key), &tlv(INTEGER, serial)];
    // Request, requestList, tbsRequest, OCSPRequest: each a SEQUENCE of the one before.
    let request = (0..4).fold(tlv(SEQUENCE, &parts.concat()), |inner, _| tlv(SEQUENCE, &inner));
    Ok(Some(Query { url, request, id, issuer: above.clone() }))
}

/// The responder's answer, if it is one to this question, is signed by who may sign it, and is good now. Without a clock
/// the time is not judged.
pub fn read(query: &Query, der: &[u8], now: Option<Unix>) -> Result<Response, String> {
    if der.len() > LONGEST {
        return Err("it is too long".into());
    }
    let basic = basic(der)?;
    let signed = signed(basic).ok_or(NO_DER)?;
    let (signer, verdict) = said(&signed, &query.id)?;
    verify(query, &signed, signer, now)?;
    let verdict = verdict?;
    let Verdict { from, until, .. } = verdict;
    if until <= from {
        return Err(format!("it ends ({until}) before it begins ({from})"));
    }
    match now {
        Some(now) if until <= now => Err(format!("it has ended already, at {until}; the clock here says {now}")),
        Some(now) if from > now.plus(x509::AHEAD) => {
            Err(format!("it begins only at {from}; the clock here says {now}"))
        }
        _ => Ok(Response { verdict, der: der.into() }),
    }
}

/// When a newer answer is asked for. `asked` is when this one came, unless it was found in the store; `throw` is an even
/// throw of 0 to [`THROW`]` - 1`, because many devices have an answer of the same second.
pub fn renew_at(verdict: &Verdict, window: Window, asked: Option<Unix>, throw: u32) -> Unix {
    let life = verdict.until.since(verdict.from);
    let tail = window.of(life);
    let late = tail.min(life).times(throw.min(THROW).into()).divided(8 * u64::from(THROW));
    let at = verdict.until.minus(tail).plus(late);
    // A window as long as the life, or an answer that was old when it came, is no reason to ask without end.
    asked.map_or(at, |asked| at.max(asked.plus(PAUSE.min(life.percent(25)))))
}

/// Between two questions that were both answered.
const PAUSE: Span = Span::hours(1);

/// Nobody staples more than this; good ones have some hundred bytes, with certificates some thousand.
const LONGEST: usize = 16 << 10;

const NO_DER: &str = "it is not DER of RFC 6960";
/// The AlgorithmIdentifier of SHA-1, with its NULL: what every responder knows (RFC 5019 §2.1.1).
const SHA1: &[u8] = &[0x30, 9, 6, 5, 0x2b, 0x0e, 3, 2, 0x1a, 5, 0];
/// id-pe-authorityInfoAccess and, below id-ad, that of OCSP (RFC 5280 §4.2.2.1).
const ACCESS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 1];
const OCSP: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1];
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
/// id-ce-extKeyUsage, and id-kp-OCSPSigning (RFC 6960 §4.2.2.2).
const USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const OCSP_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 9];
const GENERALIZED: u8 = 0x18;
/// A uniformResourceIdentifier among the GeneralNames.
const URI: u8 = 0x86;

fn sha1(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().into()
}

/// What hashes and signatures mean by a key: the bits without what kind they are.
fn key_of<'a>(cert: &'a X509Certificate<'_>) -> &'a [u8] {
    &cert.public_key().subject_public_key.data
}

/// The first URL at which something that speaks http answers.
fn responder(leaf: &X509Certificate<'_>) -> Option<String> {
    let mut list = only(extension(leaf, ACCESS)?, SEQUENCE)?;
    while let Some(mut access) = take(&mut list, SEQUENCE) {
        if take(&mut access, OID) == Some(OCSP)
            && let Some(url) = take(&mut access, URI)
            && url.len() < 1024
            && url.iter().all(u8::is_ascii_graphic)
            && (url.starts_with(b"http://") || url.starts_with(b"https://"))
        {
            return String::from_utf8(url.into()).ok();
        }
    }
    None
}

/// The BasicOCSPResponse in an OCSPResponse, or what the responder has to say instead.
fn basic(der: &[u8]) -> Result<&[u8], String> {
    let mut body = only(der, SEQUENCE).ok_or(NO_DER)?;
    let status = match take(&mut body, ENUMERATED).ok_or(NO_DER)? {
        [0] => "",
        [1] => "malformedRequest",
        [2] => "internalError",
        [3] => "tryLater",
        [5] => "sigRequired",
        [6] => "unauthorized",
        _ => "something unknown",
    };
    if !status.is_empty() {
        return Err(format!("the responder says {status}"));
    }
    let mut basic = || {
        let mut bytes = only(take(&mut body, 0xa0)?, SEQUENCE)?;
        (take(&mut bytes, OID)? == BASIC).then(|| only(bytes, OCTETS))?
    };
    basic().ok_or(NO_DER.into())
}

/// What is signed, in the form that certificates and responses share.
struct Signed<'a> {
    data: &'a [u8],
    /// What stands in the AlgorithmIdentifier.
    algorithm: &'a [u8],
    signature: &'a [u8],
    rest: &'a [u8],
}

fn signed(der: &[u8]) -> Option<Signed<'_>> {
    let mut rest = only(der, SEQUENCE)?;
    let (data, algorithm) = (whole(&mut rest)?, take(&mut rest, SEQUENCE)?);
    Some(Signed { data, algorithm, signature: bits(&mut rest)?, rest })
}

/// A BIT STRING of whole bytes.
fn bits<'a>(der: &mut &'a [u8]) -> Option<&'a [u8]> {
    take(der, BITS)?.strip_prefix(&[0])
}

/// Who has signed.
#[derive(Clone, Copy)]
enum Signer<'a> {
    Name(&'a [u8]),
    KeyHash(&'a [u8]),
}

type Said<'a> = (Signer<'a>, Result<Verdict, String>);

/// Who speaks, and what is said of the certificate with this id.
fn said<'a>(signed: &Signed<'a>, id: &[Vec<u8>; 3]) -> Result<Said<'a>, String> {
    let answers = || {
        let mut data = only(signed.data, SEQUENCE)?;
        // The version, where it is written.
        let _ = take(&mut data, 0xa0);
        let signer = match take(&mut data, 0xa1) {
            Some(name) => Signer::Name(name),
            None => Signer::KeyHash(only(take(&mut data, 0xa2)?, OCTETS)?),
        };
        // producedAt
        whole(&mut data)?;
        Some((signer, take(&mut data, SEQUENCE)?))
    };
    let (signer, mut answers) = answers().ok_or(NO_DER)?;
    while let Some(mut single) = take(&mut answers, SEQUENCE) {
        if is_of(take(&mut single, SEQUENCE).ok_or(NO_DER)?, id) {
            return Ok((signer, verdict(single)));
        }
    }
    Err("it is for another certificate".into())
}

fn is_of(cert_id: &[u8], [name, key, serial]: &[Vec<u8>; 3]) -> bool {
    let mut rest = cert_id;
    let oid = take(&mut rest, SEQUENCE).and_then(|mut algorithm| take(&mut algorithm, OID));
    // Its OID in SHA1, behind the two heads; the parameters are as the responder likes.
    oid == SHA1.get(4..9)
        && take(&mut rest, OCTETS) == Some(name)
        && take(&mut rest, OCTETS) == Some(key)
        && only(rest, INTEGER) == Some(serial)
}

/// What follows the id in a SingleResponse.
fn verdict(single: &[u8]) -> Result<Verdict, String> {
    let mut rest = single;
    let revoked = if take(&mut rest, 0x80).is_some() {
        false
    } else if take(&mut rest, 0xa1).is_some() {
        true
    } else {
        return Err("the responder does not know the certificate".into());
    };
    let mut times = || {
        let from = moment(whole(&mut rest)?)?;
        // Where it does not say, there is always something newer to be had.
        let until = take(&mut rest, 0xa0).map_or(Some(from.plus(Span::hours(12))), moment)?;
        Some(Verdict { revoked, from, until })
    };
    times().ok_or(NO_DER.into())
}

/// `20270115080000Z` (RFC 5280 §4.1.2.5.2).
fn moment(der: &[u8]) -> Option<Unix> {
    let text = core::str::from_utf8(only(der, GENERALIZED)?).ok()?;
    let (date, clock) = text.split_at_checked(8).filter(|_| text.len() == 15)?;
    let [year, month, day] = [date.get(..4)?, date.get(4..6)?, date.get(6..)?];
    let [hour, minute, second] = [clock.get(..2)?, clock.get(2..4)?, clock.get(4..)?];
    Unix::from_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}"))
}

/// Whether the CA has signed it, or somebody whom the CA lets speak for it.
fn verify(query: &Query, signed: &Signed<'_>, signer: Signer<'_>, now: Option<Unix>) -> Result<(), String> {
    let issuer = x509::parse(&query.issuer)?;
    let speaks = |cert: &X509Certificate<'_>| match signer {
        Signer::Name(name) => cert.subject().as_raw() == name,
        Signer::KeyHash(hash) => sha1(key_of(cert)) == hash,
    };
    if speaks(&issuer) && is_signed_by(signed, &issuer) {
        return Ok(());
    }
    let mut why = "it is signed by nobody who may speak for the CA";
    let mut rest = signed.rest;
    let mut certs = take(&mut rest, 0xa0).and_then(|certs| only(certs, SEQUENCE)).unwrap_or_default();
    while let Some(der) = whole(&mut certs) {
        let (Ok(cert), Some(by)) = (x509::parse(der), self::signed(der)) else { continue };
        let may = extension(&cert, USAGE).is_some_and(|list| {
            let mut list = only(list, SEQUENCE).unwrap_or_default();
            core::iter::from_fn(|| take(&mut list, OID)).any(|usage| usage == OCSP_SIGNING)
        });
        let vouched = cert.issuer().as_raw() == issuer.subject().as_raw() && is_signed_by(&by, &issuer);
        if !speaks(&cert) || !may || !vouched || !is_signed_by(signed, &cert) {
            continue;
        }
        let [from, until] =
            [cert.validity().not_before, cert.validity().not_after].map(|at| x509::moment(at.timestamp()));
        if now.is_none_or(|now| from <= now.plus(x509::AHEAD) && now < until) {
            return Ok(());
        }
        why = "the certificate of who signed it is not valid now";
    }
    Err(why.into())
}

fn is_signed_by(signed: &Signed<'_>, cert: &X509Certificate<'_>) -> bool {
    let key = || {
        let mut info = only(cert.public_key().raw, SEQUENCE)?;
        Some((take(&mut info, SEQUENCE)?, bits(&mut info)?))
    };
    let Some((kind, key)) = key() else { return false };
    webpki::ALL_VERIFICATION_ALGS.iter().any(|known| {
        known.signature_alg_id().as_ref() == signed.algorithm
            && known.public_key_alg_id().as_ref() == kind
            && known.verify_signature(key, signed.data, signed.signature).is_ok()
    })
}

/// The body of a fuzz target: a certificate, its issuer's and an answer, one DER after the other. What is asked is DER that
/// holds the serial number, and what is taken of the answer is kept as it is.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let mut rest = bytes;
    let (Some(leaf), Some(issuer)) = (whole(&mut rest), whole(&mut rest)) else { return };
    let Ok(Some(query)) = query(&[leaf.into(), issuer.into()]) else { return };
    assert!(only(&query.request, SEQUENCE).is_some() && query.url.starts_with("http"));
    for now in [None, Some(Unix::from_secs(1_800_000_000))] {
        match read(&query, rest, now) {
            Ok(response) => {
                assert!(response.der == rest && response.verdict.from < response.verdict.until);
                assert!(now.is_none_or(|now| now < response.verdict.until));
            }
            Err(why) => assert!(!why.is_empty() && !why.contains(char::is_control)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let read = |text: &str| moment(&tlv(GENERALIZED, text.as_bytes())).map(Unix::rfc3339);
        assert_eq!(read("20270115080000Z").as_deref(), Some("2027-01-15T08:00:00Z"));
        for text in ["2027011508000Z", "202701150800000Z", "20270115080000+", "2027011508000-Z", "20271315080000Z", ""]
        {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(moment(&tlv(0x17, b"270115080000Z")), None);
    }

    fn verdict_of(hours: u64) -> Verdict {
        let from = Unix::from_secs(1_800_000_000);
        Verdict { revoked: false, from, until: from.plus(Span::hours(hours)) }
    }

    #[test]
    fn the_next_question_is_asked_in_the_window() {
        let verdict = verdict_of(100);
        let at = |window, asked, throw| renew_at(&verdict, window, asked, throw).since(verdict.from);
        let third = Window::Percent(33);
        assert_eq!(at(third, None, 0), Span::hours(67));
        assert!((Span::hours(67)..Span::hours(72)).contains(&at(third, None, THROW - 1)));
        assert!(at(third, None, THROW - 1) > Span::hours(71));
        assert_eq!(at(Window::Fixed(Span::hours(6)), Some(verdict.from), 0), Span::hours(94));
        // One that is longer than the life: at once after a start, then once an hour.
        let longer = Window::Fixed(Span::days(10));
        assert_eq!(at(longer, None, 500), Span::ZERO);
        assert_eq!(at(longer, Some(verdict.from.plus(Span::hours(2))), 500), Span::hours(3));
        // An answer that was nearly over when it came; and one that is good for a minute.
        assert_eq!(at(third, Some(verdict.from.plus(Span::hours(90))), 0), Span::hours(91));
        let brief = Verdict { until: verdict.from.plus(Span::mins(1)), ..verdict };
        assert_eq!(renew_at(&brief, longer, Some(brief.from), 0), brief.from.plus(Span::secs(15)));
    }
}
