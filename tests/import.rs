//! What other clients hold becomes ours: each layout as that client writes it, through the program.

mod harness;

use edgemd::doors::disk::SystemDisk;
use edgemd::doors::keys::{self, AccountKey};
use edgemd::house::store::{Loaded, Store};
use edgemd::rules::pem::encode;
use edgemd::words::cert::{Account, KeyKind};
use harness::ca::{Ca, Knobs, pem};
use harness::child::{Child, Port};
use harness::device::Device;
use harness::{Folder, SOON, listing, program, until};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SignatureAlgorithm};
use rustls::pki_types::PrivatePkcs8KeyDer;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use time::{Duration, OffsetDateTime};

const A: &str = "a.example";

/// A configuration, a CA that takes connections and says nothing, and another client's folder.
struct Site {
    folder: Folder,
    port: Port,
    ca: TcpListener,
    theirs: PathBuf,
}

/// How a run ended: exit code, stdout, stderr.
type Said = (Option<i32>, String, String);

impl Site {
    fn new() -> Self {
        let ca = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let folder = Folder::new("import");
        let theirs = folder.join("theirs");
        let site = Self { theirs, folder, port: Port::reserve(), ca };
        site.write(&format!("MDomain {A} www.{A}\n"));
        site
    }

    fn write(&self, text: &str) {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let base = format!(
            "MDStoreDir {}\nMDControlSocket {}\nMDPortMap http:{} https:-\nMDInitialDelay 0\nMDExport {}\n\
             MDCertificateAgreement accepted\nMDCertificateAuthority {}\n",
            at("store"),
            at("control.sock"),
            self.port.number(),
            at("export"),
            self.directory(),
        );
        self.folder.put("conf", &(base + text));
    }

    fn directory(&self) -> String {
        format!("http://{}/directory", self.ca.local_addr().expect("a bound socket"))
    }

    /// `127.0.0.1:1234`, as it stands in the CA's URL.
    fn host(&self) -> String {
        self.ca.local_addr().expect("a bound socket").to_string()
    }

    fn run(&self, words: &[&str]) -> Said {
        let output = Command::new(program())
            .args(words)
            .arg("-f")
            .arg(self.folder.join("conf"))
            .output()
            .expect("the program starts");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// Imports; nothing of theirs may change.
    #[track_caller]
    fn import(&self) -> Said {
        let before = listing(&self.theirs);
        let said = self.run(&["import", self.theirs.to_str().expect("a path of ours")]);
        assert_eq!(listing(&self.theirs), before);
        said
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.theirs.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("our own folder");
        fs::write(path, text).expect("our own file");
    }

    fn loaded(&self) -> Loaded {
        Store::open(&self.folder.join("store"), None, &mut SystemDisk).expect("a store").1
    }

    /// The next pass asks the CA for nothing, and exports what was imported.
    #[track_caller]
    fn orders_nothing(&self, exported: &str, chain: &str) {
        let (code, out, err) = self.run(&["once"]);
        assert_eq!(code, Some(0), "{out}{err}");
        self.ca.set_nonblocking(true).expect("a socket");
        assert!(self.ca.accept().is_err(), "the CA was called: {err}");
        assert_eq!(fs::read_to_string(self.folder.join("export").join(exported)).expect("an export"), chain);
    }
}

/// A pair as a CA gives it.
struct Made {
    leaf: String,
    issuer: String,
    key: KeyPair,
}

impl Made {
    /// `until` in days from now; the issuer's organization is of some matter.
    fn new(names: &[&str], until: i64, organization: &str, algorithm: &'static SignatureAlgorithm) -> Self {
        let ca_key = KeyPair::generate().expect("a key");
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::OrganizationName, organization);
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let above = ca.self_signed(&ca_key).expect("an issuer");
        let key = match algorithm == &rcgen::PKCS_RSA_SHA256 {
            true => {
                let der = keys::generate(KeyKind::Rsa(2048)).expect("a key");
                KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(&der[..]), algorithm).expect("the same")
            }
            false => KeyPair::generate_for(algorithm).expect("a key"),
        };
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let mut params = CertificateParams::new(names).expect("good names");
        params.not_before = OffsetDateTime::now_utc() - Duration::days(90 - until);
        params.not_after = OffsetDateTime::now_utc() + Duration::days(until);
        let leaf = params.signed_by(&key, &Issuer::new(ca, ca_key)).expect("a leaf");
        Self { leaf: pem("CERTIFICATE", leaf.der()), issuer: pem("CERTIFICATE", above.der()), key }
    }

    fn fullchain(&self) -> String {
        format!("{}{}", self.leaf, self.issuer)
    }

    fn pkcs8(&self) -> String {
        encode("PRIVATE KEY", &self.key.serialize_der())
    }

    /// As OpenSSL writes keys of P-256 by themselves (RFC 5915).
    fn sec1(&self) -> String {
        encode("EC PRIVATE KEY", &self.key.serialize_der()[29..])
    }
}

fn good(names: &[&str]) -> Made {
    Made::new(names, 60, "Nobody's CA", &rcgen::PKCS_ECDSA_P256_SHA256)
}

/// The numbers of an RSA key in PKCS#8, as a JWK has them.
fn jwk_of_rsa(pkcs8: &[u8]) -> String {
    use base64::Engine;
    let mut rest = &pkcs8[26 + 4..];
    let mut numbers = vec![];
    while rest.len() > 2 {
        let (length, from) = match rest[1] {
            0x82 => (usize::from(rest[2]) << 8 | usize::from(rest[3]), 4),
            0x81 => (usize::from(rest[2]), 3),
            short => (usize::from(short), 2),
        };
        let number: Vec<u8> = rest[from..from + length].iter().copied().skip_while(|byte| *byte == 0).collect();
        numbers.push(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(number));
        rest = &rest[from + length..];
    }
    // The first is the version.
    let names = ["n", "e", "d", "p", "q", "dp", "dq", "qi"];
    let members = names.iter().zip(&numbers[1..]).map(|(name, number)| format!("\"{name}\": \"{number}\", "));
    format!("{{{}\"kty\": \"RSA\"}}", members.collect::<String>())
}

/// certbot 2: links in `live` to numbered files in `archive`, a renewal file, an RSA account in JSON.
#[test]
fn certbot_s_folder_with_its_account() {
    for live in [false, true] {
        let mut site = Site::new();
        let made = good(&[A, &format!("www.{A}")]);
        let chain = made.issuer.clone();
        for (name, text) in
            [("cert", &made.leaf), ("chain", &chain), ("fullchain", &made.fullchain()), ("privkey", &made.pkcs8())]
        {
            site.put(&format!("archive/{A}/{name}1.pem"), "of an earlier time");
            site.put(&format!("archive/{A}/{name}2.pem"), text);
            fs::create_dir_all(site.theirs.join(format!("live/{A}"))).expect("our own folder");
            symlink(format!("../../archive/{A}/{name}2.pem"), site.theirs.join(format!("live/{A}/{name}.pem")))
                .expect("a link");
        }
        site.put("live/README", "This directory contains your keys and certificates.\n");
        let id = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";
        let lines = [
            "# renew_before_expiry = 30 days".into(),
            "version = 2.1.0".into(),
            format!("archive_dir = /etc/letsencrypt/archive/{A}"),
            format!("cert = /etc/letsencrypt/live/{A}/cert.pem"),
            format!("privkey = /etc/letsencrypt/live/{A}/privkey.pem"),
            format!("chain = /etc/letsencrypt/live/{A}/chain.pem"),
            format!("fullchain = /etc/letsencrypt/live/{A}/fullchain.pem"),
            String::new(),
            "# Options used in the renewal process".into(),
            "[renewalparams]".into(),
            format!("account = {id}"),
            "authenticator = standalone".into(),
            format!("server = {}", site.directory()),
            "key_type = ecdsa".into(),
        ];
        site.put(&format!("renewal/{A}.conf"), &(lines.join("\n") + "\n"));
        let account = keys::generate(KeyKind::Rsa(2048)).expect("a key");
        let place = |id: &str, file: &str| format!("accounts/{}/directory/{id}/{file}", site.host());
        site.put(&place(id, "private_key.json"), &jwk_of_rsa(&account));
        site.put(&place(id, "regr.json"), "{\"body\": {}, \"uri\": \"https://ca.example/acme/acct/7\"}");
        site.put(&place(id, "meta.json"), "{\"creation_dt\": \"2026-01-01T00:00:00Z\", \"creation_host\": \"router\"}");
        // One that no renewal uses, although it comes first.
        site.put(&place("00000000000000000000000000000000", "private_key.json"), "{}");
        site.put(
            &place("00000000000000000000000000000000", "regr.json"),
            "{\"uri\": \"https://ca.example/acme/acct/0\"}",
        );

        if live {
            site.theirs = site.theirs.join("live");
        }
        let (code, out, err) = site.import();
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        let lines: Vec<&str> = out.lines().collect();
        assert!(lines[0].starts_with(&format!("{A} [P-256]: imported from ")), "{out}");
        assert!(lines[0].ends_with(&format!(", from {}", site.directory())), "{out}");
        assert!(lines[1].starts_with(&format!("account at {}: imported from ", site.directory())), "{out}");
        assert!(lines[1].ends_with("private_key.json: https://ca.example/acme/acct/7") && lines.len() == 2, "{out}");
        let loaded = site.loaded();
        let saved = &loaded.accounts[&site.directory()];
        assert_eq!(saved.url.as_deref(), Some("https://ca.example/acme/acct/7"));
        let thumbprint = |key: &[u8]| AccountKey::from_pkcs8(key).expect("an RSA key").thumbprint();
        assert_eq!(thumbprint(&saved.key), thumbprint(&account));
        site.orders_nothing(&format!("{A}.crt"), &made.fullchain());

        let (code, out, _) = site.import();
        assert_eq!(code, Some(0), "again: {out}");
        assert!(out.contains("is held already") && out.contains("there is an account at"), "{out}");
    }
}

/// acme.sh: a folder for each certificate, `_ecc` for those keys, shell variables for settings.
#[test]
fn acme_sh_s_home_with_its_account() {
    let site = Site::new();
    site.write(&format!("MDPrivateKeys P-256 RSA 2048\nMDomain {A} www.{A}\n"));
    let names = [A, &format!("www.{A}")];
    let (ec, rsa) = (good(&names), Made::new(&names, 60, "Nobody's CA", &rcgen::PKCS_RSA_SHA256));
    for (folder, made, key) in [
        (
            format!("{A}_ecc"),
            &ec,
            format!("{}{}", encode("EC PARAMETERS", &[6, 8, 42, 134, 72, 206, 61, 3, 1, 7]), ec.sec1()),
        ),
        (A.to_string(), &rsa, encode("RSA PRIVATE KEY", &rsa.key.serialize_der()[26..])),
    ] {
        site.put(&format!("{folder}/{A}.cer"), &made.leaf);
        site.put(&format!("{folder}/{A}.key"), &key);
        site.put(&format!("{folder}/ca.cer"), &made.issuer);
        site.put(&format!("{folder}/fullchain.cer"), &made.fullchain());
        site.put(&format!("{folder}/{A}.csr"), "-----BEGIN CERTIFICATE REQUEST-----\n");
        let conf = format!(
            "Le_Domain='{A}'\nLe_Alt='www.{A}'\nLe_Webroot='no'\nLe_PreHook=''\nLe_API='{}'\nLe_Keylength='ec-256'\n\
             Le_CertCreateTime='1780000000'\nLe_NextRenewTime='1785000000'\n",
            site.directory()
        );
        site.put(&format!("{folder}/{A}.conf"), &conf);
    }
    let account = keys::generate(KeyKind::P256).expect("a key");
    let ca = "ca/127.0.0.1/directory";
    site.put(&format!("{ca}/account.key"), &encode("EC PRIVATE KEY", &account[29..]));
    site.put(&format!("{ca}/account.json"), "{\"status\":\"valid\",\"contact\":[\"mailto:me@a.example\"]}");
    let conf = "ACCOUNT_URL='https://ca.example/acme/acct/9'\nCA_KEY_HASH='x='\nCA_EMAIL='me@a.example'\n";
    site.put(&format!("{ca}/ca.conf"), conf);
    for (name, text) in
        [("account.conf", "LOG_FILE=''\n"), ("acme.sh", "#!/usr/bin/env sh\n"), ("http.header", "HTTP/2 200\n")]
    {
        site.put(name, text);
    }
    let (code, out, err) = site.import();
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains(&format!("{A} [P-256]: imported from ")), "{out}");
    assert!(out.contains(&format!("{A} [RSA 2048]: imported from ")), "{out}");
    assert!(out.contains("account.key: https://ca.example/acme/acct/9\n"), "{out}");
    assert_eq!(site.loaded().accounts[&site.directory()].key, account);
    site.orders_nothing(&format!("{A}.crt"), &ec.fullchain());
    let export = |name: &str| fs::read_to_string(site.folder.join("export").join(name)).expect("an export");
    assert_eq!(export(&format!("{A}.rsa.crt")), rsa.fullchain());
    assert_eq!(export(&format!("{A}.rsa.key")), rsa.pkcs8());
}

/// mod_md's store: a file for each kind of key; its account's key is encrypted.
#[test]
fn mod_md_s_store() {
    let site = Site::new();
    site.write(&format!("MDPrivateKeys RSA 2048 P-384\nMDomain {A}\n"));
    let (rsa, p384) =
        (Made::new(&[A], 60, "x", &rcgen::PKCS_RSA_SHA256), Made::new(&[A], 40, "x", &rcgen::PKCS_ECDSA_P384_SHA384));
    for (kind, made) in [("", &rsa), (".secp384r1", &p384)] {
        site.put(&format!("domains/{A}/pubcert{kind}.pem"), &made.fullchain());
        site.put(&format!("domains/{A}/privkey{kind}.pem"), &made.pkcs8());
    }
    let ca = site.directory();
    let md = format!(
        "{{\"name\": \"{A}\", \"domains\": [\"{A}\"], \"contacts\": [\"mailto:me@{A}\"], \"transitive\": 0, \"ca\": {{\"account\": \
         \"ACME-localhost-0000\", \"proto\": \"ACME\", \"url\": \"{ca}\", \"urls\": [\"{ca}\"], \"agreement\": \"accepted\"}}, \"state\": 2}}"
    );
    site.put(&format!("domains/{A}/md.json"), &md);
    site.put("md_store.json", "{\"version\": 3, \"key\": \"c2VjcmV0\"}");
    let account = format!("{{\"disabled\": false, \"url\": \"https://ca.example/acct/1\", \"ca-url\": \"{ca}\"}}");
    site.put("accounts/ACME-localhost-0000/account.json", &account);
    site.put("accounts/ACME-localhost-0000/account.pem", &encode("ENCRYPTED PRIVATE KEY", b"x"));
    let (code, out, _) = site.import();
    assert_eq!(code, Some(0), "{out}");
    assert!(
        out.contains(&format!("{A} [RSA 2048]: imported")) && out.contains(&format!("{A} [P-384]: imported")),
        "{out}"
    );
    assert!(out.contains("accounts: not imported: mod_md encrypts the keys of its accounts"), "{out}");
    site.orders_nothing(&format!("{A}.p384.crt"), &p384.fullchain());
}

/// OpenWrt's `/etc/ssl/acme`: flat files, and no word of the CA.
#[test]
fn openwrt_s_folder_and_the_ca_that_nobody_wrote_down() {
    let site = Site::new();
    site.write(&format!("MDomain {A}\n"));
    let made = good(&[A]);
    site.put(&format!("{A}.crt"), &made.leaf);
    site.put(&format!("{A}.key"), &made.sec1());
    site.put(&format!("{A}.chain.crt"), &made.issuer);
    site.put(&format!("{A}.fullchain.crt"), &made.fullchain());
    site.put(&format!("{A}.combined.crt"), &format!("{}{}", made.fullchain(), made.sec1()));
    let (code, out, _) = site.import();
    let ca = site.directory();
    assert_eq!(code, Some(0), "{out}");
    assert!(out.ends_with(&format!(", from {ca} (as configured, its issuer does not say otherwise)\n")), "{out}");
    site.orders_nothing(&format!("{A}.crt"), &made.fullchain());

    // The issuer says that it is another one: it is served, and that it is renewed is said.
    let site = Site::new();
    site.write(&format!("MDomain {A}\n"));
    let made = Made::new(&[A], 60, "Let's Encrypt", &rcgen::PKCS_ECDSA_P256_SHA256);
    site.put(&format!("{A}.crt"), &made.fullchain());
    site.put(&format!("{A}.key"), &made.pkcs8());
    let (code, out, _) = site.import();
    assert_eq!(code, Some(0), "{out}");
    let from = "from https://acme-v02.api.letsencrypt.org/directory (by its issuer); it is renewed soon: the certificate is \
                from no CA that is configured\n";
    assert!(out.ends_with(from), "{out}");
}

/// One line for each that is not taken, with the reason; the rest is.
#[test]
fn what_does_not_fit_is_said_and_the_rest_is_taken() {
    let site = Site::new();
    site.write(&format!("MDomain {A}\nMDomain b.example\nMDomain c.example d.example\n"));
    let put = |name: &str, made: &Made, key: &str| {
        site.put(&format!("{name}.crt"), &made.fullchain());
        site.put(&format!("{name}.key"), key);
    };
    let (expired, other) = (Made::new(&[A], -1, "x", &rcgen::PKCS_ECDSA_P256_SHA256), good(&["x.example"]));
    let (rsa, part) = (Made::new(&["b.example"], 60, "x", &rcgen::PKCS_RSA_SHA256), good(&["c.example"]));
    put("expired", &expired, &expired.pkcs8());
    put("other", &other, &other.pkcs8());
    put("rsa", &rsa, &rsa.pkcs8());
    put("part", &part, &part.pkcs8());
    put("mixed", &other, &part.pkcs8());
    put("locked", &other, &encode("ENCRYPTED PRIVATE KEY", b"x"));
    put("garbage", &other, "-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----\n");
    site.put("nothing.crt", "x");
    site.put("nothing.key", "x");
    put("star", &good(&["*.example"]), "x");
    let (early, late) = (Made::new(&[A], 20, "x", &rcgen::PKCS_ECDSA_P256_SHA256), good(&[A, "more.example"]));
    put("early", &early, &early.pkcs8());
    put("late", &late, &late.pkcs8());
    let (code, out, err) = site.import();
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let theirs = |name: &str| site.theirs.join(name).display().to_string();
    for (name, why) in [
        ("expired.crt", "it has expired, at 20"),
        ("other.crt", "it does not have all names of any MD, but x.example\n"),
        ("rsa.crt", "its key is RSA 2048, and b.example wants P-256\n"),
        ("part.crt", "it does not have all names of any MD, but c.example\n"),
        ("mixed.crt", &format!("{}: it is for another key\n", theirs("mixed.crt"))),
        ("locked.crt", &format!("{}: the key is encrypted; store it without a passphrase\n", theirs("locked.key"))),
        ("garbage.crt", &format!("{}: it is no key of P-256, P-384 or RSA", theirs("garbage.key"))),
        ("nothing.crt", &format!("{}: there is no certificate in it\n", theirs("nothing.crt"))),
        ("star.crt", &format!("{}: there is no private key in it\n", theirs("star.key"))),
        ("early.crt", &format!("{} ends later\n", theirs("late.crt"))),
    ] {
        let line = format!("{}: not imported: {why}", theirs(name));
        assert!(out.contains(&line), "{line}\nis not in\n{out}");
    }
    assert!(out.contains(&format!("{A} [P-256]: imported from {}: certificate until", theirs("late.crt"))), "{out}");
    assert_eq!(out.lines().count(), 11, "{out}");
    assert_eq!(site.loaded().certs.len(), 1);

    let site = Site::new();
    let (code, out, _) = site.import();
    let nothing = format!("there is nothing to import in {}\n", site.theirs.display());
    assert_eq!((code, out), (Some(1), nothing));
}

/// A trial says it and does nothing; a daemon that has the store is to be stopped first.
#[test]
fn a_trial_and_a_daemon_in_the_way() {
    let site = Site::new();
    site.write(&format!("MDDriveMode manual\nMDomain {A}\n"));
    let made = good(&[A]);
    site.put(&format!("{A}.crt"), &made.fullchain());
    site.put(&format!("{A}.key"), &made.pkcs8());
    let theirs = site.theirs.to_str().expect("a path of ours");
    let (code, out, _) = site.run(&["import", "--dry-run", theirs]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.starts_with(&format!("{A} [P-256]: to be imported from ")), "{out}");
    assert!(!Path::new(&site.folder.join("store")).exists(), "nothing was done");

    let mut command = Command::new(program());
    let mut daemon = Child::start(&site.folder, "edgemd", command.arg("run").arg("-f").arg(site.folder.join("conf")));
    until("the daemon answers", SOON, || UnixStream::connect(site.folder.join("control.sock")).ok());
    let (code, out, err) = site.import();
    assert_eq!((code, out.as_str()), (Some(69), ""));
    let why = format!("another edgemd with process id {} is at work in this store; stop that one", daemon.pid());
    assert!(err.contains(&why), "{err}");
    let (code, out, _) = site.run(&["import", "--dry-run", theirs]);
    assert!(code == Some(0) && out.contains("to be imported"), "{out}");
    assert_eq!(daemon.stop().code(), Some(0));
    let (code, out, _) = site.import();
    assert_eq!(code, Some(0), "what is renewed by hand can be had this way: {out}");
    assert_eq!(
        site.run(&["import"]),
        (Some(2), String::new(), "import: the folder is missing; see edgemd --help\n".into())
    );
}

/// A real CA: the RSA account that certbot made is found by its key, or by its URL, and used; what was held is not ordered.
#[test]
fn an_account_and_a_certificate_of_certbot_s_go_on_here() {
    let ca = Ca::start(&Knobs::default());
    let key = keys::generate(KeyKind::Rsa(2048)).expect("a key");
    // As certbot would: an account with this key, and a certificate.
    let mut before = Device::new(&ca);
    let (mut store, _) = Store::open(&before.folder.join("store"), None, &mut SystemDisk).expect("a store");
    let account = Account { ca: ca.directory(), key: key.clone(), ..Account::default() };
    store.put_account(&mut SystemDisk, &account).expect("a disk");
    before.write("MDomain a.example.org");
    let said = before.run(&["once"]);
    assert_eq!((said.code, ca.accounts(), ca.issued()), (Some(0), 1, 1), "{said:?}");
    let url = Store::open(&before.folder.join("store"), None, &mut SystemDisk).expect("a store").1;
    let url = url.accounts[&ca.directory()].url.clone().expect("it was made");

    for knows_its_url in [true, false] {
        let theirs = Folder::new("certbot");
        let put = |name: &str, text: &str| {
            fs::create_dir_all(theirs.join(name).parent().expect("a folder")).expect("our own folder");
            fs::write(theirs.join(name), text).expect("our own file");
        };
        let text = |name: &str| fs::read_to_string(before.export(name)).expect("an export");
        put("live/a.example.org/fullchain.pem", &text("a.example.org.crt"));
        put("live/a.example.org/privkey.pem", &text("a.example.org.key"));
        put("renewal/a.example.org.conf", &format!("[renewalparams]\naccount = 01\nserver = {}\n", ca.directory()));
        let directory = ca.directory();
        let place = format!("accounts/{}/01", directory.trim_start_matches("https://"));
        put(&format!("{place}/private_key.json"), &jwk_of_rsa(&key));
        if knows_its_url {
            put(&format!("{place}/regr.json"), &format!("{{\"body\": {{}}, \"uri\": \"{url}\"}}"));
        }
        let mut device = Device::new(&ca);
        device.write("MDomain a.example.org");
        let said = device.run(&["import", theirs.path().to_str().expect("a path of ours")]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let issued = ca.issued();
        let said = device.run(&["once"]);
        assert_eq!((said.code, ca.issued()), (Some(0), issued), "what is held is not ordered: {said:?}");
        assert_eq!(device.exported("a.example.org"), before.exported("a.example.org"));
        device.write("MDomain a.example.org\nMDomain b.example.org");
        let said = device.run(&["once"]);
        assert_eq!((said.code, ca.issued(), ca.accounts()), (Some(0), issued + 1, 1), "{said:?}");
    }
}
