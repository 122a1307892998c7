//! MDNotifyServed: whoever is notified is looked at.

use super::{ONE, World, asked, journal};
use edgemd::doors::clock::Push;
use edgemd::rules::control::Say;
use edgemd::rules::status;
use edgemd::words::time::{Span, Unix};

fn looking() -> String {
    ONE.replace("MDomain", "MDMessageCmd /bin/message\nMDNotifyServed ui.example:8443\nMDomain")
}

fn notified(world: &World) -> Vec<Unix> {
    let heard = world.ear.heard();
    heard.iter().filter(|(_, event)| event.argv[0] == "/bin/reload-ui").filter_map(|(at, _)| *at).collect()
}

#[test]
fn a_server_that_serves_it_is_looked_at_once() {
    let world = World::new();
    world.live(&looking(), Span::hours(1));
    assert_eq!(world.eye.looks(), [("ui.example:8443".into(), "a.example".into())]);
    assert_eq!((notified(&world).len(), world.ear.words(0).last().unwrap().as_str()), (1, "installed"));
    assert!(world.status().1, "{}", world.status().0);
    world.live(&looking(), Span::days(1));
    assert_eq!(world.eye.looks().len(), 1);
}

/// A reload takes a moment: it is looked for again, and nobody is notified twice for that.
#[test]
fn a_server_gets_a_moment_to_reload() {
    let world = World::new();
    world.live(&looking(), Span::hours(1));
    world.hands.turn(Span::days(61));
    let flash = world.disk.replaced().len();
    world.eye.slow(3);
    let said = asked(&world, &looking(), &[], Push::Due);
    assert_eq!((world.eye.looks().len(), notified(&world).len()), (1 + 4, 2));
    assert_eq!(said.last(), Some(&Say::End(0)), "whoever asked waits for the end of it: {said:?}");
    assert_eq!(world.disk.replaced().len() - flash, 2);
    let (when, last) = world.ear.heard().pop().unwrap();
    assert_eq!(last.argv[1], "installed", "and then the messages");
    assert_eq!(when.unwrap().since(notified(&world)[1]), Span::secs(7));
    assert!(!journal::take().iter().any(|line| line.contains("notification failed")));
}

/// Who does not serve it after all is notified again, with back-off, and what is there instead is said.
#[test]
fn a_server_that_keeps_the_old_one_is_notified_again() {
    let world = World::new();
    world.live(&looking(), Span::hours(1));
    world.hands.turn(Span::days(61));
    world.eye.slow(u32::MAX);
    let heard = world.ear.heard().len();
    let flash = world.disk.replaced().len();
    world.live(&looking(), Span::secs(20));
    assert_eq!(notified(&world).len(), 2);
    let (text, well) = world.status();
    let says =
        "looking at ui.example:8443: another certificate is served there, with serial 03E8, until 2027-04-15T07:00:00Z";
    assert!(!well && text.contains(says), "{text}");
    let last = world.board.read(|reports| status::md_json(&reports[0]))["renewal"]["last"].clone();
    assert_eq!(last["problem"], "urn:org:apache:httpd:log:AH10108:", "{last}");
    world.live(&looking(), Span::hours(3));
    world.live(&looking(), Span::hours(3));
    let calls = notified(&world).len();
    assert!((8..25).contains(&calls), "{calls}");
    assert!(world.ear.words(heard).iter().all(|word| !["renewed", "installed"].contains(&word.as_str())));
    assert_eq!(world.disk.replaced().len() - flash, 1, "the certificate alone");

    // It is down for a while, and back.
    world.eye.slow(0);
    world.eye.down(true);
    world.live(&looking(), Span::hours(2));
    assert!(world.status().0.contains("looking at ui.example:8443: Connection refused"), "{}", world.status().0);
    world.eye.down(false);
    world.live(&looking(), Span::hours(2));
    assert!(world.status().1, "{}", world.status().0);
    assert_eq!(world.ear.words(heard).iter().filter(|word| *word == "renewed").count(), 1);
}

/// One of several kinds is shown; any of them will do.
#[test]
fn any_kind_of_key_will_do() {
    let world = World::new();
    world.live(&format!("MDPrivateKeys P-384 P-256\n{}", looking()), Span::hours(1));
    assert_eq!((world.eye.looks().len(), notified(&world).len()), (1, 1));
    assert!(world.status().1, "{}", world.status().0);
}
