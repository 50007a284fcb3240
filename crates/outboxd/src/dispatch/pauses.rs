//! What people have paused, as far as this daemon knows: read twice a second, and asked right before each first
//! byte. Claims do not go by it: the claim function sees the pauses for itself.

use std::sync::{PoisonError, RwLock};

use outbox_core::RailName;
use outbox_store::Pause;

/// The pauses.
#[derive(Debug, Default)]
pub(crate) struct Pauses(RwLock<Vec<Pause>>);

impl Pauses {
    /// Notes what is paused now.
    pub(crate) fn set(&self, pauses: Vec<Pause>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = pauses;
    }

    /// Whether nothing of `participant_id` may leave for `rail`.
    pub(crate) fn stop(&self, rail: &RailName, participant_id: &str) -> bool {
        let pauses = self.0.read().unwrap_or_else(PoisonError::into_inner);
        pauses.iter().any(|pause| {
            pause.rail.as_deref().is_none_or(|name| name == rail.as_str())
                && pause.participant_id.as_deref().is_none_or(|name| name == participant_id)
        })
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn pause_stops_what_is_in_its_scope_and_nothing_else() {
        let pause = |rail: Option<&str>, participant: Option<&str>| Pause {
            rail: rail.map(str::to_owned),
            participant_id: participant.map(str::to_owned),
            paused_by: "anna".to_owned(),
            paused_at: OffsetDateTime::UNIX_EPOCH,
            reason: "drill".to_owned(),
        };
        let rail = |name| RailName::new(name).unwrap();
        for (set, expected) in [
            (vec![], [false, false, false]),
            (vec![pause(None, None)], [true, true, true]),
            (vec![pause(Some("a"), None)], [true, true, false]),
            (vec![pause(None, Some("x"))], [true, false, true]),
            (vec![pause(Some("b"), Some("x"))], [false, false, true]),
        ] {
            let pauses = Pauses::default();
            pauses.set(set.clone());
            let stopped = [("a", "x"), ("a", "y"), ("b", "x")].map(|(name, who)| pauses.stop(&rail(name), who));
            assert_eq!(stopped, expected, "{set:?}");
        }
    }
}
