//! Our accounts: shared, told of changes, made anew where they are gone, shown and ended.

use super::fake::ca::Weather;
use super::{ONE, World, asked, config, journal};
use edgemd::doors::clock::{Knock, Push};
use edgemd::rules::control::{Accounts, Say};
use edgemd::words::time::Span;
use serde_json::json;

/// What somebody was told who asked for the accounts.
pub fn accounts(world: &World, conf: &str, what: Accounts) -> Vec<Say> {
    let (ended, ends) = smol::channel::unbounded();
    world.hands.knock_in(Span::secs(1), Knock::Accounts { what, ended });
    world.live(conf, Span::mins(5));
    std::iter::from_fn(|| ends.try_recv().ok()).collect()
}

fn contact(name: &str) -> String {
    ONE.replace("MDExport", &format!("MDContactEmail {name}@example.org\nMDExport"))
}

/// The CA hears of other contacts with the next order, not for their own sake, and once.
#[test]
fn md_110_303_changed_contacts_are_sent_with_the_next_order() {
    let world = World::new();
    world.live(&contact("old"), Span::hours(1));
    let requests = world.ca.requests();
    world.hands.knock_in(Span::secs(1), Knock::Reload(Box::new(config(&contact("new")))));
    world.live(&contact("old"), Span::hours(1));
    assert_eq!((world.ca.requests(), world.ca.contacts()), (requests, json!(["mailto:old@example.org"])));
    for (conf, contacts, told) in [
        (contact("new"), json!(["mailto:new@example.org"]), 1),
        (contact("new"), json!(["mailto:new@example.org"]), 1),
        (ONE.into(), json!([]), 2),
    ] {
        let issued = world.issued();
        assert_eq!(asked(&world, &conf, &[], Push::Force).last(), Some(&Say::End(0)));
        assert_eq!((world.issued(), world.ca.contacts()), (issued + 1, contacts));
        assert_eq!(world.ca.log().iter().filter(|line| *line == "POST /account/0").count(), told);
    }
    assert_eq!(world.ca.accounts(), 1);
}

/// MDs of several people share one account: each one's contact is added with his own order, and one that the CA refuses
/// is nobody else's trouble.
#[test]
fn a_shared_account_has_the_contacts_of_all_and_a_bad_one_harms_its_own_md_alone() {
    let world = World::new();
    let person =
        |name: &str| format!("<MDomainSet {name}.example>\nMDContactEmail {name}@example.org\n</MDomainSet>\n");
    let conf = ONE.replace("MDomain a.example b.example", &[person("a"), person("b"), person("c")].concat());
    world.ca.weather(|weather| weather.bad_contact = Some("mailto:b@example.org"));
    world.live(&conf, Span::hours(1));
    let names: Vec<_> = world.ca.issued().iter().flat_map(|issued| issued.names.clone()).collect();
    assert_eq!(names, ["a.example", "c.example"]);
    assert!(world.status().0.contains("invalidContact"), "{}", world.status().0);
    assert_eq!(world.ca.contacts(), json!(["mailto:a@example.org", "mailto:c@example.org"]));
    let told = world.ca.log().iter().filter(|line| *line == "POST /account/0").count();
    world.hands.turn(Span::days(61));
    world.live(&conf, Span::secs(5));
    assert_eq!(world.issued(), 4);
    let again = world.ca.log().iter().filter(|line| *line == "POST /account/0").count() - told;
    assert!(again <= 1, "only the bad one is told: {again}");
}

/// An account that the CA has forgotten or ended is made anew without a word of trouble, and with a key that the CA takes.
#[test]
fn an_account_that_is_gone_at_the_ca_is_made_anew() {
    for ended in [false, true] {
        let world = World::new();
        world.live(ONE, Span::hours(1));
        world.hands.turn(Span::days(61));
        if ended {
            world.ca.end_accounts();
        } else {
            world.ca.forget_accounts();
        }
        journal::take();
        world.live(ONE, Span::hours(1));
        assert_eq!((world.issued(), world.ca.accounts()), (2, 1), "{ended}");
        let lines = journal::take();
        assert!(!lines.iter().any(|line| line.contains("failed")), "{lines:#?}");
        let said = if ended { "was ended there" } else { "was gone" };
        assert_eq!(lines.iter().filter(|line| line.contains(said)).count(), 1, "{lines:#?}");
        world.hands.turn(Span::days(61));
        world.live(ONE, Span::hours(1));
        assert_eq!((world.issued(), world.ca.accounts()), (3, 1), "{ended}: it was kept");
    }
}

#[test]
fn accounts_are_shown_and_ended() {
    let world = World::new();
    let line = |text: &str| Say::Line(text.into());
    let deactivate = |ca: Option<&str>| Accounts::Deactivate { ca: ca.map(Into::into) };
    let none = [line("there is no account; the first order makes one")];
    let manual = format!("MDDriveMode manual\n{ONE}");
    assert_eq!(accounts(&world, &manual, Accounts::Show), [&none[..], &[Say::End(0)]].concat());
    assert_eq!(accounts(&world, &manual, deactivate(None)), [&none[..], &[Say::End(1)]].concat());

    let conf = format!(
        "{}<MDomainSet z.example>\nMDCertificateAuthority https://other.example/directory\n</MDomainSet>",
        contact("me")
    );
    world.live(&conf, Span::hours(1));
    let said = accounts(&world, &conf, Accounts::Show);
    let (ca, other) = ("https://ca.example/directory", "https://other.example/directory");
    assert_eq!(
        said,
        [
            line("https://ca.example/directory: https://ca.example/account/0; mailto:me@example.org"),
            line("https://other.example/directory: https://other.example/account/0; mailto:me@example.org"),
            Say::End(0)
        ]
    );
    let said = accounts(&world, &conf, deactivate(None));
    assert_eq!(said, [line("there are several accounts; name the CA whose account is meant"), Say::End(1)]);
    world.ca.weather(|weather| weather.down = true);
    let said = accounts(&world, &conf, deactivate(Some(ca)));
    let why = "reading the directory: ca.example: connection refused";
    assert_eq!(said, [line(&format!("the account at {ca} is not deactivated: {why}")), Say::End(1)]);

    world.ca.weather(|weather| *weather = Weather::default());
    let said = accounts(&world, &conf, deactivate(Some(ca)));
    let ended = format!("the account at {ca} is deactivated; the next order there makes a new one");
    assert_eq!(said, [line(&ended), Say::End(0)]);
    assert_eq!((world.ca.accounts(), world.ca.ended_accounts()), (0, 1));
    let said = accounts(&world, &conf, Accounts::Show);
    assert!(said.len() == 2 && matches!(&said[0], Say::Line(line) if line.starts_with(other)), "{said:?}");
    assert_eq!(world.disk.files().iter().filter(|path| path.starts_with("/store/accounts")).count(), 2, "the other's");
    assert_eq!(accounts(&world, &conf, deactivate(None)).last(), Some(&Say::End(0)), "the only one");

    assert_eq!(asked(&world, &conf, &[], Push::Force).last(), Some(&Say::End(0)));
    assert_eq!((world.ca.accounts(), world.ca.ended_accounts()), (1, 1));
}

/// Ending an account is one more conversation: it waits for no other, and no other for it.
#[test]
fn an_account_that_is_in_use_is_not_ended_and_a_hanging_end_delays_nobody() {
    let world = World::new();
    world.live(ONE, Span::hours(1));
    let deactivate = || Accounts::Deactivate { ca: Some("https://ca.example/directory".into()) };
    world.hands.turn(Span::days(61));
    world.ca.weather(|weather| weather.takes = Span::secs(1));
    let said = accounts(&world, ONE, deactivate());
    assert!(matches!(&said[0], Say::Line(line) if line.contains("is being talked to just now")), "{said:?}");
    assert_eq!((said.last(), world.issued()), (Some(&Say::End(1)), 2));

    world.ca.weather(|weather| weather.hangs = true);
    let conf =
        format!("{ONE}<MDomainSet z.example>\nMDCertificateAuthority https://other.example/directory\n</MDomainSet>");
    let other = world.other.clone();
    world.hands.do_in(Span::secs(20), move || assert_eq!(other.issued().len(), 1));
    let said = accounts(&world, &conf, deactivate());
    assert!(matches!(&said[0], Say::Line(line) if line.ends_with("ca.example: silent for 30s")), "{said:?}");
    assert_eq!(world.ca.accounts(), 1);
}
