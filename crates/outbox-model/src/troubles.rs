//! What goes wrong and nobody has in hand. Where that is counted, everything has to come to an end.

use crate::world::{Action, Reply, Scenario, World};

impl Scenario {
    /// Whether a step is a trouble. What a worker does about a lease that ran out, or a request that was lost, is none.
    pub(crate) fn is_trouble(&self, world: &World, action: Action) -> bool {
        let at = |worker: usize, payment: usize| world.tasks[worker][payment];
        match action {
            Action::Tell(..) | Action::Lose(_) | Action::Deliver(_, Reply::NotNow) => true,
            Action::GiveUp(worker, payment) => at(worker, payment).is_some_and(|task| !task.is_expired),
            Action::TimeOut(worker, payment) => {
                at(worker, payment).is_some_and(|task| world.wire.iter().any(|request| request.token == task.token))
            }
            Action::Expire(worker, payment) => {
                let current = world.db.rows[payment].lease.map(|lease| lease.token);
                worker < self.workers && at(worker, payment).map(|task| task.token) == current
            }
            // What was sent is overtaken again and again, for it takes longer than the next lease.
            Action::Claim(_, payment) => !Self::is_quiet(world, payment),
            _ => false,
        }
    }

    /// What may still happen once the troubles are over. Time passes: a quarantine is over before another claim.
    pub(crate) fn only_what_helps(&self, world: &World, actions: &mut Vec<Action>) {
        let ends: Vec<usize> = actions
            .iter()
            .filter_map(|a| if let Action::EndQuarantine(payment) = a { Some(*payment) } else { None })
            .collect();
        actions.retain(|action| {
            let is_early = matches!(action, Action::Claim(_, payment) if ends.contains(payment));
            !is_early && (world.troubles_left > 0 || !self.is_trouble(world, *action))
        });
    }
}
