//! As written → as meant: every value with its default, from the place that speaks for it.

use super::draft::{Draft, Layers, Settings, SiteDraft, wrong};
use super::lex::quoted;
use super::meet::{Found, meet};
use super::url::{Ca, LETSENCRYPT};
use crate::words::cert::KeyKind;
use crate::words::config::{Backend, Challenge, Config, DriveMode, Listen, Md, PortMap, Site, Stapling, Static, Way};
use crate::words::fault::{Fault, Place};
use crate::words::name::{Labels, Name};

/// Every value, defaults filled in. Where there are faults it is only good for finding more of them.
pub fn config(draft: Draft, faults: &mut Vec<Fault>) -> Config {
    let mut draft = draft;
    let mut notices = std::mem::take(&mut draft.notices);
    let ports = draft.ports.unwrap_or(PortMap { http: Some(80), https: Some(443) });
    let sites: Vec<Site> = draft.sites.iter().map(|site| site_of(site, &draft.base, ports)).collect();
    let listen = listeners(&draft, ports, sites.iter().any(|site| site.tls), faults);
    let found = meet(&draft, &sites, ports, faults);
    let mut mds = Vec::new();
    for (number, (written, found)) in draft.mds.iter().zip(&found).enumerate() {
        let layers = draft.layers(number, found.site);
        let Some(md) = md(found, &written.place, &layers, &draft, faults) else { continue };
        let md = Md { tls_arrives: listen.iter().any(|listen| listen.tls && Some(listen.port) == ports.https), ..md };
        check_names(found, &md, faults);
        if !md.used && md.statics.is_empty() {
            let name = quoted(md.name.as_str());
            let so = if md.drive == DriveMode::Auto { "; in mode auto it is not driven" } else { "" };
            let why = format!("no virtual host and no export uses {name}{so}");
            notices.push(Fault { place: written.place.clone(), why });
        }
        if md.must_staple && md.tls_arrives && !md.stapling.on {
            let name = quoted(md.name.as_str());
            let why =
                format!("MDMustStaple for {name} without MDStapling on: browsers will refuse what is served here");
            notices.push(Fault { place: written.place.clone(), why });
        }
        mds.push(md);
    }
    for (site, written) in sites.iter().zip(&draft.sites) {
        // TLS may be another server's, but for what arrives in the clear somebody has to be there.
        let other_s = |port: u16| site.tls && port == ports.https.unwrap_or(443);
        let heard = |port: u16| other_s(port) || listen.iter().any(|listen| listen.port == port);
        if let (Some((_, port)), Some(place)) = (site.addrs.iter().find(|(_, port)| !heard(*port)), &written.place) {
            let why = format!("nothing listens on port {port} of this virtual host; see MDPortMap and Listen");
            notices.push(Fault { place: place.clone(), why });
        }
    }
    if draft.locks == Some(None)
        && let Some(md) = mds.iter().find(|md| md.driven())
    {
        let why = format!(
            "MDStoreLocks off is for a daemon that drives no MD; {} is driven, so the store is locked",
            quoted(md.name.as_str())
        );
        notices.push(Fault { place: md.place.clone(), why });
    }
    notices.sort_unstable();
    let plain = Config::default();
    Config {
        mds,
        base: site_of(&draft.base, &draft.base, ports),
        sites,
        ports,
        listen,
        store: draft.store.unwrap_or(plain.store),
        control: draft.control.unwrap_or(plain.control),
        initial_delay: draft.initial_delay.or(plain.initial_delay),
        check_interval: draft.check_interval.unwrap_or(plain.check_interval),
        certificate_status: draft.certificate_status.unwrap_or(plain.certificate_status),
        server_status: draft.server_status.unwrap_or(plain.server_status),
        connections: draft.connections.unwrap_or(plain.connections),
        per_host: draft.per_host.unwrap_or(plain.per_host),
        locks: draft.locks.unwrap_or(plain.locks),
        notices: notices.iter().map(ToString::to_string).collect(),
    }
}

fn listeners(draft: &Draft, ports: PortMap, sites_have_tls: bool, faults: &mut Vec<Fault>) -> Vec<Listen> {
    if draft.listen.is_empty() {
        let plain = ports.http.map(|port| Listen { addr: None, port, tls: false });
        // A web UI may have 443 for itself: where nothing is served there and nobody has mapped it, it is left alone.
        let wanted = draft.https_is_mapped || draft.base_server || draft.base.passthrough.is_some() || sites_have_tls;
        let tls = ports.https.filter(|_| wanted).map(|port| Listen { addr: None, port, tls: true });
        return plain.into_iter().chain(tls).collect();
    }
    let mut places: Vec<&Place> = Vec::new();
    let mut listeners: Vec<Listen> = Vec::new();
    for written in &draft.listen {
        let mut listen = written.listen.clone();
        if !written.scheme {
            listen.tls = Some(listen.port) == ports.https || (listen.port == 443 && ports.http != Some(443));
        }
        match listeners.iter().zip(&places).find(|(other, _)| overlap(other, &listen)) {
            Some((_, first)) => {
                let why = format!("Listen: port {} is listened on already, see {first}", listen.port);
                faults.push(Fault { place: written.place.clone(), why });
            }
            None => {
                listeners.push(listen);
                places.push(&written.place);
            }
        }
    }
    listeners
}

/// Whether one of the two is refused where the other is open: no address stands for all, `0.0.0.0` and `[::]` for all of
/// their family.
fn overlap(one: &Listen, other: &Listen) -> bool {
    one.port == other.port
        && match (one.addr, other.addr) {
            (Some(one), Some(other)) => {
                let whole = one.is_unspecified() || other.is_unspecified();
                one == other || (whole && one.is_ipv4() == other.is_ipv4())
            }
            _ => true,
        }
}

/// What stands outside of the virtual hosts holds for those that say nothing else.
fn site_of(site: &SiteDraft, base: &SiteDraft, ports: PortMap) -> Site {
    // 443 always means the port that is mapped to it.
    let local = |port: u16| if port == 443 { ports.https.unwrap_or(port) } else { port };
    let tls = |port: u16| port == 443 || Some(port) == ports.https;
    let header = site.header.or(base.header).unwrap_or_default();
    let way = |to: Option<&Backend>| to.map(|to| Way { to: to.clone(), header });
    Site {
        names: site.hosts(false).map(|word| word.text.clone()).collect(),
        addrs: site.addrs.iter().map(|(addr, port)| (*addr, local(*port))).collect(),
        tls: site.engine.unwrap_or(site.addrs.iter().any(|(_, port)| tls(*port))),
        proxy: way(site.proxy.as_ref().or(base.proxy.as_ref())),
        passthrough: way(site.passthrough.as_ref().or(base.passthrough.as_ref())),
    }
}

/// One MD, every default filled in; `None` if no name of it could be read.
fn md(found: &Found<'_>, place: &Place, layers: &Layers<'_>, draft: &Draft, faults: &mut Vec<Fault>) -> Option<Md> {
    let plain = Md::plain(found.names.first()?.clone(), place.clone());
    let keys = layers.pick(|s| s.keys.as_ref()).cloned().unwrap_or(plain.keys);
    let default = [Ca::Known(&LETSENCRYPT)];
    let cas = layers.pick(|s| s.cas.as_ref()).map_or(&default[..], |cas| cas.as_slice());
    let urls = |kind: &KeyKind| cas.iter().map(|ca| ca.url(*kind).to_string()).collect();
    let mut cas_by_key: Vec<Vec<String>> = keys.iter().map(urls).collect();
    let mut all: Vec<String> = cas_by_key.first().cloned().unwrap_or_default();
    for ca in cas_by_key.iter().flatten() {
        if !all.contains(ca) {
            all.push(ca.clone());
        }
    }
    if all.len() == cas.len() {
        cas_by_key.clear();
    }
    let export = layers.pick(|s| s.export.as_ref()).cloned().flatten();
    let mail = layers.pick(|s| s.contact.as_ref()).or_else(|| layers.pick(|s| s.admin.as_ref()));
    Some(Md {
        names: found.names.clone(),
        drive: layers.pick(|s| s.drive.as_ref()).copied().unwrap_or(plain.drive),
        used: found.used || export.is_some() || draft.sites.is_empty(),
        cas: all,
        cas_by_key,
        roots: layers.pick(|s| s.roots.as_ref()).cloned().flatten(),
        proxy: layers.pick(|s| s.proxy.as_ref()).cloned().flatten(),
        proxy_roots: layers.pick(|s| s.proxy_roots.as_ref()).cloned().flatten(),
        binding: layers.pick(|s| s.binding.as_ref()).cloned().flatten(),
        chain: layers.pick(|s| s.chain.as_ref()).cloned(),
        failover: draft.failover.unwrap_or(plain.failover),
        profile: layers.pick(|s| s.profile.as_ref()).cloned().flatten(),
        profile_mandatory: layers.pick(|s| s.profile_mandatory.as_ref()).copied().unwrap_or(plain.profile_mandatory),
        agreement: layers.pick(|s| s.agreement.as_ref()).cloned(),
        contacts: mail.cloned().into_iter().collect(),
        keys,
        reuse_key: layers.pick(|s| s.reuse_key.as_ref()).copied().unwrap_or(plain.reuse_key),
        must_staple: layers.pick(|s| s.must_staple.as_ref()).copied().unwrap_or(plain.must_staple),
        stapling: Stapling {
            on: layers.pick(|s| s.stapling.as_ref()).copied().unwrap_or(plain.stapling.on),
            window: layers.pick(|s| s.staple_window.as_ref()).copied().unwrap_or(plain.stapling.window),
            keep: layers.pick(|s| s.staple_keep.as_ref()).copied().unwrap_or(plain.stapling.keep),
        },
        statics: layers.md.map(|own| statics(own, place, faults)).unwrap_or_default(),
        window: layers.pick(|s| s.window.as_ref()).copied().unwrap_or(plain.window),
        ari: layers.pick(|s| s.ari.as_ref()).copied().unwrap_or(plain.ari),
        warn: layers.pick(|s| s.warn.as_ref()).copied().unwrap_or(plain.warn),
        activation: layers.pick(|s| s.activation.as_ref()).copied().unwrap_or(plain.activation),
        retry: draft.retry.unwrap_or(plain.retry),
        challenges: layers.pick(|s| s.challenges.as_ref()).cloned(),
        dns_command: layers.pick(|s| s.dns_command.as_ref()).cloned(),
        dns_forgets: draft.dns_forgets.unwrap_or(plain.dns_forgets),
        dns_wait: layers.pick(|s| s.dns_wait.as_ref()).copied().unwrap_or(plain.dns_wait),
        webroot: layers.pick(|s| s.webroot.as_ref()).cloned(),
        tls_arrives: plain.tls_arrives,
        require_https: layers.pick(|s| s.require_https.as_ref()).copied().unwrap_or(plain.require_https),
        export,
        notify: layers.pick(|s| s.notify.as_ref()).cloned(),
        message: layers.pick(|s| s.message.as_ref()).cloned(),
        served_at: layers.pick(|s| s.served_at.as_ref()).cloned(),
        hook_limit: draft.hook_limit.unwrap_or(plain.hook_limit),
        name: plain.name,
        place: plain.place,
    })
}

/// The operator's own certificates, each with its key.
fn statics(own: &Settings, place: &Place, faults: &mut Vec<Fault>) -> Vec<Static> {
    let (certs, keys) = (&own.static_certs, &own.static_keys);
    if certs.len() != keys.len() {
        let why = format!(
            "there are {} MDCertificateFile and {} MDCertificateKeyFile in this section; each certificate needs its key",
            certs.len(),
            keys.len()
        );
        faults.push(Fault { place: place.clone(), why });
    }
    certs.iter().zip(keys).map(|(cert, key)| Static { cert: cert.clone(), key: key.clone() }).collect()
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
