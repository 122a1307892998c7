//! Moments and spans. Milliseconds inside, saturating at both ends; the units live in the types.

use core::fmt;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Unix(u64);

/// A length of time in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Span(u64);

impl Unix {
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    pub const fn secs(self) -> u64 {
        self.0 / 1000
    }

    pub const fn millis(self) -> u64 {
        self.0
    }

    pub const fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    pub const fn minus(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }

    /// The time that has passed since `earlier`; nothing if it is still to come.
    pub const fn since(self, earlier: Unix) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// `2026-11-24T03:10:00Z`, whole seconds.
    pub fn rfc3339(self) -> String {
        self.calendar().format(&Rfc3339).unwrap_or_else(|_| format!("@{}", self.secs()))
    }

    /// `Sun, 06 Nov 1994 08:49:37 GMT`: HTTP's form, which is also the one that mod_md's JSON uses.
    pub fn http_date(self) -> String {
        let moment = std::time::UNIX_EPOCH + std::time::Duration::from_secs(self.secs().min(MAX_SECS));
        httpdate::fmt_http_date(moment)
    }

    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        let millis = moment.unix_timestamp_nanos() / 1_000_000;
        u64::try_from(millis).ok().map(Self)
    }

    /// Any of HTTP's three date forms (RFC 9110 §5.6.7).
    pub fn from_http_date(text: &str) -> Option<Self> {
        let moment = httpdate::parse_http_date(text).ok()?;
        let since = moment.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(Self::from_secs(since.as_secs()))
    }

    /// For libraries that want it so.
    pub fn calendar(self) -> OffsetDateTime {
        let secs = i64::try_from(self.secs().min(MAX_SECS)).unwrap_or(0);
        OffsetDateTime::from_unix_timestamp(secs).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

/// The last second of the year 9999, where the printable calendar ends.
const MAX_SECS: u64 = 253_402_300_799;

impl fmt::Display for Unix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

impl Span {
    pub const ZERO: Self = Self(0);

    pub const fn millis(n: u64) -> Self {
        Self(n)
    }

    pub const fn secs(n: u64) -> Self {
        Self(n.saturating_mul(1000))
    }

    pub const fn mins(n: u64) -> Self {
        Self::secs(n.saturating_mul(60))
    }

    pub const fn hours(n: u64) -> Self {
        Self::mins(n.saturating_mul(60))
    }

    pub const fn days(n: u64) -> Self {
        Self::hours(n.saturating_mul(24))
    }

    pub const fn as_millis(self) -> u64 {
        self.0
    }

    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    pub const fn plus(self, other: Span) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    pub const fn minus(self, other: Span) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    pub const fn times(self, n: u64) -> Self {
        Self(self.0.saturating_mul(n))
    }

    /// A share of it; all of it for a divisor of 0.
    pub const fn divided(self, by: u64) -> Self {
        Self(self.0 / if by == 0 { 1 } else { by })
    }

    /// `percent` hundredths of it, without overflow on the way.
    pub fn percent(self, percent: u32) -> Self {
        let part = u128::from(self.0) * u128::from(percent) / 100;
        Self(u64::try_from(part).unwrap_or(u64::MAX))
    }

    pub const fn duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

/// The largest unit that divides it: `90d`, `12h`, `30s`, `100ms`; the spelling that the configuration reads.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "mi"), (1000, "s")];
        for (size, unit) in UNITS {
            if self.0 >= size && self.0.is_multiple_of(size) {
                return write!(f, "{}{unit}", self.0 / size);
            }
        }
        if self.0 == 0 { f.write_str("0s") } else { write!(f, "{}ms", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_both_ways() {
        let moment = Unix::from_secs(784_111_777);
        assert_eq!(moment.http_date(), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(moment.rfc3339(), "1994-11-06T08:49:37Z");
        for text in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(Unix::from_http_date(text), Some(moment), "{text}");
        }
        assert_eq!(Unix::from_rfc3339("1994-11-06T09:49:37+01:00"), Some(moment));
        assert_eq!(Unix::from_rfc3339("1994-11-06"), None);
        assert_eq!(Unix::from_rfc3339("1969-12-31T23:59:59Z"), None);
    }

    #[test]
    fn the_ends_saturate() {
        let end = Unix::from_secs(u64::MAX);
        assert_eq!(end.plus(Span::days(1)), end);
        assert_eq!(Unix::default().minus(Span::days(1)), Unix::default());
        assert_eq!(end.http_date(), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(end.rfc3339(), "9999-12-31T23:59:59Z");
        assert_eq!(Span::days(u64::MAX).percent(33), Span(u64::MAX / 100 * 33 + (u64::MAX % 100) * 33 / 100));
    }

    #[test]
    fn a_span_is_printed_as_it_is_written() {
        for (span, text) in [
            (Span::ZERO, "0s"),
            (Span::millis(100), "100ms"),
            (Span::secs(90), "90s"),
            (Span::mins(90), "90mi"),
            (Span::hours(12), "12h"),
            (Span::days(33), "33d"),
        ] {
            assert_eq!(span.to_string(), text);
        }
    }
}
