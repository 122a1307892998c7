//! Link arguments of the release binary. Tests unwind, so they, and debug builds, are linked as usual.

use std::env::var;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=cross/no-unwinding.ld");
    println!("cargo:rerun-if-changed=cross/no-unwinding.c"); // cross/build hands these to the linker
    println!("cargo:rerun-if-changed=cross/small-curves.c");
    let is = |name: &str, value: &str| var(name).as_deref() == Ok(value);
    if !is("PROFILE", "release") || !is("CARGO_CFG_TARGET_OS", "linux") {
        return;
    }
    // The profile aborts on panic, but std comes prebuilt with tables for unwinding that nobody reads: 340 KB.
    let here = var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    println!("cargo:rustc-link-arg-bins=-Wl,--no-eh-frame-hdr,-T,{here}/cross/no-unwinding.ld");
    // Every pointer in a constant needs a line for the loader, 24 bytes or, packed, a few bits: 100 KB. The loader of
    // glibc reads the packed form since 2.36; what is built on an older one keeps the long form, and runs there.
    if is("CARGO_CFG_TARGET_ENV", "gnu") && var("HOST") == var("TARGET") && glibc().is_some_and(|it| it >= (2, 36)) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's C library.
fn glibc() -> Option<(u32, u32)> {
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    let (major, minor) = said.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}
