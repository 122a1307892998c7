//! Text of others, a CA or a command, as it may stand in a log or on a terminal.

/// Bounded, too: it ends after 1 kB.
pub fn tame(text: &str) -> String {
    let mut tamed = String::new();
    for c in text.chars() {
        if tamed.len() >= LONGEST {
            tamed.push('…');
            break;
        }
        put(&mut tamed, c);
    }
    tamed
}

/// The character, or what stands for it.
pub fn put(text: &mut String, c: char) {
    if is_odd(c) {
        text.extend(c.escape_default());
    } else {
        text.push(c);
    }
}

/// Control characters, and what turns text around or can't be seen.
pub fn is_odd(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

pub const LONGEST: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_the_ca_is_bounded_and_tame() {
        assert_eq!(tame("a\r\nb\x1b[31m\u{202e}c"), "a\\r\\nb\\u{1b}[31m\\u{202e}c");
        assert!(tame(&"ä\n".repeat(5000)).len() < 1020);
        let long = tame(&"x".repeat(1001));
        assert!(long.ends_with('…') && long.len() == 1003);
        assert_eq!(tame(&"x".repeat(1000)).len(), 1000);
    }
}
