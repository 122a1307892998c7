//! Looks at a server that shows the leaf of a PEM file on the disk, once it has got round to reading it.

use super::disk::RamDisk;
use super::locked;
use edgemd::doors::disk::Disk;
use edgemd::doors::look::Look;
use edgemd::rules::pem;
use edgemd::words::fault::Trouble;
use std::path::Path;
use std::sync::{Arc, Mutex};

#[derive(Clone)]
pub struct Eye(Arc<Mutex<Inner>>);

struct Inner {
    disk: RamDisk,
    path: &'static str,
    /// What is shown until the file is read again.
    shown: Vec<u8>,
    /// So many looks come before that.
    slow: u32,
    down: bool,
    looks: Vec<(String, String)>,
}

impl Eye {
    pub fn on(disk: &RamDisk, path: &'static str) -> Self {
        let inner = Inner { disk: disk.clone(), path, shown: vec![], slow: 0, down: false, looks: vec![] };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// The next looks see what the server has shown up to now.
    pub fn slow(&self, looks: u32) {
        locked(&self.0).slow = looks;
    }

    pub fn down(&self, down: bool) {
        locked(&self.0).down = down;
    }

    /// Where was looked, and for which name.
    pub fn looks(&self) -> Vec<(String, String)> {
        locked(&self.0).looks.clone()
    }
}

impl Look for Eye {
    fn leaf(&mut self, place: &str, name: &str) -> Result<Vec<u8>, Trouble> {
        let mut inner = locked(&self.0);
        inner.looks.push((place.into(), name.into()));
        if inner.down {
            return Err(Trouble::new(format!("looking at {place}"), "Connection refused"));
        }
        if inner.slow > 0 {
            inner.slow -= 1;
        } else {
            let text = inner.disk.read(Path::new(inner.path))?.unwrap_or_default();
            inner.shown = pem::decode_chain(&text).map(|chain| chain[0].clone()).unwrap_or_default();
        }
        Ok(inner.shown.clone())
    }
}
