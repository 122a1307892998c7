//! Bytes → lines of words, each with its place: quotes, escapes, continuation, comments, sections, `${NAME}`. Takes any
//! bytes; what it can't read becomes a fault, and the line goes on as far as it is known.

use crate::words::fault::{Fault, Place};
use std::sync::Arc;

/// One word, without its quotes, with its variables filled in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Word {
    pub text: String,
    pub place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// `Name args`
    Plain,
    /// `<Name args>`
    Open,
    /// `</Name>`
    Close,
}

/// A logical line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    pub form: Form,
    pub name: Word,
    pub args: Vec<Word>,
    /// Nothing in it was a fault so far. The arguments of an unsound line are not to be judged.
    pub sound: bool,
}

/// All lines of a file that say something. `env` answers `${NAME}`.
pub fn lines(
    file: &Arc<str>,
    bytes: &[u8],
    env: &dyn Fn(&str) -> Option<String>,
    faults: &mut Vec<Fault>,
) -> Vec<Line> {
    let text = text_of(file, bytes, faults);
    let mut lexer = Lexer { file, rest: &text, line: 1, column: 1, env, faults };
    let mut lines = Vec::new();
    while !lexer.rest.is_empty() {
        lines.extend(lexer.logical_line());
        lexer.skip_line();
    }
    lines
}

/// The bytes as text, without a byte-order mark. Each line with bytes that are not UTF-8, or a NUL, is one fault.
fn text_of(file: &Arc<str>, bytes: &[u8], faults: &mut Vec<Fault>) -> String {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut text = String::with_capacity(bytes.len());
    let (mut line, mut column, mut told) = (1u32, 1u32, 0u32);
    for chunk in bytes.utf8_chunks() {
        let bad = if chunk.invalid().is_empty() { None } else { Some(char::REPLACEMENT_CHARACTER) };
        for (c, valid) in chunk.valid().chars().map(|c| (c, true)).chain(bad.map(|c| (c, false))) {
            if is_damage(c) && told != line {
                told = line;
                let what = match (c, valid) {
                    ('\0', _) => "a NUL byte",
                    (_, true) => "a U+FFFD, the mark of a character that got lost",
                    (_, false) => "bytes that are not UTF-8",
                };
                let place = Place { file: file.clone(), line, column };
                faults.push(Fault { place, why: format!("the file has {what} here; save it as UTF-8 text") });
            }
            (line, column) = if c == '\n' { (line.saturating_add(1), 1) } else { (line, column.saturating_add(1)) };
            text.push(c);
        }
    }
    text
}

/// What [`text_of`] has told of already, so that nothing more is said about the word it is in.
fn is_damage(c: char) -> bool {
    matches!(c, '\0' | char::REPLACEMENT_CHARACTER)
}

struct Lexer<'a> {
    file: &'a Arc<str>,
    rest: &'a str,
    line: u32,
    column: u32,
    env: &'a dyn Fn(&str) -> Option<String>,
    faults: &'a mut Vec<Fault>,
}

impl Lexer<'_> {
    fn logical_line(&mut self) -> Option<Line> {
        self.skip_blanks();
        match self.peek()? {
            '#' => None,
            '<' => Some(self.section()),
            _ => {
                let mut sound = true;
                let name = self.word(false, &mut sound)?;
                let args = self.words(false, &mut sound);
                Some(Line { form: Form::Plain, name, args, sound })
            }
        }
    }

    /// `<Name args>` or `</Name>`, from the `<` on.
    fn section(&mut self) -> Line {
        let start = self.place();
        let mut sound = true;
        self.bump();
        let form = if self.peek() == Some('/') { Form::Close } else { Form::Open };
        if form == Form::Close {
            self.bump();
        }
        let mut name = Word { text: String::new(), place: start };
        while let Some(c) = self.peek().filter(|c| *c != '>' && !is_blank(*c)) {
            name.text.push(c);
            self.bump();
        }
        let args = self.words(true, &mut sound);
        if self.peek() == Some('>') {
            self.bump();
            self.skip_blanks();
            if self.peek().is_some_and(|c| c != '#') {
                let place = self.place();
                self.fault(place, "there is text after the '>'; it belongs on a line of its own", &mut sound);
            }
        } else {
            let slash = if form == Form::Close { "/" } else { "" };
            let why = format!("<{slash}{}> directive missing closing '>'", shown(&name.text));
            self.fault(name.place.clone(), &why, &mut sound);
        }
        Line { form, name, args, sound }
    }

    /// The words up to the end of the line, a comment, or (in a section) the `>`.
    fn words(&mut self, section: bool, sound: &mut bool) -> Vec<Word> {
        let mut words = Vec::new();
        loop {
            self.skip_blanks();
            if self.peek() == Some('#') {
                return words;
            }
            match self.word(section, sound) {
                Some(word) => words.push(word),
                None => return words,
            }
        }
    }

    fn word(&mut self, section: bool, sound: &mut bool) -> Option<Word> {
        let first = self.peek()?;
        if section && first == '>' {
            return None;
        }
        let mut word = Word { text: String::new(), place: self.place() };
        let quote = Some(first).filter(|c| matches!(c, '"' | '\''));
        if quote.is_some() {
            self.bump();
        }
        loop {
            let Some(c) = self.peek() else {
                if let Some(quote) = quote {
                    self.fault(word.place.clone(), &format!("the quote {quote} is not closed on this line"), sound);
                }
                return Some(word);
            };
            match (quote, c) {
                (Some(quote), c) if c == quote => {
                    self.bump();
                    return Some(word);
                }
                (None, c) if is_blank(c) || (section && c == '>') => return Some(word),
                (_, '\\') => {
                    self.bump();
                    // A backslash stands for itself, except before another one and before the quote it is in.
                    match self.peek().filter(|next| *next == '\\' || quote == Some(*next)) {
                        Some(next) => {
                            word.text.push(next);
                            self.bump();
                        }
                        None => word.text.push('\\'),
                    }
                }
                (_, '$') => self.variable(&mut word.text, sound),
                (_, c) => {
                    *sound &= !is_damage(c);
                    word.text.push(c);
                    self.bump();
                }
            }
        }
    }

    /// `${NAME}`, or a `$` that is just that.
    fn variable(&mut self, text: &mut String, sound: &mut bool) {
        let place = self.place();
        self.bump();
        if self.peek() != Some('{') {
            return text.push('$');
        }
        self.bump();
        let mut name = String::new();
        loop {
            match self.peek() {
                Some('}') => break self.bump(),
                Some(c) if c.is_ascii_alphanumeric() || c == '_' => {
                    name.push(c);
                    self.bump();
                }
                _ => {
                    return self.fault(place, "\"${\" begins the name of a variable, which ends with \"}\"", sound);
                }
            }
        }
        match (self.env)(&name) {
            Some(value) => text.push_str(&value),
            None => {
                let why =
                    format!("the environment has no variable \"{}\"; set it, or write its value here", shown(&name));
                self.fault(place, &why, sound);
            }
        }
    }

    /// The next character of the logical line: continuations are stepped over, an end of line is `None`.
    fn peek(&mut self) -> Option<char> {
        loop {
            let tail = self.rest.strip_prefix('\\').map(|tail| tail.strip_prefix('\r').unwrap_or(tail));
            match tail.and_then(|tail| tail.strip_prefix('\n')) {
                Some(next) => {
                    self.rest = next;
                    self.line = self.line.saturating_add(1);
                    self.column = 1;
                }
                None => break,
            }
        }
        // A carriage return before it is a blank.
        self.rest.chars().next().filter(|c| *c != '\n')
    }

    /// Steps over what [`Lexer::peek`] has shown.
    fn bump(&mut self) {
        let mut chars = self.rest.chars();
        if chars.next().is_some() {
            self.rest = chars.as_str();
            self.column = self.column.saturating_add(1);
        }
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(is_blank) {
            self.bump();
        }
    }

    /// Steps behind the end of the logical line.
    fn skip_line(&mut self) {
        while self.peek().is_some() {
            self.bump();
        }
        self.rest = match self.rest.split_once('\n') {
            Some((_, next)) => next,
            None => "",
        };
        self.line = self.line.saturating_add(1);
        self.column = 1;
    }

    fn place(&mut self) -> Place {
        self.peek();
        Place { file: self.file.clone(), line: self.line, column: self.column }
    }

    fn fault(&mut self, place: Place, why: &str, sound: &mut bool) {
        *sound = false;
        self.faults.push(Fault { place, why: why.into() });
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\u{b}' | '\u{c}')
}

/// The operator's own text, fit for a line on a terminal: cut short, without control characters.
pub fn shown(text: &str) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    let mut out: String = chars.by_ref().take(80).collect();
    if chars.next().is_some() {
        out.push('…');
    }
    out
}

pub fn quoted(text: &str) -> String {
    format!("\"{}\"", shown(text))
}

/// The body of a fuzz target: places go forward through the file, and words that are written again in quotes are read
/// again as the same words.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let (file, env): (Arc<str>, _) = ("f".into(), |name: &str| (name != "NONE").then(|| format!("<{name}>")));
    let mut faults = Vec::new();
    let read = lines(&file, bytes, &env, &mut faults);
    assert!(faults.iter().all(|fault| fault.place.line > 0 && fault.place.column > 0 && !fault.why.contains('\n')));
    assert!(!faults.is_empty() || read.iter().all(|line| line.sound), "what is unsound is a fault");
    let places = read.iter().flat_map(|line| [&line.name].into_iter().chain(&line.args)).map(|word| &word.place);
    assert!(places.is_sorted_by(|a, b| a < b), "{read:?}");
    let mut written = String::new();
    for line in &read {
        let (begin, end) = match line.form {
            Form::Plain => ("", ""),
            Form::Open => ("<", ">"),
            Form::Close => ("</", ">"),
        };
        // A section's name is read as it stands.
        let name = if line.form == Form::Plain { in_quotes(&line.name.text) } else { line.name.text.clone() };
        let args: String = line.args.iter().map(|word| format!(" {}", in_quotes(&word.text))).collect();
        written.extend([begin, &name, &args, end, "\n"]);
    }
    let is_text = |line: &Line| !line.args.iter().chain([&line.name]).any(|word| word.text.contains(is_unwritable));
    if read.iter().all(is_text) {
        let again = lines(&file, written.as_bytes(), &env, &mut Vec::new());
        let plain =
            |line: &Line| (line.form, [&line.name].into_iter().chain(&line.args).map(|w| w.text.clone()).collect());
        let [read, again]: [Vec<(Form, Vec<String>)>; 2] = [read, again].map(|lines| lines.iter().map(plain).collect());
        assert_eq!(read, again, "{written}");
    }
}

fn in_quotes(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "$\\{"))
}

/// What no quotes can hold: the end of a line, which a variable may bring, and what begins one.
fn is_unwritable(c: char) -> bool {
    matches!(c, '\n' | '\r' | '$' | '\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lex(bytes: &[u8]) -> (Vec<Line>, Vec<String>) {
        let mut faults = Vec::new();
        let env = |name: &str| (name == "HOME").then(|| "a b".to_string());
        let lines = lines(&"f".into(), bytes, &env, &mut faults);
        (lines, faults.iter().map(ToString::to_string).collect())
    }

    /// `name@line:column(arg@line:column …)`, and `<…>`, `</…>`.
    fn show(bytes: &[u8]) -> String {
        let word = |word: &Word| format!("{}@{}:{}", word.text, word.place.line, word.place.column);
        let line = |line: &Line| {
            let args: Vec<_> = line.args.iter().map(word).collect();
            let form = match line.form {
                Form::Plain => "",
                Form::Open => "<",
                Form::Close => "</",
            };
            format!("{form}{}({})", word(&line.name), args.join(" "))
        };
        let (lines, faults) = lex(bytes);
        assert_eq!(faults, Vec::<String>::new());
        lines.iter().map(line).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn words_and_their_places() {
        for (text, shown) in [
            ("A b c", "A@1:1(b@1:3 c@1:5)"),
            ("\n\n  A\tb\n", "A@3:3(b@3:5)"),
            ("\u{feff}A b\r\nC\r\n", "A@1:1(b@1:3) C@2:1()"),
            ("A \"b c\" 'd \"e'", "A@1:1(b c@1:3 d \"e@1:9)"),
            (r#"A "b\"c\\d\e" f\g\\h"#, r#"A@1:1(b"c\d\e@1:3 f\g\h@1:15)"#),
            ("A b \\\n  c\\\nd\nE", "A@1:1(b@1:3 cd@2:3) E@4:1()"),
            ("A \\\r\n b", "A@1:1(b@2:2)"),
            ("# A \\\n b\nC # d\nE f#g \"#h\"", "C@3:1() E@4:1(f#g@4:3 #h@4:7)"),
            ("A ${HOME}/x \"${HOME}\" $x $", "A@1:1(a b/x@1:3 a b@1:13 $x@1:23 $@1:26)"),
            ("<V *:80 [::1]:443>\n</V>", "<V@1:1(*:80@1:4 [::1]:443@1:9) </V@2:1()"),
            ("<V \"a>b\" > # c\n</V >", "<V@1:1(a>b@1:4) </V@2:1()"),
            ("ü ß", "ü@1:1(ß@1:3)"),
            ("", ""),
            ("\\\n\\\n", ""),
        ] {
            assert_eq!(show(text.as_bytes()), shown, "{text}");
        }
    }

    #[test]
    fn faults_have_their_place_and_the_rest_is_read() {
        for (text, fault) in [
            (&b"A b\nC \xfc\xfc\nD"[..], "f:2:3: the file has bytes that are not UTF-8 here; save it as UTF-8 text"),
            (b"A\n#\0\nD", "f:2:2: the file has a NUL byte here; save it as UTF-8 text"),
            (b"A \"b c\nD", "f:1:3: the quote \" is not closed on this line"),
            (b"A ${NOPE}\nD", "f:1:3: the environment has no variable \"NOPE\"; set it, or write its value here"),
            (b"A ${HOME\nD", "f:1:3: \"${\" begins the name of a variable, which ends with \"}\""),
            (b" <V a\nD", "f:1:2: <V> directive missing closing '>'"),
            (b"</V\nD", "f:1:1: </V> directive missing closing '>'"),
            (b"<V a> b\nD", "f:1:7: there is text after the '>'; it belongs on a line of its own"),
        ] {
            let (lines, faults) = lex(text);
            assert_eq!(faults, [fault]);
            let last = lines.last().unwrap();
            assert_eq!((last.name.text.as_str(), last.sound), ("D", true));
        }
    }
}
