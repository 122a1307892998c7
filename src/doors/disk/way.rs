//! The way to a file: by folders that nobody can exchange, through no link of another user's.

use super::folder_of;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, openat, readlinkat, renameat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

pub(super) fn folder(path: &Path) -> io::Result<OwnedFd> {
    enter(rustix::fs::open(".", FOLDER, Mode::empty())?, path, 40)
}

/// A folder, and a name in it.
pub(super) fn place(path: &Path) -> io::Result<(OwnedFd, &OsStr)> {
    Ok((folder(folder_of(path))?, path.file_name().unwrap_or(OsStr::new("."))))
}

/// Opens what has this name itself: no link there is followed, and no pipe is waited for.
pub(super) fn open(path: &Path, how: OFlags) -> io::Result<File> {
    let (at, name) = place(path)?;
    let how = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(openat(at, name, how, Mode::from_raw_mode(0o600))?.into())
}

pub(super) const NEW: OFlags = OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL);

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let ((at, name), (there, new)) = (place(from)?, place(to)?);
    Ok(renameat(at, name, there, new)?)
}

pub(super) fn remove(path: &Path, what: AtFlags) -> io::Result<()> {
    let removed = place(path).and_then(|(at, name)| Ok(unlinkat(at, name, what)?));
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The folder that this path leads to. What others put in the way does not lead us, who may write where they may not: a
/// symbolic link counts only if it is root's or our own. From here on nobody can exchange the folder for another one.
fn enter(mut at: OwnedFd, way: &Path, links: u8) -> io::Result<OwnedFd> {
    for part in way.components() {
        let part = part.as_os_str();
        at = match openat(&at, part, FOLDER | OFlags::DIRECTORY, Mode::empty()) {
            Err(Errno::NOTDIR | Errno::LOOP) if links > 0 => {
                let link = openat(&at, part, FOLDER, Mode::empty())?;
                let about = fstat(&link)?;
                if FileType::from_raw_mode(about.st_mode) != FileType::Symlink {
                    return Err(Errno::NOTDIR.into());
                }
                if about.st_uid != 0 && about.st_uid != geteuid().as_raw() {
                    return Err(io::Error::other(
                        "a symbolic link that another user has made is on the way, and is not followed",
                    ));
                }
                let to = readlinkat(&link, "", Vec::new())?;
                enter(at, Path::new(OsStr::from_bytes(to.as_bytes())), links - 1)?
            }
            found => found?,
        };
    }
    Ok(at)
}

const FOLDER: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
