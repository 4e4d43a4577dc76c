//! Whether the members hold the same records: all are asked for their hashes at one revision, and a
//! verdict follows from the answers.

use std::time::Duration;

use althing_api::error::Error;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::hasher::Hasher;
use crate::peer_link::hash::{self, Held, Question};
use crate::peer_link::{Call, Link};
use crate::raft_node::Proposer;

/// Pause between two questions to a member that is still computing.
const POLL: Duration = Duration::from_millis(100);

/// What the answers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All members that answered hold the same records; this is their number.
    Same(usize),
    /// These differ from a majority.
    Differ(Vec<u64>),
    /// The answers differ, and no majority of the members agrees.
    Undecided,
}

/// Judges the members' answers to the question of `asker`, one of them, in a cluster of `members`.
/// Hashes are comparable only where the same was compacted.
pub(crate) fn judge(answers: &[(u64, Held)], asker: u64, members: usize) -> Verdict {
    let own = answers.iter().find(|(member, _)| *member == asker);
    let Some((_, Held::Hash(own))) = own else {
        return Verdict::Same(0);
    };
    let comparable = |(member, held): &(u64, Held)| match held {
        Held::Hash(hash) if hash.compact_revision == own.compact_revision => {
            Some((*member, Some(hash.hash)))
        }
        Held::Hash(_) => None,
        Held::Behind => Some((*member, None)),
    };
    let comparable: Vec<(u64, Option<u32>)> = answers.iter().filter_map(comparable).collect();
    if comparable.iter().all(|(_, hash)| *hash == Some(own.hash)) {
        return Verdict::Same(comparable.len());
    }
    let votes = |hash: Option<u32>| {
        comparable
            .iter()
            .filter(|(_, other)| *other == hash)
            .count()
    };
    let right = comparable
        .iter()
        .find(|(_, hash)| 2 * votes(*hash) > members);
    match right {
        None => Verdict::Undecided,
        Some((_, right)) => {
            let wrong = comparable.iter().filter(|(_, hash)| hash != right);
            Verdict::Differ(wrong.map(|(member, _)| *member).collect())
        }
    }
}

/// Asks all members for their hashes at this member's current revision, and judges. Members that
/// cannot be asked, or do not answer within `patience`, do not count. Errors: those of a read
/// index, and of reading this member's own store.
pub(crate) async fn compare(
    proposer: &Proposer,
    hasher: &Hasher,
    members: &[u64],
    patience: Duration,
) -> Result<Verdict, Error> {
    proposer.read_index().await?;
    let (revisions, index) = proposer.store.position();
    let question = Question {
        revision: revisions.current,
        index,
    };
    let deadline = Instant::now() + patience;
    let others = members.iter().filter_map(|member| {
        let link = proposer.links.to(*member)?;
        Some(ask(*member, link, question, deadline))
    });
    let (own, others) = tokio::join!(own_hash(hasher, question, deadline), join_all(others));
    let Some(own) = own else {
        return Ok(Verdict::Same(0));
    };
    let mut answers = vec![(proposer.me, own?)];
    answers.extend(others.into_iter().flatten());
    Ok(judge(&answers, proposer.me, members.len()))
}

async fn own_hash(
    hasher: &Hasher,
    question: Question,
    deadline: Instant,
) -> Option<Result<Held, Error>> {
    while Instant::now() < deadline {
        if let Some(hash) = hasher.ask(question) {
            return Some(hash);
        }
        tokio::time::sleep(POLL).await;
    }
    None
}

async fn ask(
    member: u64,
    link: Link,
    question: Question,
    deadline: Instant,
) -> Option<(u64, Held)> {
    while Instant::now() < deadline {
        let answer = link.call(Call::Hash, hash::question_out(question)).await;
        match hash::answer_in(answer.ok()?).ok()? {
            Some(held) => return Some((member, held.ok()?)),
            None => tokio::time::sleep(POLL).await,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use althing_storage::store::HashKv;

    use super::*;

    /// The members' ids with their hashes, zero for one that is behind, and what they compacted.
    type Answers = &'static [(u64, u32, i64)];

    fn answers(hashes: Answers) -> Vec<(u64, Held)> {
        let one = |&(member, hash, compact_revision): &(u64, u32, i64)| {
            let hash_revision = 9;
            let held = Held::Hash(HashKv {
                hash,
                compact_revision,
                hash_revision,
            });
            (member, if hash == 0 { Held::Behind } else { held })
        };
        hashes.iter().map(one).collect()
    }

    #[test]
    fn a_majority_of_the_cluster_is_right_and_the_rest_differs() {
        let differ = |members: &[u64]| Verdict::Differ(members.to_vec());
        let table: [(Answers, usize, Verdict); 10] = [
            (&[(1, 5, -1), (2, 5, -1), (3, 5, -1)], 3, Verdict::Same(3)),
            (&[(1, 5, -1)], 3, Verdict::Same(1)),
            (&[], 3, Verdict::Same(0)),
            (&[(1, 5, -1), (2, 5, -1), (3, 6, -1)], 3, differ(&[3])),
            (&[(1, 6, -1), (2, 5, -1), (3, 5, -1)], 3, differ(&[1])),
            (&[(1, 6, -1), (2, 0, -1), (3, 0, -1)], 3, differ(&[1])),
            (&[(1, 6, -1), (2, 0, -1), (3, 6, -1)], 3, differ(&[2])),
            (&[(1, 5, -1), (2, 6, -1)], 3, Verdict::Undecided),
            (&[(1, 5, -1), (2, 6, -1), (3, 7, -1)], 3, Verdict::Undecided),
            (&[(1, 5, 4), (2, 6, 3), (3, 6, 3)], 3, Verdict::Same(1)),
        ];
        for (hashes, members, expected) in table {
            assert_eq!(judge(&answers(hashes), 1, members), expected, "{hashes:?}");
        }
    }
}
