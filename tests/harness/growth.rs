//! What a process has in a long life, looked at again and again: whether any of it grows.

use std::fs;
use std::path::Path;

/// Figures after so many renewals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Figures {
    pub renewals: usize,
    /// KiB of memory that is in use.
    pub rss: u64,
    pub descriptors: usize,
    pub threads: usize,
    /// What it keeps on the disk.
    pub files: usize,
    pub bytes: u64,
}

impl Figures {
    /// Those of a process, but for what it keeps.
    pub fn of(pid: u32, renewals: usize) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process that runs");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field of the kernel's");
            line.trim_matches([':', '\t', ' ', 'k', 'B']).parse().expect("a number")
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("its own").count();
        Self { renewals, rss: field("VmRSS"), descriptors, threads: field("Threads") as usize, files: 0, bytes: 0 }
    }

    /// With what stands below this folder.
    pub fn keeping(self, folder: &Path) -> Self {
        let (mut files, mut bytes) = (0, 0);
        let mut open = vec![folder.to_path_buf()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(about) if about.is_dir() => open.push(entry.path()),
                    Ok(about) => (files, bytes) = (files + 1, bytes + about.len()),
                    Err(_) => {}
                }
            }
        }
        Self { files, bytes, ..self }
    }

    pub fn print(&self) {
        let Self { renewals, rss, descriptors, threads, files, bytes } = self;
        println!(
            "{renewals:>7} renewals: RSS {rss:>6} KiB, {descriptors} descriptors, {threads} threads, {files} files with {bytes} bytes"
        );
    }
}

/// Memory that an allocator may have more at one time than at another, KiB.
const NOISE: u64 = 384;
/// A record may be some bytes longer than the one before: its numbers have more digits.
const DIGITS: u64 = 64;

/// What has grown since the life was a tenth of it old; by then all is there that there will ever be.
pub fn growth(figures: &[Figures]) -> Option<String> {
    let (settled, last) = (figures.get(1)?, figures.last()?);
    let more = |what: &str, before: u64, now: u64, noise: u64| {
        let is_more = now > before + noise;
        is_more.then(|| {
            let each = (now - before) as f64 / (last.renewals - settled.renewals) as f64;
            format!("{what} from {before} to {now}, {each:.4} for each renewal")
        })
    };
    more("RSS, KiB", settled.rss, last.rss, NOISE)
        .or(more("descriptors", settled.descriptors as u64, last.descriptors as u64, 0))
        .or(more("threads", settled.threads as u64, last.threads as u64, 0))
        .or(more("files", settled.files as u64, last.files as u64, 0))
        .or(more("bytes in files", settled.bytes, last.bytes, DIGITS))
}
