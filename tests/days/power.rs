//! The power goes in the midst of each deed that writes, at every operation of the disk, and of what was not synced the
//! disk keeps what each model of a file system says. The next start serves the pair that was or the one that came.

use super::accounts::accounts;
use super::fake::disk::{Keep, Lie, RamDisk};
use super::fake::eye::Eye;
use super::{Mortal, ONE, World, asked, config, journal};
use edgemd::doors::clock::{Clock, Knock, Push};
use edgemd::doors::disk::Disk;
use edgemd::doors::keys;
use edgemd::house::import;
use edgemd::house::store::Store;
use edgemd::rules::control::{Accounts, Say};
use edgemd::rules::{pem, record, x509};
use edgemd::words::cert::Slot;
use edgemd::words::time::{Span, Unix};
use ring::digest::{SHA256, digest};
use std::collections::BTreeMap;
use std::path::Path;

const CA: &str = "https://ca.example/directory";

/// Something that writes, and what is right after it.
pub struct Deed {
    pub name: &'static str,
    /// The world as it is before, powered and settled.
    pub before: fn() -> World,
    /// The configuration with which it is done, and with which the next start is.
    pub conf: fn() -> String,
    /// Does it, in a life of so long.
    pub act: fn(&World, &str, Span),
    /// Whoever asked for it and was not told that it is done asks again, before the next start.
    pub again: fn(&World, &str, Span),
    /// What else has to be right in the end.
    pub after: fn(&World) -> Result<(), String>,
    /// How many orders belong to it.
    pub orders: usize,
    /// So many operations it has at least.
    pub ops: u32,
}

fn nothing(_: &World, _: &str, _: Span) {}

fn fine(_: &World) -> Result<(), String> {
    Ok(())
}

fn one() -> String {
    ONE.into()
}

/// Flash under the exports, too.
fn in_flash(dir: &str) -> String {
    ONE.replace("MDExport /run/tls combined", &format!("MDExport {dir} pair"))
}

fn live(world: &World, conf: &str, span: Span) {
    world.live(conf, span);
}

fn new(conf: &str) -> World {
    let world = World::new();
    world.live(conf, Span::hours(1));
    world
}

fn due(conf: &str) -> World {
    let world = new(conf);
    world.hands.turn(Span::days(61));
    world
}

fn both() -> String {
    format!("{}MDomain gone.example\n", in_flash("/etc/tls"))
}

/// Somebody asks for something while the daemon runs.
fn knocked(world: &World, conf: &str, knock: Knock, span: Span) {
    world.hands.knock_in(Span::secs(1), knock);
    world.live(conf, span);
}

fn roll(world: &World, conf: &str, span: Span) {
    let (ended, _ends) = smol::channel::unbounded();
    knocked(world, conf, Knock::Accounts { what: Accounts::Roll { ca: None }, ended }, span);
}

fn revoke(world: &World, conf: &str, span: Span) {
    let (ended, _ends) = smol::channel::unbounded();
    knocked(world, conf, Knock::Revoke { name: "a.example".into(), reason: None, ended }, span);
}

fn prune(world: &World, conf: &str, span: Span) {
    let (ended, _ends) = smol::channel::unbounded();
    knocked(world, conf, Knock::Prune { yes: true, ended }, span);
}

/// A device with a new disk, on which there is what acme.sh had.
fn before_import() -> World {
    let world = due(ONE);
    world.live(ONE, Span::hours(1));
    let export = |ending: &str| world.disk.read(Path::new(&format!("/run/tls/a.example.{ending}"))).unwrap().unwrap();
    let (_, loaded) = Store::open(Path::new("/store"), None, &mut world.disk.clone()).unwrap();
    let account = &loaded.accounts[CA];
    let disk = RamDisk::new();
    let put = |name: &str, bytes: &[u8]| disk.plant(&Path::new("/home/acme").join(name), bytes);
    put("a.example_ecc/fullchain.cer", &export("crt"));
    put("a.example_ecc/a.example.key", &export("key"));
    put("a.example_ecc/a.example.conf", format!("Le_API='{CA}'\n").as_bytes());
    put("ca/ca.example/directory/account.key", pem::encode("PRIVATE KEY", &account.key).as_bytes());
    put("ca/ca.example/directory/ca.conf", format!("ACCOUNT_URL='{}'\n", account.url.clone().unwrap()).as_bytes());
    World { eye: Eye::on(&disk, "/run/tls/a.example.crt"), disk, ..world }
}

fn do_import(world: &World, conf: &str, _: Span) {
    let mut disk = Mortal(world.disk.clone());
    let (mut store, loaded) = Store::open(Path::new("/store"), None, &mut disk).unwrap();
    let from = (Path::new("/home/acme"), world.hands.now().unwrap(), "imported");
    import::import(&mut store, &loaded, &mut disk, &config(conf), from);
}

/// Every deed that writes to flash.
pub const DEEDS: [Deed; 14] = [
    Deed {
        name: "first issuance",
        before: World::new,
        conf: one,
        act: live,
        again: nothing,
        after: fine,
        orders: 1,
        ops: 30,
    },
    Deed {
        name: "renewal",
        before: || due(ONE),
        conf: one,
        act: live,
        again: nothing,
        after: fine,
        orders: 1,
        ops: 15,
    },
    Deed {
        name: "renewal with exports in flash",
        before: || due(&in_flash("/etc/tls")),
        conf: || in_flash("/etc/tls"),
        act: live,
        again: nothing,
        after: fine,
        orders: 1,
        ops: 15,
    },
    Deed {
        name: "renewal in a store of the first version",
        before: || {
            let world = due(ONE);
            let path = Path::new("/store/certs/a.example/secp256r1.0");
            let (sequence, held, bundle) = record::decode_cert(&world.disk.read(path).unwrap().unwrap()).unwrap();
            // As tests/formats has it.
            let body = postcard::to_allocvec(&(sequence, held, bundle)).unwrap();
            let bytes = [b"C\x01", body.as_slice()].concat();
            world.disk.plant(path, &[&bytes, &digest(&SHA256, &bytes).as_ref()[..8]].concat());
            world
        },
        conf: one,
        act: live,
        again: nothing,
        after: fine,
        orders: 1,
        ops: 15,
    },
    Deed {
        name: "renewal with an account that the CA has ended",
        before: || {
            let world = due(ONE);
            world.ca.end_accounts();
            world
        },
        conf: one,
        act: live,
        again: nothing,
        after: fine,
        orders: 1,
        ops: 20,
    },
    Deed {
        name: "account at another CA",
        before: || {
            let world = World::new();
            world.live(&ONE.replace("ca.example", "other.example"), Span::hours(1));
            world
        },
        conf: one,
        act: live,
        again: nothing,
        after: |world| {
            let accounts = (world.ca.accounts(), world.other.accounts());
            if accounts == (1, 1) { Ok(()) } else { Err(format!("{accounts:?} accounts")) }
        },
        orders: 1,
        ops: 20,
    },
    Deed {
        name: "stapling",
        before: || {
            let world = World::new();
            world.ca.weather(|weather| weather.ocsp = Some("http://ocsp.example/"));
            world.live(ONE, Span::hours(1));
            world
        },
        conf: || format!("MDStapling on\n{ONE}"),
        act: live,
        again: nothing,
        after: |world| match world.status().0.contains("OCSP good") {
            true => Ok(()),
            false => Err("nothing is stapled".into()),
        },
        orders: 0,
        ops: 4,
    },
    Deed {
        name: "roll-over, ended by the next order",
        before: || new(ONE),
        conf: one,
        act: roll,
        again: nothing,
        after: is_rolled,
        orders: 0,
        ops: 8,
    },
    Deed {
        name: "roll-over, asked for again",
        before: || new(ONE),
        conf: one,
        act: roll,
        again: roll,
        after: is_rolled,
        orders: 0,
        ops: 8,
    },
    Deed {
        name: "exports to another place",
        before: || new(&in_flash("/etc/tls")),
        conf: || in_flash("/etc/ssl"),
        act: live,
        again: nothing,
        after: |world| {
            let files = world.disk.files().into_iter().map(|path| path.display().to_string());
            let files: Vec<String> = files.filter(|path| path.starts_with("/etc")).collect();
            let right = files == ["/etc/ssl/a.example.crt", "/etc/ssl/a.example.key"] && world.ear.heard().len() >= 2;
            if right { Ok(()) } else { Err(format!("{files:?}")) }
        },
        orders: 0,
        ops: 15,
    },
    Deed {
        name: "first name removed",
        before: || {
            let world = due(&in_flash("/etc/tls"));
            world.live(&in_flash("/etc/tls"), Span::hours(1));
            world
        },
        conf: || in_flash("/etc/tls").replace("MDomain a.example", "MDomain"),
        act: live,
        again: nothing,
        after: |world| {
            // What `prune` may find is that something was told of there, no key.
            let files = world.disk.files().into_iter().map(|path| path.display().to_string());
            let mut old = files.filter(|path| path.contains("a.example") && !path.ends_with(".tried"));
            old.next().map_or(Ok(()), |path| Err(format!("{path} stays")))
        },
        orders: 0,
        ops: 20,
    },
    Deed {
        name: "import",
        before: before_import,
        conf: one,
        act: do_import,
        again: do_import,
        after: |world| match asked(world, ONE, &[], Push::Force).last() {
            Some(Say::End(0)) if world.ca.accounts() == 1 => Ok(()),
            said => Err(format!("{} accounts: {said:?}", world.ca.accounts())),
        },
        orders: 0,
        ops: 12,
    },
    Deed {
        name: "prune",
        before: || {
            let world = new(&both());
            world.live(&both(), Span::days(62));
            world
        },
        conf: || in_flash("/etc/tls"),
        act: prune,
        again: prune,
        after: |world| {
            let files = world.disk.files();
            match files.iter().any(|path| path.display().to_string().contains("gone")) {
                true => Err(format!("{files:?}")),
                false => Ok(()),
            }
        },
        orders: 0,
        ops: 10,
    },
    Deed {
        name: "revocation",
        before: || new(ONE),
        conf: one,
        act: revoke,
        again: nothing,
        after: is_revoked,
        orders: 1,
        ops: 10,
    },
];

/// Whichever of the two keys the CA knows is found, once; and it can be changed again.
fn is_rolled(world: &World) -> Result<(), String> {
    journal::take();
    let renewed = || asked(world, ONE, &[], Push::Force).last() == Some(&Say::End(0));
    if !renewed() {
        return Err(format!("no order: {:#?}", journal::take()));
    }
    let requests = world.ca.requests();
    if !renewed() || world.ca.requests() - requests != 12 {
        return Err("it is found out more than once".into());
    }
    let is_one = (world.ca.accounts(), world.ca.thumbprints().len()) == (1, 1);
    let rolls = accounts(world, ONE, Accounts::Roll { ca: None }).last() == Some(&Say::End(0));
    if is_one && rolls && renewed() { Ok(()) } else { Err("it is not the same account, or does not roll".into()) }
}

/// Before it was written down nobody was told that it is done: it is asked for once more.
fn is_revoked(world: &World) -> Result<(), String> {
    revoke(world, ONE, Span::hours(1));
    let revoked: Vec<Vec<u8>> = world.ca.revoked().into_iter().map(|(der, _)| der).collect();
    let newest = world.ca.issued().last().unwrap().der.clone();
    match !revoked.contains(&newest) && world.served().starts_with(&world.newest_pem()) {
        true => Ok(()),
        false => Err("what was revoked is served".into()),
    }
}

/// How often the power went, and how many different disks that left.
#[derive(Default, Debug)]
pub struct Cuts {
    pub cuts: u32,
    pub disks: u32,
}

/// Cuts the power at every operation of a deed, and looks at what is left. Where models leave the same disk behind, one
/// of them stands for all.
pub fn each_cut(before: &dyn Fn() -> World, act: &dyn Fn(&World), look: &mut dyn FnMut(&World, &Verge, &str)) -> Cuts {
    let mut cuts = Cuts::default();
    for n in 1.. {
        let cut = || {
            let world = before();
            let verge = Verge::of(&world);
            world.disk.cut_at(n);
            world.dies(|| act(&world)).then_some((world, verge))
        };
        let Some(first) = cut() else { break };
        cuts.cuts += 1;
        let left = Keep::MODELS.map(|keep| first.0.disk.left(keep));
        let mut first = Some(first);
        for (at, keep) in Keep::MODELS.into_iter().enumerate() {
            if left[..at].contains(&left[at]) {
                continue;
            }
            cuts.disks += 1;
            let (world, verge) = first.take().or_else(cut).expect("the same deed has the same operations");
            world.disk.reboot(keep);
            look(&world, &verge, &format!("{keep:?}, cut in operation {n}"));
            journal::take();
        }
    }
    cuts
}

/// How things stood before a deed.
pub struct Verge {
    pub held: BTreeMap<Slot, usize>,
    pub issued: usize,
    pub heard: usize,
}

impl Verge {
    pub fn of(world: &World) -> Self {
        let held = held(&world.disk, &issued(world)).expect("a store in order");
        Self { held, issued: issued(world).len(), heard: world.ear.heard().len() }
    }
}

/// The leaves that were ever issued, the oldest first; the other CA is the one that was asked before.
pub fn issued(world: &World) -> Vec<Vec<u8>> {
    world.other.issued().into_iter().chain(world.ca.issued()).map(|issued| issued.der).collect()
}

/// What is held in each place, as its number among what was issued; or what is wrong with the store.
pub fn held(disk: &RamDisk, issued: &[Vec<u8>]) -> Result<BTreeMap<Slot, usize>, String> {
    let disk = disk.copy();
    let (store, loaded) = Store::open(Path::new("/store"), None, &mut disk.clone()).map_err(|why| why.to_string())?;
    if !loaded.set_aside.is_empty() {
        return Err(format!("set aside: {:?}", loaded.set_aside));
    }
    let mut all = BTreeMap::new();
    for (slot, facts) in loaded.certs {
        for (at, (held, bundle)) in store.pairs(&disk, &slot).map_err(|why| why.to_string())?.iter().enumerate() {
            is_pair(&bundle.chain, &bundle.key)?;
            let number = issued.iter().position(|der| *der == bundle.chain[0]).ok_or("a certificate of nobody's")?;
            if facts.get(at) != Some(held) {
                return Err(format!("{slot}: facts of another record"));
            }
            all.entry(slot.clone()).or_insert(number);
        }
    }
    Ok(all)
}

/// Of the MD that is to stay.
pub fn newest_of(held: &BTreeMap<Slot, usize>) -> Option<usize> {
    held.iter().filter(|(slot, _)| slot.md.as_str() != "gone.example").map(|(_, at)| *at).max()
}

fn is_pair(chain: &[Vec<u8>], key: &[u8]) -> Result<(), String> {
    let (kind, public) = keys::identify(key).map_err(|why| why.to_string())?;
    x509::paired(chain, &public, kind, "", Unix::default()).map(drop)
}

/// The leaf of the pair that other programs find, which is one if it is there at all.
pub fn shown(world: &World, conf: &str) -> Result<Option<Vec<u8>>, String> {
    let md = &config(conf).mds[0];
    let dir = &md.export.as_ref().ok_or("no export")?.dir;
    let file = |ending: &str| world.disk.read(&dir.join(format!("{}.{ending}", md.name))).unwrap();
    let (Some(chain), Some(key)) = (file("crt"), file("key")) else { return Ok(None) };
    let (chain, key) = (pem::decode_chain(&chain)?, pem::decode_key(&key)?);
    is_pair(&chain, &key)?;
    Ok(Some(chain[0].clone()))
}

/// What has to be right after every cut.
fn examine(deed: &Deed, world: &World, verge: &Verge) -> Result<(), String> {
    let conf = (deed.conf)();
    let all = issued(world);
    let left = held(&world.disk, &all)?;
    let newest = newest_of(&left);
    if newest < newest_of(&verge.held) || left.iter().any(|(slot, at)| verge.held.get(slot).is_some_and(|was| was > at))
    {
        return Err(format!("{:?} were held, and now {left:?}", verge.held));
    }
    let ordered = all.len() - verge.issued;
    let is_kept = newest.map_or(0, |at| at + 1) == all.len();
    if deed.orders > 0 && ordered > 0 && world.ear.heard().len() > verge.heard && !is_kept {
        return Err("the script was told of what was lost".into());
    }
    (deed.again)(world, &conf, Span::mins(5));
    // The net is away: what is held is served all the same.
    let down = |down| [&world.ca, &world.other].map(|ca| ca.weather(|weather| weather.down = down));
    down(true);
    world.live(&conf, Span::secs(10));
    let first = shown(world, &conf)?;
    let newest = newest_of(&held(&world.disk, &all)?).map(|at| all[at].clone());
    if first != newest {
        return Err("what is held is not what is served".into());
    }
    down(false);
    world.live(&conf, Span::hours(1));
    let more = issued(world).len() - all.len();
    let explained = if is_kept && ordered >= deed.orders { 0 } else { deed.orders };
    if more > explained {
        return Err(format!("{more} orders where the cut explains {explained}"));
    }
    let last = shown(world, &conf)?;
    if last.is_none() || last.as_ref() != issued(world).last() && deed.orders > 0 {
        return Err("the new pair is not served".into());
    }
    if deed.orders > 0 && world.ear.heard().len() <= verge.heard {
        return Err("the script was not called".into());
    }
    match world.status() {
        (_, true) if world.ca.accounts() == 1 => (deed.after)(world),
        (text, well) => Err(format!("{} accounts; well: {well}; {text}", world.ca.accounts())),
    }
}

/// One deed in every model.
fn cut_everywhere(name: &str) {
    let deed = DEEDS.iter().find(|deed| deed.name == name).expect("a deed");
    let conf = (deed.conf)();
    journal::take();
    let cuts = each_cut(&deed.before, &|world| (deed.act)(world, &conf, Span::hours(1)), &mut |world, verge, when| {
        if let Err(why) = examine(deed, world, verge) {
            panic!("{name}: {when}: {why}\n{}", journal::take().join("\n"));
        }
    });
    println!("{name}: {} operations cut, in {} models: {} different disks", cuts.cuts, Keep::MODELS.len(), cuts.disks);
    assert!(cuts.cuts >= deed.ops, "{name}: {cuts:?}");
}

macro_rules! cut {
    ($($test:ident: $name:literal,)*) => {
        $(#[test]
        fn $test() {
            cut_everywhere($name);
        })*

        #[test]
        fn no_deed_is_left_out() {
            let tested = [$($name),*];
            assert!(DEEDS.iter().all(|deed| tested.contains(&deed.name)));
        }
    };
}

cut! {
    a_first_issuance: "first issuance",
    a_renewal: "renewal",
    a_renewal_with_exports_in_flash: "renewal with exports in flash",
    a_renewal_in_an_old_store: "renewal in a store of the first version",
    an_account_made_anew: "renewal with an account that the CA has ended",
    an_account_at_another_ca: "account at another CA",
    stapling: "stapling",
    a_roll_over: "roll-over, ended by the next order",
    a_roll_over_that_is_asked_for_again: "roll-over, asked for again",
    exports_to_another_place: "exports to another place",
    a_first_name_that_goes: "first name removed",
    an_import: "import",
    pruning: "prune",
    a_revocation: "revocation",
}

/// Disks that say that something is safe when it is not: what would be wrong with us if we did not sync is seen.
#[test]
fn a_missing_sync_would_be_seen() {
    for lie in [Lie::Bytes, Lie::Names] {
        for deed in DEEDS.iter().filter(|deed| ["first issuance", "renewal"].contains(&deed.name)) {
            let conf = (deed.conf)();
            let before = || {
                let world = (deed.before)();
                world.disk.lies(lie);
                world
            };
            let mut seen = vec![];
            each_cut(&before, &|world| (deed.act)(world, &conf, Span::hours(1)), &mut |world, verge, when| {
                world.disk.lies(Lie::None);
                seen.extend(examine(deed, world, verge).err().map(|why| format!("{when}: {why}")));
            });
            println!("{}, {lie:?} not synced: {} disks give it away, the first in {}", deed.name, seen.len(), seen[0]);
        }
    }
}
