//! The simulated network, below the links' `Transport`.
//!
//! A crate such as turmoil simulates sockets; here the seam is above them, so messages are whole
//! and there is no HTTP to run, which makes a simulated second cheap. What TCP guarantees is kept:
//! messages of one pipe arrive in order or the pipe ends; messages of different connections
//! overtake each other. What TCP cannot promise is varied: what was sent may be lost silently, the
//! answer may be lost after the request was acted on, a way may work in one direction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use althing_actors::node::Refusal;
use althing_actors::peer_link::{Call, LinkError, Pipe, SnapshotBytes, Transport};
use althing_api::peerpb;
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use crate::trace::Trace;
use crate::transport::Sender;

/// A transport notices within this time that a member is silent.
const SILENCE_MAX_MS: u64 = 3_000;

/// How the network behaves for now.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub delay_max_ms: u64,
    /// This percentage of messages takes `slow_ms` more.
    pub slow_percent: u64,
    pub slow_ms: u64,
    pub lost_percent: u64,
}

pub const CALM: Weather = Weather {
    delay_max_ms: 2,
    slow_percent: 0,
    slow_ms: 0,
    lost_percent: 0,
};

/// The network. Clones share it.
#[derive(Clone, Debug)]
pub struct Network(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    posted: Notify,
}

struct State {
    rng: StdRng,
    posted: u64,
    queue: BTreeMap<(Instant, u64), Parcel>,
    cut: BTreeSet<(u64, u64)>,
    doors: BTreeMap<u64, mpsc::UnboundedSender<Arrival>>,
    weather: Weather,
    trace: Trace,
    /// The member that sent entries or heartbeats as the leader of each term.
    leaders: BTreeMap<u64, u64>,
    /// Members that another member promised a vote, and in which term.
    promised: BTreeSet<(u64, u64)>,
    violation: Option<String>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

pub type Answer = oneshot::Sender<Result<Bytes, LinkError>>;

type End = Box<dyn FnOnce(&Network, bool) + Send>;

struct Parcel {
    way: (u64, u64),
    is_lost: bool,
    what: u64,
    /// Told whether the message arrived.
    ends: End,
}

/// What arrives at a member.
pub enum Arrival {
    Call {
        call: Call,
        body: Bytes,
        back: Back,
    },
    Pipe {
        pipe: Pipe,
        requests: mpsc::UnboundedReceiver<Bytes>,
        back: PipeBack,
    },
    Snapshot {
        head: Bytes,
        body: SnapshotBytes,
        back: Back,
    },
}

impl Arrival {
    /// The member that answers, and the one that is answered.
    pub fn way(&self) -> (u64, u64) {
        match self {
            Arrival::Call { back, .. } | Arrival::Snapshot { back, .. } => back.way,
            Arrival::Pipe { back, .. } => back.way,
        }
    }
}

/// The way back of one answer.
pub struct Back {
    pub net: Network,
    pub way: (u64, u64),
    pub answer: Option<Answer>,
}

/// The way back of a pipe's answers.
pub struct PipeBack {
    pub net: Network,
    pub way: (u64, u64),
    pub line: Arc<Line>,
}

/// A pipe, as both ends see it.
pub struct Line {
    /// `None` once the pipe has ended.
    pub answers: Mutex<Option<mpsc::Sender<Result<Bytes, LinkError>>>>,
    /// When the last message of each direction arrives.
    pub last: Mutex<[Option<Instant>; 2]>,
}

impl Network {
    pub fn new(seed: u64) -> Network {
        let state = State {
            rng: StdRng::seed_from_u64(seed ^ 0x6e65_7477_6f72_6b00),
            posted: 0,
            queue: BTreeMap::new(),
            cut: BTreeSet::new(),
            doors: BTreeMap::new(),
            weather: CALM,
            trace: Trace::default(),
            leaders: BTreeMap::new(),
            promised: BTreeSet::new(),
            violation: None,
        };
        Network(Arc::new(Shared {
            state: Mutex::new(state),
            posted: Notify::new(),
        }))
    }

    pub fn transport(&self, me: u64) -> Arc<dyn Transport> {
        Arc::new(Sender {
            me,
            net: self.clone(),
        })
    }

    /// Opens the place where whatever is sent to `member` arrives from now on.
    pub fn open_door(&self, member: u64) -> mpsc::UnboundedReceiver<Arrival> {
        let (door, arrivals) = mpsc::unbounded_channel();
        self.0.state.lock().doors.insert(member, door);
        arrivals
    }

    pub fn close_door(&self, member: u64) {
        let closed = self.0.state.lock().doors.remove(&member);
        drop(closed);
    }

    pub fn set_weather(&self, weather: Weather) {
        self.0.state.lock().weather = weather;
    }

    pub fn cut(&self, from: u64, to: u64) {
        self.0.state.lock().cut.insert((from, to));
    }

    pub fn heal(&self, from: u64, to: u64) {
        self.0.state.lock().cut.remove(&(from, to));
    }

    pub fn heal_all(&self) {
        self.0.state.lock().cut.clear();
    }

    /// Notes something that the seed decides.
    pub fn note(&self, what: impl std::hash::Hash + std::fmt::Debug) {
        self.0.state.lock().trace.add_now(what);
    }

    pub fn trace(&self) -> Trace {
        self.0.state.lock().trace.clone()
    }

    pub fn leaders(&self) -> BTreeMap<u64, u64> {
        self.0.state.lock().leaders.clone()
    }

    pub fn take_violation(&self) -> Option<String> {
        self.0.state.lock().violation.take()
    }

    /// Delivers what is due, forever.
    pub async fn carry(self) {
        loop {
            let posted = self.0.posted.notified();
            let next = self
                .0
                .state
                .lock()
                .queue
                .first_key_value()
                .map(|(key, _)| *key);
            match next {
                Some((due, _)) if due <= Instant::now() => self.deliver(),
                Some((due, _)) => tokio::select! {
                    biased;
                    () = posted => {}
                    () = tokio::time::sleep_until(due) => {}
                },
                None => posted.await,
            }
        }
    }

    fn deliver(&self) {
        let mut state = self.0.state.lock();
        let Some((_, parcel)) = state.queue.pop_first() else {
            return;
        };
        let arrives = !parcel.is_lost && !state.cut.contains(&parcel.way);
        state.trace.add_now((parcel.way, parcel.what, arrives));
        drop(state);
        (parcel.ends)(self, arrives);
    }

    /// Sends something that arrives after `not_before`, or gets lost. Returns when it would arrive.
    pub fn post(
        &self,
        way: (u64, u64),
        what: u64,
        not_before: Option<Instant>,
        ends: impl FnOnce(&Network, bool) + Send + 'static,
    ) -> Instant {
        let mut state = self.0.state.lock();
        let Weather {
            delay_max_ms,
            slow_percent,
            slow_ms,
            lost_percent,
        } = state.weather;
        let mut delay = state.rng.random_range(0..=delay_max_ms);
        if state.rng.random_range(0..100) < slow_percent {
            delay += state.rng.random_range(0..=slow_ms);
        }
        let is_lost = state.rng.random_range(0..100) < lost_percent;
        let due = (Instant::now() + Duration::from_millis(delay))
            .max(not_before.unwrap_or(Instant::now()));
        state.posted += 1;
        let key = (due, state.posted);
        let parcel = Parcel {
            way,
            is_lost,
            what,
            ends: Box::new(ends),
        };
        state.queue.insert(key, parcel);
        drop(state);
        self.0.posted.notify_one();
        due
    }

    /// Drops an answer. Its waiter learns of it when the transport has noticed the silence.
    pub fn lose(&self, answer: Answer) {
        let mut state = self.0.state.lock();
        let delay_max_ms = if state.rng.random_bool(0.7) {
            200
        } else {
            SILENCE_MAX_MS
        };
        let delay = Duration::from_millis(state.rng.random_range(0..=delay_max_ms));
        state.posted += 1;
        let key = (Instant::now() + delay, state.posted);
        let parcel = Parcel {
            way: (0, 0),
            is_lost: true,
            what: 0,
            ends: Box::new(move |_, _| drop(answer)),
        };
        state.queue.insert(key, parcel);
        drop(state);
        self.0.posted.notify_one();
    }

    fn door(&self, member: u64) -> Option<mpsc::UnboundedSender<Arrival>> {
        self.0.state.lock().doors.get(&member).cloned()
    }

    /// Whether `member` is up; it may also stand still.
    pub fn is_up(&self, member: u64) -> bool {
        self.door(member).is_some()
    }

    /// Hands `arrival` to `member`, or gives it back if that member is down.
    pub fn hand_in(&self, member: u64, arrival: Arrival) -> Result<(), Arrival> {
        match self.door(member) {
            Some(door) => door.send(arrival).map_err(|error| error.0),
            None => Err(arrival),
        }
    }

    /// Checks who claims to lead: one member per term.
    pub fn look_for_leader(&self, from: u64, body: &Bytes) {
        let Ok(request) = peerpb::AppendRequest::decode(body.clone()) else {
            return;
        };
        let vote = request.vote.unwrap_or_default();
        let leader = vote.voted_for.unwrap_or_default();
        let mut state = self.0.state.lock();
        let known = *state.leaders.entry(vote.term).or_insert(leader);
        if known != leader || leader != from {
            let term = vote.term;
            let text = format!("term {term} has two leaders: {known}, and {leader} as {from} says");
            state.violation.get_or_insert(text);
        }
    }
}

/// Checks that no member stands for election if no other would vote for it: a member that was cut
/// off would disturb the others when it comes back. In the first term there is nobody to disturb.
impl Network {
    /// Notes that `from` asks for votes.
    pub fn look_at_candidate(&self, from: u64, body: &Bytes) {
        let Ok(request) = peerpb::VoteRequest::decode(body.clone()) else {
            return;
        };
        let term = request.vote.unwrap_or_default().term;
        let mut state = self.0.state.lock();
        if term > 1 && !request.hand_over && !state.promised.contains(&(from, term)) {
            let text =
                format!("member {from} stands for election in term {term}, and nobody would vote");
            state.violation.get_or_insert(text);
        }
    }

    /// Notes that `to` was promised a vote, if the answer says so.
    pub fn look_at_promise(&self, to: u64, request: &Bytes, answer: &Bytes) {
        let request = peerpb::VoteRequest::decode(request.clone());
        let answer = peerpb::VoteAnswer::decode(answer.clone());
        if let (Ok(request), Ok(answer)) = (request, answer)
            && answer.granted
        {
            let term = request.vote.unwrap_or_default().term;
            self.0.state.lock().promised.insert((to, term));
        }
    }
}

fn refused(refusal: Refusal) -> LinkError {
    match refusal {
        Refusal::Removed => LinkError::Removed,
        refusal => LinkError::Refused(refusal.to_string()),
    }
}

pub fn sum(kind: u64, body: &[u8]) -> u64 {
    let mut trace = Trace::default();
    trace.add((kind, body));
    trace.hash()
}

impl Back {
    /// Sends the member's answer.
    pub fn answer(mut self, answer: Result<Bytes, Refusal>) {
        let Some(waiter) = self.answer.take() else {
            return;
        };
        let what = sum(8, answer.as_deref().unwrap_or_default());
        let answer = answer.map_err(refused);
        self.net.post(self.way, what, None, move |net, arrives| {
            if arrives {
                drop(waiter.send(answer))
            } else {
                net.lose(waiter)
            }
        });
    }

    fn refuse(mut self) {
        if let Some(waiter) = self.answer.take() {
            drop(waiter.send(Err(LinkError::NotSent("down".into()))));
        }
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        // The member that was to answer is gone.
        if let Some(waiter) = self.answer.take() {
            self.net.lose(waiter);
        }
    }
}

pub fn refuse(arrival: Arrival) {
    match arrival {
        Arrival::Call { back, .. } | Arrival::Snapshot { back, .. } => back.refuse(),
        Arrival::Pipe { back, .. } => back.line.end(),
    }
}

impl Line {
    pub fn end(&self) {
        let ended = self.answers.lock().take();
        drop(ended);
    }

    pub fn post(
        self: &Arc<Line>,
        net: &Network,
        way: (u64, u64),
        what: u64,
        direction: usize,
        arrived: impl FnOnce(&Network) + Send + 'static,
    ) {
        let line = Arc::clone(self);
        let not_before = self.last.lock()[direction];
        let due = net.post(way, what, not_before, move |net, arrives| {
            if line.answers.lock().is_none() {
                return;
            }
            // A gap in the order ends the connection.
            if arrives { arrived(net) } else { line.end() }
        });
        self.last.lock()[direction] = Some(due);
    }
}

impl PipeBack {
    pub fn answer(&self, answer: Result<Bytes, Refusal>) {
        let what = sum(9, answer.as_deref().unwrap_or_default());
        let answer = answer.map_err(refused);
        let line = Arc::clone(&self.line);
        self.line.post(&self.net, self.way, what, 1, move |_| {
            let sent = match &*line.answers.lock() {
                Some(answers) => answers.try_send(answer).is_ok(),
                None => false,
            };
            if !sent {
                line.end();
            }
        });
    }
}

impl Drop for PipeBack {
    fn drop(&mut self) {
        // The member is gone. Its host says so, in order behind the answers that it sent.
        let line = Arc::clone(&self.line);
        self.line
            .post(&self.net, self.way, 10, 1, move |_| line.end());
    }
}
