//! Where to connect: an endpoint as the operator writes it becomes a transport endpoint.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::failure::Failure;
use crate::flags::{Settings, TlsSettings};
use crate::trust;

/// etcd's servers take probing a connection more often than this for an attack.
const KEEPALIVE_TIME_MIN: Duration = Duration::from_secs(10);
/// Where systems keep the CA certificates they trust; the first one that exists counts.
const SYSTEM_CA_FILES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A place to connect to, and its name in messages.
#[derive(Clone, Debug)]
pub struct Target {
    /// The endpoint as the operator wrote it.
    pub name: String,
    /// The endpoint, ready to connect.
    pub endpoint: Endpoint,
}

/// Reads every endpoint of `settings`.
///
/// # Errors
/// An endpoint cannot be read, or its TLS files cannot be used.
pub fn targets(settings: &Settings) -> Result<Vec<Target>, Failure> {
    let tls = client_tls(&settings.tls)?;
    let target = |name: &String| {
        Ok(Target {
            name: name.clone(),
            endpoint: endpoint(name, settings, tls.as_ref())?,
        })
    };
    settings.endpoints.iter().map(target).collect()
}

/// The scheme of an endpoint in small letters, if it has one, and its address. What stands behind
/// the port of a URL means nothing to gRPC, and is left out as etcd's clients do.
pub fn parts(name: &str) -> (Option<String>, &str) {
    let Some((scheme, rest)) = name.split_once("://") else {
        return (None, name);
    };
    let scheme = scheme.to_ascii_lowercase();
    let address = match scheme.as_str() {
        "http" | "https" => rest.split(['/', '?', '#']).next().unwrap_or_default(),
        _ => rest.trim_end_matches('/'),
    };
    (Some(scheme), address)
}

fn endpoint(
    name: &str,
    settings: &Settings,
    tls: Option<&ClientTlsConfig>,
) -> Result<Endpoint, Failure> {
    let refuse = |why: &str| Failure::arguments(format!("endpoint {name:?}: {why}"));
    let (scheme, address) = parts(name);
    let scheme = scheme.as_deref();
    let secure = match scheme {
        None => tls.is_some() || settings.tls.required,
        Some("http" | "unix") => false,
        Some("https") => true,
        Some(other) => {
            let why = format!("scheme {other:?} is not known: use http, https or unix");
            return Err(refuse(&why));
        }
    };
    let url = match (scheme, secure) {
        (Some("unix"), _) => format!("unix://{address}"),
        (_, true) => format!("https://{address}"),
        (_, false) => format!("http://{address}"),
    };
    if scheme != Some("unix") {
        let port = address
            .rsplit_once(':')
            .map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(_))) {
            return Err(refuse("expected host:port"));
        }
    }
    let mut endpoint = Endpoint::from_shared(url).map_err(|error| refuse(&cause(&error)))?;
    if secure {
        let config = tls.cloned().unwrap_or_default();
        let secured = if settings.tls.skip_verify {
            endpoint.tls_config_with_verifier(config, trust::anybody())
        } else {
            endpoint.tls_config(trusted(config, &settings.tls)?)
        };
        endpoint = secured.map_err(|error| refuse(&cause(&error)))?;
    }
    Ok(endpoint
        .connect_timeout(settings.dial_timeout)
        .http2_keep_alive_interval(settings.keepalive_time.max(KEEPALIVE_TIME_MIN))
        .keep_alive_timeout(settings.keepalive_timeout)
        .tcp_nodelay(true))
}

/// The TLS set-up that the certificate flags describe, which does not trust any CA yet; `None` when
/// none of them is given.
fn client_tls(flags: &TlsSettings) -> Result<Option<ClientTlsConfig>, Failure> {
    let (cert, key) = (flags.cert_file.as_deref(), flags.key_file.as_deref());
    if cert.is_none() && key.is_none() && flags.ca_file.is_none() {
        return Ok(None);
    }
    let mut config = ClientTlsConfig::new();
    match (cert, key) {
        (Some(cert), Some(key)) => {
            config = config.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        (None, None) => {}
        _ => {
            let text = |path: Option<&Path>| path.map_or_else(String::new, shown);
            let (cert, key) = (text(cert), text(key));
            let text = "KeyFile and CertFile must both be present";
            return Err(Failure::arguments(format!(
                "{text}[key: {key}, cert: {cert}]"
            )));
        }
    }
    // A file that is named but unreadable is a mistake even where no endpoint uses it.
    flags.ca_file.as_deref().map(read).transpose()?;
    Ok(Some(config))
}

/// The set-up that trusts the CAs of `--cacert`, or otherwise those of the system.
fn trusted(config: ClientTlsConfig, flags: &TlsSettings) -> Result<ClientTlsConfig, Failure> {
    match &flags.ca_file {
        Some(path) => Ok(config.ca_certificate(Certificate::from_pem(read(path)?))),
        None => trust_system(config),
    }
}

fn trust_system(config: ClientTlsConfig) -> Result<ClientTlsConfig, Failure> {
    let named = std::env::var("SSL_CERT_FILE").ok();
    let mut paths = named.iter().map(String::as_str).chain(SYSTEM_CA_FILES);
    let bundle = paths.find_map(|path| fs::read(path).ok()).ok_or_else(|| {
        Failure::arguments("no CA certificates on this system: name the server's CA with --cacert")
    })?;
    Ok(config.ca_certificate(Certificate::from_pem(bundle)))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        Failure::arguments(format!("open {}: {reason}", shown(path)))
    })
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The innermost cause of a transport error, which says the most.
pub fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_read_as_etcds_clients_read_it() {
        let cases = [
            ("a:1", None, "a:1"),
            ("http://a:1", Some("http"), "a:1"),
            ("HTTP://a:1/", Some("http"), "a:1"),
            ("Https://[::1]:1/path?query", Some("https"), "[::1]:1"),
            ("unix:///a/b", Some("unix"), "/a/b"),
        ];
        for (name, scheme, address) in cases {
            assert_eq!(parts(name), (scheme.map(str::to_owned), address), "{name}");
        }
    }
}
