//! Real parts for the tests, the demo and the bench: a CA (Pebble) and a device with the daemon on it, each in a folder
//! and on ports of its own, and gone with the test.
#![allow(dead_code, reason = "each test program uses its own part of it")]

pub mod ca;
pub mod cert;
pub mod chaos;
pub mod child;
pub mod device;
pub mod firmware;
pub mod growth;
pub mod machine;
pub mod measure;
pub mod net;
pub mod tee;
pub mod ui;
pub mod volatile;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What is tested: `EDGEMD`, for one that was built otherwise or runs in an emulator, or what cargo has built for this.
pub fn program() -> PathBuf {
    std::env::var_os("EDGEMD").map_or_else(|| env!("CARGO_BIN_EXE_edgemd").into(), PathBuf::from)
}

/// A fresh folder, removed at the end; a failing test leaves it for whoever looks into the failure.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(what: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        loop {
            // Short, because a Unix socket's path has 107 bytes at most.
            let name = format!("edgemd-{what}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            match fs::create_dir(&path) {
                Ok(()) => return Self(path),
                // Left by an earlier run whose process had our number.
                Err(why) if why.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(why) => panic!("creating {}: {why}", path.display()),
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Puts a file here and says where.
    pub fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap_or_else(|why| panic!("writing {}: {why}", path.display()));
        path
    }

    /// Puts an executable script here.
    pub fn script(&self, name: &str, body: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.put(name, &format!("#!/bin/sh\n{body}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Every file below a folder with its mode and size, one a line.
pub fn listing(dir: &Path) -> String {
    use std::os::unix::fs::PermissionsExt;
    let mut lines = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            let (mode, size) = (meta.permissions().mode() & 0o7777, meta.len());
            lines.push(format!("{:<70} {mode:04o} {size}", entry.path().display()));
            if meta.is_dir() {
                open.push(entry.path());
            }
        }
    }
    lines.sort();
    lines.join("\n")
}

/// Looks again and again until there is something to be seen; the one place where a test passes time.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < end, "{what}: not within {} s", limit.as_secs());
        thread::sleep(Duration::from_millis(15));
    }
}

pub const SOON: Duration = Duration::from_secs(20);
/// For an order with a CA that dawdles on a machine that is busy.
pub const LATER: Duration = Duration::from_secs(90);
