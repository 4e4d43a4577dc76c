//! Rules across options. All of them are judged, so that one start shows every mistake.
//!
//! A rule is skipped when a value it compares was refused already: it would only complain about a
//! default that nobody chose.

use crate::config::{Config, InitialState, Url};
use crate::error::Fault;
use crate::reach;
use crate::reader::{self, Reader};
use std::collections::BTreeSet;
use std::time::Duration;

/// What the WAL writes around a command, rounded up generously, in bytes.
const RECORD_OVERHEAD: u64 = 64 << 10;

/// Judges every rule.
pub(crate) fn check(config: &Config, reader: &mut Reader<'_>) {
    names(config, reader);
    timing(config, reader);
    advertised(reader);
    emptied(config, reader);
    initial_cluster(config, reader);
    discovery(config, reader);
    joining(config, reader);
    listeners(config, reader);
    sizes(config, reader);
    tracing(config, reader);
}

/// A log level: a word of etcd, or a filter list of `target=level`.
pub(crate) fn log_level(value: &config::Value) -> Result<String, Fault> {
    const LEVELS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];
    let text = reader::shown(value).trim().to_ascii_lowercase();
    let is_level = |text: &str| text == "off" || LEVELS.contains(&text);
    let is_filter = |part: &str| match part.rsplit_once('=') {
        Some((target, level)) => is_target(target) && is_level(level),
        None => is_level(part),
    };
    match text.as_str() {
        // etcd's two levels above error; nothing of ours is logged there.
        "panic" | "fatal" => Ok("error".to_owned()),
        _ if text.split(',').all(is_filter) => Ok(text),
        _ => Err(Fault::new(
            "is no log level",
            "write debug, info, warn or error",
        )),
    }
}

/// A module, perhaps with a span in brackets behind it, of which the daemon reads the inside.
fn is_target(text: &str) -> bool {
    let module = match text.split_once('[') {
        Some((module, span)) if span.ends_with(']') => module,
        Some(_) => return false,
        None if text.is_empty() => return false,
        None => text,
    };
    let is_of_a_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '-');
    module.chars().all(is_of_a_name)
}

/// Judges one rule over the options it compares; the first one is blamed.
fn rule(reader: &mut Reader<'_>, keys: &[&str], broken: Option<Fault>) {
    if let Some(fault) = broken
        && !keys.iter().any(|key| reader.is_refused(key))
    {
        reader.refuse(keys[0], fault);
    }
}

fn names(config: &Config, reader: &mut Reader<'_>) {
    let name = &config.member.name;
    let broken =
        (name.trim().is_empty() || name.contains(['=', ',']) || name.contains('\0')).then(|| {
            Fault::new(
                "is no name for a member",
                "use letters, digits, dots and dashes",
            )
        });
    rule(reader, &["member.name"], broken);
}

fn tracing(config: &Config, reader: &mut Reader<'_>) {
    let (host, port) = config.trace.address.rsplit_once(':').unwrap_or_default();
    let is_host = !host.is_empty() && !host.contains(['/', ' ']);
    let broken = (!is_host || port.parse::<u16>().is_err()).then(|| {
        Fault::new(
            "is no host and port",
            "write it as localhost:4317, without a scheme",
        )
    });
    rule(reader, &["trace.address"], broken);
}

fn timing(config: &Config, reader: &mut Reader<'_>) {
    let (heartbeat, election) = (config.raft.heartbeat_interval, config.raft.election_timeout);
    let broken = (heartbeat < Duration::from_millis(1)).then(|| {
        Fault::new(
            "is too short",
            "the least is 1 ms; 100 ms suits most networks",
        )
    });
    rule(reader, &["raft.heartbeat_interval"], broken);

    let least = heartbeat.saturating_mul(5);
    let broken = (election < least).then(|| {
        let (election, heartbeat) = (election.as_millis(), heartbeat.as_millis());
        Fault::new(
            format!("{election} ms is less than five heartbeats of {heartbeat} ms"),
            format!(
                "use at least {} ms, or a shorter heartbeat",
                least.as_millis()
            ),
        )
    });
    rule(
        reader,
        &["raft.election_timeout", "raft.heartbeat_interval"],
        broken,
    );

    let broken = (election > Duration::from_secs(50))
        .then(|| Fault::new("is too long", "the most is 50000 ms"));
    rule(reader, &["raft.election_timeout"], broken);
}

/// Where clients should dial is not known when only the listeners are set.
fn advertised(reader: &mut Reader<'_>) {
    let is_missing = reader.is_set("client.listen_urls") && !reader.is_set("client.advertise_urls");
    // The sentence is etcd's own: operators and tools know it.
    let broken = is_missing.then(|| {
        Fault::new(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
            "set it to the URLs that clients can dial",
        )
    });
    rule(reader, &["client.advertise_urls"], broken);
}

/// A script whose variable is not set would found a cluster of its own with each member.
fn emptied(config: &Config, reader: &mut Reader<'_>) {
    if !reach::is_first_start(config) {
        return;
    }
    for key in ["cluster.initial", "cluster.join"] {
        let broken = reader.is_emptied_by_flag(key).then(|| {
            Fault::new(
                "is empty, and would begin a cluster of this member alone",
                "name the members, or leave the flag out",
            )
        });
        rule(reader, &[key], broken);
    }
}

fn initial_cluster(config: &Config, reader: &mut Reader<'_>) {
    let keys = ["cluster.initial", "member.name", "peer.advertise_urls"];
    // A later start does not take the list as the cluster's members, so it cannot be wrong.
    if !reader.is_set("cluster.initial") || !reach::is_first_start(config) {
        return;
    }
    let name = &config.member.name;
    let own = config
        .cluster
        .initial
        .iter()
        .find(|(known, _)| known == name);
    let joins = config.cluster.initial_state == InitialState::Existing;
    let broken = match own {
        None => Some(Fault::new(
            format!("does not name this member, {name:?}"),
            format!("add {name}=<its peer URL>, or set --name to one of the names"),
        )),
        Some(_) if joins && config.cluster.initial.len() == 1 => Some(Fault::new(
            "names no other member, so there is nobody to join",
            "add the members that the cluster has",
        )),
        Some((_, urls)) => {
            let listed: BTreeSet<&String> = urls.iter().collect();
            let advertised: BTreeSet<&String> = config.peer.advertise_urls.iter().collect();
            (listed != advertised).then(|| {
                let (listed, advertised) = (urls.join(","), config.peer.advertise_urls.join(","));
                Fault::new(
                    format!(
                        "gives this member, {name:?}, the URLs {listed}, but it advertises \
                         {advertised}"
                    ),
                    "make --initial-advertise-peer-urls and this entry the same",
                )
            })
        }
    };
    rule(reader, &keys, broken);
}

/// The first members come from one place.
fn discovery(config: &Config, reader: &mut Reader<'_>) {
    // A later start knows which member it is, so options left from the first one do no harm.
    if !reach::is_first_start(config) {
        return;
    }
    let others = reader.is_set("cluster.initial") || reader.is_set("cluster.join");
    let discovers = !config.cluster.discovery_srv.is_empty();
    let broken = (discovers && others).then(|| {
        Fault::new(
            "multiple discovery or bootstrap flags are set",
            "choose one of --initial-cluster, --discovery-srv and --join",
        )
    });
    let keys = ["cluster.discovery_srv", "cluster.initial", "cluster.join"];
    rule(reader, &keys, broken);
    for key in [
        "cluster.discovery_srv_name",
        "cluster.discovery_srv_servers",
    ] {
        let is_idle = !discovers && reader.is_set(key);
        let broken = is_idle
            .then(|| Fault::new("has no effect without --discovery-srv", "name a domain too"));
        rule(reader, &[key, "cluster.discovery_srv"], broken);
    }
}

/// A member that joins learns the members from the cluster; a list might contradict it.
fn joining(config: &Config, reader: &mut Reader<'_>) {
    if config.cluster.join.is_empty() || !reach::is_first_start(config) {
        return;
    }
    let contradicts = reader.is_set("cluster.initial");
    let broken = contradicts.then(|| {
        Fault::new(
            "is given together with --initial-cluster",
            "give one of them: --join asks the cluster for its members",
        )
    });
    rule(reader, &["cluster.join", "cluster.initial"], broken);

    let client = &config.client;
    let is_own = |url: &&String| leads_here(url, &client.advertise_urls, &client.listen_urls);
    let own = config.cluster.join.iter().find(is_own);
    let broken = own.map(|url| {
        Fault::new(
            format!("{url} is this member's own client URL"),
            "name client URLs of members that the cluster has already",
        )
    });
    let keys = [
        "cluster.join",
        "client.advertise_urls",
        "client.listen_urls",
    ];
    rule(reader, &keys, broken);
}

/// Whether clients that dial `url` reach this member, as far as the texts of its own URLs tell.
fn leads_here(url: &str, advertised: &[String], listeners: &[Url]) -> bool {
    let listens = |listener: &Url| {
        let names: &[&str] = match listener.host.as_str() {
            "localhost" | "127.0.0.1" | "0.0.0.0" | "::" => &["localhost", "127.0.0.1"],
            _ => &[],
        };
        let mut names = names.iter();
        let is_named = names.any(|name| url == format!("http://{name}:{}", listener.port));
        is_named || url == listener.to_string()
    };
    advertised.iter().any(|own| own == url) || listeners.iter().any(listens)
}

/// Two listeners on one address cannot both be opened.
fn listeners(config: &Config, reader: &mut Reader<'_>) {
    let groups = [
        ("client.listen_urls", &config.client.listen_urls),
        ("peer.listen_urls", &config.peer.listen_urls),
        ("client.metrics_urls", &config.client.metrics_urls),
    ];
    for (position, (key, urls)) in groups.iter().enumerate() {
        for (other_key, others) in &groups[..position] {
            let taken = |url: &&Url| {
                url.port != 0
                    && others
                        .iter()
                        .any(|o| o.port == url.port && o.host == url.host)
            };
            let broken = urls.iter().find(taken).map(|url| {
                Fault::new(
                    format!("{url} is already one of {other_key}"),
                    "give each listener an address or port of its own",
                )
            });
            rule(reader, &[key, other_key], broken);
        }
    }
}

fn sizes(config: &Config, reader: &mut Reader<'_>) {
    let request = config.client.request_bytes_max;
    let segment = config.raft.wal_segment_bytes;
    let broken = (request + RECORD_OVERHEAD > segment).then(|| {
        Fault::new(
            format!("a request of {request} bytes does not fit into one segment"),
            format!(
                "use at least {} bytes, or smaller requests",
                request + RECORD_OVERHEAD
            ),
        )
    });
    rule(
        reader,
        &["raft.wal_segment_bytes", "client.request_bytes_max"],
        broken,
    );

    let pending = config.store.pending_bytes_max;
    let broken = (request > pending).then(|| {
        Fault::new(
            format!("is less than one request of {request} bytes"),
            format!("use at least {request} bytes"),
        )
    });
    rule(
        reader,
        &["store.pending_bytes_max", "client.request_bytes_max"],
        broken,
    );
}

#[cfg(test)]
mod tests {
    use crate::urls;

    #[test]
    fn a_url_leads_here_if_it_is_advertised_or_listened_on() {
        let advertised = ["http://a.example:2379".to_owned()];
        let leads_here = |url: &str, listener: &str| {
            let listeners = urls::listen(&[listener.to_owned()]).unwrap();
            super::leads_here(url, &advertised, &listeners)
        };
        let everywhere = "http://0.0.0.0:2379";
        assert!(leads_here("http://a.example:2379", everywhere));
        assert!(leads_here("http://localhost:2379", everywhere));
        assert!(leads_here("http://127.0.0.1:2379", "http://localhost:2379"));
        assert!(leads_here("http://10.0.0.1:2379", "http://10.0.0.1:2379"));
        assert!(!leads_here("http://localhost:2379", "http://10.0.0.1:2379"));
        assert!(!leads_here("http://localhost:2378", everywhere));
        assert!(!leads_here("http://b.example:2379", everywhere));
    }
}
