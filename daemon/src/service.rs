//! What a service manager is told of the member: that it needs more time to start, what it is
//! doing, and, as long as the threads that matter answer, that it is alive.
//!
//! A ping of the watchdog follows a question to the raft thread and a look into the store, asked
//! from the thread that accepts signals: a member that hangs in one of them sends none, and is
//! started again. This module owns a thread while the member starts, and a task afterwards.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use actix_rt::task::JoinHandle;
use althing_actors::node::Handles;
use althing_api::id::MemberId;

use crate::systemd;

/// Time between two looks, unless the watchdog wants them sooner.
const INTERVAL: Duration = Duration::from_secs(5);
/// How much longer the manager waits each time it is asked to.
const MORE_TIME: Duration = Duration::from_secs(30);
/// Pings that are due within one timeout of the watchdog.
const PINGS_PER_TIMEOUT: u32 = 3;

/// What the member does, or waits for, in a few words.
pub(crate) fn state(handles: &Handles) -> String {
    Picture::of(handles).text()
}

/// Asks for more time until it is dropped, telling what the time is needed for.
#[derive(Debug)]
pub(crate) struct Starting {
    /// The thread ends when this is dropped; unset where nobody listens.
    _asking: Option<Sender<()>>,
}

impl Starting {
    /// Begins to ask, where a service manager listens.
    pub(crate) fn begin(doing: impl Fn() -> String + Send + 'static) -> Starting {
        if !systemd::listens() {
            return Starting { _asking: None };
        }
        let (sender, dropped) = channel();
        let asking = move || {
            loop {
                let (more, doing) = (systemd::more_time(MORE_TIME), doing());
                systemd::notify(&format!("{more}\nSTATUS={doing}"));
                if dropped.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("starting".to_owned());
        match thread.spawn(asking) {
            Ok(_) => Starting {
                _asking: Some(sender),
            },
            // Without the thread, the manager waits as long as its unit says.
            Err(_) => Starting { _asking: None },
        }
    }

    /// The same for a node that waits for its cluster.
    pub(crate) fn waiting(handles: Handles) -> Starting {
        Starting::begin(move || state(&handles))
    }
}

/// Reports the member's state until the task is aborted; `None` if nobody listens.
pub(crate) fn report(handles: Handles) -> Option<JoinHandle<()>> {
    systemd::listens().then(|| actix_rt::spawn(reporting(handles)))
}

async fn reporting(handles: Handles) {
    let watchdog = systemd::watchdog_timeout();
    let interval = watchdog.map_or(INTERVAL, |timeout| {
        INTERVAL.min(timeout / PINGS_PER_TIMEOUT)
    });
    let mut looks = tokio::time::interval(interval);
    let mut told = String::new();
    loop {
        looks.tick().await;
        if tokio::time::timeout(interval, handles.pulse()).await != Ok(Ok(())) {
            tracing::warn!("the raft thread does not answer, the watchdog gets no ping");
            continue;
        }
        // If the store's lock is never released, this blocks, and the pings stop.
        let _ = handles.store().revisions();
        let text = state(&handles);
        if text != told {
            systemd::notify(&format!("STATUS={text}"));
            told = text;
        }
        if watchdog.is_some() {
            systemd::notify(systemd::ALIVE);
        }
    }
}

/// The cluster in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Picture {
    leads: bool,
    /// Name or id of the leader, if that is another member.
    leader: Option<String>,
    /// Voters that answer, and all of them: none if the member has not heard from its cluster.
    heard: usize,
    voters: usize,
    /// All members, those without a vote included.
    members: usize,
}

impl Picture {
    fn of(handles: &Handles) -> Picture {
        let status = handles.status();
        let (heard, voters) = handles.voters_heard();
        let other = status.leader != MemberId(0) && status.leader != status.member_id;
        let named = status.members.iter().find(|m| m.id == status.leader);
        let name = named.map(|member| member.name.clone());
        let leader = name.filter(|name| !name.is_empty());
        Picture {
            leads: status.leader == status.member_id,
            leader: other.then(|| leader.unwrap_or_else(|| status.leader.to_string())),
            heard,
            voters,
            members: status.members.len().max(voters),
        }
    }

    fn text(&self) -> String {
        let Picture { heard, voters, .. } = *self;
        let needed = voters / 2 + 1;
        match &self.leader {
            _ if self.leads && voters == 1 => "serving, the only member".to_owned(),
            _ if self.leads => format!("serving, leads; {heard} of {voters} members answer"),
            Some(leader) => format!("serving, follows {leader}, one of {} members", self.members),
            None if voters == 0 => "waiting to hear from its cluster".to_owned(),
            None if heard < needed => {
                format!("waiting for {needed} of {voters} members; {heard} answer")
            }
            None => format!("waiting for a leader; {heard} of {voters} members answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(leads: bool, leader: Option<&str>, heard: usize, voters: usize) -> String {
        let leader = leader.map(str::to_owned);
        let picture = Picture {
            leads,
            leader,
            heard,
            voters,
            members: voters + 1,
        };
        picture.text()
    }

    #[test]
    fn the_text_says_what_the_member_does_or_waits_for() {
        assert_eq!(text(true, None, 1, 1), "serving, the only member");
        assert_eq!(
            text(true, None, 2, 3),
            "serving, leads; 2 of 3 members answer"
        );
        let follows = text(false, Some("m2"), 2, 3);
        assert_eq!(follows, "serving, follows m2, one of 4 members");
        let waits = text(false, None, 1, 3);
        assert_eq!(waits, "waiting for 2 of 3 members; 1 answer");
        let elects = text(false, None, 2, 3);
        assert_eq!(elects, "waiting for a leader; 2 of 3 members answer");
        let joins = text(false, None, 0, 0);
        assert_eq!(joins, "waiting to hear from its cluster");
    }
}
