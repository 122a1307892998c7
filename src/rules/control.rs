//! The language of the control socket: one request line, either a command's words or the first line of an HTTP GET.

/// What the daemon can be asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    Status {
        form: Form,
        name: Option<String>,
    },
    /// Renew these MDs; all of them if none is named.
    Renew {
        names: Vec<String>,
        force: bool,
    },
    Reload,
    /// The records to be published for dns-persist-01: of this MD, or of all that are proven so.
    Dns {
        name: Option<String>,
    },
    ClockSet,
    LinkUp,
    /// Revoke what is held for this MD; the reason is one of RFC 5280 §5.3.1.
    Revoke {
        name: String,
        reason: Option<u8>,
    },
    Account(Accounts),
    /// List what the store keeps for nobody; remove it if `yes`.
    Prune {
        yes: bool,
    },
}

/// How the status is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Sentences,
    Json,
    /// How many MDs there are of each sort, as mod_md's `server-status?auto` has it.
    Counts,
}

/// What is to be done with our accounts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Accounts {
    Show,
    /// Give the one with this CA another key; the only one if none is named.
    Roll {
        ca: Option<String>,
    },
    /// End the one with this CA; the only one if none is named.
    Deactivate {
        ca: Option<String>,
    },
}

/// A request line as it arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    Command(Request),
    /// A GET; header lines follow, and the answer is HTTP's. `None`: no such page.
    Page(Option<Request>),
}

/// The exit code that stands for "no MD has this name"; as a page it is a 404.
pub const NO_SUCH_MD: u8 = 2;

/// Reads one line, its end included or not; says what is wrong with it.
pub fn read(line: &[u8]) -> Result<Asked, String> {
    let line = core::str::from_utf8(line).map_err(|_| "the request is not text".to_owned())?;
    if let Some(target) = line.strip_prefix("GET /") {
        let target = target.split([' ', '\r', '\n']).next().unwrap_or_default();
        return Ok(Asked::Page(page(target)));
    }
    let mut words = line.split_ascii_whitespace();
    let request = match words.next() {
        Some("status") => status(words)?,
        Some("renew") => renew(words)?,
        Some("reload") => no_more("reload", words).map(|()| Request::Reload)?,
        Some("dns") => dns(words)?,
        Some("clock-set") => no_more("clock-set", words).map(|()| Request::ClockSet)?,
        Some("link-up") => no_more("link-up", words).map(|()| Request::LinkUp)?,
        Some("revoke") => revoke(words)?,
        Some("account") => Request::Account(accounts(words)?),
        Some("prune") => prune(words)?,
        Some(word) => return Err(format!("unknown request \"{word}\"; there are {REQUESTS}")),
        None => return Err(format!("an empty request; there are {REQUESTS}")),
    };
    Ok(Asked::Command(request))
}

const REQUESTS: &str = "status, renew, revoke, dns, account, reload, clock-set, link-up and prune";

fn page(target: &str) -> Option<Request> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (form, name) = match path.strip_prefix("md-status")? {
        "" | "/" if query == "auto" => (Form::Counts, None),
        "" | "/" => (Form::Json, None),
        rest => (Form::Json, Some(rest.strip_prefix('/')?.to_owned())),
    };
    Some(Request::Status { form, name })
}

fn status<'a>(words: impl Iterator<Item = &'a str>) -> Result<Request, String> {
    let (mut form, mut name) = (Form::Sentences, None);
    for word in words {
        match word {
            "--json" => form = Form::Json,
            "--counts" => form = Form::Counts,
            _ if word.starts_with('-') => return Err(unknown("status", word)),
            _ if name.is_some() => return Err("status takes one name".into()),
            _ => name = Some(word.to_owned()),
        }
    }
    Ok(Request::Status { form, name })
}

fn renew<'a>(words: impl Iterator<Item = &'a str>) -> Result<Request, String> {
    let (mut names, mut force) = (Vec::new(), false);
    for word in words {
        match word {
            "--force" => force = true,
            _ if word.starts_with('-') => return Err(unknown("renew", word)),
            _ => names.push(word.to_owned()),
        }
    }
    Ok(Request::Renew { names, force })
}

fn revoke<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Request, String> {
    let (mut name, mut why) = (None, None);
    while let Some(word) = words.next() {
        match word {
            "--reason" => why = Some(reason(words.next().unwrap_or_default())?),
            _ if word.starts_with('-') => return Err(unknown("revoke", word)),
            _ if name.is_some() => return Err("revoke takes one name".into()),
            _ => name = Some(word.to_owned()),
        }
    }
    let name = name.ok_or("revoke: the name of the MD is missing")?;
    Ok(Request::Revoke { name, reason: why })
}

/// Why a certificate is revoked, as a word or a number of RFC 5280 §5.3.1; the others there are for CAs to give.
pub fn reason(text: &str) -> Result<u8, String> {
    let found = REASONS.iter().find(|(word, number)| word.eq_ignore_ascii_case(text) || text.parse() == Ok(*number));
    found.map(|(_, number)| *number).ok_or_else(|| {
        let words: Vec<&str> = REASONS.iter().map(|(word, _)| *word).collect();
        format!("{text:?} is no reason; there are {}", words.join(", "))
    })
}

const REASONS: [(&str, u8); 5] = [
    ("unspecified", 0),
    ("keyCompromise", 1),
    ("affiliationChanged", 3),
    ("superseded", 4),
    ("cessationOfOperation", 5),
];

/// The words after `account`.
pub fn accounts<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Accounts, String> {
    match (words.next(), words.next(), words.next()) {
        (None, ..) => Ok(Accounts::Show),
        (Some("roll"), ca, None) => Ok(Accounts::Roll { ca: ca.map(str::to_owned) }),
        (Some("deactivate"), ca, None) => Ok(Accounts::Deactivate { ca: ca.map(str::to_owned) }),
        (Some(word @ ("roll" | "deactivate")), ..) => Err(format!("account {word} takes one CA")),
        (Some(word), ..) => Err(unknown("account", word)),
    }
}

fn dns<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Request, String> {
    match (words.next(), words.next()) {
        (Some(word), _) if word.starts_with('-') => Err(unknown("dns", word)),
        (name, None) => Ok(Request::Dns { name: name.map(str::to_owned) }),
        _ => Err("dns takes one name".into()),
    }
}

fn prune<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Request, String> {
    match words.next() {
        None => Ok(Request::Prune { yes: false }),
        Some("--yes") => no_more("prune", words).map(|()| Request::Prune { yes: true }),
        Some(word) => Err(unknown("prune", word)),
    }
}

fn no_more<'a>(verb: &str, mut words: impl Iterator<Item = &'a str>) -> Result<(), String> {
    words.next().map_or(Ok(()), |word| Err(unknown(verb, word)))
}

fn unknown(verb: &str, word: &str) -> String {
    format!("{verb} does not know \"{word}\"")
}

/// A part of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Say {
    /// Written at once; may itself be several lines.
    Line(String),
    /// The last part: the exit code of the verb.
    End(u8),
}

impl Request {
    /// The line that [`read`] understands as this request, without its end.
    pub fn line(&self) -> Result<String, String> {
        let (mut line, names) = match self {
            Self::Status { form: Form::Sentences, name } => ("status".to_owned(), name.as_slice()),
            Self::Status { form: Form::Json, name } => ("status --json".to_owned(), name.as_slice()),
            Self::Status { form: Form::Counts, name } => ("status --counts".to_owned(), name.as_slice()),
            Self::Renew { names, force: false } => ("renew".to_owned(), names.as_slice()),
            Self::Renew { names, force: true } => ("renew --force".to_owned(), names.as_slice()),
            Self::Reload => ("reload".to_owned(), [].as_slice()),
            Self::Dns { name } => ("dns".to_owned(), name.as_slice()),
            Self::ClockSet => ("clock-set".to_owned(), [].as_slice()),
            Self::LinkUp => ("link-up".to_owned(), [].as_slice()),
            Self::Account(Accounts::Show) => ("account".to_owned(), [].as_slice()),
            Self::Revoke { name, reason: None } => ("revoke".to_owned(), core::slice::from_ref(name)),
            Self::Revoke { name, reason: Some(reason) } => {
                (format!("revoke --reason {reason}"), core::slice::from_ref(name))
            }
            Self::Account(Accounts::Roll { ca }) => ("account roll".to_owned(), ca.as_slice()),
            Self::Account(Accounts::Deactivate { ca }) => ("account deactivate".to_owned(), ca.as_slice()),
            Self::Prune { yes: false } => ("prune".to_owned(), [].as_slice()),
            Self::Prune { yes: true } => ("prune --yes".to_owned(), [].as_slice()),
        };
        for name in names {
            let odd = |c: char| c.is_ascii_whitespace() || c.is_control();
            if name.is_empty() || name.starts_with('-') || name.contains(odd) {
                return Err(format!("{name:?} is no name"));
            }
            line.push(' ');
            line.push_str(name);
        }
        Ok(line)
    }
}

/// The body of a fuzz target: what is understood can be said, and is then understood as the same.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let request = match read(bytes) {
        Ok(Asked::Command(request)) => request,
        // A page's name is text that somebody else chose.
        Ok(Asked::Page(page)) => return assert!(page.is_none_or(|page| matches!(page, Request::Status { .. }))),
        Err(why) => return assert!(!why.is_empty()),
    };
    match request.line() {
        Ok(line) => {
            assert!(!line.contains(char::is_control));
            assert_eq!(read(line.as_bytes()), Ok(Asked::Command(request)));
        }
        Err(why) => assert!(!why.contains(char::is_control), "{why:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(form: Form, name: Option<&str>) -> Request {
        Request::Status { form, name: name.map(str::to_owned) }
    }

    fn renew(names: &[&str], force: bool) -> Request {
        Request::Renew { names: names.iter().map(|name| (*name).to_owned()).collect(), force }
    }

    fn deactivate(ca: Option<&str>) -> Request {
        Request::Account(Accounts::Deactivate { ca: ca.map(str::to_owned) })
    }

    fn revoke(reason: Option<u8>) -> Request {
        Request::Revoke { name: "a.example.org".into(), reason }
    }

    #[test]
    fn commands() {
        for (line, request) in [
            ("status", status(Form::Sentences, None)),
            ("  status\t--json  \r\n", status(Form::Json, None)),
            ("status a.example.org --json\n", status(Form::Json, Some("a.example.org"))),
            ("status *.example.org", status(Form::Sentences, Some("*.example.org"))),
            ("renew", renew(&[], false)),
            ("renew --force b.example.org a.example.org", renew(&["b.example.org", "a.example.org"], true)),
            ("reload\n", Request::Reload),
            ("dns", Request::Dns { name: None }),
            ("dns a.example.org", Request::Dns { name: Some("a.example.org".into()) }),
            ("clock-set", Request::ClockSet),
            ("link-up\n", Request::LinkUp),
            ("account", Request::Account(Accounts::Show)),
            ("account deactivate\r\n", deactivate(None)),
            ("account deactivate https://ca.example/dir", deactivate(Some("https://ca.example/dir"))),
            ("account roll", Request::Account(Accounts::Roll { ca: None })),
            ("revoke a.example.org", revoke(None)),
            ("revoke --reason KEYCOMPROMISE a.example.org", revoke(Some(1))),
            ("revoke a.example.org --reason 5", revoke(Some(5))),
            ("prune", Request::Prune { yes: false }),
            ("prune --yes", Request::Prune { yes: true }),
        ] {
            assert_eq!(read(line.as_bytes()), Ok(Asked::Command(request)), "{line:?}");
        }
    }

    #[test]
    fn what_is_no_command_is_answered_with_a_sentence() {
        for (line, why) in [
            (
                "",
                "an empty request; there are status, renew, revoke, dns, account, reload, clock-set, link-up and prune",
            ),
            (
                "halt",
                "unknown request \"halt\"; there are status, renew, revoke, dns, account, reload, clock-set, link-up and prune",
            ),
            (
                "STATUS",
                "unknown request \"STATUS\"; there are status, renew, revoke, dns, account, reload, clock-set, link-up and prune",
            ),
            ("status --xml", "status does not know \"--xml\""),
            ("status a b", "status takes one name"),
            ("renew -f", "renew does not know \"-f\""),
            ("dns a b", "dns takes one name"),
            ("dns --all", "dns does not know \"--all\""),
            ("link-up now", "link-up does not know \"now\""),
            ("reload now", "reload does not know \"now\""),
            ("account end", "account does not know \"end\""),
            ("account deactivate a b", "account deactivate takes one CA"),
            ("account roll a b", "account roll takes one CA"),
            ("revoke", "revoke: the name of the MD is missing"),
            ("revoke a b", "revoke takes one name"),
            ("revoke a --now", "revoke does not know \"--now\""),
            (
                "revoke a --reason",
                "\"\" is no reason; there are unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation",
            ),
            (
                "revoke a --reason 2",
                "\"2\" is no reason; there are unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation",
            ),
            (
                "\u{fffd}",
                "unknown request \"\u{fffd}\"; there are status, renew, revoke, dns, account, reload, clock-set, link-up and prune",
            ),
            ("prune yes", "prune does not know \"yes\""),
            ("prune --yes please", "prune does not know \"please\""),
        ] {
            assert_eq!(read(line.as_bytes()), Err(why.to_owned()), "{line:?}");
        }
        assert_eq!(read(b"status \xff"), Err("the request is not text".to_owned()));
    }

    #[test]
    fn pages() {
        for (line, request) in [
            ("GET /md-status HTTP/1.1\r\n", Some(status(Form::Json, None))),
            ("GET /md-status/ HTTP/1.1", Some(status(Form::Json, None))),
            ("GET /md-status?auto HTTP/1.0\r\n", Some(status(Form::Counts, None))),
            ("GET /md-status?refresh=5 HTTP/1.0\r\n", Some(status(Form::Json, None))),
            ("GET /md-status/a.example.org HTTP/1.1\r\n", Some(status(Form::Json, Some("a.example.org")))),
            ("GET /md-status/a.example.org?x=/ HTTP/1.1\r\n", Some(status(Form::Json, Some("a.example.org")))),
            ("GET /md-statuses HTTP/1.1\r\n", None),
            ("GET / HTTP/1.1\r\n", None),
            ("GET /", None),
        ] {
            assert_eq!(read(line.as_bytes()), Ok(Asked::Page(request)), "{line:?}");
        }
    }

    #[test]
    fn what_is_said_is_what_is_understood() {
        for request in [
            status(Form::Sentences, None),
            status(Form::Json, Some("a.example.org")),
            status(Form::Counts, None),
            renew(&[], true),
            renew(&["a.example.org", "2001:db8::1"], false),
            Request::Reload,
            Request::Dns { name: None },
            Request::Dns { name: Some("*.example.org".into()) },
            Request::ClockSet,
            Request::LinkUp,
            Request::Account(Accounts::Show),
            deactivate(None),
            deactivate(Some("LetsEncrypt")),
            Request::Account(Accounts::Roll { ca: Some("LetsEncrypt".into()) }),
            Request::Account(Accounts::Roll { ca: None }),
            revoke(None),
            revoke(Some(4)),
            Request::Prune { yes: false },
            Request::Prune { yes: true },
        ] {
            let line = request.line().unwrap();
            assert_eq!(read(line.as_bytes()), Ok(Asked::Command(request)), "{line}");
        }
        for name in ["", "-x", "a b", "a\nreload"] {
            assert!(renew(&[name], false).line().unwrap_err().ends_with("is no name"), "{name:?}");
        }
    }
}
