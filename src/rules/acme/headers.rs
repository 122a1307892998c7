//! The two headers that ACME gives a meaning beyond a plain word: Retry-After and Link.

use crate::words::time::{Span, Unix};

/// No CA is obeyed for longer than this; its next answer can say it again.
const LONGEST: Span = Span::days(1);

/// How long to wait, from either form of Retry-After (RFC 9110 §10.2.3).
///
/// ```text
/// Retry-After = HTTP-date / delay-seconds
/// ```
/// A date is read relative to the reply's own `Date`, so that a wrong clock here does no harm; `now` is second choice.
pub fn retry_after(value: &str, date: Option<&str>, now: Option<Unix>) -> Option<Span> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a u64 holds is a long time all the same.
        let secs = value.parse().unwrap_or(u64::MAX);
        return Some(Span::secs(secs).min(LONGEST));
    }
    let until = Unix::from_http_date(value)?;
    let sent = date.and_then(|date| Unix::from_http_date(date.trim())).or(now)?;
    Some(until.since(sent).min(LONGEST))
}

/// The targets of all links of one relation (RFC 8288 §3), in their order.
///
/// ```text
/// Link       = link-value *( "," link-value )
/// link-value = "<" URI-Reference ">" *( OWS ";" OWS link-param )
/// link-param = token BWS [ "=" BWS ( token / quoted-string ) ]
/// ```
/// `rel` holds relation types between spaces, compared without regard to case; only a link's first `rel` counts.
pub fn links<'a>(values: &'a [String], rel: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    for value in values {
        let mut rest = value.as_str();
        while let Some((_, after)) = rest.split_once('<') {
            let Some((target, after)) = after.split_once('>') else { break };
            let (params, after) = split_outside_quotes(after, ',');
            if is_related(params, rel) {
                found.push(target.trim());
            }
            rest = after;
        }
    }
    found
}

fn is_related(params: &str, rel: &str) -> bool {
    let mut rest = params;
    while !rest.is_empty() {
        let (param, after) = split_outside_quotes(rest, ';');
        rest = after;
        let Some((name, value)) = param.split_once('=') else { continue };
        if name.trim().eq_ignore_ascii_case("rel") {
            let types = value.trim().trim_matches('"');
            return types.split_ascii_whitespace().any(|word| word.eq_ignore_ascii_case(rel));
        }
    }
    false
}

/// What stands before and after the first `mark` that is not inside a quoted-string.
fn split_outside_quotes(text: &str, mark: char) -> (&str, &str) {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if quoted && c == '\\' {
            escaped = true;
        } else if c == '"' {
            quoted = !quoted;
        } else if c == mark && !quoted {
            let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
            return (before, after.strip_prefix(mark).unwrap_or(after));
        }
    }
    (text, "")
}

/// The body of a fuzz target: no wait is longer than a day, a link's target is text of the header, and what it says, said
/// alone, is said again.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let now = Unix::from_secs(1_800_000_000);
    for date in [None, Some(rest)] {
        for now in [None, Some(now)] {
            assert!(retry_after(first, date, now).is_none_or(|span| span <= LONGEST));
        }
    }
    if let Some(moment) = Unix::from_http_date(first) {
        assert_eq!(Unix::from_http_date(&moment.http_date()), Some(moment));
        assert_eq!(Unix::from_rfc3339(&moment.rfc3339()), Some(moment));
    }
    if let Some(moment) = Unix::from_rfc3339(first) {
        assert_eq!(Unix::from_rfc3339(&moment.rfc3339()).map(Unix::secs), Some(moment.secs()));
    }
    let values = [first.to_owned(), rest.to_owned()];
    let found = links(&values, "alternate");
    for target in &found {
        assert!(text.contains(target) && !target.contains('>'));
        assert_eq!(links(&[format!("<{target}>;rel=alternate")], "ALTERNATE"), [*target]);
    }
    let apart = values.iter().map(|value| links(core::slice::from_ref(value), "alternate").len());
    assert_eq!(found.len(), apart.sum::<usize>());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_in_both_forms() {
        let date = Some("Tue, 24 Nov 2026 03:10:00 GMT");
        let now = Unix::from_http_date("Tue, 24 Nov 2026 03:00:00 GMT");
        for (value, date, now, span) in [
            ("0", None, None, Some(Span::ZERO)),
            (" 120 ", None, None, Some(Span::secs(120))),
            ("86400", None, None, Some(Span::days(1))),
            ("86401", None, None, Some(Span::days(1))),
            ("99999999999999999999999999", None, None, Some(Span::days(1))),
            ("-1", None, None, None),
            ("1.5", None, None, None),
            ("+5", None, None, None),
            ("", None, None, None),
            ("soon", date, now, None),
            ("Tue, 24 Nov 2026 03:10:30 GMT", date, now, Some(Span::secs(30))),
            ("Tue, 24 Nov 2026 03:10:30 GMT", None, now, Some(Span::secs(630))),
            ("Tue, 24 Nov 2026 03:10:30 GMT", Some("yesterday"), now, Some(Span::secs(630))),
            ("Tue, 24 Nov 2026 03:10:30 GMT", None, None, None),
            ("Tuesday, 24-Nov-26 03:11:00 GMT", date, None, Some(Span::secs(60))),
            ("Tue Nov 24 03:11:00 2026", date, None, Some(Span::secs(60))),
            ("Mon, 23 Nov 2026 03:10:00 GMT", date, None, Some(Span::ZERO)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", date, None, Some(Span::days(1))),
        ] {
            assert_eq!(retry_after(value, date, now), span, "{value:?} {date:?} {now:?}");
        }
    }

    #[test]
    fn links_as_they_come() {
        for (value, found) in [
            ("<https://ca/alt>;rel=\"alternate\"", &["https://ca/alt"][..]),
            ("<https://ca/alt>; rel=alternate", &["https://ca/alt"]),
            ("<https://ca/alt> ; title=\"a, b; <c>\" ; REL = \"ALTERNATE\"", &["https://ca/alt"]),
            (
                "<https://ca/i>;rel=\"index\", <https://ca/1>;rel=alternate,<https://ca/2>;rel=\"up alternate\"",
                &["https://ca/1", "https://ca/2"],
            ),
            ("<https://ca/a,b;c>;rel=alternate", &["https://ca/a,b;c"]),
            ("<https://ca/x>;rel=up;rel=alternate", &[]),
            ("<https://ca/x>;title=\"rel=alternate\"", &[]),
            ("<https://ca/x>;title=\"\\\";rel=alternate;\"", &[]),
            ("<https://ca/x>;rel=alternates", &[]),
            ("<https://ca/x>", &[]),
            ("<https://ca/x;rel=alternate", &[]),
            ("https://ca/x;rel=alternate", &[]),
            ("", &[]),
            (";,;<", &[]),
        ] {
            assert_eq!(links(&[value.to_string()], "alternate"), found, "{value}");
        }
        let both = ["<https://ca/1>;rel=alternate".to_string(), "<https://ca/2>;rel=alternate".to_string()];
        assert_eq!(links(&both, "alternate"), ["https://ca/1", "https://ca/2"]);
    }
}
