//! PEM files for other programs: which ones a layout has, and what is in them. They are output, never read back.

use crate::rules::pem;
use crate::words::cert::{Bundle, KeyKind};
use crate::words::config::Layout;
use crate::words::name::Name;

/// One file of an export.
pub struct PemFile {
    pub name: String,
    pub text: String,
    /// Whether the key is in it.
    pub secret: bool,
}

/// The files for one certificate. `extra` is the kind of a certificate that is not the MD's first: it goes by its own
/// name beside the first one's.
pub fn files(layout: Layout, md: &Name, extra: Option<KeyKind>, bundle: &Bundle) -> Vec<PemFile> {
    let stem = match extra {
        None => md.to_string(),
        Some(KeyKind::Rsa(_)) => format!("{md}.rsa"),
        Some(KeyKind::P256) => format!("{md}.p256"),
        Some(KeyKind::P384) => format!("{md}.p384"),
    };
    let chain: String = bundle.chain.iter().map(|der| pem::encode("CERTIFICATE", der)).collect();
    let key = pem::encode("PRIVATE KEY", &bundle.key);
    let file = |ending: &str, text: String, secret| PemFile { name: format!("{stem}.{ending}"), text, secret };
    let mut files = match layout {
        Layout::Pair => vec![],
        Layout::Combined => vec![file("pem", format!("{chain}{key}"), true)],
    };
    files.push(file("key", key, true));
    files.push(file("crt", chain, false));
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::name::Labels;

    #[test]
    fn each_layout_has_its_files() {
        let md = Name::parse("a.example", Labels::Two).unwrap();
        let bundle = Bundle { key: vec![1], chain: vec![vec![2], vec![3]] };
        let names = |layout, extra| {
            let mut names: Vec<_> =
                files(layout, &md, extra, &bundle).into_iter().map(|f| (f.name, f.secret)).collect();
            names.sort();
            names
        };
        let pair = [("a.example.crt".into(), false), ("a.example.key".into(), true)];
        assert_eq!(names(Layout::Pair, None), pair);
        let extra = [("a.example.rsa.crt".into(), false), ("a.example.rsa.key".into(), true)];
        assert_eq!(names(Layout::Pair, Some(KeyKind::Rsa(2048))), extra);
        assert_eq!(names(Layout::Combined, None).len(), 3);

        let all = files(Layout::Combined, &md, None, &bundle);
        let pem = all.iter().find(|file| file.name == "a.example.pem").unwrap();
        let kinds: Vec<_> = pem.text.lines().filter(|line| line.starts_with("-----BEGIN")).collect();
        let certificate = "-----BEGIN CERTIFICATE-----";
        assert_eq!(kinds, [certificate, certificate, "-----BEGIN PRIVATE KEY-----"]);
    }
}
