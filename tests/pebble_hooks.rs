//! The operator's commands, the exports and the server that should show them, with a real CA.
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod harness;

use harness::ca::{Ca, Knobs};
use harness::cert;
use harness::device::{Device, mode};
use harness::{LATER, SOON, until};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

const A: &str = "a.example.org";
const B: &str = "b.example.org";
const AH10109: &str = "urn:org:apache:httpd:log:AH10109:";

/// A message command that notes what it hears and then does what `body` says; `$event` is the event.
fn message(device: &Device, body: &str) -> PathBuf {
    let heard = device.folder.join("messages");
    let script = format!("echo \"$*\" >>'{}'\nevent=$2\n{body}", heard.display());
    device.folder.script("message", &script)
}

fn heard(device: &Device) -> Vec<String> {
    let text = std::fs::read_to_string(device.folder.join("messages")).unwrap_or_default();
    text.lines().map(String::from).collect()
}

/// The command has one word of its own.
fn conf(program: &Path, rest: &str) -> String {
    format!("MDMessageCmd {} log\n{rest}", program.display())
}

#[test]
fn md_901_001_the_message_command_is_missing() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    device.start_with(&conf(&device.folder.join("nothing"), &format!("MDomain {A}")));
    let md = device.errors(A, 1);
    assert_eq!(md["renewal"]["last"]["problem"], AH10109, "{md}");
    assert!(md["renewal"]["last"]["detail"].to_string().contains("not found"), "{md}");
    assert!(ca.requests().is_empty(), "a renewal that nobody could be asked about is put off: {:?}", ca.requests());
    // A changed configuration does not wait for the hour to be over.
    let good = message(&device, "");
    device.reload_with(&conf(&good, &format!("MDomain {A}")));
    device.complete(A);
}

#[test]
fn md_901_002_the_message_command_fails() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    let program = message(&device, "exit 1");
    device.start_with(&conf(&program, &format!("MDomain {A}")));
    let md = device.errors(A, 1);
    assert_eq!(md["renewal"]["last"]["problem"], AH10109, "{md}");
    assert_eq!(heard(&device), [format!("log renewing {A}")]);
    let said = device.run(&["renew", A]);
    assert!(said.code == Some(1) && said.out.contains("renewal put off"), "{said:?}");
}

#[test]
fn md_901_003_every_event_is_heard_once() {
    let ca = Ca::start(&Knobs { authz_reuse: Some(0), ..Knobs::default() });
    let mut device = Device::new(&ca);
    let program = message(&device, "");
    device.start_with(&conf(&program, &format!("MDomain {A} {B}")));
    device.complete(A);
    let mut lines = heard(&device);
    // The CA asks for the names in an order of its own.
    lines[1..3].sort();
    let expected = ["renewing", "challenge-setup:http-01:a.example.org", "challenge-setup:http-01:b.example.org"];
    let expected = expected.iter().chain(&["renewed", "installed"]).map(|event| format!("log {event} {A}"));
    assert_eq!(lines, expected.collect::<Vec<_>>());
    assert!(device.stop().success());
    device.start();
    device.complete(A);
    assert_eq!(heard(&device).len(), 5, "nothing is said twice");
}

#[test]
fn md_901_020_messages_come_after_the_notification() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    let program = message(&device, "");
    let notify = device
        .folder
        .script("notify", &format!("echo notified \"$*\" >>'{}'", device.folder.join("messages").display()));
    device.start_with(&conf(&program, &format!("MDNotifyCmd {}\nMDomain {A}", notify.display())));
    device.complete(A);
    let setup = format!("log challenge-setup:http-01:{A} {A}");
    let (renewing, renewed, installed) =
        (format!("log renewing {A}"), format!("log renewed {A}"), format!("log installed {A}"));
    assert_eq!(heard(&device), [renewing, setup, format!("notified {A}"), renewed, installed]);
}

#[test]
fn md_901_040_an_answer_that_the_command_refuses() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    let program = message(&device, "case $event in challenge-setup:*) exit 1;; esac");
    device.set("MDRetryDelay", "20s");
    device.start_with(&conf(&program, &format!("MDomain {A}")));
    let md = device.errors(A, 1);
    assert_eq!(md["renewal"]["last"]["problem"], "challenge-setup-failure", "{md}");
    let words: Vec<String> = until("all is said", SOON, || Some(heard(&device)).filter(|lines| lines.len() > 2));
    let (renewing, errored) = (format!("log renewing {A}"), format!("log errored {A}"));
    assert_eq!(words, [renewing, format!("log challenge-setup:http-01:{A} {A}"), errored]);
    assert!(!ca.requests().iter().any(|request| request.starts_with("POST /chalZ/")), "{:?}", ca.requests());
}

/// Hooks that hang, that fork and stay, and that write a megabyte.
#[test]
fn hooks_with_bad_manners_are_ended_and_bounded() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    let stays = device.folder.join("stays");
    let body = format!(
        "case $event in
renewing) head -c 1000000 /dev/zero | tr '\\0' 'x' >&2; for i in 1 2 3; do yes lines | head -n 1000 >&2; done;;
challenge-setup:*) sleep 600 & echo $! >'{}';;
installed) sleep 600;;
esac",
        stays.display()
    );
    let program = message(&device, &body);
    let begun = Instant::now();
    device.start_with(&conf(&program, &format!("MDHookTimeout 2s\nMDomain {A}")));
    device.complete(A);
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
    let log = device.log();
    assert!(log.len() < 200_000 && log.contains("… more"), "{} bytes of log", log.len());
    assert!(log.contains("MDMessageCmd installed: running ") && log.contains("still running after 2s"), "{log}");
    let pid = std::fs::read_to_string(stays).expect("the one that stays");
    let alive = || Path::new("/proc").join(pid.trim()).exists();
    assert!(alive(), "who has answered 0 may leave somebody behind");
    let _ = std::process::Command::new("kill").arg(pid.trim()).status();
    until("it is gone", LATER, || (!alive() || is_zombie(pid.trim())).then_some(()));
}

/// A command that takes the exports away and breaks what it finds in the store: the files are put back, and what it broke
/// is seen at the next start, set aside and ordered anew.
#[test]
fn a_hook_that_breaks_what_it_finds() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    let export = device.folder.join("export");
    let thief = device.folder.script("thief", &format!("rm -r '{}'", export.display()));
    let records = device.folder.join("store/certs").join(A);
    let vandal =
        device.folder.script("vandal", &format!("for file in '{}'/*; do echo broken >$file; done", records.display()));
    device.start_with(&format!("MDNotifyCmd {}\nMDomain {A}", thief.display()));
    let md = device.errors(A, 1);
    let last = &md["renewal"]["last"];
    assert_eq!(last["problem"], "urn:org:apache:httpd:log:AH10108:", "{md}");
    assert_eq!(last["detail"], "it is gone again, since a command was run; it is put back", "{md}");
    device.complete(A);
    let facts = device.exported(A);
    assert_eq!(ca.issued(), 1);
    device.reload_with(&format!("MDNotifyCmd {}\nMDomain {A}", vandal.display()));
    assert_eq!(device.run(&["renew", "--force", A]).code, Some(0));
    assert_ne!(device.exported(A), facts);
    let facts = device.exported(A);
    let ear = device.ear(0);
    let text = format!("MDNotifyCmd {}\nMDomain {A}", ear.program.display());
    assert!(device.stop().success());
    device.start_with(&text);
    device.complete(A);
    assert!(device.log().contains("set aside as"), "{}", device.log());
    assert_ne!(device.exported(A), facts);
    assert_eq!((ca.issued(), ear.heard().len()), (3, 1));
}

fn is_zombie(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z'))
}

/// A TLS server that reads its pair when it is told to, as web servers do: by a file that appears.
fn web_server(device: &Device) -> SocketAddr {
    let made = rcgen::generate_simple_self_signed([A.to_string()]).expect("a certificate");
    let (cert, key) = (device.export(&format!("{A}.crt")), device.export(&format!("{A}.key")));
    let factory =
        (vec![made.cert.der().clone()], PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key"));
    let told = device.folder.join("reload");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    std::thread::spawn(move || {
        let mut pair = factory;
        for stream in listener.incoming().flatten() {
            if std::fs::remove_file(&told).is_ok() {
                pair = (cert::read_chain(&cert), PrivateKeyDer::from_pem_file(&key).expect("the exported key"));
            }
            let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_no_client_auth()
                .with_single_cert(pair.0.clone(), pair.1.clone_key())
                .expect("a pair");
            let mut connection = rustls::ServerConnection::new(Arc::new(config)).expect("a connection");
            let mut stream = stream;
            let _ = connection.complete_io(&mut stream);
        }
    });
    address
}

#[test]
fn a_server_that_does_not_serve_it_is_notified_until_it_does() {
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    let server = web_server(&device);
    let ear = device.ear(0);
    let text = |program: &Path| format!("MDNotifyCmd {}\nMDNotifyServed {server}\nMDomain {A}", program.display());
    // A script that answers 0 and has not done a thing.
    device.start_with(&text(&ear.program));
    let md = device.errors(A, 1);
    let last = &md["renewal"]["last"];
    assert_eq!(last["problem"], "urn:org:apache:httpd:log:AH10108:", "{md}");
    let says = "another certificate is served there, with serial ";
    assert!(last["detail"].as_str().is_some_and(|detail| detail.starts_with(says)), "{md}");
    let said = device.run(&["status"]);
    assert!(said.code == Some(1) && said.out.contains(&format!("looking at {server}: {says}")), "{said:?}");

    let reload = device.folder.script("reload-ui", &format!("touch '{}'", device.folder.join("reload").display()));
    device.reload_with(&text(&reload));
    device.complete(A);
    let shown = cert::served(server, A, Some(&ca.issuing_root())).expect("a handshake");
    assert_eq!(shown, device.exported(A));
    assert_eq!((ca.issued(), device.run(&["status"]).code), (1, Some(0)));
}

/// By the real disk: layout, place, group and mode, changed by a reload and by a restart.
#[test]
fn exports_follow_the_configuration() {
    use std::os::unix::fs::MetadataExt;
    let ca = Ca::start(&Knobs::default());
    let mut device = Device::new(&ca);
    let (here, there) = (device.folder.join("export"), device.folder.join("there"));
    let group = std::fs::metadata(device.folder.path()).expect("our own folder").gid();
    let ear = device.ear(0);
    let text = format!("MDNotifyCmd {}\nMDomain {A}", ear.program.display());
    device.set("MDExport", format!("{} live :{group} 0640", here.display()));
    device.start_with(&text);
    device.complete(A);
    let live = |name: &str| here.join(A).join(name);
    let facts = cert::read_pair(&live("fullchain.pem"), &live("privkey.pem"));
    assert_eq!((cert::read_chain(&live("cert.pem")).len(), cert::read_chain(&live("chain.pem")).len()), (1, 1));
    assert_eq!((mode(&live("privkey.pem")), mode(&live("cert.pem")), mode(&here.join(A))), (0o640, 0o644, 0o755));
    assert_eq!(std::fs::metadata(live("privkey.pem")).expect("the key").gid(), group);

    std::fs::write(live("cert.pem"), "somebody else's").expect("our own folder");
    device.set("MDExport", format!("{} acme", there.display()));
    device.reload_with(&text);
    until("it was told of", LATER, || (ear.heard().len() == 2).then_some(()));
    device.complete(A);
    let name = |ending: &str| there.join(format!("{A}.{ending}"));
    assert_eq!(cert::read_pair(&name("fullchain.crt"), &name("key")), facts);
    assert_eq!((mode(&name("key")), mode(&name("combined.crt")), mode(&name("crt"))), (0o600, 0o600, 0o644));
    let left: Vec<_> = std::fs::read_dir(here.join(A)).expect("the folder stays").flatten().collect();
    assert!(left.len() == 1 && left[0].file_name() == "cert.pem", "ours are gone, what is not stays: {left:?}");

    assert!(device.stop().success());
    device.set("MDExport", format!("{} pair", there.display()));
    device.start_with(&text);
    device.complete(A);
    until("it was told of", LATER, || (ear.heard().len() == 3).then_some(()));
    until("old files are gone", LATER, || (!name("combined.crt").exists()).then_some(()));
    assert_eq!(cert::read_pair(&name("crt"), &name("key")), facts);
    assert_eq!(ca.issued(), 1);
}
