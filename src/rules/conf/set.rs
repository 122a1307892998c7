//! What each directive does to the draft; one whose work is still to come is judged all the same. The table has counted
//! the words already. Here: who is managed, what serves, when, with which keys, proven how.

pub mod ca;
pub mod tell;

use super::draft::{ListenDraft, MdDraft, Members, Scope};
use super::lex::{Word, quoted, shown};
use super::url;
use super::values::{self, Unit};
use crate::words::config::{Backend, Challenge, DriveMode, Listen, PortMap, ProxyProtocol, RequireHttps};
use crate::words::fault::Fault;
use crate::words::name;
use crate::words::time::Span;

/// Sets a field to what a reader makes of the only word.
fn one<T>(scope: &mut Scope<'_>, args: &[Word], read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
    let [word] = args else { return None };
    read(&word.text).map_err(|why| scope.wrong(word, &why)).ok()
}

fn members_of(text: &str) -> Option<Members> {
    match text.to_ascii_lowercase().as_str() {
        "auto" => Some(Members::Auto),
        "manual" => Some(Members::Manual),
        _ => None,
    }
}

/// The words of an MD: names, and `auto` or `manual` among them.
pub fn md(scope: &Scope<'_>, args: &[Word]) -> MdDraft {
    let mut md = MdDraft {
        place: scope.place.clone(),
        names: Vec::new(),
        settings: Default::default(),
        site: scope.site.as_ref().map(|_| scope.draft.sites.len()),
    };
    for word in args {
        match members_of(&word.text) {
            Some(members) => md.settings.members = Some(members),
            None => md.names.push(word.clone()),
        }
    }
    md
}

pub fn domain(scope: &mut Scope<'_>, args: &[Word]) {
    let md = md(scope, args);
    if md.names.is_empty() {
        return scope.fault("needs at least one domain name");
    }
    scope.draft.mds.push(md);
}

pub fn member(scope: &mut Scope<'_>, args: &[Word]) {
    for word in args {
        match (members_of(&word.text), &mut scope.md) {
            (Some(members), _) => scope.settings().members = Some(members),
            (None, Some(md)) => md.names.push(word.clone()),
            (None, None) => scope.wrong(word, "is an unknown value, use \"auto|manual\""),
        }
    }
}

pub fn match_names(scope: &mut Scope<'_>, args: &[Word]) {
    let by_server_name = one(scope, args, |text| match text.to_ascii_lowercase().as_str() {
        "all" => Ok(false),
        "servernames" => Ok(true),
        _ => Err("is an unknown value, use \"all|servernames\"".into()),
    });
    scope.draft.by_server_name = by_server_name.unwrap_or(scope.draft.by_server_name);
}

/// A site's name as requests carry it: lower case, ASCII, without a port. Anything that can be in a Host header passes;
/// what can't be on a certificate is a fault only where it would have to be.
fn site_name(scope: &mut Scope<'_>, word: &Word, wildcards: bool) -> Option<Word> {
    // Apache's ServerName may say how the site is reached from outside, as in https://example.org:443.
    let text = word.text.split_once("://").map_or(word.text.as_str(), |(_, rest)| rest);
    let (host, port) = match text.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
        // More than one colon without brackets is an IPv6 address, not a port.
        Some((host, port)) if !host.contains(':') || host.starts_with('[') => (host, Some(port)),
        _ => (text, None),
    };
    if port.is_some_and(|port| values::port(port).is_none()) {
        scope.wrong(word, "has no valid port; a port is a number from 1 to 65535");
        return None;
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = host.strip_suffix('.').unwrap_or(host);
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c) || (wildcards && "*?".contains(c));
    let why = match name::to_ascii(host) {
        Ok(host) if host.chars().all(known) && !host.is_empty() => {
            return Some(Word { text: host, place: word.place.clone() });
        }
        Ok(_) => "is no name of a site".to_string(),
        Err(why) => why,
    };
    scope.wrong(word, &why);
    None
}

pub fn base_server(scope: &mut Scope<'_>, args: &[Word]) {
    if let Some(base) = on_off(scope, args) {
        scope.draft.base_server = base;
    }
}

pub fn connections(scope: &mut Scope<'_>, args: &[Word]) {
    scope.draft.connections = number(scope, args).or(scope.draft.connections);
}

pub fn per_host(scope: &mut Scope<'_>, args: &[Word]) {
    scope.draft.per_host = number(scope, args).or(scope.draft.per_host);
}

fn number(scope: &mut Scope<'_>, args: &[Word]) -> Option<usize> {
    one(scope, args, |text| match text.parse() {
        Ok(number @ 1..=65_535u16) => Ok(usize::from(number)),
        _ => Err("is no number from 1 to 65535".into()),
    })
}

pub fn proxy_protocol(scope: &mut Scope<'_>, args: &[Word]) {
    let header = one(scope, args, |text| match text.to_ascii_lowercase().as_str() {
        "off" => Ok(ProxyProtocol::Off),
        "v1" => Ok(ProxyProtocol::V1),
        "v2" => Ok(ProxyProtocol::V2),
        _ => Err("is an unknown value, use \"off|v1|v2\"".into()),
    });
    scope.site().header = header;
}

pub fn passthrough(scope: &mut Scope<'_>, args: &[Word]) {
    let to = one(scope, args, |text| Ok(Backend::Tcp(url::host_port(text)?)));
    scope.site().passthrough = to;
}

pub fn server_name(scope: &mut Scope<'_>, args: &[Word]) {
    let [word] = args else { return };
    if let Some(name) = site_name(scope, word, false) {
        scope.site().server_name = Some(name);
    }
}

pub fn server_alias(scope: &mut Scope<'_>, args: &[Word]) {
    for word in args {
        if let Some(name) = site_name(scope, word, true) {
            scope.site().aliases.push(name);
        }
    }
}

pub fn server_admin(scope: &mut Scope<'_>, args: &[Word]) {
    if let Some(mail) = one(scope, args, |text| Ok(url::contact(text)?)) {
        scope.settings().admin = Some(mail);
    }
}

pub fn engine(scope: &mut Scope<'_>, args: &[Word]) {
    scope.site().engine = on_off(scope, args);
}

fn on_off(scope: &mut Scope<'_>, args: &[Word]) -> Option<bool> {
    one(scope, args, |text| match text.to_ascii_lowercase().as_str() {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("is an unknown value; supported parameter values are 'on' and 'off'".into()),
    })
}

pub fn proxy_pass(scope: &mut Scope<'_>, args: &[Word]) {
    let [path, target] = args else { return };
    if path.text != "/" {
        scope.wrong(path, "is only a part of the site; edgemd passes on whole sites: write ProxyPass / …");
    }
    match url::backend(&target.text) {
        Ok(backend) => scope.site().proxy = Some(backend),
        Err(why) => scope.wrong(target, why),
    }
}

pub fn listen(scope: &mut Scope<'_>, args: &[Word]) {
    let Some((word, scheme)) = args.split_first() else { return };
    let (addr, port) = match values::port(&word.text) {
        Some(port) => (None, port),
        None => match values::addr_port(&word.text) {
            Ok(both) => both,
            Err(_) => return scope.wrong(word, "is no [addr:]port; an IPv6 address stands in brackets"),
        },
    };
    let tls = match scheme.first().map(|word| (word, word.text.to_ascii_lowercase())) {
        None => None,
        Some((_, text)) if text == "http" => Some(false),
        Some((_, text)) if text == "https" => Some(true),
        Some((word, _)) => return scope.wrong(word, "is an unknown protocol, use \"http|https\""),
    };
    let listen = Listen { addr, port, tls: tls.unwrap_or(false) };
    scope.draft.listen.push(ListenDraft { place: word.place.clone(), listen, scheme: tls.is_some() });
}

pub fn drive(scope: &mut Scope<'_>, args: &[Word]) {
    let [word] = args else { return };
    let mode = match word.text.to_ascii_lowercase().as_str() {
        "auto" | "automatic" => DriveMode::Auto,
        "manual" | "stick" => DriveMode::Manual,
        "always" => DriveMode::Always,
        _ => {
            let why = format!("unknown MDDriveMode {}, use \"auto|manual|always\"", shown(&word.text));
            return scope.faults.push(Fault { place: word.place.clone(), why });
        }
    };
    scope.settings().drive = Some(mode);
}

pub fn window(scope: &mut Scope<'_>, args: &[Word]) {
    if let Some(window) = one(scope, args, values::window) {
        scope.settings().window = Some(window);
    }
}

pub fn warn_window(scope: &mut Scope<'_>, args: &[Word]) {
    if let Some(window) = one(scope, args, values::window) {
        scope.settings().warn = Some(window);
    }
}

pub fn via_ari(scope: &mut Scope<'_>, args: &[Word]) {
    scope.settings().ari = on_off(scope, args);
}

/// A time of at least this long.
fn at_least(scope: &mut Scope<'_>, args: &[Word], least: Span) -> Option<Span> {
    one(scope, args, |text| match values::span(text, Unit::Seconds)? {
        span if span.is_zero() && !least.is_zero() => Err("is too short: minimum delay must be greater than 0".into()),
        span if span < least => Err(format!("is too short: it must be at least {least}")),
        span => Ok(span),
    })
}

pub fn check_interval(scope: &mut Scope<'_>, args: &[Word]) {
    scope.draft.check_interval = at_least(scope, args, Span::secs(1));
}

pub fn initial_delay(scope: &mut Scope<'_>, args: &[Word]) {
    scope.draft.initial_delay = at_least(scope, args, Span::ZERO);
}

pub fn activation_delay(scope: &mut Scope<'_>, args: &[Word]) {
    if let Some(delay) = at_least(scope, args, Span::ZERO) {
        scope.settings().activation = Some(delay);
    }
}

pub fn failover(scope: &mut Scope<'_>, args: &[Word]) {
    let number = one(scope, args, |text| match text.parse() {
        Ok(0) | Err(_) => Err("is no number of failures; write 1 or more".into()),
        Ok(number) => Ok(number),
    });
    scope.draft.failover = number.or(scope.draft.failover);
}

pub fn retry_delay(scope: &mut Scope<'_>, args: &[Word]) {
    scope.draft.retry = at_least(scope, args, Span::millis(100));
}

pub fn hook_timeout(scope: &mut Scope<'_>, args: &[Word]) {
    scope.draft.hook_limit = at_least(scope, args, Span::secs(1));
}

pub fn keys(scope: &mut Scope<'_>, args: &[Word]) {
    let texts: Vec<_> = args.iter().map(|word| word.text.as_str()).collect();
    match values::keys(&texts) {
        Ok(keys) => scope.settings().keys = Some(keys),
        Err((at, why)) => match args.get(at) {
            Some(word) => scope.wrong_so(word, &format!("{}: {why}", quoted(&word.text))),
            None => scope.fault(&why),
        },
    }
}

pub fn reuse_key(scope: &mut Scope<'_>, args: &[Word]) {
    let reuse = on_off(scope, args);
    scope.settings().reuse_key = reuse;
}

pub fn must_staple(scope: &mut Scope<'_>, args: &[Word]) {
    let staple = on_off(scope, args);
    scope.settings().must_staple = staple;
}

pub fn stapling(scope: &mut Scope<'_>, args: &[Word]) {
    let on = on_off(scope, args);
    scope.settings().stapling = on;
}

/// There is no certificate that is no MD's: on and off come to the same.
pub fn staple_others(scope: &mut Scope<'_>, args: &[Word]) {
    on_off(scope, args);
}

pub fn staple_keep(scope: &mut Scope<'_>, args: &[Word]) {
    let keep = one(scope, args, |text| values::span(text, Unit::Days));
    scope.settings().staple_keep = keep;
}

pub fn staple_window(scope: &mut Scope<'_>, args: &[Word]) {
    let window = one(scope, args, values::window);
    scope.settings().staple_window = window;
}

pub fn static_cert(scope: &mut Scope<'_>, args: &[Word]) {
    let [word] = args else { return };
    let path = path(scope, word);
    scope.settings().static_certs.extend(path);
}

pub fn static_key(scope: &mut Scope<'_>, args: &[Word]) {
    let [word] = args else { return };
    let path = path(scope, word);
    scope.settings().static_keys.extend(path);
}

pub fn port_map(scope: &mut Scope<'_>, args: &[Word]) {
    let mut ports = scope.draft.ports.unwrap_or(PortMap { http: Some(80), https: Some(443) });
    for word in args {
        match values::mapped(&word.text) {
            Ok((80, port)) => ports.http = port,
            Ok((_, port)) => {
                ports.https = port;
                scope.draft.https_is_mapped = true;
            }
            Err(why) => scope.wrong_so(word, &format!("{}: {why}", quoted(&word.text))),
        }
    }
    if ports.http.is_some() && ports.http == ports.https {
        scope.fault("gives http and https the same port");
    }
    scope.draft.ports = Some(ports);
}

pub fn challenges(scope: &mut Scope<'_>, args: &[Word]) {
    let mut challenges = Vec::new();
    for word in args {
        match Challenge::of_word(&word.text) {
            Some(challenge) if challenges.contains(&challenge) => {}
            Some(challenge) => {
                challenges.push(challenge);
            }
            None => {
                let all = Challenge::ALL.map(Challenge::word).join(", ");
                scope.wrong(word, &format!("is an unknown challenge type; there are {all}"));
            }
        }
    }
    scope.settings().challenges = Some(challenges);
}

pub fn dns_command(scope: &mut Scope<'_>, args: &[Word]) {
    if let Some(argv) = tell::program(scope, args) {
        scope.settings().dns_command = Some(argv);
    }
}

pub fn dns_version(scope: &mut Scope<'_>, args: &[Word]) {
    let forgets = one(scope, args, |text| match text {
        "1" | "2" => Ok(text == "1"),
        _ => Err("is no version. Only versions `1` and `2` are supported".into()),
    });
    scope.draft.dns_forgets = forgets.or(scope.draft.dns_forgets);
}

pub fn dns_wait(scope: &mut Scope<'_>, args: &[Word]) {
    let wait = one(scope, args, |text| match text.eq_ignore_ascii_case("off") {
        true => Ok(None),
        false => values::span(text, Unit::Seconds).map(Some),
    });
    if wait.is_some() {
        scope.settings().dns_wait = wait;
    }
}

pub fn webroot(scope: &mut Scope<'_>, args: &[Word]) {
    let [word] = args else { return };
    scope.settings().webroot = path(scope, word);
}

pub fn require_https(scope: &mut Scope<'_>, args: &[Word]) {
    let mode = one(scope, args, |text| match text.to_ascii_lowercase().as_str() {
        "off" => Ok(RequireHttps::Off),
        "temporary" => Ok(RequireHttps::Temporary),
        "permanent" => Ok(RequireHttps::Permanent),
        _ => Err("is none of these: supported parameter values are 'temporary' and 'permanent' (or 'off')".into()),
    });
    if mode.is_some() {
        scope.settings().require_https = mode;
    }
}

/// A path, from the folder of the main file.
pub(super) fn path(scope: &mut Scope<'_>, word: &Word) -> Option<std::path::PathBuf> {
    if word.text.is_empty() {
        scope.wrong(word, "is no path");
        return None;
    }
    Some(scope.path(&word.text))
}
