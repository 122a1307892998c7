//! The world as a test wants it. Each fake is a handle: a clone sees and turns the same thing.
#![allow(dead_code, reason = "no test needs all of them")]

pub mod ca;
pub mod dice;
pub mod disk;
pub mod ear;
pub mod eye;
pub mod hands;
pub mod report;
pub mod responder;
pub mod served;
pub mod xorshift;
pub mod zone;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A folder that nobody else has, gone with its value.
pub struct Fresh(PathBuf);

impl Fresh {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("edgemd-{}-{number}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => return Self(path),
                // Left by an earlier run whose process had our number.
                Err(why) if why.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(why) => panic!("{}: {why}", path.display()),
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A test that failed while it held a lock has said why; the others still want to look.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
