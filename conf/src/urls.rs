//! Lists of URLs: where to listen, what to advertise, and the first members.
//!
//! To listen, a host must be an IP address or `localhost`, because a name that resolves elsewhere
//! tomorrow would silently move the port. To advertise, any name will do.

use crate::config::Url;
use crate::error::Fault;
use std::net::{IpAddr, SocketAddr};

/// URLs to listen on. Errors: an empty list, a scheme other than http, a host that is a name, a
/// path, a missing port, a URL given twice.
pub(crate) fn listen(items: &[String]) -> Result<Vec<Url>, Fault> {
    let mut urls = Vec::with_capacity(items.len());
    for item in items {
        let url = parse(item)?;
        if url.scheme == "https" {
            return Err(Fault::new(
                format!("{item:?} needs a certificate, and this version has no TLS"),
                "use http, or put a proxy that ends TLS in front",
            ));
        }
        if url.host != "localhost" && url.host.parse::<IpAddr>().is_err() {
            return Err(Fault::new(
                format!("the host of {item:?} is a name, not an address of this machine"),
                "listen on an IP address, 0.0.0.0 or localhost, and advertise the name",
            ));
        }
        if url.port != 0 && urls.contains(&url) {
            return Err(Fault::new(
                format!("{item:?} is given twice"),
                "give it once",
            ));
        }
        urls.push(url);
    }
    if urls.is_empty() {
        Err(none())
    } else {
        Ok(urls)
    }
}

/// URLs to advertise, as given. Errors: an empty list, a scheme other than http or https, a path, a
/// missing port, a URL given twice.
pub(crate) fn advertise(items: &[String]) -> Result<Vec<String>, Fault> {
    let mut urls: Vec<String> = Vec::with_capacity(items.len());
    for item in items {
        parse(item)?;
        if urls.contains(item) {
            return Err(Fault::new(
                format!("{item:?} is given twice"),
                "give it once",
            ));
        }
        urls.push(item.clone());
    }
    if urls.is_empty() {
        Err(none())
    } else {
        Ok(urls)
    }
}

/// Client URLs to ask, or none. Errors: those of [`advertise`], and https.
pub(crate) fn client_urls(items: &[String]) -> Result<Vec<String>, Fault> {
    if items.is_empty() {
        return Ok(Vec::new());
    }
    let urls = advertise(items)?;
    match urls.iter().find(|url| url.starts_with("https:")) {
        None => Ok(urls),
        Some(url) => Err(Fault::new(
            format!("{url:?} needs TLS, and this version has none"),
            "use http",
        )),
    }
}

/// `name=url` pairs; a name may repeat for several URLs. Errors: a pair without `=`, an empty name,
/// a URL that [`advertise`] refuses, a URL of two members.
pub(crate) fn members(items: &[String]) -> Result<Vec<(String, Vec<String>)>, Fault> {
    let mut members: Vec<(String, Vec<String>)> = Vec::new();
    for item in items {
        let Some((name, url)) = item
            .split_once('=')
            .filter(|(name, _)| !name.trim().is_empty())
        else {
            return Err(Fault::new(
                format!("{item:?} is not name=url"),
                "write it as one=http://10.0.0.1:2380,two=http://10.0.0.2:2380",
            ));
        };
        let (name, url) = (name.trim(), url.trim());
        parse(url)?;
        let holds = |(_, urls): &&(String, Vec<String>)| urls.iter().any(|known| known == url);
        if let Some((other, _)) = members.iter().find(holds) {
            let problem = if other == name {
                format!("gives {url} to {name:?} twice")
            } else {
                format!("gives {url} to both {other:?} and {name:?}")
            };
            return Err(Fault::new(problem, "give each URL to one member, once"));
        }
        match members.iter_mut().find(|(known, _)| known == name) {
            Some((_, urls)) => urls.push(url.to_owned()),
            None => members.push((name.to_owned(), vec![url.to_owned()])),
        }
    }
    Ok(members)
}

/// Addresses with ports. Errors: anything else.
pub(crate) fn addresses(items: &[String]) -> Result<Vec<SocketAddr>, Fault> {
    let address = |item: &String| {
        item.parse().map_err(|_| {
            let problem = format!("{item:?} is no address with a port");
            Fault::new(problem, "write it as 10.0.0.53:53 or [fd00::53]:53")
        })
    };
    items.iter().map(address).collect()
}

fn none() -> Fault {
    Fault::new(
        "names no URL",
        "give at least one, such as http://localhost:2379",
    )
}

fn parse(text: &str) -> Result<Url, Fault> {
    let example = "write it as http://10.0.0.1:2379";
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(Fault::new(format!("{text:?} has no scheme"), example));
    };
    match scheme {
        "http" | "https" => {}
        "unix" | "unixs" => {
            return Err(Fault::new(
                format!("{text:?} is a socket file, not supported"),
                example,
            ));
        }
        _ => {
            return Err(Fault::new(
                format!("{text:?} is neither http nor https"),
                example,
            ));
        }
    }
    if rest.contains(['/', '?', '#']) {
        return Err(Fault::new(
            format!("{text:?} has a path"),
            "end it after the port",
        ));
    }
    if rest.contains(|c: char| c == '@' || c.is_whitespace() || c.is_control()) {
        return Err(Fault::new(
            format!("{text:?} is not a URL of host and port"),
            example,
        ));
    }
    let Some((host, port)) = rest
        .rsplit_once(':')
        .filter(|(_, port)| !port.contains(']'))
    else {
        return Err(Fault::new(format!("{text:?} has no port"), example));
    };
    let host = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(inner) => inner,
        None if host.contains([':', '[', ']']) => {
            return Err(Fault::new(
                format!("{text:?} has an IPv6 address without brackets"),
                "write it as http://[::1]:2379",
            ));
        }
        None => host,
    };
    if host.is_empty() {
        return Err(Fault::new(format!("{text:?} has no host"), example));
    }
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port =
        port.parse().ok().filter(|_| digits).ok_or_else(|| {
            Fault::new(format!("{text:?} has no port between 0 and 65535"), example)
        })?;
    Ok(Url {
        scheme: scheme.to_owned(),
        host: host.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    #[test]
    fn addresses_and_localhost_may_be_listened_on() {
        for text in [
            "http://localhost:2379",
            "http://0.0.0.0:0",
            "http://[::1]:2379",
        ] {
            let urls = listen(&list(&[text])).unwrap();
            assert_eq!(urls[0].to_string(), text);
        }
    }

    #[test]
    fn a_name_may_be_advertised_but_not_listened_on() {
        let urls = list(&["http://node1.example:2379"]);
        assert!(advertise(&urls).is_ok());
        assert!(listen(&urls).unwrap_err().remedy.contains("advertise"));
    }

    #[test]
    fn what_is_no_plain_host_and_port_is_refused() {
        let bad = [
            "localhost:2379",
            "ftp://localhost:1",
            "unix://localhost:1",
            "http://localhost",
            "http://localhost:",
            "http://localhost:+1",
            "http://localhost:65536",
            "http://localhost:2379/",
            "http://:2379",
            "http://::1:2379",
            "http://[::1]",
            "http://a@b:1",
            "",
        ];
        for text in bad {
            assert!(listen(&list(&[text])).is_err(), "{text}");
            assert!(advertise(&list(&[text])).is_err(), "{text}");
        }
        assert!(
            listen(&list(&["https://localhost:1"]))
                .unwrap_err()
                .problem
                .contains("TLS")
        );
        assert!(listen(&[]).is_err());
    }

    #[test]
    fn a_url_given_twice_is_refused() {
        let twice = list(&["http://127.0.0.1:1", "http://127.0.0.1:1"]);
        assert!(listen(&twice).unwrap_err().problem.contains("twice"));
        assert!(advertise(&twice).unwrap_err().problem.contains("twice"));
    }

    #[test]
    fn a_url_of_two_members_is_refused_by_the_names_of_both() {
        let both = members(&list(&["a=http://h:1", "b=http://h:1"])).unwrap_err();
        assert_eq!(both.problem, r#"gives http://h:1 to both "a" and "b""#);
        let twice = members(&list(&["a=http://h:1", "a=http://h:1"])).unwrap_err();
        assert_eq!(twice.problem, r#"gives http://h:1 to "a" twice"#);
    }

    #[test]
    fn a_member_may_have_several_urls() {
        let members = members(&list(&["a=http://h:1", "b=http://i:1", "a=http://h:2"])).unwrap();
        assert_eq!(members.len(), 2);
        assert_eq!(
            members[0],
            ("a".to_owned(), list(&["http://h:1", "http://h:2"]))
        );
    }
}
