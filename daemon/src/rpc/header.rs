//! The response header: who answered, at which revision, in which term.

use althing_api::etcdserverpb::ResponseHeader;
use althing_api::id::{ClusterId, MemberId};

/// The part of every header that is fixed for the life of this process.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The cluster this member belongs to.
    pub cluster_id: ClusterId,
    /// This member.
    pub member_id: MemberId,
}

impl Identity {
    /// A header of this member. Revision 0 is what the Cluster service sends.
    pub fn header(&self, term: u64, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster_id.0,
            member_id: self.member_id.0,
            revision,
            raft_term: term,
        }
    }

    /// Completes the header of an answer. The revision that the state machine put there stays;
    /// where it put none, `revision` takes its place.
    pub fn complete(&self, header: &mut Option<ResponseHeader>, term: u64, revision: i64) {
        let made = header.as_ref().map_or(0, |header| header.revision);
        let shown = if made == 0 { revision } else { made };
        *header = Some(self.header(term, shown));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = Identity {
        cluster_id: ClusterId(7),
        member_id: MemberId(9),
    };

    #[test]
    fn a_revision_made_by_the_state_machine_stays() {
        let mut header = Some(ResponseHeader {
            revision: 5,
            ..Default::default()
        });
        IDENTITY.complete(&mut header, 3, 8);
        assert_eq!(header, Some(IDENTITY.header(3, 5)));
    }

    #[test]
    fn an_answer_without_revision_shows_the_current_one() {
        for mut header in [None, Some(ResponseHeader::default())] {
            IDENTITY.complete(&mut header, 3, 8);
            let header = header.expect("complete always leaves a header");
            assert_eq!((header.cluster_id, header.member_id), (7, 9));
            assert_eq!((header.raft_term, header.revision), (3, 8));
        }
    }
}
