//! Questions about the hash of a member's records, and their answers, on the wire.

use althing_api::error::Error;
use althing_api::peerpb::{self, hash_answer::Outcome};
use althing_storage::store::HashKv;
use bytes::Bytes;
use prost::Message;

use super::wire::{WireError, error_in};

/// Which hash is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) revision: i64,
    /// A member that has applied the log up to here has reached the revision, if it holds the same
    /// records.
    pub(crate) index: u64,
}

/// What a member holds at a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Records with this hash.
    Hash(HashKv),
    /// The member has applied as much as the asking one, and is at another revision.
    Behind,
}

/// What is known of the hash at a revision; `None` if it is being computed or the member is not
/// that far yet, so that the caller should ask again.
pub(crate) type Known = Option<Result<Held, Error>>;

pub(crate) fn question_out(question: Question) -> Bytes {
    let Question { revision, index } = question;
    peerpb::HashQuestion { revision, index }
        .encode_to_vec()
        .into()
}

pub(crate) fn question_in(bytes: Bytes) -> Result<Question, WireError> {
    let peerpb::HashQuestion { revision, index } = peerpb::HashQuestion::decode(bytes)?;
    Ok(Question { revision, index })
}

pub(crate) fn answer_out(known: Known) -> Bytes {
    let outcome = Some(match known {
        None => Outcome::Pending(peerpb::Empty {}),
        Some(Ok(Held::Behind)) => Outcome::Behind(peerpb::Empty {}),
        Some(Ok(Held::Hash(hash))) => Outcome::Hash(peerpb::Hash {
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            revision: hash.hash_revision,
        }),
        Some(Err(error)) => Outcome::Error(error.text().to_owned()),
    });
    peerpb::HashAnswer { outcome }.encode_to_vec().into()
}

pub(crate) fn answer_in(bytes: Bytes) -> Result<Known, WireError> {
    let answer = peerpb::HashAnswer::decode(bytes)?;
    Ok(
        match answer.outcome.ok_or(WireError::Field("an outcome"))? {
            Outcome::Pending(_) => None,
            Outcome::Behind(_) => Some(Ok(Held::Behind)),
            Outcome::Hash(hash) => Some(Ok(Held::Hash(HashKv {
                hash: hash.hash,
                compact_revision: hash.compact_revision,
                hash_revision: hash.revision,
            }))),
            Outcome::Error(text) => Some(Err(error_in(&text))),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_arrive_as_they_were_given() {
        let question = Question {
            revision: 7,
            index: u64::MAX,
        };
        assert_eq!(question_in(question_out(question)).unwrap(), question);
        let hash = HashKv {
            hash: u32::MAX,
            compact_revision: -1,
            hash_revision: 9,
        };
        for known in [
            None,
            Some(Ok(Held::Hash(hash))),
            Some(Ok(Held::Behind)),
            Some(Err(Error::Compacted)),
        ] {
            assert_eq!(answer_in(answer_out(known)).unwrap(), known);
        }
        assert!(answer_in(Bytes::new()).is_err());
    }
}
