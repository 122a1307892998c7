//! Hooks: an operator's program, run without a shell and within its time.

use crate::rules::tame;
use crate::words::fault::Trouble;
use crate::words::time::Span;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, pidfd_open, waitid,
};
use std::ffi::OsStr;
use std::io::{self, PipeReader, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One call of a hook.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// The program and all of its arguments.
    pub argv: Vec<String>,
    /// Added to the daemon's own environment; never a secret.
    pub env: Vec<(&'static str, String)>,
    pub limit: Span,
    /// It takes away what an earlier one has put somewhere: it is run while edgemd stops, too, as far as there is time.
    pub clears: bool,
}

pub trait Script {
    /// Returns when the program has answered 0; anything else is trouble.
    fn run(&mut self, event: &Event) -> Result<(), Trouble>;
}

/// The machine's own programs.
#[derive(Default)]
pub struct SystemScript {
    ending: Ending,
}

/// Ends the program that runs, from any thread, and refuses each later one.
#[derive(Clone, Default)]
pub struct Ending(Arc<Mutex<Running>>);

#[derive(Default)]
struct Running {
    /// The process group, for as long as its first process is not reaped: until then the number means nobody else.
    group: Option<Pid>,
    /// That a stop does not end it.
    clears: bool,
    stopped: bool,
}

/// How long a program may take to end when it is asked to; then it is made to.
const GRACE: Duration = Duration::from_secs(1);

/// What a stop leaves to one that clears up.
const PARTING: Span = Span::secs(1);

/// How long a stop may stay unseen, and an exit on a kernel without pidfd (before Linux 5.3).
const TICK: Duration = Duration::from_millis(200);

impl SystemScript {
    pub fn ending(&self) -> Ending {
        self.ending.clone()
    }
}

impl Ending {
    /// Asks the running program and all of its group to end, and has them made to after a second. Does not wait.
    pub fn end(&self) {
        let mut running = self.lock();
        running.stopped = true;
        if let Some(group) = running.group.filter(|_| !running.clears) {
            let _ = kill_process_group(group, Signal::TERM);
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.lock().group {
            let _ = kill_process_group(group, signal);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Script for SystemScript {
    fn run(&mut self, event: &Event) -> Result<(), Trouble> {
        let Some((program, args)) = event.argv.split_first() else {
            return Err(Trouble::new("running a hook", "no program is named"));
        };
        self.call(program, args, event).map_err(|why| Trouble::new(format!("running {program}"), why))
    }
}

impl SystemScript {
    fn call(&self, program: &str, args: &[String], event: &Event) -> Result<(), String> {
        let (reader, mut child) = self.start(program, args, event)?;
        let mut watch = Watch::new(&child, reader, program);
        let mut over = None;
        let stops = self.ending.lock().stopped;
        let limit = if stops { event.limit.min(PARTING) } else { event.limit };
        let ending = Some(&self.ending).filter(|_| !event.clears);
        let exited = watch.wait(limit.duration(), Until::Exit, ending);
        let good = watch.exit_is_good();
        let stopped = self.ending.lock().stopped;
        if !exited || (stopped && !good && !event.clears) {
            over = Some(if stopped {
                "ended, because edgemd stops".to_owned()
            } else {
                format!("still running after {}, so it was ended; MDHookTimeout sets its time", event.limit)
            });
        }
        // What a hook that failed left behind is of no use to anybody; what one that succeeded left was meant to stay.
        if over.is_some() || !good {
            self.ending.signal(Signal::TERM);
            watch.wait(GRACE, Until::Quiet, None);
            // Members of the group may have outlived the first one, deaf to what they were asked.
            self.ending.signal(Signal::KILL);
        }
        // Who still has the pipe is in no group that we know.
        if over.is_some() && !watch.wait(TICK, Until::Quiet, None) && !stopped {
            over = over.map(|why| why + "; what it has put into a session of its own stays, and is yours to end");
        }
        watch.drain();
        // Once it is reaped, the group's number may come to mean others.
        self.ending.lock().group = None;
        let status = child.wait().map_err(|error| error.to_string())?;
        match over {
            Some(why) => Err(why),
            None if status.success() => Ok(()),
            None => Err(ended(status)),
        }
    }

    fn start(&self, program: &str, args: &[String], event: &Event) -> Result<(PipeReader, Child), String> {
        let (reader, writer) = io::pipe().map_err(|error| error.to_string())?;
        let errors = writer.try_clone().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.args(args).envs(event.env.iter().map(|(name, value)| (name, value)));
        // What systemd has told us, and hears from us, is between the two.
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(writer).stderr(errors).process_group(0);
        // Held over the start, so that a stop comes before it or finds the group.
        let mut running = self.ending.lock();
        if running.stopped && !event.clears {
            return Err("not started, because edgemd stops".into());
        }
        let child = command.spawn().map_err(|error| unstarted(program, &error))?;
        (running.group, running.clears) = (Some(Pid::from_child(&child)), event.clears);
        // With the command its ends of the pipe are dropped here, so that the pipe ends with the program.
        Ok((reader, child))
    }
}

/// A running program, seen from outside.
struct Watch<'a> {
    pid: Pid,
    /// Readable once the program has exited; `None` on an old kernel.
    exit: Option<OwnedFd>,
    /// `None` once everybody has closed the other end.
    pipe: Option<PipeReader>,
    program: &'a str,
    lines: Lines,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// The program itself has exited; its children may hold the pipe for ever.
    Exit,
    /// And nobody holds the pipe any longer.
    Quiet,
}

impl<'a> Watch<'a> {
    fn new(child: &Child, pipe: PipeReader, program: &'a str) -> Self {
        let pid = Pid::from_child(child);
        let exit = pidfd_open(pid, PidfdFlags::empty()).ok();
        let program = Path::new(program).file_name().and_then(OsStr::to_str).unwrap_or(program);
        Self { pid, exit, pipe: Some(pipe), program, lines: Lines::default() }
    }

    /// Logs what the program says until the time comes (true), or is over, or `ending` wants a stop.
    fn wait(&mut self, limit: Duration, until: Until, ending: Option<&Ending>) -> bool {
        #[allow(clippy::disallowed_methods, reason = "this door's own time limit")]
        let start = Instant::now();
        loop {
            let exited = self.exited().is_some();
            if exited && (until == Until::Exit || self.pipe.is_none()) {
                return true;
            }
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() || ending.is_some_and(|ending| ending.lock().stopped) {
                return false;
            }
            self.listen(left.min(TICK), !exited);
        }
    }

    /// What is in the pipe already; more than a pipe holds is being written by somebody who stays.
    fn drain(&mut self) {
        for _ in 0..16 {
            self.listen(Duration::ZERO, false);
        }
        self.tell(|lines| lines.finish());
    }

    /// Sleeps until there is output, which it logs, or an exit if that is asked for.
    fn listen(&mut self, span: Duration, exit_too: bool) {
        let pipe = self.pipe.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN));
        let exit = self.exit.as_ref().filter(|_| exit_too).map(|exit| PollFd::new(exit, PollFlags::IN));
        let piped = pipe.is_some();
        let mut fds: Vec<PollFd<'_>> = pipe.into_iter().chain(exit).collect();
        let timeout = Timespec::try_from(span).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        let polled = poll(&mut fds, Some(&timeout));
        if !piped || polled.is_err() || fds.first().is_none_or(|pipe| pipe.revents().is_empty()) {
            return;
        }
        let mut bytes = [0; 4096];
        match self.pipe.as_mut().map(|pipe| pipe.read(&mut bytes)) {
            Some(Ok(count)) if count > 0 => self.tell(|lines| lines.feed(bytes.get(..count).unwrap_or_default())),
            Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => self.pipe = None,
        }
    }

    fn tell(&mut self, lines: impl FnOnce(&mut Lines) -> Vec<String>) {
        for line in lines(&mut self.lines) {
            log::info!("{}: {line}", self.program);
        }
    }

    /// Looks without reaping: until then nobody else can get the number.
    fn exited(&self) -> Option<WaitIdStatus> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.pid), look).ok().flatten()
    }

    fn exit_is_good(&self) -> bool {
        self.exited().and_then(|status| status.exit_status()) == Some(0)
    }
}

/// Cuts output into lines for the log: not too long, not too many, without control characters.
#[derive(Default)]
struct Lines {
    line: Vec<u8>,
    /// The line was longer than what is kept of it.
    cut: bool,
    count: usize,
}

const LONGEST: usize = 1024;
const MOST: usize = 100;

impl Lines {
    fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut done = Vec::new();
        if self.count > MOST {
            return done;
        }
        for byte in bytes {
            match byte {
                b'\n' => done.extend(self.finish()),
                _ if self.line.len() < LONGEST => self.line.push(*byte),
                _ => self.cut = true,
            }
        }
        done
    }

    /// The line so far, unless it is empty.
    fn finish(&mut self) -> Vec<String> {
        let line = std::mem::take(&mut self.line);
        let cut = std::mem::take(&mut self.cut);
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if text.is_empty() {
            return Vec::new();
        }
        self.count = self.count.saturating_add(1);
        if self.count > MOST {
            return if self.count == MOST + 1 { vec!["… more".into()] } else { Vec::new() };
        }
        let mut shown = String::with_capacity(text.len());
        for c in text.chars() {
            if c == '\t' { shown.push(c) } else { tame::put(&mut shown, c) }
        }
        if cut {
            shown.push('…');
        }
        vec![shown]
    }
}

/// The body of a fuzz target: however output comes in pieces, it is logged as the same lines, each of them one.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let (cut, bytes) = bytes.split_first().map_or((0, bytes), |(cut, rest)| (usize::from(*cut), rest));
    let [mut whole, mut pieces] = [Lines::default(), Lines::default()];
    let mut shown = whole.feed(bytes);
    shown.extend(whole.finish());
    let (one, other) = bytes.split_at_checked(cut).unwrap_or((bytes, &[]));
    let again = [pieces.feed(one), pieces.feed(other), pieces.finish()].concat();
    assert_eq!(shown, again);
    assert!(shown.len() <= MOST + 1);
    for line in shown {
        assert!(!line.contains(|c: char| tame::is_odd(c) && c != '\t') && !line.is_empty(), "{line:?}");
        // The longest that a byte becomes is `\u{7f}`; three of them, `\u{2028}`.
        assert!(line.len() <= 6 * LONGEST + '…'.len_utf8());
    }
}

fn unstarted(program: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound if Path::new(program).exists() => {
            "its interpreter was not found: see its first line".into()
        }
        io::ErrorKind::NotFound if program.contains('/') => "not found".into(),
        io::ErrorKind::NotFound => "not found in PATH; give its full path".into(),
        io::ErrorKind::PermissionDenied if Path::new(program).is_dir() => "a folder, not a program".into(),
        io::ErrorKind::PermissionDenied => "not executable; chmod +x makes it so".into(),
        _ if Errno::from_io_error(error) == Some(Errno::NOEXEC) => {
            "not a program: a script needs a first line like #!/bin/sh".into()
        }
        _ => error.to_string(),
    }
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_into_lines() {
        let mut lines = Lines::default();
        assert_eq!(lines.feed(b"one\ntw"), ["one"]);
        assert_eq!(lines.feed(b"o\r\n\n  \n\x1b[1mthree\x00\xff"), ["two"]);
        assert_eq!(lines.finish(), ["\\u{1b}[1mthree\\u{0}\u{fffd}"]);
        assert_eq!(lines.finish(), [""; 0]);
        assert_eq!(lines.feed("four\u{202e}\u{2028}\tfive\n".as_bytes()), ["four\\u{202e}\\u{2028}\tfive"]);
    }

    #[test]
    fn output_is_bounded() {
        let mut lines = Lines::default();
        let long = lines.feed(&[b"x".repeat(5000), b"\ny\n".to_vec()].concat());
        assert_eq!(long, [format!("{}…", "x".repeat(1024)), "y".into()]);
        assert_eq!(lines.feed(&b"z\n".repeat(500)).len(), 99, "98 lines and the word that there are more");
        assert_eq!(lines.feed(b"z\n"), [""; 0]);
    }
}
