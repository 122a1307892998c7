//! A network of the test's own, with every port free and nobody else on it: the test runs a second time, inside.

use super::Folder;
use super::device::bounded;
use std::io::Write;
use std::process::Command;
use std::time::Duration;

/// Said to the test that runs inside.
const INSIDE: &str = "EDGEMD_TEST_INSIDE";

const LONG: Duration = Duration::from_secs(240);

/// Whether this is the test inside, where these names are this machine. Outside it runs the one inside and fails with
/// it; a machine that lets nobody make a network says so, loudly.
#[track_caller]
pub fn inside(test: &str, names: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let user: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["-r"] };
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["-n", "-m"]).args(user).env(INSIDE, "1");
        command
    };
    let possible = unshare().args(["ip", "link", "set", "lo", "up"]).output();
    if !possible.as_ref().is_ok_and(|output| output.status.success()) {
        let why = possible.map_or_else(|why| why.to_string(), |output| String::from_utf8_lossy(&output.stderr).into());
        skipped(test, &format!("it takes root to make a network: {}", why.trim()));
        return false;
    }
    let folder = Folder::new("net");
    folder.put("hosts", &format!("127.0.0.1 localhost {names}\n"));
    folder.put("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    let steps = r#"mount --bind hosts /etc/hosts && mount --bind resolv.conf /etc/resolv.conf && ip link set lo up && exec "$0" --exact "$1" --nocapture"#;
    let this = std::env::current_exe().expect("a program that runs has a path");
    let mut command = unshare();
    command.args(["sh", "-c", steps]).arg(this).arg(test).current_dir(folder.path());
    let output = bounded(&mut command, LONG);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "inside: {}\n{out}\n{err}", output.status);
    print!("{out}{err}");
    false
}

/// Cargo shows what is printed by tests that fail; this is seen always.
pub fn skipped(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "test {test} is SKIPPED: {why}");
}
