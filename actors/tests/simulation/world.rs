//! One run: machines, a network between them, clients, and misfortune, all from one seed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use althing_actors::node::Handles;
use althing_actors::testing::{pass, simulate, voter_sets};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::clients;
use crate::history::{Ask, Told};
use crate::holders;
use crate::machine::{Live, Machine, Parts};
use crate::membership;
use crate::nemesis;
use crate::network::{CALM, Network};
use crate::orders::Orders;
use crate::record::Record;

/// What the run itself chooses at random.
pub type Dice = Rc<RefCell<StdRng>>;

const CLIENTS: u64 = 3;
const HOLDERS: u64 = 2;
/// Entries between two snapshots: each seed takes one of these.
const SNAPSHOT_COUNTS: [u64; 4] = [4, 12, 40, 10_000];
/// Pause between two checks of what must hold at every moment.
const LOOK: Duration = Duration::from_millis(20);
/// Within this time after its misfortune, a cluster must serve again on every member.
const RECOVERY_MAX: Duration = Duration::from_secs(60);
/// How often each member is then asked to take a write.
const LAST_TRIES_MAX: u32 = 3;

/// A run.
pub struct World {
    machines: RefCell<Vec<Rc<Machine>>>,
    parts: Parts,
    pub orders: RefCell<Orders>,
    pub network: Network,
    pub record: Rc<Record>,
    dice: Dice,
    is_busy: Cell<bool>,
    /// The number of orderly stops under way.
    pub stops: Cell<u32>,
    /// Terms whose leader was checked.
    led: RefCell<BTreeSet<u64>>,
}

/// The outcome of a run.
#[derive(Debug)]
pub struct Outcome {
    pub seed: u64,
    /// A digest of everything that was sent, and of everything that clients were told.
    pub trace: u64,
    pub noted: u64,
    pub operations: usize,
    pub revisions: usize,
    pub terms: u64,
    pub snapshots: u64,
    pub configurations: usize,
    /// Changes of the membership that were reported as done.
    pub changes: u64,
    pub violation: Option<String>,
}

/// Runs the world of `seed` from beginning to end.
pub fn run(seed: u64) -> Outcome {
    simulate(seed);
    crate::panics::forget();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    let set = LocalSet::new();
    let outcome = set.block_on(&runtime, async {
        let world = World::new(seed);
        world.live().await;
        world.outcome(seed)
    });
    drop(set);
    outcome
}

impl World {
    fn new(seed: u64) -> Rc<World> {
        let dice = Rc::new(RefCell::new(StdRng::seed_from_u64(seed)));
        let founders = [1, 3, 3, 3, 3, 5, 5][dice.borrow_mut().random_range(0..7)];
        let snapshot_count = SNAPSHOT_COUNTS[dice.borrow_mut().random_range(0..4)];
        let network = Network::new(seed);
        let record = Rc::new(Record::default());
        let parts = Parts {
            founders,
            snapshot_count,
            network: network.clone(),
            record: Rc::clone(&record),
            dice: Rc::clone(&dice),
        };
        let machines = (1..=founders).map(|number| Machine::new(number, &parts));
        Rc::new(World {
            machines: RefCell::new(machines.collect()),
            parts,
            orders: RefCell::new(Orders::new(founders)),
            network,
            record,
            dice,
            is_busy: Cell::new(true),
            stops: Cell::new(0),
            led: RefCell::default(),
        })
    }

    async fn live(self: &Rc<World>) {
        tokio::task::spawn_local(self.network.clone().carry());
        for machine in self.machines() {
            tokio::task::spawn_local(machine.power());
            machine.launch();
        }
        let looks = tokio::task::spawn_local(Rc::clone(self).look_for_ever());
        let all_serve = || {
            self.machines()
                .iter()
                .all(|machine| machine.ready().is_some())
        };
        if !self.until(all_serve).await {
            return self.violated("the cluster never formed");
        }
        let mut clients: Vec<_> = (1..=CLIENTS)
            .map(|client| tokio::task::spawn_local(clients::run(Rc::clone(self), client)))
            .collect();
        if self.roll(2) > 0 {
            let holders = CLIENTS + 1..=CLIENTS + HOLDERS;
            clients.extend(
                holders
                    .map(|holder| tokio::task::spawn_local(holders::run(Rc::clone(self), holder))),
            );
        }
        if self.parts.founders == 1 || self.roll(2) > 0 {
            clients.push(tokio::task::spawn_local(membership::run(Rc::clone(self))));
        }
        nemesis::run(self).await;
        self.is_busy.set(false);
        for client in clients {
            let _ = client.await;
        }
        if self.record.violation().is_none() {
            self.recover().await;
        }
        looks.abort();
        for machine in self.machines() {
            machine.crash(false);
        }
        if self.record.violation().is_none()
            && let Err(what) = self.record.check()
        {
            self.record.violated(what);
        }
    }

    /// Ends all misfortune. Then the cluster must serve on every member, and all must have the same
    /// state.
    async fn recover(self: &Rc<World>) {
        self.network.heal_all();
        self.network.set_weather(CALM);
        for machine in self.machines() {
            machine.mend();
            machine.keep_power();
            machine.resume();
        }
        if !self.until(|| self.stops.get() == 0).await {
            return self.violated("an orderly stop does not end");
        }
        let all_serve = || {
            self.revive();
            let members = self.members();
            !members.is_empty() && members.iter().all(|member| member.ready().is_some())
        };
        if !self.until(all_serve).await {
            return self.violated("not all members come to serve again");
        }
        for machine in self.members() {
            let number = machine.number;
            let mut put = None;
            // An earlier loss may end a connection only now, and the first attempt with it.
            for attempt in 0..LAST_TRIES_MAX {
                let ask = Ask::Put {
                    keys: vec![Bytes::from_static(b"end")],
                    value: format!("end-{number}-{attempt}").into(),
                };
                put = clients::perform(self, 0, &machine, ask, RECOVERY_MAX).await;
                if matches!(put, Some(Told::Done { .. })) {
                    break;
                }
            }
            let read = Ask::Read { fresh: true };
            let read = clients::perform(self, 0, &machine, read, RECOVERY_MAX).await;
            let answers = [put, read];
            let serves = matches!(answers, [Some(Told::Done { .. }), Some(Told::State { .. })]);
            // A change of the membership may have been under way.
            if !serves && !machine.has_departed() {
                return self.violated(&format!("member {number} does not serve: {answers:?}"));
            }
        }
        let is_over = || {
            self.revive();
            self.is_settled()
        };
        if !self.until(is_over).await {
            return self.violated("members never applied and told the same");
        }
        self.compare_states();
        let members = self
            .newest()
            .map_or_else(Vec::new, |newest| newest.members());
        if let Err(what) = self.orders.borrow().check(&membership::seats(members)) {
            self.violated(&what);
        }
    }

    /// Starts every machine that was begun before, or is a member, and does not run.
    fn revive(&self) {
        let members = self.members();
        for machine in self.machines() {
            if machine.has_departed() {
                machine.crash(false);
                continue;
            }
            if machine.halted().is_some() || machine.lost_power() {
                machine.crash(true);
            }
            let is_member = members.iter().any(|member| member.number == machine.number);
            if !machine.is_up() && (is_member || machine.was_up()) {
                self.launch(&machine);
            }
        }
    }

    /// The running member that has applied most.
    fn newest(&self) -> Option<Handles> {
        let running = self.machines().into_iter().filter_map(|machine| {
            let live = machine.live().filter(|_| !machine.has_departed());
            live.map(|live| live.handles)
        });
        running.max_by_key(|handles| handles.applied_index())
    }

    /// The machines of the members, as far as any running one knows.
    fn members(&self) -> Vec<Rc<Machine>> {
        let members = self
            .newest()
            .map_or_else(Vec::new, |newest| newest.members());
        let members = members.iter().map(|member| self.machine(member.id.0));
        members.collect()
    }

    /// Whether all members have the same, nothing is half done, and every removed member knows it.
    fn is_settled(&self) -> bool {
        let Some(newest) = self.newest() else {
            return false;
        };
        let is_current = |machine: &Rc<Machine>| {
            machine.ready().is_some_and(|handles| {
                let revision = handles.store().revisions().current;
                revision == newest.store().revisions().current
                    && handles.applied_index() == newest.applied_index()
                    && machine.watched() == revision + 1
            })
        };
        // All members that it knows may be gone too; then nobody could tell it.
        let members = self.members();
        let is_member = |number: u64| members.iter().any(|member| member.number == number);
        let is_informed = |machine: &Rc<Machine>| {
            let knows_one = |live: Live| {
                let known = live.handles.members();
                known.iter().any(|member| is_member(member.id.0))
            };
            machine.has_departed()
                || !machine.live().is_some_and(knows_one)
                || !newest.store().is_removed(machine.number)
        };
        members.iter().all(is_current)
            && self.machines().iter().all(is_informed)
            && newest.store().lease_count() == 0
            && has_its_voters(&newest)
    }

    fn compare_states(&self) {
        let mut first = None;
        for machine in self.members() {
            let Some(handles) = machine.ready() else {
                return;
            };
            let store = handles.store();
            let state = (
                format!("{:?}", store.hash_kv(0)),
                store.members(),
                store.applied(),
                store.leases(),
            );
            self.network.note(&state.0);
            let first = first.get_or_insert_with(|| state.clone());
            if *first != state {
                let number = machine.number;
                self.record.violated(format!(
                    "the state of member {number} is {state:?}, elsewhere {first:?}"
                ));
            }
        }
    }

    /// Waits for `condition`. Returns false if it never came, or if something went wrong.
    async fn until(&self, condition: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + RECOVERY_MAX;
        while !condition() {
            if Instant::now() > deadline || self.record.violation().is_some() {
                return false;
            }
            pass(LOOK).await;
        }
        true
    }

    async fn look_for_ever(self: Rc<World>) {
        loop {
            self.look();
            pass(LOOK).await;
        }
    }

    /// Checks what must hold at every moment.
    fn look(&self) {
        if let Some(what) = self.network.take_violation() {
            self.record.violated(what);
        }
        if let Some(what) = crate::panics::last() {
            self.record.violated(format!("a panic: {what}"));
        }
        for machine in self.machines() {
            if let Some(live) = machine.live() {
                self.record.compare(machine.number, &live);
                self.look_at_leases(&machine, &live.handles);
            }
            if machine.has_departed() && !self.orders.borrow().may_be_gone(machine.number) {
                self.violated(&format!("nobody removed member {}", machine.number));
            }
        }
        let leaders = self.network.leaders();
        let newest = leaders.keys().next_back().copied();
        for (term, leader) in leaders {
            // One that is heard of late is not complete: a later one may have committed what the
            // leader of an earlier term had left with it alone.
            if !self.led.borrow_mut().insert(term) || Some(term) != newest {
                continue;
            }
            if let Some(live) = self.machine(leader).live() {
                self.record.complete(leader, term, &live);
            }
        }
    }

    /// Checks that a key with a lease is never seen without the lease.
    fn look_at_leases(&self, machine: &Machine, handles: &Handles) {
        for (key, lease) in clients::leased(handles) {
            if handles.store().lease(lease).is_none() {
                let number = machine.number;
                self.violated(&format!(
                    "member {number} has {key:?} without its lease {lease}"
                ));
            }
        }
    }

    /// Notes that something happened that must never happen, and how it looks.
    fn violated(&self, what: &str) {
        let machines = self.machines();
        let members: String = machines.iter().map(|machine| machine.describe()).collect();
        self.record.violated(format!("{what}{members}"));
    }

    pub fn launch(&self, machine: &Rc<Machine>) {
        self.record.starts(machine.number);
        machine.launch();
    }

    pub fn is_busy(&self) -> bool {
        self.is_busy.get()
    }

    /// A number up to `max`.
    pub fn roll(&self, max: u64) -> u64 {
        self.dice.borrow_mut().random_range(0..=max)
    }

    pub fn machines(&self) -> Vec<Rc<Machine>> {
        self.machines.borrow().clone()
    }

    /// The machine of member `number`.
    pub fn machine(&self, number: u64) -> Rc<Machine> {
        Rc::clone(&self.machines.borrow()[number as usize - 1])
    }

    /// One more machine, on which nothing runs yet.
    pub fn new_machine(&self) -> Rc<Machine> {
        let mut machines = self.machines.borrow_mut();
        let machine = Machine::new(machines.len() as u64 + 1, &self.parts);
        tokio::task::spawn_local(machine.power());
        machines.push(Rc::clone(&machine));
        machine
    }

    pub fn any_machine(&self) -> Rc<Machine> {
        let machines = self.machines.borrow().len() as u64;
        self.machine(1 + self.roll(machines - 1))
    }

    /// Some member that serves.
    pub fn any_ready(&self) -> Option<Rc<Machine>> {
        let mut ready = self.machines();
        ready.retain(|machine| machine.ready().is_some());
        let last = (ready.len() as u64).checked_sub(1)?;
        Some(Rc::clone(&ready[self.roll(last) as usize]))
    }

    /// A member that serves and takes itself for the leader.
    pub fn leader(&self) -> Option<Rc<Machine>> {
        self.machines().into_iter().find(|machine| machine.leads())
    }

    fn outcome(&self, seed: u64) -> Outcome {
        let (operations, revisions) = self.record.size();
        let trace = self.network.trace();
        Outcome {
            seed,
            trace: trace.hash(),
            noted: trace.noted(),
            operations,
            revisions,
            terms: self.network.leaders().len() as u64,
            snapshots: self
                .machines()
                .iter()
                .map(|machine| machine.snapshots())
                .sum(),
            configurations: self.record.configurations(),
            changes: self.orders.borrow().done(),
            violation: self.record.violation(),
        }
    }
}

/// Whether there is one set of voters, and all that are meant to have a vote are in it.
fn has_its_voters(handles: &Handles) -> bool {
    let Some((_, payload)) = handles.store().applied().membership else {
        return false;
    };
    let [voters] = &voter_sets(&payload)[..] else {
        return false;
    };
    let mut members = handles.members().into_iter();
    members.all(|member| member.is_learner != voters.contains(&member.id.0))
}
