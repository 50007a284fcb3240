//! Whether anybody could work: the time after a crash until what was left behind is settled is promised only while there is a
//! dispatcher that is not itself killed, stopped or cut off. The checker subtracts what is written down here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::journal::now_us;
use crate::kind::Kind;
use crate::world::{DAEMONS, World};

/// Between two looks: short against the time that is promised.
const LOOK: Duration = Duration::from_millis(50);

/// Which daemons are in the hands of a fault that keeps them from working.
#[derive(Debug, Default)]
pub(crate) struct Fitness {
    disabled: [AtomicU32; DAEMONS],
}

impl Fitness {
    /// Keeps daemon `number` out until the guard is dropped, if `kind` keeps it from working.
    pub(crate) fn disable(self: &Arc<Self>, number: usize, kind: Kind) -> Option<Disabled> {
        let disables = matches!(
            kind,
            Kind::Kill
                | Kind::KillClaimed
                | Kind::KillExecuted
                | Kind::KillCompleting
                | Kind::StopShort
                | Kind::StopPastLease
                | Kind::StopSending
                | Kind::StopClaimed
                | Kind::Restart
                | Kind::OtherVersion
                | Kind::Trickle
                | Kind::HalfOpen
        );
        disables.then(|| {
            self.disabled[number].fetch_add(1, Ordering::SeqCst);
            Disabled { fitness: Arc::clone(self), number }
        })
    }

    fn is_disabled(&self, number: usize) -> bool {
        self.disabled[number].load(Ordering::SeqCst) > 0
    }
}

/// A daemon that cannot work.
#[derive(Debug)]
pub(crate) struct Disabled {
    fitness: Arc<Fitness>,
    number: usize,
}

impl Drop for Disabled {
    fn drop(&mut self) {
        self.fitness.disabled[self.number].fetch_sub(1, Ordering::SeqCst);
    }
}

/// Writes down the times in which no daemon could work, for as long as it is let.
pub(crate) async fn watch(world: Arc<World>) {
    let mut nobody_since = None;
    loop {
        let somebody = (0..DAEMONS).any(|number| {
            // One whose slot is taken is being killed.
            let ready = world.daemons[number].try_lock().is_ok_and(|mut daemon| daemon.is_settled_in());
            ready && !world.fitness.is_disabled(number)
        });
        match (somebody, nobody_since) {
            (false, None) => nobody_since = Some(now_us()),
            (true, Some(from_us)) => {
                world.journal.outage("no dispatcher could work", from_us);
                nobody_since = None;
            }
            _ => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}
