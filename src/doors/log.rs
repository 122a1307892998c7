//! The log of the daemon: one line a record on stderr, whoever reads it or no longer does.

use log::{LevelFilter, Log, Metadata, Record};
use rustix::fs::fstat;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _, stderr};

/// Sends the program's log to stderr from here on; a second call changes the level alone.
pub fn install(level: LevelFilter) {
    let _ = log::set_boxed_logger(Box::new(Stderr { look: Look::of_stderr() }));
    log::set_max_level(level);
}

/// How a line begins. Service managers have their own clock, and the journal reads the level from `<n>`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Look {
    Journal,
    Terminal,
    Plain,
}

impl Look {
    fn of_stderr() -> Self {
        let stderr = stderr();
        if std::env::var("JOURNAL_STREAM").is_ok_and(|stream| is_stream(&stream)) {
            Self::Journal
        } else if stderr.is_terminal() {
            Self::Terminal
        } else {
            Self::Plain
        }
    }
}

/// Whether stderr is this `device:inode`: the variable is inherited by programs whose stderr leads elsewhere.
fn is_stream(stream: &str) -> bool {
    fstat(stderr()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

struct Stderr {
    look: Look,
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) && ours(record.target()) {
            // Nobody is left to be told that nobody listens.
            let _ = stderr().write_all(line(self.look, record).as_bytes());
        }
    }

    fn flush(&self) {}
}

/// The libraries below us speak of connections and handshakes: for the eyes of their authors.
fn ours(target: &str) -> bool {
    target.starts_with("edgemd")
}

/// One write, so that lines of two threads don't mix; one line, so that no text from outside can forge a second.
fn line(look: Look, record: &Record<'_>) -> String {
    let mut line = match look {
        Look::Journal => format!("<{}>", priority(record.level())),
        Look::Terminal => format!("{} {:5} ", now(), record.level()),
        Look::Plain => format!("{:5} ", record.level()),
    };
    let start = line.len();
    // A `Display` that fails leaves the text as far as it came.
    let _ = write!(line, "{}", record.args());
    let text = line.split_off(start);
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line.push('\n');
    line
}

/// As in syslog: error 3, warning 4, info 6, debug 7.
fn priority(level: log::Level) -> u8 {
    match level {
        log::Level::Error => 3,
        log::Level::Warn => 4,
        log::Level::Info => 6,
        log::Level::Debug | log::Level::Trace => 7,
    }
}

fn now() -> String {
    use crate::words::time::Unix;
    #[allow(clippy::disallowed_methods, reason = "a time to look at, from which nothing follows")]
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Unix::from_secs(since.as_secs()).rfc3339()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(look: Look, level: log::Level, text: &str) -> String {
        line(look, &Record::builder().level(level).args(format_args!("{text}")).build())
    }

    #[test]
    fn a_record_is_one_line() {
        let text = "a\nINFO forged \u{1b}[31m\u{9b}é\\";
        assert_eq!(
            printed(Look::Plain, log::Level::Warn, text),
            "WARN  a\\nINFO forged \\u{1b}[31m\\u{9b}é\\\n",
            "control characters are escaped, others are not"
        );
    }

    #[test]
    fn the_journal_reads_the_level() {
        for (level, head) in [
            (log::Level::Error, "<3>x\n"),
            (log::Level::Warn, "<4>x\n"),
            (log::Level::Info, "<6>x\n"),
            (log::Level::Debug, "<7>x\n"),
            (log::Level::Trace, "<7>x\n"),
        ] {
            assert_eq!(printed(Look::Journal, level, "x"), head);
        }
    }

    #[test]
    fn a_terminal_has_no_clock_of_its_own() {
        let text = printed(Look::Terminal, log::Level::Info, "x");
        assert!(text.starts_with("20") && text.ends_with("Z INFO  x\n"), "{text}");
    }

    #[test]
    fn an_inherited_journal_is_not_ours() {
        assert!(!is_stream("0:0"));
        let stat = fstat(stderr()).unwrap();
        assert!(is_stream(&format!("{}:{}", stat.st_dev, stat.st_ino)));
    }

    #[test]
    fn libraries_are_not_heard() {
        assert!(ours("edgemd::house::keeper") && !ours("rustls::conn"));
    }
}
