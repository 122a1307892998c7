//! As written → as meant: every value with its default, from the place that speaks for it.

use super::draft::{Draft, Layers, SiteDraft, wrong};
use super::lex::quoted;
use super::meet::{Found, meet};
use super::url::{Ca, LETSENCRYPT};
use crate::words::cert::{KeyKind, Window};
use crate::words::config::{Challenge, Config, DriveMode, Listen, Md, PortMap, RequireHttps, Site};
use crate::words::fault::{Fault, Place};
use crate::words::name::{Labels, Name};
use crate::words::time::Span;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Every value, defaults filled in. Where there are faults it is only good for finding more of them.
pub fn config(draft: Draft, faults: &mut Vec<Fault>) -> Config {
    let mut draft = draft;
    let mut notices = std::mem::take(&mut draft.notices);
    let ports = draft.ports.unwrap_or(PortMap { http: Some(80), https: Some(443) });
    let listen = listeners(&draft, ports, faults);
    let sites: Vec<Site> = draft.sites.iter().map(|site| site_of(site, ports)).collect();
    let found = meet(&draft, &sites, faults);
    let mut mds = Vec::new();
    for (number, (written, found)) in draft.mds.iter().zip(&found).enumerate() {
        let layers = draft.layers(number, found.site);
        let Some(md) = md(found, &written.place, &layers, &draft) else { continue };
        check_names(found, &md, faults);
        if !md.used {
            let name = quoted(md.name.as_str());
            let so = if md.drive == DriveMode::Auto { "; in mode auto it is not driven" } else { "" };
            let why = format!("no virtual host and no export uses {name}{so}");
            notices.push(Fault { place: written.place.clone(), why });
        }
        mds.push(md);
    }
    for (site, written) in sites.iter().zip(&draft.sites) {
        let heard = |port: u16| site.tls || listen.iter().any(|listen| listen.port == port);
        if let (Some((_, port)), Some(place)) = (site.addrs.iter().find(|(_, port)| !heard(*port)), &written.place) {
            let why = format!("nothing listens on port {port} of this virtual host; see MDPortMap and Listen");
            notices.push(Fault { place: place.clone(), why });
        }
    }
    notices.sort_unstable();
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
        certificate_status: draft.certificate_status.unwrap_or(true),
        server_status: draft.server_status.unwrap_or(true),
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
        names: site.hosts(false).map(|word| word.text.clone()).collect(),
        addrs: site.addrs.iter().map(|(addr, port)| (*addr, local(*port))).collect(),
        tls: site.engine.unwrap_or(site.addrs.iter().any(|(_, port)| tls(*port))),
        proxy: site.proxy.clone(),
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
        require_https: layers.pick(|s| s.require_https.as_ref()).copied().unwrap_or(RequireHttps::Off),
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
