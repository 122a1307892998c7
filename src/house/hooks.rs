//! The operator's commands: what they are told, and what they find in their environment.

use crate::doors::script::Event;
use crate::house::keeper::Keeper;
use crate::rules::export;
use crate::words::config::Md;
use crate::words::fault::{Hook, Trouble};
use crate::words::name::Name;

impl Keeper<'_> {
    /// MDNotifyCmd, if there is one: its own words, then the MD.
    pub(super) fn notify(&mut self, md: &Md) -> Result<(), Trouble> {
        let Some(argv) = &md.notify else { return Ok(()) };
        let argv = argv.iter().cloned().chain([md.name.to_string()]).collect();
        self.hook(md, argv, "renewed").map_err(|trouble| trouble.with(Hook::Notify))
    }

    /// MDMessageCmd, if there is one: its own words, then the event, then the MD.
    pub(super) fn message(&mut self, md: &Md, event: &str) -> Result<(), Trouble> {
        let Some(argv) = &md.message else { return Ok(()) };
        let argv = argv.iter().cloned().chain([event.into(), md.name.to_string()]).collect();
        self.hook(md, argv, event).map_err(|trouble| {
            Trouble { doing: format!("MDMessageCmd {event}: {}", trouble.doing), ..trouble }.with(Hook::Message)
        })
    }

    fn hook(&mut self, md: &Md, argv: Vec<String>, event: &str) -> Result<(), Trouble> {
        self.doors.script.run(&Event { argv, env: environment(md, event), limit: md.hook_limit, clears: false })
    }
}

/// MDChallengeDns01, if there is one: its own words; what is to be done is added at each call.
pub fn dns_command(md: &Md) -> Option<Event> {
    let argv = md.dns_command.clone()?;
    Some(Event { argv, env: environment(md, "dns-01"), limit: md.hook_limit, clears: false })
}

/// Paths and names, never a secret.
fn environment(md: &Md, event: &str) -> Vec<(&'static str, String)> {
    let names: Vec<&str> = md.names.iter().map(Name::as_str).collect();
    let mut env = vec![
        ("EDGEMD_EVENT", event.to_string()),
        ("EDGEMD_MD", md.name.to_string()),
        ("EDGEMD_NAMES", names.join(" ")),
    ];
    if let Some(export) = &md.export {
        let paths = export::paths(export.layout, &md.name);
        let whole = |name: &str| export.dir.join(name).to_string_lossy().into_owned();
        env.push(("EDGEMD_CERT", whole(&paths.cert)));
        env.push(("EDGEMD_KEY", whole(&paths.key)));
        env.push(("EDGEMD_FULLCHAIN", whole(&paths.fullchain)));
    }
    env
}
