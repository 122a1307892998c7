//! What nobody else may have: rights that are not needed, and secrets; with a real CA.
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod harness;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use edgemd::doors::clock::Push;
use edgemd::doors::disk::SystemDisk;
use edgemd::house::boot::{self, Stay};
use edgemd::house::store::Store;
use edgemd::rules::control::{Accounts, Request};
use harness::ca::{Ca, Knobs};
use harness::device::{Device, bounded, mode};
use harness::net::skipped;
use harness::{LATER, listing, program, until};
use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const A: &str = "a.example.org";
const B: &str = "b.example.org";

/// The daemon's own user here, and another one.
const OURS: u32 = 12345;
const OTHER: u32 = 12346;

/// The words before a command that somebody is to run who has no more rights than these.
fn as_user(user: u32, group: u32, rights: &str) -> String {
    let sets = format!("--inh-caps=-all{rights} --ambient-caps=-all{rights} --bounding-set=-all{rights}");
    format!("setpriv --reuid {user} --regid {group} --clear-groups --no-new-privs {sets}")
}

/// The program where every user finds it.
fn for_all(device: &Device) -> PathBuf {
    let place = device.folder.join("edgemd");
    fs::copy(program(), &place).expect("a copy");
    chown(device.folder.path(), Some(OURS), Some(OURS)).expect("we are root");
    place
}

fn may_be_others() -> bool {
    rustix::process::geteuid().is_root() && Command::new("setpriv").arg("--version").output().is_ok()
}

fn status_of(pid: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Nobody's user, no right at all, and the two sockets that a service manager passes.
#[test]
fn a_user_without_any_right_orders_and_renews() {
    if !may_be_others() {
        return skipped("a_user_without_any_right_orders_and_renews", "this needs root and setpriv");
    }
    let ca = Ca::start(&Knobs { authz_reuse: Some(0), ..Knobs::default() });
    let mut device = Device::new(&ca);
    device.set("MDPortMap", format!("http:{} https:{}", ca.http.number(), ca.tls.number()));
    let edgemd = for_all(&device);
    let ear = device.ear(0);
    device.write(&format!(
        "MDNotifyCmd {}\n<MDomainSet {A}>\nMDCAChallenges http-01\n</MDomainSet>\n\
         <MDomainSet {B}>\nMDCAChallenges tls-alpn-01\n</MDomainSet>\n\
         <VirtualHost *:{}>\nServerName {B}\n</VirtualHost>\n",
        ear.program.display(),
        ca.tls.number()
    ));
    let conf = device.folder.join("edgemd.conf");
    let listen = |port| TcpListener::bind(("127.0.0.1", port)).expect("a reserved port");
    let fd = |socket: TcpListener| Stdio::from(std::os::fd::OwnedFd::from(socket));
    let run = format!("{} {} run -f {}", as_user(OURS, OURS, ""), edgemd.display(), conf.display());
    let line = format!("exec 3<&0 4>&1 </dev/null >&2; LISTEN_PID=$$ exec {run}");
    let log = fs::File::create(device.folder.join("edgemd.log")).expect("a log");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &line]).env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", "http:https").stderr(log);
    command.stdin(fd(listen(ca.http.number()))).stdout(fd(listen(ca.tls.number())));
    device.adopt(command.spawn().expect("a shell"));
    let pid = device.pid();
    assert_eq!(
        status_of(pid, "Uid:"),
        [OURS.to_string(), OURS.to_string(), OURS.to_string(), OURS.to_string()].join(" ")
    );
    for set in ["CapEff:", "CapPrm:", "CapAmb:", "CapBnd:"] {
        assert_eq!(status_of(pid, set), "0000000000000000", "{set}");
    }
    for name in [A, B] {
        device.complete(name);
        assert_eq!(device.run(&["renew", "--force", name]).code, Some(0), "root may ask");
        device.exported(name);
    }
    assert_eq!((ca.issued(), ear.heard().len()), (4, 4));
    for line in listing(&device.folder.join("store")).lines() {
        let (path, mode) = line.split_once(' ').expect("a path and a mode");
        assert_eq!(fs::metadata(path).expect("a file").uid(), OURS, "{line}");
        assert!(["0600", "0700"].iter().any(|ours| mode.trim_start().starts_with(ours)), "{line}");
    }
    // No core, and no look into its memory for those who have the same user, such as its hooks.
    assert_eq!(fs::metadata(format!("/proc/{pid}/mem")).expect("it lives").uid(), 0);
    let peek = format!("{} cat /proc/{pid}/environ", as_user(OURS, OURS, ""));
    let peeked = Command::new("/bin/sh").args(["-c", &peek]).output().expect("a shell");
    assert!(!peeked.status.success() && peeked.stdout.is_empty(), "{peeked:?}");

    // Who may ask: root, its own user, its group; and nobody else, even when somebody has opened the socket to all.
    let ask = |user, group, verb: &str| {
        let line = format!("{} {} {verb} -f {}", as_user(user, group, ""), edgemd.display(), conf.display());
        let output = Command::new("/bin/sh").args(["-c", &line]).output().expect("a shell");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let socket = device.folder.join("control.sock");
    for open in [0o660, 0o666] {
        fs::set_permissions(&socket, fs::Permissions::from_mode(open)).expect("we are root");
        for (user, group) in [(OURS, OURS), (OTHER, OURS)] {
            let (code, said) = ask(user, group, "status");
            assert_eq!(code, Some(0), "{user}:{group} {open:o}: {said}");
        }
        for verb in ["status", "reload", "renew --force", "prune --yes"] {
            let (code, said) = ask(OTHER, OTHER, verb);
            let why = if open == 0o660 {
                "root, the daemon's user and its group may ask there"
            } else {
                "this socket is for root, the daemon's user and its group"
            };
            // Some are tried without a daemon then.
            let refused = said.contains(why) || (open == 0o660 && said.contains(": Permission denied; "));
            assert!(code != Some(0) && refused, "{verb} {open:o}: {code:?} {said}");
        }
    }
    assert_eq!(ca.issued(), 4);
    assert!(device.stop().success());
}

/// The one right that a low port needs.
#[test]
fn a_low_port_needs_one_right_and_no_more() {
    if !may_be_others() {
        return skipped("a_low_port_needs_one_right_and_no_more", "this needs root and setpriv");
    }
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    let edgemd = for_all(&device);
    let start = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    let is_low = |port: &u16| start.trim().parse().map_or(true, |start: u16| *port < start);
    let low = (600..1000).rev().filter(is_low).find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok());
    let Some(low) = low else { return skipped("a_low_port_needs_one_right_and_no_more", "no port is a low one here") };
    device.set("MDPortMap", format!("http:{low} https:-"));
    device.write(&format!("MDDriveMode manual\nMDomain {A}"));
    let log = || fs::File::create(device.folder.join("edgemd.log")).expect("a log");
    let start = |rights: &str, log: fs::File| {
        let line = format!(
            "exec {} {} run -f {}",
            as_user(OURS, OURS, rights),
            edgemd.display(),
            device.folder.join("edgemd.conf").display()
        );
        Command::new("/bin/sh").args(["-c", &line]).stdin(Stdio::null()).stderr(log).spawn().expect("a shell")
    };
    assert_eq!(start("", log()).wait().expect("a child").code(), Some(69));
    let why = device.log();
    assert!(why.contains(&format!(":{low}: ")) && why.contains("CAP_NET_BIND_SERVICE"), "{why}");
    let process = start(",+net_bind_service", log());
    device.adopt(process);
    assert_eq!(status_of(device.pid(), "CapEff:"), "0000000000000400");
    assert!(device.stop().success());
}

/// As when a hook forks until there is no more: what needs a thread is told so, and the daemon stays.
#[test]
fn where_no_thread_is_to_be_had_the_daemon_stays() {
    const NAME: &str = "where_no_thread_is_to_be_had_the_daemon_stays";
    /// Nobody else's, because all that its user runs is counted.
    const ALONE: u32 = 12347;
    if !may_be_others() {
        return skipped(NAME, "this needs root and setpriv");
    }
    let mut sentences = BTreeSet::new();
    // Of its own it has two; each line to a CA needs one, and so does each lookup.
    for limit in 3..=5 {
        let mut device = Device::with("https://localhost:1/dir".into(), Path::new("/nowhere.pem"));
        device.set("MDPortMap", "http:- https:-");
        device.set("MDCACertificateFile", "");
        let edgemd = for_all(&device);
        chown(device.folder.path(), Some(ALONE), Some(ALONE)).expect("we are root");
        device.write(&format!("MDCAChallenges dns-01\nMDChallengeDns01 /bin/true\nMDomain {A}"));
        let conf = device.folder.join("edgemd.conf");
        let limit = format!("prlimit --nproc={limit}");
        let line = format!("exec {limit} {} {} run -f {}", as_user(ALONE, ALONE, ""), edgemd.display(), conf.display());
        let log = fs::File::create(device.folder.join("edgemd.log")).expect("a log");
        let process = Command::new("/bin/sh").args(["-c", &line]).stdin(Stdio::null()).stderr(log).spawn();
        device.adopt(process.expect("a shell"));
        let last = device.errors(A, 2)["renewal"]["last"]["detail"].as_str().expect("a detail").to_owned();
        assert!(device.stop().success());
        println!("{limit}: {last}");
        sentences.insert(last);
    }
    for says in ["Connection refused", "no thread to look the host up", "Resource temporarily unavailable"] {
        assert!(sentences.iter().any(|sentence| sentence.contains(says)), "{says}: {sentences:?}");
    }
}

const HMAC: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
const WRONG: &str = "b10lLJs8l1GPIzsLP0s6pMt8O0XVGnfTaCeROxQM0BIt2XrJMDHJZBM5NuQmQJQH";
const PROXY: &str = "a-proxys-password";

/// Everything that gives a secret away, in the forms in which somebody may have written it down.
struct Secrets(BTreeSet<Vec<u8>>);

impl Secrets {
    fn new() -> Self {
        let mut secrets = Self(BTreeSet::new());
        for text in [HMAC, WRONG] {
            secrets.0.insert(text.as_bytes()[8..].into());
            let key = BASE64_URL_SAFE.decode(text).expect("base64url");
            secrets.learn(&key);
        }
        secrets.0.insert(PROXY.into());
        secrets
    }

    /// Raw, in base64 of either alphabet wherever it stands in it, in hexadecimal, as Rust prints bytes.
    fn learn(&mut self, key: &[u8]) {
        let key = &key[..key.len().min(40)];
        self.0.insert(key[..12].into());
        for at in 0..3 {
            // Within the first line of PEM.
            let piece = &key[at..at + 9];
            self.0.insert(BASE64_STANDARD.encode(piece).into());
            self.0.insert(BASE64_URL_SAFE.encode(piece).into());
        }
        let hex: String = key[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.insert(hex.to_uppercase().into());
        self.0.insert(hex.into());
        self.0.insert(key[..8].iter().map(u8::to_string).collect::<Vec<_>>().join(", ").into());
    }

    /// All the keys that a store has now; a P-256 key in PKCS#8 has its number from byte 36 on.
    fn learn_store(&mut self, device: &Device) -> usize {
        let (store, loaded) = Store::open(&device.folder.join("store"), None, &mut SystemDisk).expect("a store");
        let mut keys: Vec<Vec<u8>> = vec![];
        for account in loaded.accounts.values() {
            keys.push(account.key.to_vec());
            keys.extend(account.next.iter().map(|next| next.to_vec()));
        }
        for slot in store.places() {
            let pairs = store.pairs(&SystemDisk, &slot).expect("a record");
            keys.extend(pairs.into_iter().map(|(_, bundle)| bundle.key.to_vec()));
        }
        keys.iter().for_each(|key| self.learn(&key[36..]));
        keys.len()
    }

    fn in_what(&self, bytes: &[u8]) -> Option<String> {
        let mut needles = self.0.iter();
        let found = needles.find(|needle| bytes.windows(needle.len()).any(|window| window == &needle[..]));
        found.map(|needle| String::from_utf8_lossy(needle).into_owned())
    }

    #[track_caller]
    fn are_not_in(&self, what: &str, bytes: &[u8]) {
        assert_eq!(self.in_what(bytes), None, "{what}:\n{}", String::from_utf8_lossy(bytes));
    }
}

/// Every file that is neither a record nor a key's export nor written by the operator.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(dir).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let ours = ["key", "pem"].iter().any(|ending| name.ends_with(ending)) && path.parent() == Some(dir);
        match entry.file_type().expect("a type") {
            kind if kind.is_dir() && name != "store" => found.extend(files(&path)),
            kind if kind.is_file() && !(ours && dir.ends_with("export")) && name != "edgemd.conf" => found.push(path),
            _ => {}
        }
    }
    found
}

fn eab(hmac: &str) -> String {
    format!("MDExternalAccountBinding kid-1 {hmac}\n")
}

/// Account made, issued, renewed, its key changed, revoked; refused by the CA for a wrong binding and for a name; a
/// command that fails; a faulty configuration: and nothing that anybody sees of all that has a piece of a secret in it.
#[test]
fn no_secret_is_seen_anywhere() {
    let bound = vec![("kid-1".to_owned(), HMAC.to_owned())];
    let ca = Ca::start(&Knobs { bound, authz_reuse: Some(0), ..Knobs::default() });
    let mut device = Device::new(&ca);
    let heard = device.folder.join("heard");
    let tell = format!("{{ echo \"$0 $*\"; env; cat; }} >>'{}' 2>&1\n", heard.display());
    let (good, bad) = (device.folder.script("good", &tell), device.folder.script("bad", &(tell + "exit 1")));
    let text = |hook: &Path, hmac: &str, names: &str| {
        format!("MDNotifyCmd {0}\nMDMessageCmd {1}\n{2}MDomain {names}\n", hook.display(), good.display(), eab(hmac))
    };
    let mut secrets = Secrets::new();
    let mut said = String::new();
    let mut ask = |device: &Device, words: &[&str]| {
        let answer = device.run(words);
        said += &format!("{words:?}: {answer:?}\n");
        answer.code
    };
    // A wrong binding first.
    device.write(&text(&good, WRONG, A));
    ask(&device, &["check"]);
    let mut command = device.command(&["run", "-v"]);
    let log = fs::File::options().create(true).append(true).open(device.folder.join("edgemd.log")).expect("a log");
    device.adopt(
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("one more")).stderr(log).spawn().expect("it starts"),
    );
    device.errors(A, 1);
    ask(&device, &["status"]);
    secrets.learn_store(&device);
    device.reload_with(&text(&bad, HMAC, A));
    until("the command fails", LATER, || {
        (device.md(A)["renewal"]["last"]["problem"] == "urn:org:apache:httpd:log:AH10108:").then_some(())
    });
    ask(&device, &["status"]);
    device.reload_with(&text(&good, HMAC, A));
    device.complete(A);
    for words in [
        &["account"][..],
        &["account", "roll"],
        &["renew", "--force", A],
        &["revoke", A],
        &["dns", A],
        &["prune"],
        &["status"],
        &["status", "--json"],
    ] {
        let code = ask(&device, words);
        assert!(code == Some(0) || words[0] == "status", "{words:?}: {code:?}");
        device.complete(A);
        secrets.learn_store(&device);
    }
    device.reload_with(&text(&good, HMAC, "blocked-domain.example"));
    device.errors("blocked-domain.example", 1);
    ask(&device, &["renew", "blocked-domain.example"]);
    ask(&device, &["status", "--json"]);
    // A faulty one that has secrets in its faults.
    let faulty = format!(
        "MDHttpProxy http://user:{PROXY}@proxy.example:80\nMDCertificateAuthority https://u:{PROXY}@ca.example/\n{}MDExternalAccountBinding a {HMAC} b\n",
        eab(HMAC)
    );
    device.write(&(text(&good, HMAC, A) + &faulty));
    assert_eq!(ask(&device, &["reload"]), Some(1));
    assert_eq!(ask(&device, &["check"]), Some(78));
    for path in ["/md-status", "/md-status?auto", "/md-status/blocked-domain.example"] {
        let (head, body) = device.ask(path);
        said += &format!("{head}{body}");
    }
    let keys = secrets.learn_store(&device);
    let cmdline = fs::read(format!("/proc/{}/cmdline", device.pid())).expect("it lives");
    assert!(device.stop().success());

    assert!(keys >= 3 && secrets.0.len() > 50, "{keys} keys in the end, {} needles", secrets.0.len());
    secrets.are_not_in("argv", &cmdline);
    secrets.are_not_in("what was answered", said.as_bytes());
    let files = files(device.folder.path());
    for name in ["edgemd.log", "heard", "state"] {
        assert!(files.iter().any(|file| file.ends_with(name)), "{name}: {files:?}");
    }
    let mut bytes = 0;
    for file in &files {
        let text = fs::read(file).expect("a file");
        bytes += text.len();
        secrets.are_not_in(&file.display().to_string(), &text);
    }
    println!("{} needles in {} bytes of answers and {bytes} of {} files", secrets.0.len(), said.len(), files.len());
    // That they would be seen: they are where they belong.
    let key = fs::read(device.export(&format!("{A}.key"))).expect("an export");
    let record = fs::read_dir(device.folder.join("store/accounts")).expect("accounts").flatten().next().expect("one");
    assert!(secrets.in_what(&fs::read(record.path()).expect("a record")).is_some());
    assert!(secrets.in_what(&key).is_some(), "{}", String::from_utf8_lossy(&key));
    assert_eq!(mode(&device.folder.join("store")), 0o700);
}

/// What a process has in memory that it can write to.
fn memory(pid: u32) -> Vec<u8> {
    use std::os::unix::fs::FileExt as _;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("it lives");
    let memory = fs::File::open(format!("/proc/{pid}/mem")).expect("we are root");
    let mut all = vec![];
    for line in maps.lines().filter(|line| line.contains(" rw-p ")) {
        let (begin, end) = line.split(' ').next().and_then(|span| span.split_once('-')).expect("a span");
        let at = |text| u64::from_str_radix(text, 16).expect("an address");
        let mut bytes = vec![0; usize::try_from(at(end) - at(begin)).expect("it fits")];
        // What goes meanwhile is not there.
        if memory.read_exact_at(&mut bytes, at(begin)).is_ok() {
            all.extend(bytes);
        }
    }
    all
}

/// A key that is stored and exported is nowhere in memory while nobody needs it; that of the account is needed.
#[test]
fn no_key_of_a_certificate_stays_in_memory() {
    if !rustix::process::geteuid().is_root() {
        return skipped("no_key_of_a_certificate_stays_in_memory", "this needs root");
    }
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.start_with(&format!("MDomain {A}"));
    device.complete(A);
    for what in ["ordered", "renewed", "started again"] {
        match what {
            "renewed" => assert_eq!(device.run(&["renew", "--force", A]).code, Some(0)),
            "started again" => {
                assert!(device.stop().success());
                device.start();
                device.complete(A);
            }
            _ => {}
        }
        let (store, loaded) = Store::open(&device.folder.join("store"), None, &mut SystemDisk).expect("a store");
        let slot = store.places().into_iter().next().expect("one place");
        let key = store.pairs(&SystemDisk, &slot).expect("a record")[0].1.key[36..68].to_vec();
        let account = loaded.accounts.values().next().expect("one").key[36..68].to_vec();
        let memory = memory(device.pid());
        let has = |needle: &[u8]| memory.windows(needle.len()).any(|window| window == needle);
        // PKCS#8 has the number at its 36th byte: in base64 it begins a digit anew, and 12 bytes on a line ends.
        assert!(!has(&key), "{what}: as it is");
        assert!(!has(BASE64_STANDARD.encode(&key[..12]).as_bytes()), "{what}: in base64");
        assert!(has(&account), "{what}: it would be seen");
    }
}

/// The libraries below us included, at the most talkative level, which the program itself has no word for.
#[test]
fn no_secret_is_in_a_log_at_trace_level() {
    const CHILD: &str = "EDGEMD_TEST_TRACES";
    const DEED: &str = "EDGEMD_TEST_DEED";
    if let Ok(conf) = std::env::var(CHILD) {
        struct Everything;
        impl log::Log for Everything {
            fn enabled(&self, _: &log::Metadata<'_>) -> bool {
                true
            }
            fn log(&self, record: &log::Record<'_>) {
                eprintln!("{} {} {}", record.level(), record.target(), record.args());
            }
            fn flush(&self) {}
        }
        log::set_logger(&Everything).expect("the first");
        log::set_max_level(log::LevelFilter::Trace);
        let stay = match std::env::var(DEED).as_deref() {
            Ok("roll") => Stay::Visit(Request::Account(Accounts::Roll { ca: None })),
            Ok("revoke") => Stay::Visit(Request::Revoke { name: A.into(), reason: None }),
            _ => Stay::Once { names: vec![], push: Push::Force },
        };
        assert_eq!(boot::run(&conf, stay), boot::FINE);
        return;
    }
    let bound = vec![("kid-1".to_owned(), HMAC.to_owned())];
    let ca = Ca::start(&Knobs { bound, ..Knobs::default() });
    let mut device = Device::new(&ca);
    device.write(&(eab(HMAC) + &format!("MDomain {A}")));
    let mut secrets = Secrets::new();
    let mut log = vec![];
    for deed in ["order", "roll", "order", "revoke"] {
        let name = "no_secret_is_in_a_log_at_trace_level";
        let mut command = Command::new(std::env::current_exe().expect("a path"));
        command.args(["--exact", name, "--nocapture"]).env(CHILD, device.folder.join("edgemd.conf")).env(DEED, deed);
        let output = bounded(&mut command, LATER);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        log.extend(output.stderr);
        secrets.learn_store(&device);
    }
    let text = String::from_utf8_lossy(&log);
    let count = |level: &str| text.lines().filter(|line| line.starts_with(level)).count();
    println!("{} bytes of log, {} lines of trace, {} of debug", log.len(), count("TRACE"), count("DEBUG"));
    assert!(count("TRACE") > 20 && count("DEBUG") > 20 && ca.issued() == 2, "{text}");
    secrets.are_not_in("the log", &log);
}
