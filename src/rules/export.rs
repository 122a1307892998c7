//! PEM files for other programs: which ones a layout has, and what is in them. They are output, never read back.

use crate::rules::pem;
use crate::words::cert::{Bundle, KeyKind};
use crate::words::config::{Layout, Md};
use crate::words::name::Name;
use zeroize::Zeroizing;

/// One file of an export.
pub struct PemFile {
    /// Its path below the export's folder.
    pub name: String,
    pub text: Zeroizing<String>,
    /// Whether the key is in it.
    pub secret: bool,
}

/// What can stand in a file.
#[derive(Clone, Copy)]
enum Part {
    Leaf,
    /// What is above the leaf.
    Chain,
    Full,
    Key,
    /// The whole chain, and the key behind it.
    FullAndKey,
}

/// The files of a layout: beginning and ending of each name, what is in it. Beginnings are `{}` where the MD's name
/// stands. Where a program reads key and certificate separately, the key is replaced first.
fn rows(layout: Layout) -> &'static [(&'static str, &'static str, Part)] {
    use Part::{Chain, Full, FullAndKey, Key, Leaf};
    match layout {
        Layout::Pair => &[("{}", "key", Key), ("{}", "crt", Full)],
        Layout::Combined => &[("{}", "pem", FullAndKey), ("{}", "key", Key), ("{}", "crt", Full)],
        Layout::Acme => &[
            ("{}", "key", Key),
            ("{}", "chain.crt", Chain),
            ("{}", "fullchain.crt", Full),
            ("{}", "combined.crt", FullAndKey),
            ("{}", "crt", Leaf),
        ],
        Layout::Live => &[
            ("{}/privkey", "pem", Key),
            ("{}/chain", "pem", Chain),
            ("{}/fullchain", "pem", Full),
            ("{}/cert", "pem", Leaf),
        ],
    }
}

/// The kind of this family, if its certificate is not the MD's first: it goes by a name of its own beside the first one's.
pub fn extra(md: &Md, family: &str) -> Option<KeyKind> {
    md.keys.iter().skip(1).copied().find(|kind| kind.family() == family)
}

/// The files for one certificate.
pub fn files(layout: Layout, md: &Name, extra: Option<KeyKind>, bundle: &Bundle) -> Vec<PemFile> {
    let file = |(begin, end, part): &(&str, &str, Part)| PemFile {
        name: name(begin, end, md, extra),
        text: text(*part, bundle),
        secret: matches!(part, Part::Key | Part::FullAndKey),
    };
    rows(layout).iter().map(file).collect()
}

/// The names of these files.
pub fn names(layout: Layout, md: &Name, extra: Option<KeyKind>) -> impl Iterator<Item = String> {
    rows(layout).iter().map(move |(begin, end, _)| name(begin, end, md, extra))
}

/// Whether a file with these bytes is one that a layout has for this pair.
pub fn is_of(bytes: &[u8], bundle: &Bundle) -> bool {
    use Part::{Chain, Full, FullAndKey, Key, Leaf};
    [Full, Key, FullAndKey, Leaf, Chain].into_iter().any(|part| text(part, bundle).as_bytes() == bytes)
}

fn text(part: Part, bundle: &Bundle) -> Zeroizing<String> {
    let certs = || bundle.chain.iter().map(|der| pem::encode("CERTIFICATE", der));
    let key = || Zeroizing::new(pem::encode("PRIVATE KEY", &bundle.key));
    Zeroizing::new(match part {
        Part::Leaf => certs().take(1).collect(),
        Part::Chain => certs().skip(1).collect(),
        Part::Full => certs().collect(),
        Part::Key => return key(),
        Part::FullAndKey => certs().collect::<String>() + &key(),
    })
}

fn name(begin: &str, end: &str, md: &Name, extra: Option<KeyKind>) -> String {
    let extra = match extra {
        None => "",
        Some(KeyKind::Rsa(_)) => "rsa.",
        Some(KeyKind::P256) => "p256.",
        Some(KeyKind::P384) => "p384.",
    };
    format!("{}.{extra}{end}", begin.replace("{}", md.as_str()))
}

/// Where a hook finds things in a layout, below the export's folder.
pub struct Paths {
    pub cert: String,
    pub key: String,
    pub fullchain: String,
}

pub fn paths(layout: Layout, md: &Name) -> Paths {
    let path = |wanted: fn(&Part) -> bool| {
        let row = rows(layout).iter().find(|(.., part)| wanted(part));
        row.map(|(begin, end, _)| name(begin, end, md, None)).unwrap_or_default()
    };
    let fullchain = path(|part| matches!(part, Part::Full));
    let leaf = path(|part| matches!(part, Part::Leaf));
    Paths {
        cert: if leaf.is_empty() { fullchain.clone() } else { leaf },
        key: path(|part| matches!(part, Part::Key)),
        fullchain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::name::Labels;

    #[test]
    fn each_layout_has_its_files() {
        let md = Name::parse("a.example", Labels::Two).unwrap();
        let bundle = Bundle { key: vec![1].into(), chain: vec![vec![2], vec![3]] };
        let names = |layout, extra| {
            let mut names: Vec<_> =
                files(layout, &md, extra, &bundle).iter().map(|f| (f.name.clone(), f.secret)).collect();
            names.sort();
            names
        };
        let pair = [("a.example.crt".into(), false), ("a.example.key".into(), true)];
        assert_eq!(names(Layout::Pair, None), pair);
        let extra = [("a.example.rsa.crt".into(), false), ("a.example.rsa.key".into(), true)];
        assert_eq!(names(Layout::Pair, Some(KeyKind::Rsa(2048))), extra);
        assert_eq!(names(Layout::Combined, None).len(), 3);
        let acme = [
            ("a.example.chain.crt".into(), false),
            ("a.example.combined.crt".into(), true),
            ("a.example.crt".into(), false),
            ("a.example.fullchain.crt".into(), false),
            ("a.example.key".into(), true),
        ];
        assert_eq!(names(Layout::Acme, None), acme);
        let live = [
            ("a.example/cert.p384.pem".into(), false),
            ("a.example/chain.p384.pem".into(), false),
            ("a.example/fullchain.p384.pem".into(), false),
            ("a.example/privkey.p384.pem".into(), true),
        ];
        assert_eq!(names(Layout::Live, Some(KeyKind::P384)), live);

        let all = files(Layout::Combined, &md, None, &bundle);
        let pem = all.iter().find(|file| file.name == "a.example.pem").unwrap();
        let kinds: Vec<_> = pem.text.lines().filter(|line| line.starts_with("-----BEGIN")).collect();
        let certificate = "-----BEGIN CERTIFICATE-----";
        assert_eq!(kinds, [certificate, certificate, "-----BEGIN PRIVATE KEY-----"]);
        let parts: Vec<_> = files(Layout::Acme, &md, None, &bundle)
            .iter()
            .map(|file| (file.name.clone(), file.text.matches("BEGIN CERT").count()))
            .collect();
        let count = |name: &str| parts.iter().find(|(found, _)| found == name).map(|(_, count)| *count);
        assert_eq!(
            ["a.example.crt", "a.example.chain.crt", "a.example.fullchain.crt"].map(count),
            [Some(1), Some(1), Some(2)]
        );
        assert!(
            files(Layout::Live, &md, None, &Bundle { key: vec![1].into(), chain: vec![] }).len() == 4,
            "no chain, no harm"
        );
    }

    #[test]
    fn the_first_kind_of_key_has_the_plain_name() {
        let name = Name::parse("a.example", Labels::Two).unwrap();
        let place = crate::words::fault::Place { file: "edgemd.conf".into(), line: 1, column: 1 };
        let keys = vec![KeyKind::P256, KeyKind::Rsa(3072), KeyKind::P384];
        let md = Md { keys, ..Md::plain(name, place) };
        let extra = |kind: KeyKind| extra(&md, kind.family());
        assert_eq!(extra(KeyKind::P256), None);
        assert_eq!(extra(KeyKind::Rsa(2048)), Some(KeyKind::Rsa(3072)));
        assert_eq!(extra(KeyKind::P384), Some(KeyKind::P384));
    }

    #[test]
    fn what_is_ours_is_told_from_what_is_not() {
        let md = Name::parse("a.example", Labels::Two).unwrap();
        let bundle = |key: u8| Bundle { key: vec![key].into(), chain: vec![vec![2], vec![3]] };
        for layout in [Layout::Pair, Layout::Combined, Layout::Acme, Layout::Live] {
            let files = files(layout, &md, None, &bundle(1));
            assert!(files.iter().all(|file| is_of(file.text.as_bytes(), &bundle(1))));
            assert!(files.iter().all(|file| !file.secret || !is_of(file.text.as_bytes(), &bundle(9))));
            let listed: Vec<_> = names(layout, &md, None).collect();
            assert_eq!(listed, files.iter().map(|file| file.name.clone()).collect::<Vec<_>>());
        }
        for text in ["", "x", "-----BEGIN CERTIFICATE-----"] {
            assert!(!is_of(text.as_bytes(), &bundle(1)), "{text:?}");
        }
    }

    #[test]
    fn a_hook_finds_the_files_of_each_layout() {
        let md = Name::parse("a.example", Labels::Two).unwrap();
        for (layout, cert, key, fullchain) in [
            (Layout::Pair, "a.example.crt", "a.example.key", "a.example.crt"),
            (Layout::Combined, "a.example.crt", "a.example.key", "a.example.crt"),
            (Layout::Acme, "a.example.crt", "a.example.key", "a.example.fullchain.crt"),
            (Layout::Live, "a.example/cert.pem", "a.example/privkey.pem", "a.example/fullchain.pem"),
        ] {
            let found = paths(layout, &md);
            assert_eq!((found.cert.as_str(), found.key.as_str(), found.fullchain.as_str()), (cert, key, fullchain));
        }
    }
}
