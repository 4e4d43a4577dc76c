//! What a migration wants to know before it begins, so that it destroys nothing.

use std::time::Duration;

use tokio::time::sleep;

use crate::client::Client;
use crate::failure::{ERROR, Failure};
use crate::notice;

/// How long the probe lives if it is not revoked, in seconds.
const PROBE_TTL: i64 = 30;
/// How often the source is asked for it: the member that is asked may not know it at once.
const LOOKS_MAX: u32 = 3;
/// Time between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// Whether both sides are one cluster. Their ids do not tell: they follow from peer URLs and
/// tokens, which are equal in two clusters with defaults. A lease does.
///
/// # Errors
/// Those of granting, asking and revoking.
pub async fn is_one_cluster(
    source: &mut Client,
    destination: &mut Client,
) -> Result<bool, Failure> {
    let id = destination.grant(PROBE_TTL).await?.id;
    let mut found = false;
    for _ in 0..LOOKS_MAX {
        found = source.time_to_live(id, false).await?.granted_ttl > 0;
        if found {
            break;
        }
        sleep(LOOK_PAUSE).await;
    }
    destination.revoke(id).await?;
    Ok(found)
}

/// Refuses a source whose keys are guarded, because only the keys are carried over; a dry run warns
/// of that.
///
/// # Errors
/// That refusal, and those of asking.
pub async fn check_auth(
    source: &mut Client,
    without_auth: bool,
    dry_run: bool,
) -> Result<(), Failure> {
    if without_auth || !source.has_auth().await? {
        return Ok(());
    }
    let text = "the source has authentication enabled; its users, roles and permissions are not \
                carried over, so that at the destination whoever reaches it could read and write \
                every key";
    if dry_run {
        notice::tell(format!("Warning: {text}"));
        return Ok(());
    }
    let text = format!("{text}; guard the destination otherwise and go on with --without-auth");
    Err(Failure::new(ERROR, text))
}
