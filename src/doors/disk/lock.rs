//! One daemon for each store.

use super::way::{NEW, open};
use super::{Access, Disk as _, SystemDisk, folder_of, hand_over, said};
use crate::words::fault::Trouble;
use crate::words::time::Span;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, fcntl_getlk};
use std::fs::File;
use std::io;
use std::path::Path;

/// The store is ours until this is dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not read: closing the file ends the lock")] Option<File>);

/// Takes the record lock on this file, making it (empty) and its folder where they are missing; a lock that another holds
/// is waited for as long as `patience` lasts. The kernel ends the lock with the process, however that ends, and with the
/// first of its descriptors of the file that is closed: nothing else may open the file.
pub fn lock(path: &Path, patience: Span) -> Result<Lock, Trouble> {
    const STEP: Span = Span::millis(100);
    SystemDisk.make_dirs(folder_of(path), Access::PRIVATE.of_folder())?;
    let file = match lock_file(path) {
        // Two daemons can do no harm where neither can write, and what is held can still be served.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => return Ok(Lock(None)),
        opened => opened.map_err(|error| said("locking", path, &error))?,
    };
    let mut left = patience;
    loop {
        match rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Lock(Some(file))),
            Err(Errno::AGAIN | Errno::ACCESS) => {}
            Err(errno) => return Err(said("locking", path, &errno.into())),
        }
        let holder = fcntl_getlk(&file, &Flock::from(FlockType::WriteLock)).ok().flatten();
        let who = match holder {
            Some(holder) => holder.pid.map_or("in another container".into(), |pid| format!("with process id {pid}")),
            // It went away between the refusal and the question who it is.
            None => "that is just ending".into(),
        };
        if left.is_zero() {
            return Err(Trouble::new(
                format!("locking {}", path.display()),
                format!("another edgemd {who} is at work in this store; stop that one, or use another MDStoreDir"),
            ));
        }
        if left == patience {
            log::info!("another edgemd {who} is at work in the store; waiting up to {patience} for its end");
        }
        #[allow(clippy::disallowed_methods, reason = "the lock has no other way to be waited for with a limit")]
        std::thread::sleep(STEP.min(left).duration());
        left = left.minus(STEP);
    }
}

/// Only what was made just now is handed over to the store's user: what he had put there could be somebody else's.
fn lock_file(path: &Path) -> io::Result<File> {
    match open(path, NEW) {
        Ok(file) => hand_over(&file, SystemDisk.private_in(folder_of(path))).map(|()| file),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open(path, OFlags::WRONLY),
        Err(error) => Err(error),
    }
}
