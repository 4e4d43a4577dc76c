//! From SRV records to members. Pure.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::{DiscoveryError, Entry};

/// One SRV record.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// The name that was asked for.
    pub(super) service: String,
    /// The protocol of the members found under that name.
    pub(super) scheme: &'static str,
    /// Target and port.
    pub(super) host: String,
    /// Where the target leads to.
    pub(super) addresses: BTreeSet<SocketAddr>,
}

impl Found {
    fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.host)
    }
}

/// The members that `found` names: `name` for records that lead to a URL of `own`, a number for
/// each other.
pub(super) fn cluster(
    name: &str,
    own: &[(String, BTreeSet<SocketAddr>)],
    mut found: Vec<Found>,
) -> Result<Vec<Entry>, DiscoveryError> {
    // Name servers give their records in any order.
    found.sort_by_key(Found::url);
    for two in found.windows(2) {
        if two[0].url() == two[1].url() {
            return Err(DiscoveryError::Twice {
                url: two[0].url(),
                first: two[0].service.clone(),
                second: two[1].service.clone(),
            });
        }
    }
    let (mut mine, mut others) = (Vec::new(), Vec::new());
    for record in &found {
        let leads_here = |(url, addresses): &&(String, BTreeSet<SocketAddr>)| {
            let same_host = url
                .split_once("://")
                .is_some_and(|(_, host)| host == record.host);
            same_host || !addresses.is_disjoint(&record.addresses)
        };
        let Some((url, _)) = own.iter().find(leads_here) else {
            others.push((others.len().to_string(), vec![record.url()]));
            continue;
        };
        if !url.starts_with(&format!("{}://", record.scheme)) {
            return Err(DiscoveryError::Scheme {
                found: record.url(),
                service: record.service.clone(),
                own: url.clone(),
            });
        }
        mine.push(record.url());
    }
    if mine.is_empty() {
        let own: Vec<&str> = own.iter().map(|(url, _)| url.as_str()).collect();
        let found: Vec<String> = found.iter().map(Found::url).collect();
        return Err(DiscoveryError::NotNamed {
            name: name.to_owned(),
            own: own.join(","),
            found: found.join(","),
        });
    }
    others.push((name.to_owned(), mine));
    Ok(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "_etcd-server._tcp.example";

    fn at(addresses: &[&str]) -> BTreeSet<SocketAddr> {
        addresses.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn record(scheme: &'static str, host: &str, addresses: &[&str]) -> Found {
        Found {
            service: SERVICE.to_owned(),
            scheme,
            host: host.to_owned(),
            addresses: at(addresses),
        }
    }

    fn own() -> [(String, BTreeSet<SocketAddr>); 1] {
        [("http://here:2380".to_owned(), at(&["10.0.0.1:2380"]))]
    }

    #[test]
    fn the_record_that_leads_here_gets_this_members_name_and_every_other_a_number() {
        let found = vec![
            record("http", "c.example:2380", &[]),
            record("http", "a.example:2380", &["10.0.0.1:2380"]),
            record("http", "b.example:2380", &["10.0.0.2:2380"]),
        ];
        let members = cluster("m", &own(), found).unwrap();
        let shown: Vec<String> = members
            .iter()
            .map(|(n, u)| format!("{n}={}", u[0]))
            .collect();
        let expected = [
            "0=http://b.example:2380",
            "1=http://c.example:2380",
            "m=http://a.example:2380",
        ];
        assert_eq!(shown, expected, "what does not resolve stays in");
    }

    #[test]
    fn another_port_of_this_host_is_another_member() {
        let found = vec![record("http", "a.example:2381", &["10.0.0.1:2381"])];
        let error = cluster("m", &own(), found).unwrap_err().to_string();
        for part in ["\"m\"", "http://here:2380", "http://a.example:2381"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn records_that_cannot_be_right_are_refused_by_name() {
        let found = vec![record("https", "a.example:2380", &["10.0.0.1:2380"])];
        let error = cluster("m", &own(), found).unwrap_err().to_string();
        assert!(
            error.contains("scheme mismatch") && error.contains(SERVICE),
            "{error}"
        );
        let twice = vec![
            record("http", "here:2380", &[]),
            record("http", "here:2380", &[]),
        ];
        let error = cluster("m", &own(), twice).unwrap_err().to_string();
        assert!(
            error.contains("twice") && error.contains("http://here:2380"),
            "{error}"
        );
    }
}
