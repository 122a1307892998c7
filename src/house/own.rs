//! The operator's own certificates: somebody else renews their files. They are read anew at each look, proven, and then
//! held like any other.

use crate::doors::disk::Disk;
use crate::doors::keys;
use crate::house::keeper::Keeper;
use crate::rules::{pem, x509};
use crate::words::cert::{Bundle, Held};
use crate::words::config::{Md, Static};
use crate::words::fault::Trouble;
use crate::words::secret::Secret;
use crate::words::time::Unix;
use std::path::Path;
use std::sync::Arc;

/// A pair that is good, or why it is not.
pub type Pair = Result<(Held, Bundle), Trouble>;

impl Keeper<'_> {
    /// Sees what is new in the files of all MDs. A pair that can't be used harms no other, and the one before it stays.
    pub(super) fn look_at_own(&mut self) {
        let now = self.now();
        let mds: Vec<Arc<Md>> = self.lives.mds().filter(|md| !md.statics.is_empty()).cloned().collect();
        for md in mds {
            let pairs = pairs(self.doors.disk, &md, now);
            let (news, faults) = self.lives.see_own(&md, pairs);
            news.iter().for_each(|line| log::info!("{line}"));
            faults.iter().for_each(|line| log::error!("{line}"));
        }
    }
}

/// The pairs of one MD, in the order of the configuration.
pub fn pairs(disk: &dyn Disk, md: &Md, now: Option<Unix>) -> Vec<Pair> {
    md.statics.iter().map(|files| pair(disk, files, now)).collect()
}

fn pair(disk: &dyn Disk, files: &Static, now: Option<Unix>) -> Pair {
    let wrong = |path: &Path, why: String| Trouble::new(format!("reading {}", path.display()), why);
    let text = |path: &Path, directive: &str| match disk.read(path)? {
        Some(bytes) => Ok(bytes),
        None => Err(wrong(path, format!("there is no such file; put it there, or remove {directive}"))),
    };
    let chain = pem::decode_chain(&text(&files.cert, "MDCertificateFile")?).map_err(|why| {
        wrong(&files.cert, format!("{why}; it shall be PEM, the certificate first and then those above it"))
    })?;
    let key = Secret::from(text(&files.key, "MDCertificateKeyFile")?);
    let key =
        pem::decode_key(&key).map_err(|why| wrong(&files.key, format!("{why}; it shall be a private key in PEM")))?;
    let (kind, public) = keys::identify(&key).map_err(|trouble| wrong(&files.key, trouble.why))?;
    // It comes from no CA that is known here. Without a clock it proves nothing about the time.
    let held = x509::paired(&chain, &public, kind, "", now.unwrap_or_default()).map_err(|why| {
        wrong(&files.cert, format!("{why}; {} has to be the key that belongs to it", files.key.display()))
    })?;
    Ok((held, Bundle { key, chain }))
}
