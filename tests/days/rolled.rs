//! The account's key is changed, and the power may go in the midst of it.

use super::accounts::accounts;
use super::fake::ca::{Bad, Weather};
use super::{ONE, World, asked, journal};
use edgemd::doors::clock::Push;
use edgemd::rules::control::{Accounts, Say};
use edgemd::words::time::Span;

const CA: &str = "https://ca.example/directory";

fn roll() -> Accounts {
    Accounts::Roll { ca: None }
}

fn renewed(world: &World) -> bool {
    asked(world, ONE, &[], Push::Force).last() == Some(&Say::End(0))
}

fn line(text: &str) -> Say {
    Say::Line(text.into())
}

#[test]
fn an_account_gets_another_key_and_keeps_its_url() {
    let world = World::new();
    world.live(ONE, Span::hours(1));
    let before = world.ca.thumbprints();
    let requests = world.ca.requests();
    let said = accounts(&world, ONE, roll());
    let ended = format!("the account at {CA} has a new key; its URL is what it was");
    assert_eq!(said, [line(&ended), Say::End(0)]);
    assert_eq!(world.ca.requests() - requests, 3);
    assert_ne!(world.ca.thumbprints(), before);
    let said = accounts(&world, ONE, Accounts::Show);
    assert_eq!(said[0], line(&format!("{CA}: https://ca.example/account/0; no contact")));
    let requests = world.ca.requests();
    assert!(renewed(&world));
    assert_eq!((world.ca.requests() - requests, world.ca.accounts()), (12, 1), "as any other order");
    let manual = format!("MDDriveMode manual\n{ONE}");
    assert_eq!(accounts(&World::new(), &manual, roll()).last(), Some(&Say::End(1)), "there is none");
}

/// A stop, a lost answer, a refusal: what is known of the two keys is found out, and until then nothing else is done with
/// the account.
#[test]
fn a_change_that_was_broken_off_is_ended_by_the_next_order() {
    for case in ["the answer is lost", "the CA is away", "the CA refuses"] {
        let world = World::new();
        world.live(ONE, Span::hours(1));
        let old = world.ca.thumbprints();
        world.ca.weather(|weather| match case {
            "the answer is lost" => weather.lose_all = Some("/key-change"),
            "the CA is away" => weather.down = true,
            _ => weather.spoil = Some(("/key-change", Bad::Problem(500, "serverInternal", None))),
        });
        let said = accounts(&world, ONE, roll());
        assert_eq!(said.last(), Some(&Say::End(1)), "{case}");
        world.ca.weather(|weather| *weather = Weather::default());
        assert_eq!(world.ca.thumbprints() == old, case != "the answer is lost", "{case}");
        let Say::Line(shown) = &accounts(&world, ONE, Accounts::Show)[0] else { panic!("{case}") };
        assert!(shown.ends_with("; its key is being changed"), "{case}: {shown}");
        let said = accounts(&world, ONE, Accounts::Deactivate { ca: None });
        assert!(matches!(&said[0], Say::Line(line) if line.contains("`edgemd account roll` ends it")), "{said:?}");

        let requests = world.ca.requests();
        journal::take();
        assert!(renewed(&world), "{case}");
        let found = if case == "the answer is lost" {
            "has the new key that it was to have"
        } else {
            "has the key that it had"
        };
        let lines = journal::take();
        assert_eq!(lines.iter().filter(|line| line.contains("the account at")).count(), 1, "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains(found)), "{case}: {lines:#?}");
        assert_eq!(world.ca.requests() - requests, 12 + 1, "{case}");
        let Say::Line(shown) = &accounts(&world, ONE, Accounts::Show)[0] else { panic!("{case}") };
        assert!(shown.ends_with("; no contact"), "{case}: {shown}");
        assert_eq!(world.ca.accounts(), 1, "{case}");
    }
}

/// A key that is not stored is shown to nobody.
#[test]
fn a_full_disk_keeps_the_old_key() {
    let world = World::new();
    world.live(ONE, Span::hours(1));
    let (old, requests) = (world.ca.thumbprints(), world.ca.requests());
    world.disk.fail_from(1, super::NO_SPACE);
    let said = accounts(&world, ONE, roll());
    world.disk.mend();
    assert!(matches!(&said[0], Say::Line(line) if line.starts_with("the new key is not stored")), "{said:?}");
    assert_eq!((world.ca.thumbprints(), world.ca.requests()), (old, requests));
}
