//! Output, equal to etcdctl 3.5's to the byte: one file per format, one trait per file. An answer
//! that implements a trait can be written in that format; what has none is refused with exit
//! code 4 and `<format> not supported as output format`.
//!
//! Nothing is held back: each answer is written whole and flushed by the caller. A write error
//! ends the command.

mod backup;
pub mod fields;
pub mod json;
pub mod simple;
pub mod table;

use std::io::{self, Write};

use althing_api::etcdserverpb::{
    HashKvResponse, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse,
    LeaseRevokeResponse, LeaseTimeToLiveResponse, MemberListResponse, ResponseHeader,
    StatusResponse, WatchResponse,
};
use prost::Message;

use crate::failure::{BAD_FEATURE, Failure};
use fields::Fields;
use json::{Json, Raw};
use simple::Simple;
use table::Rows;
pub(crate) use table::{counted, human_bytes};

/// An output format (`--write-out`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people: keys and values as they are.
    Simple,
    /// One `"Name" : value` a line.
    Fields,
    /// One line of JSON.
    Json,
    /// The response message's own bytes.
    Protobuf,
    /// A frame of `+--+` around columns.
    Table,
}

impl Format {
    /// The format called `name`.
    pub fn named(name: &str) -> Option<Format> {
        match name {
            "simple" => Some(Format::Simple),
            "fields" => Some(Format::Fields),
            "json" => Some(Format::Json),
            "protobuf" => Some(Format::Protobuf),
            "table" => Some(Format::Table),
            _ => None,
        }
    }
}

/// How answers are written.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    /// The format.
    pub format: Format,
    /// `--hex`: bytes (simple) and ids (json of members) in hexadecimal.
    pub hex: bool,
    /// Values only, without their keys (simple).
    pub value_only: bool,
}

/// What `endpoint health` found at one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The endpoint as the operator named it.
    pub endpoint: String,
    /// Whether it answered a linearizable read and knows of no alarm.
    pub healthy: bool,
    /// How long the answer took, as text; empty when no attempt was made.
    pub took: String,
    /// Why it is not healthy; empty when it is.
    pub error: String,
}

/// What one endpoint answered.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// The endpoint as the operator named it.
    pub endpoint: String,
    /// Its answer.
    pub answer: T,
}

/// The answer of `endpoint status` at one endpoint.
pub type Status = At<StatusResponse>;
/// The answer of `endpoint hashkv` at one endpoint.
pub type HashKv = At<HashKvResponse>;

/// The answer of `lease revoke`, which does not repeat the id.
#[derive(Clone, Copy, Debug)]
pub struct Revoked {
    /// The lease.
    pub id: i64,
    /// The answer.
    pub answer: LeaseRevokeResponse,
}

/// The answer of `lease timetolive`.
#[derive(Clone, Debug)]
pub struct TimeToLive {
    /// The answer.
    pub answer: LeaseTimeToLiveResponse,
    /// Whether the keys were asked for.
    pub keys: bool,
}

/// An answer about leases. etcdctl's `protobuf` knows no more of it than the header.
pub trait AboutLeases: Simple + Fields + Json {
    /// The header.
    fn header(&self) -> ResponseHeader;
}

impl AboutLeases for LeaseGrantResponse {
    fn header(&self) -> ResponseHeader {
        self.header.unwrap_or_default()
    }
}

impl AboutLeases for LeaseKeepAliveResponse {
    fn header(&self) -> ResponseHeader {
        self.header.unwrap_or_default()
    }
}

impl AboutLeases for LeaseLeasesResponse {
    fn header(&self) -> ResponseHeader {
        self.header.unwrap_or_default()
    }
}

impl AboutLeases for Revoked {
    fn header(&self) -> ResponseHeader {
        self.answer.header.unwrap_or_default()
    }
}

impl AboutLeases for TimeToLive {
    fn header(&self) -> ResponseHeader {
        self.answer.header.unwrap_or_default()
    }
}

impl Printer {
    /// Writes the answer to a request about leases.
    ///
    /// # Errors
    /// The format does not exist for it, or `out` cannot be written.
    pub fn lease<T: AboutLeases>(&self, out: &mut dyn Write, answer: &T) -> Result<(), Failure> {
        match self.format {
            Format::Simple => answer.simple(self, out)?,
            Format::Fields => answer.fields(out)?,
            Format::Json => print_json(out, answer)?,
            Format::Protobuf => out.write_all(&answer.header().encode_to_vec())?,
            Format::Table => return Err(self.unsupported()),
        }
        Ok(())
    }

    /// Writes what a watch delivered, without what only the transport needs to know.
    ///
    /// # Errors
    /// The format does not exist for it, or `out` cannot be written.
    pub fn watch(&self, out: &mut dyn Write, answer: &WatchResponse) -> Result<(), Failure> {
        if self.format != Format::Protobuf {
            return self.response(out, answer);
        }
        let shown = WatchResponse {
            header: Some(answer.header.unwrap_or_default()),
            watch_id: 0,
            cancel_reason: String::new(),
            fragment: false,
            ..answer.clone()
        };
        Ok(out.write_all(&shown.encode_to_vec())?)
    }

    /// Writes the answer to a request about keys.
    ///
    /// # Errors
    /// The format does not exist for it, or `out` cannot be written.
    pub fn response<T>(&self, out: &mut dyn Write, answer: &T) -> Result<(), Failure>
    where
        T: Simple + Fields + Json + Message,
    {
        match self.format {
            Format::Simple => answer.simple(self, out)?,
            Format::Fields => answer.fields(out)?,
            Format::Json => print_json(out, answer)?,
            Format::Protobuf => out.write_all(&answer.encode_to_vec())?,
            Format::Table => return Err(self.unsupported()),
        }
        Ok(())
    }

    /// Refuses a format that [`Printer::response`] lacks before a request changes anything.
    ///
    /// # Errors
    /// The format is `table`.
    pub fn check_response(&self) -> Result<(), Failure> {
        match self.format {
            Format::Table => Err(self.unsupported()),
            _ => Ok(()),
        }
    }

    /// Refuses a format that `lease revoke` lacks before the lease is revoked.
    ///
    /// # Errors
    /// The format is `table` or `protobuf`.
    pub fn check_revoked(&self) -> Result<(), Failure> {
        match self.format {
            Format::Table | Format::Protobuf => Err(self.unsupported()),
            _ => Ok(()),
        }
    }

    /// Writes what was found at the endpoints.
    ///
    /// # Errors
    /// The format does not exist for it, or `out` cannot be written.
    pub fn endpoints<T>(&self, out: &mut dyn Write, answers: &[T]) -> Result<(), Failure>
    where
        T: Rows + Fields + Json,
        [T]: Simple,
    {
        match self.format {
            Format::Simple => answers.simple(self, out)?,
            Format::Fields => answers.iter().try_for_each(|answer| answer.fields(out))?,
            Format::Json => print_json(out, answers)?,
            Format::Table => table::write(out, T::HEADINGS, &table::rows(answers))?,
            Format::Protobuf => return Err(self.unsupported()),
        }
        Ok(())
    }

    /// Writes the list of members.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn members(&self, out: &mut dyn Write, answer: &MemberListResponse) -> Result<(), Failure> {
        match self.format {
            Format::Table => {
                let headings = table::MEMBER_HEADINGS;
                table::write(out, headings, &table::rows(&answer.members))?;
                Ok(())
            }
            Format::Json if self.hex => {
                out.write_all(json::members_in_hex(answer).as_bytes())?;
                Ok(out.write_all(b"\n")?)
            }
            _ => self.response(out, answer),
        }
    }

    /// Writes that the cluster was changed: `done` says it in a sentence.
    ///
    /// # Errors
    /// The format does not exist for it, or `out` cannot be written.
    pub fn changed<T: Json + Message>(
        &self,
        out: &mut dyn Write,
        answer: &T,
        done: &str,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Simple => writeln!(out, "{done}")?,
            Format::Json => print_json(out, answer)?,
            Format::Protobuf => out.write_all(&answer.encode_to_vec())?,
            Format::Fields | Format::Table => return Err(self.unsupported()),
        }
        Ok(())
    }

    /// Refuses a format that [`Printer::changed`] lacks before anything is changed.
    ///
    /// # Errors
    /// The format is `fields` or `table`.
    pub fn check_changed(&self) -> Result<(), Failure> {
        match self.format {
            Format::Fields | Format::Table => Err(self.unsupported()),
            _ => Ok(()),
        }
    }

    pub(crate) fn unsupported(&self) -> Failure {
        let name = match self.format {
            Format::Protobuf => "protobuf",
            Format::Fields => "fields",
            _ => "table",
        };
        Failure::new(
            BAD_FEATURE,
            format!("{name} not supported as output format"),
        )
    }
}

fn print_json<T: Json + ?Sized>(out: &mut dyn Write, answer: &T) -> io::Result<()> {
    let mut text = Raw::new();
    answer.json(&mut text);
    text.push(b'\n');
    out.write_all(&text)
}

#[cfg(test)]
mod events_test;
#[cfg(test)]
mod print_test;
