//! What is said of the CA: who it is, how it is reached, who we are there.

use super::{on_off, one, path};
use crate::rules::conf::draft::Scope;
use crate::rules::conf::lex::{Word, quoted};
use crate::rules::conf::url;
use crate::words::config::{Binding, Chain};
use std::path::PathBuf;

pub fn authority(scope: &mut Scope<'_>, args: &[Word]) {
    let mut cas = Vec::new();
    for word in args {
        match url::ca(&word.text) {
            Ok(ca) => cas.push(ca),
            Err(why) => scope.wrong_so(word, &why),
        }
    }
    scope.settings().cas = Some(cas);
}

pub fn agreement(scope: &mut Scope<'_>, args: &[Word]) {
    let agreement = one(scope, args, |text| {
        if text.eq_ignore_ascii_case("accepted") {
            return Ok("accepted".to_string());
        }
        match url::url(text) {
            Ok(parts) if matches!(parts.scheme.as_str(), "http" | "https") => Ok(text.into()),
            _ => Err("is neither 'accepted' nor the URL of the CA's terms".into()),
        }
    });
    if agreement.is_some() {
        scope.settings().agreement = agreement;
    }
}

pub fn protocol(scope: &mut Scope<'_>, args: &[Word]) {
    one(scope, args, |text| match text.eq_ignore_ascii_case("ACME") {
        true => Ok(()),
        false => Err("is an unknown CA protocol; ACME is the only one".into()),
    });
}

pub fn contact(scope: &mut Scope<'_>, args: &[Word]) {
    if let Some(mail) = one(scope, args, |text| Ok(url::contact(text)?)) {
        scope.settings().contact = Some(mail);
    }
}

pub fn roots(scope: &mut Scope<'_>, args: &[Word]) {
    let [word] = args else { return };
    scope.settings().roots = file(scope, word);
}

/// `kid hmac`, a file that has both, or `none`. Whether the key is any good shows when it is needed.
pub fn binding(scope: &mut Scope<'_>, args: &[Word]) {
    let binding = match args {
        [word] if word.text.eq_ignore_ascii_case("none") => None,
        [word] => match binding_in(scope, word) {
            Some(Ok(binding)) => Some(binding),
            Some(Err(why)) => return scope.wrong_so(word, &why),
            None => return,
        },
        [kid, hmac] => Some(Binding { kid: kid.text.clone(), hmac: hmac.text.clone() }),
        _ => return,
    };
    if let (Some(Binding { kid, .. }), Some(word)) = (&binding, args.first())
        && (kid.is_empty() || !kid.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        return scope.wrong_so(word, "the kid is one word of ASCII, as the CA has given it");
    }
    scope.settings().binding = Some(binding);
}

fn binding_in(scope: &mut Scope<'_>, word: &Word) -> Option<Result<Binding, String>> {
    let file = path(scope, word)?.display().to_string();
    let text = match scope.library.text(&file) {
        Ok(text) => text,
        Err(why) => return Some(Err(format!("file not found: {} ({why})", quoted(&file)))),
    };
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(&text) else {
        return Some(Err(format!("error reading JSON file {}", quoted(&file))));
    };
    let field = |key: &str| match json.get(key).and_then(serde_json::Value::as_str) {
        Some(text) => Ok(text.to_string()),
        None => Err(format!("JSON does not contain '{key}' element, in {}", quoted(&file))),
    };
    Some(field("kid").and_then(|kid| Ok(Binding { kid, hmac: field("hmac")? })))
}

/// Trust roots for the proxy.
pub fn proxy_roots(scope: &mut Scope<'_>, args: &[Word]) {
    let [word] = args else { return };
    scope.settings().proxy_roots = file(scope, word);
}

/// A path, or `none`.
fn file(scope: &mut Scope<'_>, word: &Word) -> Option<Option<PathBuf>> {
    match word.text.eq_ignore_ascii_case("none") {
        true => Some(None),
        false => path(scope, word).map(Some),
    }
}

/// A profile's name is the CA's to choose; it goes into JSON.
pub fn profile(scope: &mut Scope<'_>, args: &[Word]) {
    let profile = one(scope, args, |text| match text.is_empty() || text.contains(char::is_control) {
        true => Err("is no name of a profile".into()),
        false => Ok((!text.eq_ignore_ascii_case("none")).then(|| text.into())),
    });
    scope.settings().profile = profile;
}

pub fn profile_mandatory(scope: &mut Scope<'_>, args: &[Word]) {
    scope.settings().profile_mandatory = on_off(scope, args);
}

/// The common name of an issuer, or `shortest`.
pub fn chain(scope: &mut Scope<'_>, args: &[Word]) {
    let chain = one(scope, args, |text| match text {
        "" => Err("is no name of an issuer".into()),
        _ if text.eq_ignore_ascii_case("shortest") => Ok(Chain::Shortest),
        _ => Ok(Chain::Under(text.into())),
    });
    if chain.is_some() {
        scope.settings().chain = chain;
    }
}

pub fn proxy(scope: &mut Scope<'_>, args: &[Word]) {
    let [word] = args else { return };
    if word.text.eq_ignore_ascii_case("none") {
        scope.settings().proxy = Some(None);
        return;
    }
    // The word itself is not shown: it may have a password in it.
    match url::proxy(&word.text) {
        Ok(url) => scope.settings().proxy = Some(Some(url)),
        Err(why) => scope.wrong_so(word, why),
    }
}
