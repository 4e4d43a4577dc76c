//! The end of the watch hub, for callers whose watches must outlive it.

use actix::{ActorContext, Context, Handler, Message};

use crate::node::Handles;
use crate::watch_hub::WatchHub;

/// Stop.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct End;

impl Handler<End> for WatchHub {
    type Result = ();

    fn handle(&mut self, _: End, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

/// Ends the watch hub, as its death would; the supervisor starts another.
pub async fn end_watch_hub(handles: &Handles) {
    // The answer may be lost with the hub.
    let _ = handles.watch_hub().send(End).await;
}
