//! The members that a restored cluster begins with, as `--initial-cluster` lists them.

/// A member's name and peer URLs.
pub(super) type Named = (String, Vec<String>);

/// A list of peer URLs. Errors, as text: one without scheme, host or port, or with a path.
pub(super) fn urls(list: &str) -> Result<Vec<String>, String> {
    let mut urls: Vec<String> = Vec::new();
    for url in list.split(',').map(str::trim) {
        let rest = url
            .strip_prefix("http://")
            .or_else(|| url.strip_prefix("https://"));
        let rest = rest.ok_or_else(|| {
            format!("URL scheme must be http or https: {url:?}; write it as http://10.0.0.1:2380")
        })?;
        if rest.contains(['/', '?', '#']) {
            return Err(format!(
                "URL must not contain a path: {url:?}; end it after the port"
            ));
        }
        let sound = rest.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
        });
        if !sound {
            return Err(format!("URL must have a host and a port: {url:?}"));
        }
        if urls.iter().any(|known| known == url) {
            return Err(format!("{url} is given twice; give it once"));
        }
        urls.push(url.to_owned());
    }
    urls.sort();
    Ok(urls)
}

/// The members of `name=url,...`; a name may repeat. Errors, as text.
pub(super) fn members(list: &str) -> Result<Vec<Named>, String> {
    let mut members: Vec<Named> = Vec::new();
    for pair in list.split(',') {
        let named = pair
            .split_once('=')
            .filter(|(name, _)| !name.trim().is_empty());
        let (name, url) = named.ok_or_else(|| {
            let example = "one=http://10.0.0.1:2380,two=http://10.0.0.2:2380";
            format!("--initial-cluster: {pair:?} is not name=url; write it as {example}")
        })?;
        let (name, url) = (name.trim(), urls(url)?.remove(0));
        if members.iter().any(|(_, urls)| urls.contains(&url)) {
            return Err(format!("initial cluster has duplicate url {url}"));
        }
        match members.iter_mut().find(|(known, _)| known == name) {
            Some((_, urls)) => urls.push(url),
            None => members.push((name.to_owned(), vec![url])),
        }
    }
    members.iter_mut().for_each(|(_, urls)| urls.sort());
    Ok(members)
}

/// Refuses a cluster that does not have this member with these URLs.
pub(super) fn check(members: &[Named], name: &str, own_urls: &[String]) -> Result<(), String> {
    let Some((_, urls)) = members.iter().find(|(known, _)| known == name) else {
        return Err(format!(
            "couldn't find local name {name:?} in the initial cluster configuration; add it to \
             --initial-cluster, or change --name"
        ));
    };
    if urls != own_urls {
        return Err(format!(
            "--initial-cluster has {name}={} but missing from \
             --initial-advertise-peer-urls={}; give both the same URLs",
            urls.join(","),
            own_urls.join(",")
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_with_two_urls_is_one_member() {
        let list = "a=http://h:2,b=http://i:1,a=http://h:1";
        let a = (
            "a".to_owned(),
            vec!["http://h:1".to_owned(), "http://h:2".to_owned()],
        );
        let b = ("b".to_owned(), vec!["http://i:1".to_owned()]);
        assert_eq!(members(list), Ok(vec![a, b]));
    }

    #[test]
    fn lists_that_are_wrong_are_refused_with_what_is_wrong() {
        for (list, part) in [
            ("http://h:1", "is not name=url"),
            ("a=h:1", "scheme"),
            ("a=http://h", "port"),
            ("a=http://h:1/x", "path"),
            ("a=http://h:1,b=http://h:1", "duplicate url"),
        ] {
            let text = members(list).unwrap_err();
            assert!(text.contains(part), "{list}: {text}");
        }
    }

    #[test]
    fn a_member_must_be_listed_with_its_own_urls() {
        let listed = members("a=http://h:1,b=http://h:2").unwrap();
        let urls = |url: &str| vec![url.to_owned()];
        assert_eq!(check(&listed, "b", &urls("http://h:2")), Ok(()));
        assert!(check(&listed, "c", &urls("http://h:2")).is_err());
        assert!(check(&listed, "a", &urls("http://h:2")).is_err());
    }
}
