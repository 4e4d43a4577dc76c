//! `config`: the configuration of a member on this machine, shown, compared and reloaded over its
//! admin socket; and the check of a file, for which no member is needed.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use althing_api::adminpb::admin_client::AdminClient;
use althing_api::adminpb::{
    Change, ChangesResponse, DiffRequest, File, ReloadRequest, Setting, ShowRequest,
};
use althing_conf::FileInstead;
use clap::{ArgMatches, Command};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::args::{Values, manners, positional, switch, valued};
use crate::client::deadline::Deadline;
use crate::cmd::chosen;
use crate::endpoint::cause;
use crate::failure::{BAD_CONNECTION, ERROR, Failure};
use crate::flags::Settings;
use crate::print::counted;

/// Where a member's socket is: as packaged, and as started by hand in this directory.
const SOCKETS: [&str; 2] = ["/run/althing/admin.sock", "default.althing/admin.sock"];

/// The flag that names another socket, called as in `althingd`.
const SOCKET: &str = "admin-socket";

/// How long a member on this machine may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// What takes effect when the file is read again; any other effect is named.
const AT_RELOAD: &str = "reload";

/// The command's grammar.
pub fn command() -> Command {
    let socket = || {
        let help = "Admin socket of the member, as its own --admin-socket names it";
        valued(SOCKET, "", help).alias("socket")
    };
    let show = manners(Command::new("show"))
        .about("Prints the running configuration")
        .arg(switch("origin", "Say where each value comes from"))
        .args([socket(), positional()]);
    let check = manners(Command::new("check"))
        .about("Judges a configuration file; no member is needed")
        .override_usage("althingctl config check FILE")
        .arg(positional());
    let diff = manners(Command::new("diff"))
        .about("Prints what a reload would change, with FILE in place of the member's own")
        .override_usage("althingctl config diff [OPTIONS] [FILE]")
        .args([socket(), positional()]);
    let reload = manners(Command::new("reload"))
        .about("Has the member read its configuration again")
        .args([socket(), positional()]);
    manners(Command::new("config"))
        .about("Configuration related commands")
        .subcommands([show, check, diff, reload])
}

/// Runs one of the commands.
///
/// # Errors
/// A file that is refused, a member that refuses or does not answer.
pub async fn run(
    matches: &ArgMatches,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (name, values) = chosen(matches);
    match name {
        "show" => show(values, settings, out).await,
        "check" => check(values, out),
        "diff" => diff(values, settings, out).await,
        _ => reload(values, settings, out).await,
    }
}

async fn show(values: Values<'_>, settings: &Settings, out: &mut dyn Write) -> Result<(), Failure> {
    values.none("config show command takes no arguments")?;
    let origin = values.switch("origin")?;
    let mut member = connect(values).await?;
    let answer = within(settings, member.show(ShowRequest {})).await?;
    for Setting {
        key,
        value,
        origin: place,
        ..
    } in answer.settings
    {
        if origin {
            writeln!(out, "{key} = {value:?}  # {place}")?
        } else {
            writeln!(out, "{key} = {value:?}")?
        }
    }
    Ok(())
}

fn check(values: Values<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let name = values.one("config check command needs 1 argument")?;
    let file = read(&String::from_utf8_lossy(&name))?;
    let (name, text) = (file.name.as_str(), file.text.as_str());
    let judged = althing_conf::check_file(FileInstead { name, text });
    let loaded = judged.map_err(|error| Failure::new(ERROR, error.to_string()))?;
    for warning in &loaded.warnings {
        writeln!(out, "{name}: {warning}")?;
    }
    let set = loaded
        .origins()
        .iter()
        .filter(|given| given.is_set())
        .count();
    Ok(writeln!(
        out,
        "{name} is in order; it sets {}",
        counted(set as u64, "option")
    )?)
}

async fn diff(values: Values<'_>, settings: &Settings, out: &mut dyn Write) -> Result<(), Failure> {
    let arguments = values.arguments();
    let file = match arguments.as_slice() {
        [] => None,
        [name] => Some(read(&String::from_utf8_lossy(name))?),
        _ => {
            return Err(Failure::arguments(
                "config diff command takes 1 argument at most",
            ));
        }
    };
    let mut member = connect(values).await?;
    let answer = within(settings, member.diff(DiffRequest { file })).await?;
    write_changes(out, &answer)?;
    if answer.changes.is_empty() {
        writeln!(out, "a reload would change nothing")?;
    }
    Ok(())
}

async fn reload(
    values: Values<'_>,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    values.none("config reload command takes no arguments")?;
    let mut member = connect(values).await?;
    let answer = within(settings, member.reload(ReloadRequest {})).await?;
    write_changes(out, &answer)?;
    let effects = answer
        .changes
        .iter()
        .filter_map(|change| change.to.as_ref());
    let applied = effects.filter(|to| to.effect == AT_RELOAD).count();
    let rest = answer.changes.len() - applied;
    match rest {
        0 => writeln!(out, "reloaded, {applied} changed")?,
        _ => writeln!(out, "reloaded, {applied} changed, {rest} not by a reload")?,
    }
    Ok(())
}

fn write_changes(out: &mut dyn Write, answer: &ChangesResponse) -> Result<(), Failure> {
    for warning in &answer.warnings {
        writeln!(out, "{warning}")?;
    }
    for Change { from, to } in &answer.changes {
        let (Some(from), Some(to)) = (from, to) else {
            continue;
        };
        let (key, origin) = (&to.key, &to.origin);
        let change = format!("{key}: {:?} -> {:?}, from {origin}", from.value, to.value);
        match to.effect.as_str() {
            AT_RELOAD => writeln!(out, "{change}")?,
            effect => writeln!(out, "{change} (takes effect: {effect})")?,
        }
    }
    Ok(())
}

fn read(name: &str) -> Result<File, Failure> {
    let text = std::fs::read_to_string(name);
    let text = text.map_err(|error| Failure::new(ERROR, format!("read {name}: {error}")))?;
    let name = name.to_owned();
    Ok(File { name, text })
}

/// Where the socket of this machine's member may be: first where the environment says, which a
/// service manager passes on to the reload, then the usual places.
fn places(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<PathBuf> {
    let named = althing_conf::admin_socket(environment);
    named
        .into_iter()
        .chain(SOCKETS.map(PathBuf::from))
        .collect()
}

/// Connects to the socket that was named, or to the first one that exists.
async fn connect(values: Values<'_>) -> Result<AdminClient<Channel>, Failure> {
    let socket = match values.text(SOCKET) {
        named if !named.is_empty() => named,
        _ => {
            let places = places(std::env::vars_os());
            let shown = |path: &PathBuf| path.display().to_string();
            let found = places.iter().find(|path| path.exists()).map(shown);
            found.ok_or_else(|| {
                let places: Vec<String> = places.iter().map(shown).collect();
                let text = format!(
                    "no member is at {}; name its --admin-socket",
                    places.join(" or ")
                );
                Failure::new(BAD_CONNECTION, text)
            })?
        }
    };
    let refused = |error: tonic::transport::Error| {
        let text = format!("the member does not answer at {socket}: {}", cause(&error));
        Failure::new(BAD_CONNECTION, text)
    };
    let endpoint = Endpoint::from_shared(format!("unix://{socket}")).map_err(refused)?;
    let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT);
    Ok(AdminClient::new(endpoint.connect().await.map_err(refused)?))
}

async fn within<T>(
    settings: &Settings,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Failure> {
    let deadline = Deadline::after(settings.command_timeout);
    match deadline.bound(call).await {
        None => Err(Failure::deadline(Vec::new())),
        Some(Ok(answer)) => Ok(answer.into_inner()),
        Some(Err(status)) if status.code() == Code::FailedPrecondition => {
            Err(Failure::new(ERROR, status.message()))
        }
        Some(Err(status)) => Err(Failure::rpc(&status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_named_as_the_daemon_names_it_and_as_before() {
        for flag in ["--admin-socket", "--socket"] {
            let words = ["config", "show", flag, "a.sock"];
            let matches = command().try_get_matches_from(words).unwrap();
            let (_, values) = chosen(&matches);
            assert_eq!(values.text(SOCKET), "a.sock");
        }
    }

    #[test]
    fn a_member_is_looked_for_where_its_own_environment_says() {
        let named = ("ALTHING_ADMIN_SOCKET".into(), "/of/its/own".into());
        let usual = SOCKETS.map(PathBuf::from);
        assert_eq!(places([named])[0], PathBuf::from("/of/its/own"));
        assert_eq!(places([]), usual);
    }
}
