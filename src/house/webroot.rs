//! MDChallengeWebroot: answers to http-01 as files, for a web server that owns port 80. They are no part of the store: no
//! power cut needs to be survived, and what a killed daemon left is swept at the next start.

use crate::doors::disk::{Access, Disk, Op};
use crate::rules::acme::asking::is_base64url;
use crate::words::fault::Trouble;
use std::path::{Path, PathBuf};

/// Below the folder that the web server serves (RFC 8555 §8.3).
const FOLDER: &str = ".well-known/acme-challenge";
const FOLDERS: [&str; 2] = [".well-known", FOLDER];

/// Puts an answer in place; `token` is base64url. A link in the way would lead us, who may write anywhere, to where those
/// may not write who may write here.
pub fn put(disk: &mut dyn Disk, root: &Path, token: &str, answer: &str) -> Result<(), Trouble> {
    if !disk.has_dir(root) {
        let why = "there is no such folder; name the one that the web server serves";
        return Err(Trouble::new(format!("MDChallengeWebroot {}", root.display()), why));
    }
    for folder in FOLDERS {
        let path = &root.join(folder);
        if disk.is_link(path) {
            let why = "it is a symbolic link, which is not followed; make it a folder";
            return Err(Trouble::new(format!("writing to {}", path.display()), why));
        }
        if !disk.has_dir(path) {
            disk.act(Op::MakeDir { path, access: Access::OPEN_FOLDER })?;
        }
    }
    disk.act(Op::Write { path: &place(root, token), bytes: answer.as_bytes(), access: Access::PUBLIC })
}

pub fn withdraw(disk: &mut dyn Disk, root: &Path, token: &str) {
    if let Err(trouble) = disk.act(Op::Unlink(&place(root, token))) {
        log::warn!("an answer is left behind: {trouble}; the next start removes it");
    }
}

/// Removes what a daemon that was killed has left: files whose content is our answer to the token that they are named
/// after, by one of these account keys.
pub fn sweep(disk: &mut dyn Disk, root: &Path, thumbprints: &[String]) {
    let folder = root.join(FOLDER);
    if FOLDERS.iter().any(|folder| disk.is_link(&root.join(folder))) {
        return;
    }
    for token in disk.list(&folder).unwrap_or_default() {
        let path = folder.join(&token);
        if !is_base64url(&token) || disk.is_link(&path) {
            continue;
        }
        let Ok(Some(bytes)) = disk.read(&path) else { continue };
        if thumbprints.iter().any(|thumbprint| bytes == format!("{token}.{thumbprint}").as_bytes()) {
            withdraw(disk, root, &token);
        }
    }
}

fn place(root: &Path, token: &str) -> PathBuf {
    root.join(FOLDER).join(token)
}
