//! What a product is shipped with: scripts driven with stubs of what their system gives them, examples that pass
//! `edgemd check`, folders that are whole. Everything happens in a folder of the test's own.

mod harness;

use harness::Folder;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const EDGEMD: &str = env!("CARGO_BIN_EXE_edgemd");

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A router: the files of the package, functions.sh and rc.common of our own, and programs that write down their calls.
struct Router {
    folder: Folder,
}

impl Router {
    fn new() -> Self {
        let folder = Folder::new("board");
        copy(&here("board/openwrt/root"), folder.path());
        for place in ["lib", "bin", "usr/sbin", "usr/share/libubox"] {
            fs::create_dir_all(folder.join(place)).expect("a folder of our own");
        }
        fs::copy(here("tests/board/openwrt/functions.sh"), folder.join("lib/functions.sh")).expect("a file");
        fs::copy(here("tests/board/openwrt/jshn.sh"), folder.join("usr/share/libubox/jshn.sh")).expect("a file");
        symlink(EDGEMD, folder.join("bin/edgemd")).expect("a link");
        symlink(EDGEMD, folder.join("usr/sbin/edgemd")).expect("a link");
        let router = Self { folder };
        // logger -t edgemd -p daemon.LEVEL TEXT
        router.program("logger", "echo \"${4#daemon.} $5\" >>\"$EDGEMD_ROOT/log\"");
        router
    }

    fn program(&self, name: &str, body: &str) {
        self.folder.script(&format!("bin/{name}"), body);
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.folder.join(name);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder of our own");
        self.folder.put(name, text);
    }

    /// What a file says, with the paths that it would have on the device.
    fn text(&self, name: &str) -> String {
        self.plain(fs::read_to_string(self.folder.join(name)).unwrap_or_default())
    }

    fn plain(&self, text: String) -> String {
        text.replace(&self.folder.path().display().to_string(), "")
    }

    /// The device's shell, busybox's.
    fn sh(&self, args: &[&str]) -> Output {
        let path = format!("{}:{}", self.folder.join("bin").display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("busybox");
        command.arg("ash").args(args).env("EDGEMD_ROOT", self.folder.path()).env("PATH", path).stdin(Stdio::null());
        command.output().expect("busybox; tests/setup/packages brings it")
    }

    /// Makes the configuration anew; whether there is one, and what the log got.
    fn generate(&self) -> (bool, String) {
        let _ = fs::remove_file(self.folder.join("log"));
        let at = |name: &str| self.folder.join(name).display().to_string();
        let output = self.sh(&[&at("usr/lib/edgemd/generate"), &at("var/etc/edgemd.conf")]);
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        (output.status.success(), self.text("log"))
    }

    fn check(&self) -> Output {
        let conf = self.folder.join("var/etc/edgemd.conf");
        Command::new(EDGEMD).args(["check", "-f"]).arg(conf).output().expect("it starts")
    }

    /// What the init script does, a line for each call.
    fn init(&self, action: &str) -> String {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let rc = here("tests/board/openwrt/rc.common").display().to_string();
        let output = self.sh(&[&rc, &at("etc/init.d/edgemd"), action]);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        self.plain(String::from_utf8(output.stdout).expect("text"))
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder of our own");
    for entry in fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("a file");
        }
    }
}

/// Each sample gives the configuration and the log lines beside it. `BLESS=1` writes them.
#[test]
fn openwrt_reads_acme_common_s_configuration_as_it_stands() {
    let mut samples = 0;
    for entry in fs::read_dir(here("tests/board/acme")).expect("samples").map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        if path.extension().is_none_or(|ending| ending != "config") {
            continue;
        }
        samples += 1;
        let router = Router::new();
        fs::copy(&path, router.folder.join("etc/config/acme")).expect("a file");
        let (made, log) = router.generate();
        let conf = router.text("var/etc/edgemd.conf");
        let name = path.display();
        for (ending, is) in [("conf", &conf), ("log", &log)] {
            let golden = path.with_extension(ending);
            if std::env::var_os("BLESS").is_some() && !is.is_empty() {
                fs::write(&golden, is).expect("our own folder");
            }
            assert_eq!(*is, fs::read_to_string(&golden).unwrap_or_default(), "{}", golden.display());
        }
        assert_eq!(made, !conf.is_empty(), "{name}");
        if made {
            let output = router.check();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success() && said.starts_with("configuration is fine\n"), "{name}: {output:?}");
        }
    }
    assert!(samples >= 10, "only {samples} samples");
}

/// Two clients on one configuration would order everything twice.
#[test]
fn openwrt_leaves_acme_s_sections_to_acme_common_while_that_is_on() {
    let router = Router::new();
    fs::copy(here("tests/board/acme/webroot.config"), router.folder.join("etc/config/acme")).expect("a file");
    router.put("etc/crontabs/root", "0 0 * * * /etc/init.d/acme renew\n");
    let (made, log) = router.generate();
    assert!(!made && log.contains("is left to acme-common, which is on"), "{log}");
    router.put("etc/crontabs/root", "");
    assert!(router.generate().0);
    router.put("etc/config/edgemd", "config edgemd main\n\toption acme 0\n");
    assert!(!router.generate().0, "or told not to");
    router.put("etc/config/edgemd", "config edgemd main\n\toption enabled 0\n");
    let (made, log) = router.generate();
    assert!(!made && log == "notice edgemd is disabled in /etc/config/edgemd\n", "{log}");
}

#[test]
fn openwrt_s_own_sections_have_what_acme_common_lacks() {
    let router = Router::new();
    router.put(
        "etc/config/edgemd",
        "config edgemd main\n\toption agreement accepted\n\toption account_email admin@home.example\n\
         \toption proxy_pass 'http://127.0.0.1:8000/'\n\tlist directive 'MDRetryDelay 1mi'\n\
         \tlist directive 'MDRetryDelai 1mi'\n\n\
         config cert router\n\tlist domains router.home.example\n\toption validation_method standalone\n\
         \tlist directive 'MDRenewWindow 20d'\n\tlist directive 'MDWarnWindow 5d'\n\n\
         config cert wrong\n\tlist domains nas.home.example\n\toption validation_method webroot\n\
         \tlist directive 'MDRenewWindow soon'\n",
    );
    let (made, log) = router.generate();
    assert!(made);
    assert_eq!(
        log,
        "warn edgemd.main: directive is left out: unknown directive \"MDRetryDelai\"; did you mean \"MDRetryDelay\"?\n\
         warn edgemd.wrong is left out: MDRenewWindow: \"soon\" has unrecognized format; write a number with d, h, mi, s \
         or ms\n"
    );
    let conf = router.text("var/etc/edgemd.conf");
    for line in [
        "MDCertificateAgreement accepted",
        "MDContactEmail admin@home.example",
        "ProxyPass / http://127.0.0.1:8000/",
        "MDRetryDelay 1mi",
        "    MDRenewWindow 20d",
        "    MDWarnWindow 5d",
        "MDPortMap http:80 https:-",
    ] {
        assert!(conf.lines().any(|is| is == line), "{line}\n{conf}");
    }
    // In the same file, or the jail would go on with the old one; and not touched when nothing is new.
    let inode = |router: &Router| fs::metadata(router.folder.join("var/etc/edgemd.conf")).expect("a file").ino();
    let before = inode(&router);
    let text = router.text("etc/config/edgemd").replace("MDWarnWindow 5d", "MDWarnWindow 6d");
    router.put("etc/config/edgemd", &text);
    assert!(router.generate().0);
    assert!(router.text("var/etc/edgemd.conf").contains("MDWarnWindow 6d"));
    assert_eq!(inode(&router), before);
    assert!(!router.folder.join("var/etc/edgemd.conf.try").exists());
}

#[test]
fn openwrt_starts_an_unprivileged_daemon_in_a_jail_and_a_helper_beside_it() {
    let router = Router::new();
    router.folder.script("usr/lib/edgemd/mark", "");
    fs::create_dir_all(router.folder.join("sbin")).expect("a folder of our own");
    router.folder.script("sbin/ujail", "exit 1");
    fs::copy(here("tests/board/acme/standalone.config"), router.folder.join("etc/config/acme")).expect("a file");
    let mut calls = router.init("start");
    for line in [
        "open_instance daemon",
        "set_param command /usr/sbin/edgemd run -f /var/etc/edgemd.conf",
        "set_param file /var/etc/edgemd.conf",
        "set_param reload_signal HUP",
        "set_param respawn 3600 30 0",
        "set_param user edgemd",
        "set_param group edgemd",
        "set_param no_new_privs 1",
        "set_param capabilities /etc/capabilities/edgemd.json",
        "add_jail edgemd log ubus procfs ronly",
        "open_instance helper",
        "set_param command /usr/lib/edgemd/helper",
        "add_reload_trigger edgemd acme",
        "chown edgemd:edgemd /etc/edgemd/store",
    ] {
        assert!(calls.lines().any(|is| is == line), "{line}\n{calls}");
    }
    let rw = calls.lines().find(|line| line.starts_with("add_jail_mount_rw ")).unwrap_or_default();
    let folders =
        ["/etc/edgemd/store", "/etc/ssl/acme", "/var/run/edgemd", "/var/run/acme/challenge/.well-known/acme-challenge"];
    assert_eq!(rw.split_whitespace().skip(1).collect::<Vec<_>>(), folders);
    for folder in folders {
        assert!(router.folder.join(folder.trim_start_matches('/')).is_dir(), "{folder}");
    }
    let store = fs::metadata(router.folder.join("etc/edgemd/store")).expect("a folder");
    assert_eq!(store.permissions().mode() & 0o777, 0o700);

    // Without a jail a low port needs root; 8080 does not.
    fs::remove_file(router.folder.join("sbin/ujail")).expect("our own file");
    calls = router.init("start");
    assert!(calls.contains("set_param user edgemd") && !calls.contains("capabilities"), "{calls}");
    fs::copy(here("tests/board/acme/alpn.config"), router.folder.join("etc/config/acme")).expect("a file");
    calls = router.init("start");
    assert!(!calls.contains("set_param user"), "{calls}");
    assert!(router.text("log").contains("runs as root: procd-ujail is not installed"), "{}", router.text("log"));

    // Nothing to manage: nothing runs, and whatever ran is ended by procd.
    fs::copy(here("tests/board/acme/disabled.config"), router.folder.join("etc/config/acme")).expect("a file");
    calls = router.init("start");
    assert!(!calls.contains("open_instance") && calls.contains("add_reload_trigger"), "{calls}");
}

/// Flash is written when something changes, not at each boot.
#[test]
fn openwrt_s_start_changes_no_folder_that_is_right() {
    let router = Router::new();
    fs::copy(here("tests/board/acme/webroot.config"), router.folder.join("etc/config/acme")).expect("a file");
    router.init("start");
    let uid = fs::metadata(router.folder.join("etc/edgemd/store")).expect("a folder").uid();
    let at = router.folder.join("etc/init.d/edgemd").display().to_string();
    let rc = here("tests/board/openwrt/rc.common").display().to_string();
    let output = router.sh(&["-c", &format!("DAEMON_UID={uid}; set -- {at} start; . {rc}")]);
    let calls = String::from_utf8(output.stdout).expect("text");
    assert!(calls.contains("open_instance") && !calls.contains("chown"), "{calls}");
}

/// What the daemon says reaches the hotplug scripts and the services, and nothing else does.
#[test]
fn openwrt_s_helper_does_what_acme_common_does() {
    let router = Router::new();
    let root = "$EDGEMD_ROOT";
    // ubus send edgemd JSON; ubus listen edgemd; ubus call service event JSON
    router.program(
        "ubus",
        &format!(
            "case $1 in\nsend) echo \"{{ \\\"$2\\\": $3 }}\" >>{root}/events ;;\nlisten) cat {root}/events ;;\n\
             *) echo \"$*\" >>{root}/calls ;;\nesac"
        ),
    );
    router.program("hotplug-call", &format!("echo \"$1 $ACTION $main_domain\" >>{root}/calls"));
    let tell = |args: &[&str]| {
        let script = router.folder.join("usr/lib/edgemd/tell").display().to_string();
        router.sh(&[&[script.as_str()], args].concat()).status.code()
    };
    assert_eq!(tell(&["renewed", "a.example"]), Some(1), "nobody hears it: it stays owed");
    assert_eq!(tell(&["message", "errored", "a.example"]), Some(0), "this is owed to nobody");
    assert_eq!(router.text("events"), "");

    router.put("var/run/edgemd-helper/hears", "");
    for args in [
        &["message", "renewing", "a.example"][..],
        &["message", "errored", "a.example"],
        &["renewed", "a.example"],
        &["message", "renewed", "a.example"],
        &["renewed", "a.example"],
        &["message", "errored", "a.example"],
        &["message", "challenge-setup:http-01:a.example", "a.example"],
        &["renewed", "*.b.example"],
    ] {
        assert_eq!(tell(args), Some(0), "{args:?}");
    }
    let stranger = "{ \"edgemd\": { \"event\": \"renewed\", \"md\": \"$(reboot)\" } }\nnonsense\n";
    let events = router.text("events") + stranger;
    router.put("events", &events);
    let helper = router.folder.join("usr/lib/edgemd/helper").display().to_string();
    fs::create_dir_all(router.folder.join("etc/edgemd")).expect("a folder of our own");
    assert_eq!(router.sh(&[&helper]).status.code(), Some(1), "the ear is gone: procd starts both again");
    let reload = "call service event { \"type\": \"acme.renew\", \"data\": {} }\n";
    let issue = "call service event { \"type\": \"acme.issue\", \"data\": {} }\n";
    let calls = format!(
        "acme prepare a.example\nacme issue-failed a.example\nacme issued a.example\n{issue}{reload}\
         acme renewed a.example\n{reload}acme renew-failed a.example\nacme issued *.b.example\n{issue}{reload}"
    );
    assert_eq!(router.text("calls"), calls);
    assert_eq!(router.text("etc/edgemd/known"), "a.example\n*.b.example\n");
    assert!(!router.folder.join("var/run/edgemd-helper/hears").exists());
}

#[test]
fn openwrt_hears_of_the_clock_and_of_the_link() {
    let router = Router::new();
    assert_eq!(router.init("clock_set"), "send_signal edgemd daemon HUP\n");
    router.init("link_up");
    for (script, env, called) in [
        ("ntp", "ACTION=stratum", "clock_set\n"),
        ("ntp", "ACTION=periodic", ""),
        ("iface", "ACTION=ifup INTERFACE=wan6", "link_up\n"),
        ("iface", "ACTION=ifup INTERFACE=lan", ""),
        ("iface", "ACTION=ifdown INTERFACE=wan", ""),
    ] {
        let init = router.folder.script("init", "echo \"$1\"");
        let text = fs::read_to_string(here(&format!("board/openwrt/root/etc/hotplug.d/{script}/90-edgemd")));
        let text = text.expect("a script").replace("/etc/init.d/edgemd", &init.display().to_string());
        let output = router.sh(&["-c", &format!("{env}\n{text}")]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), called, "{script} {env}");
    }
}
