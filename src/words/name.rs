//! A DNS name, a wildcard or an IP address: validated once, then comparable and safe as a file name.

use core::fmt;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Lower-case ASCII in its one normal form. Ordered and compared as text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Name(String);

/// How many labels a name needs at least: a private CA may know `router`, a public one never.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Labels {
    Two,
    One,
}

impl Name {
    /// Reads what an operator wrote; says what is wrong with it in a fragment that completes `"name": …`. One dot at the
    /// end is dropped: an absolute name is the same name.
    pub fn parse(text: &str, labels: Labels) -> Result<Self, String> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self(ip.to_string()));
        }
        if text.contains(':') || text.starts_with('[') {
            return Err(
                "is no name and no IP address (an IPv6 address stands without brackets and without a port)".into()
            );
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        let (star, base) = match text.strip_prefix("*.") {
            Some(base) => ("*.", base),
            None => ("", text),
        };
        if base.contains('*') {
            return Err("has a '*' that is not its whole first label; a wildcard is written as in *.example.org".into());
        }
        let name = format!("{star}{}", to_ascii(base)?);
        let base = name.strip_prefix("*.").unwrap_or(&name);
        base.split('.').try_for_each(check_label)?;
        if name.len() > 253 {
            return Err(format!("has {} characters, and a name has 253 at most", name.len()));
        }
        let mut from_the_right = base.rsplit('.');
        if from_the_right.next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err("ends in a number, and is not an IP address either".into());
        }
        if labels == Labels::Two && from_the_right.next().is_none() {
            let what =
                if star.is_empty() { "has only one label" } else { "is a wildcard for a whole top-level domain" };
            return Err(format!("{what}, which only a private CA signs (its roots are given by MDCACertificateFile)"));
        }
        Ok(Self(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    pub fn ip(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }

    /// Whether a certificate with this name serves `other` too: the same name, or a wildcard one label above it.
    pub fn covers(&self, other: &Name) -> bool {
        self == other || self.serves(&other.0)
    }

    /// The same of a host in its normal form, which a stranger may have made up.
    pub fn serves(&self, host: &str) -> bool {
        let Some(parent) = self.0.strip_prefix("*.") else { return self.0 == host };
        matches!(host.split_once('.'), Some((label, rest)) if rest == parent && check_label(label).is_ok())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What every label must be once it is ASCII (RFC 1123 §2.1).
fn check_label(label: &str) -> Result<(), String> {
    if label.is_empty() {
        return Err("has an empty label: two dots in a row, a dot at the start, or nothing at all".into());
    }
    if label.len() > 63 {
        return Err(format!("has a label of {} characters, and a label has 63 at most", label.len()));
    }
    if let Some(other) = label.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-') {
        let other = other.escape_default();
        return Err(format!("has the character '{other}'; letters, digits, '-' and '.' can stand in a name"));
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(format!("has a label that begins or ends with '-': '{label}'"));
    }
    Ok(())
}

/// Lower-case ASCII: a label in other letters becomes its `xn--` form (RFC 5891 §4.4). Other characters of ASCII pass as
/// they are. The letters taken are those of [`LETTERS`], whose lower-case form is already what IDNA's mapping would
/// make of them. The tables for the rest (combining marks, right-to-left, compatibility forms) would cost 151 KB with
/// `idna` and 280 KB with its smaller adapter; punycode and `to_lowercase` alone cost 22 KB.
pub fn to_ascii(text: &str) -> Result<String, String> {
    if text.is_ascii() {
        return Ok(text.to_ascii_lowercase());
    }
    let mut out = String::with_capacity(text.len());
    for (at, label) in text.split('.').enumerate() {
        if at > 0 {
            out.push('.');
        }
        // Character by character: the lower-case form of a whole word would know a final sigma, which IDNA does not.
        let lower: Vec<char> = label.chars().flat_map(char::to_lowercase).collect();
        if let Some(other) = lower.iter().find(|c| !c.is_ascii() && !LETTERS.iter().any(|range| range.contains(c))) {
            let code = u32::from(*other);
            return Err(format!("has the character U+{code:04X}, which edgemd can't convert; write it as xn--…"));
        }
        if lower.iter().all(char::is_ascii) {
            out.extend(lower);
        } else {
            out.push_str("xn--");
            out.push_str(&punycode(&lower).ok_or("is too long")?);
        }
    }
    Ok(out)
}

/// Letters beyond ASCII that stand for themselves in IDNA: left to right, composed, no mapping, no context rule.
const LETTERS: [core::ops::RangeInclusive<char>; 23] = [
    '\u{df}'..='\u{f6}',  // Latin-1
    '\u{f8}'..='\u{131}', // Latin Extended-A, without the ligatures ĳ ŀ ŉ ſ
    '\u{134}'..='\u{13e}',
    '\u{141}'..='\u{148}',
    '\u{14a}'..='\u{17e}',
    '\u{180}'..='\u{1bf}', // Latin Extended-B, without the digraphs
    '\u{1cd}'..='\u{1f0}',
    '\u{1f5}'..='\u{233}',
    '\u{390}'..='\u{390}', // Greek
    '\u{3ac}'..='\u{3ce}',
    '\u{430}'..='\u{481}', // Cyrillic
    '\u{48b}'..='\u{4bf}',
    '\u{4c2}'..='\u{52f}',
    '\u{561}'..='\u{586}',   // Armenian
    '\u{10d0}'..='\u{10fa}', // Georgian
    '\u{1e01}'..='\u{1e99}', // Latin for Vietnamese and others
    '\u{1ea1}'..='\u{1eff}',
    '\u{3005}'..='\u{3005}', // Japanese
    '\u{3041}'..='\u{3096}',
    '\u{30a1}'..='\u{30fa}',
    '\u{30fc}'..='\u{30fc}',
    '\u{4e00}'..='\u{9fff}', // Han
    '\u{ac00}'..='\u{d7a3}', // Hangul
];

/// One label in the encoding of RFC 3492 §6.3, or `None` where it grows out of the numbers.
fn punycode(label: &[char]) -> Option<String> {
    let mut out: String = label.iter().filter(|c| c.is_ascii()).collect();
    let basic = u32::try_from(out.len()).ok()?;
    if basic > 0 {
        out.push('-');
    }
    let total = u32::try_from(label.len()).ok()?;
    let (mut n, mut delta, mut bias, mut done) = (128u32, 0u32, 72u32, basic);
    while done < total {
        let next = label.iter().map(|c| u32::from(*c)).filter(|code| *code >= n).min()?;
        delta = delta.checked_add((next - n).checked_mul(done + 1)?)?;
        n = next;
        for code in label.iter().map(|c| u32::from(*c)) {
            if code < n {
                delta = delta.checked_add(1)?;
            }
            if code == n {
                push_number(&mut out, delta, bias);
                bias = adapted(delta, done + 1, done == basic);
                delta = 0;
                done += 1;
            }
        }
        delta = delta.checked_add(1)?;
        n += 1;
    }
    Some(out)
}

/// A number of varying base, least digit first (RFC 3492 §3.3).
fn push_number(out: &mut String, mut number: u32, bias: u32) {
    let digit = |value: u32| char::from_digit(value, 36).map_or('0', |c| c);
    // Punycode counts a…z before 0…9, `from_digit` the other way round.
    let digit = |value: u32| if value < 26 { digit(value + 10) } else { digit(value - 26) };
    let mut place = 36;
    loop {
        let threshold = u32::clamp(place.max(bias) - bias, 1, 26);
        if number < threshold {
            break out.push(digit(number));
        }
        out.push(digit(threshold + (number - threshold) % (36 - threshold)));
        number = (number - threshold) / (36 - threshold);
        place += 36;
    }
}

/// RFC 3492 §6.1.
fn adapted(delta: u32, points: u32, first: bool) -> u32 {
    let mut delta = if first { delta / 700 } else { delta / 2 };
    delta += delta / points;
    let mut steps = 0;
    while delta > 455 {
        delta /= 35;
        steps += 36;
    }
    steps + 36 * delta / (delta + 38)
}

/// The body of a fuzz target: a name is one everywhere it goes, a file's name included, and is still itself when it is read
/// again.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for labels in [Labels::Two, Labels::One] {
        match Name::parse(&text, labels) {
            Ok(name) => {
                assert_eq!(Name::parse(name.as_str(), labels).as_ref(), Ok(&name));
                let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-*:".contains(&byte);
                assert!(name.as_str().bytes().all(plain) && name.as_str().len() <= 253, "{name}");
                assert!(!name.as_str().starts_with('.') && !name.as_str().contains(".."), "{name}");
                assert!(name.covers(&name));
            }
            Err(why) => assert!(!why.is_empty() && !why.contains(char::is_control), "{why:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two(text: &str) -> Result<String, String> {
        Name::parse(text, Labels::Two).map(|name| name.0)
    }

    #[test]
    fn md_100_005_bad_names_are_refused() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = format!("{}example", "abcdefg.".repeat(31));
        for (text, why) in [
            ("tld", "has only one label, which only a private CA signs"),
            ("white sp.ace", "has the character ' '"),
            ("invalid.*.wildcard.com", "has a '*' that is not its whole first label"),
            ("*a.example.org", "has a '*'"),
            ("*.*.example.org", "has a '*'"),
            ("*", "has a '*'"),
            ("*.org", "is a wildcard for a whole top-level domain"),
            ("", "has an empty label"),
            (".", "has an empty label"),
            ("a..example", "has an empty label"),
            (".example.org", "has an empty label"),
            ("example.org..", "has an empty label"),
            ("-a.example", "begins or ends with '-'"),
            ("a-.example", "begins or ends with '-'"),
            ("a_b.example", "has the character '_'"),
            ("a\u{0}.example", "has the character '\\u{0}'"),
            ("1.2.3", "ends in a number"),
            ("1.2.3.256", "ends in a number"),
            ("[::1]", "without brackets"),
            ("example.org:443", "without a port"),
            ("xn--n\u{308}.example", "U+0308"),
            ("u\u{308}ber.example", "U+0308, which edgemd can't convert; write it as xn--…"),
            ("\u{5e9}\u{5dc}.example", "U+05E9"),
            ("\u{1f600}.example", "U+1F600"),
            ("ﬁ.example", "U+FB01"),
            ("日本。example.org", "U+3002"),
            ("\u{fffd}.example", "U+FFFD"),
            (&long_label, "has a label of 64 characters"),
            (&long_name, "has 255 characters"),
        ] {
            let fault = two(text).expect_err(text);
            assert!(fault.contains(why), "{text}: {fault}");
        }
    }

    #[test]
    fn md_100_010_punycode() {
        for (text, name) in [
            ("Müller.example", "xn--mller-kva.example"),
            ("MÜLLER.Example", "xn--mller-kva.example"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("日本.example", "xn--wgv71a.example"),
            ("straße.example", "xn--strae-oqa.example"),
            ("ΣΊΣΥΦΟΣ.example", "xn--kxa6akbbkh.example"),
            ("почта.example", "xn--80a1acny.example"),
            ("한국.example", "xn--3e0b707e.example"),
            ("bücher.日本", "xn--bcher-kva.xn--wgv71a"),
            ("xn--mller-kva.EXAMPLE", "xn--mller-kva.example"),
        ] {
            assert_eq!(two(text).as_deref(), Ok(name), "{text}");
        }
        let long = format!("{}.example", "ü".repeat(60_000));
        assert!(two(&long).is_err());
    }

    /// RFC 3492 §7.1, samples B, L and S without their capitals.
    #[test]
    fn the_samples_of_rfc_3492() {
        for (text, code) in [
            ("他们为什么不说中文", "ihqwcrb4cv8a8dqg056pqjye"),
            ("3年b組金八先生", "3b-ww4c5e180e575a65lsy2b"),
            ("-> $1.00 <-", "-> $1.00 <--"),
        ] {
            assert_eq!(punycode(&text.chars().collect::<Vec<_>>()).as_deref(), Some(code));
        }
    }

    #[test]
    fn md_100_012_wildcards_and_other_good_names() {
        for (text, name) in [
            ("*.Example.org", "*.example.org"),
            ("example.org.", "example.org"),
            ("4.example.org", "4.example.org"),
            ("192.0.2.7", "192.0.2.7"),
            ("2001:DB8:0:0::0:1", "2001:db8::1"),
        ] {
            assert_eq!(two(text).as_deref(), Ok(name), "{text}");
        }
        assert_eq!(Name::parse("Router", Labels::One).unwrap().as_str(), "router");
        assert!(Name::parse("*.lan", Labels::One).is_ok());
        assert!(Name::parse("8080", Labels::One).is_err());
    }

    #[test]
    fn a_name_reads_back_as_itself() {
        for text in ["Müller.example", "*.a.b", "::1", "a.b.", "日本.example"] {
            let name = two(text).unwrap();
            assert_eq!(two(&name).as_ref(), Ok(&name));
        }
    }
}
