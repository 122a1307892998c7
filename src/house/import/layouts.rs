//! Where other clients keep their certificates and accounts: certbot's folder or its `live/`, acme.sh's home, mod_md's
//! store, OpenWrt's `/etc/ssl/acme`. Each layout is looked for; a folder may have several.

use crate::doors::disk::Disk;
use crate::rules::import::{folders_of, setting, text_at};
use std::path::{Path, PathBuf};

/// A certificate's files.
pub struct Pair {
    /// What an operator knows it by.
    pub place: PathBuf,
    pub chain: PathBuf,
    pub key: PathBuf,
    /// The directory URL of its CA, if that is written down.
    pub ca: Option<String>,
}

/// An account's files.
pub struct Login {
    pub key: PathBuf,
    pub form: Form,
    /// The account's URL, if it is written down.
    pub url: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Pem,
    Jwk,
}

/// Every pair of files that looks like a certificate with its key.
pub fn pairs(disk: &dyn Disk, dir: &Path) -> Vec<Pair> {
    let mut pairs = vec![];
    for lives in [dir.join("live"), dir.to_path_buf()] {
        pairs.extend(folders(disk, &lives).into_iter().filter_map(|folder| certbot(disk, &folder)));
    }
    pairs.extend(folders(disk, dir).into_iter().filter_map(|folder| acme_sh(disk, &folder)));
    for domains in [dir.join("domains"), dir.to_path_buf()] {
        pairs.extend(folders(disk, &domains).into_iter().flat_map(|folder| mod_md(disk, &folder)));
    }
    pairs.extend(flat(disk, dir));
    pairs
}

/// The account with this CA, the one that is in use first.
pub fn logins(disk: &dyn Disk, dir: &Path, ca: &str) -> Vec<Login> {
    let mut logins = vec![];
    for folder in folders_of(ca) {
        for root in [dir, dir.parent().unwrap_or(dir)] {
            let in_use = accounts_in_use(disk, root);
            let found = folders(disk, &root.join("accounts").join(&folder));
            for wanted in [true, false] {
                let of_these = found.iter().filter(|folder| in_use.iter().any(|id| folder.ends_with(id)) == wanted);
                logins.extend(of_these.map(|folder| Login {
                    url: text(disk, &folder.join("regr.json")).and_then(|json| text_at(&json, &["uri"])),
                    key: folder.join("private_key.json"),
                    form: Form::Jwk,
                }));
            }
        }
        let folder = dir.join("ca").join(&folder);
        let url = text(disk, &folder.join("ca.conf")).and_then(|text| setting(&text, "ACCOUNT_URL"));
        logins.push(Login { key: folder.join("account.key"), form: Form::Pem, url });
    }
    logins.retain(|login| is_file(disk, &login.key));
    logins
}

/// Whether mod_md has accounts here: it encrypts their keys.
pub fn has_locked_accounts(disk: &dyn Disk, dir: &Path) -> bool {
    folders(disk, &dir.join("accounts")).iter().any(|folder| is_file(disk, &folder.join("account.pem")))
}

/// `live/<name>/{fullchain,privkey}.pem`, and beside `live` the `renewal/<name>.conf`.
fn certbot(disk: &dyn Disk, folder: &Path) -> Option<Pair> {
    let (chain, key) = (folder.join("fullchain.pem"), folder.join("privkey.pem"));
    if !is_file(disk, &chain) || !is_file(disk, &key) {
        return None;
    }
    let renewal = || {
        let name = format!("{}.conf", folder.file_name()?.to_str()?);
        text(disk, &folder.parent()?.parent()?.join("renewal").join(name))
    };
    Some(Pair { place: folder.into(), chain, key, ca: renewal().and_then(|text| setting(&text, "server")) })
}

/// The accounts that certbot's renewals name.
fn accounts_in_use(disk: &dyn Disk, root: &Path) -> Vec<String> {
    let renewals = within(disk, &root.join("renewal"));
    renewals.iter().filter_map(|path| setting(&text(disk, path)?, "account")).collect()
}

/// `<name>` or `<name>_ecc`, with `fullchain.cer`, `<name>.key` and `<name>.conf` in it.
fn acme_sh(disk: &dyn Disk, folder: &Path) -> Option<Pair> {
    let name = folder.file_name()?.to_str()?.trim_end_matches("_ecc");
    let (chain, key) = (folder.join("fullchain.cer"), folder.join(format!("{name}.key")));
    if !is_file(disk, &chain) || !is_file(disk, &key) {
        return None;
    }
    let ca = text(disk, &folder.join(format!("{name}.conf"))).and_then(|text| setting(&text, "Le_API"));
    Some(Pair { place: folder.into(), chain, key, ca })
}

/// `domains/<md>/pubcert.pem` with `privkey.pem`, or with the kind of key before the ending; `md.json` names the CA.
fn mod_md(disk: &dyn Disk, folder: &Path) -> Vec<Pair> {
    let kinds = disk.list(folder).unwrap_or_default();
    let kinds = kinds.iter().filter_map(|name| name.strip_prefix("pubcert")?.strip_suffix(".pem").map(str::to_owned));
    let pair = |kind: String| Pair {
        place: folder.into(),
        chain: folder.join(format!("pubcert{kind}.pem")),
        key: folder.join(format!("privkey{kind}.pem")),
        ca: text(disk, &folder.join("md.json")).and_then(|json| text_at(&json, &["ca", "url"])),
    };
    kinds.map(pair).filter(|pair| is_file(disk, &pair.key)).collect()
}

/// `<name>.key` with `<name>.fullchain.crt`, or with `<name>.crt` alone.
fn flat(disk: &dyn Disk, dir: &Path) -> Vec<Pair> {
    let pair = |name: &str| {
        let chains = ["fullchain.crt", "crt"].map(|ending| dir.join(format!("{name}.{ending}")));
        let chain = chains.into_iter().find(|path| is_file(disk, path))?;
        Some(Pair { place: chain.clone(), chain, key: dir.join(format!("{name}.key")), ca: None })
    };
    let names = disk.list(dir).unwrap_or_default();
    names.iter().filter_map(|name| pair(name.strip_suffix(".key")?)).collect()
}

fn folders(disk: &dyn Disk, dir: &Path) -> Vec<PathBuf> {
    within(disk, dir).into_iter().filter(|path| disk.has_dir(path)).collect()
}

fn within(disk: &dyn Disk, dir: &Path) -> Vec<PathBuf> {
    disk.list(dir).unwrap_or_default().into_iter().map(|name| dir.join(name)).collect()
}

fn text(disk: &dyn Disk, path: &Path) -> Option<Vec<u8>> {
    disk.read(path).ok().flatten()
}

/// Whether it is there, readable or not: why it is not is said when it is read.
fn is_file(disk: &dyn Disk, path: &Path) -> bool {
    !disk.has_dir(path) && !matches!(disk.read(path), Ok(None))
}
