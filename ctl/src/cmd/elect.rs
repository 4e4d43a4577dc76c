//! `elect`: stands for election, or tells who is elected.

use std::io::Write;

use althing_api::etcdserverpb::range_request::SortOrder;
use althing_api::etcdserverpb::{
    RangeRequest, RangeResponse, ResponseHeader, WatchCreateRequest, WatchResponse,
};
use althing_api::mvccpb::KeyValue;
use althing_api::mvccpb::event::EventType;
use bytes::Bytes;
use clap::Command;

use crate::args::{Values, manners, positional, switch};
use crate::client::{Client, Watched};
use crate::failure::{ERROR, Failure};
use crate::flags::Settings;
use crate::notice;
use crate::session::{DEFAULT_TTL, Interrupt, Session, Turn, contenders};

const HELP: &str = "\
With PROPOSAL, key and proposal are printed once the election is won, and the office is held until
SIGINT or SIGTERM. With --listen, every leader and every change of his proposal is printed.";
const ARGUMENTS: &str = "elect takes one election name argument and an optional proposal argument";
const EXPIRED: &str = "elect: session expired";
const LOST: &str = "elect: observer lost";

/// The command's grammar.
pub fn command() -> Command {
    manners(Command::new("elect"))
        .about("Observes and participates in leader election")
        .after_help(HELP)
        .override_usage("althingctl elect [OPTIONS] NAME [PROPOSAL]")
        .arg(positional())
        .arg(switch("listen", "Observation mode").short('l'))
}

/// Runs the command.
///
/// # Errors
/// Wrong arguments, the server's refusal, a signal while waiting, or a lost session.
pub async fn run(
    values: Values<'_>,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let listen = values.switch("listen")?;
    let arguments = values.arguments();
    match (arguments.as_slice(), listen) {
        ([name], true) => observe(settings, name, out).await,
        ([_], false) => Err(Failure::arguments("no proposal argument but -l not set")),
        ([_, _], true) => Err(Failure::arguments("proposal given but -l is set")),
        ([name, proposal], false) => campaign(settings, name, proposal, out).await,
        _ => Err(Failure::arguments(ARGUMENTS)),
    }
}

async fn campaign(
    settings: &Settings,
    name: &Bytes,
    proposal: &Bytes,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    settings.printer.check_response()?;
    let mut client = Client::open_lasting(settings).await?;
    let mut session = Session::open(&mut client, DEFAULT_TTL).await?;
    let mut interrupt = Interrupt::catch()?;
    let lease = session.lease();
    let work = async {
        let entered = Turn::enter(&mut client, name, lease, proposal.clone()).await?;
        let (turn, first) = entered;
        if first.is_none() {
            turn.wait(&mut client).await?;
        }
        let answer = client
            .range(RangeRequest {
                key: turn.key,
                ..RangeRequest::default()
            })
            .await?;
        settings.printer.response(out, &answer)?;
        Ok(out.flush()?)
    };
    let ended = match session.guard(&mut interrupt, EXPIRED, work).await {
        Ok(()) => tokio::select! {
            biased;
            () = interrupt.arrived() => Ok(()),
            () = session.lost() => Err(Failure::new(ERROR, EXPIRED)),
        },
        Err(failure) => Err(failure),
    };
    let closed = session.close(&mut client).await;
    ended.and(closed)
}

async fn observe(settings: &Settings, name: &Bytes, out: &mut dyn Write) -> Result<(), Failure> {
    settings.printer.check_response()?;
    let client = Client::open_lasting(settings).await?;
    let mut interrupt = Interrupt::catch()?;
    let mut observer = Observer {
        client,
        settings,
        out,
    };
    tokio::select! {
        biased;
        () = interrupt.arrived() => Ok(()),
        ended = observer.follow(name) => ended,
    }
}

/// Follows an election without taking part.
struct Observer<'a> {
    client: Client,
    settings: &'a Settings,
    out: &'a mut dyn Write,
}

impl Observer<'_> {
    /// Shows leaders forever.
    async fn follow(&mut self, name: &Bytes) -> Result<(), Failure> {
        loop {
            let request = contenders(name, SortOrder::Ascend);
            let everybody = WatchCreateRequest {
                key: request.key.clone(),
                range_end: request.range_end.clone(),
                ..WatchCreateRequest::default()
            };
            let found = self.client.range(request).await?;
            let header = found.header.unwrap_or_default();
            let leader = match found.kvs.first() {
                Some(leader) => Some((header, leader.clone())),
                None => self.first_put(everybody, header.revision + 1).await?,
            };
            let Some((header, leader)) = leader else {
                continue;
            };
            self.show(header, leader.clone(), &RangeResponse::default())?;
            self.follow_leader(leader.key, header.revision + 1, &found)
                .await?;
        }
    }

    /// Waits for the first key of the queue; `None` if it has to be looked up again.
    async fn first_put(
        &mut self,
        everybody: WatchCreateRequest,
        start_revision: i64,
    ) -> Result<Option<(ResponseHeader, KeyValue)>, Failure> {
        let mut watcher = self.client.watch(WatchCreateRequest {
            start_revision,
            ..everybody
        });
        while let Some(answer) = seen(watcher.next().await)? {
            let header = answer.header.unwrap_or_default();
            let mut events = answer.events.into_iter();
            let put = events.find(|event| event.r#type() == EventType::Put);
            if let Some(leader) = put.and_then(|event| event.kv) {
                let revision = leader.mod_revision;
                return Ok(Some((ResponseHeader { revision, ..header }, leader)));
            }
        }
        Ok(None)
    }

    /// Shows every change of the leader's proposal until its key is gone.
    async fn follow_leader(
        &mut self,
        key: Bytes,
        start_revision: i64,
        found: &RangeResponse,
    ) -> Result<(), Failure> {
        let mut watcher = self.client.watch(WatchCreateRequest {
            key,
            start_revision,
            ..WatchCreateRequest::default()
        });
        while let Some(answer) = seen(watcher.next().await)? {
            let header = answer.header.unwrap_or_default();
            for event in answer.events {
                match (event.r#type(), event.kv) {
                    (EventType::Put, Some(leader)) => self.show(header, leader, found)?,
                    _ => return Ok(()),
                }
            }
        }
        Ok(())
    }

    /// Writes a leader; the rest of `found` is repeated, as etcdctl does.
    fn show(
        &mut self,
        header: ResponseHeader,
        leader: KeyValue,
        found: &RangeResponse,
    ) -> Result<(), Failure> {
        let shown = RangeResponse {
            header: Some(header),
            kvs: vec![leader],
            ..*found
        };
        self.settings.printer.response(self.out, &shown)?;
        Ok(self.out.flush()?)
    }
}

/// The events of `watched`; `None` if history is compacted, so that the state has to be read again.
fn seen(watched: Watched) -> Result<Option<WatchResponse>, Failure> {
    match watched {
        Watched::Answer(answer) => Ok(Some(answer)),
        Watched::Canceled(answer, _) if answer.compact_revision != 0 => Ok(None),
        Watched::Canceled(_, reason) => {
            notice::tell(format_args!("Warning: watch was canceled ({reason})"));
            Err(Failure::new(ERROR, LOST))
        }
        Watched::Lost(reason) => {
            notice::tell(format_args!("Warning: not connected, trying on: {reason}"));
            Ok(Some(WatchResponse::default()))
        }
    }
}
