//! The front desk: what the control socket and SIGHUP ask of the house. Status is answered from the board; a reload
//! changes the listeners here and the wants at the keeper's; a renewal is handed on.

use crate::doors::clock::{Knock, Push};
use crate::doors::disk::{self, Lock};
use crate::doors::front::Front;
use crate::doors::supervisor::Supervisor;
use crate::house::boot;
use crate::house::jobs::end;
use crate::rules::control::{Form, NO_SUCH_MD, Request, Say};
use crate::rules::status;
use crate::words::board::{Board, Report};
use crate::words::config::Config;
use crate::words::name::{Labels, Name};
use crate::words::time::Span;
use smol::channel::{self, Receiver, Sender};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, mpsc};

pub struct FrontDesk {
    config_path: String,
    /// What can't be changed while the house stands.
    store: PathBuf,
    control: Option<PathBuf>,
    /// `MDServerStatus`: whether the view of all MDs is shown, as JSON and as a page.
    server_status: bool,
    front: Front,
    /// On the store; `None` while it is only read.
    lock: Option<Lock>,
    board: Arc<Board>,
    knocks: mpsc::Sender<Knock>,
    supervisor: Rc<Supervisor>,
}

impl FrontDesk {
    pub fn new(
        path: &str,
        config: &Config,
        (front, lock): (Front, Option<Lock>),
        board: Arc<Board>,
        knocks: mpsc::Sender<Knock>,
    ) -> Self {
        let (store, control) = (config.store.clone(), config.control.clone());
        let (server_status, supervisor) = (config.server_status, Rc::default());
        Self { config_path: path.into(), store, control, server_status, front, lock, board, knocks, supervisor }
    }

    /// Who is told of each reload.
    pub fn supervised_by(&mut self, supervisor: Rc<Supervisor>) {
        self.supervisor = supervisor;
    }

    pub fn answer(&mut self, request: Request) -> Receiver<Say> {
        let (say, answer) = channel::unbounded();
        match request {
            Request::Status { form, name } => self.status(form, name.as_deref(), &say),
            Request::Renew { names, force } => self.renew(&names, force, say),
            Request::Dns { name } => self.records(name.as_deref(), say),
            Request::ClockSet => self.pass_on(Knock::ClockSet, "the clock is looked at again", &say),
            Request::LinkUp => self.pass_on(Knock::LinkUp, "what waits for the net is tried again", &say),
            Request::Revoke { name, reason } => _ = self.knocks.send(Knock::Revoke { name, reason, ended: say }),
            Request::Account(what) => _ = self.knocks.send(Knock::Accounts { what, ended: say }),
            Request::Prune { yes } => _ = self.knocks.send(Knock::Prune { yes, ended: say }),
            Request::Reload => match self.reload() {
                Ok(line) => end(&say, vec![line], boot::FINE),
                Err(lines) => end(&say, lines, boot::FAILED),
            },
        }
        answer
    }

    /// A new configuration is in force at once; a faulty one changes nothing.
    pub fn reload(&mut self) -> Result<String, Vec<String>> {
        self.supervisor.reloading();
        let result = self.change();
        self.supervisor.ready();
        if let Some(fault) = result.as_ref().err().and_then(|lines| lines.first()) {
            self.supervisor.status(&format!("the old configuration stays in force: {fault}"));
        }
        result
    }

    fn change(&mut self) -> Result<String, Vec<String>> {
        let refused = |lines: Vec<String>| {
            for line in &lines {
                log::error!("{line}");
            }
            log::error!("the configuration was not reloaded; the old one stays in force");
            lines
        };
        let config = boot::config(&self.config_path)
            .map_err(|faults| refused(faults.iter().map(ToString::to_string).collect()))?;
        if self.lock.is_none() && !config.only_reads() {
            // Whoever waits here keeps everybody else waiting.
            let lock = disk::lock(&self.store.join("lock"), Span::ZERO);
            self.lock = Some(lock.map_err(|trouble| refused(vec![trouble.to_string()]))?);
        }
        self.front.listen(&config.listen).map_err(|trouble| refused(vec![trouble.to_string()]))?;
        self.front.face(&config);
        self.front.seats(config.connections, config.per_host);
        self.server_status = config.server_status;
        for notice in &config.notices {
            log::warn!("{notice}");
        }
        let mut line = match config.mds.len() {
            1 => "configuration reloaded: 1 MD".to_string(),
            many => format!("configuration reloaded: {many} MDs"),
        };
        for (directive, changed) in [
            ("MDStoreDir", config.store != self.store),
            ("MDControlSocket", config.control != self.control),
            ("MDStoreLocks off", self.lock.is_some() && config.only_reads()),
        ] {
            if changed {
                line += &format!("; {directive} takes effect at the next start");
            }
        }
        log::info!("{line}");
        let _ = self.knocks.send(Knock::Reload(Box::new(config)));
        Ok(line)
    }

    fn renew(&self, names: &[String], force: bool, say: Sender<Say>) {
        // Which MDs there are is the keeper's to say: it may have a reload in its mailbox before this.
        let parsed: Result<Vec<Name>, &String> =
            names.iter().map(|name| Name::parse(name, Labels::One).map_err(|_| name)).collect();
        match parsed {
            Ok(names) => {
                let push = if force { Push::Force } else { Push::Now };
                let _ = self.knocks.send(Knock::Renew { names, push, ended: say });
            }
            Err(name) => end(&say, vec![no_such(name)], boot::FAILED),
        }
    }

    fn records(&self, name: Option<&str>, say: Sender<Say>) {
        match name.map(|name| Name::parse(name, Labels::One).map_err(|_| name)).transpose() {
            Ok(name) => _ = self.knocks.send(Knock::Dns { name, ended: say }),
            Err(name) => end(&say, vec![no_such(name)], boot::FAILED),
        }
    }

    fn pass_on(&self, knock: Knock, line: &str, say: &Sender<Say>) {
        let _ = self.knocks.send(knock);
        end(say, vec![line.into()], boot::FINE);
    }

    fn status(&self, form: Form, name: Option<&str>, say: &Sender<Say>) {
        if form != Form::Sentences && !self.server_status {
            let line = "there is no such view: MDServerStatus is off; `edgemd status` has it in sentences";
            return end(say, vec![line.into()], NO_SUCH_MD);
        }
        self.board.read(|reports| {
            let shown: Vec<&Report> =
                reports.iter().filter(|report| name.is_none_or(|name| is(&report.md.name, name))).collect();
            match (name, shown.first(), form) {
                (Some(name), None, _) => end(say, vec![no_such(name)], NO_SUCH_MD),
                (Some(_), Some(one), Form::Json) => end(say, vec![status::md_json(one).to_string()], boot::FINE),
                (_, _, Form::Json) => end(say, vec![status::all_json(reports).to_string()], boot::FINE),
                (_, _, Form::Counts) => end(say, vec![status::counts(reports)], boot::FINE),
                (_, _, Form::Sentences) => {
                    let texts: Vec<(Vec<String>, bool)> = shown.iter().map(|report| status::text(report)).collect();
                    let well = texts.iter().all(|(_, well)| *well);
                    end(say, texts.into_iter().flat_map(|(lines, _)| lines).collect(), u8::from(!well));
                }
            }
        });
    }
}

/// Whether an operator's spelling means this MD.
fn is(md: &Name, name: &str) -> bool {
    Name::parse(name, Labels::One).is_ok_and(|name| name == *md)
}

fn no_such(name: &str) -> String {
    format!("there is no MD \"{name}\"; `edgemd status` lists them")
}
