//! What a product's people put onto a machine of `qemu/` before its first boot.

use super::ca::{Ca, pem};
use super::machine::{HOST, Machine};
use super::program;
use rcgen::{CertificateParams, KeyPair};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Puts a firmware's own part onto a device whose CA is this one and whose web UI has this name, and the product's package,
/// made of this daemon.
pub fn put(device: &Machine, ca: &Ca, name: &str) {
    device.install("etc/edgemd/ca.pem", 0o644, &read(ca.root()));
    device.install("etc/ssl/factory.pem", 0o600, factory_pair(name).as_bytes());
    device.install("package/authority", 0o644, ca.directory_at(HOST).as_bytes());
    ship(device);
}

/// What the product's people install.
fn ship(device: &Machine) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    device.install("package/S60edgemd", 0o755, &read(here.join("board/generic/S60edgemd")));
    let (product, arch) = device.product();
    let Some(arch) = arch else {
        return device.install("package/edgemd", 0o755, &read(program()));
    };
    let mut pack = Command::new(here.join("board").join(&product).join("pack"));
    pack.arg(program()).arg(arch).arg(device.folder.join("packages")).env("EDGEMD", env!("CARGO_BIN_EXE_edgemd"));
    let packed = pack.output().expect("the product's packer");
    assert!(packed.status.success(), "{packed:?}");
    let names = String::from_utf8_lossy(&packed.stdout).into_owned();
    let package = Path::new(names.lines().next().expect("a package"));
    let ending = package.extension().expect("a kind of package").display();
    device.install(&format!("package/edgemd.{ending}"), 0o644, &read(package.into()));
    if product == "openwrt" {
        let stubs = here.join("tests/board/openwrt");
        device.install("lib/functions/uci.sh", 0o644, &read(stubs.join("functions.sh")));
        device.install("usr/share/libubox/jshn.sh", 0o644, &read(stubs.join("jshn.sh")));
    }
}

fn read(path: PathBuf) -> Vec<u8> {
    std::fs::read(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// What the web UI has before there is anything better.
fn factory_pair(name: &str) -> String {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("a good name");
    let cert = params.self_signed(&key).expect("a certificate");
    pem("PRIVATE KEY", &key.serialize_der()) + &pem("CERTIFICATE", cert.der())
}
