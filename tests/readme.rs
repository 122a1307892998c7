//! The README is true: its configurations pass `edgemd check`, and its words, defaults, verbs and targets are the
//! program's.

mod fake;

use edgemd::rules::conf::table::{DIRECTIVES, Differs, Directive, Preset};
use fake::Fresh;
use std::fs;
use std::process::{Command, Output};

const README: &str = include_str!("../README.md");
const MAKEFILE: &str = include_str!("../Makefile");

/// The fenced blocks, and the text around them.
fn parts() -> (Vec<&'static str>, Vec<&'static str>) {
    let (mut blocks, mut prose) = (vec![], vec![]);
    for (index, part) in README.split("\n```\n").enumerate() {
        if index % 2 == 0 { prose.push(part) } else { blocks.push(part) }
    }
    (blocks, prose)
}

fn edgemd(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edgemd")).args(words).output().expect("the program that cargo has built")
}

fn check(text: &str) -> (Option<i32>, String) {
    let fresh = Fresh::new();
    let path = fresh.path().join("edgemd.conf");
    // A store of this machine's, if it has one, is none of this test's business.
    let store = fresh.path().join("store");
    fs::write(&path, format!("{text}\nMDStoreDir {}\n", store.display())).expect("a file in our own folder");
    let said = edgemd(&["check", "-f", path.to_str().expect("a path of ours")]);
    (said.status.code(), String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr))
}

#[test]
fn every_configuration_is_fine() {
    let (blocks, _) = parts();
    let is_config = |block: &&&str| block.lines().any(|line| line.starts_with("MD") || line.starts_with('<'));
    let configs: Vec<&&str> = blocks.iter().filter(is_config).collect();
    assert!(!configs.is_empty(), "{} blocks, and no configuration among them", blocks.len());
    for config in configs {
        let (code, said) = check(config);
        assert!(code == Some(0) && said.starts_with("configuration is fine\n"), "{code:?} {said}\n{config}");
    }
}

fn directive(name: &str) -> Option<&'static Directive> {
    DIRECTIVES.iter().find(|row| row.name.trim_matches(['<', '>']) == name || row.also.contains(&name))
}

#[test]
fn every_directive_is_one_and_has_the_default_that_is_said() {
    let words = README.split(|c: char| !c.is_ascii_alphanumeric());
    let is_word = |word: &&str| word.len() > 3 && word.starts_with("MD") && word.chars().any(|c| c.is_lowercase());
    for word in words.filter(is_word).filter(|word| *word != MISSPELT) {
        assert!(directive(word).is_some(), "{word} is no directive");
    }
    let mut defaults = 0;
    for line in README.lines().filter(|line| line.starts_with("| `MD")) {
        let cells: Vec<&str> = line.split(" | ").collect();
        let name = cells[0].trim_start_matches("| `").split(['`', ' ']).next().unwrap_or_default();
        let row = directive(name).unwrap_or_else(|| panic!("{name}"));
        if let Some(said) = cells[1].strip_prefix('`').and_then(|cell| cell.strip_suffix('`')) {
            defaults += 1;
            assert!(matches!(row.default, Preset::Value(value) if value == said), "{name}: {said}");
        }
    }
    assert!(defaults > 2, "only {defaults} defaults in the table");
}

/// What differs from mod_md is the table's to say; the README has it word for word.
#[test]
fn the_differences_are_those_of_the_table() {
    let (_, section) = README.split_once("## What differs from mod_md").expect("a section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let found: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
    let news = DIRECTIVES.iter().filter(|row| matches!(row.differs, Differs::New));
    let news = news.map(|row| format!("`{}`", row.name)).collect::<Vec<_>>().join(", ");
    let mut expected = vec![];
    for row in DIRECTIVES {
        if let Differs::So(text) = row.differs {
            assert!(!text.contains('|') && !text.ends_with('.'), "{text}");
            expected.push(format!("| `{}` | {text} |", row.name));
        }
    }
    expected.push(format!("| {news} | not in mod_md |"));
    assert_eq!(found, expected);
}

/// Whoever reads that something holds can run what shows it.
#[test]
fn what_is_said_to_hold_is_shown_by_tests_that_there_are() {
    let (_, section) = README.split_once("## Security").expect("a section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let named = section.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::"));
    let mut seen = 0;
    for (file, test) in named {
        let path = format!("{}/tests/{file}.rs", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(&path).unwrap_or_else(|why| panic!("{path}: {why}"));
        let listed = format!("    {test}: edgemd::");
        assert!(text.contains(&format!("fn {test}()")) || text.contains(&listed), "{file} has no {test}");
        seen += 1;
    }
    assert!(seen > 15, "only {seen}");
}

const MISSPELT: &str = "MDRenewWindwo";

#[test]
fn the_fault_that_is_shown_is_what_is_said() {
    let shown = README.split('`').find(|code| code.contains(MISSPELT)).expect("an example of a fault");
    let (code, said) = check(&format!("MDomain example.org\n{MISSPELT} 10d"));
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains(&format!("edgemd.conf:2:1: {shown}")), "{said}");
}

#[test]
fn verbs_and_targets_are_there() {
    let help = String::from_utf8(edgemd(&["--help"]).stdout).expect("text");
    let (blocks, prose) = parts();
    let code =
        prose.iter().flat_map(|text| text.split('`').skip(1).step_by(2)).chain(blocks.iter().flat_map(|b| b.lines()));
    let (mut verbs, mut targets) = (0, 0);
    for code in code {
        let mut words = code.split_whitespace();
        match (words.next(), words.next()) {
            (Some("edgemd"), Some(verb)) => {
                verbs += 1;
                assert!(help.contains(&format!("  edgemd {verb} ")), "edgemd {verb}");
            }
            (Some("make"), Some(target)) => {
                targets += 1;
                let target = target.replace("<triple>", "%").replace("<machine>", "%");
                assert!(MAKEFILE.contains(&format!("\n{target}: ## ")), "make {target}");
            }
            _ => {}
        }
    }
    assert!(verbs >= 7 && targets >= 4, "{verbs} verbs, {targets} targets");
}
