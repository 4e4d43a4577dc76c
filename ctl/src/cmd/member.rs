//! `member list`, `add`, `remove`, `update`, `promote`: who belongs to the cluster, and changes of
//! the membership.

use std::io::Write;

use althing_api::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest, ResponseHeader,
};
use bytes::Bytes;
use clap::{ArgMatches, Command};
use prost::Message;

use crate::args::{Values, manners, positional, switch, valued};
use crate::client::Client;
use crate::cmd::{chosen, removal};
use crate::failure::{BAD_FEATURE, ERROR, Failure};
use crate::flags::Settings;
use crate::print::Format;
use crate::print::json::Json;
use crate::text::number::parse_uint;
use crate::text::quote::quote;

/// The command's grammar.
pub fn command() -> Command {
    let list = manners(Command::new("list"))
        .about("Lists all members in the cluster")
        .arg(valued(
            "consistency",
            "l",
            "Linearizable(l) or Serializable(s)",
        ));
    let add = manners(Command::new("add"))
        .about("Adds a member into the cluster")
        .arg(valued(
            "peer-urls",
            "",
            "comma separated peer URLs for the new member",
        ))
        .arg(switch(
            "learner",
            "indicates if the new member is raft learner",
        ));
    let remove = manners(Command::new("remove"))
        .about("Removes a member from the cluster")
        .arg(switch(
            "dry-run",
            "Tell what it would do to the quorum, and change nothing",
        ));
    let update = manners(Command::new("update"))
        .about("Updates a member in the cluster")
        .arg(valued(
            "peer-urls",
            "",
            "comma separated peer URLs for the updated member",
        ));
    let promote =
        manners(Command::new("promote")).about("Promotes a non-voting member in the cluster");
    manners(Command::new("member"))
        .about("Membership related commands")
        .subcommands([add, remove, update, list, promote].map(|one| one.arg(positional())))
}

/// Runs one of the commands.
///
/// # Errors
/// Wrong arguments, the server's refusal, or the deadline.
pub async fn run(
    matches: &ArgMatches,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (name, values) = chosen(matches);
    match name {
        "add" => add(values, settings, out).await,
        "remove" => remove(values, settings, out).await,
        "update" => update(values, settings, out).await,
        "promote" => promote(values, settings, out).await,
        _ => list(values, settings, out).await,
    }
}

async fn list(values: Values<'_>, settings: &Settings, out: &mut dyn Write) -> Result<(), Failure> {
    let linearizable = match values.text("consistency").as_str() {
        "l" => true,
        "s" => false,
        other => {
            let text = format!("unknown consistency flag {}", quote(other.as_bytes()));
            return Err(Failure::new(BAD_FEATURE, text));
        }
    };
    let request = MemberListRequest { linearizable };
    let answer = Client::open(settings).await?.member_list(request).await?;
    settings.printer.members(out, &answer)
}

async fn add(values: Values<'_>, settings: &Settings, out: &mut dyn Write) -> Result<(), Failure> {
    let is_learner = values.switch("learner")?;
    let arguments = values.arguments();
    let name = match arguments.as_slice() {
        [] => return Err(Failure::arguments("member name not provided")),
        [name] => String::from_utf8_lossy(name).into_owned(),
        _ => return Err(too_many(&arguments)),
    };
    let peer_ur_ls = peer_urls(values)?;
    settings.printer.check_changed()?;
    let request = MemberAddRequest {
        peer_ur_ls,
        is_learner,
    };
    let answer = Client::open(settings).await?.member_add(request).await?;
    let id = answer.member.as_ref().map_or(0, |member| member.id);
    let done = sentence(id, "added to", answer.header.as_ref());
    settings.printer.changed(out, &answer, &done)?;
    if settings.printer.format == Format::Simple {
        environment(out, &name, id, &answer.members)?;
    }
    Ok(())
}

/// Refuses more than a name; what looks like a URL was perhaps meant as one.
fn too_many(arguments: &[Bytes]) -> Failure {
    let mut text = "too many arguments".to_owned();
    for word in arguments {
        let word = String::from_utf8_lossy(word);
        if word.to_lowercase().starts_with("http") {
            text += &format!(", did you mean --peer-urls={word}");
        }
    }
    Failure::arguments(text)
}

/// What the new member has to be started with.
fn environment(
    out: &mut dyn Write,
    name: &str,
    id: u64,
    members: &[Member],
) -> Result<(), Failure> {
    let mut cluster = Vec::new();
    let mut own = Vec::new();
    for member in members {
        let known = if member.id == id { name } else { &member.name };
        for url in &member.peer_ur_ls {
            cluster.push(format!("{known}={url}"));
            if member.id == id {
                own.push(url.as_str());
            }
        }
    }
    writeln!(out)?;
    let lines = [
        ("ETCD_NAME", name),
        ("ETCD_INITIAL_CLUSTER", &*cluster.join(",")),
        ("ETCD_INITIAL_ADVERTISE_PEER_URLS", &*own.join(",")),
        ("ETCD_INITIAL_CLUSTER_STATE", "existing"),
    ];
    for (variable, value) in lines {
        writeln!(out, "{variable}={}", quote(value.as_bytes()))?;
    }
    Ok(())
}

async fn remove(
    values: Values<'_>,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let id = id(values)?;
    if values.switch("dry-run")? {
        return removal::foresee(id, settings, out).await;
    }
    change(settings, out, (id, "removed from"), async |client| {
        let answer = client.member_remove(MemberRemoveRequest { id }).await?;
        Ok((answer.header, answer))
    })
    .await
}

async fn update(
    values: Values<'_>,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let id = id(values)?;
    let peer_ur_ls = peer_urls(values)?;
    let request = MemberUpdateRequest { id, peer_ur_ls };
    change(settings, out, (id, "updated in"), async |client| {
        let answer = client.member_update(request).await?;
        Ok((answer.header, answer))
    })
    .await
}

async fn promote(
    values: Values<'_>,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let id = id(values)?;
    change(settings, out, (id, "promoted in"), async |client| {
        let answer = client.member_promote(MemberPromoteRequest { id }).await?;
        Ok((answer.header, answer))
    })
    .await
}

/// Sends the request that changes one member, and reports that it was done.
async fn change<A: Json + Message>(
    settings: &Settings,
    out: &mut dyn Write,
    (id, deed): (u64, &str),
    request: impl AsyncFnOnce(&mut Client) -> Result<(Option<ResponseHeader>, A), Failure>,
) -> Result<(), Failure> {
    settings.printer.check_changed()?;
    let mut client = Client::open(settings).await?;
    let (header, answer) = request(&mut client).await?;
    let done = sentence(id, deed, header.as_ref());
    settings.printer.changed(out, &answer, &done)
}

fn sentence(id: u64, deed: &str, header: Option<&ResponseHeader>) -> String {
    let cluster = header.copied().unwrap_or_default().cluster_id;
    format!("Member {id:16x} {deed} cluster {cluster:16x}")
}

/// The member that the one argument names.
fn id(values: Values<'_>) -> Result<u64, Failure> {
    let id = values.one("member ID is not provided")?;
    parse_uint(&String::from_utf8_lossy(&id), 16).map_err(|error| {
        Failure::arguments(format!("bad member ID arg ({error}), expecting ID in Hex"))
    })
}

/// The URLs of `--peer-urls`, as far as a client can judge them.
fn peer_urls(values: Values<'_>) -> Result<Vec<String>, Failure> {
    let given = values.text("peer-urls");
    if given.is_empty() {
        return Err(Failure::arguments("member peer urls not provided"));
    }
    let urls: Vec<String> = given.split(',').map(str::to_owned).collect();
    for url in &urls {
        judge(url.trim()).map_err(|text| Failure::new(ERROR, text))?;
    }
    Ok(urls)
}

fn judge(url: &str) -> Result<(), String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    match scheme.to_ascii_lowercase().as_str() {
        "http" | "https" => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (authority, behind) = rest.split_at(end);
            let (host, port) = split_port(authority);
            if !port.bytes().skip(1).all(|digit| digit.is_ascii_digit()) {
                let (url, port) = (quote(url.as_bytes()), quote(port.as_bytes()));
                return Err(format!("parse {url}: invalid port {port} after host"));
            }
            // Only brackets allow colons in a host.
            let is_bracketed = host.starts_with('[') && host.ends_with(']');
            if port.is_empty() || (host.contains(':') && !is_bracketed) {
                return Err(format!(
                    "URL address does not have the form \"host:port\": {url}"
                ));
            }
            if behind.starts_with('/') {
                Err(format!("URL must not contain a path: {url}"))
            } else {
                Ok(())
            }
        }
        "unix" | "unixs" => Ok(()),
        _ => Err(format!(
            "URL scheme must be http, https, unix, or unixs: {url}"
        )),
    }
}

/// Splits the port off, with the colon before it; what stands in brackets is an address.
fn split_port(authority: &str) -> (&str, &str) {
    let address_end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let colon = authority[address_end..].rfind(':');
    authority.split_at(colon.map_or(authority.len(), |colon| address_end + colon))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_new_member_needs_is_printed_as_etcdctl_prints_it() {
        let member = |id, name: &str, urls: &[&str]| Member {
            id,
            name: name.to_owned(),
            peer_ur_ls: urls.iter().map(|url| (*url).to_owned()).collect(),
            ..Member::default()
        };
        let members = [
            member(1, "a", &["http://127.0.0.1:41425"]),
            member(2, "", &["http://127.0.0.1:1", "http://127.0.0.1:2"]),
        ];
        let mut out = Vec::new();
        environment(&mut out, "n w", 2, &members).unwrap();
        let expected = concat!(
            "\nETCD_NAME=\"n w\"\n",
            "ETCD_INITIAL_CLUSTER=\"a=http://127.0.0.1:41425,n w=http://127.0.0.1:1,",
            "n w=http://127.0.0.1:2\"\n",
            "ETCD_INITIAL_ADVERTISE_PEER_URLS=\"http://127.0.0.1:1,http://127.0.0.1:2\"\n",
            "ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_url_behind_the_name_is_taken_for_a_forgotten_flag() {
        let words = ["x", "http://a:1"].map(|word| Bytes::from_static(word.as_bytes()));
        assert_eq!(
            too_many(&words).text,
            "too many arguments, did you mean --peer-urls=http://a:1"
        );
    }

    #[test]
    fn peer_urls_are_refused_in_etcdctls_words() {
        let refusals = [
            ("a:1", "URL scheme must be http, https, unix, or unixs: a:1"),
            ("", "URL scheme must be http, https, unix, or unixs: "),
            ("http://a:1/x", "URL must not contain a path: http://a:1/x"),
            (
                "http://a",
                "URL address does not have the form \"host:port\": http://a",
            ),
            (
                "http://[::1]",
                "URL address does not have the form \"host:port\": http://[::1]",
            ),
            (
                "http://::1:2",
                "URL address does not have the form \"host:port\": http://::1:2",
            ),
            (
                "http://a:b:c",
                "parse \"http://a:b:c\": invalid port \":c\" after host",
            ),
            (
                "HTTPS://[::1]:x",
                "parse \"HTTPS://[::1]:x\": invalid port \":x\" after host",
            ),
        ];
        for (url, text) in refusals {
            assert_eq!(judge(url), Err(text.to_owned()));
        }
        for url in ["http://a:1", "HTTP://a:1", "https://[::1]:1", "unix://a"] {
            assert_eq!(judge(url), Ok(()));
        }
    }
}
