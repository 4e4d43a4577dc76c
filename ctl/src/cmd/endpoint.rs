//! `endpoint health`, `endpoint status`, `endpoint hashkv`: asks each endpoint on its own.

use std::io::Write;

use althing_api::error::Error as ApiError;
use althing_api::etcdserverpb::{AlarmType, MemberListRequest, RangeRequest};
use bytes::Bytes;
use clap::{ArgMatches, Command};
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::args::{manners, positional, switch, valued};
use crate::client::Client;
use crate::cmd::chosen;
use crate::failure::{ERROR, Failure};
use crate::flags::Settings;
use crate::notice;
use crate::print::{At, Health};
use crate::text::duration;

/// The command's grammar.
pub fn command() -> Command {
    let health = manners(Command::new("health"))
        .about("Checks the healthiness of endpoints specified in `--endpoints` flag");
    let status = manners(Command::new("status"))
        .about("Prints out the status of endpoints specified in `--endpoints` flag")
        .after_help(
            "Items of the simple format: endpoint, ID, version, db size, is leader, is learner,\n\
             raft term, raft index, raft applied index, errors.",
        );
    let hashkv = manners(Command::new("hashkv"))
        .about("Prints the KV history hash for each endpoint in --endpoints")
        .arg(valued(
            "rev",
            "0",
            "Maximum revision to hash (default: all revisions)",
        ));
    manners(Command::new("endpoint"))
        .about("Endpoint related commands")
        .arg(switch("cluster", "Use all endpoints from the cluster member list").global(true))
        .subcommands([health, status, hashkv].map(|command| command.arg(positional())))
}

/// Runs one of the three commands.
///
/// # Errors
/// Wrong arguments, an endpoint that is not healthy, or one that does not answer.
pub async fn run(
    matches: &ArgMatches,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (name, values) = chosen(matches);
    let endpoints = if values.switch("cluster")? {
        of_cluster(settings).await?
    } else {
        settings.endpoints.clone()
    };
    match name {
        "health" => health(settings, endpoints, out).await,
        "status" => status(settings, endpoints, out).await,
        _ => hashkv(settings, endpoints, values.int("rev")?, out).await,
    }
}

/// The client URLs of all members. Needs no login: listing members is open to everybody.
pub(super) async fn of_cluster(settings: &Settings) -> Result<Vec<String>, Failure> {
    let anonymous = Settings {
        login: None,
        ..settings.clone()
    };
    let request = MemberListRequest { linearizable: true };
    let answer = Client::open(&anonymous).await?.member_list(request).await;
    let list = answer.map_err(|failure| {
        let why = failure.text;
        let text = format!("failed to fetch endpoints from etcd cluster member list: {why}");
        Failure {
            text,
            exit: ERROR,
            notes: failure.notes,
        }
    })?;
    Ok(list
        .members
        .into_iter()
        .flat_map(|member| member.client_ur_ls)
        .collect())
}

async fn health(
    settings: &Settings,
    endpoints: Vec<String>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let probes = endpoints
        .into_iter()
        .map(|endpoint| probe(settings, endpoint));
    let found: Vec<Health> = join_all(probes).await;
    settings.printer.endpoints(out, &found)?;
    if found.iter().any(|health| !health.healthy) {
        return Err(Failure::new(ERROR, "unhealthy cluster"));
    }
    Ok(())
}

/// Reads a key that need not exist: an answer proves that the member can reach consensus.
async fn probe(settings: &Settings, endpoint: String) -> Health {
    let settings = settings.with_endpoint(&endpoint);
    let mut health = Health {
        endpoint,
        healthy: false,
        took: String::new(),
        error: String::new(),
    };
    let mut client = match Client::open(&settings).await {
        Ok(client) => client,
        Err(failure) => {
            health.error = failure.text;
            return health;
        }
    };
    let start = Instant::now();
    let request = RangeRequest {
        key: Bytes::from_static(b"health"),
        ..RangeRequest::default()
    };
    let answer = client.range(request).await;
    health.took = duration::format(i64::try_from(start.elapsed().as_nanos()).unwrap_or(i64::MAX));
    if let Err(failure) = answer {
        // Denying access to the key takes consensus as well.
        if failure.text != ApiError::PermissionDenied.text() {
            health.error = failure.text;
            return health;
        }
    }
    match client.alarms().await {
        Err(_) => health.error = "Unable to fetch the alarm list".to_owned(),
        Ok(answer) if answer.alarms.is_empty() => health.healthy = true,
        Ok(answer) => {
            let name = |kind: AlarmType| match kind {
                AlarmType::Nospace => "NOSPACE ",
                AlarmType::Corrupt => "CORRUPT ",
                AlarmType::None => "UNKNOWN ",
            };
            let names = answer.alarms.iter().map(|alarm| name(alarm.alarm()));
            health.error = format!("Active Alarm(s): {}", names.collect::<String>());
        }
    }
    health
}

async fn status(
    settings: &Settings,
    endpoints: Vec<String>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut answers = Vec::new();
    let mut failed = false;
    for endpoint in endpoints {
        match Client::open(&settings.with_endpoint(&endpoint))
            .await?
            .status()
            .await
        {
            Ok(answer) => answers.push(At { endpoint, answer }),
            Err(failure) => {
                report("status", &endpoint, &failure);
                failed = true;
            }
        }
    }
    settings.printer.endpoints(out, &answers)?;
    // Each failure has been reported where it happened.
    if failed {
        Err(Failure::new(ERROR, ""))
    } else {
        Ok(())
    }
}

async fn hashkv(
    settings: &Settings,
    endpoints: Vec<String>,
    revision: i64,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut answers = Vec::new();
    let mut last = None;
    for endpoint in endpoints {
        match Client::open(&settings.with_endpoint(&endpoint))
            .await?
            .hash_kv(revision)
            .await
        {
            Ok(answer) => answers.push(At { endpoint, answer }),
            Err(failure) => {
                report("hash", &endpoint, &failure);
                last = Some(Failure::new(ERROR, failure.text));
            }
        }
    }
    settings.printer.endpoints(out, &answers)?;
    last.map_or(Ok(()), Err)
}

fn report(what: &str, endpoint: &str, failure: &Failure) {
    failure
        .notes
        .iter()
        .for_each(|note| notice::tell(format_args!("Warning: {note}")));
    notice::tell(format_args!(
        "Failed to get the {what} of endpoint {endpoint} ({failure})"
    ));
}
