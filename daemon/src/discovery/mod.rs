//! DNS discovery: the first members of a cluster, from the SRV records of a domain.
//!
//! ```text
//!  _etcd-server-ssl[-name]._tcp.domain   members that speak https
//!  _etcd-server[-name]._tcp.domain       members that speak http
//! ```
//! Each record is one URL of one member. Those that lead to an address that this member advertises
//! are its own; every other is a member whose name is not known. All members must read the same
//! list, so no record is left out: a target that does not resolve yet stays in it, and a record
//! that cannot be right is refused by its name.

mod records;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use althing_conf::config::Cluster;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::{Resolver, TokioResolver};

use self::records::{Found, cluster};

/// A member's name and its URLs.
pub type Entry = (String, Vec<String>);

/// Why the records do not make a cluster.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// There is no resolver to ask.
    #[error(
        "--discovery-srv: the name servers of this host cannot be used: {0}; name some with \
        --discovery-srv-servers"
    )]
    Resolver(String),
    /// Neither query found a record.
    #[error("--discovery-srv: error querying DNS SRV records: {}", .0.join(" and "))]
    NoRecords(Vec<String>),
    /// No record is this member's.
    #[error(
        "--discovery-srv: no record leads to this member, {name:?}, which advertises {own}; \
        found {found}; add a record, or advertise the URL of one"
    )]
    NotNamed {
        /// The member's name.
        name: String,
        /// Its URLs.
        own: String,
        /// What the records say.
        found: String,
    },
    /// A record of this member names another protocol than the member.
    #[error(
        "--discovery-srv: bootstrap at {found} from the DNS record of {service} has scheme \
        mismatch with expected peer {own}"
    )]
    Scheme {
        /// What the record says.
        found: String,
        /// The name of the record.
        service: String,
        /// The URL that this member advertises.
        own: String,
    },
    /// Two records name the same URL.
    #[error("--discovery-srv: {url} is named twice, by {first} and by {second}; keep one record")]
    Twice {
        /// The URL.
        url: String,
        /// The name of a record.
        first: String,
        /// The name of another.
        second: String,
    },
}

/// The members that the records of the domain in `asked` name. `name` is this member's, and `own`
/// the URLs that it advertises.
pub async fn discover(
    asked: &Cluster,
    name: &str,
    own: &[String],
) -> Result<Vec<Entry>, DiscoveryError> {
    let resolver = resolver(&asked.discovery_srv_servers);
    let resolver = resolver.map_err(|error| DiscoveryError::Resolver(error.to_string()))?;
    let mut addresses = Vec::new();
    for url in own {
        addresses.push((url.clone(), addresses_of(&resolver, host_of(url)).await));
    }
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for (service, scheme) in [("etcd-server-ssl", "https"), ("etcd-server", "http")] {
        let suffix = match asked.discovery_srv_name.as_str() {
            "" => String::new(),
            name => format!("-{name}"),
        };
        let domain = asked.discovery_srv.trim_end_matches('.');
        let service = format!("_{service}{suffix}._tcp.{domain}");
        match records(&resolver, &service, scheme).await {
            Ok(records) => found.extend(records),
            Err(error) => failures.push(format!("{service}: {error}")),
        }
    }
    if found.is_empty() {
        return Err(DiscoveryError::NoRecords(failures));
    }
    let members = cluster(name, &addresses, found)?;
    let shown = |(name, urls): &Entry| format!("{name}={}", urls.join(","));
    let shown: Vec<String> = members.iter().map(shown).collect();
    tracing::info!(
        domain = asked.discovery_srv,
        members = shown.join(","),
        "found members in DNS"
    );
    Ok(members)
}

/// Asks `servers`, or those of /etc/resolv.conf.
fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    if servers.is_empty() {
        return Resolver::builder_tokio()?.build();
    }
    let server = |address: &SocketAddr| {
        let connection = |protocol| {
            let mut connection = ConnectionConfig::new(protocol);
            connection.port = address.port();
            connection
        };
        let connections = [ProtocolConfig::Udp, ProtocolConfig::Tcp].map(connection);
        NameServerConfig::new(address.ip(), true, connections.to_vec())
    };
    let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
    Resolver::builder_with_config(config, TokioRuntimeProvider::default()).build()
}

async fn records(
    resolver: &TokioResolver,
    service: &str,
    scheme: &'static str,
) -> Result<Vec<Found>, NetError> {
    // The dot at the end keeps the search list of the host out of it.
    let answer = resolver.srv_lookup(format!("{service}.")).await?;
    let mut found = Vec::new();
    for record in answer.answers() {
        let RData::SRV(srv) = &record.data else {
            continue;
        };
        let target = srv.target.to_string();
        let host = format!("{}:{}", target.trim_end_matches('.'), srv.port);
        found.push(Found {
            addresses: addresses_of(resolver, &host).await,
            service: service.to_owned(),
            scheme,
            host,
        });
    }
    Ok(found)
}

/// The addresses of `host`, a name or an address with a port; empty if it does not resolve.
async fn addresses_of(resolver: &TokioResolver, host: &str) -> BTreeSet<SocketAddr> {
    if let Ok(address) = host.parse() {
        return BTreeSet::from([address]);
    }
    let parts = host
        .rsplit_once(':')
        .and_then(|(name, port)| Some((name, port.parse().ok()?)));
    let Some((name, port)) = parts else {
        return BTreeSet::new();
    };
    match resolver.lookup_ip(format!("{name}.")).await {
        Ok(answer) => answer.iter().map(|ip| SocketAddr::new(ip, port)).collect(),
        Err(error) => {
            tracing::warn!(name, %error, "a host does not resolve yet");
            BTreeSet::new()
        }
    }
}

fn host_of(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, host)| host)
}
