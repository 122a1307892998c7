//! The binary as a person and a service manager meet it: words, exit codes, messages, signals, files and their modes.

mod harness;

use edgemd::doors::disk::SystemDisk;
use edgemd::house::boot;
use edgemd::house::store::Store;
use edgemd::words::cert::{Bundle, Held, Slot};
use edgemd::words::name::{Labels, Name};
use edgemd::words::time::{Span, Unix};
use harness::child::{Child, Port};
use harness::{Folder, SOON, program, until};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What a run said: exit code, stdout, stderr.
fn said(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn edgemd(args: &[&str]) -> (Option<i32>, String, String) {
    said(Command::new(program()).args(args).stdin(Stdio::null()).output().expect("the program starts"))
}

/// A folder with a configuration, a port for it, and perhaps a daemon.
struct Site {
    folder: Folder,
    port: Port,
    /// A CA that takes connections and says nothing.
    ca: TcpListener,
}

impl Site {
    fn new() -> Self {
        let ca = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let site = Self { folder: Folder::new("cli"), port: Port::reserve(), ca };
        site.write("MDDriveMode manual\nMDomain a.example\n");
        site
    }

    /// Writes the configuration: a place for everything, then this.
    fn write(&self, text: &str) {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let ca = self.ca.local_addr().expect("a bound socket");
        let base = format!(
            "MDStoreDir {}\nMDControlSocket {}\nMDPortMap http:{} https:-\nMDInitialDelay 0\n\
             MDCertificateAgreement accepted\nMDCertificateAuthority http://{ca}/directory\n",
            at("store"),
            at("run/control.sock"),
            self.port.number(),
        );
        self.folder.put("conf", &(base + text));
    }

    fn conf(&self) -> String {
        self.folder.join("conf").display().to_string()
    }

    fn run(&self, verb: &str, args: &[&str]) -> (Option<i32>, String, String) {
        edgemd(&[&[verb, "-f", &self.conf()], args].concat())
    }

    /// Starts a daemon and waits until it can be asked.
    fn daemon(&self) -> Child {
        let mut child = Child::start(&self.folder, "edgemd", Command::new(program()).args(["run", "-f", &self.conf()]));
        self.up(&mut child);
        child
    }

    fn up(&self, child: &mut Child) {
        until("the control socket", SOON, || {
            assert!(child.ended().is_none(), "it ended:\n{}", child.log());
            UnixStream::connect(self.folder.join("run/control.sock")).ok()
        });
    }

    /// Puts a pair into the store whose news are owed.
    fn hold(&self) {
        let since = fs::metadata(self.folder.path()).and_then(|about| about.modified()).expect("a time");
        let since = since.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        let since = Unix::from_secs(since);
        let name = Name::parse("a.example", Labels::Two).expect("a name");
        let held = Held {
            ca: format!("http://{}/directory", self.ca.local_addr().expect("a bound socket")),
            since,
            ..Held::sample(vec![name.clone()], since.minus(Span::hours(1)), since.plus(Span::days(89)))
        };
        let slot = Slot { md: name, family: "secp256r1" };
        let mut disk = SystemDisk;
        let (mut store, _) = Store::open(&self.folder.join("store"), None, &mut disk).expect("a store");
        store.put_cert(&mut disk, &slot, &held, &Bundle { key: vec![1].into(), chain: vec![vec![2]] }).expect("a disk");
    }

    fn mode(&self, name: &str) -> u32 {
        let path = self.folder.join(name);
        let about = fs::metadata(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        about.permissions().mode() & 0o7777
    }
}

#[test]
fn wrong_words_are_a_matter_of_usage() {
    for (args, why) in [
        (&["walk"][..], "unknown verb \"walk\"; see edgemd --help"),
        (&["run", "now"], "run: too many words; see edgemd --help"),
        (&["status", "a", "b"], "status: too many words; see edgemd --help"),
        (&["check", "--json"], "check does not know --json; see edgemd --help"),
        (&["reload", "--force"], "reload does not know --force; see edgemd --help"),
        (&["status", "--man"], "status does not know --man; see edgemd --help"),
        (&["account", "end"], "account does not know \"end\"; see edgemd --help"),
        (&["account", "deactivate", "a", "b"], "account: too many words; see edgemd --help"),
        (&["account", "roll", "a", "b"], "account: too many words; see edgemd --help"),
        (&["revoke"], "revoke: the name of the MD is missing; see edgemd --help"),
        (&["revoke", "a", "b"], "revoke: too many words; see edgemd --help"),
        (
            &["revoke", "a", "--reason", "boredom"],
            "\"boredom\" is no reason; there are unspecified, keyCompromise, affiliationChanged, superseded, \
             cessationOfOperation; see edgemd --help",
        ),
        (&["renew", "--reason", "superseded"], "renew does not know --reason; see edgemd --help"),
        (&["account", "--json"], "account does not know --json; see edgemd --help"),
        (&["renew", "--yes"], "renew does not know --yes; see edgemd --help"),
        (&["prune", "a.example"], "prune: too many words; see edgemd --help"),
        (&["--frob"], "invalid option '--frob'; see edgemd --help"),
        (&["check", "-f"], "missing argument for option '-f'; see edgemd --help"),
    ] {
        assert_eq!(edgemd(args), (Some(2), String::new(), format!("{why}\n")), "{args:?}");
    }
    let (code, out, err) = edgemd(&[]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("edgemd run") && err.contains("exit codes"), "{err}");
    let (code, out, err) = edgemd(&["--help"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("edgemd run"), "{out}");
    assert_eq!(edgemd(&["--version"]), (Some(0), format!("edgemd {}\n", env!("CARGO_PKG_VERSION")), String::new()));
}

#[test]
fn directives_come_from_the_table_in_three_forms() {
    use edgemd::rules::conf::table::DIRECTIVES;
    let forms = [&["directives"][..], &["directives", "--json"], &["directives", "--man"]];
    let [plain, json, man] = forms.map(|args| {
        let (code, out, err) = edgemd(args);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{args:?}");
        for row in DIRECTIVES {
            assert!(
                out.replace("\\-", "-").contains(row.name.trim_end_matches('>')),
                "{} is not in {args:?}",
                row.name
            );
        }
        out
    });
    assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok_and(|json| !json.is_null()), "{json}");
    assert!(man.contains(".TH ") && !plain.contains(".TH "), "{man}");
}

/// `man` shows them as they are meant: groff has nothing to complain of.
#[test]
fn man_pages_are_rendered_without_a_warning() {
    let verbs = concat!(env!("CARGO_MANIFEST_DIR"), "/board/raspberrypi/root/usr/share/man/man8/edgemd.8");
    let pages = [edgemd(&["directives", "--man"]).1, fs::read_to_string(verbs).expect("a page")];
    for (page, words) in pages.iter().zip([["MDRetryFailover", "Example:"], ["import", "prune"]]) {
        let mut groff = Command::new("groff")
            .args(["-man", "-Tascii", "-P-cbou", "-ww"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("groff; tests/setup/packages test installs it");
        let mut input = groff.stdin.take().expect("a pipe");
        let text = page.clone();
        let feeding = std::thread::spawn(move || input.write_all(text.as_bytes()));
        let (code, out, err) = said(groff.wait_with_output().expect("its end"));
        feeding.join().expect("no panic").expect("a pipe");
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(words.iter().all(|word| out.contains(word)) && out.lines().count() > 60, "{out}");
    }
}

#[test]
fn check_says_every_fault_or_what_would_happen() {
    let site = Site::new();
    site.write("MDPrivateKeys P-256 RSA 2048\nMDomain a.example b.example\nMDomain c.example\n");
    let ca = site.ca.local_addr().unwrap();
    let would = |names: &str| format!("would order {names} from http://{ca}/directory: there is no certificate");
    let lines = format!(
        "configuration is fine\na.example [P-256]: {ab}\na.example [RSA 2048]: {ab}\nc.example [P-256]: {c}\nc.example [RSA 2048]: {c}\n",
        ab = would("a.example, b.example"),
        c = would("c.example"),
    );
    assert_eq!(site.run("check", &[]), (Some(0), lines, String::new()));
    assert!(!site.folder.join("store").exists() && !site.folder.join("run").exists(), "it only looks");

    site.hold();
    site.write("MDNotifyCmd /bin/true\nMDomain a.example\n<MDomainSet c.example>\nMDDriveMode manual\n</MDomainSet>\n");
    let (_, out, _) = site.run("check", &[]);
    assert!(out.contains("a.example [P-256]: would write the exports and run the notification\n"), "{out}");
    assert!(out.contains("c.example [P-256]: is not driven: "), "{out}");

    let nowhere =
        "MDCACertificateFile /no/ca.pem\nMDNotifyCmd /no/reload now\nMDMessageCmd /bin/true\nMDomain a.example\n";
    site.write(nowhere);
    let (_, out, _) = site.run("check", &[]);
    let lines: Vec<&str> = out.lines().filter(|line| line.contains("no such file")).collect();
    let told = ["MDCACertificateFile /no/ca.pem", "MDNotifyCmd /no/reload"];
    assert_eq!(lines, told.map(|named| format!("a.example: {named}: there is no such file")));

    site.write("MDPortMap http:99 https:-\nListen 8080 http\nMDomain c.example\n");
    let (code, out, _) = site.run("check", &[]);
    let why = "c.example [P-256]: could not order c.example: None of the ACME challenge methods configured for this domain are \
        suitable. tls-alpn-01: port 443 does not arrive here (MDPortMap https:-); http-01: port 80 arrives on port 99 ";
    assert!(code == Some(0) && out.contains(why), "{out}");

    site.write("MDRenewWindwo 10\nMDomain\n");
    let conf = site.conf();
    for verb in ["check", "run", "once", "renew", "status", "reload"] {
        let (code, out, err) = site.run(verb, &[]);
        assert_eq!((code, out.as_str()), (Some(78), ""), "{verb}: {err}");
        assert!(
            err.contains(&format!("{conf}:7:1: unknown directive \"MDRenewWindwo\"; did you mean")),
            "{verb}: {err}"
        );
        assert!(err.contains(&format!("{conf}:8:1: MDomain needs at least one domain name")), "{verb}: {err}");
    }
    let missing = site.folder.join("none").display().to_string();
    let (code, _, err) = edgemd(&["check", "-f", &missing]);
    assert_eq!((code, err), (Some(78), format!("{missing}:1:1: can't be read: no such file or directory\n")));
}

#[test]
fn check_knows_what_was_tried() {
    let site = Site::new();
    site.write("<MDomain a.example>\nMDCertificateAuthority http://127.0.0.1:1/directory\n</MDomain>\n");
    let (_, before, _) = site.run("check", &[]);
    assert!(before.contains("a.example [P-256]: would order a.example"), "{before}");
    assert_eq!(site.run("once", &[]).0, Some(1));
    let (_, after, _) = site.run("check", &[]);
    assert!(after.contains("a.example [P-256]: has nothing to do until "), "{after}");
}

#[test]
fn check_says_what_it_could_not_read_in_the_store() {
    let site = Site::new();
    let place = site.folder.join("store/certs/a.example");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("secp256r1.0"), "garbage").unwrap();
    let (code, out, _) = site.run("check", &[]);
    assert_eq!(code, Some(0));
    let said = out.lines().find(|line| line.contains("secp256r1.0: ")).unwrap_or_else(|| panic!("{out}"));
    assert!(!said.contains("set aside as"), "it was only looked at: {said}");
    assert!(place.join("secp256r1.0").exists());
}

#[test]
fn without_a_daemon_there_is_nobody_to_ask() {
    let site = Site::new();
    let socket = site.folder.join("run/control.sock").display().to_string();
    for verb in ["status", "reload"] {
        let text = format!("asking the daemon: no daemon at {socket}\n");
        assert_eq!(site.run(verb, &[]), (Some(1), String::new(), text), "{verb}");
    }
    let (code, _, err) = site.run("renew", &["other.example"]);
    assert_eq!((code, err), (Some(1), format!("there is no MD \"other.example\" in {}\n", site.conf())));
}

#[test]
fn a_taken_port_is_69_and_says_who_has_it() {
    let site = Site::new();
    let _taken = TcpListener::bind(("0.0.0.0", site.port.number())).expect("a reserved port");
    for verb in ["run", "once"] {
        let (code, _, err) = site.run(verb, &[]);
        assert_eq!(code, Some(69), "{verb}: {err}");
        assert!(err.contains(&format!(":{}: ", site.port.number())), "{verb}: {err}");
        assert!(err.contains(&format!("(pid {})", std::process::id())), "{verb}: {err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
}

#[test]
fn a_second_daemon_is_refused_with_the_pid_of_the_first() {
    let site = Site::new();
    site.write("MDStoreLocks 200ms\nMDDriveMode manual\nMDomain a.example\n");
    let mut first = site.daemon();
    for verb in ["run", "once"] {
        let (code, _, err) = site.run(verb, &[]);
        assert_eq!(code, Some(69), "{verb}: {err}");
        assert!(err.contains(&format!("another edgemd with process id {} is at work", first.pid())), "{verb}: {err}");
    }
    assert_eq!(
        site.run("status", &[]).1,
        "a.example [P-256]: no certificate; not renewed by itself (MDDriveMode manual)\n    \
         what to do: set MDDriveMode auto, or `edgemd import` one that another program has\n"
    );
    assert_eq!(first.stop().code(), Some(0));
    assert!(!site.folder.join("run/control.sock").exists());
}

/// A new daemon is started before the old one is quite gone: it waits its turn.
#[test]
fn md_820_001_a_store_that_is_about_to_be_free_is_waited_for() {
    let site = Site::new();
    site.write("MDStoreLocks 1mi\nMDDriveMode manual\nMDomain a.example\n");
    let mut first = site.daemon();
    let waits = format!("another edgemd with process id {} is at work in the store; waiting up to 1m", first.pid());
    let mut second = Child::start(&site.folder, "second", Command::new(program()).args(["run", "-f", &site.conf()]));
    until("the second one waits", SOON, || second.log().contains(&waits).then_some(()));
    assert_eq!(first.stop().code(), Some(0));
    site.up(&mut second);
    assert_eq!(second.stop().code(), Some(0));
}

/// With `MDStoreLocks off` and nothing to drive there is no lock, and nothing is written; a reload that would drive needs
/// the lock, and is refused while another daemon has it.
#[test]
fn md_820_002_a_node_that_only_reads_stands_beside_the_one_that_writes() {
    let site = Site::new();
    site.hold();
    let mut writer = site.daemon();
    let beside = Site::new();
    let (mine, theirs) = [&beside, &site].map(|site| site.folder.join("store").display().to_string()).into();
    let (silent, ca) = [&beside, &site].map(|site| site.ca.local_addr().expect("a bound socket").to_string()).into();
    let conf = |more: &str| {
        beside.write(more);
        let text = fs::read_to_string(beside.conf()).expect("our own file");
        beside.folder.put("conf", &text.replace(&mine, &theirs).replace(&silent, &ca));
    };
    conf("MDStoreLocks off\nMDDriveMode manual\nMDomain a.example\n");
    let mut reader = beside.daemon();
    let (code, out, _) = beside.run("status", &[]);
    assert!(code == Some(0) && out.starts_with("a.example [P-256]: certificate until "), "{code:?} {out}");
    conf("MDStoreLocks off\nMDomain a.example\n");
    let (code, out, _) = beside.run("reload", &[]);
    let why = format!("another edgemd with process id {} is at work in this store", writer.pid());
    assert!(code == Some(1) && out.contains(&why), "{code:?} {out}");
    assert_eq!(beside.run("status", &[]).0, Some(0), "what is held is shown and served");
    assert_eq!(writer.stop().code(), Some(0));
    let (code, out, _) = beside.run("reload", &[]);
    assert_eq!((code, out.as_str()), (Some(0), "configuration reloaded: 1 MD\n"));
    let (code, _, err) = site.run("once", &[]);
    assert!(code == Some(69) && err.contains(&format!("process id {} ", reader.pid())), "now it has the lock: {err}");
    conf("MDStoreLocks off\nMDDriveMode manual\nMDomain a.example\n");
    let (_, out, _) = beside.run("reload", &[]);
    assert_eq!(out, "configuration reloaded: 1 MD; MDStoreLocks off takes effect at the next start\n");
    assert_eq!(reader.stop().code(), Some(0));
}

/// Each verb that would change something says why it does not; the others are answered.
#[test]
fn a_daemon_that_only_reads_changes_nothing() {
    let site = Site::new();
    site.hold();
    site.write("MDStoreLocks off\nMDDriveMode manual\nMDCAChallenges dns-persist-01\nMDomain a.example\n");
    let mut daemon = site.daemon();
    let refused = (1, "the store is only read here (MDStoreLocks off); do it where the store is written");
    for (verb, args, (code, says)) in [
        ("revoke", &["a.example"][..], refused),
        ("revoke", &["a.example", "--reason", "superseded"], refused),
        ("account", &["roll"], refused),
        ("account", &["deactivate"], refused),
        ("prune", &["--yes"], refused),
        ("dns", &[], refused),
        ("dns", &["other.example"], (1, "there is no MD \"other.example\"")),
        ("dns", &["other..example"], (1, "other..example")),
        ("account", &[], (0, "there is no account")),
        ("clock-set", &[], (0, "the clock is looked at again")),
        ("link-up", &[], (0, "what waits for the net is tried again")),
    ] {
        let (found, out, err) = site.run(verb, args);
        assert!(found == Some(code) && out.contains(says), "{verb} {args:?}: {found:?} {out}{err}");
    }
    assert_eq!(daemon.stop().code(), Some(0));
    let log = daemon.log();
    assert!(!log.contains("ERROR") && site.folder.join("store/certs/a.example").exists(), "{log}");
}

#[test]
fn a_store_that_can_t_be_is_69() {
    let site = Site::new();
    site.folder.put("store", "a file");
    let (code, _, err) = site.run("run", &[]);
    assert_eq!(code, Some(69), "{err}");
    assert!(err.contains(&site.folder.join("store").display().to_string()), "{err}");
}

#[test]
fn md_300_031_garbage_in_the_store_is_set_aside_and_the_rest_is_served() {
    let site = Site::new();
    site.hold();
    site.write("MDDriveMode manual\nMDomain a.example\nMDomain b.example\n");
    let place = site.folder.join("store/certs/b.example");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("secp256r1.0"), "garbage").unwrap();
    let mut daemon = site.daemon();
    let (code, out, _) = site.run("status", &[]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("a.example [P-256]: certificate until "), "{out}");
    assert!(out.contains("b.example [P-256]: no certificate"), "{out}");
    assert!(daemon.log().contains("set aside as"), "{}", daemon.log());
    assert!(place.join("secp256r1.0.bad").exists());
    assert_eq!(daemon.stop().code(), Some(0));
}

/// The file was edited and is faulty now: the daemon that runs with the old one can be asked all the same.
#[test]
fn a_faulty_file_does_not_hide_the_daemon_that_runs() {
    let site = Site::new();
    site.hold();
    let mut daemon = site.daemon();
    site.write("MDDriveMode manual\nMDRenewWindwo 10\nMDomain a.example\n");
    let fault = format!("{}:8:1: unknown directive", site.conf());
    let (code, out, err) = site.run("status", &[]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("a.example [P-256]: certificate until "), "{out}");
    let (code, out, err) = site.run("reload", &[]);
    assert_eq!(code, Some(1), "{err}");
    assert!(out.starts_with(&fault), "{out}");
    let (code, out, err) = site.run("renew", &["a.example"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(out.contains("MDDriveMode"), "{out}");
    // A reload is asked for twice in a row, by signal: each says its faults, and nothing has changed.
    daemon.signal(Signal::HUP);
    until("the second report", SOON, || (daemon.log().matches(&fault).count() >= 2).then_some(()));
    daemon.signal(Signal::HUP);
    until("the third report", SOON, || (daemon.log().matches(&fault).count() >= 3).then_some(()));
    assert_eq!(site.run("status", &[]).0, Some(0));
    assert_eq!(daemon.stop().code(), Some(0));
    assert_eq!(site.run("status", &[]).0, Some(78), "with nobody to ask, the faults are the answer");
}

/// In a machine that has booted just now as far as it can tell, by a clock that nobody keeps.
#[test]
fn after_a_boot_the_clock_is_doubted_until_somebody_sets_it() {
    const TEST: &str = "after_a_boot_the_clock_is_doubted_until_somebody_sets_it";
    let up = clock_gettime(ClockId::Boottime).tv_sec;
    let mut young = Command::new("unshare");
    young.args(["--time", "--boottime", &(10 - up).to_string()]);
    let mut probe = Command::new(young.get_program());
    let allowed = probe.args(young.get_args()).arg("true").output().is_ok_and(|ran| ran.status.success());
    let kept = Path::new("/run/systemd/timesync/synchronized").exists();
    if !allowed || kept {
        return harness::net::skipped(TEST, "it takes root, and a machine whose clock systemd has not set");
    }
    let site = Site::new();
    site.write("MDomain a.example\n");
    let start = |site: &Site| {
        let mut command = Command::new(young.get_program());
        command.args(young.get_args()).arg(program()).args(["run", "-f", &site.conf()]);
        let mut child = Child::start(&site.folder, "edgemd", &mut command);
        site.up(&mut child);
        child
    };
    let shown = |site: &Site| site.run("status", &[]).1;
    const DOUBTED: &str = "waiting for the clock to be set";
    // An operator who says how long to wait after a start has thought of it.
    let mut daemon = start(&site);
    assert!(!shown(&site).contains(DOUBTED), "{}", shown(&site));
    daemon.stop();
    let text = fs::read_to_string(site.conf()).expect("a file").replace("MDInitialDelay 0\n", "");
    for ends_it in ["clock-set", "renew"] {
        site.folder.put("conf", &text);
        let mut daemon = start(&site);
        assert!(shown(&site).contains(DOUBTED), "{}", shown(&site));
        let asked = Child::start(&site.folder, ends_it, Command::new(program()).args([ends_it, "-f", &site.conf()]));
        until("the clock", SOON, || (!shown(&site).contains(DOUBTED)).then_some(()));
        drop(asked);
        daemon.stop();
    }
}

#[test]
fn a_new_md_can_be_asked_for_as_soon_as_the_reload_is_answered() {
    let site = Site::new();
    let mut daemon = site.daemon();
    site.write("MDDriveMode manual\nMDomain a.example\nMDomain new.example\n");
    let (code, out, _) = site.run("reload", &[]);
    assert_eq!((code, out.as_str()), (Some(0), "configuration reloaded: 2 MDs\n"));
    let (_, out, _) = site.run("renew", &["new.example"]);
    assert!(out.starts_with("new.example [P-256]: no certificate"), "{out}");
    assert_eq!(daemon.stop().code(), Some(0));
}

/// What can't be changed while the house stands is said to be so, to whoever asked and in the log.
#[test]
fn a_reload_says_what_takes_effect_at_the_next_start() {
    let site = Site::new();
    let mut daemon = site.daemon();
    let text = fs::read_to_string(site.conf()).expect("our own file");
    site.folder.put("conf", &text.replace("/store\n", "/elsewhere\n"));
    let (code, out, _) = site.run("reload", &[]);
    let said = "configuration reloaded: 1 MD; MDStoreDir takes effect at the next start\n";
    assert_eq!((code, out.as_str()), (Some(0), said));
    assert!(daemon.log().contains(said), "{}", daemon.log());
    assert!(!site.folder.join("elsewhere").exists());
    assert_eq!(daemon.stop().code(), Some(0));
    let mut daemon = site.daemon();
    assert!(site.folder.join("elsewhere/lock").exists());
    assert_eq!(daemon.stop().code(), Some(0));
}

/// The views of the control socket, for programs that speak HTTP.
#[test]
fn md_920_004_010_the_pages_of_the_control_socket() {
    use std::io::Read as _;
    let site = Site::new();
    site.hold();
    let mut daemon = site.daemon();
    let get = |path: &str| {
        let mut stream = UnixStream::connect(site.folder.join("run/control.sock")).expect("a daemon");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it listens");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.to_string(), body.to_string())
    };
    let (head, body) = get("/md-status?auto");
    assert!(head.contains("Content-Type: text/plain"), "{head}");
    let word = "ManagedCertificates";
    let of_certs = format!("{word}Total: 1\n{word}OK: 1\n{word}Renew: 0\n{word}Errored: 0\n{word}Ready: 0\n");
    let none = ["Total", "OK", "Renew", "Errored"].map(|word| format!("ManagedStaplings{word}: 0\n")).concat();
    assert_eq!(body, of_certs + &none);
    let (head, body) = get("/md-status");
    let all: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert!(head.contains("Content-Type: application/json"), "{head}");
    assert!(all["version"].is_string() && all["managed-domains"][0]["name"] == "a.example", "{body}");
    let (_, body) = get("/md-status/a.example");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&body).expect("JSON"), all["managed-domains"][0]);
    assert!(get("/md-status/b.example").0.starts_with("HTTP/1.0 404"));
    assert_eq!(daemon.stop().code(), Some(0));
}

/// Alone under the lock, or by the daemon that has it.
#[test]
fn prune_lists_and_with_yes_removes() {
    for alone in [true, false] {
        let site = Site::new();
        site.hold();
        site.write("MDDriveMode manual\nMDomain b.example\n");
        let mut daemon = (!alone).then(|| site.daemon());
        let record = site.folder.join("store/certs/a.example/secp256r1.0");
        let (code, out, err) = site.run("prune", &[]);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        let lines: Vec<&str> = out.lines().collect();
        assert!(lines[0].starts_with("a.example (secp256r1): the certificate until 20"), "{out}");
        assert!(lines[0].ends_with(", which is no longer configured"), "{out}");
        assert_eq!(lines[1], format!("    {}", record.display()));
        assert_eq!(lines[2], "nothing was removed; `edgemd prune --yes` removes these files");
        assert!(record.exists());
        let (code, out, err) = site.run("prune", &["--yes"]);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        assert!(out.starts_with("removed: a.example (secp256r1): the certificate until 20"), "{out}");
        assert!(!record.parent().unwrap().exists());
        assert_eq!(site.run("prune", &["--yes"]).1, "there is nothing to prune\n");
        if let Some(mut daemon) = daemon.take() {
            assert!(daemon.log().contains("removed: a.example"), "{}", daemon.log());
            assert_eq!(daemon.stop().code(), Some(0));
        }
    }
    let site = Site::new();
    site.write("MDControlSocket off\nMDStoreLocks 100ms\nMDDriveMode manual\nMDomain b.example\n");
    let conf = site.conf();
    let mut first = Child::start(&site.folder, "edgemd", Command::new(program()).args(["run", "-f", &conf]));
    until("the lock", SOON, || first.log().contains("listening on").then_some(()));
    let (code, _, err) = site.run("prune", &[]);
    assert!(code == Some(69) && err.contains(&format!("process id {} is at work", first.pid())), "{err}");
    assert_eq!(first.stop().code(), Some(0));
    site.write("MDStoreLocks off\nMDDriveMode manual\nMDomain b.example\n");
    let (code, _, err) = site.run("prune", &[]);
    assert!(code == Some(69) && err.contains("the store is only read here"), "{err}");
}

/// The keeper is in the midst of a call that nobody answers.
#[test]
fn a_stop_does_not_wait_for_a_ca_that_hangs() {
    let site = Site::new();
    site.write("MDomain a.example\n");
    let mut daemon = site.daemon();
    let (_line, _) = site.ca.accept().expect("the daemon calls");
    let mut gone = UnixStream::connect(site.folder.join("run/control.sock")).expect("a daemon");
    gone.write_all(b"renew\n").expect("it listens");
    drop(gone);
    let (code, out, _) = site.run("status", &[]);
    assert_eq!(code, Some(1), "{out}");
    let start = Instant::now();
    assert_eq!(daemon.stop().code(), Some(0), "{}", daemon.log());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}:\n{}", start.elapsed(), daemon.log());
}

#[test]
fn a_stop_ends_a_hook_that_hangs_with_all_of_its_group() {
    let site = Site::new();
    site.hold();
    let pid = site.folder.join("pid");
    let body = format!("trap '' TERM\nsleep 1000 &\necho $! >{0}.new\nmv {0}.new {0}\nwait\nsleep 1000", pid.display());
    let hook = site.folder.script("hook", &body);
    site.write(&format!("MDDriveMode manual\nMDNotifyCmd {}\nMDomain a.example\n", hook.display()));
    let mut daemon = site.daemon();
    let child = until("the hook", SOON, || fs::read_to_string(&pid).ok());
    let start = Instant::now();
    assert_eq!(daemon.stop().code(), Some(0), "{}", daemon.log());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}:\n{}", start.elapsed(), daemon.log());
    let alive = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    until("the end of the hook's child", SOON, || (!alive()).then_some(()));
}

/// While one hook hangs, for as long as it may, whoever asks is answered, and a reload is in force.
#[test]
fn a_hook_that_hangs_keeps_nobody_waiting() {
    let site = Site::new();
    site.hold();
    let begun = site.folder.join("begun");
    let hook = site.folder.script("hook", &format!("trap '' TERM\necho $$ >>'{}'\nsleep 1000", begun.display()));
    let text = format!("MDDriveMode manual\nMDNotifyCmd {}\nMDomain a.example\n", hook.display());
    site.write(&text);
    let mut daemon = site.daemon();
    until("the hook", SOON, || begun.exists().then_some(()));
    let mut slowest = Duration::ZERO;
    site.write(&format!("{text}MDomain b.example\n"));
    for (verb, part) in [("status", "a.example"), ("clock-set", "looked at"), ("reload", "reloaded: 2 MDs")] {
        let start = Instant::now();
        let (_, out, err) = site.run(verb, &[]);
        assert!(out.contains(part), "{verb}: {out}{err}");
        slowest = slowest.max(start.elapsed());
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert_eq!(fs::read_to_string(&begun).expect("begun").lines().count(), 1, "it hangs all the while");
    let start = Instant::now();
    assert_eq!(daemon.stop().code(), Some(0));
    println!("a verb takes {slowest:?} at most, the stop {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

/// Over a real wire: a date counts from the CA's own clock, however wrong ours is, and a changed configuration does not
/// forgive what the CA asked for.
#[test]
fn a_ca_that_is_busy_until_a_date_is_left_alone() {
    let site = Site::new();
    site.write("MDRetryDelay 100ms\nMDomain a.example\n");
    let mut daemon = site.daemon();
    let (mut call, _) = site.ca.accept().expect("it calls");
    let mut head = [0; 4096];
    assert!(call.read(&mut head).expect("a request") > 0);
    let answer = "HTTP/1.1 503 Service Unavailable\r\nDate: Tue, 24 Nov 2026 03:10:00 GMT\r\n\
        Retry-After: Tue, 24 Nov 2026 05:10:00 GMT\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
    call.write_all(answer.as_bytes()).expect("it listens");
    let said = until("the refusal", SOON, || {
        let (_, out, _) = site.run("status", &[]);
        out.contains("failed once").then_some(out)
    });
    assert!(said.contains("reading the directory: unexpected-answer: the CA answered 503 without a problem"), "{said}");
    let (_, json, _) = site.run("status", &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let next = json["managed-domains"][0]["renewal"]["next-run"].as_str().and_then(Unix::from_http_date);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let wait = next.expect("a date").since(Unix::from_secs(now));
    assert!(wait > Span::mins(115) && wait <= Span::hours(2).percent(110), "{wait}");
    site.write("MDRetryDelay 100ms\nMDomain a.example b.example\n");
    assert_eq!(site.run("reload", &[]).0, Some(0));
    let (code, out, _) = site.run("renew", &["a.example"]);
    assert_eq!(code, Some(1), "{out}");
    site.ca.set_nonblocking(true).expect("a socket");
    assert!(site.ca.accept().is_err(), "nobody called again");
    daemon.stop();
}

/// A single pass that was interrupted did not do what it was there for.
#[test]
fn once_that_is_interrupted_has_failed() {
    let site = Site::new();
    site.write("MDomain a.example\n");
    let mut once = Child::start(&site.folder, "once", Command::new(program()).args(["once", "-f", &site.conf()]));
    let (_line, _) = site.ca.accept().expect("it calls");
    assert_eq!(once.stop().code(), Some(1), "{}", once.log());
}

#[test]
fn once_does_not_need_anybody_to_read_what_it_says() {
    let site = Site::new();
    site.write("MDomain a.example\n");
    drop(site.ca.try_clone());
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    // The CA is one that refuses connections: the end comes at once.
    let closed = TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.local_addr()).expect("a port");
    site.write(&format!("MDCertificateAuthority http://{closed}/directory\nMDomain a.example\n"));
    let output = Command::new(program()).args(["once", "-f", &site.conf()]).stdout(writer).output().expect("it starts");
    assert_eq!(said(output).0, Some(1), "not a panic");
}

/// Whatever the service manager's umask, nobody reads our secrets, and nobody who may use the socket is kept out.
#[test]
fn modes_do_not_depend_on_the_umask() {
    for umask in ["000", "022", "077", "177"] {
        let site = Site::new();
        site.hold();
        let dir = site.folder.join("export/web").display().to_string();
        let fails = "MDRetryDelay 100ms\nMDNotifyCmd /bin/false\n";
        site.write(&format!("MDDriveMode manual\nMDExport {dir} combined\n{fails}MDomain a.example\n"));
        let line = format!("umask {umask}; exec {} run -f {}", program().display(), site.conf());
        let mut daemon = Child::start(&site.folder, "edgemd", Command::new("/bin/sh").args(["-c", &line]));
        site.up(&mut daemon);
        until("the state", SOON, || site.folder.join("run/state").exists().then_some(()));
        for (name, mode) in [
            ("store", 0o700),
            ("store/lock", 0o600),
            ("store/certs/a.example/secp256r1.0", 0o600),
            ("run", 0o755),
            ("run/control.sock", 0o660),
            ("run/state", 0o600),
            ("export", 0o755),
            ("export/web", 0o755),
            ("export/web/a.example.crt", 0o644),
            ("export/web/a.example.key", 0o600),
            ("export/web/a.example.pem", 0o600),
        ] {
            assert_eq!(site.mode(name), mode, "{name} under umask {umask}");
        }
        assert_eq!(daemon.stop().code(), Some(0));
    }
}

/// What a hook makes is no more open than whoever started the daemon wants it.
#[test]
fn hooks_have_a_umask_that_is_no_laxer_than_ours() {
    for (umask, seen) in [("000", "0022"), ("027", "0027"), ("077", "0077"), ("777", "0077")] {
        let site = Site::new();
        site.hold();
        let file = site.folder.join("umask");
        let hook = site.folder.script("hook", &format!("umask >'{0}.new'; mv '{0}.new' '{0}'", file.display()));
        site.write(&format!("MDDriveMode manual\nMDNotifyCmd {}\nMDomain a.example\n", hook.display()));
        let line = format!("umask {umask}; exec {} run -f {}", program().display(), site.conf());
        let mut daemon = Child::start(&site.folder, "edgemd", Command::new("/bin/sh").args(["-c", &line]));
        site.up(&mut daemon);
        let said = until("the hook", SOON, || fs::read_to_string(&file).ok());
        assert_eq!(said.trim(), seen, "under {umask}");
    }
}

/// As ssh does with a key: what others could have read is nobody's secret any more.
#[test]
fn a_store_that_is_open_to_others_is_refused() {
    let site = Site::new();
    site.hold();
    let store = site.folder.join("store");
    for mode in [0o755, 0o710, 0o701, 0o770] {
        fs::set_permissions(&store, fs::Permissions::from_mode(mode)).expect("our own folder");
        let remedy =
            format!("opening the store {0}: it is open to others (mode {mode:04o}); chmod 700 {0}", store.display());
        let (code, out, err) = site.run("run", &[]);
        assert_eq!((code, out.as_str()), (Some(69), ""), "{err}");
        assert!(err.contains(&remedy), "{err}");
        let (code, out, err) = site.run("check", &[]);
        assert!(code == Some(0) && (out + &err).contains(&format!("the daemon would not start: {remedy}")), "{mode:o}");
    }
    fs::set_permissions(&store, fs::Permissions::from_mode(0o700)).expect("our own folder");
    assert_eq!(site.daemon().stop().code(), Some(0));
}

/// In every profile: a keeper that is gone while the rest goes on would let certificates run out in silence.
#[test]
fn a_panic_in_any_thread_ends_the_process() {
    const CHILD: &str = "EDGEMD_TEST_PANICS";
    if std::env::var_os(CHILD).is_some() {
        boot::end_on_panic();
        let _ = std::thread::spawn(|| panic!("on purpose")).join();
        return;
    }
    let this = std::env::current_exe().expect("a path");
    let name = "a_panic_in_any_thread_ends_the_process";
    let output = Command::new(this).args(["--exact", name, "--nocapture"]).env(CHILD, "1").output().expect("it starts");
    assert_eq!(output.status.signal(), Some(Signal::ABORT.as_raw()), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("on purpose"), "{output:?}");
    let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/house/boot.rs")).expect("a file");
    assert!(source.matches("end_on_panic()").count() >= 2, "the house installs it");
}
