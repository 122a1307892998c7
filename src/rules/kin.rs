//! Kin: which MD of the new configuration goes on with what is held under a name that the configuration no longer has.

use crate::words::name::Name;

/// An MD by its name, with its names.
pub struct Kin<'a> {
    pub md: &'a Name,
    pub names: &'a [Name],
}

/// For each of `heirs` (MDs that hold nothing) the one of `orphans` (held, but no longer configured) that it goes on with:
/// the first that covers all of its names, else the one that shares most. None is given twice, and an heir that shares
/// nothing goes without.
pub fn recognise<'a>(heirs: &[Kin<'a>], orphans: &[Kin<'a>]) -> Vec<(&'a Name, &'a Name)> {
    let mut left: Vec<&Kin<'a>> = orphans.iter().collect();
    let mut pairs = vec![];
    for covering in [true, false] {
        for heir in heirs {
            if pairs.iter().any(|(taken, _)| *taken == heir.md) {
                continue;
            }
            let shares = left.iter().enumerate().map(|(index, orphan)| (shared(heir, orphan), index));
            let best =
                shares.filter(|(shared, _)| *shared > 0).max_by_key(|(shared, index)| (*shared, usize::MAX - index));
            if let Some((shared, index)) = best
                && (!covering || shared == heir.names.len())
            {
                pairs.push((heir.md, left.remove(index).md));
            }
        }
    }
    pairs
}

/// How many names of the heir the orphan's certificate has.
fn shared(heir: &Kin<'_>, orphan: &Kin<'_>) -> usize {
    heir.names.iter().filter(|name| orphan.names.iter().any(|held| held.covers(name))).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::name::Labels;

    /// `a: a b` is the MD `a` with the names `a` and `b`.
    fn parse(text: &str) -> (Name, Vec<Name>) {
        let name = |text: &str| Name::parse(text, Labels::One).unwrap();
        let (md, names) = text.split_once(": ").unwrap();
        (name(md), names.split(' ').map(name).collect())
    }

    fn check(heirs: &[&str], orphans: &[&str], expected: &[(&str, &str)]) {
        let own = |list: &[&str]| list.iter().map(|text| parse(text)).collect::<Vec<_>>();
        let (heirs, orphans) = (own(heirs), own(orphans));
        let kin = |list: &'static [(Name, Vec<Name>)]| -> Vec<Kin<'static>> {
            list.iter().map(|(md, names)| Kin { md, names }).collect()
        };
        let (heirs, orphans) = (kin(heirs.leak()), kin(orphans.leak()));
        let pairs = recognise(&heirs, &orphans);
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(heir, orphan)| (heir.as_str(), orphan.as_str())).collect();
        assert_eq!(pairs, expected);
    }

    #[test]
    fn the_heir_goes_on_with_what_covers_it() {
        // The first name was removed.
        check(&["b: b c"], &["a: a b c"], &[("b", "a")]);
        // The first name was renamed: most of the others are there.
        check(&["x: x b c"], &["a: a b c"], &[("x", "a")]);
        // Nothing in common.
        check(&["x: x"], &["a: a b"], &[]);
        // Covering comes before sharing more.
        check(&["x: x b c", "b: b"], &["a: a b c"], &[("b", "a")]);
        // One orphan for each heir.
        check(&["b: b", "c: c"], &["a: a b c"], &[("b", "a")]);
        check(&["b: b", "c: c"], &["a: a b", "d: d c"], &[("b", "a"), ("c", "d")]);
        // Of equals the first.
        check(&["b: b"], &["a: a b", "d: d b"], &[("b", "a")]);
        check(&["www.example: www.example"], &["a: *.example"], &[("www.example", "a")]);
    }
}
