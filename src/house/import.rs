//! Importing: what another client holds and is still good becomes ours, with its account, so that nothing is ordered that
//! was held. Nothing of the other client's is changed.

mod layouts;

use crate::doors::disk::Disk;
use crate::doors::keys::{self, AccountKey};
use crate::house::store::{Loaded, Store};
use crate::rules::tame::tame;
use crate::rules::{import, pem, plan, record, x509};
use crate::words::cert::{Account, Bundle, Held, Tried, Want};
use crate::words::config::{Config, Md};
use crate::words::fault::Trouble;
use crate::words::name::Name;
use crate::words::secret::Secret;
use crate::words::time::Unix;
use layouts::{Form, Login, Pair};
use std::path::Path;

/// What came of it, a line each, and how much of it is ours now.
#[derive(Default)]
pub struct Imported {
    pub lines: Vec<String>,
    pub taken: usize,
}

/// A certificate that fits a want.
struct Fit {
    want: Want,
    held: Held,
    bundle: Bundle,
    /// Where it stands, and what is to be said of its CA.
    place: String,
    giver: String,
}

/// Takes over what is in the folder and is wanted. `done` is the word for it, `imported` or what a trial says.
pub fn import(
    store: &mut Store,
    loaded: &Loaded,
    disk: &mut dyn Disk,
    config: &Config,
    (dir, now, done): (&Path, Unix, &str),
) -> Imported {
    let mut imported = Imported::default();
    let wants: Vec<Want> = config.mds.iter().flat_map(|md| md.wants(record::fingerprint(md))).collect();
    let mut fits: Vec<Fit> = vec![];
    for pair in layouts::pairs(disk, dir) {
        match read(disk, &pair, &wants, now) {
            Ok(found) => fits.extend(found),
            Err(why) => imported.lines.push(format!("{}: not {done}: {why}", said(&pair.place))),
        }
    }
    for want in &wants {
        let of_this = || fits.iter().filter(|fit| fit.want == *want);
        let Some(best) = of_this().max_by_key(|fit| fit.held.not_after) else { continue };
        let there = loaded.certs.get(&want.slot()).and_then(|held| held.first());
        take(store, disk, best, there, (now, done), &mut imported);
        for fit in of_this().filter(|fit| !core::ptr::eq(*fit, best)) {
            imported.lines.push(format!("{}: not {done}: {} ends later", fit.place, best.place));
        }
    }
    accounts(store, loaded, disk, config, (dir, done), &mut imported);
    if imported.lines.is_empty() {
        imported.lines.push(format!("there is nothing to import in {}", said(dir)));
    }
    imported
}

fn take(
    store: &mut Store,
    disk: &mut dyn Disk,
    fit: &Fit,
    there: Option<&Held>,
    (now, done): (Unix, &str),
    imported: &mut Imported,
) {
    let Fit { want, held, place, .. } = fit;
    let what = format!("{} [{}]", want.md, want.kind);
    let untried = Tried::default();
    let is_as_good =
        |there: &&Held| plan::why(want, Some(there), &untried, now).is_none() && there.not_after >= held.not_after;
    if there.is_some_and(|there| there.sha256 == held.sha256) || there.filter(is_as_good).is_some() {
        imported.taken += 1;
        return imported.lines.push(format!("{what}: {place} is held already, or what is held is as good"));
    }
    match store.put_cert(disk, &want.slot(), held, &fit.bundle) {
        Ok(()) => {
            imported.taken += 1;
            let line = format!("{what}: {done} from {place}: certificate until {}, {}", held.not_after, fit.giver);
            let then = plan::why(want, Some(held), &untried, now).map(|why| format!("; it is renewed soon: {why}"));
            imported.lines.push(line + &then.unwrap_or_default());
        }
        Err(trouble) => imported.lines.push(format!("{what}: {place} is not {done}: {trouble}")),
    }
}

/// The wants that this pair fits, or why there are none.
fn read(disk: &dyn Disk, pair: &Pair, wants: &[Want], now: Unix) -> Result<Vec<Fit>, String> {
    let text = |path: &Path| match disk.read(path) {
        Ok(text) => Ok(text.unwrap_or_default()),
        Err(trouble) => Err(trouble.to_string()),
    };
    let named = |path: &Path, why: String| format!("{}: {why}", said(path));
    let chain = pem::decode_chain(&text(&pair.chain)?).map_err(|why| named(&pair.chain, why))?;
    let key = pem::decode_key(&text(&pair.key)?).map_err(|why| named(&pair.key, why))?;
    let (kind, public) = keys::identify(&key).map_err(|trouble| named(&pair.key, trouble.why))?;
    let held = x509::paired(&chain, &public, kind, "", now).map_err(|why| named(&pair.chain, why))?;
    if held.not_after <= now {
        return Err(format!("it has expired, at {}", held.not_after));
    }
    let covered: Vec<&Want> = wants.iter().filter(|want| held.covers(&want.names)).collect();
    let fitting: Vec<&&Want> = covered.iter().filter(|want| want.kind.family() == kind.family()).collect();
    match (fitting.is_empty(), covered.first()) {
        (false, _) => {}
        (true, Some(want)) => return Err(format!("its key is {kind}, and {} wants {}", want.md, want.kind)),
        (true, None) => {
            let names: Vec<&str> = held.names.iter().map(Name::as_str).collect();
            return Err(format!("it does not have all names of any MD, but {}", names.join(", ")));
        }
    }
    let leaf = chain.first().map(Vec::as_slice).unwrap_or_default();
    let fit = |want: &&&Want| {
        let (ca, giver) = giver(pair, leaf, want);
        let (held, bundle) = (Held { ca, ..held.clone() }, Bundle { key: key.clone(), chain: chain.clone() });
        Fit { want: (**want).clone(), held, bundle, place: said(&pair.place), giver }
    };
    Ok(fitting.iter().map(fit).collect())
}

/// The CA that gave it, and how that is known.
fn giver(pair: &Pair, leaf: &[u8], want: &Want) -> (String, String) {
    if let Some(ca) = &pair.ca {
        return (ca.clone(), format!("from {}", tame(ca)));
    }
    let issuer = x509::issuer(leaf);
    let configured = want.cas.first().map_or("", String::as_str);
    match import::giver(&issuer, configured, want.kind) {
        (ca, _) if ca.is_empty() => (ca, format!("from a CA that is not known ({})", tame(&issuer))),
        (ca, how) => (ca.clone(), format!("from {ca} ({how})")),
    }
}

/// The accounts with the CAs that are configured.
fn accounts(
    store: &mut Store,
    loaded: &Loaded,
    disk: &mut dyn Disk,
    config: &Config,
    (dir, done): (&Path, &str),
    imported: &mut Imported,
) {
    let mut places: Vec<String> = vec![];
    for (md, ca) in config.mds.iter().flat_map(|md| md.cas.iter().map(move |ca| (md, ca))) {
        let place = md.account_at(ca);
        if places.contains(&place) {
            continue;
        }
        let has_account = loaded.accounts.contains_key(&place);
        places.push(place);
        for login in layouts::logins(disk, dir, ca) {
            let place = said(&login.key);
            if has_account {
                imported.lines.push(format!("{place}: not {done}: there is an account at {ca} already"));
                break;
            }
            let saved = account(disk, &login, ca, md).and_then(|account| store.put_account(disk, &account));
            match saved {
                Ok(()) => {
                    imported.taken += 1;
                    let url = login.url.as_deref().map_or("its URL is asked for".into(), tame);
                    imported.lines.push(format!("account at {ca}: {done} from {place}: {url}"));
                    break;
                }
                Err(trouble) => imported.lines.push(format!("{place}: not {done}: {}", trouble.why)),
            }
        }
    }
    if layouts::has_locked_accounts(disk, dir) {
        let why = "mod_md encrypts the keys of its accounts; a new one is made where none is held";
        imported.lines.push(format!("{}: not {done}: {why}", said(&dir.join("accounts"))));
    }
}

fn account(disk: &dyn Disk, login: &Login, ca: &str, md: &Md) -> Result<Account, Trouble> {
    let doing = || format!("reading {}", said(&login.key));
    let text = disk.read(&login.key)?.unwrap_or_default();
    let key = match login.form {
        Form::Pem => pem::decode_key(&text),
        Form::Jwk => import::key_of_jwk(&text).map(Secret::from),
    };
    let key = key.map_err(|why| Trouble::new(doing(), why))?;
    AccountKey::from_pkcs8(&key)?;
    // Which contacts the CA knows is not written down everywhere; it is told ours with the next order.
    let (agreement, kid) = (md.agreement.clone(), md.binding.as_ref().map(|binding| binding.kid.clone()));
    Ok(Account { ca: ca.into(), url: login.url.clone(), key, agreement, kid, ..Account::default() })
}

/// A path of another program's, for a terminal.
fn said(path: &Path) -> String {
    tame(&path.to_string_lossy())
}
