//! The small tables of the redb file besides the revisions: what the state says about itself, the
//! members, the alarms, the leases.

use std::collections::BTreeSet;

use bytes::Bytes;
use redb::{ReadableTable, ReadableTableMetadata, TableError};

use super::alarm::AlarmRecord;
use super::disk_view::DiskView;
use super::error::DiskError;
use super::lease::LeaseRecord;
use super::schema::{self, ALARM, LEASE, MEMBER, META, REMOVED};
use super::{AppliedMark, MemberRecord};

/// The rows of the tables `meta`, `member`, `alarm` and `removed`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meta {
    pub applied: AppliedMark,
    pub revision: i64,
    /// The revision of the last compaction asked for; -1 if never.
    pub compact_scheduled: i64,
    /// The revision of the last compaction that is physically done; -1 if never.
    pub compact_finished: i64,
    pub cluster_version: Option<String>,
    pub downgrade_target: Option<String>,
    pub alarms: Vec<AlarmRecord>,
    pub members: Vec<MemberRecord>,
    pub removed: BTreeSet<u64>,
}

impl DiskView {
    fn meta_row(&self, name: &'static str) -> Result<Option<Bytes>, DiskError> {
        let table = self
            .txn
            .open_table(META)
            .map_err(|error| self.error(error))?;
        let row = table.get(name).map_err(|error| self.error(error))?;
        let Some(row) = row else {
            return Ok(None);
        };
        let content = schema::unseal(name.as_bytes(), row.value());
        let content = content.ok_or_else(|| self.damaged_meta(name))?;
        Ok(Some(Bytes::copy_from_slice(content)))
    }

    fn damaged_meta(&self, name: &str) -> DiskError {
        let detail = format!("row {name} fails its check");
        self.damage(&detail)
    }

    fn meta_i64(&self, name: &'static str, absent: i64) -> Result<i64, DiskError> {
        let Some(row) = self.meta_row(name)? else {
            return Ok(absent);
        };
        let bytes = row
            .as_ref()
            .try_into()
            .map_err(|_| self.damaged_meta(name))?;
        Ok(i64::from_le_bytes(bytes))
    }

    fn meta_text(&self, name: &'static str) -> Result<Option<String>, DiskError> {
        let Some(row) = self.meta_row(name)? else {
            return Ok(None);
        };
        let text = String::from_utf8(row.into());
        text.map(Some).map_err(|_| self.damaged_meta(name))
    }

    /// The side tables.
    pub fn meta(&self) -> Result<Meta, DiskError> {
        let log_id = match self.meta_row(schema::META_APPLIED)? {
            None => None,
            Some(row) => {
                let id = schema::decode_log_id(&row);
                Some(id.ok_or_else(|| self.damaged_meta(schema::META_APPLIED))?.0)
            }
        };
        let membership = match self.meta_row(schema::META_MEMBERSHIP)? {
            None => None,
            Some(row) => {
                let membership = schema::decode_membership(&row);
                Some(membership.ok_or_else(|| self.damaged_meta(schema::META_MEMBERSHIP))?)
            }
        };
        let cluster_version = self.meta_text(schema::META_CLUSTER_VERSION)?;
        let downgrade_target = self.meta_text(schema::META_DOWNGRADE)?;
        Ok(Meta {
            applied: AppliedMark { log_id, membership },
            revision: self.meta_i64(schema::META_REVISION, schema::EMPTY_REVISION)?,
            compact_scheduled: self.meta_i64(schema::META_COMPACT_SCHEDULED, -1)?,
            compact_finished: self.meta_i64(schema::META_COMPACT_FINISHED, -1)?,
            cluster_version,
            downgrade_target: downgrade_target.filter(|target| !target.is_empty()),
            alarms: self.alarms()?,
            members: self.members()?,
            removed: self.removed()?,
        })
    }

    /// Every lease, in the order of ids.
    pub fn leases(&self) -> Result<Vec<LeaseRecord>, DiskError> {
        let table = match self.txn.open_table(LEASE) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(self.error(error)),
        };
        let rows = table.iter().map_err(|error| self.error(error))?;
        let mut leases = Vec::new();
        for row in rows {
            let (id, row) = row.map_err(|error| self.error(error))?;
            let lease = schema::read_lease(id.value(), row.value());
            leases.push(lease.ok_or_else(|| self.damaged_meta("of a lease"))?);
        }
        if leases.len() as u64 != table.len().map_err(|error| self.error(error))? {
            return Err(self.damaged_table("lease"));
        }
        Ok(leases)
    }

    fn alarms(&self) -> Result<Vec<AlarmRecord>, DiskError> {
        let table = match self.txn.open_table(ALARM) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(self.error(error)),
        };
        let rows = table.iter().map_err(|error| self.error(error))?;
        let mut alarms = Vec::new();
        for row in rows {
            let (key, row) = row.map_err(|error| self.error(error))?;
            let alarm = schema::read_alarm(key.value(), row.value());
            alarms.push(alarm.ok_or_else(|| self.damaged_meta("of an alarm"))?);
        }
        Ok(alarms)
    }

    fn removed(&self) -> Result<BTreeSet<u64>, DiskError> {
        let table = match self.txn.open_table(REMOVED) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(BTreeSet::new()),
            Err(error) => return Err(self.error(error)),
        };
        let rows = table.iter().map_err(|error| self.error(error))?;
        let mut removed = BTreeSet::new();
        for row in rows {
            let (id, row) = row.map_err(|error| self.error(error))?;
            let content = schema::unseal(&id.value().to_le_bytes(), row.value());
            content.ok_or_else(|| self.damaged_meta("of a removed member"))?;
            removed.insert(id.value());
        }
        Ok(removed)
    }

    fn members(&self) -> Result<Vec<MemberRecord>, DiskError> {
        let table = self
            .txn
            .open_table(MEMBER)
            .map_err(|error| self.error(error))?;
        let rows = table.iter().map_err(|error| self.error(error))?;
        let mut members = Vec::new();
        for row in rows {
            let (id, row) = row.map_err(|error| self.error(error))?;
            let content = schema::unseal(&id.value().to_le_bytes(), row.value());
            let member = content.and_then(schema::decode_member);
            members.push(member.ok_or_else(|| self.damaged_meta("of a member"))?);
        }
        Ok(members)
    }
}
