//! The operator's text: files as they lie on the disk, and the environment.

use crate::rules::conf::owner::Me;
use crate::rules::conf::read::Library;
use std::fs;
use std::io::Read;
use std::path::Path;

/// The real one.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemLibrary;

/// The real one, as another one than us would read it.
pub struct LibraryOf(pub Me);

/// More than any configuration has; a device file or a disk image named by mistake ends here.
const LIMIT: u64 = 16 << 20;

impl Library for SystemLibrary {
    fn text(&self, path: &str) -> Result<Vec<u8>, String> {
        let file = fs::File::open(path).map_err(|error| said(&error))?;
        let kind = file.metadata().map_err(|error| said(&error))?;
        if kind.is_dir() {
            return Err("it is a folder".into());
        }
        let mut bytes = Vec::new();
        file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(|error| said(&error))?;
        match u64::try_from(bytes.len()) {
            Ok(..=LIMIT) => Ok(bytes),
            _ => Err(format!("it has more than {} MB", LIMIT >> 20)),
        }
    }

    fn glob(&self, pattern: &str) -> Vec<String> {
        let (root, pattern) = match pattern.strip_prefix('/') {
            Some(rest) => ("/", rest),
            None => ("", pattern),
        };
        let mut paths = vec![root.to_string()];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            paths = paths.iter().flat_map(|folder| step(folder, part)).collect();
        }
        paths.retain(|path| Path::new(path).is_file());
        paths.sort_unstable();
        paths
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn me(&self) -> Me {
        use rustix::process::{getegid, geteuid, getgroups};
        let user = geteuid();
        if user.is_root() {
            return Me::Root;
        }
        let groups = getgroups().unwrap_or_default().into_iter().chain([getegid()]);
        Me::Plain { user: user.as_raw(), groups: groups.map(|group| group.as_raw()).collect() }
    }
}

impl Library for LibraryOf {
    fn text(&self, path: &str) -> Result<Vec<u8>, String> {
        SystemLibrary.text(path)
    }

    fn glob(&self, pattern: &str) -> Vec<String> {
        SystemLibrary.glob(pattern)
    }

    fn env(&self, name: &str) -> Option<String> {
        SystemLibrary.env(name)
    }

    fn me(&self) -> Me {
        self.0.clone()
    }
}

/// `no such file or directory`, without the number.
fn said(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

/// What one part of a pattern leads to from a folder. Hidden files need to be named with their dot.
fn step(folder: &str, part: &str) -> Vec<String> {
    let join = |name: &str| match folder {
        "" | "/" => format!("{folder}{name}"),
        folder => format!("{folder}/{name}"),
    };
    if !part.contains(['*', '?', '[']) {
        return vec![join(part)];
    }
    let entries = fs::read_dir(if folder.is_empty() { "." } else { folder }).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let pattern: Vec<char> = part.chars().collect();
    let fits = |name: &String| {
        let hidden = name.starts_with('.') && !part.starts_with('.');
        !hidden && fits(&pattern, &name.chars().collect::<Vec<_>>())
    };
    names.filter(fits).map(|name| join(&name)).collect()
}

/// `*`, `?`, `[a-z]`, `[!a-z]`; a bracket that is not closed stands for itself.
fn fits(pattern: &[char], name: &[char]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        (['*', rest @ ..], _) => (0..=name.len()).any(|skip| name.get(skip..).is_some_and(|name| fits(rest, name))),
        (['?', rest @ ..], [_, name @ ..]) => fits(rest, name),
        (['[', inside @ ..], [c, tail @ ..]) => match inside.iter().skip(1).position(|end| *end == ']') {
            Some(end) => {
                let (set, rest) = inside.split_at(end + 1);
                among(set, *c) && fits(rest.get(1..).unwrap_or_default(), tail)
            }
            None => *c == '[' && fits(inside, tail),
        },
        ([p, rest @ ..], [c, name @ ..]) => p == c && fits(rest, name),
        _ => false,
    }
}

fn among(set: &[char], c: char) -> bool {
    let (not, mut set) = match set {
        ['!' | '^', rest @ ..] => (true, rest),
        set => (false, set),
    };
    let mut found = false;
    loop {
        (found, set) = match set {
            [] => return found != not,
            [from, '-', to, rest @ ..] => (found || (*from..=*to).contains(&c), rest),
            [one, rest @ ..] => (found || *one == c, rest),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let is =
            |pattern: &str, name: &str| fits(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>());
        for (pattern, name) in [
            ("*.conf", "a.conf"),
            ("*", ""),
            ("a?c*", "abc"),
            ("[a-c]x", "bx"),
            ("[!a]x", "bx"),
            ("[]]", "]"),
            ("[a", "[a"),
        ] {
            assert!(is(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("*.conf", "a.conf~"), ("a?c", "ac"), ("[a-c]", "d"), ("[!a]", "a"), ("", "a"), ("a", "")]
        {
            assert!(!is(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn files_of_a_folder() {
        let dir = std::env::temp_dir().join(format!("edgemd-text-{}", std::process::id()));
        fs::create_dir_all(dir.join("conf.d/sub.conf")).unwrap();
        for name in ["b.conf", "a.conf", ".c.conf", "d.conf~"] {
            fs::write(dir.join("conf.d").join(name), name).unwrap();
        }
        let dir = dir.to_str().unwrap();
        let library = SystemLibrary;
        assert_eq!(
            library.glob(&format!("{dir}/conf.?/*.conf")),
            [format!("{dir}/conf.d/a.conf"), format!("{dir}/conf.d/b.conf")]
        );
        assert_eq!(library.glob(&format!("{dir}/none.d/*.conf")), Vec::<String>::new());
        assert_eq!(library.text(&format!("{dir}/conf.d/a.conf")), Ok(b"a.conf".to_vec()));
        assert_eq!(library.text(&format!("{dir}/none")), Err("no such file or directory".into()));
        assert_eq!(library.text(dir), Err("it is a folder".into()));
        fs::remove_dir_all(dir).unwrap();
    }
}
