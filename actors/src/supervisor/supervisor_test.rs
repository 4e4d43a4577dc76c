//! The life of supervised children: started, restarted, given up, and the halt that follows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::{ActorContext, Addr, Message};
use tokio::sync::Notify;

use super::*;
use crate::testing::DEADLINE;

/// A child that dies when told to.
struct Mortal {
    _death_watch: DeathWatch,
}

impl Actor for Mortal {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Die(Exit);

impl Handler<Die> for Mortal {
    type Result = ();

    fn handle(&mut self, Die(exit): Die, ctx: &mut Context<Self>) {
        match exit {
            Exit::Panicked => panic!("this actor was told to panic"),
            Exit::Stopped => ctx.stop(),
        }
    }
}

fn mortal(name: &'static str, supervisor: &Addr<Supervisor>) -> Addr<Mortal> {
    let watch = DeathWatch::new(name, supervisor.clone().recipient());
    Mortal {
        _death_watch: watch,
    }
    .start()
}

async fn halting(exit: Exit) -> String {
    let halt = Halt::default();
    let supervisor = Supervisor::new(halt.clone()).start();
    supervisor.do_send(Supervise {
        child: "mortal".into(),
        policy: Policy::Halt,
        respawn: None,
    });
    mortal("mortal", &supervisor).do_send(Die(exit));
    let tripped = tokio::time::timeout(DEADLINE, halt.tripped());
    tripped.await.expect("the node halts").0
}

#[actix::test]
async fn a_panic_of_a_core_child_halts_the_node_and_is_named() {
    assert_eq!(halting(Exit::Panicked).await, "mortal panicked");
}

#[actix::test]
async fn the_stop_of_a_core_child_halts_the_node_and_is_named() {
    assert_eq!(halting(Exit::Stopped).await, "mortal stopped");
}

#[actix::test]
async fn a_satellite_is_started_again_until_it_dies_too_often() {
    let halt = Halt::default();
    let supervisor = Supervisor::new(halt.clone()).start();
    let births = Arc::new(AtomicUsize::new(0));
    let born = Arc::clone(&births);
    supervisor.do_send(Supervise {
        child: "mortal".into(),
        policy: Policy::Restart,
        respawn: Some(Box::new(move |watch| {
            born.fetch_add(1, Ordering::SeqCst);
            Mortal {
                _death_watch: watch,
            }
            .start()
            .do_send(Die(Exit::Panicked));
        })),
    });
    mortal("mortal", &supervisor).do_send(Die(Exit::Stopped));
    let tripped = tokio::time::timeout(DEADLINE, halt.tripped());
    assert_eq!(tripped.await.expect("the node halts").0, "mortal panicked");
    assert_eq!(births.load(Ordering::SeqCst), 5);
}

#[actix::test]
async fn a_death_after_retirement_is_nobodys_business() {
    let halt = Halt::default();
    let supervisor = Supervisor::new(halt.clone()).start();
    supervisor.do_send(Supervise {
        child: "mortal".into(),
        policy: Policy::Halt,
        respawn: None,
    });
    supervisor.send(RetireAll).await.unwrap();
    let child = mortal("mortal", &supervisor);
    let gone = Arc::new(Notify::new());
    let notice = Arc::clone(&gone);
    actix_rt::spawn(async move {
        // A send that waits for an answer ends when the mailbox closes.
        let _ = child.send(Die(Exit::Stopped)).await;
        while child.connected() {
            tokio::task::yield_now().await;
        }
        notice.notify_one();
    });
    gone.notified().await;
    // The notice of death is in the supervisor's mailbox before this message.
    supervisor.send(RetireAll).await.unwrap();
    assert_eq!(halt.cause(), None);
}

#[actix::test]
async fn a_reference_points_to_the_new_value_after_a_replacement() {
    let supervisor = Supervisor::new(Halt::default()).start();
    let first = mortal("first", &supervisor);
    let reference = ActorRef::new(first.clone());
    let _ = first.send(Die(Exit::Stopped)).await;
    while first.connected() {
        tokio::task::yield_now().await;
    }
    assert!(reference.clone().send(Die(Exit::Stopped)).await.is_err());
    reference.replace(|| mortal("second", &supervisor));
    assert!(reference.send(Die(Exit::Stopped)).await.is_ok());
}
