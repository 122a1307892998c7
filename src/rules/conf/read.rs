//! A file and what it includes → a [`Config`], or every fault in it. Files and the environment are handed in.

use super::draft::{Draft, Scope, SiteDraft, below};
use super::lex::{Form, Line, Word, lines, quoted, shown};
use super::owner::Me;
use super::table::{Count, Directive, Does, Section, find, nearest};
use super::{apache, mean, set, values};
use crate::words::config::Config;
use crate::words::fault::{Fault, Place};
use crate::words::sorted::Set;
use std::sync::Arc;

/// Where text comes from.
pub trait Library {
    /// A whole file; the error says why not.
    fn text(&self, path: &str) -> Result<Vec<u8>, String>;
    /// The files that a pattern with `*`, `?` and `[…]` stands for, sorted.
    fn glob(&self, pattern: &str) -> Vec<String>;
    /// A variable of the environment.
    fn env(&self, name: &str) -> Option<String>;
    /// What this process may do with a file's owner; everything, if it does not know better.
    fn me(&self) -> Me {
        Me::Root
    }
}

/// How deep files may include others.
const DEPTH: usize = 8;
/// How many files there may be in all.
const FILES: usize = 1000;

/// Reads the configuration that begins in this file. The faults are sorted by place, and none hides another.
pub fn read(path: &str, library: &dyn Library) -> Result<Config, Vec<Fault>> {
    let mut draft = Draft::default();
    let mut faults = Vec::new();
    let start = Place { file: path.into(), line: 1, column: 1 };
    match library.text(path) {
        Err(why) => faults.push(Fault { place: start, why: format!("can't be read: {why}") }),
        Ok(bytes) => {
            let scope = Scope {
                library,
                draft: &mut draft,
                faults: &mut faults,
                site: None,
                md: None,
                directive: "",
                place: start,
                folder: folder_of(path).into(),
            };
            let mut reader = Reader { library, scope, open: Vec::new(), files: Vec::new(), read: 0 };
            reader.file(path, &bytes);
        }
    }
    let config = mean::config(draft, &mut faults);
    faults.sort_unstable();
    faults.dedup();
    if faults.is_empty() { Ok(config) } else { Err(faults) }
}

fn folder_of(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) => "/",
        Some(at) => path.get(..at).unwrap_or(""),
        None => "",
    }
}

struct Reader<'a> {
    library: &'a dyn Library,
    scope: Scope<'a>,
    open: Vec<Open>,
    /// The files under way, the innermost last.
    files: Vec<String>,
    /// How many were begun.
    read: usize,
}

/// A section that was opened.
struct Open {
    /// As written, `VirtualHost`.
    name: String,
    place: Place,
    holds: Holds,
}

/// What stands between the brackets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Site,
    Md,
    /// What would stand there without the section too.
    Through,
    /// What nobody looks at: it goes when the section goes.
    Nothing,
}

impl Reader<'_> {
    fn file(&mut self, path: &str, bytes: &[u8]) {
        let label: Arc<str> = path.into();
        let outer = self.open.len();
        self.files.push(path.into());
        self.read += 1;
        let library = self.library;
        for line in lines(&label, bytes, &|name| library.env(name), self.scope.faults) {
            match line.form {
                Form::Plain => self.plain(&line),
                Form::Open => self.section(&line),
                Form::Close => self.close(&line, outer),
            }
        }
        while self.open.len() > outer {
            if let Some(Open { name, place, .. }) = self.pop() {
                let name = shown(&name);
                self.fault(place, format!("<{name}> is never closed in this file; add </{name}>"));
            }
        }
        self.files.pop();
    }

    fn fault(&mut self, place: Place, why: String) {
        self.scope.faults.push(Fault { place, why });
    }

    fn ignores(&self) -> bool {
        self.open.iter().any(|open| open.holds == Holds::Nothing)
    }

    fn plain(&mut self, line: &Line) {
        if self.ignores() {
            return;
        }
        let Some(row) = find(&line.name.text).filter(|row| !row.is_section()) else {
            let why = match find(&format!("<{}>", line.name.text)) {
                Some(row) => format!("{} is a section; write it as {}", shown(&line.name.text), row.syntax),
                None => unknown(&line.name.text),
            };
            return self.fault(line.name.place.clone(), why);
        };
        self.row(row, &line.name, &line.args, line.sound);
    }

    /// A directive that is known: its place and its words are judged, then its setter has it.
    fn row(&mut self, row: &'static Directive, name: &Word, args: &[Word], sound: bool) {
        self.scope.directive = row.names().find(|known| known.eq_ignore_ascii_case(&name.text)).unwrap_or(row.name);
        self.scope.place = name.place.clone();
        if let Does::Old(new) = row.does {
            self.scope.notice(format!("{} is the old name of {new}", row.name));
            if let Some(new) = find(new) {
                return self.row(new, &Word { text: new.name.into(), place: name.place.clone() }, args, sound);
            }
        }
        self.check_place(row);
        if !sound || !self.check_count(row, args) {
            return;
        }
        match row.does {
            Does::Set(set) => set(&mut self.scope, args),
            Does::Include { optional } => self.include(args, optional),
            // Sections come another way, and an old name's new one is in the table.
            Does::Section(_) | Does::Old(_) => {}
        }
    }

    fn check_place(&mut self, row: &Directive) {
        let (here, context) = match (&self.scope.md, &self.scope.site) {
            (Some(_), _) => (row.places.md, "an '<MDomainSet'"),
            (None, Some(_)) => (row.places.site, "a '<VirtualHost'"),
            (None, None) => (row.places.global, ""),
        };
        match (here, context) {
            (true, _) => {}
            (false, "") => {
                let inside = if row.places.md { "an '<MDomainSet'" } else { "a '<VirtualHost'" };
                self.scope.fault(&format!("is only allowed inside {inside} context"));
            }
            (false, context) => self.scope.fault(&format!("is not allowed inside {context} context")),
        }
    }

    fn check_count(&mut self, row: &Directive, args: &[Word]) -> bool {
        let why = match (row.count, args.len()) {
            (Count::One, 1) | (Count::Two, 2) | (Count::OneOrTwo, 1..=2) | (Count::Some(_), 1..) | (Count::Any, _) => {
                return true;
            }
            (Count::One, _) => format!("takes one argument: {}", row.syntax),
            (Count::Two, _) => format!("takes two arguments: {}", row.syntax),
            (Count::OneOrTwo, _) => format!("takes one or two arguments: {}", row.syntax),
            (Count::Some(what), _) => format!("needs at least one {what}"),
        };
        self.scope.fault(&why);
        false
    }

    fn include(&mut self, args: &[Word], optional: bool) {
        let [word] = args else { return };
        let here = self.files.last().map_or("", |path| folder_of(path));
        let path = below(here, &word.text);
        let paths = match path.contains(['*', '?', '[']) {
            true => self.library.glob(&path),
            false => vec![path],
        };
        if paths.is_empty() && !optional {
            self.scope.wrong(word, "stands for no file; IncludeOptional would not mind");
        }
        for path in paths {
            if self.files.contains(&path) {
                self.scope.wrong_so(word, &format!("{} includes itself", quoted(&path)));
            } else if self.files.len() > DEPTH {
                self.scope.wrong(word, &format!("is the file of a file … {DEPTH} deep; include it further up"));
            } else if self.read >= FILES {
                return self.scope.wrong(word, &format!("is one file too many; {FILES} are read"));
            } else {
                match self.library.text(&path) {
                    Ok(bytes) => self.file(&path, &bytes),
                    Err(_) if optional => {}
                    Err(why) => self.scope.wrong_so(word, &format!("{} can't be read: {why}", quoted(&path))),
                }
            }
        }
    }

    fn section(&mut self, line: &Line) {
        let name = format!("<{}>", line.name.text);
        let mut open = Open { name: line.name.text.clone(), place: line.name.place.clone(), holds: Holds::Nothing };
        if self.ignores() {
            return self.open.push(open);
        }
        if let ("<ifmodule>", [module]) = (name.to_ascii_lowercase().as_str(), &line.args[..])
            && let Some(holds) = apache::has_module(&module.text)
        {
            open.holds = if holds { Holds::Through } else { Holds::Nothing };
            return self.open.push(open);
        }
        let mut row = find(&name);
        if row.is_none() {
            let why = match find(&line.name.text) {
                Some(row) => format!("{} is no section; write it as {} {}", row.name, row.name, row.syntax),
                None => unknown(&name),
            };
            self.fault(line.name.place.clone(), why);
            if apache::is_condition(&name) {
                open.holds = Holds::Through;
            }
            // A slip of the pen does not hide what stands inside.
            row = if apache::foreign(&name).is_none() { nearest(&name).and_then(find) } else { None };
        }
        if let Some(row) = row {
            open.holds = self.begin(row, line);
        }
        self.open.push(open);
    }

    fn begin(&mut self, row: &'static Directive, line: &Line) -> Holds {
        let written = Word { text: row.name.into(), place: line.name.place.clone() };
        self.row(row, &written, &line.args, line.sound);
        let args: &[Word] = if line.sound { &line.args } else { &[] };
        let row = if let Does::Old(new) = row.does { find(new).unwrap_or(row) } else { row };
        let free = self.scope.md.is_none();
        match row.does {
            Does::Section(Section::Site) if free && self.scope.site.is_none() => {
                self.begin_site(args);
                Holds::Site
            }
            Does::Section(Section::Md) => {
                let md = set::md(&self.scope, args);
                if md.names.is_empty() && !args.is_empty() {
                    self.scope.fault("needs at least one domain name");
                }
                if free {
                    self.scope.md = Some(md);
                    return Holds::Md;
                }
                // Nested, which is a fault already; its names are looked at all the same.
                self.scope.draft.mds.push(md);
                Holds::Through
            }
            _ => Holds::Through,
        }
    }

    fn begin_site(&mut self, args: &[Word]) {
        let mut site = SiteDraft { place: Some(self.scope.place.clone()), ..SiteDraft::default() };
        for word in args {
            match values::addr_port(&word.text) {
                Ok(addr) => site.addrs.push(addr),
                Err(why) => self.scope.wrong(word, why),
            }
        }
        self.scope.site = Some(site);
    }

    /// A closing line ends the innermost section of its name that this file has opened.
    fn close(&mut self, line: &Line, outer: usize) {
        let name = shown(&line.name.text);
        let same = |open: &Open| same_section(&open.name, &line.name.text);
        let Some(at) = self.open.iter().rposition(same).filter(|at| *at >= outer) else {
            let why = format!("</{name}> closes nothing: no <{name}> is open in this file");
            return self.fault(line.name.place.clone(), why);
        };
        while self.open.len() > at {
            match self.pop() {
                Some(open) if self.open.len() > at => {
                    let inner = shown(&open.name);
                    let why = format!("<{inner}> is still open at the </{name}> in line {}", line.name.place.line);
                    self.fault(open.place, why);
                }
                _ => {}
            }
        }
    }

    /// Ends the innermost section and keeps what it held.
    fn pop(&mut self) -> Option<Open> {
        let open = self.open.pop()?;
        match open.holds {
            Holds::Site => self.scope.draft.sites.extend(self.scope.site.take()),
            Holds::Md => self.scope.draft.mds.extend(self.scope.md.take()),
            Holds::Through | Holds::Nothing => {}
        }
        Some(open)
    }
}

/// Whether a closing word ends a section of this name, slips of the pen included: those are faults already.
fn same_section(open: &str, close: &str) -> bool {
    let meant = |name: &str| {
        let name = format!("<{name}>");
        find(&name).is_none().then(|| nearest(&name)).flatten().map_or(name, str::to_string)
    };
    open.eq_ignore_ascii_case(close) || meant(open).eq_ignore_ascii_case(&meant(close))
}

/// Whether a directive that does not work yet says what holds anyway.
fn unknown(name: &str) -> String {
    if let Some(why) = apache::foreign(name) {
        return why;
    }
    let guess = match nearest(name) {
        Some(guess) => format!("; did you mean \"{guess}\"?"),
        None => String::new(),
    };
    format!("unknown directive {}{guess}", quoted(name))
}

/// The body of a fuzz target: any bytes give a configuration that keeps its promises, or faults that have places.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    /// And how often it may be read: what includes itself twice is read without end.
    struct One<'a>(&'a [u8], core::cell::Cell<u8>);
    impl Library for One<'_> {
        fn text(&self, path: &str) -> Result<Vec<u8>, String> {
            self.1.set(self.1.get().saturating_sub(1));
            let there = matches!(path, "one" | "other") && self.1.get() > 0;
            if there { Ok(self.0.into()) } else { Err("it is not there".into()) }
        }
        fn glob(&self, _: &str) -> Vec<String> {
            vec!["one".into(), "other".into(), "none".into()]
        }
        fn env(&self, name: &str) -> Option<String> {
            (name != "NONE").then(|| name.into())
        }
    }
    match read("one", &One(bytes, core::cell::Cell::new(5))) {
        Ok(config) => {
            let mut names = Set::new();
            for md in &config.mds {
                assert_eq!(md.names.first(), Some(&md.name));
                assert!(names.insert(&md.name), "{} twice", md.name);
                assert!(!md.cas.is_empty() && !md.keys.is_empty());
            }
            assert!(config.check_interval.as_millis() > 0);
        }
        Err(faults) => {
            assert!(!faults.is_empty() && faults.is_sorted());
            for fault in faults {
                assert!(fault.place.line > 0 && fault.place.column > 0 && !fault.why.contains(char::is_control));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_is_near() {
        for (name, guess) in [
            ("MDRenewWindwo", Some("MDRenewWindow")),
            ("mdomian", Some("MDomain")),
            ("<MDDomainSet>", Some("<MDomainSet>")),
            ("<VirtualHots>", Some("<VirtualHost>")),
            ("Lisen", Some("Listen")),
            ("Frobnicate", None),
            ("MDomane", None),
            ("X", None),
        ] {
            assert_eq!(nearest(name), guess, "{name}");
        }
    }
}
