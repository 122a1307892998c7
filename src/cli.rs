//! The command line: words → one verb, and the exit code that it ends with.

use crate::doors::clock::Push;
use crate::doors::{control, log as door_log};
use crate::house::alone;
use crate::house::boot::{self, CONFIG, FAILED, FINE, Stay, UNAVAILABLE, USAGE};
use crate::house::preview;
use crate::rules::conf::print;
use crate::rules::control::{self as request, Accounts, Form, Request};
use crate::words::config::Config;
use crate::words::name::{Labels, Name};
use lexopt::prelude::*;
use log::LevelFilter;
use simple_logger::SimpleLogger;
use std::path::Path;
use std::process::ExitCode;

const DEFAULT_CONFIG: &str = "/etc/edgemd.conf";

const HELP: &str = "\
edgemd: certificates that look after themselves

  edgemd run                     the daemon, in the foreground; the log is on stderr
  edgemd check [--user NAME]     every fault of the configuration, or what would happen (NAME: the daemon's user)
  edgemd once                    one pass over what is due, then the end
  edgemd renew [--force] [MD…]   renew what is due (--force: due or not), wait, say how it ended
  edgemd status [--json] [MD]    what is held, until when, what happens next
  edgemd dns [MD]                the records to publish for dns-persist-01
  edgemd account                 our accounts with the authorities
  edgemd account roll [CA]       give one another key; it stays the same account
  edgemd account deactivate [CA] end one there; the next order makes a new one
  edgemd revoke [--reason R] MD  have its certificate revoked; another one is ordered then. Reasons: unspecified,
                                 keyCompromise, affiliationChanged, superseded, cessationOfOperation
  edgemd reload                  have the daemon read its configuration again
  edgemd clock-set               tell the daemon that the clock was set
  edgemd link-up                 tell the daemon that the Internet is there again: it ends the waits that it gave itself
  edgemd prune [--yes]           list what the store keeps for names and CAs that are no longer configured, and what
                                 was exported from it; --yes removes that. An account stays as it is at its CA
  edgemd import [--dry-run] DIR  take over what certbot, acme.sh, mod_md or OpenWrt's acme has there and is good and
                                 wanted: certificates, keys, the account; nothing there is changed
  edgemd directives [--json|--man]   everything that the configuration understands
  edgemd --version, --help

  -f FILE     the configuration; /etc/edgemd.conf if not given
  -v          say more in the log

exit codes: 0 fine, 1 a request failed, 2 usage, 69 port or store unavailable, 78 configuration
";

/// As written: the words, sorted.
#[derive(Default)]
struct Words {
    file: Option<String>,
    user: Option<String>,
    verb: Option<String>,
    names: Vec<String>,
    force: bool,
    json: bool,
    man: bool,
    yes: bool,
    dry_run: bool,
    reason: Option<String>,
    verbose: bool,
}

/// Runs what the command line says.
pub fn run() -> ExitCode {
    let code = match words(lexopt::Parser::from_env()) {
        Ok(Some(words)) => act(&words),
        Ok(None) => FINE,
        Err(error) => {
            complain(&format!("{error}; see edgemd --help"));
            USAGE
        }
    };
    ExitCode::from(code)
}

/// `None`: the question was about the program itself, and has been answered.
fn words(mut parser: lexopt::Parser) -> Result<Option<Words>, lexopt::Error> {
    let mut words = Words::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Short('f') | Long("file") => words.file = Some(parser.value()?.string()?),
            Short('v') | Long("verbose") => words.verbose = true,
            Short('V') | Long("version") => {
                say(concat!("edgemd ", env!("CARGO_PKG_VERSION")));
                return Ok(None);
            }
            Short('h') | Long("help") => {
                say(HELP.trim_end());
                return Ok(None);
            }
            Long("force") => words.force = true,
            Long("json") => words.json = true,
            Long("man") => words.man = true,
            Long("yes") => words.yes = true,
            Long("user") => words.user = Some(parser.value()?.string()?),
            Long("reason") => words.reason = Some(parser.value()?.string()?),
            Long("dry-run") => words.dry_run = true,
            Value(word) if words.verb.is_none() => words.verb = Some(word.string()?),
            Value(word) => words.names.push(word.string()?),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(words))
}

fn act(words: &Words) -> u8 {
    let Some(verb) = words.verb.as_deref() else {
        complain(HELP.trim_end());
        return USAGE;
    };
    if let Some(why) = unfit(verb, words) {
        complain(&format!("{why}; see edgemd --help"));
        return USAGE;
    }
    let file = words.file.as_deref().unwrap_or(DEFAULT_CONFIG);
    match verb {
        "run" => {
            door_log::install(if words.verbose { LevelFilter::Debug } else { LevelFilter::Info });
            boot::run(file, Stay::Daemon)
        }
        "once" => one_pass(words, file, Stay::Once { names: vec![], push: Push::Due }),
        "directives" => directives(words),
        _ => match words.user.as_ref().map_or_else(|| Ok(boot::config(file)), |user| boot::config_of(user, file)) {
            Err(why) => {
                complain(&why);
                USAGE
            }
            Ok(Ok(config)) => match verb {
                "check" => check(&config),
                "renew" => renew(words, file, &config),
                "account" => account(words, file, &config),
                "revoke" => visit(words, file, &config, request(verb, words)),
                "prune" => prune(words, &config),
                "import" => import(words, &config),
                _ => ask(config.control.as_deref(), &request(verb, words)),
            },
            // A daemon that runs with the file as it was can be asked all the same.
            Ok(Err(faults)) => match boot::socket_in(file) {
                socket if !matches!(verb, "check" | "import") && control::is_there(&socket) => {
                    ask(Some(&socket), &request(verb, words))
                }
                _ => {
                    for fault in &faults {
                        complain(&fault.to_string());
                    }
                    CONFIG
                }
            },
        },
    }
}

/// What a daemon is asked by this verb.
fn request(verb: &str, words: &Words) -> Request {
    match verb {
        "reload" => Request::Reload,
        "dns" => Request::Dns { name: words.names.first().cloned() },
        "clock-set" => Request::ClockSet,
        "link-up" => Request::LinkUp,
        "prune" => Request::Prune { yes: words.yes },
        "renew" => Request::Renew { names: words.names.clone(), force: words.force },
        // That these are fit was seen before.
        "revoke" => Request::Revoke {
            name: words.names.first().cloned().unwrap_or_default(),
            reason: words.reason.as_deref().and_then(|reason| request::reason(reason).ok()),
        },
        "account" => Request::Account(accounts(words).unwrap_or(Accounts::Show)),
        _ => {
            let form = if words.json { Form::Json } else { Form::Sentences };
            Request::Status { form, name: words.names.first().cloned() }
        }
    }
}

/// What is wrong with these words for this verb.
fn unfit(verb: &str, words: &Words) -> Option<String> {
    let (names, fitting): (usize, &[&str]) = match verb {
        "check" => (0, &["--user"]),
        "run" | "once" | "reload" | "clock-set" | "link-up" => (0, &[]),
        "dns" => (1, &[]),
        "renew" => (usize::MAX, &["--force"]),
        "status" => (1, &["--json"]),
        "prune" => (0, &["--yes"]),
        "import" if words.names.is_empty() => return Some("import: the folder is missing".into()),
        "import" => (1, &["--dry-run"]),
        "account" => (2, &[]),
        "revoke" if words.names.is_empty() => return Some("revoke: the name of the MD is missing".into()),
        "revoke" => (1, &["--reason"]),
        "directives" => (0, &["--json", "--man"]),
        _ => return Some(format!("unknown verb \"{verb}\"")),
    };
    if words.names.len() > names {
        return Some(format!("{verb}: too many words"));
    }
    if let ("account", Err(why)) = (verb, accounts(words)) {
        return Some(why);
    }
    if let ("revoke", Some(Err(why))) = (verb, words.reason.as_deref().map(request::reason)) {
        return Some(why);
    }
    let options = [
        ("--force", words.force),
        ("--json", words.json),
        ("--man", words.man),
        ("--yes", words.yes),
        ("--dry-run", words.dry_run),
        ("--reason", words.reason.is_some()),
        ("--user", words.user.is_some()),
    ];
    let unfit = options.iter().find(|(option, given)| *given && !fitting.contains(option));
    unfit.map(|(option, _)| format!("{verb} does not know {option}"))
}

fn accounts(words: &Words) -> Result<Accounts, String> {
    request::accounts(words.names.iter().map(String::as_str))
}

fn check(config: &Config) -> u8 {
    for notice in &config.notices {
        complain(notice);
    }
    say("configuration is fine");
    for line in preview::lines(config) {
        say(&line);
    }
    FINE
}

fn renew(words: &Words, file: &str, config: &Config) -> u8 {
    if config.control.as_deref().is_some_and(control::is_there) {
        return ask(config.control.as_deref(), &request("renew", words));
    }
    let mut names = vec![];
    for text in &words.names {
        let name = Name::parse(text, Labels::One).ok();
        match name.and_then(|name| config.mds.iter().find(|md| md.name == name)) {
            Some(md) => names.push(md.name.clone()),
            None => {
                complain(&format!("there is no MD \"{text}\" in {file}"));
                return FAILED;
            }
        }
    }
    one_pass(words, file, Stay::Once { names, push: if words.force { Push::Force } else { Push::Now } })
}

/// Through the daemon, or in a house for this alone.
fn visit(words: &Words, file: &str, config: &Config, request: Request) -> u8 {
    if config.control.as_deref().is_some_and(control::is_there) {
        return ask(config.control.as_deref(), &request);
    }
    one_pass(words, file, Stay::Visit(request))
}

fn account(words: &Words, file: &str, config: &Config) -> u8 {
    let is_asked = config.control.as_deref().is_some_and(control::is_there);
    match request("account", words) {
        request if is_asked || request != Request::Account(Accounts::Show) => visit(words, file, config, request),
        _ => match preview::accounts(config) {
            Ok(lines) => {
                lines.iter().for_each(|line| say(line));
                FINE
            }
            Err(trouble) => {
                complain(&trouble.to_string());
                FAILED
            }
        },
    }
}

fn prune(words: &Words, config: &Config) -> u8 {
    if config.control.as_deref().is_some_and(control::is_there) {
        return ask(config.control.as_deref(), &request("prune", words));
    }
    match alone::prune(config, words.yes) {
        Ok(pruned) => {
            pruned.lines.iter().for_each(|line| say(line));
            u8::from(pruned.failed)
        }
        Err(trouble) => {
            complain(&trouble.to_string());
            UNAVAILABLE
        }
    }
}

fn import(words: &Words, config: &Config) -> u8 {
    let dir = Path::new(words.names.first().map_or("", String::as_str));
    match alone::import(config, dir, words.dry_run) {
        Ok(imported) => {
            imported.lines.iter().for_each(|line| say(line));
            if imported.taken > 0 { FINE } else { FAILED }
        }
        Err(trouble) => {
            complain(&trouble.to_string());
            UNAVAILABLE
        }
    }
}

/// The house for one pass, with no daemon to do it.
fn one_pass(words: &Words, file: &str, stay: Stay) -> u8 {
    let level = if words.verbose { LevelFilter::Debug } else { LevelFilter::Info };
    // A second logger is refused; there is none.
    let _ = SimpleLogger::new().with_level(level).init();
    boot::run(file, stay)
}

fn ask(socket: Option<&Path>, request: &Request) -> u8 {
    let Some(socket) = socket else {
        complain("MDControlSocket is off: a daemon with this configuration can't be asked");
        return FAILED;
    };
    match control::ask(socket, request, &mut |line| say(line)) {
        Ok(code) => code,
        Err(trouble) => {
            complain(&trouble.to_string());
            FAILED
        }
    }
}

fn directives(words: &Words) -> u8 {
    let text = match (words.json, words.man) {
        (true, _) => print::directives_json(),
        (_, true) => print::directives_man(env!("CARGO_PKG_VERSION")),
        _ => print::directives(),
    };
    say(text.trim_end());
    FINE
}

/// A line to stdout or stderr; nobody left to read it is no reason to fail.
fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn complain(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}
