//! The table of acceptance cases (`tests/cases.md`) and the tests agree: what passes has a test with its id, and what a
//! test has in its name passes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const TABLE: &str = include_str!("cases.md");

#[test]
fn the_table_and_the_tests_agree() {
    let tests = tests();
    let covered: BTreeSet<String> = tests.iter().flat_map(|name| ids(name)).collect();
    let mut wrong = vec![];
    let mut rows = BTreeMap::new();
    for cells in table().filter(|cells| is_id(cells[0])) {
        let (id, state) = (cells[0], cells[1]);
        if rows.insert(id, state).is_some() {
            wrong.push(format!("{id} stands there twice"));
        }
        let says_why = ["waits for issue ", "decided otherwise: ", "not applicable: "];
        match (state, covered.contains(id)) {
            ("passes", true) => {}
            ("passes", false) => wrong.push(format!("{id} passes, but no test has md_{id} in its name")),
            (_, true) => wrong.push(format!("a test has md_{id} in its name, but the table says: {state}")),
            (_, false) if says_why.iter().any(|begin| state.starts_with(begin) && state.len() > begin.len()) => {}
            (_, false) => wrong.push(format!("{id}: what is \"{state}\"?")),
        }
    }
    wrong.extend(
        covered.iter().filter(|id| !rows.contains_key(id.as_str())).map(|id| format!("{id} is not in the table")),
    );
    for cells in table().filter(|cells| cells.len() == 2 && cells[1].starts_with('`')) {
        for test in cells[1].split(", ").map(|test| test.trim_matches('`')) {
            if !tests.contains(test) {
                wrong.push(format!("{}: there is no test {test}", cells[0]));
            }
        }
    }
    assert!(rows.len() > 200, "only {} cases", rows.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn ids_are_read_out_of_names() {
    let read = |name: &str| ids(name).into_iter().collect::<Vec<_>>();
    assert_eq!(read("md_702_030_the_first_name_goes"), ["702_030"]);
    assert_eq!(read("md_300_011a_011b_021_members"), ["300_011a", "300_011b", "300_021"]);
    assert_eq!(read("md_310_001_md_120_000_nothing_is_configured"), ["120_000", "310_001"]);
    assert_eq!(read("md_790_failover_goes_round"), [""; 0]);
    assert_eq!(read("an_md_that_is_removed_after_310_days"), [""; 0]);
}

/// The cells of each row.
fn table() -> impl Iterator<Item = Vec<&'static str>> {
    let rows = TABLE.lines().filter(|line| line.starts_with("| "));
    rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

fn is_id(cell: &str) -> bool {
    cell.split_once('_').is_some_and(|(series, case)| is_number(series) && is_case(case))
}

fn is_number(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `030`, `011a`
fn is_case(text: &str) -> bool {
    is_number(text.strip_suffix(|c: char| c.is_ascii_lowercase()).unwrap_or(text))
}

/// `md_310_103_104_md_502_003_…` has three.
fn ids(name: &str) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    let mut words = name.split('_').peekable();
    while let Some(word) = words.next() {
        if word != "md" {
            continue;
        }
        let Some(series) = words.next_if(|word| is_number(word)) else { continue };
        while let Some(case) = words.next_if(|word| is_case(word)) {
            ids.insert(format!("{series}_{case}"));
        }
    }
    ids
}

/// The names of all functions that are tests.
fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = BTreeSet::new();
    for file in ["tests", "src"].iter().flat_map(|dir| files(&root.join(dir))) {
        let text = fs::read_to_string(&file).expect("a source");
        for rest in text.split("#[test]").skip(1) {
            // Between the two stand other attributes at most.
            let name = rest.split_once("fn ").and_then(|(_, rest)| rest.split(['(', '<']).next());
            names.extend(name.map(str::to_owned));
        }
    }
    names
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path());
    let all = entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] });
    all.filter(|path| path.extension().is_some_and(|ending| ending == "rs")).collect()
}
