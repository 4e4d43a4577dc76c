//! `downgrade validate`, `enable`, `cancel`: taking the cluster to the version before.

use std::io::Write;

use althing_api::etcdserverpb::DowngradeRequest;
use althing_api::etcdserverpb::downgrade_request::DowngradeAction;
use clap::{ArgMatches, Command};

use crate::args::{manners, positional};
use crate::client::Client;
use crate::cmd::chosen;
use crate::failure::Failure;
use crate::flags::Settings;

/// The command's grammar.
pub fn command() -> Command {
    let validate = manners(Command::new("validate"))
        .about("Validates downgrade capability before starting downgrade")
        .override_usage("althingctl downgrade validate <TARGET_VERSION>");
    let enable = manners(Command::new("enable"))
        .about("Starts a downgrade action to cluster")
        .override_usage("althingctl downgrade enable <TARGET_VERSION>");
    let cancel = manners(Command::new("cancel"))
        .about("Cancels the ongoing downgrade action to cluster")
        .override_usage("althingctl downgrade cancel");
    manners(Command::new("downgrade"))
        .about("Downgrade related commands")
        .subcommands([validate, enable, cancel].map(|command| command.arg(positional())))
}

/// Runs one of the three commands.
///
/// # Errors
/// Wrong arguments, the server's refusal, or the deadline.
pub async fn run(
    matches: &ArgMatches,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (name, values) = chosen(matches);
    let arguments = values.arguments();
    let version = match (name, arguments.as_slice()) {
        ("cancel", _) => String::new(),
        (_, []) => return Err(Failure::arguments("TARGET_VERSION not provided")),
        (_, [version]) if version.is_empty() => {
            return Err(Failure::arguments("target version not provided"));
        }
        (_, [version]) => String::from_utf8_lossy(version).into_owned(),
        _ => return Err(Failure::arguments("too many arguments")),
    };
    let action = match name {
        "validate" => DowngradeAction::Validate,
        "enable" => DowngradeAction::Enable,
        _ => DowngradeAction::Cancel,
    };
    settings.printer.check_changed()?;
    let request = DowngradeRequest {
        action: action.into(),
        version,
    };
    let answer = Client::open(settings).await?.downgrade(request).await?;
    let version = &answer.version;
    let done = format!("Downgrade {name} success, cluster version {version}");
    settings.printer.changed(out, &answer, &done)
}
