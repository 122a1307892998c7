//! DNS as a device sees it: what its command puts there, and a look at it, which takes as long as a test wants.

use super::hands::Hands;
use super::locked;
use edgemd::doors::clock::{Clock, Knock};
use edgemd::doors::dns::{Dns, Glance, Seen};
use edgemd::rules::txt::Txt;
use edgemd::words::time::Span;
use std::sync::{Arc, Mutex};

#[derive(Clone)]
pub struct Zone(Arc<Mutex<Inner>>);

struct Inner {
    hands: Hands,
    /// Each with the moment from which it is shown.
    records: Vec<(Txt, Span)>,
    /// How long a new record takes until it is shown, and how long a look takes.
    slow: Span,
    takes: Span,
    /// Nobody can be asked from here.
    blind: bool,
    looks: u32,
}

impl Zone {
    pub fn new(hands: &Hands) -> Self {
        let (slow, takes) = (Span::ZERO, Span::ZERO);
        Self(Arc::new(Mutex::new(Inner { hands: hands.clone(), records: vec![], slow, takes, blind: false, looks: 0 })))
    }

    pub fn slow(&self, span: Span) {
        locked(&self.0).slow = span;
    }

    pub fn takes(&self, span: Span) {
        locked(&self.0).takes = span;
    }

    pub fn blind(&self, blind: bool) {
        locked(&self.0).blind = blind;
    }

    pub fn looks(&self) -> u32 {
        locked(&self.0).looks
    }

    pub fn put(&self, name: &str, value: &str) {
        let mut inner = locked(&self.0);
        let at = inner.hands.steady().plus(inner.slow);
        inner.records.push((Txt { name: name.into(), value: value.into() }, at));
    }

    /// This value, or all of the name's.
    pub fn remove(&self, name: &str, value: Option<&str>) {
        locked(&self.0).records.retain(|(txt, _)| txt.name != name || value.is_some_and(|value| txt.value != value));
    }

    /// What stands there, shown or not.
    pub fn names(&self) -> Vec<String> {
        locked(&self.0).records.iter().map(|(txt, _)| txt.name.clone()).collect()
    }

    pub fn shows(&self, wanted: &Txt) -> bool {
        let inner = locked(&self.0);
        let now = inner.hands.steady();
        let mut shown = inner.records.iter().filter(|(txt, at)| *at <= now && txt.name == wanted.name);
        shown.any(|(txt, _)| wanted.is_said_by(txt.value.as_bytes()))
    }

    /// A call of the operator's command, which does its work.
    pub fn hear(&self, argv: &[String]) {
        let words: Vec<&str> = argv.iter().map(String::as_str).collect();
        match words[..] {
            [.., "setup", name, value] => self.put(&format!("_acme-challenge.{name}"), value),
            [.., "teardown", name, value] => self.remove(&format!("_acme-challenge.{name}"), Some(value)),
            [.., "teardown", name] => self.remove(&format!("_acme-challenge.{name}"), None),
            _ => {}
        }
    }
}

impl Dns for Zone {
    fn look(&mut self, records: Vec<Txt>) -> Box<dyn Glance> {
        let mut inner = locked(&self.0);
        inner.looks += 1;
        let at = inner.hands.steady().plus(inner.takes);
        if inner.takes > Span::ZERO {
            inner.hands.knock_in(inner.takes, Knock::Answer);
        }
        Box::new(Peek { zone: self.clone(), records, at })
    }
}

struct Peek {
    zone: Zone,
    records: Vec<Txt>,
    at: Span,
}

impl Glance for Peek {
    fn seen(&mut self) -> Option<Seen> {
        let now = locked(&self.zone.0).hands.steady();
        let blind = locked(&self.zone.0).blind;
        let missing = self.records.iter().find(|txt| !self.zone.shows(txt));
        (now >= self.at).then(|| match missing {
            _ if blind => Seen::Nothing("no server answers".into()),
            Some(txt) => Seen::Missing(format!("ns.example does not show the TXT record at {}", txt.name)),
            None => Seen::All,
        })
    }
}
