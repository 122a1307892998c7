//! Accounts that are bound to one at the CA's own site, over whole lives.

use super::power::each_cut;
use super::{ONE, World, asked, journal};
use edgemd::doors::clock::Push;
use edgemd::rules::control::Say;
use edgemd::rules::status;
use edgemd::words::time::Span;
use std::path::Path;

const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
const EAB: &str = "MDExternalAccountBinding kid-1 zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W\n";

fn bound() -> String {
    format!("{EAB}{ONE}")
}

/// A world whose CA wants a binding that is good for one account.
fn strict() -> World {
    let world = World::new();
    world.ca.weather(|weather| (weather.binding, weather.binds_once) = (Some(("kid-1", KEY, "HS256")), true));
    world
}

fn renewed(world: &World, conf: &str) -> bool {
    asked(world, conf, &[], Push::Force).last() == Some(&Say::End(0))
}

#[test]
fn the_plug_is_pulled_while_a_binding_for_one_time_is_used() {
    let cuts = each_cut(&strict, &|world| world.live(&bound(), Span::hours(1)), &mut |world, _, when| {
        world.live(&bound(), Span::hours(1));
        assert!(world.status().1, "{when}: {}", world.status().0);
        assert_eq!(world.ca.bound_to(), [Some("kid-1".into())], "{when}");
    });
    assert!(cuts.cuts > 25, "only {cuts:?}");
}

/// The answer is lost, and with it whether the account exists: it is asked for by its key.
#[test]
fn the_binding_outlives_lost_answers() {
    for every in 2..6 {
        let world = strict();
        world.ca.weather(|weather| weather.lose_reply_every = every);
        world.live(&bound(), Span::hours(3));
        world.ca.weather(|weather| weather.lose_reply_every = 0);
        world.live(&bound(), Span::days(2));
        assert!(world.status().1, "every {every}: {}", world.status().0);
        assert_eq!(world.ca.bound_to().len(), 1, "every {every}");
    }
}

/// behaviour.md: another account at the next renewal; and where there is no binding any more, the CA says what it wants.
#[test]
fn another_binding_is_another_account_at_the_next_renewal() {
    let world = strict();
    world.live(&bound(), Span::hours(1));
    world.ca.weather(|weather| weather.binding = Some(("kid-2", KEY, "HS256")));
    let changed = bound().replace("kid-1", "kid-2");
    world.live(&changed, Span::hours(1));
    assert_eq!((world.issued(), world.ca.accounts()), (1, 1), "it is no reason to renew");
    assert!(renewed(&world, &changed));
    let kids = [Some("kid-1".into()), Some("kid-2".into())];
    assert_eq!(world.ca.bound_to(), kids);
    assert!(renewed(&world, &bound()), "the first account is still there");
    assert_eq!(world.ca.bound_to(), kids);

    assert!(!renewed(&world, ONE));
    assert!(journal::take().iter().any(|line| line.contains("making an account: externalAccountRequired: ")));
    assert!(renewed(&world, &changed.replace(KEY, "another")), "an account that is there needs no key");
    assert!(!renewed(&world, &changed.replace("kid-2", "kid-3").replace(KEY, "no-base64url!")));
    assert_eq!(world.ca.bound_to(), kids);
}

/// Two CAs of which one wants a binding: each keeps what is its own.
#[test]
fn md_790_of_two_cas_one_wants_a_binding() {
    let both = bound().replace("directory\n", "directory https://other.example/directory\nMDRetryFailover 2\n");
    for (first, bound) in [(true, (1, 0)), (false, (0, 1))] {
        let world = World::new();
        let (wants, other) = if first { (&world.ca, &world.other) } else { (&world.other, &world.ca) };
        wants.weather(|weather| weather.binding = Some(("kid-1", KEY, "HS256")));
        world.live(&both, Span::hours(1));
        assert_eq!(world.issued(), 1);
        world.ca.weather(|weather| weather.down = true);
        assert!(!renewed(&world, &both));
        world.hands.turn(Span::days(61));
        world.live(&both, Span::hours(2));
        assert_eq!(world.other.issued().len(), 1, "{}", world.status().0);
        let kids = |ca: &super::FakeCa| ca.bound_to().iter().flatten().count();
        assert_eq!((kids(&world.ca), kids(&world.other)), bound);
        assert_eq!((wants.accounts(), other.accounts()), (1, 1));
    }
}

#[test]
fn md_310_601_the_status_shows_the_kid_and_never_the_key() {
    let world = strict();
    let own = "MDomain a.example\n<MDomainSet b.example>\nMDExternalAccountBinding kid-2 secret\n</MDomainSet>
        <MDomainSet c.example>\nMDExternalAccountBinding none\n</MDomainSet>\n";
    let conf = bound().replace("MDomain a.example b.example\n", own);
    journal::take();
    world.live(&conf, Span::mins(5));
    let eab = |at: usize| world.board.read(|reports| status::md_json(&reports[at]).get("eab").cloned());
    assert_eq!(eab(0), Some(serde_json::json!({"kid": "kid-1", "hmac": "***"})));
    assert_eq!(eab(1), Some(serde_json::json!({"kid": "kid-2", "hmac": "***"})));
    assert_eq!(eab(2), None);
    let said = [journal::take(), vec![world.status().0], world.board.read(|reports| vec![format!("{reports:?}")])];
    let said = said.concat().join("\n");
    assert!(!said.contains(KEY) && !said.contains("secret"), "{said}");
    let files = world.disk.files();
    assert!(files.iter().any(|path| path.starts_with("/store/accounts")));
    for path in files {
        let bytes = edgemd::doors::disk::Disk::read(&world.disk, Path::new(&path)).unwrap().unwrap_or_default();
        let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!has(KEY) && !has("secret"), "{}", path.display());
    }
}
