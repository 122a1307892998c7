//! What the project is for, to be watched: a CA, the daemon, a device's web UI, and a certificate that finds its way.
#![allow(clippy::disallowed_methods, reason = "it drives the world from outside, and looks at its clock")]

mod harness;

use harness::ca::{Ca, Knobs, pem};
use harness::cert::{self, Facts};
use harness::child::{Child, Port};
use harness::device::Device;
use harness::{LATER, SOON, until};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::CertificateDer;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::Instant;

const NAME: &str = "router.example.org";

fn main() {
    let begun = Instant::now();
    let ca = Ca::start(&Knobs::default());
    say(&format!("A certificate authority (Pebble) answers at {}; names resolve to this machine.", ca.directory()));

    let mut device = Device::new(&ca);
    let mut ui = Ui::start(&device);
    let factory = ui.shown();
    say(&format!(
        "The device's web UI (lighttpd) serves https on port {} with a self-signed certificate:",
        ui.https.port()
    ));
    show(&factory);

    configure(&mut device, &ca, &ui);
    device.start();
    say("edgemd runs; it orders what is missing, exports it, and calls the script that reloads the UI.");
    device.complete(NAME);
    let roots = ca.issuing_root();
    let first = ui.until_served(&roots, &factory.serial);
    say(&format!(
        "The UI now serves, verified against the root of the authority (after {} requests):",
        ca.requests().len()
    ));
    show(&first);
    through_the_front_door(&ca);

    let stop = AtomicBool::new(false);
    let (second, tally) = thread::scope(|scope| {
        let visitor = ui.visit(scope, &roots, &stop);
        say(
            "Now a renewal before its time, while a visitor opens one connection after the other: edgemd renew --force",
        );
        // Ends the visitor also when something below fails.
        let _end = OnDrop(|| stop.store(true, Ordering::SeqCst));
        let said = device.run(&["renew", "--force", NAME]);
        assert_eq!(said.code, Some(0), "renew --force: {said:?}");
        said.out.lines().chain(said.err.lines()).for_each(|line| println!("      {line}"));
        let second = ui.until_served(&roots, &first.serial);
        stop.store(true, Ordering::SeqCst);
        (second, visitor.join().expect("the visitor comes back"))
    });
    say("The UI now serves:");
    show(&second);
    say(&format!("The serial went from {} to {}.", first.serial, second.serial));
    say(&format!("The visitor made {} requests meanwhile; {} were refused or broken.", tally.made, tally.failed.len()));
    assert!(tally.failed.is_empty(), "a visitor was turned away: {}", tally.failed.join("; "));
    assert!(device.stop().success(), "the daemon's end");
    ui.server.stop();
    say(&format!("That was all, in {:.0} seconds.", begun.elapsed().as_secs_f32()));
}

fn configure(device: &mut Device, ca: &Ca, ui: &Ui) {
    let text = format!(
        "MDNotifyCmd {}\nMDomain {NAME}\n\n<VirtualHost *:{}>\n    ServerName {NAME}\n    ProxyPass / http://{}/\n</VirtualHost>",
        ui.reload.display(),
        ca.http.number(),
        ui.http
    );
    device.write(&text);
    say("This is the device's configuration:");
    let whole = std::fs::read_to_string(device.folder.join("edgemd.conf")).expect("it was just written");
    whole.lines().for_each(|line| println!("      {line}"));
}

/// Port 80 belongs to edgemd, which answers the authority and passes everybody else on to the UI.
fn through_the_front_door(ca: &Ca) {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, ca.http.number())).expect("edgemd listens");
    write!(stream, "GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(PAGE), "through edgemd's port: {answer}");
    say("A request to port 80 that is not for edgemd reaches the UI, too.");
}

const PAGE: &str = "The device is well.";

/// A device's web UI: lighttpd with mod_openssl, https for the world and http on loopback.
struct Ui {
    server: Child,
    https: SocketAddr,
    http: SocketAddr,
    reload: PathBuf,
    _ports: [Port; 2],
}

impl Ui {
    fn start(device: &Device) -> Self {
        let folder = &device.folder;
        let ports = [Port::reserve(), Port::reserve()];
        let [https, http] = [&ports[0], &ports[1]].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port.number())));
        let pair = factory_pair(&device.export(&format!("{NAME}.pem")));
        std::fs::create_dir(folder.join("www")).expect("a folder in ours");
        folder.put("www/index.html", PAGE);
        let config = format!(
            r#"server.modules = ("mod_openssl")
server.document-root = "{root}"
index-file.names = ("index.html")
server.bind = "{http_ip}"
server.port = {http_port}
# Keeps the listening sockets open over a graceful restart.
server.systemd-socket-activation = "enable"
$SERVER["socket"] == "{https}" {{
    ssl.engine = "enable"
    ssl.pemfile = "{pair}"
}}
"#,
            root = folder.join("www").display(),
            http_ip = http.ip(),
            http_port = http.port(),
            pair = pair.display(),
        );
        let config = folder.put("lighttpd.conf", &config);
        let mut command = Command::new(lighttpd());
        command.arg("-D").arg("-f").arg(config);
        let server = Child::start(folder, "lighttpd", &mut command);
        let reload = folder.script("reload-ui", &format!("kill -USR1 {}", server.pid()));
        until("the UI answers", SOON, || TcpStream::connect(https).ok());
        Self { server, https, http, reload, _ports: ports }
    }

    /// What it shows, whoever vouches for it.
    fn shown(&self) -> Facts {
        cert::served(self.https, NAME, None).expect("the UI's certificate")
    }

    /// Waits for another certificate than the one with this serial.
    fn until_served(&self, roots: &[CertificateDer<'static>], old: &str) -> Facts {
        until("the UI serves the new certificate", LATER, || {
            cert::served(self.https, NAME, Some(roots)).ok().filter(|facts| facts.serial != old)
        })
    }

    /// Opens connection after connection until told to stop, and asks for the page on each.
    fn visit<'scope>(
        &'scope self,
        scope: &'scope thread::Scope<'scope, '_>,
        roots: &'scope [CertificateDer<'static>],
        stop: &'scope AtomicBool,
    ) -> ScopedJoinHandle<'scope, Tally> {
        scope.spawn(move || {
            let mut tally = Tally::default();
            while !stop.load(Ordering::SeqCst) {
                tally.made += 1;
                match cert::get(self.https, NAME, "/", Some(roots)) {
                    Ok(answer) if answer.contains(PAGE) => {}
                    Ok(answer) => tally.failed.push(format!("an answer of {} bytes", answer.len())),
                    Err(why) if why.kind() == ErrorKind::ConnectionRefused => tally.failed.push("refused".into()),
                    Err(why) => tally.failed.push(why.to_string()),
                }
            }
            tally
        })
    }
}

#[derive(Default)]
struct Tally {
    made: usize,
    failed: Vec<String>,
}

/// What a device comes with from the factory.
fn factory_pair(path: &Path) -> PathBuf {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![NAME.to_owned()]).expect("a good name");
    params.distinguished_name.push(DnType::CommonName, "the factory");
    let cert = params.self_signed(&key).expect("a certificate");
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder in ours");
    let text = pem("PRIVATE KEY", &key.serialize_der()) + &pem("CERTIFICATE", cert.der());
    std::fs::write(path, text).expect("a file in our folder");
    path.to_owned()
}

fn lighttpd() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let mut programs = folders.map(|folder| folder.join("lighttpd"));
    programs
        .find(|program| program.is_file())
        .expect("there is no lighttpd; run tests/setup/packages demo, or make demo")
}

fn say(sentence: &str) {
    println!("{sentence}");
}

fn show(facts: &Facts) {
    let [from, until] = &facts.dates;
    println!("      issuer {}\n      names  {}", facts.issuer, facts.names.join(", "));
    println!("      from   {from}\n      until  {until}\n      serial {}", facts.serial);
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
