//! What becomes of a certificate: where it is kept and exported, who is told, what is shown.

use super::{on_off, one, path};
use crate::rules::conf::draft::{Scope, below};
use crate::rules::conf::lex::Word;
use crate::rules::conf::values::{self, Unit};
use crate::rules::conf::{owner, url};
use crate::words::config::{Export, Layout};
use crate::words::time::Span;

pub fn certificate_status(scope: &mut Scope<'_>, args: &[Word]) {
    scope.draft.certificate_status = on_off(scope, args);
}

pub fn server_status(scope: &mut Scope<'_>, args: &[Word]) {
    scope.draft.server_status = on_off(scope, args);
}

pub fn store(scope: &mut Scope<'_>, args: &[Word]) {
    let [word] = args else { return };
    scope.draft.store = path(scope, word);
}

pub fn control(scope: &mut Scope<'_>, args: &[Word]) {
    let [word] = args else { return };
    scope.draft.control = match word.text.eq_ignore_ascii_case("off") {
        true => Some(None),
        false => path(scope, word).map(Some),
    };
}

pub fn export(scope: &mut Scope<'_>, args: &[Word]) {
    let Some((dir, rest)) = args.split_first() else { return scope.fault("needs at least one word, the folder") };
    if rest.is_empty() && dir.text.eq_ignore_ascii_case("none") {
        scope.settings().export = Some(None);
        return;
    }
    let Some(dir) = path(scope, dir) else { return };
    let mut export = Export::to(dir, Layout::Pair);
    let mut rest = rest.iter().peekable();
    if let Some(layout) = rest.peek().and_then(|word| values::layout(&word.text)) {
        export.layout = layout;
        rest.next();
    }
    if let Some(word) = rest.next_if(|word| owner::mode(&word.text).is_none()) {
        // One word of an owner is enough to mean it for one; then a layout was not spelt right.
        match owner::owner(&word.text, scope.library) {
            Ok((owner, group)) => (export.owner, export.group) = (owner, group),
            Err(why) => scope.wrong(word, &why),
        }
    }
    if let Some(word) = rest.next() {
        match owner::mode(&word.text) {
            Some(mode) if mode & 0o007 == 0 && mode & 0o600 == 0o600 => export.mode = mode,
            Some(_) => scope.wrong(word, "is no mode for a private key: the owner reads and writes it, others never"),
            None => scope.wrong(word, "is no mode; write it as in 0640"),
        }
    }
    if let Some(word) = rest.next() {
        scope.wrong(word, "is one word too many: a folder, a layout, an owner, a mode");
    }
    scope.settings().export = Some(Some(export));
}

pub fn notify(scope: &mut Scope<'_>, args: &[Word]) {
    if let Some(argv) = program(scope, args) {
        scope.settings().notify = Some(argv);
    }
}

pub fn message(scope: &mut Scope<'_>, args: &[Word]) {
    if let Some(argv) = program(scope, args) {
        scope.settings().message = Some(argv);
    }
}

/// A program and its arguments.
pub fn program(scope: &mut Scope<'_>, args: &[Word]) -> Option<Vec<String>> {
    let (program, rest) = args.split_first()?;
    if program.text.is_empty() {
        scope.wrong(program, "is no path");
        return None;
    }
    // A bare word is looked for where programs are; anything else is a path like all others.
    let path = match program.text.contains('/') {
        true => below(&scope.folder, &program.text),
        false => program.text.clone(),
    };
    let rest = rest.iter().map(|word| word.text.clone());
    Some(std::iter::once(path).chain(rest).collect())
}

pub fn served(scope: &mut Scope<'_>, args: &[Word]) {
    if let Some(place) = one(scope, args, |text| Ok(url::host_port(text)?)) {
        scope.settings().served_at = Some(place);
    }
}

pub fn locks(scope: &mut Scope<'_>, args: &[Word]) {
    let locks = one(scope, args, |text| match text.to_ascii_lowercase().as_str() {
        "on" => Ok(Some(Span::secs(5))),
        "off" => Ok(None),
        _ => values::span(text, Unit::Seconds).map(Some),
    });
    if locks.is_some() {
        scope.draft.locks = locks;
    }
}
