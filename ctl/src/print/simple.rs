//! `--write-out=simple`: keys and values as they are, or every byte as `\xNN`.

use std::io::{self, Write};

use althing_api::etcdserverpb::response_op::Response;
use althing_api::etcdserverpb::{
    AlarmResponse, DeleteRangeResponse, LeaseGrantResponse, LeaseKeepAliveResponse,
    LeaseLeasesResponse, MemberListResponse, PutResponse, RangeResponse, TxnResponse,
    WatchResponse,
};
use althing_api::mvccpb::{Event, KeyValue};

use crate::notice;
use crate::print::table::{Rows, rows};
use crate::print::{HashKv, Health, Printer, Revoked, Status, TimeToLive};
use crate::text::number::hex;

/// What can be written in this format.
pub trait Simple {
    /// Writes it.
    ///
    /// # Errors
    /// `out` cannot be written.
    fn simple(&self, printer: &Printer, out: &mut dyn Write) -> io::Result<()>;
}

/// Writes bytes and ends the line.
///
/// # Errors
/// `out` cannot be written.
pub fn line(printer: &Printer, out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    if printer.hex {
        bytes
            .iter()
            .try_for_each(|byte| write!(out, "\\x{byte:02x}"))?;
    } else {
        out.write_all(bytes)?;
    }
    out.write_all(b"\n")
}

/// The id of a lease as it is shown everywhere.
pub fn shown_id(id: i64) -> String {
    hex(id, 16)
}

impl Simple for KeyValue {
    fn simple(&self, printer: &Printer, out: &mut dyn Write) -> io::Result<()> {
        if !printer.value_only {
            line(printer, out, &self.key)?;
        }
        line(printer, out, &self.value)
    }
}

impl Simple for PutResponse {
    fn simple(&self, printer: &Printer, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(b"OK\n")?;
        self.prev_kv
            .iter()
            .try_for_each(|kv| kv.simple(printer, out))
    }
}

impl Simple for RangeResponse {
    fn simple(&self, printer: &Printer, out: &mut dyn Write) -> io::Result<()> {
        self.kvs.iter().try_for_each(|kv| kv.simple(printer, out))
    }
}

impl Simple for DeleteRangeResponse {
    fn simple(&self, printer: &Printer, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.deleted)?;
        self.prev_kvs
            .iter()
            .try_for_each(|kv| kv.simple(printer, out))
    }
}

impl Simple for TxnResponse {
    fn simple(&self, printer: &Printer, out: &mut dyn Write) -> io::Result<()> {
        let verdict = if self.succeeded { "SUCCESS" } else { "FAILURE" };
        writeln!(out, "{verdict}")?;
        for answer in &self.responses {
            out.write_all(b"\n")?;
            match &answer.response {
                Some(Response::ResponseRange(answer)) => answer.simple(printer, out)?,
                Some(Response::ResponsePut(answer)) => answer.simple(printer, out)?,
                Some(Response::ResponseDeleteRange(answer)) => answer.simple(printer, out)?,
                Some(Response::ResponseTxn(answer)) => answer.simple(printer, out)?,
                None => {}
            }
        }
        Ok(())
    }
}

impl Simple for WatchResponse {
    fn simple(&self, printer: &Printer, out: &mut dyn Write) -> io::Result<()> {
        self.events
            .iter()
            .try_for_each(|event| event.simple(printer, out))
    }
}

impl Simple for Event {
    fn simple(&self, printer: &Printer, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.r#type().as_str_name())?;
        let mut records = self.prev_kv.iter().chain(&self.kv);
        records.try_for_each(|kv| kv.simple(printer, out))
    }
}

impl Simple for LeaseGrantResponse {
    fn simple(&self, _printer: &Printer, out: &mut dyn Write) -> io::Result<()> {
        let (id, ttl) = (shown_id(self.id), self.ttl);
        writeln!(out, "lease {id} granted with TTL({ttl}s)")
    }
}

impl Simple for Revoked {
    fn simple(&self, _printer: &Printer, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "lease {} revoked", shown_id(self.id))
    }
}

impl Simple for LeaseKeepAliveResponse {
    fn simple(&self, _printer: &Printer, out: &mut dyn Write) -> io::Result<()> {
        let (id, ttl) = (shown_id(self.id), self.ttl);
        writeln!(out, "lease {id} keepalived with TTL({ttl})")
    }
}

impl Simple for TimeToLive {
    fn simple(&self, _printer: &Printer, out: &mut dyn Write) -> io::Result<()> {
        let answer = &self.answer;
        let (id, granted, left) = (shown_id(answer.id), answer.granted_ttl, answer.ttl);
        if granted == 0 && left == -1 {
            return writeln!(out, "lease {id} already expired");
        }
        write!(
            out,
            "lease {id} granted with TTL({granted}s), remaining({left}s)"
        )?;
        if self.keys {
            let keys = answer.keys.join(&b' ');
            out.write_all(b", attached keys([")?;
            out.write_all(&keys)?;
            out.write_all(b"])")?;
        }
        out.write_all(b"\n")
    }
}

impl Simple for LeaseLeasesResponse {
    fn simple(&self, _printer: &Printer, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "found {} leases", self.leases.len())?;
        let mut leases = self.leases.iter();
        leases.try_for_each(|lease| writeln!(out, "{}", shown_id(lease.id)))
    }
}

impl Simple for MemberListResponse {
    fn simple(&self, _printer: &Printer, out: &mut dyn Write) -> io::Result<()> {
        joined(&self.members, out)
    }
}

impl Simple for AlarmResponse {
    fn simple(&self, _printer: &Printer, out: &mut dyn Write) -> io::Result<()> {
        self.alarms.iter().try_for_each(|alarm| {
            let kind = alarm.alarm().as_str_name();
            writeln!(out, "memberID:{} alarm:{kind} ", alarm.member_id)
        })
    }
}

impl Simple for [Status] {
    fn simple(&self, _printer: &Printer, out: &mut dyn Write) -> io::Result<()> {
        joined(self, out)
    }
}

impl Simple for [HashKv] {
    fn simple(&self, _printer: &Printer, out: &mut dyn Write) -> io::Result<()> {
        joined(self, out)
    }
}

impl Simple for [Health] {
    fn simple(&self, _printer: &Printer, out: &mut dyn Write) -> io::Result<()> {
        for found in self {
            let Health {
                endpoint,
                took,
                error,
                ..
            } = found;
            if error.is_empty() {
                let verdict = "is healthy: successfully committed proposal";
                writeln!(out, "{endpoint} {verdict}: took = {took}")?;
            } else {
                notice::tell(format_args!(
                    "{endpoint} is unhealthy: failed to commit proposal: {error}"
                ));
            }
        }
        Ok(())
    }
}

fn joined<T: Rows>(answers: &[T], out: &mut dyn Write) -> io::Result<()> {
    rows(answers)
        .iter()
        .try_for_each(|row| writeln!(out, "{}", row.join(", ")))
}
