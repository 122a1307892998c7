//! The bodies of the fuzz targets, each on its corpus and on ten thousand damages of it, the same at every run. `make
//! fuzz` goes on from there, led by coverage (`tests/fuzz/`).

#[path = "fake/xorshift.rs"]
mod xorshift;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use xorshift::Xorshift;

macro_rules! targets {
    ($($name:ident: $body:path,)*) => {
        $(#[test]
        fn $name() {
            attack(stringify!($name), $body);
        })*

        const TARGETS: &[(&str, &str)] = &[$((stringify!($name), stringify!($body))),*];
    };
}

targets! {
    advice: edgemd::rules::acme::advice::fuzz,
    conf: edgemd::rules::conf::read::fuzz,
    control: edgemd::rules::control::fuzz,
    der: edgemd::rules::der::fuzz,
    dns: edgemd::rules::dns::fuzz,
    flow: edgemd::rules::acme::flow::fuzz,
    headers: edgemd::rules::acme::headers::fuzz,
    http1: edgemd::rules::http1::fuzz,
    import: edgemd::rules::import::fuzz,
    lex: edgemd::rules::conf::lex::fuzz,
    name: edgemd::words::name::fuzz,
    ocsp: edgemd::rules::ocsp::fuzz,
    pem: edgemd::rules::pem::fuzz,
    problem: edgemd::rules::acme::problem::fuzz,
    proxy_header: edgemd::rules::proxy_header::fuzz,
    record: edgemd::rules::record::fuzz,
    script: edgemd::doors::script::fuzz,
    txt: edgemd::rules::txt::fuzz,
    x509: edgemd::rules::x509::fuzz,
}

#[test]
fn each_body_has_its_target_and_its_corpus() {
    let mut found: Vec<PathBuf> = entries(&folder().join("src/bin"));
    for (name, body) in TARGETS {
        let path = folder().join(format!("src/bin/{name}.rs"));
        let text = fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        assert!(text.contains(&format!("|bytes: &[u8]| {body}(bytes));")), "{}: {text}", path.display());
        assert!(!corpus(name).is_empty(), "{name} has no corpus");
        found.retain(|other| *other != path);
    }
    assert!(found.is_empty(), "targets that cargo test does not know: {found:?}");
}

const DAMAGES: u32 = 10_000;

fn attack(name: &str, body: fn(&[u8])) {
    let corpus = corpus(name);
    corpus.iter().for_each(|bytes| survive(body, bytes));
    let mut dice = Dice(Xorshift(0x9e37_79b9_7f4a_7c15));
    for length in 0..256 {
        survive(body, &(0..length).map(|_| dice.byte()).collect::<Vec<_>>());
    }
    for _ in 0..DAMAGES {
        let mut bytes = dice.choose(&corpus).to_vec();
        for _ in 0..=dice.below(4) {
            damage(&mut bytes, &corpus, &mut dice);
        }
        survive(body, &bytes);
    }
}

fn damage(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], dice: &mut Dice) {
    let at = dice.below(bytes.len() + 1);
    let end = bytes.len().min(at + dice.below(16));
    match dice.below(7) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..end)),
        2 => bytes.insert(at, dice.byte()),
        // What another one has in that place, or a piece of it.
        3 => drop(bytes.splice(at.., dice.choose(corpus).iter().copied().skip(at))),
        4 => {
            let other = dice.choose(corpus);
            let from = dice.below(other.len() + 1);
            let piece: Vec<u8> = other.iter().copied().skip(from).take(dice.below(64)).collect();
            drop(bytes.splice(at..at, piece));
        }
        5 => {
            let again = bytes[at..end].to_vec();
            drop(bytes.splice(at..at, again));
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = if dice.below(2) == 0 { dice.byte() } else { *byte ^ 1 << dice.below(8) };
            }
        }
    }
}

/// What was too much for it is printed, in the form of a literal.
fn survive(body: fn(&[u8]), bytes: &[u8]) {
    let survived = catch_unwind(AssertUnwindSafe(|| body(bytes)));
    assert!(survived.is_ok(), "it was b\"{}\"", bytes.escape_ascii());
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let mut paths = entries(&folder().join("corpus").join(name));
    if matches!(name, "conf" | "lex") {
        paths.extend(entries(&folder().join("../conf")));
    }
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).into_iter().flatten();
    let mut found: Vec<PathBuf> = found.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

struct Dice(Xorshift);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    fn choose<'a>(&mut self, corpus: &'a [Vec<u8>]) -> &'a [u8] {
        &corpus[self.below(corpus.len())]
    }
}
