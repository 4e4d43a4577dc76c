//! The differential test: one seeded random sequence of requests, played step by step to two
//! members that started empty, every answer compared.
//!
//! ```text
//! Generator --Step--> Side (left)  --Answer--\
//!     ^          \--> Side (right) --Answer---> normalise -> ties -> known -> equal?
//!     \------------- revision of the answer ---------------------------------/
//! ```
//!
//! A sequence depends on its seed and on the revisions that the members answer, so the same seed
//! replays it. It fails at the first difference that `known` does not explain, since the members'
//! states may diverge there.

mod compound;
pub mod feed;
pub mod generate;
pub mod known;
mod lease_steps;
pub mod long_lived;
pub mod normal;
pub mod operation;
pub mod parties;
mod party_steps;
pub mod play;
pub mod spelling;
pub mod ties;
mod watch_steps;
pub mod watcher;
pub mod watching;

use std::collections::BTreeMap;
use std::path::Path;

use althing_api::etcdserverpb as pb;
use serde_json::Value;

use generate::{Abilities, Generator, Ways};
use known::Seen;
use normal::{message, normalise};
use operation::{Operation, Step, Transport};
use play::Side;

/// The longest request or answer that a report prints whole, in characters.
const SHOWN_MAX: usize = 4_000;

/// A run of the differential test.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The seed that the sequence follows from.
    pub seed: u64,
    /// The number of steps.
    pub steps: u64,
    /// The transports that the steps use.
    pub ways: Ways,
    /// Whether to print each step with both answers.
    pub trace: bool,
}

/// What a run saw that had no unexplained difference.
#[derive(Debug, Default)]
pub struct Report {
    /// Steps by operation, and how many of them were refused by both sides.
    pub operations: BTreeMap<&'static str, (u64, u64)>,
    /// How often each text of a refusal was seen.
    pub refusals: BTreeMap<String, u64>,
    /// Steps whose difference was explained, by explanation.
    pub explained: BTreeMap<&'static str, u64>,
    /// Sorted ranges that differed only among equal sort values.
    pub ties: u64,
}

/// Plays a sequence to two programs; an error describes the first unexplained difference.
///
/// # Panics
/// When a program does not come to serve.
pub async fn run(left: &Path, right: &Path, plan: Plan) -> Result<Report, String> {
    let mut left = Side::start(left).await;
    let mut right = Side::start(right).await;
    let abilities = Abilities::shared(left.release, right.release);
    let mut generator = Generator::new(plan.seed, plan.ways, abilities);
    let mut report = Report::default();
    let mut number = 0;
    let mut left_over = None;
    while left_over != Some(0) {
        if number == plan.steps {
            left_over = Some(generator.end());
        }
        number += 1;
        let floor = left.long_lived.floor().min(right.long_lived.floor());
        generator.keep_below(floor);
        let step = generator.step(number);
        // Everything that a step causes must arrive before the next one.
        let settle = Step {
            operation: Operation::Settle,
            transport: Transport::Grpc,
            number,
        };
        for step in [step, settle] {
            let theirs = play(&step, &mut left, &mut right, &mut report, plan.trace).await?;
            generator.observe(&step.operation, &theirs);
        }
        left_over = left_over.map(|steps| steps - 1);
    }
    Ok(report)
}

/// Plays one step to both sides and compares; returns the right side's answer.
async fn play(
    step: &Step,
    left: &mut Side,
    right: &mut Side,
    report: &mut Report,
    trace: bool,
) -> Result<Value, String> {
    let (mut ours, mut theirs) = tokio::join!(left.play(step), right.play(step));
    let answers = (ours.clone(), theirs.clone());
    if trace {
        println!("{}", describe(step, &answers, (&ours, &theirs)));
    }
    if let Some(failed) = [&ours, &theirs]
        .into_iter()
        .find_map(|answer| answer.get("lost").or_else(|| answer.get("wrong")))
    {
        return Err(format!(
            "a member failed ({failed})\n{}\nleft printed\n{}\nright printed\n{}",
            describe(step, &answers, (&ours, &theirs)),
            last_words(&left.member.process().printed()),
            last_words(&right.member.process().printed()),
        ));
    }
    let equal = compare(step, &mut ours, &mut theirs, left, right, report).await;
    report.count(&step.operation, &answers.1);
    if !equal {
        return Err(describe(step, &answers, (&ours, &theirs)));
    }
    Ok(answers.1)
}

async fn compare(
    step: &Step,
    ours: &mut Value,
    theirs: &mut Value,
    left: &Side,
    right: &mut Side,
    report: &mut Report,
) -> bool {
    let revision = normal::revision(theirs);
    normalise(ours);
    normalise(theirs);
    if ours == theirs {
        return true;
    }
    if differ_in_ties(step, ours, theirs, revision, right).await {
        report.ties += 1;
        return true;
    }
    let (names, equal) = if left.release >= right.release {
        let seen = Seen {
            step,
            newer: left.release,
            older: right.release,
        };
        (known::explain(&seen, ours, theirs), ours == theirs)
    } else {
        let seen = Seen {
            step,
            newer: right.release,
            older: left.release,
        };
        (known::explain(&seen, theirs, ours), ours == theirs)
    };
    for name in names {
        *report.explained.entry(name).or_default() += 1;
    }
    // There may be both at once: ties, and a field that one side leaves out.
    if !equal && differ_in_ties(step, ours, theirs, revision, right).await {
        report.ties += 1;
        return true;
    }
    equal
}

/// Whether the answers are sorted ranges that differ only in ties.
async fn differ_in_ties(
    step: &Step,
    ours: &Value,
    theirs: &Value,
    revision: Option<i64>,
    right: &mut Side,
) -> bool {
    match &step.operation {
        Operation::Range(request) if ties::may_tie(request) => {
            let parse = |answer| -> Option<pb::RangeResponse> {
                serde_json::from_value(unowned(message(answer)?)).ok()
            };
            let (Some(ours), Some(theirs), Some(revision)) = (parse(ours), parse(theirs), revision)
            else {
                return false;
            };
            let Ok(candidates) = right.records(&ties::candidates(request, revision)).await else {
                return false;
            };
            (&ours.header, ours.more, ours.count) == (&theirs.header, theirs.more, theirs.count)
                && ties::equal_but_ties(request, &ours.kvs, &theirs.kvs, &candidates)
        }
        Operation::Txn(request) => {
            let ours = ties::canonical_txn(request, &unowned(ours));
            ours.is_some() && ours == ties::canonical_txn(request, &unowned(theirs))
        }
        _ => false,
    }
}

/// The answer, with placeholders of members' own ids read as numbers again.
fn unowned(answer: &Value) -> Value {
    match answer {
        Value::String(text) if text == "(own)" => Value::String("1".to_owned()),
        Value::Array(items) => items.iter().map(unowned).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), unowned(value)))
            .collect(),
        other => other.clone(),
    }
}

impl Report {
    fn count(&mut self, operation: &Operation, answer: &Value) {
        let entry = self
            .operations
            .entry(generate::name_of(operation))
            .or_default();
        entry.0 += 1;
        let refusal = answer.get("text").is_some()
            || answer.get("status").is_some() && message(answer).is_none();
        if refusal {
            entry.1 += 1;
            let text = [&answer["text"], &answer["body"]["message"], &answer["body"]]
                .into_iter()
                .find_map(Value::as_str);
            let text = shown(text.unwrap_or_default().trim().to_owned());
            *self.refusals.entry(text).or_default() += 1;
        }
    }
}

fn describe(step: &Step, answers: &(Value, Value), left_over: (&Value, &Value)) -> String {
    format!(
        "step {}\nrequest {}\nvia     {}\nleft    {}\nright   {}\nleft, normalised  {}\n\
         right, normalised {}",
        step.number,
        shown(format!("{:?}", step.operation)),
        shown(format!("{:?}", step.transport)),
        shown(answers.0.to_string()),
        shown(answers.1.to_string()),
        shown(left_over.0.to_string()),
        shown(left_over.1.to_string()),
    )
}

/// What a member printed when it ended: its panic, or its last lines.
fn last_words(printed: &str) -> String {
    let lines: Vec<_> = printed.lines().collect();
    let panic = lines.iter().position(|line| line.contains("panic"));
    let from = panic.unwrap_or(lines.len().saturating_sub(5));
    lines[from..]
        .iter()
        .take(10)
        .copied()
        .collect::<Vec<_>>()
        .join("\n")
}

fn shown(text: String) -> String {
    if text.len() <= SHOWN_MAX {
        return text;
    }
    let half = SHOWN_MAX / 2;
    let start: String = text.chars().take(half).collect();
    let end: Vec<char> = text.chars().rev().take(half).collect();
    let end: String = end.into_iter().rev().collect();
    format!("{start} ... {end} ({} bytes)", text.len())
}
