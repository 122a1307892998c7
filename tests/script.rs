//! Hooks as real processes.

mod fake;

use edgemd::doors::script::{Event, Script, SystemScript};
use edgemd::words::time::Span;
use fake::Fresh;
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

fn event(argv: &[&str], limit: Span) -> Event {
    Event { argv: argv.iter().map(|word| (*word).into()).collect(), env: vec![], limit, clears: false }
}

fn sh(script: &str) -> Event {
    event(&["/bin/sh", "-c", script], Span::secs(60))
}

fn run(event: &Event) -> Result<(), String> {
    SystemScript::default().run(event).map_err(|trouble| trouble.to_string())
}

/// What the log has from programs of this name.
fn logged(program: &str) -> Vec<String> {
    let head = format!("{program}: ");
    LOG.lock().unwrap().iter().filter_map(|line| line.strip_prefix(&head)).map(String::from).collect()
}

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Collect;

impl log::Log for Collect {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LOG.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

fn collect() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Collect).unwrap();
        log::set_max_level(log::LevelFilter::Info);
    });
}

/// A shell of a name of its own, so that its lines in the log are told from those of other tests.
fn shell_named(fresh: &Fresh, name: &str) -> String {
    let path = fresh.path().join(name);
    std::os::unix::fs::symlink("/bin/sh", &path).unwrap();
    path.to_str().unwrap().into()
}

/// Whether there is a process that is more than its own tombstone.
fn alive(pid: &str) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    state.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Waits for what another process does, and fails loudly if it never does.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::yield_now();
    }
}

fn end(pid: &str) {
    let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

/// Reads a number that the hook has written, once it is whole.
fn pid_in(path: &Path) -> String {
    let mut text = String::new();
    until("a pid in its file", || {
        text = std::fs::read_to_string(path).unwrap_or_default();
        text.ends_with('\n')
    });
    text.trim().into()
}

#[test]
fn the_exit_status_is_the_answer() {
    assert_eq!(run(&sh("exit 0")), Ok(()));
    assert_eq!(run(&sh("exit 3")), Err("running /bin/sh: exited with 3".into()));
    assert_eq!(run(&sh("kill -9 $$")), Err("running /bin/sh: ended by signal 9".into()));
    assert_eq!(run(&event(&[], Span::secs(1))), Err("running a hook: no program is named".into()));
}

#[test]
fn a_program_that_can_t_be_run_is_said_in_a_sentence() {
    let fresh = Fresh::new();
    // Another process writes them: a file that this one has open for writing, or a child of another test that has just
    // been forked, can't be run.
    let file = |name: &str, text: &str, mode: &str| {
        let path = fresh.path().join(name);
        let place = path.display();
        run(&sh(&format!("printf '{text}' > {place}; chmod {mode} {place}"))).unwrap();
        path
    };
    let said = |path: &Path| run(&event(&[path.to_str().unwrap()], Span::secs(60))).unwrap_err();
    let missing = fresh.path().join("missing");
    assert_eq!(said(&missing), format!("running {}: not found", missing.display()));
    let plain = file("plain", r"#!/bin/sh\n", "644");
    assert_eq!(said(&plain), format!("running {}: not executable; chmod +x makes it so", plain.display()));
    let lost = file("lost", r"#!/nowhere/python\n", "755");
    assert!(said(&lost).ends_with(": its interpreter was not found: see its first line"), "{}", said(&lost));
    let text = file("text", r"\001\002\003\004", "755");
    assert!(said(&text).ends_with(": not a program: a script needs a first line like #!/bin/sh"), "{}", said(&text));
    let said_of_dir = said(fresh.path());
    assert!(said_of_dir.ends_with(": a folder, not a program"), "{said_of_dir}");
    let said = run(&event(&["edgemd-no-such-program"], Span::secs(60))).unwrap_err();
    assert_eq!(said, "running edgemd-no-such-program: not found in PATH; give its full path");
}

#[test]
fn there_is_no_shell_between() {
    let fresh = Fresh::new();
    let file = fresh.path().join("$(touch x); *");
    let text = file.to_str().unwrap();
    assert_eq!(run(&event(&["/usr/bin/touch", text], Span::secs(60))), Ok(()));
    assert!(file.exists());
}

#[test]
fn stdin_is_empty_the_environment_is_added_to() {
    let mut event = sh(r#"read line && exit 9; test "$EDGEMD_MD" = "example.org" && test -n "$PATH""#);
    event.env.push(("EDGEMD_MD", "example.org".into()));
    assert_eq!(run(&event), Ok(()));
}

/// As if they were the daemon's own: a program of its is nobody to speak to systemd in its name.
#[test]
fn what_systemd_has_told_us_is_not_handed_on() {
    let mut event = sh(r#"test -z "$NOTIFY_SOCKET$WATCHDOG_USEC$WATCHDOG_PID" && test "$OTHER" = 1"#);
    event.env.extend(["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "OTHER"].map(|name| (name, "1".into())));
    assert_eq!(run(&event), Ok(()));
}

#[test]
fn output_goes_to_the_log_line_by_line() {
    collect();
    let fresh = Fresh::new();
    let shell = shell_named(&fresh, "talker");
    let script = r"echo one; echo two >&2; printf 'bell\007\nrest'; exit 1";
    run(&event(&[&shell, "-c", script], Span::secs(60))).unwrap_err();
    assert_eq!(logged("talker"), ["one", "two", "bell\\u{7}", "rest"]);
}

#[test]
fn a_megabyte_of_output_is_bounded_and_does_not_block() {
    collect();
    let fresh = Fresh::new();
    let shell = shell_named(&fresh, "flooder");
    let script = "yes 'a line that is quite long' | head -c 1048576 >&2; head -c 1048576 /dev/zero; exit 0";
    assert_eq!(run(&event(&[&shell, "-c", script], Span::secs(60))), Ok(()));
    let lines = logged("flooder");
    assert_eq!(lines.len(), 101);
    assert_eq!((&*lines[99], &*lines[100]), ("a line that is quite long", "… more"));
}

#[test]
fn a_hook_that_hangs_is_ended_in_its_time() {
    let start = Instant::now();
    let said = run(&Event { limit: Span::millis(300), ..sh("sleep 1000") }).unwrap_err();
    assert_eq!(said, "running /bin/sh: still running after 300ms, so it was ended; MDHookTimeout sets its time");
    assert!(start.elapsed() >= Duration::from_millis(300) && start.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_hook_that_will_not_go_is_killed_with_its_whole_group() {
    let fresh = Fresh::new();
    let file = fresh.path().join("pid");
    let script = format!("trap '' TERM; sleep 1000 & echo $! > {}; wait; wait", file.display());
    let said = run(&Event { limit: Span::millis(500), ..sh(&script) }).unwrap_err();
    assert!(said.contains("still running after 500ms"), "{said}");
    let child = pid_in(&file);
    until("the grandchild, deaf to SIGTERM as well, is dead", || !alive(&child));
}

#[test]
fn a_member_of_the_group_that_outlives_its_first_is_killed_too() {
    let fresh = Fresh::new();
    let file = fresh.path().join("pid");
    // The first process goes at SIGTERM, the second one does not hear it.
    let script = format!("(trap '' TERM; exec sleep 1000) & echo $! > {}; exec sleep 1000", file.display());
    let said = run(&Event { limit: Span::millis(500), ..sh(&script) }).unwrap_err();
    assert!(said.contains("still running after 500ms"), "{said}");
    let child = pid_in(&file);
    until("the deaf one is dead", || !alive(&child));
}

#[test]
fn a_hook_that_forks_and_stays_counts_at_once_and_is_left_alone() {
    let fresh = Fresh::new();
    let file = fresh.path().join("pid");
    let script = format!("sleep 1000 & echo $! > {}; exit 0", file.display());
    let start = Instant::now();
    assert_eq!(run(&sh(&script)), Ok(()));
    assert!(start.elapsed() < Duration::from_secs(20), "not until the time limit, although the child holds the pipe");
    let child = pid_in(&file);
    assert!(alive(&child), "a daemon that a good hook started stays");
    end(&child);
}

/// A session of its own is a group of its own, which the kernel shows nobody the way to.
#[test]
fn what_has_left_the_group_is_owned_up_to() {
    let fresh = Fresh::new();
    let file = fresh.path().join("pid");
    let hangs = |line: &str| {
        let script = format!("{line}; sleep 1000");
        run(&event(&["/bin/sh", "-c", &script], Span::millis(300))).unwrap_err()
    };
    let start = Instant::now();
    let said = hangs(&format!(
        "setsid sh -c 'echo $$ > {0}; exec sleep 1000' & while ! test -s {0}; do :; done",
        file.display()
    ));
    assert!(said.ends_with("; what it has put into a session of its own stays, and is yours to end"), "{said}");
    let child = pid_in(&file);
    assert!(alive(&child));
    end(&child);
    // One that ignores what is asked of it, and one that has forked twice, are in the group.
    for line in ["trap '' TERM", "(trap '' TERM; sleep 1000 & sleep 1000 &)", "exec >&- 2>&-"] {
        let said = hangs(line);
        assert!(said.ends_with("still running after 300ms, so it was ended; MDHookTimeout sets its time"), "{said}");
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

/// A gigabyte, in a time in which nobody could log it, and none of it kept.
#[test]
fn a_gigabyte_of_output_is_read_and_dropped() {
    collect();
    let fresh = Fresh::new();
    let shell = shell_named(&fresh, "gusher");
    let start = Instant::now();
    let script = "yes 'a line of some length, as they come from a program that has lost its way' | head -c 1000000000";
    run(&event(&[&shell, "-c", script], Span::secs(60))).unwrap();
    let peak = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = peak.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    println!("a gigabyte in {:?}, {peak}", start.elapsed());
    assert_eq!(logged("gusher").len(), 101);
    let kib: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 60_000, "{peak}");
}

#[test]
fn what_a_failed_hook_left_behind_is_ended() {
    let fresh = Fresh::new();
    let file = fresh.path().join("pid");
    let script = format!("sleep 1000 & echo $! > {}; exit 7", file.display());
    assert_eq!(run(&sh(&script)), Err("running /bin/sh: exited with 7".into()));
    let child = pid_in(&file);
    until("the child of the failed hook is gone", || !alive(&child));
    // One that is deaf, and has nothing to say: it would be one more with each try.
    let deaf = fresh.path().join("deaf");
    let script = format!(
        "(trap '' TERM; echo $$ >{0}.ready; exec sleep 1000) >/dev/null 2>&1 & echo $! >{0}; \
         while ! test -s {0}.ready; do :; done; exit 7",
        deaf.display()
    );
    assert_eq!(run(&sh(&script)), Err("running /bin/sh: exited with 7".into()));
    let child = pid_in(&deaf);
    until("the deaf child of the failed hook is gone", || !alive(&child));
}

#[test]
fn somebody_who_stays_and_writes_does_not_hold_us() {
    collect();
    let fresh = Fresh::new();
    let file = fresh.path().join("pid");
    let shell = shell_named(&fresh, "chatter");
    let script = format!("yes chatter & echo $! > {}; exit 0", file.display());
    assert_eq!(run(&event(&[&shell, "-c", &script], Span::secs(60))), Ok(()));
    let child = pid_in(&file);
    // Its pipe is closed, so it ends by itself.
    until("the chatter has nobody to talk to", || !alive(&child));
    assert!(logged("chatter").len() <= 101);
}

#[test]
fn a_stop_ends_the_running_hook_and_refuses_the_next() {
    let fresh = Fresh::new();
    let file: PathBuf = fresh.path().join("pid");
    let mut script = SystemScript::default();
    let ending = script.ending();
    let waiting = {
        let text = format!("trap '' TERM; echo $$ > {}; while :; do sleep 1000; done", file.display());
        std::thread::spawn(move || {
            let start = Instant::now();
            let said = script.run(&sh(&text)).unwrap_err().to_string();
            (said, start.elapsed(), script.run(&sh("exit 0")).unwrap_err().to_string())
        })
    };
    let hook = pid_in(&file);
    ending.end();
    let (said, took, next) = waiting.join().unwrap();
    assert_eq!(said, "running /bin/sh: ended, because edgemd stops");
    assert_eq!(next, "running /bin/sh: not started, because edgemd stops");
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(!alive(&hook), "it is dead and reaped");
}

#[test]
fn no_process_is_left_unreaped() {
    let start = Instant::now();
    let mut script = SystemScript::default();
    for _ in 0..20 {
        script.run(&sh("exit 0")).unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(20));
    // Other tests of this program have their children; none of ours that is done may be a tombstone for long.
    let zombies = || {
        let me = std::process::id().to_string();
        let stats = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let text = std::fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
            let (_, rest) = text.rsplit_once(") ")?;
            let mut fields = rest.split(' ');
            Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
        });
        stats.filter(|(state, parent)| state == "Z" && *parent == me).count()
    };
    until("all of our children are reaped", || zombies() == 0);
}

/// What takes something away is run while edgemd stops, too, for as long as that takes; and a stop does not end it.
#[test]
fn what_clears_up_outlasts_a_stop() {
    let folder = Fresh::new();
    let gone = folder.path().join("gone");
    let clears = |script: &str| Event { clears: true, ..sh(script) };
    let mut script = SystemScript::default();
    let ending = script.ending();
    let begun = folder.path().join("begun");
    let (seen, end) = (begun.clone(), ending.clone());
    let stop = std::thread::spawn(move || {
        while !seen.exists() {
            std::thread::yield_now();
        }
        end.end();
    });
    let text = format!("touch {}; sleep 0.3; touch {}", begun.display(), gone.display());
    script.run(&clears(&text)).unwrap();
    stop.join().unwrap();
    assert!(gone.exists());
    assert!(script.run(&sh("true")).unwrap_err().to_string().contains("not started"));
    script.run(&clears("true")).unwrap();
    let start = Instant::now();
    let said = script.run(&clears("sleep 1000")).unwrap_err().to_string();
    assert!(said.ends_with("ended, because edgemd stops"), "{said}");
    assert!(start.elapsed() < Duration::from_secs(5));
}
