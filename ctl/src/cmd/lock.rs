//! `lock`: holds a lock until a signal, or while a command runs.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;

use althing_api::etcdserverpb::RangeRequest;
use bytes::Bytes;
use clap::Command;

use crate::args::{Values, manners, positional, valued};
use crate::client::Client;
use crate::cmd::child;
use crate::failure::{ERROR, Failure};
use crate::flags::Settings;
use crate::notice;
use crate::session::{Interrupt, Session, Turn};

const HELP: &str = "\
Without COMMAND, the lock's key is printed once the lock is held, and the lock is held until
SIGINT or SIGTERM. With COMMAND, it is held while that runs, which sees ETCD_LOCK_KEY and
ETCD_LOCK_REV; the exit code is that of COMMAND.

A holder that is paused for longer than the TTL loses the lock without noticing at once. What the
lock protects should refuse whoever comes with an older ETCD_LOCK_REV than it has seen.";
const ARGUMENTS: &str = "lock takes a lock name argument and an optional command to execute";
const EXPIRED_WAITING: &str = "mutex: session is expired";
const EXPIRED: &str = "session expired";

/// The command's grammar.
pub fn command() -> Command {
    manners(Command::new("lock"))
        .about("Acquires a named lock")
        .after_help(HELP)
        .override_usage("althingctl lock [OPTIONS] NAME [--] [COMMAND [ARGS]...]")
        .arg(positional())
        .arg(valued("ttl", "10", "Timeout for session, in seconds"))
}

/// Runs the command.
///
/// # Errors
/// Wrong arguments, the server's refusal, a signal while waiting, a lost session, or the
/// command's own exit code.
pub async fn run(
    values: Values<'_>,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let ttl = values.int("ttl")?;
    let arguments = values.arguments();
    let Some((name, command)) = arguments.split_first() else {
        return Err(Failure::arguments(ARGUMENTS));
    };
    if command.is_empty() {
        settings.printer.check_response()?;
    }
    let mut client = Client::open_lasting(settings).await?;
    let mut session = Session::open(&mut client, ttl).await?;
    let mut interrupt = Interrupt::catch()?;
    let ended = match acquire(&mut client, &mut session, &mut interrupt, name).await {
        Ok((turn, _)) if command.is_empty() => {
            let work = show(&mut client, settings, &turn, out);
            let shown = session.guard(&mut interrupt, EXPIRED, work).await;
            match shown {
                Ok(()) => hold(&mut session, &mut interrupt).await,
                Err(failure) => Err(failure),
            }
        }
        Ok((turn, revision)) => execute(&mut session, &turn, revision, command).await,
        Err(failure) => Err(failure),
    };
    let closed = session.close(&mut client).await;
    ended.and(closed)
}

/// Waits for the lock. Returns the place, and the store's revision when it was the first one.
async fn acquire(
    client: &mut Client,
    session: &mut Session,
    interrupt: &mut Interrupt,
    name: &Bytes,
) -> Result<(Turn, i64), Failure> {
    let lease = session.lease();
    let work = async {
        let (turn, first) = Turn::enter(client, name, lease, Bytes::new()).await?;
        if let Some(revision) = first {
            return Ok((turn, revision));
        }
        turn.wait(client).await?;
        // The lease may have expired while its renewal is still under way.
        let answer = client.range(own(&turn)).await?;
        if answer.kvs.is_empty() {
            return Err(Failure::new(ERROR, EXPIRED_WAITING));
        }
        Ok((turn, answer.header.unwrap_or_default().revision))
    };
    session.guard(interrupt, EXPIRED_WAITING, work).await
}

fn own(turn: &Turn) -> RangeRequest {
    RangeRequest {
        key: turn.key.clone(),
        ..RangeRequest::default()
    }
}

async fn show(
    client: &mut Client,
    settings: &Settings,
    turn: &Turn,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let answer = client.range(own(turn)).await?;
    if answer.kvs.is_empty() {
        return Err(Failure::new(ERROR, "lock lost on init"));
    }
    settings.printer.response(out, &answer)?;
    Ok(out.flush()?)
}

async fn hold(session: &mut Session, interrupt: &mut Interrupt) -> Result<(), Failure> {
    tokio::select! {
        biased;
        () = interrupt.arrived() => Ok(()),
        () = session.lost() => Err(Failure::new(ERROR, EXPIRED)),
    }
}

/// Runs the command to its end, whatever happens: it alone knows whether it may be interrupted.
async fn execute(
    session: &mut Session,
    turn: &Turn,
    revision: i64,
    command: &[Bytes],
) -> Result<(), Failure> {
    let variables = vec![
        ("ETCD_LOCK_KEY", OsString::from_vec(turn.key.to_vec())),
        ("ETCD_LOCK_REV", revision.to_string().into()),
    ];
    let mut child = std::pin::pin!(child::run(command, variables));
    tokio::select! {
        ended = &mut child => ended,
        () = session.lost() => {
            let text = "the session expired while the command runs: others may hold the lock";
            notice::tell(format_args!("Warning: {text}"));
            child.await
        }
    }
}
