//! Whose files an export writes: names of users and groups → numbers, and whether this process may give files to them.

use super::lex::quoted;
use super::read::Library;

/// What this process may do with a file's owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Me {
    /// May give files to anybody.
    Root,
    Plain {
        user: u32,
        groups: Vec<u32>,
    },
}

impl Me {
    /// This user, with the groups that a service of it has.
    pub fn named(name: &str, library: &dyn Library) -> Result<Self, String> {
        let text = |file: &str| String::from_utf8_lossy(&library.text(file).unwrap_or_default()).into_owned();
        let passwd = text("/etc/passwd");
        let line = passwd.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":"));
        let mut numbers = line.unwrap_or_default().split(':').skip(1).map_while(|number| number.parse().ok());
        let (Some(user), Some(own)) = (numbers.next(), numbers.next()) else {
            return Err(format!("there is no user {}", quoted(name)));
        };
        let mut groups = vec![own];
        for line in text("/etc/group").lines() {
            let mut words = line.split(':').skip(2);
            let (Some(number), Some(members)) = (words.next(), words.next()) else { continue };
            groups.extend(number.parse::<u32>().ok().filter(|_| members.split(',').any(|member| member == name)));
        }
        Ok(if user == 0 { Self::Root } else { Self::Plain { user, groups } })
    }
}

/// Owner and group, as far as they are written.
type Owner = (Option<u32>, Option<u32>);

/// `user`, `user:group`, `:group`; names or numbers.
pub fn owner(text: &str, library: &dyn Library) -> Result<Owner, String> {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    if user.is_empty() && group.is_empty() {
        return Err("is no owner; write user, user:group or :group".into());
    }
    let find = |name: &str, file: &str, what: &str| match name {
        "" => Ok(None),
        _ => number(name, file, library).map(Some).ok_or_else(|| format!("there is no {what} {}", quoted(name))),
    };
    let wrong = |why: String| match text.contains(':') {
        true => format!("is no owner: {why}"),
        false => format!("is neither a layout (pair, combined, acme, live) nor a mode nor an owner: {why}"),
    };
    let user = find(user, "/etc/passwd", "user").map_err(wrong)?;
    let group = find(group, "/etc/group", "group").map_err(wrong)?;
    if let Me::Plain { user: own, groups } = library.me() {
        if user.is_some_and(|user| user != own) {
            return Err(format!(
                "can't be the owner: edgemd runs as user {own}, and only root may give files away; a group that it \
                 belongs to can have them, as in :group"
            ));
        }
        if group.is_some_and(|group| !groups.contains(&group)) {
            return Err(format!("can't be the group: user {own}, as whom edgemd runs, does not belong to it"));
        }
    }
    Ok((user, group))
}

/// The number of a name in a file of `name:password:number:…` lines; a number stands for itself.
fn number(name: &str, file: &str, library: &dyn Library) -> Option<u32> {
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        return name.parse().ok();
    }
    let text = library.text(file).ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line?.split(':').nth(1)?.parse().ok()
}

/// `0640`, `640`; a number of another length is a user's.
pub fn mode(text: &str) -> Option<u32> {
    let octal = text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let sized = text.len() == 3 || (text.len() == 4 && text.starts_with('0'));
    (octal && sized).then(|| u32::from_str_radix(text, 8).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Files(Me);

    impl Library for Files {
        fn text(&self, path: &str) -> Result<Vec<u8>, String> {
            match path {
                "/etc/passwd" => Ok(b"root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/:/bin/false\n".into()),
                "/etc/group" => Ok(b"root:x:0:\nssl-cert:x:110:www-data\nbroken\n".into()),
                _ => Err("it is not there".into()),
            }
        }
        fn glob(&self, _: &str) -> Vec<String> {
            vec![]
        }
        fn env(&self, _: &str) -> Option<String> {
            None
        }
        fn me(&self) -> Me {
            self.0.clone()
        }
    }

    #[test]
    fn names_and_numbers() {
        let library = Files(Me::Root);
        for (text, found) in [
            ("www-data", (Some(33), None)),
            ("www-data:ssl-cert", (Some(33), Some(110))),
            (":ssl-cert", (None, Some(110))),
            ("1000:1000", (Some(1000), Some(1000))),
            ("root:", (Some(0), None)),
        ] {
            assert_eq!(owner(text, &library), Ok(found), "{text}");
        }
        for (text, why) in [
            (":", "is no owner"),
            ("nobody", "nor an owner: there is no user \"nobody\""),
            ("www", "there is no user"),
            ("root:nobody", "is no owner: there is no group \"nobody\""),
            ("99999999999", "there is no user"),
            (":broken", "there is no group"),
        ] {
            assert!(owner(text, &library).unwrap_err().contains(why), "{text}");
        }
    }

    #[test]
    fn who_may_give_files_away() {
        let library = Files(Me::Plain { user: 33, groups: vec![33, 110] });
        assert_eq!(owner("www-data:ssl-cert", &library), Ok((Some(33), Some(110))));
        assert!(owner("root", &library).unwrap_err().contains("edgemd runs as user 33, and only root may"));
        assert!(owner(":root", &library).unwrap_err().contains("does not belong to it"));
    }

    #[test]
    fn a_user_has_its_groups() {
        let named = |name: &str| Me::named(name, &Files(Me::Root));
        assert_eq!(named("www-data"), Ok(Me::Plain { user: 33, groups: vec![33, 110] }));
        assert_eq!(named("root"), Ok(Me::Root));
        for name in ["www", "", "33", "www-data:x"] {
            assert!(named(name).is_err_and(|why| why.starts_with("there is no user")), "{name}");
        }
    }

    #[test]
    fn modes() {
        for (text, found) in
            [("0640", Some(0o640)), ("600", Some(0o600)), ("1000", None), ("0999", None), ("+64", None), ("", None)]
        {
            assert_eq!(mode(text), found, "{text}");
        }
    }
}
