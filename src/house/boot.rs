//! Boot: the configuration opens the doors, the keeper gets its thread, and the main thread faces strangers and signals
//! until it is told to stop.

use crate::doors::clock::{self, Knock, Push, SystemClock};
use crate::doors::control::Control;
use crate::doors::dice::SystemDice;
use crate::doors::disk::{self, Lock, SystemDisk};
use crate::doors::dns::SystemDns;
use crate::doors::front::shelf::{Forge, Shelf};
use crate::doors::front::{self, Front, Passed};
use crate::doors::https::{Bell, SystemWire};
use crate::doors::keys;
use crate::doors::look::SystemLook;
use crate::doors::script::SystemScript;
use crate::doors::supervisor::Supervisor;
use crate::doors::text::{LibraryOf, SystemLibrary};
use crate::house::front_desk::FrontDesk;
use crate::house::keeper::{Doors, Keeper};
use crate::house::store::{Loaded, Store};
use crate::house::watch::{self, Keeping};
use crate::rules::conf::owner::Me;
use crate::rules::conf::read::{self, Library};
use crate::rules::control::{Request, Say};
use crate::words::answers::Answers;
use crate::words::board::Board;
use crate::words::cert::Tried;
use crate::words::config::Config;
use crate::words::fault::{Fault, Trouble};
use crate::words::name::Name;
use crate::words::time::Span;
use async_signal::{Signal, Signals};
use smol::LocalExecutor;
use smol::channel::{self, Receiver, Sender};
use smol::stream::StreamExt;
use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// How long the house stands.
pub enum Stay {
    /// Until it is told to stop.
    Daemon,
    /// Until these MDs (all if none is named) have nothing left to do; each end is printed.
    Once { names: Vec<Name>, push: Push },
    /// Until this was done: an account's end or its other key, a certificate's revocation. Nothing else is done meanwhile.
    Visit(Request),
}

/// Exit codes; the last two are those of sysexits.h.
pub const FINE: u8 = 0;
pub const FAILED: u8 = 1;
pub const USAGE: u8 = 2;
pub const UNAVAILABLE: u8 = 69;
pub const CONFIG: u8 = 78;

/// Reads the configuration, or finds every fault in it.
pub fn config(path: &str) -> Result<Config, Vec<Fault>> {
    read::read(path, &SystemLibrary)
}

/// The same, for a daemon of another user. There may be none of this name.
pub fn config_of(user: &str, path: &str) -> Result<Result<Config, Vec<Fault>>, String> {
    let me = Me::named(user, &SystemLibrary)?;
    Ok(read::read(path, &LibraryOf(me)))
}

/// Where the daemon that runs with this file can be asked, when the file has faults: its MDControlSocket as far as it can
/// be made out, else the default.
pub fn socket_in(path: &str) -> PathBuf {
    let text = SystemLibrary.text(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let written = text.lines().rev().find_map(|line| {
        let (word, rest) = line.trim().split_once(char::is_whitespace)?;
        word.eq_ignore_ascii_case("MDControlSocket").then(|| rest.trim().trim_matches(['"', '\'']))
    });
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    written.map_or_else(|| PathBuf::from(CONTROL), |socket| folder.join(socket))
}

/// The default of MDControlSocket.
const CONTROL: &str = "/run/edgemd/control.sock";

/// From here on a panic in any thread ends the process, in profiles that unwind too: a keeper that is gone while the rest
/// goes on would let certificates run out in silence.
pub fn end_on_panic() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        std::process::abort();
    }));
}

/// Opens the house and keeps it; the result is the exit code.
pub fn run(path: &str, stay: Stay) -> u8 {
    end_on_panic();
    disk::plain_umask();
    keys::keep_from_dumps();
    let config = match config(path) {
        Ok(config) => config,
        Err(faults) => {
            for fault in &faults {
                log::error!("{fault}");
            }
            return CONFIG;
        }
    };
    match open(path, config, stay) {
        Ok(code) => code,
        Err(trouble) => {
            log::error!("{trouble}");
            UNAVAILABLE
        }
    }
}

fn open(path: &str, mut config: Config, stay: Stay) -> Result<u8, Trouble> {
    if matches!(stay, Stay::Visit(_)) {
        keep_still(&mut config);
    }
    let stays = matches!(stay, Stay::Daemon);
    let mut disk = SystemDisk;
    let (lock, store, mut loaded) = unlock(&config, &mut disk)?;
    if stays {
        // Who starts the daemon wants to know how things stand now; one pass after the other is no such news.
        loaded.tried.values_mut().for_each(Tried::ask_anew);
    }
    let executor = Rc::new(LocalExecutor::new());
    let shared = (Arc::new(Answers::default()), Arc::new(Board::default()));
    let shelf = Arc::new(Shelf::default());
    let forge = Forge { self_signed: keys::self_signed, answer: keys::answer };
    let sight = front::Shared {
        answers: shared.0.clone(),
        board: shared.1.clone(),
        clock: clock::wall,
        shelf: shelf.clone(),
        forge,
    };
    let front = facing(&config, Front::new(executor.clone(), sight))?;

    let (knocks, mailbox) = mpsc::channel();
    let desk = Rc::new(RefCell::new(FrontDesk::new(path, &config, (front, lock), shared.1.clone(), knocks.clone())));
    // The desk has the lock: it stays for as long as the house does.
    let _desk = desk.clone();
    let (stop, stopped) = channel::unbounded();
    let supervisor = Rc::new(if stays { Supervisor::from_env() } else { Supervisor::default() });
    desk.borrow_mut().supervised_by(supervisor.clone());
    let _control = match stay {
        Stay::Daemon => {
            executor.spawn(signals(desk.clone(), stop, FINE)?).detach();
            let answer = Rc::new(move |request| desk.borrow_mut().answer(request));
            config.control.as_deref().map(|socket| Control::bind(&executor, socket, answer)).transpose()?
        }
        Stay::Once { .. } | Stay::Visit(_) => {
            let (ended, ends) = channel::unbounded();
            let _ = knocks.send(match stay {
                Stay::Once { names, push } => Knock::Renew { names, push, ended },
                Stay::Visit(Request::Account(what)) => Knock::Accounts { what, ended },
                Stay::Visit(Request::Revoke { name, reason }) => Knock::Revoke { name, reason, ended },
                Stay::Visit(_) | Stay::Daemon => Knock::Stop,
            });
            executor.spawn(signals(desk, stop.clone(), FAILED)?).detach();
            executor.spawn(print(ends, stop)).detach();
            None
        }
    };

    let mut script = SystemScript::default();
    let ending = script.ending();
    let (gone, keeper_gone) = mpsc::channel::<()>();
    let (ready, keeper_ready) = mpsc::channel();
    let keeper = (shared.0.clone(), shared.1.clone(), shelf.clone());
    let bell = knocks.clone();
    let mut clock = SystemClock::new(mailbox);
    if stays && config.initial_delay.is_none() {
        clock = clock.doubted();
    }
    let pulse = clock.pulse();
    let thread = std::thread::Builder::new().name("keeper".into()).spawn(move || {
        let bell: Bell = Arc::new(move || drop(bell.send(Knock::Answer)));
        let mut wire = SystemWire::new(bell.clone());
        let mut dice = SystemDice::default();
        let mut dns = SystemDns::new(bell);
        let mut look = SystemLook::default();
        let doors = Doors {
            clock: &mut clock,
            wire: &mut wire,
            disk: &mut disk,
            script: &mut script,
            look: &mut look,
            dice: &mut dice,
            dns: &mut dns,
        };
        let mut keeper = Keeper::new(doors, store, loaded, config, keeper).passing(!stays);
        let _ = ready.send(());
        keeper.run();
        drop(gone);
    });
    let thread = thread.map_err(|error| Trouble::new("starting the keeper's thread", error))?;
    watch::begin(&executor, &supervisor, shared.1, Keeping { thread, pulse });

    // Whoever asks first finds a status.
    let _ = keeper_ready.recv_timeout(PATIENCE);
    let code = smol::block_on(executor.run(stopped.recv())).unwrap_or(FAILED);
    supervisor.stopping();
    shared.0.withdraw_all();
    let _ = knocks.send(Knock::Stop);
    ending.end();
    let _ = keeper_gone.recv_timeout(PATIENCE);
    log::info!("stopped");
    Ok(code)
}

/// Strangers are let in from here on.
fn facing(config: &Config, mut front: Front) -> Result<Front, Trouble> {
    front.adopt(Passed::take());
    front.face(config);
    front.seats(config.connections, config.per_host);
    front.listen(&config.listen)?;
    Ok(front)
}

/// For a house that does one thing and is left: nothing else begins in it, and nobody is let in.
fn keep_still(config: &mut Config) {
    config.listen.clear();
    config.initial_delay = Some(Span::days(1));
    config.locks = config.locks.or(Config::default().locks);
}

/// The store, which nobody else may have while the lock is held; or another's, which is only read.
pub(super) fn unlock(config: &Config, disk: &mut SystemDisk) -> Result<(Option<Lock>, Store, Loaded), Trouble> {
    let state = config.state();
    disk::keeps_others_out(&config.store)?;
    let (lock, (store, loaded)) = if config.only_reads() {
        (None, Store::look(&config.store, state.as_deref(), disk)?)
    } else {
        let lock = disk::lock(&config.store.join("lock"), config.patience())?;
        (Some(lock), Store::open(&config.store, state.as_deref(), disk)?)
    };
    for line in &loaded.set_aside {
        log::error!("{line}");
    }
    for notice in &config.notices {
        log::warn!("{notice}");
    }
    Ok((lock, store, loaded))
}

/// How long the keeper may take to begin, and to come to an end.
const PATIENCE: Duration = Duration::from_millis(1500);

/// SIGHUP reloads; SIGTERM and SIGINT stop, which is fine for a daemon and a failure for a pass that was to be finished.
fn signals(desk: Rc<RefCell<FrontDesk>>, stop: Sender<u8>, code: u8) -> Result<impl Future<Output = ()>, Trouble> {
    let signals = Signals::new([Signal::Hup, Signal::Term, Signal::Int]);
    let mut signals = signals.map_err(|error| Trouble::new("listening for signals", error))?;
    Ok(async move {
        while let Some(signal) = signals.next().await {
            if matches!(signal, Ok(Signal::Hup)) {
                // Each fault is in the log.
                let _ = desk.borrow_mut().reload();
            } else {
                let _ = stop.send(code).await;
            }
        }
    })
}

/// Prints how each renewal ended; the last of them ends the house.
async fn print(ends: Receiver<Say>, stop: Sender<u8>) {
    while let Ok(say) = ends.recv().await {
        match say {
            // Nobody left to read it is no reason to stop.
            Say::Line(line) => drop(writeln!(std::io::stdout(), "{line}")),
            Say::End(code) => {
                let _ = stop.send(code).await;
            }
        }
    }
}
