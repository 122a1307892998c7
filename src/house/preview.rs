//! What `edgemd check` says would happen: the rules asked about each want, the store looked at and left as it is. And the
//! accounts in it, for when there is no daemon to be asked.

use crate::doors::clock;
use crate::doors::disk::{self, Access, Disk, Op, SystemDisk};
use crate::house::lives::Lives;
use crate::house::own;
use crate::house::store::Store;
use crate::rules::{account, challenge};
use crate::words::cert::{KeyKind, Slot, Step};
use crate::words::config::{Config, Md};
use crate::words::fault::Trouble;
use std::path::Path;

/// One line for each certificate.
pub fn lines(config: &Config) -> Vec<String> {
    let mut glass = Glass(SystemDisk);
    let opened = match config.only_reads() {
        true => Store::look(&config.store, config.state().as_deref(), &mut glass),
        false => Store::open(&config.store, config.state().as_deref(), &mut glass),
    };
    let refused = |why: Trouble| vec![format!("the daemon would not start: {why}")];
    let loaded = match opened {
        Ok((_, loaded)) => loaded,
        // Of what is held nothing can be said.
        Err(trouble) => return refused(trouble),
    };
    let mut lines = disk::keeps_others_out(&config.store).err().map(refused).unwrap_or_default();
    // Behind the glass nothing was moved; the daemon will.
    let damage = loaded.set_aside.iter().map(|line| line.rsplit_once("; ").map_or(line.as_str(), |(what, _)| what));
    lines.extend(damage.map(|what| format!("{what}; the daemon will set it aside")));
    let mut lives = Lives::new(loaded, config);
    let now = lives.believe(clock::wall());
    for md in &config.mds {
        if !md.statics.is_empty() {
            lines.extend(lives.see_own(md, own::pairs(&glass, md, now)).1);
        }
        let own = KeyKind::ALL.map(|kind| Slot::own(md.name.clone(), kind));
        let keys = md.keys.iter().map(|kind| Slot { md: md.name.clone(), family: kind.family() });
        for slot in own.into_iter().chain(keys) {
            let Some(want) = lives.want(&slot) else { continue };
            let kind = want.kind;
            let what = match lives.step(&slot, now) {
                Step::Order { why } => {
                    let ca = lives.ca(&slot).unwrap_or_default();
                    let names: Vec<&str> = md.names.iter().map(|name| name.as_str()).collect();
                    match challenge::possible(md, config) {
                        Ok(_) => format!("would order {} from {ca}: {why}", names.join(", ")),
                        Err(refusal) => format!("could not order {}: {}", names.join(", "), refusal.detail),
                    }
                }
                Step::Tell => "would write the exports and run the notification".into(),
                Step::Ask => "would ask the CA when it wants the certificate to be renewed".into(),
                Step::NoClock => "would wait for the clock to be set".into(),
                Step::Wait { .. } if slot.is_own() => "has a certificate of its own, which is not renewed here".into(),
                Step::Wait { .. } if !md.driven() => "is not driven: by hand (MDDriveMode), or unused".into(),
                Step::Wait { until } => format!("has nothing to do until {until}"),
            };
            lines.push(format!("{} [{kind}]: {what}", md.name));
        }
        lines.extend(missing(md, &glass));
    }
    lines
}

/// Files that are named and not there, or not for us. They may come before they are needed, so they are no faults.
fn missing(md: &Md, disk: &dyn Disk) -> Vec<String> {
    let roots = [("MDCACertificateFile", &md.roots), ("MDHttpProxyCACertificateFile", &md.proxy_roots)];
    let commands = [("MDNotifyCmd", &md.notify), ("MDMessageCmd", &md.message), ("MDChallengeDns01", &md.dns_command)];
    let files = roots.into_iter().filter_map(|(directive, path)| Some((directive, path.as_deref()?)));
    // A bare name is looked for along PATH, which is the daemon's own.
    let programs = commands.into_iter().filter_map(|(directive, argv)| Some((directive, argv.as_ref()?.first()?)));
    let programs = programs.filter(|(_, program)| program.contains('/'));
    let named = files.chain(programs.map(|(directive, program)| (directive, Path::new(program))));
    let line = |(directive, path): (&str, &Path)| {
        let why = match disk.access(path) {
            Ok(Some(_)) => return None,
            Ok(None) => "there is no such file".into(),
            Err(trouble) => trouble.why,
        };
        Some(format!("{}: {directive} {}: {why}", md.name, path.display()))
    };
    named.filter_map(line).collect()
}

/// The accounts in the store, one line for each.
pub fn accounts(config: &Config) -> Result<Vec<String>, Trouble> {
    let (_, loaded) = Store::open(&config.store, None, &mut Glass(SystemDisk))?;
    Ok(account::lines(loaded.accounts.values()))
}

/// A disk behind glass: it is read and never touched.
pub struct Glass(pub SystemDisk);

impl Disk for Glass {
    fn act(&mut self, _: Op<'_>) -> Result<(), Trouble> {
        Ok(())
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, Trouble> {
        self.0.read(path)
    }

    fn has_dir(&self, dir: &Path) -> bool {
        self.0.has_dir(dir)
    }

    fn is_link(&self, path: &Path) -> bool {
        self.0.is_link(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, Trouble> {
        self.0.list(dir)
    }

    fn access(&self, path: &Path) -> Result<Option<Access>, Trouble> {
        self.0.access(path)
    }
}
