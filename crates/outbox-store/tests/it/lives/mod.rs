//! Random lives of a few payments: sequences of calls, alone and overlapping, each step compared with a model.

mod asking;
mod generate;
mod lines;
mod model;
mod outcome;
mod overlap;
mod people;
mod queue;
mod recording;
mod system;
mod transition;

use std::cell::Cell;
use std::ops::Range;
use std::sync::Once;

use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};

use generate::{OnAny, OnHold, OnInquire, OnResend};
use model::State;
use system::{System, with_bench};
use transition::Transition;

use crate::seed::Seed;

/// For each contract, unless OUTBOXD_TEST_SEQUENCES says otherwise.
const SEQUENCES: u32 = 500;
const LENGTHS: Range<usize> = 8..28;

struct Against<M>(std::marker::PhantomData<M>);

impl<M: ReferenceStateMachine<State = State, Transition = Transition>> StateMachineTest for Against<M> {
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
    IS_QUIET.set(true);
}

fn random_lives<M: ReferenceStateMachine<State = State, Transition = Transition>>() {
    let sequences = std::env::var("OUTBOXD_TEST_SEQUENCES").map_or(SEQUENCES, |count| count.parse().unwrap());
    let seed = Seed::of_this_run();
    let config =
        Config { cases: sequences, failure_persistence: None, rng_seed: RngSeed::Fixed(seed), ..Config::default() };
    quiet_panics();
    with_bench(|| {
        let mut runner = TestRunner::new(config.clone());
        let result = runner.run(&M::sequential_strategy(LENGTHS), |(state, transitions, seen)| {
            Against::<M>::test_sequential(config.clone(), state, transitions, seen);
            Ok(())
        });
        IS_QUIET.set(false);
        match result {
            Ok(()) => {}
            Err(TestError::Fail(why, (state, transitions, _))) => {
                let steps: Vec<String> = transitions.iter().map(|step| format!("    {step:?}")).collect();
                let steps = steps.join("\n");
                panic!("{why}\nafter {} steps on {:?}:\n{steps}\nOUTBOXD_TEST_SEED={seed} runs it again", transitions.len(), state.contract);
            }
            Err(TestError::Abort(why)) => panic!("{why}, with OUTBOXD_TEST_SEED={seed}"),
        }
    });
}

#[test]
fn random_lives_on_a_resend_rail_go_as_the_model_says() {
    random_lives::<OnResend>();
}

#[test]
fn random_lives_on_a_hold_rail_go_as_the_model_says() {
    random_lives::<OnHold>();
}

#[test]
fn random_lives_on_an_inquire_rail_go_as_the_model_says() {
    random_lives::<OnInquire>();
}

#[test]
fn random_lives_on_a_rail_whose_contract_changes_go_as_the_model_says() {
    random_lives::<OnAny>();
}
