//! One run: machines, a network between them, clients, and misfortune, all from one seed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use althing_actors::testing::{pass, simulate};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::clients;
use crate::history::{Ask, Told};
use crate::machine::{Machine, Parts};
use crate::nemesis;
use crate::network::{CALM, Network};
use crate::record::Record;

/// What the run itself chooses at random.
pub type Dice = Rc<RefCell<StdRng>>;

const CLIENTS: u64 = 4;
/// Between two looks at what must hold at every moment.
const LOOK: Duration = Duration::from_millis(20);
/// Within this time a cluster whose misfortune is over serves again, on every member.
const RECOVERY_MAX: Duration = Duration::from_secs(60);

/// A run.
pub struct World {
    pub machines: Vec<Rc<Machine>>,
    pub network: Network,
    pub record: Rc<Record>,
    dice: Dice,
    is_busy: Cell<bool>,
    /// Orderly stops under way.
    pub stops: Cell<u32>,
    /// Terms whose leader was looked at.
    led: RefCell<BTreeSet<u64>>,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    pub seed: u64,
    /// Of everything that was sent, and of everything that clients were told.
    pub trace: u64,
    pub noted: u64,
    pub operations: usize,
    pub revisions: usize,
    pub terms: u64,
    pub snapshots: u64,
    pub violation: Option<String>,
}

/// Runs the world of `seed` from its beginning to its end.
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
        let members = if dice.borrow_mut().random_bool(0.15) {
            5
        } else {
            3
        };
        let snapshot_count = [15, 30, 60, 10_000][dice.borrow_mut().random_range(0..4)];
        let network = Network::new(seed);
        let record = Rc::new(Record::default());
        let parts = Parts {
            members,
            snapshot_count,
            network: network.clone(),
            record: Rc::clone(&record),
            dice: Rc::clone(&dice),
        };
        Rc::new(World {
            machines: (1..=members)
                .map(|number| Machine::new(number, &parts))
                .collect(),
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
        for machine in &self.machines {
            tokio::task::spawn_local(machine.power());
            machine.launch();
        }
        let looks = tokio::task::spawn_local(Rc::clone(self).look_for_ever());
        let is_there = || {
            self.machines
                .iter()
                .all(|machine| machine.ready().is_some())
        };
        if !self.until(is_there).await {
            return self.violated("the cluster never formed");
        }
        let clients: Vec<_> = (1..=CLIENTS)
            .map(|client| tokio::task::spawn_local(clients::run(Rc::clone(self), client)))
            .collect();
        nemesis::run(self).await;
        self.is_busy.set(false);
        for client in clients {
            let _ = client.await;
        }
        if self.record.violation().is_none() {
            self.recover().await;
        }
        looks.abort();
        for machine in &self.machines {
            machine.crash(false);
        }
        if self.record.violation().is_none()
            && let Err(what) = self.record.check()
        {
            self.record.violated(what);
        }
    }

    /// All misfortune ends. Then the cluster serves on every member, and all have the same state.
    async fn recover(self: &Rc<World>) {
        self.network.heal_all();
        self.network.set_weather(CALM);
        for machine in &self.machines {
            machine.keep_power();
            machine.resume();
        }
        if !self.until(|| self.stops.get() == 0).await {
            return self.violated("an orderly stop does not end");
        }
        let is_there = || {
            self.revive();
            self.machines
                .iter()
                .all(|machine| machine.ready().is_some())
        };
        if !self.until(is_there).await {
            return self.violated("not all members come to serve again");
        }
        for machine in &self.machines {
            let number = machine.number;
            let put = Ask::Put {
                keys: vec![Bytes::from_static(b"end")],
                value: format!("end-{number}").into(),
            };
            let told = clients::perform(self, 0, machine, put, RECOVERY_MAX).await;
            if !matches!(told, Some(Told::Done { .. })) {
                return self.violated(&format!("member {number} takes no writes: {told:?}"));
            }
            let read = Ask::Read { fresh: true };
            let told = clients::perform(self, 0, machine, read, RECOVERY_MAX).await;
            if !matches!(told, Some(Told::State { .. })) {
                return self.violated(&format!("member {number} answers no read: {told:?}"));
            }
        }
        if !self.until(|| self.is_settled()).await {
            return self.violated("members never applied and told the same");
        }
        self.compare_states();
    }

    /// Whoever does not run does so from now on.
    fn revive(&self) {
        for machine in &self.machines {
            if machine.halted().is_some() || machine.lost_power() {
                machine.crash(true);
            }
            if !machine.is_up() {
                self.launch(machine);
            }
        }
    }

    fn is_settled(&self) -> bool {
        let mut states = self.machines.iter().filter_map(|machine| {
            let handles = machine.ready()?;
            let revision = handles.store().revisions().current;
            let is_told = machine.watched() == revision + 1;
            Some((handles.applied_index(), revision, is_told))
        });
        let Some(first) = states.next() else {
            return false;
        };
        first.2 && states.all(|state| state == first)
    }

    fn compare_states(&self) {
        let mut first = None;
        for machine in &self.machines {
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

    /// Waits for `condition`. False: it never came, or something went wrong.
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

    /// What must hold at every moment.
    fn look(&self) {
        if let Some(what) = self.network.take_violation() {
            self.record.violated(what);
        }
        if let Some(what) = crate::panics::last() {
            self.record.violated(format!("a panic: {what}"));
        }
        for machine in &self.machines {
            if let Some(live) = machine.live() {
                self.record.compare(machine.number, &live);
            }
        }
        for (term, leader) in self.network.leaders() {
            if !self.led.borrow_mut().insert(term) {
                continue;
            }
            let machine = &self.machines[leader as usize - 1];
            if let Some(live) = machine.live() {
                self.record.complete(leader, term, &live);
            }
        }
    }

    /// Something that must never happen has happened; what it looks like.
    fn violated(&self, what: &str) {
        let members: String = self
            .machines
            .iter()
            .map(|machine| machine.describe())
            .collect();
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

    pub fn any_machine(&self) -> Rc<Machine> {
        let position = self.roll(self.machines.len() as u64 - 1);
        Rc::clone(&self.machines[position as usize])
    }

    /// One of those that serve.
    pub fn any_ready(&self) -> Option<Rc<Machine>> {
        let ready = self
            .machines
            .iter()
            .filter(|machine| machine.ready().is_some());
        let ready: Vec<&Rc<Machine>> = ready.collect();
        let last = (ready.len() as u64).checked_sub(1)?;
        Some(Rc::clone(ready[self.roll(last) as usize]))
    }

    fn outcome(&self, seed: u64) -> Outcome {
        let (operations, revisions, _) = self.record.size();
        let trace = self.network.trace();
        Outcome {
            seed,
            trace: trace.hash(),
            noted: trace.noted(),
            operations,
            revisions,
            terms: self.network.leaders().len() as u64,
            snapshots: self
                .machines
                .iter()
                .map(|machine| machine.snapshots())
                .sum(),
            violation: self.record.violation(),
        }
    }
}
