//! `--write-out=fields`: one `"Name" : value` a line, strings quoted as Go quotes them.

use std::fmt::Display;
use std::io::{self, Write};

use althing_api::etcdserverpb::response_op::Response;
use althing_api::etcdserverpb::{
    AlarmResponse, DeleteRangeResponse, LeaseGrantResponse, LeaseKeepAliveResponse,
    LeaseLeasesResponse, MemberListResponse, PutResponse, RangeResponse, ResponseHeader,
    TxnResponse, WatchResponse,
};
use althing_api::mvccpb::KeyValue;

use crate::print::{HashKv, Health, Revoked, Status, TimeToLive};
use crate::text::quote::quote;

/// What can be written in this format.
pub trait Fields {
    /// Writes it.
    ///
    /// # Errors
    /// `out` cannot be written.
    fn fields(&self, out: &mut dyn Write) -> io::Result<()>;
}

fn field(out: &mut dyn Write, name: &str, value: impl Display) -> io::Result<()> {
    writeln!(out, "\"{name}\" : {value}")
}

fn header(out: &mut dyn Write, header: Option<&ResponseHeader>) -> io::Result<()> {
    let header = header.copied().unwrap_or_default();
    field(out, "ClusterID", header.cluster_id)?;
    field(out, "MemberID", header.member_id)?;
    field(out, "Revision", header.revision)?;
    field(out, "RaftTerm", header.raft_term)
}

fn record(out: &mut dyn Write, prefix: &str, kv: &KeyValue) -> io::Result<()> {
    field(out, &format!("{prefix}Key"), quote(&kv.key))?;
    field(out, &format!("{prefix}CreateRevision"), kv.create_revision)?;
    field(out, &format!("{prefix}ModRevision"), kv.mod_revision)?;
    field(out, &format!("{prefix}Version"), kv.version)?;
    field(out, &format!("{prefix}Value"), quote(&kv.value))?;
    field(out, &format!("{prefix}Lease"), kv.lease)
}

impl Fields for PutResponse {
    fn fields(&self, out: &mut dyn Write) -> io::Result<()> {
        header(out, self.header.as_ref())?;
        self.prev_kv
            .iter()
            .try_for_each(|kv| record(out, "Prev", kv))
    }
}

impl Fields for RangeResponse {
    fn fields(&self, out: &mut dyn Write) -> io::Result<()> {
        header(out, self.header.as_ref())?;
        self.kvs.iter().try_for_each(|kv| record(out, "", kv))?;
        field(out, "More", self.more)?;
        field(out, "Count", self.count)
    }
}

impl Fields for DeleteRangeResponse {
    fn fields(&self, out: &mut dyn Write) -> io::Result<()> {
        header(out, self.header.as_ref())?;
        field(out, "Deleted", self.deleted)?;
        self.prev_kvs
            .iter()
            .try_for_each(|kv| record(out, "Prev", kv))
    }
}

impl Fields for TxnResponse {
    fn fields(&self, out: &mut dyn Write) -> io::Result<()> {
        header(out, self.header.as_ref())?;
        field(out, "Succeeded", self.succeeded)?;
        for answer in &self.responses {
            match &answer.response {
                Some(Response::ResponseRange(answer)) => answer.fields(out)?,
                Some(Response::ResponsePut(answer)) => answer.fields(out)?,
                Some(Response::ResponseDeleteRange(answer)) => answer.fields(out)?,
                Some(Response::ResponseTxn(answer)) => answer.fields(out)?,
                None => {}
            }
        }
        Ok(())
    }
}

impl Fields for WatchResponse {
    fn fields(&self, out: &mut dyn Write) -> io::Result<()> {
        header(out, self.header.as_ref())?;
        for event in &self.events {
            field(out, "Type", event.r#type().as_str_name())?;
            let mut previous = event.prev_kv.iter();
            previous.try_for_each(|kv| record(out, "Prev", kv))?;
            event.kv.iter().try_for_each(|kv| record(out, "", kv))?;
        }
        Ok(())
    }
}

impl Fields for LeaseGrantResponse {
    fn fields(&self, out: &mut dyn Write) -> io::Result<()> {
        header(out, self.header.as_ref())?;
        field(out, "ID", self.id)?;
        field(out, "TTL", self.ttl)
    }
}

impl Fields for Revoked {
    fn fields(&self, out: &mut dyn Write) -> io::Result<()> {
        header(out, self.answer.header.as_ref())
    }
}

impl Fields for LeaseKeepAliveResponse {
    fn fields(&self, out: &mut dyn Write) -> io::Result<()> {
        header(out, self.header.as_ref())?;
        field(out, "ID", self.id)?;
        field(out, "TTL", self.ttl)
    }
}

impl Fields for TimeToLive {
    fn fields(&self, out: &mut dyn Write) -> io::Result<()> {
        let answer = &self.answer;
        header(out, answer.header.as_ref())?;
        field(out, "ID", answer.id)?;
        field(out, "TTL", answer.ttl)?;
        field(out, "GrantedTTL", answer.granted_ttl)?;
        let mut keys = answer.keys.iter();
        keys.try_for_each(|key| field(out, "Key", quote(key)))
    }
}

impl Fields for LeaseLeasesResponse {
    fn fields(&self, out: &mut dyn Write) -> io::Result<()> {
        header(out, self.header.as_ref())?;
        let mut leases = self.leases.iter();
        leases.try_for_each(|lease| field(out, "ID", lease.id))
    }
}

impl Fields for MemberListResponse {
    fn fields(&self, out: &mut dyn Write) -> io::Result<()> {
        header(out, self.header.as_ref())?;
        for member in &self.members {
            field(out, "ID", member.id)?;
            field(out, "Name", quote(member.name.as_bytes()))?;
            for url in &member.peer_ur_ls {
                field(out, "PeerURL", quote(url.as_bytes()))?;
            }
            for url in &member.client_ur_ls {
                field(out, "ClientURL", quote(url.as_bytes()))?;
            }
            field(out, "IsLearner", member.is_learner)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }
}

impl Fields for AlarmResponse {
    fn fields(&self, out: &mut dyn Write) -> io::Result<()> {
        header(out, self.header.as_ref())?;
        self.alarms.iter().try_for_each(|alarm| {
            field(out, "MemberID", alarm.member_id)?;
            field(out, "AlarmType", alarm.alarm().as_str_name())?;
            out.write_all(b"\n")
        })
    }
}

impl Fields for Health {
    fn fields(&self, out: &mut dyn Write) -> io::Result<()> {
        field(out, "Endpoint", quote(self.endpoint.as_bytes()))?;
        field(out, "Health", self.healthy)?;
        field(out, "Took", &self.took)?;
        field(out, "Error", &self.error)?;
        out.write_all(b"\n")
    }
}

impl Fields for Status {
    fn fields(&self, out: &mut dyn Write) -> io::Result<()> {
        let status = &self.answer;
        header(out, status.header.as_ref())?;
        field(out, "Version", quote(status.version.as_bytes()))?;
        field(out, "DBSize", status.db_size)?;
        field(out, "Leader", status.leader)?;
        field(out, "IsLearner", status.is_learner)?;
        field(out, "RaftIndex", status.raft_index)?;
        field(out, "RaftTerm", status.raft_term)?;
        field(out, "RaftAppliedIndex", status.raft_applied_index)?;
        field(out, "Errors", format_args!("[{}]", status.errors.join(" ")))?;
        field(out, "Endpoint", quote(self.endpoint.as_bytes()))?;
        out.write_all(b"\n")
    }
}

impl Fields for HashKv {
    fn fields(&self, out: &mut dyn Write) -> io::Result<()> {
        header(out, self.answer.header.as_ref())?;
        field(out, "Endpoint", quote(self.endpoint.as_bytes()))?;
        field(out, "Hash", self.answer.hash)?;
        out.write_all(b"\n")
    }
}
