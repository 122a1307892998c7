//! A script that hears all it is told, and may refuse or hang.

use super::hands::Hands;
use super::locked;
use super::zone::Zone;
use edgemd::doors::script::{Event, Script};
use edgemd::words::fault::Trouble;
use edgemd::words::time::{Span, Unix};
use std::sync::{Arc, Mutex};

#[derive(Clone)]
pub struct Ear(Arc<Mutex<Inner>>);

struct Inner {
    hands: Hands,
    heard: Vec<(Option<Unix>, Event)>,
    manners: Vec<Manner>,
    denied: Option<&'static str>,
    takes: Span,
    /// Where the command for dns-01 does its work.
    zone: Option<Zone>,
}

/// How it answers one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    Refuse,
    Hang,
}

impl Ear {
    pub fn new(hands: &Hands) -> Self {
        let hands = hands.clone();
        Self(Arc::new(Mutex::new(Inner {
            hands,
            heard: Vec::new(),
            manners: Vec::new(),
            denied: None,
            takes: Span::ZERO,
            zone: None,
        })))
    }

    /// The next calls are answered with 1.
    pub fn refuse(&self, times: usize) {
        locked(&self.0).manners.extend(vec![Manner::Refuse; times]);
    }

    /// And the next ones after these not at all.
    pub fn hang(&self, times: usize) {
        locked(&self.0).manners.extend(vec![Manner::Hang; times]);
    }

    /// From now on each call with a word that begins so is answered with 1.
    pub fn deny(&self, word: impl Into<Option<&'static str>>) {
        locked(&self.0).denied = word.into();
    }

    /// From now on it puts answers there, and takes them away.
    pub fn writes_to(&self, zone: &Zone) {
        locked(&self.0).zone = Some(zone.clone());
    }

    /// What was heard since the `from`-th call: the program's own name, then the event or the MD.
    pub fn words(&self, from: usize) -> Vec<String> {
        let name = |argv: &[String]| argv.get(1).or(argv.first()).cloned().unwrap_or_default();
        self.heard().iter().skip(from).map(|(_, event)| name(&event.argv)).collect()
    }

    /// How long each answer takes.
    pub fn takes(&self, span: Span) {
        locked(&self.0).takes = span;
    }

    /// What was heard up to now is forgotten.
    pub fn forget(&self) {
        locked(&self.0).heard = vec![];
    }

    /// Every call, refused ones too, and when it came.
    pub fn heard(&self) -> Vec<(Option<Unix>, Event)> {
        locked(&self.0).heard.clone()
    }
}

impl Script for Ear {
    fn run(&mut self, event: &Event) -> Result<(), Trouble> {
        use edgemd::doors::clock::Clock;
        let mut inner = locked(&self.0);
        let now = inner.hands.now();
        inner.heard.push((now, event.clone()));
        let denied = inner.denied.is_some_and(|word| event.argv.iter().any(|said| said.starts_with(word)));
        let manner = match inner.manners.is_empty() {
            true => denied.then_some(Manner::Refuse),
            false => Some(inner.manners.remove(0)),
        };
        let doing = format!("running {}", event.argv.first().map_or("", String::as_str));
        let overdue = inner.takes > event.limit;
        inner.hands.turn(if manner == Some(Manner::Hang) { event.limit } else { inner.takes.min(event.limit) });
        match manner {
            None if !overdue => {
                if let Some(zone) = &inner.zone {
                    zone.hear(&event.argv);
                }
                Ok(())
            }
            Some(Manner::Refuse) if !overdue => Err(Trouble::new(doing, "exited with 1")),
            _ => Err(Trouble::new(doing, format!("still running after {}, so it was ended", event.limit))),
        }
    }
}
