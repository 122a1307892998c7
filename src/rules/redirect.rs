//! From http to https: where a request is sent, how, and when it is better left where it is.

use crate::rules::plan;
use crate::words::board::Report;
use crate::words::config::RequireHttps;
use crate::words::time::Unix;
use std::net::Ipv6Addr;

/// A request that belongs elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moved {
    /// The code and its words.
    pub status: &'static str,
    /// The Location line of the head, with its end.
    pub field: String,
}

/// For half a year a client goes to https by itself (RFC 6797 §6.1).
pub const HSTS: &str = "max-age=15768000";

/// Whether a client is told to remember that a host is https.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hsts {
    /// By nobody: what is shown it can't accept for good, or nothing was (RFC 6797 §7.2).
    Never,
    /// If the back end does.
    Theirs,
    /// By us, if the back end does not.
    Add,
}

/// What is asked of authorities and of other programs stays on http.
const EXEMPT: &str = "/.well-known/";

/// The same request over https. `host` is one of an MD's names, or under a wildcard of its; `path` has its query. GET
/// and HEAD get the codes that every client knows, other methods those that keep method and body (RFC 9110 §15.4).
pub fn moved(mode: RequireHttps, method: &str, host: &str, path: &str) -> Option<Moved> {
    let reads = matches!(method, "GET" | "HEAD");
    let status = match (mode, reads) {
        (RequireHttps::Off, _) => return None,
        (RequireHttps::Temporary, true) => "302 Found",
        (RequireHttps::Temporary, false) => "307 Temporary Redirect",
        (RequireHttps::Permanent, true) => "301 Moved Permanently",
        (RequireHttps::Permanent, false) => "308 Permanent Redirect",
    };
    // An absolute target may be a host and a query alone; `OPTIONS *` is about the server and no part of the site.
    if path == "*" || path.starts_with(EXEMPT) {
        return None;
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    let field = match host.parse::<Ipv6Addr>() {
        Ok(_) => format!("Location: https://[{host}]{slash}{path}\r\n"),
        Err(_) => format!("Location: https://{host}{slash}{path}\r\n"),
    };
    Some(Moved { status, field })
}

/// Whether https would show visitors of this host a certificate that they can accept: without one, or with one that has
/// expired or is for other names, they would be locked out. While the clock can't be believed nothing counts as expired.
pub fn welcomes(report: &Report, host: &str, now: Option<Unix>) -> bool {
    let held = || report.certs.iter().filter_map(|cert| cert.held.as_ref());
    let now = plan::believe(now, plan::floor(held()));
    held().any(|held| now.is_none_or(|now| now < held.not_after) && held.names.iter().any(|name| name.serves(host)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md_502_109_where_to() {
        use RequireHttps::{Off, Permanent, Temporary};
        let to = |mode, method, host, path| {
            moved(mode, method, host, path).map(|moved| {
                let place = moved.field.strip_prefix("Location: ").and_then(|rest| rest.strip_suffix("\r\n"));
                (moved.status.split(' ').next().unwrap().to_owned(), place.unwrap().to_owned())
            })
        };
        let h = "r.example.org";
        for (mode, method, host, path, answer) in [
            (Temporary, "GET", h, "/a?b=c&d", Some(("302", "https://r.example.org/a?b=c&d"))),
            (Temporary, "HEAD", h, "/", Some(("302", "https://r.example.org/"))),
            (Temporary, "POST", h, "/a", Some(("307", "https://r.example.org/a"))),
            (Permanent, "GET", h, "/a", Some(("301", "https://r.example.org/a"))),
            (Permanent, "HEAD", h, "/a", Some(("301", "https://r.example.org/a"))),
            (Permanent, "DELETE", h, "/a", Some(("308", "https://r.example.org/a"))),
            (Permanent, "get", h, "/a", Some(("308", "https://r.example.org/a"))),
            (Permanent, "GET", "192.0.2.1", "/a", Some(("301", "https://192.0.2.1/a"))),
            (Permanent, "GET", "2001:db8::1", "/a", Some(("301", "https://[2001:db8::1]/a"))),
            (Temporary, "GET", h, "?q", Some(("302", "https://r.example.org/?q"))),
            (Temporary, "GET", h, "//other.example/", Some(("302", "https://r.example.org//other.example/"))),
            (Temporary, "GET", h, "/.well-known/x", None),
            (Permanent, "PUT", h, "/.well-known/", None),
            (Permanent, "GET", h, "/.well-known", Some(("301", "https://r.example.org/.well-known"))),
            (Permanent, "GET", h, "/a/.well-known/x", Some(("301", "https://r.example.org/a/.well-known/x"))),
            (Permanent, "OPTIONS", h, "*", None),
            (Off, "GET", h, "/", None),
            (Off, "POST", h, "/", None),
        ] {
            let answer = answer.map(|(code, place)| (code.to_owned(), place.to_owned()));
            assert_eq!(to(mode, method, host, path), answer, "{mode:?} {method} {host} {path}");
        }
    }
}
