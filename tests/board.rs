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
        // In the place of a link.
        let _ = fs::remove_file(self.folder.join(&format!("bin/{name}")));
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

/// acme.sh's plugins as they are, with a stand-in for acme.sh: its helpers are there, it does nothing of its own, and the
/// plugin gets the record's name, aliases and all.
#[test]
fn openwrt_s_dns_script_calls_acme_sh_s_plugins() {
    let router = Router::new();
    fs::copy(here("tests/board/acme/dns.config"), router.folder.join("etc/config/acme")).expect("a file");
    assert!(router.generate().0);
    let settings = fs::read_to_string(router.folder.join("var/etc/edgemd.conf.dns/acme.wild")).expect("a file");
    let said = "dns=dns_cf calias=challenge.example dalias=\nexport CF_Token=\"not-a-token\"\nexport CF_Account_ID=7\n";
    assert_eq!(settings, said);
    let mode = fs::metadata(router.folder.join("var/etc/edgemd.conf.dns/acme.wild")).expect("a file").mode();
    assert_eq!(mode & 0o777, 0o640);
    assert!(!router.text("var/etc/edgemd.conf").contains("not-a-token"));

    let client = router.folder.join("usr/lib/acme/client");
    router.put(
        "usr/lib/acme/client/acme.sh",
        "_initpath() { [ -d \"$LE_CONFIG_HOME\" ] && paths=made; }\n_get() { echo got; }\n\
         main() { [ -n \"$1\" ] || { echo help; exit 9; }; \"$@\"; }\nmain \"$@\"\n",
    );
    router.put(
        "usr/lib/acme/client/dnsapi/dns_cf.sh",
        "dns_cf_add() { echo \"add $1 $2 $CF_Token $paths $(_get)\"; [ \"$2\" != bad ]; }\n\
         dns_cf_rm() { echo \"rm $1 $2\"; }\n",
    );
    let script = router.folder.join("usr/lib/edgemd/dns").display().to_string();
    let run = |settings: &str, words: &[&str]| {
        let text = format!("{settings}\nacmesh={}\n", client.display());
        let file = router.folder.put("settings", &text).display().to_string();
        let output = router.sh(&[&[script.as_str(), file.as_str()], words].concat());
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).expect("text"))
    };
    let plain = "dns=dns_cf\nexport CF_Token='a b'";
    for (settings, words, code, said) in [
        (plain, &["setup", "a.example", "VALUE"][..], 0, "add _acme-challenge.a.example VALUE a b made got\n"),
        (plain, &["setup", "a.example", "bad"], 1, "add _acme-challenge.a.example bad a b made got\n"),
        (plain, &["teardown", "a.example", "-VALUE"], 0, "rm _acme-challenge.a.example -VALUE\n"),
        ("dns=dns_cf calias=b.example", &["teardown", "a.example", "V"], 0, "rm _acme-challenge.b.example V\n"),
        ("dns=dns_cf calias=x dalias=b.example", &["teardown", "a.example", "V"], 0, "rm b.example V\n"),
        (plain, &["teardown", "a.example"], 1, "dns SETTINGS setup|teardown NAME VALUE (MDChallengeDns01Version 2)\n"),
        (plain, &["help", "a.example", "V"], 1, "setup or teardown, not help\n"),
        ("", &["setup", "a.example", "V"], 1, " names no plugin (dns=dns_...)\n"),
        ("dns=dns_no", &["setup", "a.example", "V"], 1, "dns_no.sh is missing; opkg install acme-acmesh-dnsapi\n"),
        ("acmesh=/nowhere dns=dns_cf", &["setup", "a.example", "V"], 0, "add _acme-challenge.a.example V  made got\n"),
    ] {
        let (is, text) = run(settings, words);
        assert!(is == Some(code) && text.ends_with(said), "{settings} {words:?}: {is:?} {text}");
    }
    assert!(router.folder.join("var/run/edgemd/acmesh").is_dir());

    // The daemon's jail has what plugins use.
    router.folder.script("usr/lib/edgemd/mark", "");
    fs::create_dir_all(router.folder.join("sbin")).expect("a folder of our own");
    router.folder.script("sbin/ujail", "exit 1");
    let calls = router.init("start");
    assert!(calls.contains("add_jail_mount /var/etc/edgemd.conf.dns /bin /sbin"), "{calls}");
}

/// What the daemon's user may not do is left out, alone; root, who asks, may do it.
#[test]
fn openwrt_asks_for_the_user_that_the_daemon_is_in_its_jail() {
    let router = Router::new();
    router.put(
        "etc/config/edgemd",
        "config cert good\n\toption enabled 1\n\tlist domains a.example\n\n\
         config cert root_s\n\toption enabled 1\n\tlist domains b.example\n\tlist directive 'MDExport /etc/ssl/b 1'\n",
    );
    router.put("etc/passwd", "edgemd:x:65534:65534::/:/bin/false\n");
    // This machine has another user of nobody's rights.
    router.program(
        "edgemd",
        &format!("[ \"$5\" != edgemd ] || set -- \"$1\" \"$2\" \"$3\" --user nobody\nexec {EDGEMD} \"$@\""),
    );
    fs::create_dir_all(router.folder.join("sbin")).expect("a folder of our own");
    router.folder.script("sbin/ujail", "exit 1");
    let (made, log) = router.generate();
    let conf = router.text("var/etc/edgemd.conf");
    assert!(made && conf.contains("a.example") && !conf.contains("b.example"), "{log}\n{conf}");
    assert!(log.starts_with("warn edgemd.root_s is left out: MDExport: \"1\" can't be the owner"), "{log}");
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

/// The link that acme-common and we make there is one that the daemon does not follow.
#[test]
fn openwrt_s_older_webroot_is_the_one_behind_its_link() {
    let router = Router::new();
    fs::copy(here("tests/board/acme/older.config"), router.folder.join("etc/config/acme")).expect("a file");
    fs::create_dir_all(router.folder.join("www/.well-known")).expect("a folder of our own");
    let link = router.folder.join("www/.well-known/acme-challenge");
    symlink("/var/run/acme/challenge/.well-known/acme-challenge", link).expect("a link");
    assert!(router.generate().0);
    let conf = router.text("var/etc/edgemd.conf");
    assert!(conf.contains("MDChallengeWebroot /var/run/acme/challenge\n") && !conf.contains("/www"), "{conf}");
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

/// The store is the daemon's again, whoever wrote to it, and the daemon comes up afterwards.
#[test]
fn openwrt_takes_over_what_acme_common_holds() {
    let router = Router::new();
    let acme = router.folder.join("etc/config/acme");
    let sample = fs::read_to_string(here("tests/board/acme/webroot.config")).expect("a sample");
    fs::write(acme, sample).expect("our own folder");
    // Its own user has the store in this test; the package's paths are not this machine's.
    router.program("edgemd", &format!("[ \"$1\" = import ] && echo \"$@\" && exit\nexec {EDGEMD} \"$@\""));
    fs::remove_file(router.folder.join("usr/sbin/edgemd")).expect("our own link");
    symlink(router.folder.join("bin/edgemd"), router.folder.join("usr/sbin/edgemd")).expect("a link");
    let calls = "stop\nimport -f /var/etc/edgemd.conf /etc/acme\nchown -R edgemd:edgemd /etc/edgemd/store\nstart\n";
    assert_eq!(router.init("import_acme"), calls);
}

#[test]
fn openwrt_hears_of_the_clock_and_of_the_link() {
    let router = Router::new();
    for action in ["clock_set", "link_up"] {
        assert_eq!(router.init(action), "", "nobody is there");
    }
    for (script, env, called) in [
        ("ntp", "ACTION=stratum", "clock_set\n"),
        ("ntp", "ACTION=periodic", ""),
        ("iface", "ACTION=ifup INTERFACE=wan6", "link_up\n"),
        ("iface", "ACTION=ifup INTERFACE=wwan", "link_up\n"),
        ("iface", "ACTION=ifup INTERFACE=lte", "link_up\n"),
        ("iface", "ACTION=ifup INTERFACE=lan", ""),
        ("iface", "ACTION=ifup INTERFACE=loopback", ""),
        ("iface", "ACTION=ifdown INTERFACE=wan", ""),
    ] {
        let init = router.folder.script("init", "echo \"$1\"");
        let text = fs::read_to_string(here(&format!("board/openwrt/root/etc/hotplug.d/{script}/90-edgemd")));
        let text = text.expect("a script").replace("/etc/init.d/edgemd", &init.display().to_string());
        let output = router.sh(&["-c", &format!("{env}\n{text}")]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), called, "{script} {env}");
    }
}

/// Everything in a folder that begins like a configuration, examples in texts included, is one.
#[test]
fn every_configuration_in_board_is_fine() {
    let mut seen = 0;
    for path in files(&here("board")) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let is_config = path.extension().is_some_and(|ending| ending == "conf")
            && text.lines().any(|line| line.trim_start_matches('#').starts_with("MD"));
        if is_config {
            // Also with all that is only suggested.
            let offered: String = text.lines().map(offered).collect();
            for text in [text, offered] {
                seen += 1;
                let folder = Folder::new("conf");
                let conf = folder.put("edgemd.conf", &text);
                let output = Command::new(EDGEMD).args(["check", "-f"]).arg(conf).output().expect("it starts");
                assert!(output.status.success(), "{}: {output:?}\n{text}", path.display());
            }
        }
    }
    assert!(seen >= 4, "only {seen} configurations");
}

/// A line that a `#` and no blank hides is offered.
fn offered(line: &str) -> String {
    match line.strip_prefix('#') {
        Some(hidden) if !hidden.starts_with(' ') => format!("{hidden}\n"),
        _ => format!("{line}\n"),
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn budgets_and_arches_are_of_targets_that_there_are() {
    for product in ["openwrt", "raspberrypi", "generic"] {
        let budget = fs::read_to_string(here("board").join(product).join("budget")).expect("a budget");
        let lines = || budget.lines().filter(|line| !line.starts_with('#')).map(str::split_whitespace);
        for what in ["binary", "compressed", "idle_rss_kib", "peak_rss_kib", "order_files", "renewal_files"] {
            let value = lines().find(|words| words.clone().next() == Some(what)).and_then(|mut words| words.nth(1));
            assert!(value.is_some_and(|value| value.parse::<u32>().is_ok()), "{product}: {what}: {value:?}");
        }
    }
    for product in ["openwrt", "raspberrypi"] {
        let arches = fs::read_to_string(here("board").join(product).join("arches")).expect("a list");
        for line in arches.lines().filter(|line| !line.starts_with('#')) {
            let triple = line.split_whitespace().next().unwrap_or_default();
            assert!(here("cross").join(triple).join("target").exists(), "{product}: {triple}");
            assert!(line.split_whitespace().count() > 1, "{product}: {line}");
        }
    }
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|why| panic!("{command:?}: {why}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Packs a product, with this for its binary; the packages' names.
fn pack(product: &str, arch: &str, folder: &Folder) -> Vec<String> {
    let binary = folder.script("binary", "exit 0");
    let script = here("board").join(product).join("pack");
    let mut command = Command::new(script);
    command.arg(binary).args([arch, &folder.join("out").display().to_string()]).env("EDGEMD", EDGEMD);
    run(&mut command).lines().map(str::to_owned).collect()
}

#[test]
fn openwrt_s_package_has_what_opkg_wants() {
    let folder = Folder::new("ipk");
    let packages = pack("openwrt", "mipsel_24kc", &folder);
    let ipk = &packages[0];
    assert!(ipk.ends_with(&format!("/edgemd_{}-r1_mipsel_24kc.ipk", env!("CARGO_PKG_VERSION"))), "{ipk}");
    let twin = Folder::new("ipk");
    let bytes = |path: &String| fs::read(path).expect("a package");
    let again = pack("openwrt", "mipsel_24kc", &twin);
    assert!(packages.iter().map(bytes).eq(again.iter().map(bytes)), "the same files give the same bytes");
    let tar = |args: &str| run(Command::new("sh").current_dir(folder.path()).args(["-c", &args.replace("IPK", ipk)]));
    assert_eq!(tar("tar xzOf IPK ./debian-binary"), "2.0\n");
    let control = tar("tar xzOf IPK ./control.tar.gz | tar xzO ./control");
    for line in ["Package: edgemd", "Architecture: mipsel_24kc", "Require-User: edgemd:edgemd", "Depends: procd-ujail"]
    {
        assert!(control.lines().any(|is| is == line), "{line}\n{control}");
    }
    assert_eq!(tar("tar xzOf IPK ./control.tar.gz | tar xzO ./conffiles"), "/etc/config/edgemd\n");
    let list = tar("tar xzOf IPK ./data.tar.gz | tar tvz --numeric-owner");
    for (mode, name) in [
        ("-rwxr-xr-x 0/0", "./usr/sbin/edgemd"),
        ("-rwxr-xr-x 0/0", "./etc/init.d/edgemd"),
        ("-rwxr-xr-x 0/0", "./usr/lib/edgemd/generate"),
        ("-rw------- 0/0", "./etc/config/edgemd"),
        ("-rw-r--r-- 0/0", "./usr/share/acl.d/edgemd_acl.json"),
        ("-rw-r--r-- 0/0", "./lib/upgrade/keep.d/edgemd"),
    ] {
        assert!(list.lines().any(|line| line.starts_with(mode) && line.ends_with(name)), "{mode} {name}\n{list}");
    }
}

/// apk-tools 3 takes no file without its checksum, and no package without that of its second part.
#[test]
fn openwrt_s_package_has_what_apk_wants() {
    use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
    let folder = Folder::new("apk");
    let apk = pack("openwrt", "mipsel_24kc", &folder).pop().expect("an .apk behind the .ipk");
    let version = format!("{}-r1", env!("CARGO_PKG_VERSION"));
    assert!(apk.ends_with(&format!("/edgemd-{version}.mipsel_24kc.apk")), "{apk}");
    let sh = |line: &str| run(Command::new("sh").current_dir(folder.path()).args(["-c", &line.replace("FILE", &apk)]));
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();

    let about = sh("tar xzOf FILE .PKGINFO");
    for line in ["pkgname = edgemd", &format!("pkgver = {version}"), "arch = mipsel_24kc", "depend = procd-ujail"] {
        assert!(about.lines().any(|is| is == line), "{line}\n{about}");
    }
    let bytes = fs::read(&apk).expect("a package");
    let second = bytes.windows(3).enumerate().skip(1).filter(|(_, is)| *is == [0x1f, 0x8b, 8]);
    let datahash = about.lines().find_map(|line| line.strip_prefix("datahash = ")).unwrap_or_default();
    let mut hashes = second.map(|(at, _)| hex(digest(&SHA256, &bytes[at..]).as_ref()));
    assert!(hashes.any(|hash| hash == datahash), "{datahash}");

    let list = sh("tar tvzf FILE 2>/dev/null");
    assert!(list.lines().next().is_some_and(|line| line.ends_with(" .PKGINFO")), "{list}");
    for (mode, name) in [
        ("-rwxr-xr-x root/root", ".post-install"),
        ("-rwxr-xr-x root/root", ".post-upgrade"),
        ("-rwxr-xr-x root/root", ".pre-deinstall"),
        ("-rw------- root/root", "etc/config/edgemd"),
        ("-rwxr-xr-x root/root", "etc/init.d/edgemd"),
        ("-rwxr-xr-x root/root", "usr/sbin/edgemd"),
        ("-rw-r--r-- root/root", "lib/apk/packages/edgemd.list"),
    ] {
        assert!(
            list.lines().any(|line| line.starts_with(mode) && line.ends_with(&format!(" {name}"))),
            "{name}\n{list}"
        );
        let file = sh(&format!("tar xzOf FILE {name} 2>/dev/null"));
        let sum =
            format!("APK-TOOLS.checksum.SHA1={}", hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, file.as_bytes()).as_ref()));
        assert_ne!(sh(&format!("zcat FILE | grep -ac '{sum}' || true")), "0\n", "{name}: no {sum}");
    }
    assert!(sh("tar xzOf FILE lib/apk/packages/edgemd.list 2>/dev/null").contains("/usr/sbin/edgemd\n"));
}

#[test]
fn openwrt_s_lists_are_json() {
    for name in ["etc/capabilities/edgemd.json", "usr/share/acl.d/edgemd_acl.json", "usr/share/rpcd/acl.d/edgemd.json"]
    {
        let text = fs::read_to_string(here("board/openwrt/root").join(name)).expect("a list");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|why| panic!("{name}: {why}"));
        if name.starts_with("etc/cap") {
            assert!(json.as_object().expect("sets").values().all(|set| set[0] == "CAP_NET_BIND_SERVICE"), "{json}");
            assert!(json.as_object().expect("sets").values().all(|set| set[1].is_null()), "and no other right");
        }
    }
}

#[test]
fn debian_s_package_has_what_dpkg_wants() {
    let folder = Folder::new("deb");
    let deb = pack("raspberrypi", "armhf", &folder).remove(0);
    let field = |name: &str| run(Command::new("dpkg-deb").args(["-f", &deb, name]));
    assert_eq!(field("Architecture"), "armhf\n");
    assert_eq!(field("Version"), format!("{}\n", env!("CARGO_PKG_VERSION")));
    let list = run(Command::new("dpkg-deb").args(["-c", &deb]));
    for (mode, name) in [
        ("-rwxr-xr-x root/root", "./usr/sbin/edgemd"),
        ("-rw-r--r-- root/root", "./etc/edgemd.conf"),
        ("-rwxr-xr-x root/root", "./usr/lib/edgemd/renewed"),
        ("-rw-r--r-- root/root", "./usr/lib/systemd/system/edgemd.service"),
        ("-rw-r--r-- root/root", "./usr/share/man/man5/edgemd.conf.5.gz"),
        ("-rw-r--r-- root/root", "./usr/share/man/man8/edgemd.8.gz"),
    ] {
        assert!(list.lines().any(|line| line.starts_with(mode) && line.ends_with(name)), "{mode} {name}\n{list}");
    }
    let scripts = run(Command::new("dpkg-deb").args(["-I", &deb, "conffiles"]));
    assert_eq!(scripts, "/etc/edgemd.conf\n");
}

/// systemd-analyze says what it does not understand on stderr, and ends with 0 all the same.
#[test]
fn debian_s_units_are_understood_and_confined() {
    let folder = Folder::new("units");
    let units = here("board/raspberrypi/root/usr/lib/systemd/system");
    let mut restarted = false;
    for path in files(&units) {
        let text = fs::read_to_string(&path).expect("a unit").replace("/usr/sbin/edgemd", EDGEMD);
        if path.ends_with("edgemd-reload@lighttpd.service.d/restart.conf") {
            // On a reload lighttpd can't read its key, which is not www-data's, and ends.
            assert!(
                text.ends_with("\n[Service]\nExecStart=\nExecStart=systemctl try-restart -- %i.service\n"),
                "{text}"
            );
            restarted = true;
            continue;
        }
        let name = path.file_name().expect("a name").to_str().expect("text").replace("@.", "@web.");
        folder.put(&name, &text);
    }
    assert!(restarted);
    for path in files(folder.path()) {
        let mut command = Command::new("systemd-analyze");
        command
            .args(["verify", "--man=no"])
            .arg(&path)
            .env("SYSTEMD_UNIT_PATH", format!("{}:", folder.path().display()));
        let output = command.output().expect("systemd-analyze; tests/setup/packages brings it");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{}: {said}", path.display());
    }
    let unit = folder.join("edgemd.service");
    run(Command::new("systemd-analyze").args(["security", "--offline=yes", "--threshold=20"]).arg(unit));
}

#[test]
fn debian_s_man_page_and_completion_know_every_verb() {
    let help = run(Command::new(EDGEMD).arg("--help"));
    let verbs: Vec<&str> =
        help.lines().filter_map(|line| line.strip_prefix("  edgemd ")?.split_whitespace().next()).collect();
    let page = fs::read_to_string(here("board/raspberrypi/root/usr/share/man/man8/edgemd.8")).expect("a page");
    let completion = here("board/raspberrypi/root/usr/share/bash-completion/completions/edgemd");
    let folder = Folder::new("completion");
    fs::create_dir(folder.join("bin")).expect("a folder of our own");
    symlink(EDGEMD, folder.join("bin/edgemd")).expect("a link");
    let complete = |words: &str, count: usize| {
        let path = format!("{}:{}", folder.join("bin").display(), std::env::var("PATH").unwrap_or_default());
        let line = format!(
            ". {}; COMP_WORDS=({words}) COMP_CWORD={count}; _edgemd; echo \"${{COMPREPLY[@]}}\"",
            completion.display()
        );
        run(Command::new("bash").args(["-c", &line]).env("PATH", path))
    };
    let offered = complete("edgemd ''", 1);
    for verb in verbs.into_iter().filter(|verb| !verb.starts_with('-')) {
        assert!(page.contains(&format!(".B edgemd {verb}")), "{verb} is not in the man page");
        assert!(offered.split_whitespace().any(|word| word == verb), "{verb} is not offered: {offered}");
    }
    assert_eq!(complete("edgemd renew --", 2), "--force --force\n");
    assert_eq!(complete("edgemd reloa", 1), "reload\n");
}

/// The init script of busybox: a start, a crash, a reload, a stop.
#[test]
fn generic_keeps_the_daemon_running() {
    use harness::child::Port;
    use harness::{SOON, until};
    let folder = Folder::new("generic");
    let port = Port::reserve();
    let at = |name: &str| folder.join(name).display().to_string();
    let conf = format!(
        "MDStoreDir {}\nMDControlSocket {}\nMDPortMap http:{} https:-\nMDDriveMode manual\nMDomain a.example\n",
        at("store"),
        at("control.sock"),
        port.number()
    );
    folder.put("conf", &conf);
    fs::create_dir(folder.join("bin")).expect("a folder of our own");
    folder.script("bin/logger", &format!("cat >>{}", at("log")));
    let script = here("board/generic/S60edgemd");
    let call = |verb: &str| {
        let mut command = Command::new("busybox");
        command.arg("ash").arg(&script).arg(verb).env("DAEMON", EDGEMD).env("CONF", at("conf")).env("PID", at("pid"));
        let path = format!("{}:{}", at("bin"), std::env::var("PATH").unwrap_or_default());
        command.env("PAUSE", "0").env("PATH", path).stdin(Stdio::null());
        command.output().expect("busybox; tests/setup/packages brings it")
    };
    let pid = |other: &str| {
        until("a daemon that answers", SOON, || {
            let pid = fs::read_to_string(at("pid")).ok()?.trim().to_owned();
            (pid != other && call("reload").status.success()).then_some(pid)
        })
    };
    assert!(call("start").status.success());
    let first = pid("");
    run(Command::new("kill").args(["-9", &first]));
    let second = pid(&first);
    assert!(call("start").status.success() && call("start").status.success());
    assert_eq!(pid(""), second, "it runs");
    assert_eq!(call("status").status.code(), Some(1), "an MD without a certificate");
    folder.put("conf", &(conf.clone() + "MDRenewWindwo 10\n"));
    assert!(!call("reload").status.success() && !call("start").status.success());
    folder.put("conf", &conf);
    assert!(call("stop").status.success());
    assert!(!Path::new(&format!("/proc/{second}")).exists() && !folder.join("pid").exists());
    let log = fs::read_to_string(at("log")).unwrap_or_default();
    assert!(log.contains("configuration reloaded") && log.ends_with("stopped\n"), "{log}");
}
