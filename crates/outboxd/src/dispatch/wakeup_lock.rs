//! A lane's wake-up lock, as far as the lane knows: what it asks of the listener, and what it was told.
//! Nothing here waits: a listener that is out, or busy, holds up no claim, and is asked again later.

use outbox_core::{BootTime, RailName};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::event::{LockAnswer, Sleep};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    NotHeld,
    Asked,
    Held,
}

/// The lock.
pub(crate) struct WakeupLock {
    rail: RailName,
    listener: mpsc::Sender<Sleep>,
    state: State,
    /// The poll before which it was asked for last.
    asked_before: Option<BootTime>,
}

impl WakeupLock {
    pub(crate) const fn new(rail: RailName, listener: mpsc::Sender<Sleep>) -> Self {
        Self { rail, listener, state: State::NotHeld, asked_before: None }
    }

    /// Asks for it, once for each poll.
    pub(crate) fn ask(&mut self, next_poll: BootTime) {
        if self.state == State::NotHeld && self.asked_before != Some(next_poll) {
            self.asked_before = Some(next_poll);
            if self.listener.try_send(Sleep::Wanted(self.rail.clone())).is_ok() {
                self.state = State::Asked;
            }
        }
    }

    /// Lets go of it, or stays with it where the listener cannot be told: then this is to be called again.
    pub(crate) fn let_go(&mut self) {
        if self.state == State::NotHeld {
            return;
        }
        match self.listener.try_send(Sleep::Over(self.rail.clone())) {
            // If the listener has ended, so have its locks.
            Ok(()) | Err(TrySendError::Closed(_)) => self.state = State::NotHeld,
            Err(TrySendError::Full(_)) => {}
        }
    }

    /// Notes the listener's answer; returns whether the lane sleeps from now on.
    pub(crate) fn answered(&mut self, answer: LockAnswer) -> bool {
        if self.state != State::Asked {
            return false;
        }
        self.state = match answer {
            LockAnswer::Taken => State::Held,
            LockAnswer::NotTaken => State::NotHeld,
        };
        self.state == State::Held
    }

    /// Notes that locks and wishes are lost with their listener.
    pub(crate) const fn lost(&mut self) {
        self.state = State::NotHeld;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(room: usize) -> (WakeupLock, mpsc::Receiver<Sleep>) {
        let (listener, wishes) = mpsc::channel(room);
        (WakeupLock::new(RailName::new("a").unwrap(), listener), wishes)
    }

    fn told(wishes: &mut mpsc::Receiver<Sleep>) -> Vec<&'static str> {
        let name = |wish| match wish {
            Sleep::Wanted(_) => "wanted",
            Sleep::Over(_) => "over",
        };
        std::iter::from_fn(|| wishes.try_recv().ok()).map(name).collect()
    }

    #[test]
    fn a_listener_that_takes_no_wish_is_told_of_the_end_of_a_sleep_later() {
        for answer in [None, Some(LockAnswer::Taken)] {
            let (mut lock, mut wishes) = lock(1);
            lock.ask(BootTime(1));
            if let Some(answer) = answer {
                assert_eq!(told(&mut wishes), ["wanted"]);
                assert!(lock.answered(answer));
                lock.listener.try_send(Sleep::Wanted(lock.rail.clone())).unwrap();
            }
            lock.let_go();
            lock.let_go();
            assert_eq!(told(&mut wishes), ["wanted"], "{answer:?}");
            lock.let_go();
            lock.let_go();
            assert_eq!(told(&mut wishes), ["over"], "{answer:?}");
        }
    }

    #[test]
    fn a_lock_that_is_held_or_asked_for_is_not_asked_for_again() {
        let (mut lock, mut wishes) = lock(9);
        lock.ask(BootTime(1));
        lock.ask(BootTime(2));
        assert!(lock.answered(LockAnswer::Taken));
        lock.ask(BootTime(3));
        assert_eq!(told(&mut wishes), ["wanted"]);
        lock.lost();
        lock.ask(BootTime(4));
        assert!(!lock.answered(LockAnswer::NotTaken));
        lock.ask(BootTime(4));
        assert_eq!(told(&mut wishes), ["wanted"], "asked twice before one poll");
        lock.ask(BootTime(5));
        lock.let_go();
        assert!(!lock.answered(LockAnswer::Taken), "an answer to a wish that was taken back");
        assert_eq!(told(&mut wishes), ["wanted", "over"]);
    }
}
