//! Measuring programs, by the kernel's own accounts.

use std::fs;
use std::path::PathBuf;

/// A program somewhere on PATH or where servers live.
pub fn installed(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let mut programs = folders.map(|folder| folder.join(name));
    programs.find(|program| program.is_file()).ok_or_else(|| format!("{name} is not installed"))
}

pub fn median<T: PartialOrd + Copy>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).expect("no NaN is measured"));
    values[values.len() / 2]
}

/// A process and its descendants.
pub struct Family(pub u32);

impl Family {
    /// Microseconds of user and system time.
    pub fn cpu(&self) -> f64 {
        const TICK: f64 = 10_000.0;
        let ticks = |pid: u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let mut fields = after_name(&stat)?.split(' ').skip(11);
            Some(fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?)
        };
        self.pids().into_iter().filter_map(ticks).sum::<f64>() * TICK
    }

    /// KiB of `VmRSS`, `VmHWM` and their like.
    pub fn status(&self, field: &str) -> u64 {
        self.sum("status", field)
    }

    /// KiB of `Pss` and its like.
    pub fn rollup(&self, field: &str) -> u64 {
        self.sum("smaps_rollup", field)
    }

    fn sum(&self, file: &str, field: &str) -> u64 {
        let figure = |pid: u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        };
        self.pids().into_iter().filter_map(figure).sum()
    }

    fn pids(&self) -> Vec<u32> {
        let all: Vec<(u32, u32)> = fs::read_dir("/proc").expect("a kernel").flatten().filter_map(parent).collect();
        let mut family = vec![self.0];
        let mut at = 0;
        while let Some(&pid) = family.get(at) {
            family.extend(all.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| *child));
            at += 1;
        }
        family
    }
}

fn parent(process: fs::DirEntry) -> Option<(u32, u32)> {
    let pid = process.file_name().to_str()?.parse().ok()?;
    let stat = fs::read_to_string(process.path().join("stat")).ok()?;
    let parent = after_name(&stat)?.split(' ').nth(1)?.parse().ok()?;
    Some((pid, parent))
}

/// `12 (name) S 1 …`, and the name may have any letters.
fn after_name(stat: &str) -> Option<&str> {
    stat.rsplit_once(") ").map(|(_, rest)| rest)
}
