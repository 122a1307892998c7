//! The reference, printed from the table: for people, for programs, as a man page.

use super::table::{DIRECTIVES, Differs, Directive, Does, Places, Preset};
use core::fmt::Write;
use serde::Serialize;

/// A paragraph for each directive.
pub fn directives() -> String {
    let mut out = String::new();
    for row in DIRECTIVES {
        line(&mut out, format_args!("{}", usage(row)));
        line(&mut out, format_args!("    {}", row.help));
        line(&mut out, format_args!("    {}", facts(row)));
        if let Some(other) = row.also.first() {
            line(&mut out, format_args!("    or {other}"));
        }
        if let Some(differs) = differs(row) {
            line(&mut out, format_args!("    {differs}"));
        }
        out.push('\n');
    }
    out
}

/// One array of objects.
pub fn directives_json() -> String {
    let rows: Vec<_> = DIRECTIVES.iter().map(Row::new).collect();
    serde_json::to_string(&rows).expect("a row is made of texts and yes or no")
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    also: &'static [&'static str],
    syntax: &'static str,
    places: Vec<&'static str>,
    /// What could be written to the same effect.
    default: Option<&'static str>,
    /// What holds where no value says it.
    default_rule: Option<&'static str>,
    help: &'static str,
    example: &'static str,
    old: bool,
    /// `new`, or how it differs from mod_md's.
    differs: Option<&'static str>,
}

impl Row {
    fn new(row: &Directive) -> Self {
        let (default, default_rule) = match row.default {
            Preset::Nothing => (None, None),
            Preset::Value(text) => (Some(text), None),
            Preset::Rule(text) => (None, Some(text)),
        };
        Self {
            name: row.name,
            also: row.also,
            syntax: row.syntax,
            places: places(row.places).collect(),
            default,
            default_rule,
            help: row.help,
            example: row.example,
            old: matches!(row.does, Does::Old(_)),
            differs: match row.differs {
                Differs::Same => None,
                Differs::New => Some("new"),
                Differs::So(text) => Some(text),
            },
        }
    }
}

/// The page `edgemd.conf(5)`; `version` goes into its foot.
pub fn directives_man(version: &str) -> String {
    let mut out = String::new();
    line(&mut out, format_args!(".TH EDGEMD.CONF 5 \"\" \"edgemd {}\" \"File Formats\"", roff(version)));
    out.push_str(".SH NAME\nedgemd.conf \\- configuration of the ACME daemon edgemd\n.SH DESCRIPTION\n");
    for paragraph in GRAMMAR {
        line(&mut out, format_args!(".PP\n{}", roff(paragraph)));
    }
    out.push_str(".SH DIRECTIVES\n");
    for row in DIRECTIVES {
        line(&mut out, format_args!(".TP\n.B {}\n{}.", roff(&usage(row)), roff(row.help)));
        if let Some(other) = row.also.first() {
            line(&mut out, format_args!("Also written {}.", roff(other)));
        }
        if let Some(differs) = differs(row) {
            line(&mut out, format_args!(".br\n{}.", roff(&differs)));
        }
        line(&mut out, format_args!(".br\n{}.\n.br\nExample:", roff(&facts(row))));
        for example in row.example.lines() {
            line(&mut out, format_args!(".br\n\\fI{}\\fR", roff(example)));
        }
    }
    out.push_str(".SH FILES\n.TP\n.I /etc/edgemd.conf\nwhat is read where no other file is named\n");
    out.push_str(".SH SEE ALSO\n.BR edgemd (8)\n");
    out
}

const GRAMMAR: [&str; 5] = [
    "The file has one directive a line, with its words behind it, in the grammar of Apache's configuration. A backslash at \
     the end of a line continues it; a word that begins with # begins a comment. Words with spaces in them stand in \
     double or single quotes. ${NAME} is a variable of the environment.",
    "A directive stands outside of all sections (global), in <VirtualHost addr:port> … </VirtualHost>, or in \
     <MDomainSet name …> … </MDomainSet>. For an MD, its own section counts first, then the virtual host that serves it, \
     then what is global, then the default.",
    "A duration is a number with d, h, mi, s or ms. Without a unit it counts days in a window and seconds elsewhere. A \
     window may also be a percentage of the certificate's life.",
    "Relative paths count from the folder of the configuration file.",
    "Every fault is reported with file, line and column; a configuration with faults is not used.",
];

fn usage(row: &Directive) -> String {
    if row.is_section() { row.syntax.into() } else { format!("{} {}", row.name, row.syntax) }
}

/// `default 33%; global, in <VirtualHost>, in <MDomainSet>; does not work yet`
fn facts(row: &Directive) -> String {
    let mut out = match row.default {
        Preset::Nothing => String::new(),
        Preset::Value(text) | Preset::Rule(text) => format!("default: {text}; "),
    };
    for (at, place) in places(row.places).enumerate() {
        out.push_str(if at > 0 { ", " } else { "" });
        out.push_str(place);
    }
    out
}

fn differs(row: &Directive) -> Option<String> {
    match row.differs {
        Differs::Same => None,
        Differs::New => Some("not in mod_md".into()),
        Differs::So(text) => Some(format!("other than in mod_md: {text}")),
    }
}

fn places(places: Places) -> impl Iterator<Item = &'static str> {
    let all = [(places.global, "global"), (places.site, "<VirtualHost>"), (places.md, "<MDomainSet>")];
    all.into_iter().filter(|(here, _)| *here).map(|(_, place)| place)
}

/// Text as roff takes it literally.
fn roff(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    if text.starts_with(['.', '\'']) {
        out.push_str("\\&");
    }
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '"' => out.push_str("\\(dq"),
            // Terminals of ASCII alone have no such letter.
            '…' => out.push_str("..."),
            c if c.is_ascii() => out.push(c),
            c => write!(out, "\\[u{:04X}]", u32::from(c)).expect("a String takes all text"),
        }
    }
    out
}

fn line(out: &mut String, text: core::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a String takes all text");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What no row has today may stand in one tomorrow.
    #[test]
    fn text_is_not_taken_for_requests() {
        for (text, page) in [
            (".TH x", "\\&.TH x"),
            ("'x'", "\\&\\(aqx\\(aq"),
            ("a\\b \"c\" -d", "a\\eb \\(dqc\\(dq \\-d"),
            ("ü…", "\\[u00FC]..."),
        ] {
            assert_eq!(roff(text), page);
        }
    }
}
