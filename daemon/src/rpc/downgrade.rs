//! Downgrade: as in etcd, the cluster is told that it is being taken to the level before. So far
//! nothing has to be kept from that level; members show in their status that a downgrade runs.

use althing_api::commandpb::{SetDowngrade, command};
use althing_api::error::Error;
use althing_api::etcdserverpb::downgrade_request::DowngradeAction;
use althing_api::etcdserverpb::{DowngradeRequest, DowngradeResponse};
use tonic::Status;

use super::{Rpc, status};
use crate::metrics::RequestKind;

/// A level: major and minor.
type Level = (u64, u64);

impl Rpc {
    pub(super) async fn serve_downgrade(
        &self,
        request: DowngradeRequest,
    ) -> Result<DowngradeResponse, Status> {
        let wanted = request.version.as_str();
        match DowngradeAction::try_from(request.action) {
            Ok(DowngradeAction::Validate) => {
                self.validate(wanted).await?;
            }
            Ok(DowngradeAction::Enable) => {
                let (major, minor) = self.validate(wanted).await?;
                self.set_downgrade(format!("{major}.{minor}.0")).await?;
            }
            Ok(DowngradeAction::Cancel) => {
                self.read_index().await?;
                // Without a downgrade there is nothing to do, which etcd 3.7 no longer refuses.
                if self.handles.store().downgrade_target().is_some() {
                    self.set_downgrade(String::new()).await?;
                }
            }
            Err(_) => return Err(status::of(Error::UnknownMethod)),
        }
        let (major, minor) = self.cluster_level()?;
        Ok(DowngradeResponse {
            header: None,
            version: format!("{major}.{minor}"),
        })
    }

    /// The level asked for, if the cluster may be taken there.
    async fn validate(&self, wanted: &str) -> Result<Level, Status> {
        let wanted = level(wanted).map_err(status::of)?;
        let current = self.cluster_level()?;
        self.read_index().await?;
        let running = self.handles.store().downgrade_target().is_some();
        check(wanted, current, running).map_err(status::of)?;
        Ok(wanted)
    }

    fn cluster_level(&self) -> Result<Level, Status> {
        let version = self.handles.store().cluster_version();
        let level = version.and_then(|version| level(&version).ok());
        level.ok_or_else(|| status::of(Error::ClusterVersionUnavailable))
    }

    async fn set_downgrade(&self, target: String) -> Result<(), Status> {
        let request = command::Request::SetDowngrade(SetDowngrade { target });
        let done = self.propose(RequestKind::DowngradeInfoSet, request).await;
        done.map(drop)
    }
}

/// Reads "3.6", "3.6.0" or "3.6.0-rc.1+build", as etcd does.
fn level(version: &str) -> Result<Level, Error> {
    semantic(version)
        .or_else(|| semantic(&format!("{version}.0")))
        .ok_or(Error::WrongDowngradeVersionFormat)
}

fn semantic(version: &str) -> Option<Level> {
    let (version, metadata) = version.split_once('+').unwrap_or((version, ""));
    let (version, pre_release) = version.split_once('-').unwrap_or((version, ""));
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    if !pre_release.bytes().chain(metadata.bytes()).all(is_known) {
        return None;
    }
    let mut numbers = version.splitn(3, '.').map(number);
    let (major, minor) = (numbers.next()??, numbers.next()??);
    numbers.next()??;
    Some((major, minor))
}

fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number: i64 = is_number.then(|| text.parse().ok()).flatten()?;
    u64::try_from(number).ok()
}

/// Only the level before the current one will do, and only one downgrade at a time.
fn check(wanted: Level, current: Level, running: bool) -> Result<(), Error> {
    let before = (current.0, current.1.checked_sub(1).unwrap_or(u64::MAX));
    if wanted != before {
        return Err(Error::InvalidDowngradeTarget);
    }
    if running {
        return Err(Error::DowngradeInProgress);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_etcd_reads_them() {
        for right in [
            "3.6",
            "3.6.0",
            "3.6.1",
            "03.06",
            "3.6.0-rc",
            "3.6.0-",
            "3.6.0-rc.1+m",
        ] {
            assert_eq!(level(right), Ok((3, 6)), "{right}");
        }
        let too_large = format!("3.6.{}", u64::MAX);
        let wrong = [
            "", "3", "3.x", "3.6.0.1", "a.b", "3.", " 3.6", "3.6 ", "-3.6", "+3.6",
        ];
        for wrong in wrong
            .into_iter()
            .chain(["3.6-rc", "3.6.0-r_c", too_large.as_str()])
        {
            assert_eq!(
                level(wrong),
                Err(Error::WrongDowngradeVersionFormat),
                "{wrong}"
            );
        }
    }

    #[test]
    fn only_the_level_before_will_do_and_once() {
        assert_eq!(check((3, 6), (3, 7), false), Ok(()));
        let invalid = Err(Error::InvalidDowngradeTarget);
        for wanted in [(3, 7), (3, 5), (2, 6), (3, 8)] {
            assert_eq!(check(wanted, (3, 7), true), invalid);
        }
        assert_eq!(check((3, 6), (3, 7), true), Err(Error::DowngradeInProgress));
    }
}
