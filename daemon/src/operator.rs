//! What the operator may ask of a running member: to show its configuration, to compare it with a
//! new reading, and to take that over.
//!
//! ```text
//!  SIGHUP ----------+
//!                   +--> read and judge --> bind, parse --> take over, all at once
//!  admin socket ----+     (refused: nothing changed)
//! ```
//! Whatever may fail is done before anything is changed. It owns the running configuration and the
//! words it was read from; the caller lends it the member. A refusal is a text for the operator.

use std::ffi::OsString;

use althing_conf::config::Config;
use althing_conf::{Change, Effect, FileInstead, Given, Loaded, Reload};
use tokio::sync::oneshot;

use crate::boot::Running;
use crate::log;
use crate::settings::{self, Settings};
use crate::{spans, systemd};

/// A question over the admin socket, with the place for its answer.
#[derive(Debug)]
pub enum Question {
    /// The running configuration.
    Show(oneshot::Sender<Vec<Given>>),
    /// What a reload would change, with this file (name, text) in place of the member's own.
    Diff(Option<(String, String)>, oneshot::Sender<Outcome>),
    /// Take a new reading over.
    Reload(oneshot::Sender<Outcome>),
}

/// What a reload changes, or why it is refused.
pub type Outcome = Result<Changes, String>;

/// What a reload changes.
#[derive(Clone, Debug)]
pub struct Changes {
    /// The changes, in the manual's order.
    pub changes: Vec<Change>,
    /// Warnings about what was read and has no effect.
    pub warnings: Vec<String>,
}

/// The words that the process was started with.
#[derive(Clone, Debug)]
pub struct CommandLine {
    /// The program's name first.
    pub args: Vec<OsString>,
    /// The process environment.
    pub env: Vec<(OsString, OsString)>,
}

/// The running configuration and where it came from.
#[derive(Debug)]
pub struct Operator {
    command_line: CommandLine,
    running: Loaded,
    log: log::Control,
}

impl Operator {
    /// Begins with what the process was started with.
    pub fn new(command_line: CommandLine, running: Loaded, log: log::Control) -> Operator {
        Operator {
            command_line,
            running,
            log,
        }
    }

    /// The configuration that the member runs with.
    pub fn config(&self) -> &Config {
        &self.running.config
    }

    /// Answers a question; the caller may be gone.
    pub async fn answer(&mut self, question: Question, member: &mut Running) {
        match question {
            Question::Show(to) => drop(to.send(self.running.origins().to_vec())),
            Question::Diff(file, to) => {
                let file = file.as_ref();
                let file = file.map(|(name, text)| FileInstead { name, text });
                let judged = self.judge(file);
                drop(to.send(judged.map(|(reload, _)| changes_of(&reload))));
            }
            Question::Reload(to) => drop(to.send(self.reload(member).await)),
        }
    }

    /// Reads the configuration again and takes it over, or changes nothing and says why.
    pub async fn reload(&mut self, member: &mut Running) -> Outcome {
        systemd::notify(&systemd::reloading());
        let outcome = self.try_reload(member).await;
        match &outcome {
            Ok(changes) => tell(changes),
            Err(reason) => {
                tracing::error!(
                    reason,
                    "the configuration was not reloaded; nothing changed"
                );
            }
        }
        systemd::notify(systemd::READY);
        outcome
    }

    /// Reads the configuration again and checks all that can be checked without opening a listener.
    fn judge(&self, file: Option<FileInstead<'_>>) -> Result<(Reload, log::Lines), String> {
        let CommandLine { args, env } = self.command_line.clone();
        let reload = self.running.reload(args, env, file);
        let reload = reload.map_err(|error| error.to_string())?;
        let config = &reload.next.config;
        let lines = self.log.prepare(&config.log).map_err(|e| e.to_string())?;
        spans::check(&config.trace).map_err(|error| error.to_string())?;
        Ok((reload, lines))
    }

    async fn try_reload(&mut self, member: &mut Running) -> Outcome {
        let (reload, lines) = self.judge(None)?;
        let changes = changes_of(&reload);
        let config = &reload.next.config;
        let settings = Settings::of(config);
        let bound = member.ports.bind_missing(config).await;
        let bound = bound.map_err(|error| error.to_string())?;
        // Nothing below is refused any more.
        self.log.take_over(lines);
        let patience = settings.port.shutdown_timeout;
        member.settings.replace(settings);
        member.rpc.settings_replaced();
        let handles = member.handles();
        handles.upkeep().set(settings::upkeep(config));
        handles.set_slow_apply(config.log.slow_request);
        handles.retune(settings::raft(config));
        handles.set_bounds(config.raft.proposals_max, config.store.disk_reserve_bytes);
        member.ports.close_surplus(config, patience);
        for listener in bound {
            if let Err(error) = member.ports.serve(listener) {
                // It is bound, so only a system without threads or memory gets here.
                tracing::error!(%error, "a new listener does not serve; reload again");
            }
        }
        if reload.next.config.client.advertise_urls != self.running.config.client.advertise_urls {
            member.publisher.wish(config.client.advertise_urls.clone());
        }
        self.running = reload.next;
        Ok(changes)
    }
}

fn changes_of(reload: &Reload) -> Changes {
    Changes {
        changes: reload.changes.clone(),
        warnings: reload.next.warnings.clone(),
    }
}

fn tell(changes: &Changes) {
    for warning in &changes.warnings {
        tracing::warn!("{warning}");
    }
    for Change { from, to, effect } in &changes.changes {
        let (option, origin) = (to.key, &to.origin);
        let (from, to) = (&from.value, &to.value);
        match effect {
            Effect::Reload => tracing::info!(option, from, to, origin, "option changed"),
            _ => tracing::warn!(
                option,
                running = from,
                wanted = to,
                origin,
                takes_effect = %effect,
                "option not changed by a reload"
            ),
        }
    }
    let count = changes.changes.len();
    tracing::info!(changes = count, "configuration reloaded");
}
