//! MDs and virtual hosts finding each other by name: who serves whom, which names join, and the faults that only the whole
//! shows. Maps all the way: a file of a thousand MDs is read in milliseconds.

use super::draft::{Draft, Members, SiteDraft, wrong};
use super::lex::{Word, quoted};
use crate::words::config::{PortMap, Site};
use crate::words::fault::Fault;
use crate::words::name::{Labels, Name};
use crate::words::sorted::{Map, Set};

/// Finds out for each MD of the draft, in its order, what it is called and who uses it.
pub fn meet<'a>(draft: &'a Draft, sites: &[Site], ports: PortMap, faults: &mut Vec<Fault>) -> Vec<Found<'a>> {
    let hosts = draft.sites.iter().zip(sites).map(|(written, site)| Host { written, tls: site.tls });
    // The server outside of the virtual hosts is on every port.
    let base = draft.base_server.then_some(Host { written: &draft.base, tls: ports.https.is_some() });
    let mut all = Matching::new(draft, hosts.chain(base).collect(), faults);
    all.serve();
    all.found
}

/// A server that an MD may serve.
struct Host<'a> {
    written: &'a SiteDraft,
    tls: bool,
}

struct Matching<'a, 'f> {
    draft: &'a Draft,
    hosts: Vec<Host<'a>>,
    faults: &'f mut Vec<Fault>,
    /// For each MD in the draft.
    found: Vec<Found<'a>>,
    /// Which MD has a name.
    owner: Map<Name, usize>,
    /// Which MDs have a name below this one.
    below: Map<String, Set<usize>>,
}

/// What is known of one MD.
pub struct Found<'a> {
    /// In order.
    pub names: Vec<Name>,
    set: Set<Name>,
    /// The virtual host whose settings hold: the one that it stands in, else the first with TLS, else the first.
    pub site: Option<usize>,
    fixed: bool,
    pub used: bool,
    /// The words that named it.
    pub words: Vec<(&'a Word, Name)>,
}

impl<'a, 'f> Matching<'a, 'f> {
    fn new(draft: &'a Draft, hosts: Vec<Host<'a>>, faults: &'f mut Vec<Fault>) -> Self {
        let mut all = Self { draft, hosts, faults, found: Vec::new(), owner: Map::new(), below: Map::new() };
        for md in &draft.mds {
            let mut found = Found {
                names: Vec::new(),
                set: Set::new(),
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
        let mut places: Map<&Name, &Word> = Map::new();
        let firsts = |found: &Found<'a>| found.words.first().map(|(_, name)| name.clone());
        if self.draft.by_server_name {
            for (md, found) in self.found.iter().enumerate() {
                if let Some(name) = firsts(found) {
                    self.owner.or_insert(name, md);
                }
            }
        }
        for (md, found) in self.found.iter().enumerate() {
            for (nth, (word, name)) in found.words.iter().enumerate() {
                let owner = *self.owner.or_insert(name.clone(), md);
                let first = *places.or_insert(name, word);
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
                    self.below.or_default(parent.into()).insert(md);
                    rest = parent;
                }
            }
        }
    }

    /// Finds the MD of each virtual host. A name that joins an MD can lead to another virtual host, hence the rounds:
    /// each but the last gives at least one more virtual host its MD.
    fn serve(&mut self) {
        let mut open: Vec<usize> = (0..self.hosts.len()).collect();
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
        for site in 0..self.hosts.len() {
            self.check_site(site);
        }
    }

    /// The MDs that have a name of this virtual host.
    fn candidates(&self, site: usize) -> Set<usize> {
        let mut mds = Set::new();
        let Some(host) = self.hosts.get(site) else { return mds };
        for word in host.written.hosts(self.draft.by_server_name) {
            let host = word.text.as_str();
            if host.contains(['*', '?']) {
                match host.strip_prefix("*.").filter(|rest| !rest.contains(['*', '?'])) {
                    Some(parent) => mds.extend(self.below.get(parent).into_iter().flat_map(Set::iter).copied()),
                    None => {
                        mds.extend(self.owner.iter().filter(|(name, _)| fits(host, name.as_str())).map(|(_, md)| *md))
                    }
                }
            } else if let Ok(name) = Name::parse(host, Labels::One) {
                // A name of its own counts before a wildcard: both may be had, in two MDs.
                mds.extend(self.owner.get(&name).or_else(|| self.owner.get(&above(&name)?)).copied());
            }
        }
        mds
    }

    /// This MD serves this virtual host: its names join, if they may.
    fn assign(&mut self, md: usize, site: usize) {
        let (Some(found), Some(host)) = (self.found.get_mut(md), self.hosts.get(site)) else { return };
        found.used = true;
        let better = host.tls && found.site.and_then(|site| self.hosts.get(site)).is_some_and(|site| !site.tls);
        if found.site.is_none() || (better && !found.fixed) {
            found.site = Some(site);
        }
        if !host.tls || self.draft.layers(md, found.site).members() == Members::Manual {
            return;
        }
        for word in host.written.hosts(false) {
            let Ok(name) = Name::parse(&word.text, Labels::One) else { continue };
            if found.set.contains(&name) || above(&name).is_some_and(|star| found.set.contains(&star)) {
                continue;
            }
            found.set.insert(name.clone());
            found.names.push(name.clone());
            found.words.push((word, name.clone()));
            self.owner.or_insert(name, md);
        }
    }

    /// The faults of a virtual host whose MD is known.
    fn check_site(&mut self, site: usize) {
        let mds = self.candidates(site);
        let Some(Host { written, tls }) = self.hosts.get(site) else { return };
        let title = |md: usize| self.found.get(md).and_then(|found| found.names.first()).map_or("", Name::as_str);
        let places = |md: usize| self.draft.mds.get(md).map(|md| md.place.to_string()).unwrap_or_default();
        let mut each = mds.iter().copied();
        // The base server has no line of its own.
        let place = written.place.as_ref().or(written.server_name.as_ref().map(|word| &word.place));
        let (Some(md), Some(place)) = (each.next(), place) else { return };
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
        let Some(found) = self.found.get(md).filter(|_| *tls) else { return };
        let auto = self.draft.layers(md, found.site).members() == Members::Auto;
        for word in written.hosts(self.draft.by_server_name && !auto) {
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
                p += 1;
                back = Some((p, n));
            }
            Some(c) if *c == b'?' || Some(c) == name.get(n) => (p, n) = (p + 1, n + 1),
            _ => match back {
                Some((after, from)) => {
                    (p, n) = (after, from + 1);
                    back = Some((p, n));
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns_of_apache() {
        for (pattern, name) in [("*", ""), ("*.a", "x.y.a"), ("w??.a", "www.a"), ("a*b*c", "aXbbYc"), ("*a", "aba")] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("", "a"), ("*.a", "a"), ("w?.a", "www.a"), ("a*b", "abc"), ("a", "")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }
}
