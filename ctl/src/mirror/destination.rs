//! The flags that say how the destination is reached.

use std::path::PathBuf;

use bytes::Bytes;
use clap::Arg;

use crate::args::{Values, switch, valued};
use crate::failure::Failure;
use crate::flags::{Login, Settings, TlsSettings};

/// The flags, named as etcdctl names them.
pub fn arguments() -> [Arg; 6] {
    [
        valued(
            "dest-cert",
            "",
            "TLS certificate file that identifies this client to the destination",
        ),
        valued("dest-key", "", "TLS key file for the destination"),
        valued(
            "dest-cacert",
            "",
            "CA bundle that certificates of the destination are checked with",
        ),
        switch(
            "dest-insecure-transport",
            "No TLS to a destination that names no scheme",
        )
        .default_value("true"),
        valued(
            "dest-user",
            "",
            "Destination username[:password] (asked for if no password is given)",
        ),
        valued(
            "dest-password",
            "",
            "Destination password (then --dest-user is the name alone)",
        ),
    ]
}

/// The settings for the destination at `endpoints`.
///
/// # Errors
/// A flag that cannot be read.
pub fn settings(
    values: Values<'_>,
    source: &Settings,
    endpoints: &Bytes,
) -> Result<Settings, Failure> {
    let file = |name| Some(PathBuf::from(values.text(name))).filter(|path| *path != *"");
    let (user, password) = (values.text("dest-user"), values.text("dest-password"));
    let login = match (user.as_str(), password.as_str()) {
        ("", _) => None,
        (user, "") => Some(match user.split_once(':') {
            Some((name, password)) => Login {
                name: name.to_owned(),
                password: Some(password.to_owned()),
            },
            None => Login {
                name: user.to_owned(),
                password: None,
            },
        }),
        (user, password) => Some(Login {
            name: user.to_owned(),
            password: Some(password.to_owned()),
        }),
    };
    let endpoints = String::from_utf8_lossy(endpoints);
    Ok(Settings {
        endpoints: endpoints.split(',').map(str::to_owned).collect(),
        login,
        token: None,
        tls: TlsSettings {
            ca_file: file("dest-cacert"),
            cert_file: file("dest-cert"),
            key_file: file("dest-key"),
            required: !values.switch("dest-insecure-transport")?,
            skip_verify: false,
        },
        ..source.clone()
    })
}
