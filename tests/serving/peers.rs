//! The servers: edgemd and whichever of the others is installed, each told to do the same in its own words, on one core.

use crate::fake::served::Served;
use crate::harness::child::{Child, Port};
use crate::harness::measure::installed;
use crate::harness::{Folder, SOON, program, until};
use edgemd::words::time::{Span, Unix};
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;

pub const NAME: &str = "router.example.org";

/// One that runs, and is ended with this.
pub struct Server {
    pub name: &'static str,
    pub child: Child,
    pub https: Port,
    /// And where the answer to a challenge is, if it is a web server.
    pub http: Option<(Port, String)>,
    _folder: Folder,
}

/// What it is to do.
pub struct Job {
    folder: Folder,
    https: Port,
    http: Port,
    ui: u16,
}

type Make = fn(&Job) -> Result<Command, String>;

/// Each by its name, and whether it answers on port 80 as well.
pub const SERVERS: &[(&str, bool, Make)] = &[
    ("edgemd", true, edgemd),
    ("nginx", true, nginx),
    ("haproxy", true, haproxy),
    ("lighttpd", true, lighttpd),
    ("hitch", false, hitch),
    ("stunnel4", false, stunnel),
    ("caddy", true, caddy),
];

impl Server {
    /// Starts it before this web UI; the error is why it can't be.
    pub fn start(name: &'static str, web: bool, make: Make, ui: u16) -> Result<Self, String> {
        let job = Job { folder: Folder::new("serving"), https: Port::reserve(), http: Port::reserve(), ui };
        write_pair(&job.folder);
        let site = job.folder.join("site/.well-known/acme-challenge");
        fs::create_dir_all(&site).map_err(|why| why.to_string())?;
        if name != "edgemd" {
            // As long as a token and a thumbprint are.
            fs::write(site.join("token"), "x".repeat(87)).map_err(|why| why.to_string())?;
        }
        let inner = make(&job)?;
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(inner.get_program()).args(inner.get_args()).current_dir(job.folder.path());
        for key in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
            command.env(key, job.folder.path());
        }
        let mut child = Child::start(&job.folder, name, &mut command);
        let ports = [Some(job.https.number()), web.then_some(job.http.number())];
        let answers = |port: u16| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        until(&format!("{name} listens"), SOON, || match child.ended() {
            Some(status) => panic!("{name}: {status}\n{}", child.log()),
            None => ports.iter().flatten().all(|port| answers(*port)).then_some(()),
        });
        let token = || fs::read_dir(&site).ok()?.flatten().next()?.file_name().into_string().ok();
        let http = web.then(|| {
            let token = until("an answer to be given", SOON, token);
            (job.http, format!("/.well-known/acme-challenge/{token}"))
        });
        Ok(Self { name, child, https: job.https, http, _folder: job.folder })
    }
}

/// A pair of P-256, apart and in one file.
fn write_pair(folder: &Folder) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new([NAME.to_owned()]).expect("a good name");
    let cert = crate::harness::ca::pem("CERTIFICATE", params.self_signed(&key).expect("a certificate").der());
    let key = crate::harness::ca::pem("PRIVATE KEY", &key.serialize_der());
    folder.put("cert.pem", &cert);
    folder.put("key.pem", &key);
    folder.put("pair.pem", &(cert + &key));
}

impl Job {
    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Its configuration in a file, and it with these words before the file's name.
    fn with(&self, program: &Path, words: &[&str], config: &str) -> Command {
        let mut command = Command::new(program);
        command.args(words).arg(self.folder.put("config", config));
        command
    }
}

/// Its certificate is the operator's; an order for another name waits for minutes, so an answer stands on port 80.
fn edgemd(job: &Job) -> Result<Command, String> {
    let ca = Served::start(|| edgemd::doors::clock::wall().unwrap_or(Unix::from_secs(0)), job.http.number());
    ca.ca.weather(|weather| {
        weather.polls = u32::MAX;
        weather.retry_after = Some(Span::mins(1));
    });
    let config = format!(
        "MDStoreDir store\nMDControlSocket control.sock\nMDInitialDelay 0\nMDPortMap http:{http} https:{https}\n\
         MaxConnections 4096\nMaxConnectionsPerHost 4096\n\
         MDCertificateAuthority {ca}\nMDCertificateAgreement accepted\nMDCAChallenges http-01\n\
         MDomain pending.example.org\nMDChallengeWebroot site\nMDDriveMode always\n\
         <MDomainSet {NAME}>\nMDDriveMode manual\nMDCertificateFile cert.pem\nMDCertificateKeyFile key.pem\n</MDomainSet>\n\
         <VirtualHost *:{https}>\nServerName {NAME}\nProxyPass / http://127.0.0.1:{ui}/\n</VirtualHost>\n",
        http = job.http.number(),
        https = job.https.number(),
        ca = ca.directory(),
        ui = job.ui,
    );
    Ok(job.with(&program(), &["run", "-f"], &config))
}

fn nginx(job: &Job) -> Result<Command, String> {
    let config = format!(
        "daemon off;\nworker_processes 1;\nuser root;\npid {pid};\nerror_log stderr;\nevents {{ worker_connections 4096; }}\n\
         http {{\naccess_log off;\nserver {{ listen {http}; root {site}; }}\n\
         upstream ui {{ server 127.0.0.1:{ui}; keepalive 64; }}\n\
         server {{ listen {https} ssl; ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;\n\
         location / {{ proxy_pass http://ui; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}\n}}\n",
        pid = job.path("pid"),
        site = job.path("site"),
        cert = job.path("cert.pem"),
        key = job.path("key.pem"),
        http = job.http.number(),
        https = job.https.number(),
        ui = job.ui,
    );
    Ok(job.with(&installed("nginx")?, &["-p", &job.path(""), "-c"], &config))
}

fn haproxy(job: &Job) -> Result<Command, String> {
    let config = format!(
        "global\nnbthread 1\nmaxconn 4096\ntune.ssl.default-dh-param 2048\n\
         defaults\nmode http\ntimeout client 60s\ntimeout server 60s\ntimeout connect 5s\n\
         frontend plain\nbind :{http}\nhttp-request return status 200 content-type application/octet-stream file {token}\n\
         frontend tls\nbind :{https} ssl crt {pair} alpn http/1.1\ndefault_backend ui\n\
         backend ui\nserver ui 127.0.0.1:{ui}\n",
        token = job.path("site/.well-known/acme-challenge/token"),
        pair = job.path("pair.pem"),
        http = job.http.number(),
        https = job.https.number(),
        ui = job.ui,
    );
    Ok(job.with(&installed("haproxy")?, &["-db", "-f"], &config))
}

fn lighttpd(job: &Job) -> Result<Command, String> {
    let program = installed("lighttpd")?;
    if !Path::new("/usr/lib/lighttpd/mod_openssl.so").is_file() {
        return Err("lighttpd-mod-openssl is not installed".into());
    }
    let config = format!(
        "server.modules = (\"mod_openssl\", \"mod_proxy\")\nserver.port = {http}\nserver.document-root = \"{site}\"\n\
         server.max-connections = 4096\nserver.max-fds = 8192\n\
         $SERVER[\"socket\"] == \":{https}\" {{\nssl.engine = \"enable\"\nssl.pemfile = \"{pair}\"\n\
         proxy.server = (\"\" => ((\"host\" => \"127.0.0.1\", \"port\" => {ui})))\n}}\n",
        site = job.path("site"),
        pair = job.path("pair.pem"),
        http = job.http.number(),
        https = job.https.number(),
        ui = job.ui,
    );
    Ok(job.with(&program, &["-D", "-f"], &config))
}

fn hitch(job: &Job) -> Result<Command, String> {
    let config = format!(
        "frontend = \"[*]:{}\"\nbackend = \"[127.0.0.1]:{}\"\npem-file = \"{}\"\nworkers = 1\nuser = \"root\"\n",
        job.https.number(),
        job.ui,
        job.path("pair.pem")
    );
    // It takes its file with a sign of equality only.
    let config = job.folder.put("config", &config);
    let mut command = Command::new(installed("hitch")?);
    command.arg(format!("--config={}", config.display()));
    Ok(command)
}

fn stunnel(job: &Job) -> Result<Command, String> {
    let config = format!(
        "foreground = yes\npid =\n[https]\naccept = {}\nconnect = 127.0.0.1:{}\ncert = {}\n",
        job.https.number(),
        job.ui,
        job.path("pair.pem")
    );
    Ok(job.with(&installed("stunnel4")?, &[], &config))
}

fn caddy(job: &Job) -> Result<Command, String> {
    let config = format!(
        "{{\nadmin off\nauto_https off\ndefault_sni {NAME}\n}}\nhttp://:{http} {{\nroot * {site}\nfile_server\n}}\n\
         https://{NAME}:{https} {{\ntls {cert} {key}\nreverse_proxy 127.0.0.1:{ui}\n}}\n",
        site = job.path("site"),
        cert = job.path("cert.pem"),
        key = job.path("key.pem"),
        http = job.http.number(),
        https = job.https.number(),
        ui = job.ui,
    );
    Ok(job.with(&installed("caddy")?, &["run", "--adapter", "caddyfile", "--config"], &config))
}
