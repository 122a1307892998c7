//! A device with edgemd on it: its configuration, its store, its exports, and the verbs.

use super::ca::Ca;
use super::cert::{self, Facts};
use super::child::Child;
use super::{Folder, LATER, SOON, listing, program, until};
use rustix::process::Signal;
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

pub struct Device {
    daemon: Option<Child>,
    base: Vec<(&'static str, String)>,
    config: String,
    runs: usize,
    pub folder: Folder,
}

/// How a verb ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Device {
    /// A device whose CA is this one; nothing is written before [`Device::write`].
    pub fn new(ca: &Ca) -> Self {
        let mut device = Self::with(ca.directory(), &ca.root());
        device.set("MDPortMap", format!("http:{} https:-", ca.http.number()));
        device
    }

    /// The same for any CA: its directory, and the trust root for talking to it.
    pub fn with(directory: String, root: &Path) -> Self {
        let folder = Folder::new("device");
        let base = vec![
            ("MDCertificateAuthority", directory),
            ("MDCACertificateFile", root.display().to_string()),
            ("MDCertificateAgreement", "accepted".into()),
            ("MDContactEmail", "admin@example.org".into()),
            ("MDInitialDelay", "0".into()),
            ("MDRetryDelay", "1s".into()),
            ("MDStoreDir", folder.join("store").display().to_string()),
            ("MDControlSocket", folder.join("control.sock").display().to_string()),
            ("MDExport", format!("{} combined", folder.join("export").display())),
        ];
        Self { daemon: None, base, config: String::new(), runs: 0, folder }
    }

    /// Another value for a directive that every configuration here begins with; an empty one leaves it out.
    pub fn set(&mut self, directive: &'static str, value: impl Into<String>) {
        self.base.retain(|(known, _)| *known != directive);
        let value = value.into();
        if !value.is_empty() {
            self.base.push((directive, value));
        }
    }

    /// Writes the configuration: what [`Device::new`] knows, then this.
    pub fn write(&mut self, text: &str) {
        let lines: String = self.base.iter().map(|(directive, value)| format!("{directive} {value}\n")).collect();
        self.write_whole(&format!("{lines}{text}\n"));
    }

    pub fn write_whole(&mut self, text: &str) {
        self.config = text.to_owned();
        self.folder.put("edgemd.conf", text);
    }

    /// Writes the configuration and starts the daemon.
    #[track_caller]
    pub fn start_with(&mut self, text: &str) {
        self.write(text);
        self.start();
    }

    /// Starts the daemon and waits until it answers.
    #[track_caller]
    pub fn start(&mut self) {
        assert!(self.daemon.is_none(), "the daemon runs already");
        let mut command = self.command(&["run"]);
        let daemon = Child::start(&self.folder, "edgemd", &mut command);
        self.runs(daemon);
    }

    /// Takes a daemon that was started in another way, with its log in the same place, and waits until it answers.
    #[track_caller]
    pub fn adopt(&mut self, process: std::process::Child) {
        let daemon = Child::adopt(&self.folder, "edgemd", process);
        self.runs(daemon);
    }

    #[track_caller]
    fn runs(&mut self, mut daemon: Child) {
        let socket = self.folder.join("control.sock");
        self.runs += 1;
        // Held by the device at once, so that a failure below shows its log.
        let ready = until("the daemon answers", SOON, || match daemon.ended() {
            Some(status) => Some(Err(status)),
            None => UnixStream::connect(&socket).ok().map(Ok),
        });
        match ready {
            Ok(_) => self.daemon = Some(daemon),
            Err(status) => panic!("the daemon ended at once: {status}\n{}", daemon.log()),
        }
    }

    /// A start that is expected to fail.
    #[track_caller]
    pub fn fails_to_start(&self) -> Said {
        self.run(&["run"])
    }

    /// SIGTERM, and how it ended.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        let mut daemon = self.daemon.take().expect("a daemon that runs");
        daemon.stop()
    }

    /// SIGKILL: what a power cut is for the process.
    pub fn kill(&mut self) {
        self.daemon.take().expect("a daemon that runs").kill();
    }

    pub fn signal(&mut self, signal: Signal) {
        self.daemon.as_mut().expect("a daemon that runs").signal(signal);
    }

    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon that runs").pid()
    }

    /// Writes another configuration and has it read.
    #[track_caller]
    pub fn reload_with(&mut self, text: &str) {
        self.write(text);
        let said = self.run(&["reload"]);
        assert_eq!(said.code, Some(0), "reload: {said:?}");
    }

    /// A verb on this device, bounded in time.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> Said {
        let Output { status, stdout, stderr } = bounded(&mut self.command(words), LATER);
        Said { code: status.code(), out: text(stdout), err: text(stderr) }
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program());
        let (verb, rest) = words.split_first().expect("a verb");
        command.arg(verb).arg("-f").arg(self.folder.join("edgemd.conf")).args(rest);
        command.current_dir(self.folder.path());
        command
    }

    #[track_caller]
    pub fn status(&self) -> Value {
        let said = self.run(&["status", "--json"]);
        serde_json::from_str(&said.out).unwrap_or_else(|why| panic!("status --json: {why}\n{said:?}"))
    }

    /// The status of one MD; null while there is none.
    #[track_caller]
    pub fn md(&self, name: &str) -> Value {
        let status = self.status();
        let mut mds = status["managed-domains"].as_array().into_iter().flatten();
        mds.find(|md| md["name"] == name).cloned().unwrap_or_default()
    }

    /// What the daemon says to `GET` on its control socket: the head, and the body.
    #[track_caller]
    pub fn ask(&self, path: &str) -> (String, Value) {
        let mut stream = UnixStream::connect(self.folder.join("control.sock")).expect("the control socket");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        (head.to_owned(), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// Waits until there is nothing more to do for this MD, and says what it looks like then.
    #[track_caller]
    pub fn complete(&self, name: &str) -> Value {
        let mut last = Value::Null;
        until(&format!("{name} is complete"), LATER, || {
            last = self.md(name);
            (last["state"] == 2 && last["renew"] != true && idle(&last)).then(|| last.clone())
        })
    }

    /// Waits until trying has failed this often.
    #[track_caller]
    pub fn errors(&self, name: &str, count: u64) -> Value {
        until(&format!("{name} has failed {count} times"), LATER, || {
            let md = self.md(name);
            (md["renewal"]["errors"].as_u64() >= Some(count)).then_some(md)
        })
    }

    /// Waits for a line in the daemon's log.
    #[track_caller]
    pub fn logs(&self, part: &str) {
        until(&format!("the log says \"{part}\""), LATER, || self.log().contains(part).then_some(()));
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("edgemd.log")).unwrap_or_default()
    }

    /// The exported certificate of an MD, with a key that belongs to it.
    #[track_caller]
    pub fn exported(&self, name: &str) -> Facts {
        cert::read_pair(&self.export(&format!("{name}.crt")), &self.export(&format!("{name}.key")))
    }

    pub fn export(&self, file: &str) -> PathBuf {
        self.folder.join("export").join(file)
    }

    /// A hook that writes its arguments, the program's name included, into a file, one call a line.
    pub fn ear(&self, code: u8) -> Ear {
        let heard = self.folder.join("heard");
        let body = format!("echo \"$0 $*\" >>'{}'\nexit {code}", heard.display());
        Ear { program: self.folder.script("ear", &body), heard }
    }
}

/// What a notify command has been told.
pub struct Ear {
    pub program: PathBuf,
    heard: PathBuf,
}

impl Ear {
    pub fn heard(&self) -> Vec<String> {
        std::fs::read_to_string(&self.heard).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let command = self.command(&["run"]);
            let (log, files) = (self.log(), listing(self.folder.path()));
            eprintln!("--- command (started {} times)\n{command:?}\n--- configuration\n{}", self.runs, self.config);
            eprintln!("--- log\n{log}\n--- files\n{files}");
        }
    }
}

/// Without a `renewal`, or with one whose work is done.
fn idle(md: &Value) -> bool {
    let renewal = &md["renewal"];
    renewal.is_null() || (renewal["finished"] == true && renewal["notified"] == true)
}

/// Runs a program to its end, which has to come within the limit.
#[track_caller]
pub fn bounded(command: &mut Command, limit: Duration) -> Output {
    use std::process::Stdio;
    use std::thread;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|why| panic!("starting {command:?}: {why}"));
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let drain = |pipe: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.expect("a pipe was asked for").read_to_end(&mut bytes);
            bytes
        })
    };
    let out = drain(out.map(|pipe| Box::new(pipe) as _));
    let err = drain(err.map(|pipe| Box::new(pipe) as _));
    let end = std::time::Instant::now() + limit;
    let status = loop {
        match child.try_wait().expect("a child of ours") {
            Some(status) => break status,
            None if std::time::Instant::now() > end => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{command:?}: no end within {} s", limit.as_secs());
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    Output { status, stdout: out.join().expect("a reader"), stderr: err.join().expect("a reader") }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The mode bits of a file.
#[track_caller]
pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    let meta = std::fs::metadata(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    meta.permissions().mode() & 0o7777
}
