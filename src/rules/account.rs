//! Our accounts: which contacts one of them shall have, which one an operator means, and how they are shown.

use crate::rules::conf::url;
use crate::words::cert::{Account, KeyKind};
use crate::words::sorted::Set;

/// As many as the larger CAs take.
const MOST_CONTACTS: usize = 10;

/// The contacts that an account shall have when an MD with these (`mine`) is about to use it. An account is shared, so
/// what it has stays for as long as some MD at this CA wants it; another MD's are not added for it, because the CA may
/// refuse them.
pub fn contacts(has: &[String], mine: &[String], wanted: &Set<String>) -> Vec<String> {
    let mut all: Vec<String> = has.iter().filter(|contact| wanted.contains(*contact)).cloned().collect();
    for contact in mine {
        if !all.contains(contact) {
            all.push(contact.clone());
        }
    }
    // Whoever uses it is among them.
    all.drain(..all.len().saturating_sub(MOST_CONTACTS));
    all
}

/// One line for each: the CA, the account there, its contacts; never a key.
pub fn lines<'a>(accounts: impl Iterator<Item = &'a Account>) -> Vec<String> {
    let mut lines: Vec<String> = accounts
        .map(|account| {
            let url = account.url.as_deref().unwrap_or("its key is made, the account not yet");
            let contacts = account.contacts.join(", ");
            let contacts = if contacts.is_empty() { "no contact" } else { &contacts };
            let bound = account.kid.as_ref().map(|kid| format!("; bound to {kid}")).unwrap_or_default();
            let rolls = if account.next.is_some() { "; its key is being changed" } else { "" };
            format!("{}: {url}; {contacts}{bound}{rolls}", account.ca)
        })
        .collect();
    if lines.is_empty() {
        lines.push(NONE.into());
    }
    lines
}

const NONE: &str = "there is no account; the first order makes one";

/// The account that is meant by a CA's URL or known name, by its own URL, by what it is bound to, or by nothing where
/// there is only one.
pub fn pick<'a>(accounts: impl Iterator<Item = &'a Account>, ca: Option<&str>) -> Result<&'a Account, String> {
    let accounts: Vec<&Account> = accounts.collect();
    let Some(text) = ca else {
        return match accounts[..] {
            [one] => Ok(one),
            [] => Err(NONE.into()),
            _ => Err("there are several accounts; name the CA whose account is meant".into()),
        };
    };
    let known = url::ca(text).ok();
    let urls = [KeyKind::P256, KeyKind::Rsa(2048)].map(|kind| known.as_ref().map_or(text, |known| known.url(kind)));
    let is_meant = |account: &&Account| {
        let own = [&account.url, &account.kid].into_iter().flatten().any(|name| name == text);
        own || urls.contains(&account.ca.as_str())
    };
    let mut found = accounts.into_iter().filter(is_meant);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(format!("there is no account with the CA {text:?}; `edgemd account` lists them")),
        _ => Err(format!("there are several accounts with the CA {text:?}; name one by its own URL")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<String> {
        text.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn what_an_account_has_stays_while_somebody_wants_it() {
        for (has, mine, wanted, shall) in [
            ("", "a", "a b", "a"),
            ("a", "a", "a", "a"),
            ("a", "b", "a b", "a b"),
            ("a b", "a", "a b", "a b"),
            ("a", "b", "b", "b"),
            ("a", "", "", ""),
            ("a", "", "a", "a"),
            ("", "", "a", ""),
        ] {
            let wanted = list(wanted).into_iter().collect();
            assert_eq!(contacts(&list(has), &list(mine), &wanted), list(shall), "{has}, {mine}, {wanted:?}");
        }
        let many: Vec<String> = (0..30).map(|n| format!("mailto:{n}@example.org")).collect();
        let shall = contacts(&many[..20], &many[25..26], &many.iter().cloned().collect());
        assert_eq!(shall, [&many[11..20], &many[25..26]].concat());
    }

    fn account(ca: &str, url: Option<&str>, contacts: &str) -> Account {
        Account {
            ca: ca.into(),
            url: url.map(Into::into),
            key: vec![7].into(),
            contacts: list(contacts),
            ..Account::default()
        }
    }

    #[test]
    fn each_account_has_a_line() {
        let accounts = [
            account(
                "https://ca.example/dir",
                Some("https://ca.example/acct/1"),
                "mailto:a@x.example mailto:b@x.example",
            ),
            account("https://other.example/dir", None, ""),
        ];
        assert_eq!(
            lines(accounts.iter()),
            [
                "https://ca.example/dir: https://ca.example/acct/1; mailto:a@x.example, mailto:b@x.example",
                "https://other.example/dir: its key is made, the account not yet; no contact",
            ]
        );
        let bound = Account { kid: Some("kid-1".into()), ..accounts[1].clone() };
        assert!(lines([bound].iter())[0].ends_with("; no contact; bound to kid-1"));
        assert_eq!(lines([].iter()), ["there is no account; the first order makes one"]);
    }

    #[test]
    fn the_account_that_is_meant() {
        let letsencrypt = account("https://acme-v02.api.letsencrypt.org/directory", None, "");
        let rsa = account("https://acme.ssl.com/sslcom-dv-rsa", Some("https://acme.ssl.com/a/2"), "");
        let own = account("https://ca.example/dir", None, "");
        let bound = Account { kid: Some("kid-1".into()), url: Some("https://acme.ssl.com/a/1".into()), ..rsa.clone() };
        let all = [letsencrypt.clone(), rsa.clone(), own.clone()];
        let two = [rsa.clone(), bound.clone()].to_vec().leak();
        let picked = |list: &'static [Account], ca: Option<&str>| pick(list.iter(), ca);
        let (all, one): (&'static [Account], &'static [Account]) = (all.to_vec().leak(), vec![own.clone()].leak());
        assert_eq!(picked(one, None), Ok(&own));
        assert_eq!(picked(all, Some("letsencrypt")), Ok(&letsencrypt));
        assert_eq!(picked(all, Some("SSLcom")), Ok(&rsa));
        assert_eq!(picked(all, Some("https://ca.example/dir")), Ok(&own));
        for name in ["kid-1", "https://acme.ssl.com/a/1"] {
            assert_eq!(picked(two, Some(name)), Ok(&bound));
        }
        for (list, ca, why) in [
            (&[][..], None, "there is no account; the first order makes one"),
            (all, None, "there are several accounts; name the CA whose account is meant"),
            (two, Some("SSLcom"), "there are several accounts with the CA \"SSLcom\"; name one by its own URL"),
            (all, Some("Google"), "there is no account with the CA \"Google\"; `edgemd account` lists them"),
            (all, Some("x\n"), "there is no account with the CA \"x\\n\"; `edgemd account` lists them"),
        ] {
            assert_eq!(picked(list, ca), Err(why.into()));
        }
    }
}
