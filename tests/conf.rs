//! The language from the outside: golden files, the acceptance cases of the configuration, and the table held against the
//! reader. `EDGEMD_GOLDEN=write cargo test --test conf` writes the golden files anew: read the difference.

use edgemd::doors::text::SystemLibrary;
use edgemd::rules::conf::print;
use edgemd::rules::conf::read::{Library, read};
use edgemd::rules::conf::table::{DIRECTIVES, Directive, Does, Preset};
use edgemd::words::config::{
    Backend, Binding, Chain, Challenge, Config, DriveMode, Layout, ProxyProtocol, RequireHttps, Site, Way,
};
use edgemd::words::time::Span;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

/// Files in memory.
struct Shelf(BTreeMap<String, Vec<u8>>);

impl Library for Shelf {
    fn text(&self, path: &str) -> Result<Vec<u8>, String> {
        let files = self.0.get(path).cloned();
        let system = match path {
            "/etc/passwd" => Some(b"root:x:0:0:root:/root:/bin/sh\n".to_vec()),
            "/etc/group" => Some(b"root:x:0:\nssl-cert:x:110:\n".to_vec()),
            _ => None,
        };
        files.or(system).ok_or_else(|| "no such file or directory".into())
    }
    fn glob(&self, pattern: &str) -> Vec<String> {
        let (head, tail) = pattern.split_once('*').expect("one star");
        self.0.keys().filter(|path| path.starts_with(head) && path.ends_with(tail)).cloned().collect()
    }
    fn env(&self, name: &str) -> Option<String> {
        (name == "UI").then(|| "127.0.0.1:8000".into())
    }
}

fn read_files(files: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let shelf = Shelf(files.iter().map(|(path, text)| (path.to_string(), text.as_bytes().to_vec())).collect());
    read(files[0].0, &shelf).map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

fn read_text(text: &str) -> Result<Config, Vec<String>> {
    read_files(&[("/etc/edgemd.conf", text)])
}

fn fine(text: &str) -> Config {
    read_text(text).unwrap_or_else(|faults| panic!("{text}\n{}", faults.join("\n")))
}

/// The faults of a text, without the file's name.
fn faults(text: &str) -> Vec<String> {
    let faults = read_text(text).err().unwrap_or_default();
    faults.iter().map(|fault| fault.strip_prefix("/etc/edgemd.conf:").unwrap_or(fault).to_string()).collect()
}

fn one_fault(text: &str, part: &str) {
    let faults = faults(text);
    assert!(faults.len() == 1 && faults[0].contains(part), "{text}\nwanted: {part}\nfound: {faults:#?}");
}

fn names(config: &Config) -> Vec<String> {
    config.mds.iter().map(|md| md.names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ")).collect()
}

// Golden files

#[test]
fn golden_files() {
    let write = std::env::var("EDGEMD_GOLDEN").is_ok_and(|word| word == "write");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/conf");
    let mut cases: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|ending| ending == "conf"));
    cases.sort();
    assert!(cases.len() >= 10, "the golden files are gone from {}", folder.display());
    let mut wrong = String::new();
    for case in cases {
        let label = case.file_name().unwrap().to_str().unwrap();
        let shelf = Shelf(BTreeMap::from([(label.to_string(), fs::read(&case).unwrap())]));
        let (ending, found) = match read(label, &shelf) {
            Ok(config) => ("fine", outline(&config)),
            Err(faults) => ("faults", faults.iter().map(|fault| format!("{fault}\n")).collect()),
        };
        let golden = case.with_extension(ending);
        if write {
            for old in ["fine", "faults"] {
                let _ = fs::remove_file(case.with_extension(old));
            }
            fs::write(&golden, &found).unwrap();
        }
        let wanted = fs::read_to_string(&golden).unwrap_or_default();
        if wanted != found {
            writeln!(wrong, "== {} is not what was read:\n{found}-- but:\n{wanted}", golden.display()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// What a configuration means, in lines.
fn outline(config: &Config) -> String {
    let mut out = String::new();
    let Config { ports, listen, store, control, initial_delay, check_interval, .. } = config;
    writeln!(out, "ports {:?} {:?}, store {}, control {control:?}", ports.http, ports.https, store.display()).unwrap();
    writeln!(out, "first delay {initial_delay:?}, check interval {check_interval}").unwrap();
    for one in listen {
        writeln!(out, "listen {:?} {} tls {}", one.addr, one.port, one.tls).unwrap();
    }
    for site in std::iter::once(&config.base).chain(&config.sites) {
        writeln!(
            out,
            "site {:?} at {:?} tls {} to {:?}{}",
            site.names,
            site.addrs,
            site.tls,
            site.proxy,
            through(site)
        )
        .unwrap();
    }
    for md in &config.mds {
        let text = serde_json::to_string_pretty(md).unwrap();
        writeln!(out, "md at line {}: {text}", md.place.line).unwrap();
    }
    for notice in &config.notices {
        writeln!(out, "notice {notice}").unwrap();
    }
    out
}

fn through(site: &Site) -> String {
    site.passthrough.as_ref().map(|way| format!(", TLS passes to {way:?}")).unwrap_or_default()
}

// The table against the reader

/// The example of a row, in a place where it may stand.
fn placed(row: &Directive) -> String {
    let md = "MDomain example.org\n";
    match row.places {
        _ if row.example.contains("Domain") && !row.name.starts_with("<V") => format!("{}\n", row.example),
        places if places.global => format!("{md}{}\n", row.example),
        places if places.site => format!("{md}<VirtualHost *:443>\n{}\n</VirtualHost>\n", row.example),
        // A certificate and its key are nothing without each other.
        _ => {
            let only_here = DIRECTIVES.iter().filter(|row| !row.places.global && !row.places.site);
            let examples: Vec<_> = only_here.map(|row| row.example).collect();
            format!("<MDomainSet example.org>\n{}\n</MDomainSet>\n", examples.join("\n"))
        }
    }
}

#[test]
fn every_example_is_read() {
    for row in DIRECTIVES {
        let text = placed(row);
        match row.does {
            Does::Include { optional: false } => one_fault(&text, "can't be read: no such file or directory"),
            _ => drop(fine(&text)),
        }
    }
}

#[test]
fn every_default_is_what_holds_anyway() {
    let silent = |text: &str| {
        let mut config = fine(text);
        config.notices.clear();
        format!("{config:?}")
    };
    for row in DIRECTIVES {
        let Preset::Value(default) = row.default else { continue };
        for name in row.names() {
            let md =
                "<VirtualHost *:443>\nServerName a.example\nServerAlias b.example\n</VirtualHost>\nMDomain a.example\n";
            assert_eq!(silent(md), silent(&format!("{md}{name} {default}\n")), "{name} {default}");
        }
        let changed = format!("MDomain example.org\n{}\n", row.example);
        if matches!(row.does, Does::Set(_)) && row.name != "MDCertificateProtocol" {
            assert!(!row.example.ends_with(default), "the example of {} says its default", row.name);
            drop(fine(&changed));
        }
    }
}

#[test]
fn every_word_stands_in_the_table_once() {
    let mut seen = BTreeMap::new();
    for row in DIRECTIVES {
        for name in row.names() {
            assert!(seen.insert(name.to_ascii_lowercase(), row.name).is_none(), "{name}");
        }
        assert!(row.example.to_ascii_lowercase().starts_with(&row.name.to_ascii_lowercase().replace('>', "")));
        assert!(row.places.global || row.places.site || row.places.md, "{}", row.name);
        for text in [row.help, row.syntax] {
            assert!(!text.is_empty() && !text.ends_with('.') || text.ends_with("..."), "{}: {text}", row.name);
        }
    }
    // Every word of the language, in the order of the document.
    for name in
        "MDomain <MDomainSet> <MDomain> MDMember MDMembers MDMatchNames MDBaseServer ManagedDomain <ManagedDomain> \
        <VirtualHost> ServerName ServerAlias ServerAdmin SSLEngine ProxyPass Listen ProxyProtocol SSLProxyPassthrough \
        MaxConnections MaxConnectionsPerHost Include IncludeOptional MDCertificateAuthority MDCertificateAgreement MDCertificateProtocol \
        MDContactEmail MDCACertificateFile MDExternalAccountBinding MDHttpProxy MDHttpProxyCACertificateFile MDProfile \
        MDProfileMandatory MDPreferredChain MDDriveMode MDRenewMode MDRenewWindow MDWarnWindow MDRenewViaARI \
        MDCheckInterval MDInitialDelay MDActivationDelay MDRetryDelay MDRetryFailover MDPrivateKeys MDReuseKey \
        MDMustStaple MDCertificateFile MDCertificateKeyFile MDPortMap MDCAChallenges MDChallengeDns01 \
        MDChallengeDns01Version MDChallengeDns01Wait MDChallengeWebroot MDRequireHttps MDStapling MDStapleOthers MDStaplingKeepResponse \
        MDStaplingRenewWindow MDCertificateStatus MDServerStatus MDStoreDir MDStoreLocks MDExport MDNotifyCmd \
        MDMessageCmd MDNotifyServed MDControlSocket MDHookTimeout"
            .split_whitespace()
    {
        assert!(seen.remove(&name.to_ascii_lowercase()).is_some(), "{name} is missing");
    }
    assert!(seen.is_empty(), "not in the document: {seen:?}");
}

#[test]
fn the_reference_has_every_directive() {
    let (plain, json, man) = (print::directives(), print::directives_json(), print::directives_man("0.1.0"));
    let rows: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(rows.len(), DIRECTIVES.len());
    for (row, printed) in DIRECTIVES.iter().zip(rows) {
        assert_eq!(printed["name"], row.name);
        assert!(plain.contains(row.help), "{}", row.name);
        assert!(man.contains(row.name.trim_end_matches('>')), "{}", row.name);
    }
    assert!(man.is_ascii());
    let of = |name: &str| man.split(".TP\n.B ").find(|part| part.starts_with(name)).unwrap().to_string();
    assert_eq!(
        of("MDPortMap"),
        "MDPortMap http:N|\\- https:N|\\-\non which local ports the Internet\\(aqs 80 and 443 arrive; \\-: not at all.\n.br\ndefault: http:80 https:443; \
         global.\n.br\nExample:\n.br\n\\fIMDPortMap http:8080 https:\\-\\fR\n"
    );
    for part in ["\n.B <MDomainSet name [name...] [auto|manual]>\n", "\nglobal, <VirtualHost>.\n", "\nnot in mod_md.\n"]
    {
        assert!(man.contains(part), "{part}");
    }
    for line in man.lines().filter(|line| line.starts_with(['.', '\''])) {
        let known = [".TH", ".SH", ".TP", ".PP", ".br", ".B", ".I", ".BR"];
        assert!(known.contains(&line.split(' ').next().unwrap()), "{line}");
    }
}

// The acceptance cases

#[test]
fn md_100_005_md_110_002_bad_names_are_faults_with_places() {
    for text in ["tld", "\"white sp.ace\"", "invalid.*.wildcard.com", "\u{1f600}.example"] {
        let first = faults(&format!("MDomain {text}"));
        let second = faults(&format!("MDomain example.org {text}"));
        assert!(first.len() == 1 && first[0].starts_with("1:9: \""), "{first:?}");
        assert!(second.len() == 1 && second[0].starts_with("1:21: \""), "{second:?}");
    }
    let shelf = Shelf(BTreeMap::from([("f".into(), b"MDomain k\xfcller.example".to_vec())]));
    let faults = read("f", &shelf).unwrap_err();
    assert_eq!(faults[0].to_string(), "f:1:10: the file has bytes that are not UTF-8 here; save it as UTF-8 text");
    // A private CA may know a name of one label.
    fine("MDCACertificateFile ca.pem\nMDomain router\n");
}

#[test]
fn md_100_006_md_110_101_bad_urls_of_a_ca() {
    for (url, why) in [
        ("acme.example.org", "The CA name 'acme.example.org' is not known and it is not a URL either"),
        ("\"https://acme example.org/\"", "has a space in it"),
        ("https://acme.example.org:-1/", "invalid port"),
    ] {
        one_fault(&format!("MDCertificateAuthority {url}\nMDomain example.org\n"), why);
    }
}

#[test]
fn md_100_009_011_md_110_005_duplicates_go_and_the_order_stays() {
    let config = fine("MDomain test.example.org www.Example.org TEST.example.org a.example.org www.example.org.\n");
    assert_eq!(names(&config), ["test.example.org www.example.org a.example.org"]);
}

#[test]
fn md_100_010_012_md_110_006_008_punycode_and_wildcards() {
    let config = fine("MDomain Müller.example\nMDomain *.example.org\nMDomain 192.0.2.1\nMDomain 日本.example\n");
    assert_eq!(names(&config), ["xn--mller-kva.example", "*.example.org", "192.0.2.1", "xn--wgv71a.example"]);
}

#[test]
fn md_300_003_004_md_100_003_md_110_003_overlaps_name_both_places() {
    let found = faults("MDomain a.example b.example\n# c\nMDomain a.example b.example\n");
    let why = "is in two MDs, here and at /etc/edgemd.conf:1";
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0], format!("3:9: \"a.example\" {why}:9; remove it from one of them"));
    assert_eq!(found[1], format!("3:19: \"b.example\" {why}:19; remove it from one of them"));
    one_fault("MDomain a.example b.example\nMDomain c.example b.example\n", "2:19: \"b.example\" is in two MDs");
    fine("MDMatchNames servernames\nMDomain a.example b.example\nMDomain c.example b.example\n");
    one_fault("MDMatchNames servernames\nMDomain a.example\nMDomain a.example\n", "is in two MDs");
}

const TWO_MDS: &str = "MDomain a.example\nMDomain b.example\n";

#[test]
fn md_300_009_one_virtual_host_in_two_mds() {
    let host = "<VirtualHost *:443>\nServerName a.example\nServerAlias b.example\n</VirtualHost>\n";
    one_fault(
        &format!("{TWO_MDS}{host}"),
        "3:1: the names of this virtual host fall into two MDs: \"a.example\" (/etc/edgemd.conf:1:1) and \"b.example\"",
    );
}

#[test]
fn md_300_011a_011b_021_members() {
    let host = "MDomain a.example\n<VirtualHost *:443>\nServerName a.example\nServerAlias c.example\n</VirtualHost>\n";
    one_fault(&format!("MDMember manual\n{host}"), "5:13: \"c.example\": is not covered by the MD \"a.example\"");
    assert_eq!(names(&fine(&format!("MDMembers auto\n{host}"))), ["a.example c.example"]);
    // The first name is the alias, the ServerName is nobody's.
    let other = "MDMembers manual\nMDomain a.example\n<VirtualHost *:443>\nServerName c.example\nServerAlias a.example\n</VirtualHost>\n";
    one_fault(other, "4:12: \"c.example\": is not covered");
    // Plain http has no certificate to be covered by.
    fine(&host.replace("443", "80").replacen("MDomain", "MDMember manual\nMDomain", 1));
}

#[test]
fn md_110_001_no_names() {
    for text in ["MDomain", "MDomain auto", "<MDomainSet>\n</MDomainSet>"] {
        one_fault(&format!("{text}\n"), "needs at least one domain name");
    }
}

#[test]
fn md_110_102_md_502_003_an_unknown_protocol() {
    one_fault("MDCertificateProtocol FOO\nMDomain a.example\n", "MDCertificateProtocol: ");
    fine("MDCertificateProtocol acme\nMDomain a.example\n");
}

#[test]
fn md_110_400_403_404_the_agreement_is_a_word_or_a_url() {
    let of = |text: &str| fine(&format!("{text}\nMDomain a.example\n")).mds[0].agreement.clone();
    assert_eq!(of("MDCertificateAgreement ACCEPTED").as_deref(), Some("accepted"));
    assert_eq!(of("MDCertificateAgreement https://ca.example/terms").as_deref(), Some("https://ca.example/terms"));
    assert_eq!(of(""), None);
    one_fault("MDCertificateAgreement https://ca.example/terms http://more/\n", "takes one argument");
    for url in ["no.schema/path", "\"http://white space/path\"", "http://bad.port:-1/path", "ftp://ca.example/terms"] {
        one_fault(&format!("MDCertificateAgreement {url}\n"), "is neither 'accepted' nor the URL of the CA's terms");
    }
}

#[test]
fn md_810_002_an_md_s_own_keys_count_before_the_global_ones() {
    let config =
        fine("MDPrivateKeys RSA 4096\nMDomain a.example\n<MDomainSet b.example>\nMDPrivateKeys P-256\n</MDomainSet>\n");
    let keys: Vec<_> = config.mds.iter().map(|md| format!("{:?}", md.keys)).collect();
    assert_eq!(keys, ["[Rsa(4096)]", "[P256]"]);
}

#[test]
fn md_300_015_the_last_one_wins() {
    let text = "MDPrivateKeys Default\nMDPrivateKeys RSA\nMDPrivateKeys RSA 2048\nMDPrivateKeys RSA 3072\nMDPrivateKeys RSA 4096\n";
    let config = fine(&format!("{text}MDomain example.org\n"));
    assert_eq!(format!("{:?}", config.mds[0].keys), "[Rsa(4096)]");
}

#[test]
fn md_300_016_bad_keys() {
    for (words, why) in [
        ("", "1:1: MDPrivateKeys needs to specify the private key type"),
        ("Default RSA 1024", "1:15: MDPrivateKeys: \"Default\": 'Default' allows no other parameter"),
        ("RSA 1024", "1:19: MDPrivateKeys: \"1024\": must be 2048 or higher in order to be considered safe."),
        ("rsa1024", "must be 2048 or higher in order to be considered safe."),
        ("rsa 2048 rsa 4096", "1:24: MDPrivateKeys: \"rsa\": two keys of type 'RSA' are not possible."),
        ("p-256 secp384r1 P-256", "two keys of type 'P-256' are not possible."),
        ("rsaX", "unsupported private key type"),
    ] {
        one_fault(&format!("MDPrivateKeys {words}\n"), why);
    }
}

#[test]
fn md_300_017_bad_windows() {
    for (words, why) in [
        ("dec-31", "MDRenewWindow: \"dec-31\" has unrecognized format"),
        ("1y", "MDRenewWindow: \"1y\" has unrecognized format"),
        ("10 d", "MDRenewWindow takes one argument"),
        ("102%", "a length of 100% or more is not allowed."),
    ] {
        one_fault(&format!("MDRenewWindow {words}\n"), why);
    }
}

#[test]
fn md_300_018_bad_proxies() {
    for (words, why) in [
        ("", "MDHttpProxy takes one argument"),
        ("localhost:8080", "scheme must be http or https"),
        ("https://127.0.0.1:-443", "invalid port"),
        ("HTTP localhost 8080", "MDHttpProxy takes one argument"),
    ] {
        one_fault(&format!("MDHttpProxy {words}\n"), why);
    }
    let roots = |text: &str| fine(&format!("{text}\nMDomain a.example\n")).mds[0].proxy_roots.clone();
    assert_eq!(roots("MDHttpProxyCACertificateFile /proxy.pem"), Some(PathBuf::from("/proxy.pem")));
    assert_eq!(roots("MDHttpProxyCACertificateFile none"), None);
    let found = faults("MDHttpProxy http://me:secret@proxy.example.org:8080\n");
    assert!(found.len() == 1 && !found[0].contains("secret"), "{found:?}");
}

#[test]
fn md_300_001_002_012_an_md_that_nobody_uses_is_worth_a_line() {
    let elsewhere = "<VirtualHost *:443>\nServerName other.example\n</VirtualHost>\n";
    for mds in ["MDomain a.example\n", "MDomain a.example\nMDomain b.example\n"] {
        let config = fine(&format!("{mds}{elsewhere}"));
        let names: Vec<_> = config.mds.iter().map(|md| md.name.as_str()).collect();
        assert_eq!(config.notices.len(), names.len(), "{:?}", config.notices);
        for (name, notice) in names.iter().zip(&config.notices) {
            assert!(notice.contains(&format!("no virtual host and no export uses \"{name}\"")), "{notice}");
        }
        assert!(config.mds.iter().all(|md| !md.driven()), "in mode auto it is not driven");
    }
}

#[test]
fn md_300_014_the_base_server_s_name_may_be_an_md_s() {
    let text = "MDMembers manual\nServerName a.example\nServerAlias b.example\nMDomain a.example\n";
    assert_eq!(names(&fine(text)), ["a.example"]);
    // Managed like a virtual host, its alias is to be covered.
    one_fault(&format!("MDBaseServer on\n{text}"), "4:13: \"b.example\": is not covered by the MD \"a.example\"");
    let auto = format!("MDBaseServer on\n{}", text.replace("manual", "auto"));
    assert_eq!(names(&fine(&auto)), ["a.example b.example"]);
    // It is a user of its MD, beside virtual hosts that are not.
    let beside = format!("{auto}<VirtualHost *:443>\nServerName c.example\n</VirtualHost>\n");
    assert!(fine(&beside).mds[0].driven() && !fine(&beside.replace("MDBaseServer on", "")).mds[0].driven());
    // A name of it in each of two MDs.
    one_fault(&format!("{auto}MDomain b.example\n"), "the names of this virtual host fall into two MDs");
}

#[test]
fn md_300_020_bad_switches() {
    for (words, why) in [
        ("", "MDMustStaple takes one argument"),
        ("yes", "supported parameter values are 'on' and 'off'"),
        ("true", "supported parameter values are 'on' and 'off'"),
    ] {
        one_fault(&format!("MDMustStaple {words}\n"), why);
    }
}

#[test]
fn md_730_003_a_certificate_without_its_key() {
    for half in ["MDCertificateFile a.pem", "MDCertificateKeyFile a.key"] {
        one_fault(&format!("<MDomainSet a.example>\n{half}\n</MDomainSet>\n"), "each certificate needs its key");
    }
    let both = "<MDomainSet a.example>\nMDCertificateFile a.pem\nMDCertificateKeyFile a.key\n</MDomainSet>\n";
    let config = fine(both);
    assert!(config.mds[0].statics.len() == 1 && !config.mds[0].driven() && config.notices.is_empty(), "{config:?}");
    assert!(fine(&both.replace("MDCertificateFile", "MDDriveMode always\nMDCertificateFile")).mds[0].driven());
}

#[test]
fn an_owner_is_found_by_name_and_may_have_a_layout_before_it() {
    let export = |words: &str| {
        let config = fine(&format!("MDExport /out {words}\nMDomain a.example\n"));
        let export = config.mds[0].export.clone().expect("an export");
        (export.layout, export.owner, export.group, export.mode)
    };
    assert_eq!(export(""), (Layout::Pair, None, None, 0o600));
    assert_eq!(export("acme root:ssl-cert 0640"), (Layout::Acme, Some(0), Some(110), 0o640));
    assert_eq!(export(":ssl-cert"), (Layout::Pair, None, Some(110), 0o600));
    assert_eq!(export("live 640"), (Layout::Live, None, None, 0o640));
    assert_eq!(export("1000:1000 0600"), (Layout::Pair, Some(1000), Some(1000), 0o600));
}

#[test]
fn md_300_025_known_cas() {
    let production = "https://acme-v02.api.letsencrypt.org/directory";
    let staging = "https://acme-staging-v02.api.letsencrypt.org/directory";
    for (name, url) in [
        ("LetsEncrypt", production),
        ("letsencrypt", production),
        ("letsencrypt-test", staging),
        ("LETSEncrypt-TESt", staging),
    ] {
        let config = fine(&format!("MDCertificateAuthority {name}\nMDomain example.org\n"));
        assert_eq!(config.mds[0].cas, [url]);
    }
    for name in ["buypass", "Buypass-Test"] {
        one_fault(&format!("MDCertificateAuthority {name}\n"), &format!("the ACME service of {name} has ended"));
    }
    one_fault("MDCertificateAuthority https://me:secret@ca.example/dir\n", "a user or password in the URL of a CA");
}

#[test]
fn md_300_028_a_shared_alias() {
    let host = |name: &str| format!("<VirtualHost *:443>\nServerName {name}\nServerAlias c.example\n</VirtualHost>\n");
    let text = format!("MDMember manual\n{TWO_MDS}{}{}", host("a.example"), host("b.example"));
    assert_eq!(faults(&text).len(), 2);
    fine(&format!("MDMatchNames servernames\n{text}"));
}

#[test]
fn md_310_107_108_contacts_and_case() {
    let host =
        |name: &str| format!("<VirtualHost *:443>\nServerName {name}\nServerAdmin admin@{name}\n</VirtualHost>\n");
    let config = fine(&format!(
        "ServerAdmin x@y.example\n{}{}{}MDomain C.EXAMPLE\n",
        TWO_MDS.to_uppercase().replace("MDOMAIN", "MDomain"),
        host("a.example"),
        host("B.example")
    ));
    let contacts: Vec<_> = config.mds.iter().map(|md| md.contacts.join(" ")).collect();
    assert_eq!(contacts, ["mailto:admin@a.example", "mailto:admin@B.example", "mailto:x@y.example"]);
    assert_eq!(names(&config), ["a.example", "b.example", "c.example"]);
    let config = fine("ServerAdmin x@y.example\nMDContactEmail mailto:z@y.example\nMDomain a.example\n");
    assert_eq!(config.mds[0].contacts, ["mailto:z@y.example"]);
}

#[test]
fn md_300_019_require_https() {
    let part = "supported parameter values are 'temporary' and 'permanent'";
    one_fault("MDRequireHTTPS yes\n", &format!("1:16: MDRequireHttps: \"yes\" is none of these: {part}"));
    one_fault("MDRequireHTTPS\n", "1:1: MDRequireHttps takes one argument");
    one_fault("MDRequireHTTPS off off\n", "1:1: MDRequireHttps takes one argument");
}

#[test]
fn md_310_121_308_require_https_comes_from_the_nearest_place() {
    let of = |text: &str| fine(text).mds.iter().map(|md| md.require_https).collect::<Vec<_>>();
    assert_eq!(of("MDomain a.example\n"), [RequireHttps::Off]);
    assert_eq!(of("MDomain a.example\nmdrequirehttps Temporary\n"), [RequireHttps::Temporary]);
    let text = "MDRequireHttps permanent\n\
        <VirtualHost *:443>\nServerName b.example\nMDRequireHttps temporary\n</VirtualHost>\n\
        <MDomainSet a.example>\nMDRequireHttps off\n</MDomainSet>\nMDomain b.example\nMDomain c.example\n";
    assert_eq!(of(text), [RequireHttps::Off, RequireHttps::Temporary, RequireHttps::Permanent]);
}

#[test]
fn md_920_003_both_views_are_on_unless_switched_off() {
    let of = |text: &str| {
        let config = fine(text);
        (config.certificate_status, config.server_status)
    };
    assert_eq!(of("MDCertificateStatus on\n"), (true, true));
    assert_eq!(of("MDCertificateStatus off\n"), (false, true));
    assert_eq!(of("MDServerStatus OFF\n"), (true, false));
    one_fault("<MDomainSet a.example>\nMDServerStatus off\n</MDomainSet>\n", "is not allowed inside");
}

// What else the whole decides

#[test]
fn settings_come_from_the_nearest_place() {
    let config = fine(
        "MDRenewWindow 1d\nMDDriveMode manual\nMDExport /export\n\
         <VirtualHost *:443>\nServerName a.example\nMDRenewWindow 2d\n</VirtualHost>\n\
         <MDomainSet a.example>\nMDDriveMode always\nMDExport none\n</MDomainSet>\nMDomain b.example\n",
    );
    let seen: Vec<_> =
        config.mds.iter().map(|md| (md.window.to_string(), md.drive, md.export.is_some(), md.used)).collect();
    assert_eq!(seen, [("2d".into(), DriveMode::Always, false, true), ("1d".into(), DriveMode::Manual, true, true)]);
    assert!(!config.mds[1].driven());
}

/// Of several virtual hosts the first with TLS speaks for an MD, else the first; and always the one it was written in.
#[test]
fn one_virtual_host_speaks_for_an_md() {
    let host = |port: u16, days: u16, inside: &str| {
        format!("<VirtualHost *:{port}>\nServerName a.example\nMDRenewWindow {days}d\n{inside}</VirtualHost>\n")
    };
    let md = "MDomain a.example\n";
    for (text, window) in [
        (format!("{md}{}{}", host(80, 1, ""), host(443, 2, "")), "2d"),
        (format!("{md}{}{}", host(443, 1, ""), host(80, 2, "")), "1d"),
        (format!("{md}{}{}", host(443, 1, ""), host(443, 2, "")), "1d"),
        (format!("{md}{}{}", host(80, 1, ""), host(80, 2, "")), "1d"),
        (format!("{}{}", host(80, 1, md), host(443, 2, "")), "1d"),
    ] {
        assert_eq!(fine(&text).mds[0].window.to_string(), window, "{text}");
    }
}

#[test]
fn names_of_sites() {
    let named =
        |name: &str| fine(&format!("<VirtualHost *:80>\nServerName {name}\n</VirtualHost>\n")).sites[0].names.join(" ");
    for (written, name) in [
        ("https://A.example:443", "a.example"),
        ("a.example.", "a.example"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
    ] {
        assert_eq!(named(written), name, "{written}");
    }
    one_fault("ServerName *.a.example\n", "\"*.a.example\" is no name of a site");
    one_fault("ServerName a.example:x\n", "has no valid port");
    one_fault("ServerAlias a!b.example\n", "\"a!b.example\" is no name of a site");
    // A pattern is a pattern wherever its star stands.
    let pattern = "<VirtualHost *:80>\nServerName b.example\nServerAlias *.a?.example\n</VirtualHost>\n";
    let used = fine(&format!("MDomain x.ab.example\nMDomain x.abc.example\n{pattern}"));
    assert_eq!(used.mds.iter().map(|md| md.used).collect::<Vec<_>>(), [true, false]);
    let odd = |members: &str| {
        format!(
            "MDomain a.example {members}\n<VirtualHost *:443>\nServerName a.example\nServerAlias a_b.example\n</VirtualHost>\n"
        )
    };
    one_fault(&odd("auto"), "; as the members of the MD \"a.example\" are 'auto', it would join");
    let manual = faults(&odd("manual"));
    assert!(manual.len() == 1 && !manual[0].contains("it would join"), "{manual:?}");
}

#[test]
fn numbers_and_names_for_others() {
    let config = fine("MaxConnections 70\nMaxConnectionsPerHost 7\nMDProfile short\nMDomain a.example\n");
    assert_eq!((config.connections, config.per_host), (70, 7));
    assert_eq!(config.mds[0].profile.as_deref(), Some("short"));
    for name in ["\"\"", "a\x01b"] {
        one_fault(&format!("MDProfile {name}\n"), "is no name of a profile");
    }
}

#[test]
fn a_variable_has_a_name() {
    one_fault("MDomain ${A-B}.example\n", "\"${\" begins the name of a variable, which ends with \"}\"");
    one_fault("MDomain ${A_B}.example\n", "the environment has no variable \"A_B\"");
    one_fault("MDomain ${A_B\r\n", "\"${\" begins the name of a variable, which ends with \"}\"");
}

/// Whatever stands in a section that may not be there, the rest of the outer one is read as what it is.
#[test]
fn a_virtual_host_stands_by_itself() {
    let inner = "<VirtualHost *:81>\nServerName b.example\n</VirtualHost>\n";
    one_fault(&format!("<VirtualHost *:80>\n{inner}SSLEngine off\n</VirtualHost>\n"), "2:1: ");
    let found = faults(&format!("<MDomainSet a.example>\n{inner}MDRenewWindow 10%\n</MDomainSet>\n"));
    assert!(found.len() == 2 && found[1].starts_with("3:1: ServerName is not allowed inside"), "{found:?}");
}

#[test]
fn what_is_used() {
    let host = "<VirtualHost *:443>\nServerName www.a.example\n</VirtualHost>\n";
    let used = |text: &str| fine(text).mds.iter().map(|md| md.used).collect::<Vec<_>>();
    assert_eq!(used(TWO_MDS), [true, true]);
    assert_eq!(used(&format!("{TWO_MDS}{host}")), [false, false]);
    assert_eq!(used(&format!("MDomain *.a.example\nMDomain b.example\n{host}")), [true, false]);
    assert_eq!(used(&format!("MDExport out\n{TWO_MDS}{host}")), [true, true]);
    let config = fine(&format!("{TWO_MDS}{host}"));
    assert!(
        config.notices[0].contains(":1:1: no virtual host and no export uses \"a.example\""),
        "{:?}",
        config.notices
    );
}

#[test]
fn joined_names_lead_on() {
    let host = |names: &str| format!("<VirtualHost *:443>\nServerName {names}\n</VirtualHost>\n");
    let config = fine(&format!(
        "MDomain a.example\n{}{}",
        host("b.example\nServerAlias d.example"),
        host("a.example\nServerAlias b.example")
    ));
    assert_eq!(names(&config), ["a.example b.example d.example"]);
    // Names under a wildcard of the MD need not join.
    let config = fine(&format!("MDomain a.example *.a.example\n{}", host("a.example:443\nServerAlias x.a.example")));
    assert_eq!(names(&config), ["a.example *.a.example"]);
    // What can't be on a certificate can't join.
    one_fault(&format!("MDomain a.example\n{}", host("a.example\nServerAlias www*")), "4:13: \"www*\": has a '*'");
    one_fault(
        &format!("MDomain a.example\n{}", host("a.example\nServerAlias router")),
        "4:13: \"router\": has only one label",
    );
}

#[test]
fn md_100_008_a_name_of_its_own_beside_a_wildcard() {
    let host = "<VirtualHost *:443>\nServerName a.x.example\n</VirtualHost>\n";
    let config = fine(&format!("MDomain *.x.example\nMDomain a.x.example\n{host}"));
    assert_eq!(config.mds.iter().map(|md| md.used).collect::<Vec<_>>(), [false, true]);
    // An alias with a wildcard is a name of both.
    one_fault(
        "MDomain a.x.example\nMDomain b.x.example\n<VirtualHost *:443>\nServerName a.x.example\nServerAlias *.x.example\n</VirtualHost>\n",
        "fall into two MDs",
    );
}

#[test]
fn ports_and_listeners() {
    let listens = |text: &str| fine(text).listen.iter().map(|one| (one.port, one.tls)).collect::<Vec<_>>();
    assert_eq!(listens(""), [(80, false)], "443 may be a web UI's, and nothing is served there");
    for text in [
        "<VirtualHost *:443>\n</VirtualHost>\n",
        "MDPortMap https:443\n",
        "MDBaseServer on\n",
        "SSLProxyPassthrough 127.0.0.1:4443\n",
    ] {
        assert_eq!(listens(text), [(80, false), (443, true)], "{text}");
    }
    assert_eq!(listens("MDPortMap http:8080 https:-"), [(8080, false)]);
    assert_eq!(
        listens("MDPortMap 80:8080 443:8443\nListen 8080\nListen [::1]:8443\nListen 9 https"),
        [(8080, false), (8443, true), (9, true)]
    );
    one_fault("Listen 80\nListen 80 https\n", "2:8: Listen: port 80 is listened on already, see /etc/edgemd.conf:1:8");
    for pair in [
        "Listen 80\nListen 127.0.0.1:80\n",
        "Listen [::1]:80\nListen 80 https\n",
        "Listen 0.0.0.0:80\nListen 10.0.0.1:80\n",
        "Listen [::1]:80\nListen [::]:80\n",
        "Listen [::]:80\nListen 80\n",
    ] {
        one_fault(pair, "2:8: Listen: port 80 is listened on already, see /etc/edgemd.conf:1:8");
    }
    assert_eq!(listens("MDPortMap https:8443\nListen 443"), [(443, true)], "as everybody knows");
    assert_eq!(listens("MDPortMap http:443 https:8443\nListen 443"), [(443, false)], "but for a map that says so");
    let arrives = |text: &str| fine(&format!("{text}\nMDomain a.example\n")).mds[0].tls_arrives;
    assert!(arrives("Listen 80\nListen 443") && arrives("MDPortMap https:8443\nListen 8443"));
    assert!(!arrives("MDPortMap https:-\nListen 8443 https"), "no port 443 of the Internet leads there");
    assert!(!arrives("Listen 443 http"));
    assert_eq!(listens("Listen 0.0.0.0:80\nListen [::]:80\nListen 127.0.0.1:81\nListen 127.0.0.2:81").len(), 4);
    let sites = fine("MDPortMap https:8443\n<VirtualHost *:443 [::1]:8443>\n</VirtualHost>\n<VirtualHost *:80>\nSSLEngine on\n</VirtualHost>\n<VirtualHost *:8443>\nSSLEngine off\n</VirtualHost>\n").sites;
    assert_eq!(sites.iter().map(|site| site.tls).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(sites[0].addrs.iter().map(|addr| addr.1).collect::<Vec<_>>(), [8443, 8443]);
}

#[test]
fn each_kind_of_key_has_its_directory() {
    let (ecc, rsa) = ("https://acme.ssl.com/sslcom-dv-ecc", "https://acme.ssl.com/sslcom-dv-rsa");
    let other = "https://ca.example.org/directory";
    for (keys, wanted, all) in [
        ("P-256 rsa2048", &[[ecc, other], [rsa, other]][..], &[ecc, other, rsa][..]),
        ("rsa2048 P-384", &[[rsa, other], [ecc, other]], &[rsa, other, ecc]),
        ("rsa3072", &[[rsa, other]], &[rsa, other]),
    ] {
        let config = fine(&format!("MDCertificateAuthority SSLcom {other}\nMDPrivateKeys {keys}\nMDomain a.example\n"));
        let md = &config.mds[0];
        let wants: Vec<_> = md.wants([0; 8]).map(|want| want.cas).collect();
        assert_eq!(wants, wanted, "{keys}");
        assert_eq!(md.cas, all, "an account may be at each of them");
    }
}

/// Of a virtual host's ports only the one that is mapped to 443 may be another server's.
#[test]
fn a_port_of_a_virtual_host_that_nobody_listens_on_is_worth_a_line() {
    let site = "MDomain a.example\n<VirtualHost *:80 *:443>\nServerName a.example\n</VirtualHost>\n";
    let unheard = |ports: &str| fine(&format!("{ports}\n{site}")).notices.join("\n");
    for ports in ["MDPortMap http:8080 https:8443", "Listen 8080\nMDPortMap https:-", "MDPortMap http:-"] {
        let said = unheard(ports);
        let count = said.matches("nothing listens on port ").count();
        assert!(
            count == 1 && said.contains("port 80 of this virtual host; see MDPortMap and Listen"),
            "{ports}: {said}"
        );
    }
    for ports in ["", "Listen 80", "MDPortMap https:8443", "MDPortMap https:-"] {
        assert_eq!(unheard(ports), "", "{ports}");
    }
    let odd = fine("MDomain a.example\n<VirtualHost *:8443>\nServerName a.example\nSSLEngine on\n</VirtualHost>\n");
    assert!(odd.notices[0].contains("nothing listens on port 8443"), "{:?}", odd.notices);
}

#[test]
fn paths_count_from_the_folder() {
    let config = fine(
        "MDStoreDir store\nMDControlSocket off\nMDExport out combined\nMDNotifyCmd hooks/reload \"a b\"\nMDCACertificateFile /ca.pem\nMDomain router\n",
    );
    assert_eq!(config.store, PathBuf::from("/etc/store"));
    assert_eq!(config.control, None);
    let md = &config.mds[0];
    let export = md.export.as_ref().unwrap();
    assert_eq!((export.dir.to_str().unwrap(), export.layout), ("/etc/out", Layout::Combined));
    assert_eq!(md.notify.as_deref().unwrap(), ["/etc/hooks/reload", "a b"]);
    assert_eq!(md.roots, Some(PathBuf::from("/ca.pem")));
}

#[test]
fn includes() {
    let config = read_files(&[
        ("/etc/edgemd.conf", "Include sub/one.conf\nIncludeOptional none.d/*.conf\nMDomain c.example\n"),
        ("/etc/sub/one.conf", "MDomain a.example\nIncludeOptional more/*.conf\nMDStoreDir store\n"),
        (
            "/etc/sub/more/b.conf",
            "<VirtualHost *:80>\nServerName b.example\nProxyPass / http://${UI}/\n</VirtualHost>\n",
        ),
    ])
    .unwrap();
    assert_eq!(names(&config), ["a.example", "c.example"]);
    let way = Way { to: Backend::Tcp("127.0.0.1:8000".into()), header: ProxyProtocol::Off };
    assert_eq!(config.sites[0].proxy, Some(way));
    assert_eq!(config.store, PathBuf::from("/etc/store"));
    let found = read_files(&[
        ("/etc/edgemd.conf", "Include one.conf\nInclude none.conf\nInclude *.none\nMDomain tld\n"),
        ("/etc/one.conf", "Include edgemd.conf\n<VirtualHost *:80>\nMDStoreDir x\n"),
    ])
    .unwrap_err();
    assert_eq!(
        found,
        [
            "/etc/edgemd.conf:2:9: Include: \"/etc/none.conf\" can't be read: no such file or directory",
            "/etc/edgemd.conf:3:9: Include: \"*.none\" stands for no file; IncludeOptional would not mind",
            "/etc/edgemd.conf:4:9: \"tld\": has only one label, which only a private CA signs (its roots are given by MDCACertificateFile)",
            "/etc/one.conf:1:9: Include: \"/etc/edgemd.conf\" includes itself",
            "/etc/one.conf:2:1: <VirtualHost> is never closed in this file; add </VirtualHost>",
            "/etc/one.conf:3:1: MDStoreDir is not allowed inside a '<VirtualHost' context",
        ]
    );
    let mut files: Vec<(String, String)> = (0..10).map(|n| (format!("/{n}"), format!("Include {}\n", n + 1))).collect();
    files.push(("/10".into(), String::new()));
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let found = read_files(&files).unwrap_err();
    assert!(found.len() == 1 && found[0].starts_with("/8:1:9: Include: \"9\" is the file of a file"), "{found:?}");
    // A hundred million, if somebody would read them all.
    let mut files: Vec<(String, String)> =
        (0..8).map(|n| (format!("/{n}"), format!("Include {}\n", n + 1).repeat(10))).collect();
    files.push(("/8".into(), String::new()));
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let found = read_files(&files).unwrap_err();
    assert!(found.len() < 100 && found[0] == "/0:2:9: Include: \"1\" is one file too many; 1000 are read", "{found:?}");
}

#[test]
fn a_file_that_is_not_there() {
    fine("IncludeOptional /none.conf\nMDomain a.example\n");
    one_fault("Include /none.conf\n", "\"/none.conf\" can't be read: no such file or directory");
    let found = read("none/edgemd.conf", &SystemLibrary).unwrap_err();
    assert_eq!(found[0].to_string(), "none/edgemd.conf:1:1: can't be read: no such file or directory");
}

#[test]
fn the_times_have_their_floors() {
    let config =
        fine("MDRetryDelay 100ms\nMDCheckInterval 1\nMDInitialDelay 0\nMDHookTimeout 2mi\nMDomain a.example\n");
    assert_eq!((config.mds[0].retry, config.mds[0].hook_limit), (Span::millis(100), Span::mins(2)));
    assert_eq!((config.check_interval, config.initial_delay), (Span::secs(1), Some(Span::ZERO)));
    assert_eq!(fine("").initial_delay, None);
    assert_eq!(
        fine("MDCAChallenges HTTP-01 http-01\nMDomain a.example").mds[0].challenges,
        Some(vec![Challenge::Http01])
    );
}

/// Nothing in the reader grows with the square of the file: this would take minutes.
#[test]
fn a_thousand_mds_are_read_at_once() {
    let mut text = String::new();
    for n in 0..1000 {
        write!(text, "<MDomainSet d{n}.example.org>\nMDRenewWindow 10d\n</MDomainSet>\n").unwrap();
        write!(
            text,
            "<VirtualHost *:443>\nServerName d{n}.example.org\nServerAlias w{n}.example.org\n</VirtualHost>\n"
        )
        .unwrap();
    }
    let start = std::time::Instant::now();
    let config = fine(&text);
    let took = start.elapsed();
    assert_eq!(config.mds.len(), 1000);
    assert_eq!(config.mds[999].names.len(), 2);
    assert!(took.as_secs() < 5, "{took:?}");
    println!("{} lines in {took:?}", text.lines().count());
}

#[test]
fn md_750_018_019_020_021_a_binding_that_can_t_be_read_is_a_fault() {
    let shelf = |text: &str| {
        let conf = "MDExternalAccountBinding eab.json\nMDomain example.org\n";
        let mut files = BTreeMap::from([("conf".to_string(), conf.as_bytes().to_vec())]);
        if !text.is_empty() {
            files.insert("eab.json".into(), text.as_bytes().to_vec());
        }
        read("conf", &Shelf(files))
    };
    for (text, why) in [
        ("", "file not found: \"eab.json\""),
        ("kid-1 secret", "error reading JSON file \"eab.json\""),
        ("{\"kid\": \"kid-1\"", "error reading JSON file \"eab.json\""),
        ("[\"secret\"]", "JSON does not contain 'kid' element, in \"eab.json\""),
        ("{\"hmac\": \"secret\"}", "JSON does not contain 'kid' element, in \"eab.json\""),
        ("{\"kid\": 7, \"hmac\": \"secret\"}", "JSON does not contain 'kid' element, in \"eab.json\""),
        ("{\"kid\": \"kid-1\", \"hmac\": null}", "JSON does not contain 'hmac' element, in \"eab.json\""),
        ("{\"kid\": \"kid\\n1\", \"hmac\": \"secret\"}", "the kid is one word of ASCII"),
    ] {
        let faults = shelf(text).unwrap_err();
        let fault = faults[0].to_string();
        assert!(faults.len() == 1 && fault.starts_with("conf:1:26: MDExternalAccountBinding: "), "{fault}");
        assert!(fault.contains(why) && !fault.contains("secret"), "{fault}");
    }
    let config = shelf("{\"hmac\": \"secret\", \"kid\": \"kid-1\", \"more\": []}").unwrap();
    assert_eq!(config.mds[0].binding, Some(Binding { kid: "kid-1".into(), hmac: "secret".into() }));
    assert!(!format!("{config:?}").contains("secret"));
}

#[test]
fn a_binding_of_the_md_counts_before_the_virtual_hosts_and_the_global_one() {
    let config = fine(
        "MDExternalAccountBinding kid-1 one
        <VirtualHost *:443>\nServerName a.example\nMDExternalAccountBinding kid-2 two\n</VirtualHost>
        MDomain a.example
        <MDomainSet b.example>\nMDExternalAccountBinding NONE\nMDPreferredChain Shortest\n</MDomainSet>
        MDomain c.example
        MDPreferredChain \"ISRG Root X1\"\n",
    );
    let kids: Vec<_> = config.mds.iter().map(|md| md.binding.as_ref().map(|binding| binding.kid.as_str())).collect();
    assert_eq!(kids, [Some("kid-2"), None, Some("kid-1")]);
    let under = Some(Chain::Under("ISRG Root X1".into()));
    let chains: Vec<_> = config.mds.iter().map(|md| md.chain.clone()).collect();
    assert_eq!(chains, [under.clone(), Some(Chain::Shortest), under]);
}
