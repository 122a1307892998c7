//! Imports only go down the floors, and rooms on the doors' floor don't know each other.

use std::fs;
use std::path::{Path, PathBuf};

/// From the cellar up; `cli` is the room on the roof.
const FLOORS: [&str; 6] = ["words", "rules", "streams", "doors", "house", "cli"];
const DOORS: usize = 3;

#[test]
fn imports_only_go_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = vec![];
    let mut seen = 0;
    for file in files(&src) {
        let path = file.strip_prefix(&src).unwrap().with_extension("");
        let parts: Vec<&str> = path.iter().map(|part| part.to_str().unwrap()).collect();
        let Some(floor) = rank(parts[0]) else { continue };
        let text = fs::read_to_string(&file).unwrap();
        for import in text.split("crate::").skip(1) {
            let end = import.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(import.len());
            let mut to = import[..end].split("::");
            let Some(below) = rank(to.next().unwrap()) else { continue };
            let room = to.next().unwrap_or("");
            seen += 1;
            let sideways = floor == DOORS && below == DOORS && Some(&room) != parts.get(1);
            if below > floor || sideways {
                wrong.push(format!("{}: crate::{}", path.display(), &import[..end]));
            }
        }
    }
    assert!(seen > 100, "the walk saw only {seen} imports");
    assert!(wrong.is_empty(), "these imports go up, or from door to door:\n{}", wrong.join("\n"));
}

fn rank(floor: &str) -> Option<usize> {
    FLOORS.iter().position(|name| *name == floor)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
