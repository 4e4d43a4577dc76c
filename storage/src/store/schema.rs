//! Every table and every layout of the redb file, on one screen.
//!
//! | table | key | value |
//! |---|---|---|
//! | `revision` | (main, sub) | flags, CRC, KeyValue bytes; of a large value only its length |
//! | `value` | (main, sub, number) | CRC, a piece of a large value |
//! | `meta` | name | bytes, CRC |
//! | `member` | member id | PublishMember bytes, CRC |
//! | `alarm` | kind, member id | CRC, whether it clears itself |
//! | `removed` | id of a removed member | CRC |
//! | `lease` | lease id | CRC, seconds, seconds left, generation, whether it is bound |
//!
//! redb rounds a row that does not fit into a page of 4 KiB up to the next power of two, so that
//! half of it may be wasted. So large values are cut into pieces that fill such pages.
//!
//! redb returns flipped bits as data, so each row carries a CRC-32C over its place and content.

use std::ops::RangeInclusive;

use althing_api::commandpb::PublishMember;
use althing_api::etcdserverpb::AlarmType;
use bytes::Bytes;
use prost::Message;
use redb::TableDefinition;

use super::MemberRecord;
use super::alarm::{AlarmKey, AlarmRecord};
use super::history::Rev;
use super::lease::LeaseRecord;
use super::pending::PendingRecord;
use super::record;
use crate::entry::LogId;

/// Key of a revision's rows.
pub(super) type RevKey = (u64, u32);
/// Key of a piece of a revision's value.
pub(super) type PieceKey = (u64, u32, u32);

pub(super) const REVISION: TableDefinition<RevKey, &[u8]> = TableDefinition::new("revision");
pub(super) const VALUE: TableDefinition<PieceKey, &[u8]> = TableDefinition::new("value");
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
pub(super) const MEMBER: TableDefinition<u64, &[u8]> = TableDefinition::new("member");

/// Created by the first removal of a member, so a file may lack it.
pub(super) const REMOVED: TableDefinition<u64, &[u8]> = TableDefinition::new("removed");

/// Created by the first lease, so a file may lack it.
pub(super) const LEASE: TableDefinition<i64, &[u8]> = TableDefinition::new("lease");

/// Created by the first alarm.
pub(super) const ALARM: TableDefinition<(i32, u64), &[u8]> = TableDefinition::new("alarm");

pub(super) const META_FORMAT: &str = "format";
pub(super) const META_APPLIED: &str = "applied";
pub(super) const META_MEMBERSHIP: &str = "membership";
pub(super) const META_REVISION: &str = "revision";
pub(super) const META_COMPACT_SCHEDULED: &str = "compact_scheduled";
pub(super) const META_COMPACT_FINISHED: &str = "compact_finished";
pub(super) const META_CLUSTER_VERSION: &str = "cluster_version";
pub(super) const META_DOWNGRADE: &str = "downgrade";

/// The layout described above.
pub(super) const FORMAT: u32 = 2;
/// The revision of a store that was never written to, as in etcd.
pub(super) const EMPTY_REVISION: i64 = 1;
/// Values above this size live in their own table, so that start-up does not read them.
pub(super) const APART_VALUE_BYTES_MIN: usize = 1024;
/// Pieces of which four fill a page, together with what redb and the CRC take.
const SMALL_PIECE_BYTES: usize = 992;
/// Pieces that fill a page alone: there are few rows, and a value of many pages wastes little in
/// its last.
const LARGE_PIECE_BYTES: usize = 4064;
/// From this size on, a value is cut into large pieces.
const LARGE_PIECES_VALUE_BYTES_MIN: usize = 16 << 10;

const TOMBSTONE: u8 = 1;
const VALUE_APART: u8 = 2;
const CRC_BYTES: usize = 4;
const LEASE_CONTENT_BYTES: usize = 25;
/// What a row costs beyond its value: its key and its place in the page.
const ROW_OVERHEAD_BYTES: u64 = 20;

impl Rev {
    pub(super) fn key(self) -> RevKey {
        let main = u64::try_from(self.main).expect("revisions are not negative");
        (main, self.sub)
    }

    pub(super) fn from_key((main, sub): RevKey) -> Option<Rev> {
        let main = i64::try_from(main).ok()?;
        Some(Rev { main, sub })
    }
}

fn crc_of(place: &[u8], content: &[u8]) -> [u8; CRC_BYTES] {
    crc32c::crc32c_append(crc32c::crc32c(place), content).to_le_bytes()
}

fn place(rev: Rev, flags: u8) -> [u8; 13] {
    let mut place = [flags; 13];
    place[..8].copy_from_slice(&rev.main.to_le_bytes());
    place[8..12].copy_from_slice(&rev.sub.to_le_bytes());
    place
}

/// Key of a piece of the value of `rev`.
pub(super) fn piece_key(rev: Rev, number: u32) -> PieceKey {
    let (main, sub) = rev.key();
    (main, sub, number)
}

/// Keys of all pieces of the value of `rev`.
pub(super) fn piece_keys(rev: Rev) -> RangeInclusive<PieceKey> {
    piece_key(rev, 0)..=piece_key(rev, u32::MAX)
}

/// The length of all pieces but the last of a value of `len` bytes.
fn piece_bytes(len: usize) -> usize {
    if len < LARGE_PIECES_VALUE_BYTES_MIN {
        SMALL_PIECE_BYTES
    } else {
        LARGE_PIECE_BYTES
    }
}

/// The rows of one change: of table `revision`, and the value whose pieces go to table `value`.
#[derive(Debug)]
pub(super) struct Rows {
    pub revision: Vec<u8>,
    pub value: Option<Bytes>,
}

impl Rows {
    /// Roughly the bytes that the rows take in the file.
    pub fn used_bytes(&self) -> u64 {
        let value = self.value.as_ref();
        row_bytes(self.revision.len()) + value.map_or(0, |value| pieces_bytes(value.len() as u64))
    }
}

/// Roughly the bytes that a row with a value of `len` bytes takes in the file.
pub(super) fn row_bytes(len: usize) -> u64 {
    len as u64 + ROW_OVERHEAD_BYTES
}

/// Roughly the bytes that the pieces of a value of `len` bytes take in the file.
pub(super) fn pieces_bytes(len: u64) -> u64 {
    let pieces = usize::try_from(len).map_or(0, |len| len.div_ceil(piece_bytes(len)));
    len + pieces as u64 * (CRC_BYTES as u64 + ROW_OVERHEAD_BYTES)
}

/// Lays out a change. This store encoded the record before, so it decodes.
pub(super) fn rows(pending: &PendingRecord) -> Rows {
    let flags = if pending.tombstone { TOMBSTONE } else { 0 };
    if pending.record.len() < APART_VALUE_BYTES_MIN {
        return Rows {
            revision: revision_row(pending.rev, flags, &pending.record),
            value: None,
        };
    }
    let mut kv = record::decode(&pending.record).expect("records are encoded by this store");
    if kv.value.len() < APART_VALUE_BYTES_MIN {
        return Rows {
            revision: revision_row(pending.rev, flags, &pending.record),
            value: None,
        };
    }
    let value = std::mem::take(&mut kv.value);
    let flags = flags | VALUE_APART;
    let mut content = (value.len() as u64).to_le_bytes().to_vec();
    kv.encode(&mut content).expect("a vector grows");
    Rows {
        revision: revision_row(pending.rev, flags, &content),
        value: Some(value),
    }
}

/// The rows of the pieces of a value, with their numbers.
pub(super) fn piece_rows(rev: Rev, value: &[u8]) -> impl Iterator<Item = (PieceKey, Vec<u8>)> {
    let pieces = value.chunks(piece_bytes(value.len()));
    (0..).zip(pieces).map(move |(number, piece)| {
        let row = seal(&piece_place(rev, number), piece);
        (piece_key(rev, number), row)
    })
}

fn piece_place(rev: Rev, number: u32) -> [u8; 17] {
    let mut bytes = [0; 17];
    bytes[..13].copy_from_slice(&place(rev, VALUE_APART));
    bytes[13..].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn revision_row(rev: Rev, flags: u8, record: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + CRC_BYTES + record.len());
    row.push(flags);
    row.extend_from_slice(&crc_of(&place(rev, flags), record));
    row.extend_from_slice(record);
    row
}

/// A row of table `revision`, checked.
#[derive(Debug)]
pub(super) struct RevisionRow<'a> {
    pub tombstone: bool,
    /// Length of the value, if it is in table `value`.
    pub value_apart: Option<u64>,
    /// The KeyValue, without its value if that is apart.
    pub record: &'a [u8],
}

/// Reads a row of table `revision`; `None` if its CRC does not match.
pub(super) fn read_revision(rev: Rev, row: &[u8]) -> Option<RevisionRow<'_>> {
    let (flags, rest) = row.split_first()?;
    let (crc, content) = rest.split_first_chunk::<CRC_BYTES>()?;
    (*crc == crc_of(&place(rev, *flags), content)).then(|| split_revision(row))?
}

/// Reads a row of table `revision` whose CRC is checked elsewhere.
pub(super) fn split_revision(row: &[u8]) -> Option<RevisionRow<'_>> {
    let (flags, rest) = row.split_first()?;
    let (_, content) = rest.split_first_chunk::<CRC_BYTES>()?;
    if flags & !(TOMBSTONE | VALUE_APART) != 0 {
        return None;
    }
    let tombstone = flags & TOMBSTONE != 0;
    if flags & VALUE_APART == 0 {
        return Some(RevisionRow {
            tombstone,
            value_apart: None,
            record: content,
        });
    }
    let (len, record) = content.split_first_chunk::<8>()?;
    let value_apart = Some(u64::from_le_bytes(*len));
    Some(RevisionRow {
        tombstone,
        value_apart,
        record,
    })
}

/// The piece in a row that was checked before.
pub(super) fn piece(row: &[u8]) -> &[u8] {
    row.get(CRC_BYTES..).unwrap_or_default()
}

/// Reads a piece of the value of `rev`; `None` if its CRC does not match.
pub(super) fn read_piece(rev: Rev, number: u32, row: &[u8]) -> Option<&[u8]> {
    unseal(&piece_place(rev, number), row)
}

/// A row of a side table: the content behind its CRC.
pub(super) fn seal(place: &[u8], content: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(CRC_BYTES + content.len());
    row.extend_from_slice(&crc_of(place, content));
    row.extend_from_slice(content);
    row
}

/// Reads a row of a side table; `None` if its CRC does not match.
pub(super) fn unseal<'a>(place: &[u8], row: &'a [u8]) -> Option<&'a [u8]> {
    let (crc, content) = row.split_first_chunk::<CRC_BYTES>()?;
    (*crc == crc_of(place, content)).then_some(content)
}

/// 16 bytes: term, index.
pub(super) fn encode_log_id(id: LogId) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&id.term.to_le_bytes());
    bytes[8..].copy_from_slice(&id.index.to_le_bytes());
    bytes
}

/// The inverse of [`encode_log_id`]; also returns what follows.
pub(super) fn decode_log_id(bytes: &[u8]) -> Option<(LogId, &[u8])> {
    let (term, rest) = bytes.split_first_chunk::<8>()?;
    let (index, rest) = rest.split_first_chunk::<8>()?;
    let term = u64::from_le_bytes(*term);
    let index = u64::from_le_bytes(*index);
    Some((LogId { term, index }, rest))
}

/// A membership: its log id, then the payload.
pub(super) fn encode_membership((id, payload): &(LogId, Bytes)) -> Vec<u8> {
    let mut bytes = encode_log_id(*id).to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

/// The inverse of [`encode_membership`].
pub(super) fn decode_membership(bytes: &[u8]) -> Option<(LogId, Bytes)> {
    let (id, payload) = decode_log_id(bytes)?;
    Some((id, Bytes::copy_from_slice(payload)))
}

/// The row of a lease.
pub(super) fn lease_row(lease: &LeaseRecord) -> Vec<u8> {
    let mut content = [0; LEASE_CONTENT_BYTES];
    content[..8].copy_from_slice(&lease.ttl.to_le_bytes());
    content[8..16].copy_from_slice(&lease.remaining.to_le_bytes());
    content[16..24].copy_from_slice(&lease.generation.to_le_bytes());
    content[24] = u8::from(lease.bound);
    seal(&lease.id.to_le_bytes(), &content)
}

/// Reads the row of lease `id`; `None` if its CRC does not match.
pub(super) fn read_lease(id: i64, row: &[u8]) -> Option<LeaseRecord> {
    let content = unseal(&id.to_le_bytes(), row)?;
    let (ttl, rest) = content.split_first_chunk::<8>()?;
    let (remaining, rest) = rest.split_first_chunk::<8>()?;
    let (generation, rest) = rest.split_first_chunk::<8>()?;
    let bound = match rest {
        [0] => false,
        [1] => true,
        _ => return None,
    };
    Some(LeaseRecord {
        id,
        ttl: i64::from_le_bytes(*ttl),
        remaining: i64::from_le_bytes(*remaining),
        generation: u64::from_le_bytes(*generation),
        bound,
    })
}

fn alarm_place((alarm, member_id): AlarmKey) -> [u8; 12] {
    let mut place = [0; 12];
    place[..4].copy_from_slice(&(alarm as i32).to_le_bytes());
    place[4..].copy_from_slice(&member_id.to_le_bytes());
    place
}

/// The row of an alarm.
pub(super) fn alarm_row(key: AlarmKey, clears_itself: bool) -> Vec<u8> {
    seal(&alarm_place(key), &[u8::from(clears_itself)])
}

/// Reads the row of an alarm; `None` if its CRC does not match.
pub(super) fn read_alarm((kind, member_id): (i32, u64), row: &[u8]) -> Option<AlarmRecord> {
    let alarm = AlarmType::try_from(kind).ok()?;
    match unseal(&alarm_place((alarm, member_id)), row)? {
        [flag @ (0 | 1)] => Some(AlarmRecord {
            alarm,
            member_id,
            clears_itself: *flag == 1,
        }),
        _ => None,
    }
}

/// Encodes a member as it was published.
pub(super) fn encode_member(member: &MemberRecord) -> Vec<u8> {
    let message = PublishMember {
        member_id: member.id,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
    };
    message.encode_to_vec()
}

/// The inverse of [`encode_member`].
pub(super) fn decode_member(bytes: &[u8]) -> Option<MemberRecord> {
    PublishMember::decode(bytes).ok().map(MemberRecord::from)
}

impl From<PublishMember> for MemberRecord {
    fn from(message: PublishMember) -> MemberRecord {
        MemberRecord {
            id: message.member_id,
            name: message.name,
            peer_urls: message.peer_urls,
            client_urls: message.client_urls,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_fill_pages_and_make_the_value_again() {
        // What redb counts for a page's head, and for each row besides its value.
        let row = |bytes: usize| bytes + CRC_BYTES + size_of::<PieceKey>() + size_of::<u32>();
        let fits = |rows: usize, bytes: usize| 4 + rows * row(bytes) <= 4096;
        assert!(fits(4, SMALL_PIECE_BYTES) && fits(1, LARGE_PIECE_BYTES));
        assert!(!fits(4, SMALL_PIECE_BYTES + 12) && !fits(1, LARGE_PIECE_BYTES + 12));
        let rev = Rev { main: 7, sub: 1 };
        for len in [1, 991, 992, 993, 16_383, 16_384, 70_000] {
            let value: Vec<u8> = (0..len).map(|n: usize| n as u8).collect();
            let mut again = Vec::new();
            for (number, (key, row)) in (0..).zip(piece_rows(rev, &value)) {
                assert_eq!(key, piece_key(rev, number));
                again.extend_from_slice(read_piece(rev, number, &row).unwrap());
                // In another place, or changed, the row is not a piece.
                assert_eq!(read_piece(rev, number + 1, &row), None);
                let mut flipped = row;
                *flipped.last_mut().unwrap() ^= 1;
                assert_eq!(read_piece(rev, number, &flipped), None);
            }
            assert_eq!(again, value);
        }
    }
}
