//! The configuration as written: what stands in each place, and nothing that does not stand there. `mean` makes a
//! [`Config`](crate::words::config::Config) of it.

use super::lex::{Word, quoted};
use super::read::Library;
use super::url::Ca;
use crate::words::cert::{KeyKind, Window};
use crate::words::config::{
    Backend, Binding, Chain, Challenge, DriveMode, Export, Listen, PortMap, ProxyProtocol, RequireHttps,
};
use crate::words::fault::{Fault, Place};
use crate::words::time::Span;
use std::net::IpAddr;
use std::path::PathBuf;

/// Everything written in a file and the files that it includes.
#[derive(Default)]
pub struct Draft {
    /// What stands outside of every section, for all MDs.
    pub settings: Settings,
    pub base: SiteDraft,
    pub sites: Vec<SiteDraft>,
    pub mds: Vec<MdDraft>,
    pub ports: Option<PortMap>,
    /// Whether the port map says something of https.
    pub https_is_mapped: bool,
    pub listen: Vec<ListenDraft>,
    pub by_server_name: bool,
    pub base_server: bool,
    pub store: Option<PathBuf>,
    /// `Some(None)` is `off`.
    pub control: Option<Option<PathBuf>>,
    pub initial_delay: Option<Span>,
    pub check_interval: Option<Span>,
    pub retry: Option<Span>,
    pub failover: Option<u32>,
    pub connections: Option<usize>,
    pub per_host: Option<usize>,
    /// `Some(None)` is `off`.
    pub locks: Option<Option<Span>>,
    pub certificate_status: Option<bool>,
    pub server_status: Option<bool>,
    pub hook_limit: Option<Span>,
    pub dns_forgets: Option<bool>,
    /// No faults, but worth a line.
    pub notices: Vec<Fault>,
}

impl Draft {
    /// The places that speak for this MD while this virtual host serves it.
    pub fn layers(&self, md: usize, site: Option<usize>) -> Layers<'_> {
        Layers {
            md: self.mds.get(md).map(|md| &md.settings),
            site: site.and_then(|site| self.sites.get(site)).map(|site| &site.settings),
            all: &self.settings,
        }
    }
}

/// The places that speak for an MD, the nearest first.
pub struct Layers<'a> {
    pub md: Option<&'a Settings>,
    site: Option<&'a Settings>,
    all: &'a Settings,
}

impl<'a> Layers<'a> {
    pub fn pick<T>(&self, field: impl Fn(&'a Settings) -> Option<&'a T>) -> Option<&'a T> {
        self.md.and_then(&field).or_else(|| self.site.and_then(&field)).or_else(|| field(self.all))
    }

    pub fn members(&self) -> Members {
        self.pick(|settings| settings.members.as_ref()).copied().unwrap_or(Members::Auto)
    }
}

/// What one context says about the MDs in it. The inner `None` is a written `none`.
#[derive(Default)]
pub struct Settings {
    pub members: Option<Members>,
    pub cas: Option<Vec<Ca>>,
    pub roots: Option<Option<PathBuf>>,
    pub proxy: Option<Option<String>>,
    pub proxy_roots: Option<Option<PathBuf>>,
    pub binding: Option<Option<Binding>>,
    pub chain: Option<Chain>,
    pub profile: Option<Option<String>>,
    pub profile_mandatory: Option<bool>,
    pub agreement: Option<String>,
    /// `MDContactEmail`, a `mailto:` URL.
    pub contact: Option<String>,
    /// `ServerAdmin`, likewise.
    pub admin: Option<String>,
    pub keys: Option<Vec<KeyKind>>,
    pub reuse_key: Option<bool>,
    pub must_staple: Option<bool>,
    pub stapling: Option<bool>,
    pub staple_window: Option<Window>,
    pub staple_keep: Option<Span>,
    /// `MDCertificateFile` and `MDCertificateKeyFile`, in their order.
    pub static_certs: Vec<PathBuf>,
    pub static_keys: Vec<PathBuf>,
    pub window: Option<Window>,
    pub ari: Option<bool>,
    pub warn: Option<Window>,
    pub activation: Option<Span>,
    pub challenges: Option<Vec<Challenge>>,
    pub drive: Option<DriveMode>,
    pub require_https: Option<RequireHttps>,
    pub export: Option<Option<Export>>,
    pub notify: Option<Vec<String>>,
    pub message: Option<Vec<String>>,
    pub served_at: Option<String>,
    pub webroot: Option<PathBuf>,
    pub dns_command: Option<Vec<String>>,
    /// `Some(None)` is `off`.
    pub dns_wait: Option<Option<Span>>,
}

/// Who is on an MD's certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Members {
    /// The written names, and those of the virtual hosts that the MD serves.
    Auto,
    /// The written names.
    Manual,
}

/// A `<VirtualHost>`, or the server outside of them.
#[derive(Default)]
pub struct SiteDraft {
    /// `None` for the base server.
    pub place: Option<Place>,
    pub settings: Settings,
    pub server_name: Option<Word>,
    pub aliases: Vec<Word>,
    pub addrs: Vec<(Option<IpAddr>, u16)>,
    pub engine: Option<bool>,
    pub proxy: Option<Backend>,
    pub passthrough: Option<Backend>,
    pub header: Option<ProxyProtocol>,
}

impl SiteDraft {
    /// What it is called: its ServerName, and its aliases unless only that counts.
    pub fn hosts(&self, by_server_name: bool) -> impl Iterator<Item = &Word> {
        self.server_name.iter().chain(self.aliases.iter().filter(move |_| !by_server_name))
    }
}

/// An `MDomain` line or a section.
pub struct MdDraft {
    pub place: Place,
    pub names: Vec<Word>,
    pub settings: Settings,
    /// The number of the virtual host in which it stands.
    pub site: Option<usize>,
}

pub struct ListenDraft {
    pub place: Place,
    pub listen: Listen,
    /// Whether the scheme was written; otherwise the port map decides.
    pub scheme: bool,
}

/// Where a directive stands, and what it may touch.
pub struct Scope<'a> {
    pub library: &'a dyn Library,
    pub draft: &'a mut Draft,
    pub faults: &'a mut Vec<Fault>,
    /// The sections that are open, to be put into the draft when they end.
    pub site: Option<SiteDraft>,
    pub md: Option<MdDraft>,
    /// The directive under way: as the table calls it, and where it stands.
    pub directive: &'static str,
    pub place: Place,
    /// The folder of the main file, from which relative paths count.
    pub folder: String,
}

impl Scope<'_> {
    pub fn settings(&mut self) -> &mut Settings {
        match (&mut self.md, &mut self.site) {
            (Some(md), _) => &mut md.settings,
            (None, Some(site)) => &mut site.settings,
            (None, None) => &mut self.draft.settings,
        }
    }

    pub fn site(&mut self) -> &mut SiteDraft {
        self.site.as_mut().unwrap_or(&mut self.draft.base)
    }

    /// A path as the operator meant it.
    pub fn path(&self, text: &str) -> PathBuf {
        PathBuf::from(below(&self.folder, text))
    }

    /// A fault of the directive as a whole.
    pub fn fault(&mut self, why: &str) {
        let fault = Fault { place: self.place.clone(), why: format!("{} {why}", self.directive) };
        self.faults.push(fault);
    }

    /// A fault of one of its words: `MDRenewWindow: "1y" has unrecognized format`.
    pub fn wrong(&mut self, word: &Word, why: &str) {
        let why = format!("{}: {} {why}", self.directive, quoted(&word.text));
        self.faults.push(Fault { place: word.place.clone(), why });
    }

    /// A fault at a word, in other words.
    pub fn wrong_so(&mut self, word: &Word, why: &str) {
        self.faults.push(Fault { place: word.place.clone(), why: format!("{}: {why}", self.directive) });
    }

    pub fn notice(&mut self, why: String) {
        self.draft.notices.push(Fault { place: self.place.clone(), why });
    }
}

/// A path seen from a folder.
pub fn below(folder: &str, path: &str) -> String {
    if path.starts_with('/') || folder.is_empty() {
        path.into()
    } else if folder.ends_with('/') {
        format!("{folder}{path}")
    } else {
        format!("{folder}/{path}")
    }
}

/// A fault of a name, wherever it was written.
pub fn wrong(word: &Word, why: &str) -> Fault {
    Fault { place: word.place.clone(), why: format!("{}: {why}", quoted(&word.text)) }
}
