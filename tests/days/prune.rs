//! What is kept for nobody: listed first, then removed, record after record.

use super::{ONE, World};
use edgemd::doors::clock::Knock;
use edgemd::doors::disk::Disk;
use edgemd::rules::control::Say;
use edgemd::words::time::Span;
use std::path::Path;

/// What a daemon with this configuration says, and its exit code.
fn asked(world: &World, conf: &str, yes: bool) -> (String, u8) {
    let (ended, ends) = smol::channel::unbounded();
    world.hands.knock_in(Span::mins(1), Knock::Prune { yes, ended });
    world.live(conf, Span::mins(10));
    let mut said: Vec<Say> = std::iter::from_fn(|| ends.try_recv().ok()).collect();
    let Some(Say::End(code)) = said.pop() else { panic!("{said:?}") };
    let lines = said.into_iter().map(|say| if let Say::Line(line) = say { line + "\n" } else { String::new() });
    (lines.collect(), code)
}

fn files(world: &World) -> Vec<String> {
    let files = world.disk.files().into_iter().map(|path| path.display().to_string());
    files.filter(|path| path.starts_with("/store") || path.starts_with("/etc")).collect()
}

/// Two MDs, one with two kinds of key and exports; then the one is no longer configured, and a kind of the other.
#[test]
fn what_is_no_longer_configured_is_listed_and_then_removed() {
    let both = format!(
        "{}MDomain c.example\n<MDomainSet gone.example>\nMDExport /etc/tls live\n</MDomainSet>\n",
        ONE.replace("MDInitialDelay", "MDPrivateKeys P-256 P-384\nMDInitialDelay")
    );
    let world = World::new();
    world.live(&both, Span::hours(1));
    world.disk.plant(Path::new("/store/certs/c.example/rsa.0.bad"), b"x");
    world.disk.plant(Path::new("/etc/tls/gone.example/of-others"), b"x");
    let before = files(&world);
    let (text, code) = asked(&world, &both, false);
    assert!(
        code == 0 && text.starts_with("a damaged file that was set aside\n    /store/certs/c.example/rsa.0.bad\n"),
        "{text}"
    );

    let (text, code) = asked(&world, ONE, false);
    assert_eq!(code, 0, "{text}");
    for part in [
        "a.example (secp384r1): the certificate until 2027-04-15T",
        "gone.example (secp256r1): the certificate until 2027-04-15T",
        "    /store/certs/gone.example/secp384r1.0\n",
        "    /store/certs/gone.example/secp256r1.tried\n",
        "    /etc/tls/gone.example/privkey.pem\n",
        "nothing was removed; `edgemd prune --yes` removes these files\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("a.example (secp256r1)") && !text.contains("the account"), "{text}");
    assert_eq!(files(&world), before, "listing is not removing");
    let listed = text.lines().filter(|line| line.starts_with("    ")).map(|line| line.trim().to_string());
    let listed: Vec<String> = listed.filter(|path| !path.starts_with("/run")).collect();

    let (text, code) = asked(&world, ONE, true);
    assert!(code == 0 && text.contains("removed: gone.example (secp256r1): "), "{text}");
    let left: Vec<String> = before.into_iter().filter(|path| !listed.contains(path)).collect();
    assert_eq!(files(&world), left, "what was listed is gone, and nothing else");
    assert!(left.contains(&"/etc/tls/gone.example/of-others".into()), "{left:?}");
    assert!(!world.disk.has_dir(Path::new("/store/certs/gone.example")), "no folder is left behind");
    assert_eq!(asked(&world, ONE, true), ("there is nothing to prune\n".into(), 0));
    let issued = world.issued();
    world.live(ONE, Span::days(1));
    assert!(world.status().1 && world.issued() == issued, "{}", world.status().0);
    world.live(&both, Span::hours(1));
    assert_eq!(world.issued(), issued + 5, "what was pruned is ordered anew when it is configured again");
}

#[test]
fn an_account_that_nobody_uses_goes_only_with_yes() {
    let world = World::new();
    world.live(ONE, Span::hours(1));
    let other = ONE.replace("ca.example", "other.example").replace("MDomain", "MDDriveMode manual\nMDomain");
    let (text, _) = asked(&world, &other, false);
    let what = "the account at https://ca.example/directory (https://ca.example/account/0), which no MD uses; the CA keeps its";
    assert!(text.starts_with(what) && text.contains("    /store/accounts/"), "{text}");
    let (text, code) = asked(&world, &other, true);
    assert!(code == 0 && text.contains(&format!("removed: {what}")), "{text}");
    assert!(!files(&world).iter().any(|path| path.starts_with("/store/accounts")), "{:?}", files(&world));
    assert!(files(&world).iter().any(|path| path.starts_with("/store/certs/a.example")), "the certificate is served");
}

/// An MD with the operator's own certificate keeps what it had before.
#[test]
fn what_an_md_may_use_again_is_kept() {
    let world = World::new();
    world.live(ONE, Span::hours(1));
    let own = format!(
        "{}<MDomainSet a.example b.example>\nMDCertificateFile /a\nMDCertificateKeyFile /b\n</MDomainSet>\n",
        ONE.replace("MDomain a.example b.example\n", "")
    );
    assert_eq!(asked(&world, &own, true), ("there is nothing to prune\n".into(), 0));
}
