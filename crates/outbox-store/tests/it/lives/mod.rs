//! Random lives of a few payments: sequences of calls from two sessions, alone and overlapping, each step compared with a model: what
//! the caller is told, every row of the queue, every attempt, every late outcome, order, notes and actions; and conservation at the end.
//!
//! The model is pure (`model` and what it is made of: `recording`, `queue`, `outcome`, `people`, `overlap`; what follows an attempt is
//! the core's table). Steps are drawn from its state (`generate`) and stand in names (`transition`), so that a sequence that fails
//! is shortened to one that is still possible. `system` and `asking` call the functions, `lines` compares. Which functions are not called, and why,
//! is in `functions`.
//!
//! A failure ends with the shortest sequence that was found, one step a line, and `OUTBOXD_TEST_SEED=…`: the same test with that in
//! its environment, and with the same OUTBOXD_TEST_SEQUENCES if that was set, makes the same sequences again.

mod asking;
mod functions;
mod generate;
mod lines;
mod model;
mod outcome;
mod overlap;
mod people;
mod queue;
mod recording;
mod system;
mod tally;
mod transition;

use std::cell::Cell;
use std::io::Write as _;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};

use generate::{OnAny, OnHold, OnInquire, OnResend};
use model::State;
use system::{System, with_bench};
use tally::Tally;
use transition::Transition;

use crate::seed::Seed;

/// For each contract, unless OUTBOXD_TEST_SEQUENCES says otherwise.
const SEQUENCES: u32 = 500;
const LENGTHS: Range<usize> = 6..24;
/// Longer than the shortest sequence takes to be found, shorter than a test may last.
const SHRINK_MS: u32 = 90_000;
/// So many sequences share a database.
const IN_ONE_DATABASE: usize = 1_000;
/// A difference is tried so often again.
const AGAIN: u32 = 5;
/// Of so many sequences as one database has, so many may meet a moment.
const MOMENTS_MAX: u64 = 2;

/// What sequences are drawn from.
trait Machine: ReferenceStateMachine<State = State, Transition = Transition> {}

impl<M: ReferenceStateMachine<State = State, Transition = Transition>> Machine for M {}

struct Against<M>(std::marker::PhantomData<M>);

impl<M: Machine> StateMachineTest for Against<M> {
    type SystemUnderTest = System;
    type Reference = M;

    fn init_test(state: &State) -> System {
        System::begin(state)
    }

    fn apply(system: System, state: &State, transition: Transition) -> System {
        system.step(state, &transition)
    }

    fn check_invariants(system: &System, state: &State) {
        system.compare(state);
    }
}

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Keeps what fails on the way to the shortest sequence from being printed.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !IS_QUIET.get() {
                loud(panic);
            }
        }));
    });
}

/// Runs sequences in one database; how often what was done. A difference that does not come again is one of moments: a
/// session that is told the end of a transaction of its own, or wakes at the end of another's, may be quicker than the
/// server is with giving back the last of its locks, and finds a key taken that is free a moment later. Such a one is
/// said and counted; more than [`MOMENTS_MAX`] are a failure.
fn random_lives_in_one_database<M: Machine>(sequences: u32, first_seed: u64) -> (Tally, u64) {
    let met = Cell::new(0);
    let tally = with_bench(|| {
        for moments in 0..=MOMENTS_MAX {
            let seed = first_seed.wrapping_add(moments << 32);
            let config = Config {
                cases: sequences,
                failure_persistence: None,
                rng_seed: RngSeed::Fixed(seed),
                max_shrink_time: SHRINK_MS,
                ..Config::default()
            };
            let mut runner = TestRunner::new(config.clone());
            IS_QUIET.set(true);
            let result = runner.run(&M::sequential_strategy(LENGTHS), |(state, transitions, seen)| {
                Against::<M>::test_sequential(config.clone(), state, transitions, seen);
                Ok(())
            });
            let again = |state: &State, transitions: &[Transition]| {
                let once = || Against::<M>::test_sequential(config.clone(), state.clone(), transitions.to_vec(), None);
                (0..AGAIN).any(|_| catch_unwind(AssertUnwindSafe(once)).is_err())
            };
            let told = match result {
                Ok(()) => None,
                Err(TestError::Abort(why)) => Some((format!("{why}, with OUTBOXD_TEST_SEED={seed}"), true)),
                Err(TestError::Fail(why, (state, transitions, _))) => {
                    let comes_again = again(&state, &transitions);
                    let steps: Vec<String> = transitions.iter().map(|step| format!("    {step:?}")).collect();
                    let (steps, count, contract) = (steps.join("\n"), transitions.len(), state.contract);
                    let told = format!(
                        "{why}\nafter {count} steps on {contract:?}:\n{steps}\nOUTBOXD_TEST_SEED={seed} runs it again"
                    );
                    Some((told, comes_again))
                }
            };
            IS_QUIET.set(false);
            match told {
                None => return,
                Some((why, false)) if moments < MOMENTS_MAX => {
                    met.set(moments + 1);
                    let _ = writeln!(
                        std::io::stderr().lock(),
                        "a difference that did not come again in {AGAIN} times: {why}"
                    );
                }
                Some((why, _)) => panic!("{why}"),
            }
        }
    });
    (tally, met.get())
}

fn random_lives<M: Machine>(contract: &str) {
    let sequences = std::env::var("OUTBOXD_TEST_SEQUENCES").map_or(SEQUENCES, |count| count.parse().unwrap());
    let seed = Seed::of_this_run();
    quiet_panics();
    let (mut tally, mut moments) = (Tally::default(), 0);
    for (n, first) in (0..sequences).step_by(IN_ONE_DATABASE).enumerate() {
        let count = (sequences - first).min(u32::try_from(IN_ONE_DATABASE).unwrap());
        let seed = seed.wrapping_add(u64::try_from(n).unwrap());
        let (done, met) = random_lives_in_one_database::<M>(count, seed);
        tally.add(done);
        moments += met;
    }
    if let Ok(path) = std::env::var("OUTBOXD_TEST_SEQUENCES_OUT") {
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        writeln!(file, "{contract} {sequences} {seed} moments={moments} {tally}").unwrap();
    }
    if sequences >= SEQUENCES {
        tally.assert_all_was_done(sequences);
    }
}

#[test]
fn random_lives_on_a_resend_rail_go_as_the_model_says() {
    random_lives::<OnResend>("resend");
}

#[test]
fn random_lives_on_a_hold_rail_go_as_the_model_says() {
    random_lives::<OnHold>("hold");
}

#[test]
fn random_lives_on_an_inquire_rail_go_as_the_model_says() {
    random_lives::<OnInquire>("inquire");
}

#[test]
fn random_lives_on_a_rail_whose_contract_changes_go_as_the_model_says() {
    random_lives::<OnAny>("any");
}
