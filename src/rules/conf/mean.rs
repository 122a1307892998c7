//! As written → as meant: who is served by whom, what holds where, and the faults that only the whole shows.

use super::draft::{Draft, Members, Settings, SiteDraft};
use super::lex::{Word, quoted};
use super::values::{Ca, LETSENCRYPT};
use crate::words::cert::{KeyKind, Window};
use crate::words::config::{Challenge, Config, DriveMode, Listen, Md, PortMap, Site};
use crate::words::fault::{Fault, Place};
use crate::words::name::{Labels, Name};
use crate::words::time::Span;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Every value, defaults filled in. Where there are faults it is only good for finding more of them.
pub fn config(draft: Draft, faults: &mut Vec<Fault>) -> Config {
    let mut draft = draft;
    let mut notices = std::mem::take(&mut draft.notices);
    let ports = draft.ports.unwrap_or(PortMap { http: Some(80), https: Some(443) });
    let listen = listeners(&draft, ports, faults);
    let sites: Vec<Site> = draft.sites.iter().map(|site| site_of(site, ports)).collect();
    let mds = Matching::new(&draft, &sites, faults).mds(&mut notices);
    for (site, written) in sites.iter().zip(&draft.sites) {
        let heard = |port: u16| site.tls || listen.iter().any(|listen| listen.port == port);
        if let (Some((_, port)), Some(place)) = (site.addrs.iter().find(|(_, port)| !heard(*port)), &written.place) {
            let why = format!("nothing listens on port {port} of this virtual host; see MDPortMap and Listen");
            notices.push(Fault { place: place.clone(), why });
        }
    }
    notices.sort();
    Config {
        mds,
        base: site_of(&draft.base, ports),
        sites,
        ports,
        listen,
        store: draft.store.unwrap_or_else(|| PathBuf::from("/var/lib/edgemd")),
        control: draft.control.unwrap_or_else(|| Some(PathBuf::from("/run/edgemd/control.sock"))),
        initial_delay: draft.initial_delay,
        check_interval: draft.check_interval.unwrap_or(Span::hours(12)),
        notices: notices.iter().map(ToString::to_string).collect(),
    }
}

fn listeners(draft: &Draft, ports: PortMap, faults: &mut Vec<Fault>) -> Vec<Listen> {
    if draft.listen.is_empty() {
        let plain = ports.http.map(|port| Listen { addr: None, port, tls: false });
        let tls = ports.https.map(|port| Listen { addr: None, port, tls: true });
        return plain.into_iter().chain(tls).collect();
    }
    let mut seen = BTreeMap::new();
    let mut listeners = Vec::new();
    for written in &draft.listen {
        let mut listen = written.listen.clone();
        if !written.scheme {
            listen.tls = Some(listen.port) == ports.https || (listen.port == 443 && ports.http != Some(443));
        }
        match seen.insert((listen.addr, listen.port), &written.place) {
            Some(first) => {
                let why = format!("Listen: port {} is listened on already, see {first}", listen.port);
                faults.push(Fault { place: written.place.clone(), why });
            }
            None => listeners.push(listen),
        }
    }
    listeners
}

fn site_of(site: &SiteDraft, ports: PortMap) -> Site {
    // 443 always means the port that is mapped to it.
    let local = |port: u16| if port == 443 { ports.https.unwrap_or(port) } else { port };
    let tls = |port: u16| port == 443 || Some(port) == ports.https;
    Site {
        names: hosts(site, false).map(|word| word.text.clone()).collect(),
        addrs: site.addrs.iter().map(|(addr, port)| (*addr, local(*port))).collect(),
        tls: site.engine.unwrap_or(site.addrs.iter().any(|(_, port)| tls(*port))),
        proxy: site.proxy.clone(),
    }
}

/// What a site is called: its ServerName, and its aliases where they count.
fn hosts(site: &SiteDraft, by_server_name: bool) -> impl Iterator<Item = &Word> {
    site.server_name.iter().chain(site.aliases.iter().filter(move |_| !by_server_name))
}

/// MDs and virtual hosts finding each other.
struct Matching<'a> {
    draft: &'a Draft,
    sites: &'a [Site],
    faults: &'a mut Vec<Fault>,
    /// For each MD in the draft.
    found: Vec<Found<'a>>,
    /// Which MD has a name.
    owner: BTreeMap<Name, usize>,
    /// Which MDs have a name below this one.
    below: BTreeMap<String, BTreeSet<usize>>,
}

/// What is known of one MD.
struct Found<'a> {
    names: Vec<Name>,
    set: BTreeSet<Name>,
    /// The virtual host whose settings hold: the one that it stands in, else the first with TLS, else the first.
    site: Option<usize>,
    fixed: bool,
    used: bool,
    /// The words that named it.
    words: Vec<(&'a Word, Name)>,
}

impl<'a> Matching<'a> {
    fn new(draft: &'a Draft, sites: &'a [Site], faults: &'a mut Vec<Fault>) -> Self {
        let mut all = Self { draft, sites, faults, found: Vec::new(), owner: BTreeMap::new(), below: BTreeMap::new() };
        for md in &draft.mds {
            let mut found = Found {
                names: Vec::new(),
                set: BTreeSet::new(),
                site: md.site,
                fixed: md.site.is_some(),
                used: false,
                words: Vec::new(),
            };
            for word in &md.names {
                match Name::parse(&word.text, Labels::One) {
                    Ok(name) if found.set.contains(&name) => {}
                    Ok(name) => {
                        found.set.insert(name.clone());
                        found.names.push(name.clone());
                        found.words.push((word, name));
                    }
                    Err(why) => all.faults.push(wrong(word, &why)),
                }
            }
            all.found.push(found);
        }
        all.own();
        all
    }

    /// Enters who has which name. A name in two MDs is a fault, unless overlaps are tolerated; then the MD that is named
    /// after it has it, else the first one.
    fn own(&mut self) {
        let mut places: BTreeMap<&Name, &Word> = BTreeMap::new();
        let firsts = |found: &Found<'a>| found.words.first().map(|(_, name)| name.clone());
        if self.draft.by_server_name {
            for (md, found) in self.found.iter().enumerate() {
                if let Some(name) = firsts(found) {
                    self.owner.entry(name).or_insert(md);
                }
            }
        }
        for (md, found) in self.found.iter().enumerate() {
            for (nth, (word, name)) in found.words.iter().enumerate() {
                let owner = *self.owner.entry(name.clone()).or_insert(md);
                let first = *places.entry(name).or_insert(word);
                let twice = owner != md && (!self.draft.by_server_name || nth == 0);
                if twice {
                    let why = format!(
                        "{} is in two MDs, here and at {}; remove it from one of them",
                        quoted(name.as_str()),
                        first.place
                    );
                    self.faults.push(Fault { place: word.place.clone(), why });
                }
                let mut rest = name.as_str();
                while let Some((_, parent)) = rest.split_once('.') {
                    self.below.entry(parent.into()).or_default().insert(md);
                    rest = parent;
                }
            }
        }
    }

    /// All MDs as they are meant.
    fn mds(mut self, notices: &mut Vec<Fault>) -> Vec<Md> {
        self.serve();
        let mut mds = Vec::new();
        for (number, written) in self.draft.mds.iter().enumerate() {
            let Some(found) = self.found.get(number) else { continue };
            let site = found.site.and_then(|site| self.draft.sites.get(site));
            let layers = Layers {
                md: Some(&written.settings),
                site: site.map(|site| &site.settings),
                all: &self.draft.settings,
            };
            let Some(md) = md(found, &written.place, &layers, self.draft) else { continue };
            check_names(found, &md, self.faults);
            if !md.used {
                let why = format!(
                    "no virtual host and no export uses {}; in mode auto it is not driven",
                    quoted(md.name.as_str())
                );
                notices.push(Fault { place: written.place.clone(), why });
            }
            mds.push(md);
        }
        mds
    }

    /// Finds the MD of each virtual host. A name that joins an MD can lead to another virtual host, hence the rounds:
    /// each but the last gives at least one more virtual host its MD.
    fn serve(&mut self) {
        let mut open: Vec<usize> = (0..self.sites.len()).collect();
        loop {
            let before = open.len();
            open.retain(|site| match self.candidates(*site).first() {
                Some(md) => {
                    self.assign(*md, *site);
                    false
                }
                None => true,
            });
            if open.len() == before {
                break;
            }
        }
        for site in 0..self.sites.len() {
            self.check_site(site);
        }
    }

    /// The MDs that have a name of this virtual host.
    fn candidates(&self, site: usize) -> BTreeSet<usize> {
        let mut mds = BTreeSet::new();
        let Some(written) = self.draft.sites.get(site) else { return mds };
        for word in hosts(written, self.draft.by_server_name) {
            let host = word.text.as_str();
            if host.contains(['*', '?']) {
                match host.strip_prefix("*.").filter(|rest| !rest.contains(['*', '?'])) {
                    Some(parent) => mds.extend(self.below.get(parent).into_iter().flatten()),
                    None => {
                        mds.extend(self.owner.iter().filter(|(name, _)| fits(host, name.as_str())).map(|(_, md)| *md))
                    }
                }
            } else if let Ok(name) = Name::parse(host, Labels::One) {
                mds.extend(self.owner.get(&name));
                mds.extend(above(&name).and_then(|star| self.owner.get(&star)));
            }
        }
        mds
    }

    /// This MD serves this virtual host: its names join, if they may.
    fn assign(&mut self, md: usize, site: usize) {
        let (Some(found), Some(meant), Some(written)) =
            (self.found.get_mut(md), self.sites.get(site), self.draft.sites.get(site))
        else {
            return;
        };
        found.used = true;
        let better = meant.tls && found.site.and_then(|site| self.sites.get(site)).is_some_and(|site| !site.tls);
        if found.site.is_none() || (better && !found.fixed) {
            found.site = Some(site);
        }
        if !meant.tls || members(self.draft, md, found) == Members::Manual {
            return;
        }
        for word in hosts(written, false) {
            let Ok(name) = Name::parse(&word.text, Labels::One) else { continue };
            if found.set.contains(&name) || above(&name).is_some_and(|star| found.set.contains(&star)) {
                continue;
            }
            found.set.insert(name.clone());
            found.names.push(name.clone());
            found.words.push((word, name.clone()));
            self.owner.entry(name).or_insert(md);
        }
    }

    /// The faults of a virtual host whose MD is known.
    fn check_site(&mut self, site: usize) {
        let mds = self.candidates(site);
        let (Some(meant), Some(written)) = (self.sites.get(site), self.draft.sites.get(site)) else { return };
        let title = |md: usize| self.found.get(md).and_then(|found| found.names.first()).map_or("", Name::as_str);
        let places = |md: usize| self.draft.mds.get(md).map(|md| md.place.to_string()).unwrap_or_default();
        let mut each = mds.iter().copied();
        let (Some(md), Some(place)) = (each.next(), &written.place) else { return };
        if let Some(other) = each.next().filter(|_| !self.draft.by_server_name) {
            let why = format!(
                "the names of this virtual host fall into two MDs: {} ({}) and {} ({}); put them into one, or split the virtual host",
                quoted(title(md)),
                places(md),
                quoted(title(other)),
                places(other)
            );
            return self.faults.push(Fault { place: place.clone(), why });
        }
        let Some(found) = self.found.get(md).filter(|_| meant.tls) else { return };
        let auto = members(self.draft, md, found) == Members::Auto;
        for word in hosts(written, self.draft.by_server_name && !auto) {
            let why = match Name::parse(&word.text, Labels::One) {
                Ok(name) if found.set.contains(&name) || above(&name).is_some_and(|star| found.set.contains(&star)) => {
                    continue;
                }
                Ok(_) => {
                    format!("is not covered by the MD {}, whose members are 'manual'; add it there", quoted(title(md)))
                }
                Err(why) if auto => {
                    format!("{why}; as the members of the MD {} are 'auto', it would join", quoted(title(md)))
                }
                Err(why) => why,
            };
            self.faults.push(wrong(word, &why));
        }
    }
}

fn wrong(word: &Word, why: &str) -> Fault {
    Fault { place: word.place.clone(), why: format!("{}: {why}", quoted(&word.text)) }
}

/// The wildcard that covers a name.
fn above(name: &Name) -> Option<Name> {
    let (_, parent) = name.as_str().split_once('.')?;
    Name::parse(&format!("*.{parent}"), Labels::One).ok()
}

/// Whether a name is what a pattern of Apache's with `*` and `?` means. Greedy, with one way back: never more than
/// pattern times name.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n, mut back) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                back = Some((p + 1, n));
                p += 1;
            }
            Some(c) if *c == b'?' || Some(c) == name.get(n) => (p, n) = (p + 1, n + 1),
            _ => match back {
                Some((after, from)) => {
                    back = Some((after, from + 1));
                    (p, n) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == b'*')
}

fn members(draft: &Draft, md: usize, found: &Found<'_>) -> Members {
    let site = found.site.and_then(|site| draft.sites.get(site)).map(|site| &site.settings);
    let layers = Layers { md: draft.mds.get(md).map(|md| &md.settings), site, all: &draft.settings };
    layers.pick(|settings| settings.members.as_ref()).copied().unwrap_or(Members::Auto)
}

/// The places that speak for an MD, the nearest first.
struct Layers<'a> {
    md: Option<&'a Settings>,
    site: Option<&'a Settings>,
    all: &'a Settings,
}

impl<'a> Layers<'a> {
    fn pick<T>(&self, field: impl Fn(&'a Settings) -> Option<&'a T>) -> Option<&'a T> {
        self.md.and_then(&field).or_else(|| self.site.and_then(&field)).or_else(|| field(self.all))
    }
}

/// One MD, every default filled in; `None` if no name of it could be read.
fn md(found: &Found<'_>, place: &Place, layers: &Layers<'_>, draft: &Draft) -> Option<Md> {
    let name = found.names.first()?.clone();
    let keys = layers.pick(|s| s.keys.as_ref()).cloned().unwrap_or_else(|| vec![KeyKind::P256]);
    let kind = keys.first().copied().unwrap_or(KeyKind::P256);
    let default = [Ca::Known(&LETSENCRYPT)];
    let cas = layers.pick(|s| s.cas.as_ref()).map_or(&default[..], |cas| cas.as_slice());
    let export = layers.pick(|s| s.export.as_ref()).cloned().flatten();
    Some(Md {
        name,
        names: found.names.clone(),
        place: place.clone(),
        drive: layers.pick(|s| s.drive.as_ref()).copied().unwrap_or(DriveMode::Auto),
        used: found.used || export.is_some() || draft.sites.is_empty(),
        cas: cas.iter().map(|ca| ca.url(kind).to_string()).collect(),
        roots: layers.pick(|s| s.roots.as_ref()).cloned().flatten(),
        proxy: layers.pick(|s| s.proxy.as_ref()).cloned().flatten(),
        agreement: layers.pick(|s| s.agreement.as_ref()).cloned(),
        contacts: layers
            .pick(|s| s.contact.as_ref())
            .or_else(|| layers.pick(|s| s.admin.as_ref()))
            .cloned()
            .into_iter()
            .collect(),
        keys,
        window: layers.pick(|s| s.window.as_ref()).copied().unwrap_or(Window::Percent(33)),
        retry: draft.retry.unwrap_or(Span::secs(30)),
        challenges: layers.pick(|s| s.challenges.as_ref()).cloned(),
        export,
        notify: layers.pick(|s| s.notify.as_ref()).cloned(),
        hook_limit: draft.hook_limit.unwrap_or(Span::secs(60)),
    })
}

/// What only shows when the MD's CA and challenges are known.
fn check_names(found: &Found<'_>, md: &Md, faults: &mut Vec<Fault>) {
    let labels = if md.roots.is_some() { Labels::One } else { Labels::Two };
    let dns = [Challenge::Dns01, Challenge::DnsPersist01];
    for (word, name) in &found.words {
        if let Err(why) = Name::parse(name.as_str(), labels) {
            faults.push(wrong(word, &why));
        }
        let listed = md.challenges.as_deref().filter(|listed| !listed.iter().any(|one| dns.contains(one)));
        if let (true, Some(first)) = (name.is_wildcard(), listed.and_then(|listed| listed.first())) {
            let why = format!("{} cannot prove a wildcard; add dns-01 to MDCAChallenges", first.word());
            faults.push(wrong(word, &why));
        }
    }
}
