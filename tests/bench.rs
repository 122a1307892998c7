//! What one renewal costs: edgemd beside each other client that is installed, against the same CA on the same machine.
//!
//! One name, http-01, P-256, the account already there, one trust root, a CA that refuses no nonce and remembers no
//! authorization. CPU is user and system time of the client and its descendants, peak RSS is the largest of any of
//! them; requests and connections are counted at the CA; files and fsyncs by strace, in runs of their own. Medians.
//! Words after `--` choose clients; BENCH_RUNS says how many runs (7).
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod harness;

use harness::ca::{Ca, Knobs};
use harness::device::{Device, bounded};
use harness::measure::{installed, median};
use harness::{Folder, LATER, until};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const NAME: &str = "router.example.org";

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let runs = std::env::var("BENCH_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(7).max(1);
    let mut rows: Vec<Row> = Vec::new();
    for make in [edgemd, lego, uacme, mod_md] {
        match make() {
            Ok(client) if chosen.is_empty() || chosen.iter().any(|word| word == client.name()) => {
                eprintln!("measuring {} ({runs} runs)", client.name());
                let name = client.name();
                let row = measure(client, runs);
                assert!(row.is_some() || name != "edgemd", "our own renewals succeed");
                rows.extend(row);
            }
            Ok(_) => {}
            Err(why) => eprintln!("not measured: {why}"),
        }
    }
    print(&rows);
}

/// A client with one certificate, ready to renew it.
trait Client {
    fn name(&self) -> &'static str;
    fn ca(&self) -> &Ca;
    /// Where it keeps its things.
    fn home(&self) -> PathBuf;
    /// The part of it that is its memory of the account and the certificates, and stands in flash.
    fn store(&self) -> PathBuf {
        self.home()
    }
    /// Makes a renewal due, if it takes more than a word of the command line.
    fn spoil(&self) {}
    /// The renewal, up to its end or until [`Client::meanwhile`] has ended it.
    fn renewal(&self) -> Command;
    fn meanwhile(&self) {}
    /// What the measuring program is started in, not measured itself.
    fn surroundings(&self) -> Vec<OsString> {
        Vec::new()
    }
}

struct Row {
    name: &'static str,
    cpu: f64,
    rss: f64,
    requests: usize,
    connections: usize,
    files: Vec<String>,
    fsyncs: usize,
    /// Those in the store.
    stored: usize,
    store_fsyncs: usize,
}

/// `None` for one that does not get through.
fn measure(client: Box<dyn Client>, runs: usize) -> Option<Row> {
    let scratch = Folder::new("bench");
    let (mut cpu, mut rss, mut requests, mut connections) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        cpu.push(cpu_of(&*client, &scratch)?);
        let renewal = rss_of(&*client, &scratch)?;
        rss.push(renewal.0);
        requests.push(renewal.1.requests);
        connections.push(renewal.1.connections);
    }
    let trace = trace_of(&*client, &scratch)?;
    let (home, store) = (client.home(), client.store());
    let synced = fsyncs(&trace);
    let written = files(&trace, &home);
    assert!(!written.is_empty(), "a renewal that writes nothing: strace is misread");
    Some(Row {
        name: client.name(),
        cpu: median(cpu),
        rss: median(rss),
        requests: median(requests),
        connections: median(connections),
        files: written,
        fsyncs: synced.len(),
        stored: files(&trace, &store).len(),
        store_fsyncs: synced.iter().filter(|path| Path::new(path).starts_with(&store)).count(),
    })
}

/// Seconds. The shell's own timer, because it reads the kernel's accounting to the millisecond.
fn cpu_of(client: &dyn Client, scratch: &Folder) -> Option<f64> {
    let script = r#"TIMEFORMAT='%3U %3S'; out=$1; shift; { time "$@" >/dev/null 2>"$out.err"; } 2>"$out""#;
    let renewal = renew(client, scratch, |out| {
        let mut command = Command::new("bash");
        command.args(["-c", script, "bash"]).arg(out);
        command
    })?;
    let last = renewal.text.lines().last().expect("a line");
    Some(last.split(' ').map(|secs| secs.parse::<f64>().expect("seconds")).sum())
}

/// MiB. By a small program, because a child inherits the size of what it was before it became itself.
fn rss_of(client: &dyn Client, scratch: &Folder) -> Option<(f64, Renewal)> {
    let renewal = renew(client, scratch, |out| {
        let mut command = Command::new("/usr/bin/time");
        command.args(["-f", "%M", "-o"]).arg(out);
        command
    })?;
    let kib = renewal.text.lines().last().and_then(|kib| kib.parse::<f64>().ok()).expect("a number of KiB");
    Some((kib / 1024.0, renewal))
}

fn trace_of(client: &dyn Client, scratch: &Folder) -> Option<String> {
    const CALLS: &str = "trace=open,openat,creat,write,pwrite64,writev,rename,renameat,renameat2,fsync,fdatasync";
    let renewal = renew(client, scratch, |out| {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-y", "-s", "0", "-e", CALLS, "-o"]).arg(out);
        command
    })?;
    Some(renewal.text)
}

/// What was synced: `fsync(5</home/file>) = 0`.
fn fsyncs(trace: &str) -> Vec<&str> {
    let calls = trace.lines().filter(|line| line.contains("fsync(") || line.contains("fdatasync("));
    calls.map(|line| between_angles(line).unwrap_or_default()).collect()
}

/// The path that strace puts behind a descriptor.
fn between_angles(line: &str) -> Option<&str> {
    line.split_once('<')?.1.split_once('>').map(|(path, _)| path)
}

/// One that succeeded: the words of the program that measured it, and what the CA saw of it.
struct Renewal {
    text: String,
    requests: usize,
    connections: usize,
}

/// Renews under a measuring program. A renewal that fails is no measurement and is tried
/// again: uacme gives up whenever the challenge without a token comes first, which is one time in five.
fn renew(client: &dyn Client, scratch: &Folder, measure: impl Fn(&Path) -> Command) -> Option<Renewal> {
    let (out, complaints) = (scratch.join("out"), scratch.join("out.err"));
    for _ in 0..20 {
        client.spoil();
        let ca = client.ca();
        let (issued, requests, connections) = (ca.issued(), ca.requests().len(), ca.connections());
        let (measure, renewal) = (measure(&out), client.renewal());
        let mut words = client.surroundings();
        for command in [&measure, &renewal] {
            words.push(command.get_program().into());
            words.extend(command.get_args().map(OsString::from));
        }
        let mut under = Command::new(&words[0]);
        under.args(&words[1..]);
        for (key, value) in renewal.get_envs() {
            under.env(key, value.unwrap_or_default());
        }
        let errors = fs::File::create(&complaints).expect("a file of ours");
        under.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        let mut child = under.spawn().expect("an installed program");
        client.meanwhile();
        let status = child.wait().expect("a child of ours");
        if status.success() && ca.issued() == issued + 1 {
            return Some(Renewal {
                text: fs::read_to_string(&out).expect("the words of the measuring program"),
                requests: ca.requests().len() - requests,
                connections: ca.connections() - connections,
            });
        }
        eprintln!("{}: {status}, again", client.name());
    }
    let complaints = fs::read_to_string(&complaints).unwrap_or_default();
    eprintln!("{}: no renewal succeeds; it is left out:\n{complaints}", client.name());
    None
}

/// The files written below a folder, each as often as it was opened and then written to, under its last name.
fn files(trace: &str, home: &Path) -> Vec<String> {
    let home = format!("{}/", home.display());
    let (mut open, mut written) = (BTreeSet::new(), Vec::<String>::new());
    for line in trace.lines().filter(|line| !line.contains(" = -1 ")) {
        let paths = paths(line);
        if line.contains("write") {
            // write(5</home/file.new>, ""..., 12) = 12
            written.extend(between_angles(line).filter(|path| open.remove(*path)).map(str::to_owned));
        } else if let ([from, to], true) = (&paths[..], line.contains("rename")) {
            written.iter_mut().filter(|path| *path == from).for_each(|path| path.clone_from(to));
        } else if let [path] = &paths[..]
            && (line.contains("O_WRONLY") || line.contains("O_RDWR") || line.contains("creat("))
        {
            open.insert(path.clone());
        }
    }
    written.iter().filter_map(|path| path.strip_prefix(&home)).map(str::to_owned).collect()
}

/// What is named in a call, in the folder that is named before it: `openat(5</home>, "file.new", …)`.
fn paths(call: &str) -> Vec<String> {
    let parts: Vec<&str> = call.split('"').collect();
    let named =
        parts.chunks_exact(2).map(|part| match part[0].strip_suffix(">, ").and_then(|text| text.rsplit_once('<')) {
            Some((_, folder)) if !part[1].starts_with('/') => format!("{folder}/{}", part[1]),
            _ => part[1].to_owned(),
        });
    named.collect()
}

fn print(rows: &[Row]) {
    println!(
        "{:<8} {:>8} {:>9} {:>9} {:>12} {:>10} {:>11} {:>10} {:>11}",
        "", "CPU s", "RSS MiB", "requests", "connections", "in store:", "with fsyncs", "all files:", "with fsyncs"
    );
    for row in rows {
        let Row { name, cpu, rss, requests, connections, stored, store_fsyncs, files, fsyncs } = row;
        let files = files.len();
        println!(
            "{name:<8} {cpu:>8.3} {rss:>9.1} {requests:>9} {connections:>12} {stored:>10} {store_fsyncs:>11} \
             {files:>10} {fsyncs:>11}"
        );
    }
    let Some((ours, others)) = rows.split_first().filter(|(first, _)| first.name == "edgemd") else { return };
    for other in others {
        println!(
            "{} needs {:.1} times edgemd's CPU and {:.1} times its memory",
            other.name,
            other.cpu / ours.cpu,
            other.rss / ours.rss
        );
    }
    for row in rows {
        println!("files of {}: {}", row.name, row.files.join(", "));
    }
}

fn strict_ca() -> Ca {
    Ca::start(&Knobs { nonce_reject: Some(0), authz_reuse: Some(0), ..Knobs::default() })
}

#[track_caller]
fn succeed(command: &mut Command) {
    let out = bounded(command, LATER);
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

struct Edgemd {
    device: Device,
    ca: Ca,
}

fn edgemd() -> Result<Box<dyn Client>, String> {
    let ca = strict_ca();
    let mut device = Device::new(&ca);
    let export = device.folder.join("export").display().to_string();
    device.set("MDExport", format!("{export} pair"));
    device.write(&format!("MDomain {NAME}"));
    let said = device.run(&["once"]);
    if said.code == Some(0) { Ok(Box::new(Edgemd { device, ca })) } else { Err(format!("edgemd once: {said:?}")) }
}

impl Client for Edgemd {
    fn name(&self) -> &'static str {
        "edgemd"
    }

    fn ca(&self) -> &Ca {
        &self.ca
    }

    fn home(&self) -> PathBuf {
        self.device.folder.path().to_owned()
    }

    /// Beside it are what a real device has in memory (the state), and the exports, which are for others.
    fn store(&self) -> PathBuf {
        self.device.folder.join("store")
    }

    fn renewal(&self) -> Command {
        self.device.command(&["renew", "--force", NAME])
    }
}

struct Lego {
    program: PathBuf,
    home: Folder,
    ca: Ca,
}

fn lego() -> Result<Box<dyn Client>, String> {
    let client = Lego { program: installed("lego")?, home: Folder::new("lego"), ca: strict_ca() };
    succeed(&mut client.command(&["run"]));
    Ok(Box::new(client))
}

impl Lego {
    fn command(&self, verb: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env("LEGO_CA_CERTIFICATES", self.ca.root()).args(["--server", &self.ca.directory(), "--accept-tos"]);
        command.args(["--email", "admin@example.org", "--key-type", "ec256", "--domains", NAME, "--http"]);
        command
            .args(["--http.port", &format!(":{}", self.ca.http.number()), "--path"])
            .arg(self.home.path())
            .args(verb);
        command
    }
}

impl Client for Lego {
    fn name(&self) -> &'static str {
        "lego"
    }

    fn ca(&self) -> &Ca {
        &self.ca
    }

    fn home(&self) -> PathBuf {
        self.home.path().to_owned()
    }

    fn renewal(&self) -> Command {
        self.command(&["renew", "--days", "1000", "--no-random-sleep"])
    }
}

struct Uacme {
    program: PathBuf,
    hook: PathBuf,
    home: Folder,
    ca: Ca,
}

/// It believes the system's trust roots only, so it gets ours in a mount of its own, and only ours; and it leaves the answering to a
/// web server, which is a thread here and costs it nothing.
fn uacme() -> Result<Box<dyn Client>, String> {
    let (program, home, ca) = (installed("uacme")?, Folder::new("uacme"), strict_ca());
    installed("unshare")?;
    fs::create_dir(home.join("roots")).map_err(|why| why.to_string())?;
    fs::copy(ca.root(), home.join("roots/ca-certificates.crt")).map_err(|why| why.to_string())?;
    let answers = home.join("answers");
    fs::create_dir(&answers).map_err(|why| why.to_string())?;
    let body = format!(
        "[ \"$2\" = http-01 ] || exit 1\ncase $1 in begin) printf %s \"$5\" >'{0}/'\"$4\" ;; *) rm -f '{0}/'\"$4\" ;; esac",
        answers.display()
    );
    let hook = home.script("hook", &body);
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, ca.http.number())).map_err(|why| why.to_string())?;
    std::thread::spawn(move || serve_files(&listener, &answers));
    let client = Uacme { program, hook, home, ca };
    succeed(&mut client.setup(&["-y", "new", "admin@example.org"]));
    let first = || bounded(&mut client.setup(&["issue", NAME]), LATER).status.success();
    if !(0..20).any(|_| first()) {
        return Err("uacme gets no certificate here".into());
    }
    Ok(Box::new(client))
}

impl Uacme {
    fn setup(&self, words: &[&str]) -> Command {
        let (around, inner) = (self.surroundings(), self.command(words));
        let mut command = Command::new(&around[0]);
        command.args(&around[1..]).arg(inner.get_program()).args(inner.get_args());
        command
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["-t", "EC", "-a", &self.ca.directory(), "-c"]).arg(self.home.path()).arg("-h").arg(&self.hook);
        command.args(words);
        command
    }
}

impl Client for Uacme {
    fn name(&self) -> &'static str {
        "uacme"
    }

    fn ca(&self) -> &Ca {
        &self.ca
    }

    fn home(&self) -> PathBuf {
        self.home.path().to_owned()
    }

    fn renewal(&self) -> Command {
        self.command(&["-f", "issue", NAME])
    }

    fn surroundings(&self) -> Vec<OsString> {
        const MOUNT: &str = r#"mount --bind "$1" /etc/ssl/certs && shift && exec "$@""#;
        let namespace = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
        let words = ["unshare", namespace, "sh", "-c", MOUNT, "sh"].map(OsString::from);
        words.into_iter().chain([self.home.join("roots").into()]).collect()
    }
}

fn serve_files(listener: &TcpListener, folder: &Path) {
    for mut client in listener.incoming().flatten() {
        let mut lines = BufReader::new(&client).lines().map_while(Result::ok);
        let target = lines.next().and_then(|line| line.split(' ').nth(1).map(str::to_owned)).unwrap_or_default();
        lines.find(String::is_empty);
        let token = target.rsplit('/').next().unwrap_or_default();
        let answer = match fs::read_to_string(folder.join(token)) {
            Ok(text) => format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()),
            Err(_) => "HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(),
        };
        let _ = client.write_all(answer.as_bytes());
    }
}

/// The whole server: started, its one certificate renewed, stopped.
struct ModMd {
    program: PathBuf,
    home: Folder,
    ca: Ca,
}

fn mod_md() -> Result<Box<dyn Client>, String> {
    let program = installed("apache2")?;
    let modules = Path::new("/usr/lib/apache2/modules");
    if !modules.join("mod_md.so").is_file() {
        return Err("mod_md is not installed".into());
    }
    let (home, ca) = (Folder::new("apache"), strict_ca());
    // It drops to another user, who has to get in.
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).map_err(|why| why.to_string())?;
    let (folder, tls) = (home.path().display(), ca.tls.number());
    let load: String = ["mpm_event", "authz_core", "socache_shmcb", "ssl", "md"]
        .map(|name| format!("LoadModule {name}_module {}\n", modules.join(format!("mod_{name}.so")).display()))
        .concat();
    let config = format!(
        "{load}ServerRoot {folder}\nDefaultRuntimeDir {folder}\nPidFile {folder}/pid\nMutex file:{folder}\n\
         ErrorLog {folder}/error.log\nServerName {NAME}\nUser www-data\nGroup www-data\n\
         Listen {http}\nListen {tls}\nStartServers 1\n\
         MDStoreDir {folder}/md\nMDCertificateAuthority {directory}\nMDCACertificateFile {root}\n\
         MDCertificateAgreement accepted\nMDContactEmail admin@example.org\nMDPortMap http:{http} https:{tls}\n\
         MDPrivateKeys P-256\nMDCAChallenges http-01\nMDStapling off\nMDRenewViaARI off\nMDomain {NAME}\n\
         <VirtualHost *:{http}>\nServerName {NAME}\n</VirtualHost>\n\
         <VirtualHost *:{tls}>\nServerName {NAME}\nSSLEngine on\n</VirtualHost>\n",
        http = ca.http.number(),
        directory = ca.directory(),
        root = ca.root().display(),
    );
    home.put("httpd.conf", &config);
    let client = ModMd { program, home, ca };
    // Once for the account, and once more to see what was staged taken into use.
    for _ in 0..2 {
        let mut child =
            client.renewal().stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(|why| why.to_string())?;
        if !client.home.join(&format!("md/domains/{NAME}/md.json")).exists() || client.ca.issued() == 0 {
            client.meanwhile();
        } else {
            until("apache runs", LATER, || client.home.join("pid").exists().then_some(()));
            client.end();
        }
        child.wait().map_err(|why| why.to_string())?;
    }
    Ok(Box::new(client))
}

impl ModMd {
    fn end(&self) {
        let pid = fs::read_to_string(self.home.join("pid")).expect("apache's pid");
        let pid = pid.trim().parse().ok().and_then(Pid::from_raw).expect("a number");
        kill_process(pid, Signal::TERM).expect("a server of ours");
    }
}

impl Client for ModMd {
    fn name(&self) -> &'static str {
        "mod_md"
    }

    fn ca(&self) -> &Ca {
        &self.ca
    }

    fn home(&self) -> PathBuf {
        self.home.join("md")
    }

    /// Its account stays; the certificate is gone, so it is due.
    fn spoil(&self) {
        let held = self.home.join(&format!("md/domains/{NAME}"));
        for entry in fs::read_dir(held).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|end| end == "pem") {
                let _ = fs::remove_file(entry.path());
            }
        }
        let _ = fs::remove_dir_all(self.home.join(&format!("md/staging/{NAME}")));
    }

    fn renewal(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("-DFOREGROUND").arg("-f").arg(self.home.join("httpd.conf"));
        command
    }

    fn meanwhile(&self) {
        let job = self.home.join(&format!("md/staging/{NAME}/job.json"));
        until("mod_md has staged its certificate", LATER, || {
            fs::read_to_string(&job).ok().filter(|text| text.contains("\"finished\": true")).map(drop)
        });
        self.end();
    }
}
