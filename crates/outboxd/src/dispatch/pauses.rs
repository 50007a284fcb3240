//! What people have paused, by a pause, by a rail's contract or by revoking our certificate, as far as this daemon knows: read twice a second, and
//! asked before each claim of a rail and right before each first byte. The claim function sees the pauses for itself: what
//! it leased between the end of a pause and our hearing of it would only be given back.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use outbox_core::{AttemptKind, RailName};
use outbox_store::Pause;

/// The pauses.
#[derive(Debug, Default)]
pub(crate) struct Pauses(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    pauses: Vec<Pause>,
    by_contract: BTreeSet<RailName>,
}

impl Pauses {
    /// Notes what is paused now; `by_contract`: the rails whose contracts say so, or for which we have no certificate left.
    pub(crate) fn set(&self, pauses: Vec<Pause>, by_contract: BTreeSet<RailName>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Known { pauses, by_contract };
    }

    /// Whether `rail` must not be called at all.
    pub(crate) fn stop_rail(&self, rail: &RailName) -> bool {
        let known = self.known();
        known.by_contract.contains(rail) || known.of_rail(rail).any(|pause| pause.participant_id.is_none())
    }

    /// Whether no attempt of this kind may leave for `rail` and `participant_id`. A pause of a participant stops its
    /// sends; a question about it may be asked at any time, and its claim asks it again and again.
    pub(crate) fn stop(&self, rail: &RailName, participant_id: &str, kind: AttemptKind) -> bool {
        let of_participant = |pause: &Pause| pause.participant_id.as_deref() == Some(participant_id);
        self.stop_rail(rail) || kind == AttemptKind::Submit && self.known().of_rail(rail).any(of_participant)
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// The pauses that hold for `rail`, of all participants or of one.
    fn of_rail<'a>(&'a self, rail: &'a RailName) -> impl Iterator<Item = &'a Pause> {
        self.pauses.iter().filter(|pause| pause.rail.as_deref().is_none_or(|name| name == rail.as_str()))
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
        for (set, by_contract, sends, questions) in [
            (vec![], None, [false, false, false], [false, false, false]),
            (vec![pause(None, None)], None, [true, true, true], [true, true, true]),
            (vec![pause(Some("a"), None)], None, [true, true, false], [true, true, false]),
            (vec![pause(None, Some("x"))], None, [true, false, true], [false, false, false]),
            (vec![pause(Some("b"), Some("x"))], None, [false, false, true], [false, false, false]),
            (vec![], Some("b"), [false, false, true], [false, false, true]),
        ] {
            let pauses = Pauses::default();
            pauses.set(set.clone(), by_contract.map(rail).into_iter().collect());
            for (kind, expected) in [(AttemptKind::Submit, sends), (AttemptKind::Inquire, questions)] {
                let of = [("a", "x"), ("a", "y"), ("b", "x")];
                let stopped = of.map(|(name, who)| pauses.stop(&rail(name), who, kind));
                assert_eq!(stopped, expected, "{kind:?} {set:?} {by_contract:?}");
            }
            let rails = ["a", "b"].map(|name| pauses.stop_rail(&rail(name)));
            assert_eq!(rails, [questions[0], questions[2]], "{set:?} {by_contract:?}");
        }
    }
}
