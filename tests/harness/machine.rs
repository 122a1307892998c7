//! A device of which all but the metal is real: a kernel, its memory, its flash file system and its programs in QEMU,
//! as `qemu/<machine>/` describes them and `qemu/setup` has fetched them.

use super::ca::Ca;
use super::cert::{self, Facts};
use super::child::{Child, Port};
use super::volatile::Volatile;
use super::{Folder, SOON, until};
use rustix::process::{Pid, Signal, kill_process_group};
use rustls::pki_types::CertificateDer;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// What an emulated machine calls this one.
pub const HOST: &str = "10.0.2.2";

/// An emulated processor is slow, and the machine that emulates it may be busy.
const BOOTED: Duration = Duration::from_secs(400);
const DONE: Duration = Duration::from_secs(400);

/// What the battery beside the clock has kept, on a machine that has one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Battery {
    Full,
    /// The clock starts in 1970.
    Flat,
}

/// How time passes on it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As here.
    Ours,
    /// Each instruction takes a while, and nothing is waited for: an hour in which nothing happens is over at once.
    Hurried,
}

/// What its flash had seen at a moment.
pub struct Flash {
    bytes: Vec<u8>,
    /// Of a card, what its driver has written; of a flash there is no such number, but nothing is written over there.
    sectors: Option<usize>,
}

pub struct Machine {
    running: Option<Running>,
    name: String,
    home: PathBuf,
    made: PathBuf,
    http: u16,
    https: Port,
    disk: Option<Volatile>,
    pub folder: Folder,
}

struct Running {
    emulator: Child,
    console: UnixStream,
    since: Instant,
    /// The beginning of a line.
    heard: Vec<u8>,
}

impl Machine {
    /// A machine that this CA validates: its port 80 is where the CA looks.
    pub fn new(name: &str, ca: &Ca) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (home, made) = (root.join("qemu").join(name), root.join(".cache/qemu").join(name));
        assert!(made.join("ready").exists(), "{name} is not set up; run qemu/setup {name}, or make qemu-{name}");
        let (http, https, folder) = (ca.http.number(), Port::reserve(), Folder::new(name));
        Self { running: None, name: name.to_owned(), home, made, http, https, disk: None, folder }
    }

    /// From here on its disk, where it has one, loses in [`Machine::cut`] what was not flushed.
    pub fn forget_what_is_not_flushed(&mut self) {
        if self.fact("volatile").is_some() {
            self.disk = Some(Volatile::over(self.flash(), self.folder.join("disk")));
        }
    }

    /// Puts a file into its firmware, where it is from the next boot on.
    pub fn install(&self, path: &str, mode: u32, bytes: &[u8]) {
        let file = self.folder.join("own/rom").join(path);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder in ours");
        fs::write(&file, bytes).expect("a file in our folder");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("our own file");
    }

    /// Switches it on, and says how long it took to start its programs. What is in its flash stays from boot to boot.
    #[track_caller]
    pub fn boot(&mut self, battery: Battery, pace: Pace) -> Duration {
        self.switch_on(battery, pace);
        self.hear("its programs run", BOOTED, |line| {
            assert!(!line.starts_with("init: "), "{line}");
            (line == "<ready>").then_some(())
        });
        self.running.as_ref().expect("it is on").since.elapsed()
    }

    /// The same without waiting for its programs.
    #[track_caller]
    pub fn switch_on(&mut self, battery: Battery, pace: Pace) {
        assert!(self.running.is_none(), "it is on");
        let since = Instant::now();
        self.write_initramfs();
        let socket = self.folder.join("console");
        let console = self.folder.join("console.log");
        // Ends with us, however we end.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(self.home.join("boot")).process_group(0);
        command.env("KERNEL", self.made.join("kernel")).env("TREE", self.made.join("tree")).env("FLASH", self.flash());
        if let Some(disk) = &self.disk {
            command.env("DISK", disk.url());
        }
        command.arg("-initrd").arg(self.folder.join("initramfs")).args(["-display", "none", "-no-reboot"]);
        command.arg("-chardev").arg(format!(
            "socket,id=console,path={},server=on,wait=on,logfile={},logappend=on",
            socket.display(),
            console.display()
        ));
        command.args(["-serial", "chardev:console"]);
        let (http, https) = (self.http, self.https.number());
        command
            .arg("-netdev")
            .arg(format!("user,id=net,hostfwd=tcp:127.0.0.1:{http}-:80,hostfwd=tcp:127.0.0.1:{https}-:443"));
        let clock = if battery == Battery::Full { "utc" } else { "1970-01-01T00:00:00" };
        command.args(["-rtc", &format!("base={clock}")]);
        if pace == Pace::Hurried {
            command.args(["-icount", "shift=3,sleep=off"]);
        }
        let mut emulator = Child::start(&self.folder, "emulator", &mut command);
        let stream = until("the emulator runs", SOON, || match emulator.ended() {
            Some(status) => panic!("the emulator ended at once: {status}\n{}", emulator.log()),
            None => UnixStream::connect(&socket).ok(),
        });
        self.running = Some(Running { emulator, console: stream, since, heard: Vec::new() });
    }

    /// One line of shell on it, which has to succeed; what it said.
    #[track_caller]
    pub fn run(&mut self, line: &str) -> String {
        let (code, said) = self.attempt(line);
        assert_eq!(code, 0, "{line}:\n{said}");
        said
    }

    #[track_caller]
    pub fn attempt(&mut self, line: &str) -> (i32, String) {
        // A terminal takes no longer line.
        assert!(line.len() < 4000 && !line.contains('\n'), "one line of shell");
        self.say(line);
        let code = |said: &str| said.strip_prefix('<')?.strip_suffix('>')?.parse().ok();
        let (code, said) = self.hear(line, DONE, code);
        (code, said.trim().to_owned())
    }

    /// The lines that one line of shell on it has said by then; what becomes of it is not waited for.
    #[track_caller]
    pub fn attempt_until(&mut self, line: &str, end: Instant) -> Vec<String> {
        self.say(line);
        std::iter::from_fn(|| self.line_before(end)).collect()
    }

    /// Ends its programs in good order and switches it off.
    #[track_caller]
    pub fn shut_down(&mut self) {
        self.say("reboot");
        let running = self.running.as_mut().expect("it is on");
        let log = self.folder.join("console.log");
        // The emulator ends where the machine would start anew; not every machine knows how to.
        until("it is down", DONE, || {
            let halted = || fs::read(&log).is_ok_and(|text| ends_with_halt(&String::from_utf8_lossy(&text)));
            (running.emulator.ended().is_some() || halted()).then_some(())
        });
        self.cut();
    }

    /// Pulls the plug. A disk that could forget does not.
    pub fn cut(&mut self) {
        self.cut_and_lose(|| true);
    }

    /// Pulls the plug. Which of the sectors that a disk has not flushed are kept all the same; how many were, of how many.
    pub fn cut_and_lose(&mut self, keep: impl FnMut() -> bool) -> (usize, usize) {
        let Some(mut running) = self.running.take() else { return (0, 0) };
        if running.emulator.ended().is_none()
            && let Some(pid) = i32::try_from(running.emulator.pid()).ok().and_then(Pid::from_raw)
        {
            // It is the leader of a group of its own.
            let _ = kill_process_group(pid, Signal::KILL);
        }
        running.emulator.kill();
        self.disk.as_ref().map_or((0, 0), |disk| disk.cut(keep))
    }

    /// Whether its clock is within a day of ours.
    #[track_caller]
    pub fn has_time(&mut self) -> bool {
        let theirs: u64 = self.run("date +%s").parse().expect("seconds");
        theirs.abs_diff(now()) < 86_400
    }

    #[track_caller]
    pub fn set_clock(&mut self) {
        self.run(&format!("date -s @{}", now()));
    }

    /// What its web UI shows, if these vouch for it.
    pub fn served(&self, name: &str, roots: &[CertificateDer<'static>]) -> io::Result<Facts> {
        cert::served(SocketAddr::from((Ipv4Addr::LOCALHOST, self.https.number())), name, Some(roots))
    }

    /// Its flash, as soon as it has not changed for a while.
    #[track_caller]
    pub fn flash_at_rest(&mut self) -> Flash {
        self.run("sync");
        let mut last = self.flash_now();
        until("the flash is at rest", DONE, || {
            thread::sleep(Duration::from_secs(2));
            let before = std::mem::replace(&mut last, self.flash_now());
            (before.bytes == last.bytes && before.sectors == last.sectors).then_some(before)
        })
    }

    /// How many bytes were written to it from then on.
    #[track_caller]
    pub fn written_since(&mut self, then: &Flash) -> usize {
        let now = self.flash_at_rest();
        assert_eq!(then.bytes.len(), now.bytes.len(), "a flash does not grow");
        match (then.sectors, now.sectors) {
            (Some(before), Some(after)) => (after - before) * 512,
            _ => then.bytes.iter().zip(&now.bytes).filter(|(before, after)| before != after).count(),
        }
    }

    /// Whether it starts with [`Pace::Hurried`].
    pub fn can_hurry(&self) -> bool {
        self.fact("hurries").is_none_or(|can| can != "no")
    }

    #[track_caller]
    pub fn triple(&self) -> String {
        self.fact("triple").expect("triple=, a folder of cross/")
    }

    /// The folder of board/ that it stands for, and what its processor is called there.
    #[track_caller]
    pub fn product(&self) -> (String, Option<String>) {
        let product = self.fact("product").expect("product=, a folder of board/");
        let triple = self.triple();
        let arches = fs::read_to_string(self.home.join("../../board").join(&product).join("arches"));
        let arches = arches.unwrap_or_default();
        let line = arches.lines().find_map(|line| line.strip_prefix(&triple)?.split_whitespace().next());
        (product, line.map(str::to_owned))
    }

    /// What the product that it stands for can spare (`board/<product>/budget`).
    #[track_caller]
    pub fn budget(&self, key: &str) -> f32 {
        let path = self.home.join("../../board").join(self.product().0).join("budget");
        let text = fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("{}: no {key}", path.display()))
    }

    #[track_caller]
    fn flash_now(&mut self) -> Flash {
        let mut bytes = fs::read(self.flash()).expect("the flash's image");
        // Where the image is all of its memory: the part of it that is flash.
        if let Some(window) = self.fact("window") {
            bytes = Self::within(&window, &bytes);
        }
        let (code, stat) = self.attempt("cat /sys/block/vda/stat");
        let sectors = stat.split_whitespace().nth(6).filter(|_| code == 0).and_then(|count| count.parse().ok());
        Flash { bytes, sectors }
    }

    fn within(window: &str, bytes: &[u8]) -> Vec<u8> {
        let numbers = window.split('+').map(|part| usize::from_str_radix(part.trim_start_matches("0x"), 16));
        let numbers: Vec<usize> = numbers.collect::<Result<_, _>>().expect("window=0xFROM+0xSIZE");
        bytes[numbers[0]..numbers[0] + numbers[1]].to_vec()
    }

    fn flash(&self) -> PathBuf {
        self.folder.join("flash")
    }

    /// A line `key=value` of `qemu/<machine>/machine`.
    fn fact(&self, key: &str) -> Option<String> {
        let text = fs::read_to_string(self.home.join("machine")).expect("the machine's description");
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(value.split(" #").next().unwrap_or_default().trim_matches('"').to_owned())
    }

    /// What was fetched, and behind it what was installed here: the kernel unpacks one after the other.
    fn write_initramfs(&self) {
        let mut bytes = fs::read(self.made.join("initramfs")).expect("it was made with the rest");
        let mut pack = Command::new("sh");
        pack.args(["-c", "find . | cpio --quiet -R 0:0 -o -H newc"]).current_dir(self.folder.join("own"));
        let packed = pack.output().expect("cpio");
        assert!(packed.status.success(), "cpio: {}", String::from_utf8_lossy(&packed.stderr));
        bytes.extend(packed.stdout);
        fs::write(self.folder.join("initramfs"), bytes).expect("a file in our folder");
    }

    #[track_caller]
    fn say(&mut self, line: &str) {
        let running = self.running.as_mut().expect("it is on");
        running.console.write_all(format!("{line}\n").as_bytes()).expect("a console");
    }

    /// Waits for a line on its console, and returns what it means and the lines before it.
    #[track_caller]
    fn hear<T>(&mut self, what: &str, limit: Duration, end: impl Fn(&str) -> Option<T>) -> (T, String) {
        let (last, mut before) = (Instant::now() + limit, String::new());
        while let Some(line) = self.line_before(last) {
            if let Some(seen) = end(&line) {
                return (seen, before);
            }
            before += &(line + "\n");
        }
        let running = self.running.as_mut().expect("it is on");
        match running.emulator.ended() {
            Some(_) => panic!("{what}: the emulator has ended; heard:\n{before}\n{}", running.emulator.log()),
            None => panic!("{what}: not within {} s; heard:\n{before}", limit.as_secs()),
        }
    }

    /// The next line on its console, if there is one by then.
    fn line_before(&mut self, end: Instant) -> Option<String> {
        let running = self.running.as_mut().expect("it is on");
        loop {
            if let Some(length) = running.heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = running.heard.drain(..=length).collect();
                return Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned());
            }
            let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            running.console.set_read_timeout(Some(left)).expect("a socket");
            let mut part = [0; 4096];
            match running.console.read(&mut part) {
                Ok(0) => {
                    // Its end is a moment after that of its console.
                    let _ = running.emulator.wait(SOON);
                    return None;
                }
                Ok(count) => running.heard.extend_from_slice(&part[..count]),
                Err(why) if matches!(why.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(why) => panic!("its console: {why}"),
            }
        }
    }

    /// For somebody who has to understand a failure from afar.
    fn explain(&mut self) {
        let console = fs::read(self.folder.join("console.log")).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<&str> = console.lines().collect();
        eprintln!("--- {}: the end of its console ({})", self.name, self.folder.join("console.log").display());
        eprintln!("{}", lines[lines.len().saturating_sub(150)..].join("\n"));
        for line in [
            "cat /etc/edgemd.conf /var/etc/edgemd.conf",
            "logread",
            "product edgemd status",
            "ls -lR /var/lib/edgemd /etc/edgemd /etc/ssl",
            "dmesg | tail -n 20; free; date",
        ] {
            let Some(running) = &mut self.running else { return };
            let asked = running.console.write_all(format!("{line}\n").as_bytes());
            // It may be hanging: no answer is an answer, too.
            let mut text = Vec::new();
            let end = Instant::now() + Duration::from_secs(10);
            while asked.is_ok() && Instant::now() < end && !ends_with_code(&text) {
                let mut part = [0; 4096];
                match running.console.read(&mut part) {
                    Ok(0) => break,
                    Ok(count) => text.extend_from_slice(&part[..count]),
                    Err(_) => {}
                }
            }
            eprintln!("--- {line}\n{}", String::from_utf8_lossy(&text));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            self.explain();
        }
        self.cut();
    }
}

fn ends_with_halt(log: &str) -> bool {
    let tail = log.trim_end().rsplit('\n').next().unwrap_or_default();
    tail.contains("System halted") || tail.contains("Reboot failed")
}

fn ends_with_code(bytes: &[u8]) -> bool {
    bytes.trim_ascii_end().ends_with(b">")
        && bytes.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().is_some_and(|line| line.starts_with(b"<"))
}

/// Seconds since 1970.
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("a clock").as_secs()
}
