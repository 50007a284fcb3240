//! Random sequences: which steps are tried in a state, and how often. Only names that stand for something are drawn, so that
//! sequences are valid; `State::allows` says the same of what is left of one when it is made shorter.

use outbox_core::{OnUnknown, Outcome};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::Union;
use proptest_state_machine::ReferenceStateMachine;

use super::model::{Place, State};
use super::transition::{
    Change, Decided, End, Form, Item, Kind, LeaseName, Likeness, Op, Pay, Report, Request, Scope, Transition, Window,
};

const SLOTS: u8 = 4;
const ACTIONS: u8 = 8;

type Weighted = Vec<(u32, BoxedStrategy<Op>)>;

/// Which contract a rail has at the beginning, and whether it is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contract {
    Resend,
    Inquire,
    Hold,
    Any,
}

fn on_unknown(contract: Contract) -> BoxedStrategy<OnUnknown> {
    match contract {
        Contract::Resend => Just(OnUnknown::Resend).boxed(),
        Contract::Inquire => Just(OnUnknown::Inquire).boxed(),
        Contract::Hold => Just(OnUnknown::Hold).boxed(),
        Contract::Any => select(vec![OnUnknown::Resend, OnUnknown::Inquire, OnUnknown::Hold]).boxed(),
    }
}

pub(super) fn init(contract: Contract) -> BoxedStrategy<State> {
    let limits = (prop::bool::weighted(0.75), 1..4_u32, prop_oneof![1..3_u32, Just(3)], 1..3_u32);
    (on_unknown(contract), limits)
        .prop_map(|(on_unknown, (not_found_is_final, max_sends, max_crashes, max_inquiries))| {
            let mut state = State::new(on_unknown);
            state.contract.not_found_is_final = not_found_is_final;
            state.contract.max_sends = max_sends;
            state.contract.max_crashes = max_crashes;
            state.contract.max_inquiries = max_inquiries;
            state
        })
        .boxed()
}

fn request() -> BoxedStrategy<Request> {
    let not_before = prop_oneof![5 => Just(None), 1 => Just(Some(2))];
    let not_after = prop_oneof![5 => Just(None), 1 => select(vec![Some(3), Some(30), Some(0)])];
    (0..2_u8, prop::bool::weighted(0.35), not_before, not_after)
        .prop_filter_map(
            "a window",
            |(participant, ordered, not_before, not_after): (u8, bool, Option<i64>, Option<i64>)| {
                let is_window = not_before.is_none_or(|from| not_after.is_none_or(|until| until > from));
                is_window.then_some(Request { participant, ordered, not_before, not_after })
            },
        )
        .boxed()
}

fn enqueue() -> BoxedStrategy<Op> {
    let likeness = prop_oneof![
        8 => Just(Likeness::Same), 1 => Just(Likeness::OtherBytes), 1 => Just(Likeness::OtherKey), 1 => Just(Likeness::Bad)
    ];
    let item = (0..SLOTS, likeness, request()).prop_map(|(slot, likeness, request)| Item { slot, likeness, request });
    let single = (item.clone(), any::<bool>())
        .prop_map(|(item, text)| Op::Enqueue { form: if text { Form::Text } else { Form::Single }, items: vec![item] });
    let batch = vec(item, 1..4).prop_map(|mut items| {
        for place in 1..items.len() {
            if let Some(known) = items[..place].iter().find(|item| item.slot == items[place].slot).copied() {
                items[place].request = known.request;
            }
        }
        Op::Enqueue { form: Form::Batch, items }
    });
    prop_oneof![single, batch].boxed()
}

fn claim() -> BoxedStrategy<Op> {
    let limit = prop_oneof![4 => Just(10_u8), 1 => 1..3_u8];
    let short = prop::bool::weighted(0.02);
    (0..2_u8, limit, 0..2_u8, prop::bool::weighted(0.2), 0..2_u8, short)
        .prop_map(|(worker, limit, in_flight, from_cursor, endpoint, short)| Op::Claim {
            worker,
            limit,
            in_flight,
            from_cursor,
            endpoint,
            short,
        })
        .boxed()
}

/// Leases that were granted; those in force come more often.
fn leases(state: &State) -> Vec<LeaseName> {
    let is_current = |name: &LeaseName| {
        let life = &state.lives[&name.pay];
        life.lease.is_some() && life.attempt_count == name.attempt_no
    };
    let (current, old): (Vec<LeaseName>, Vec<LeaseName>) = state.granted.keys().partition(|name| is_current(name));
    let mut all = Vec::new();
    for _ in 0..4 {
        all.extend(current.iter().copied());
    }
    all.extend(old.iter().copied());
    all
}

fn lease(state: &State) -> BoxedStrategy<(u8, LeaseName)> {
    let granted = state.granted.clone();
    let other = prop::bool::weighted(0.1);
    (select(leases(state)), other)
        .prop_map(move |(name, other)| (if other { 1 - granted[&name] } else { granted[&name] }, name))
        .boxed()
}

fn end() -> BoxedStrategy<End> {
    let known = select(Outcome::ALL.to_vec()).prop_map(End::Known);
    let doubtful =
        select(vec![Outcome::Unknown, Outcome::Accepted, Outcome::NotFound, Outcome::Refused]).prop_map(End::Known);
    prop_oneof![6 => known, 4 => doubtful, 1 => Just(End::AcceptedElse), 1 => Just(End::AcceptedBare)].boxed()
}

fn report(state: &State) -> BoxedStrategy<(u8, Report)> {
    let delay = prop_oneof![3 => Just(0_i64), 1 => select(vec![1_i64, 4])];
    (lease(state), prop::bool::weighted(0.04), end(), delay)
        .prop_map(|((worker, lease), forged, end, delay)| (worker, Report { lease, forged, end, delay }))
        .boxed()
}

fn of_leases(state: &State) -> Weighted {
    if state.granted.is_empty() {
        return Vec::new();
    }
    let complete = vec(report(state), 1..4).prop_map(|reports| Op::Complete {
        worker: reports[0].0,
        reports: reports.into_iter().map(|(_, report)| report).collect(),
    });
    let given = || vec((lease(state), prop::bool::weighted(0.05)), 1..3);
    let split = |given: Vec<((u8, LeaseName), bool)>| {
        (given[0].0.0, given.into_iter().map(|((_, name), forged)| (name, forged)).collect::<Vec<_>>())
    };
    let renew = given().prop_map(move |given| {
        let (worker, leases) = split(given);
        Op::Renew { worker, leases }
    });
    let release = given().prop_map(move |given| {
        let (worker, leases) = split(given);
        Op::Release { worker, leases }
    });
    vec![(9, complete.boxed()), (2, renew.boxed()), (2, release.boxed())]
}

fn pause(state: &State) -> Weighted {
    let scope = (any::<bool>(), prop_oneof![1 => Just(None), 3 => (0..2_u8).prop_map(Some)])
        .prop_map(|(of_rail, participant)| Scope { of_rail, participant });
    let mut ops =
        vec![(1, (scope, prop::bool::weighted(0.9)).prop_map(|(scope, paused)| Op::Pause { scope, paused }).boxed())];
    let paused: Vec<Scope> = state.pauses.keys().copied().collect();
    if !paused.is_empty() {
        ops.push((4, select(paused).prop_map(|scope| Op::Pause { scope, paused: false }).boxed()));
    }
    ops
}

fn change(contract: Contract) -> BoxedStrategy<Op> {
    let limits = prop_oneof![
        any::<bool>().prop_map(Change::NotFoundIsFinal),
        (1..4_u32).prop_map(Change::MaxSends),
        (1..4_u32).prop_map(Change::MaxCrashes),
        (1..3_u32).prop_map(Change::MaxInquiries),
        any::<bool>().prop_map(Change::Paused),
    ];
    let other = on_unknown(contract).prop_map(Change::OnUnknown);
    prop_oneof![2 => limits, 1 => other].prop_map(Op::SetRail).boxed()
}

/// Kinds that may do something to one of the payments.
fn kinds(state: &State) -> Vec<Kind> {
    let mut kinds = Kind::ALL.to_vec();
    let is_any = |test: &dyn Fn(&super::model::Life) -> bool| state.lives.values().any(test);
    if is_any(&|life| life.ended.is_none() && matches!(life.place, Place::Held(_) | Place::InDoubt)) {
        for _ in 0..3 {
            kinds.extend([Kind::Release, Kind::ReleaseAsResend, Kind::ResolveDispatched, Kind::ResolveFailed]);
        }
    }
    if is_any(&|life| life.ended.is_some()) {
        kinds.extend([Kind::Redrive; 6]);
    }
    if is_any(&|life| life.lease.is_some()) {
        kinds.extend([Kind::Hold; 4]);
    }
    kinds
}

fn people(state: &State) -> Weighted {
    let mut ops = Vec::new();
    let pays: Vec<Pay> = state.lives.keys().copied().collect();
    let free = (0..ACTIONS).find(|name| !state.actions.contains_key(name));
    if let (Some(action), false) = (free, pays.is_empty()) {
        let count = pays.len().min(3);
        let members = prop_oneof![2 => subsequence(pays.clone(), 1), 1 => subsequence(pays, 1..=count)];
        let window = prop_oneof![4 => Just(Window::Keep), 1 => Just(Window::Drop)];
        let propose = (select(kinds(state)), members, prop::bool::weighted(0.85), window);
        let propose = propose.prop_map(move |(kind, members, evidence, window)| Op::Propose {
            action,
            kind,
            members,
            evidence,
            window,
        });
        ops.push((3, propose.boxed()));
        let apt = state.apt();
        if !apt.is_empty() {
            let window = Window::Keep;
            let propose = select(apt).prop_map(move |(kind, pay)| Op::Propose {
                action,
                kind,
                members: vec![pay],
                evidence: true,
                window,
            });
            ops.push((4, propose.boxed()));
        }
    }
    let names: Vec<u8> = state.actions.keys().copied().collect();
    let open = |name: &u8| state.actions[name].word.is_none() && state.actions[name].kind.needs_approval();
    let undecided: Vec<u8> = names.iter().copied().filter(open).collect();
    let unapplied = |name: &u8| state.actions[name].results.len() < state.actions[name].members.len() && !open(name);
    let unapplied: Vec<u8> = names.iter().copied().filter(unapplied).collect();
    let decided = prop_oneof![
        12 => Just(Decided::Approved), 1 => Just(Decided::Rejected), 1 => Just(Decided::ByMaker),
        1 => Just(Decided::OfAnother), 1 => Just(Decided::Withdrawn)
    ];
    let decide = |names: Vec<u8>| {
        (select(names), decided.clone()).prop_map(|(action, decided)| Op::Decide { action, decided }).boxed()
    };
    let apply = |names: Vec<u8>| {
        let limit = prop_oneof![4 => Just(10_u8), 1 => Just(1)];
        (select(names), limit, any::<bool>())
            .prop_map(|(action, limit, by_checker)| Op::Apply { action, limit, by_checker })
            .boxed()
    };
    if !undecided.is_empty() {
        ops.push((8, decide(undecided)));
    }
    if !unapplied.is_empty() {
        ops.push((9, apply(unapplied)));
    }
    if !names.is_empty() {
        ops.push((1, decide(names.clone())));
        ops.push((1, apply(names)));
    }
    ops
}

/// Calls that can be made in a state.
fn calls(contract: Contract, state: &State) -> BoxedStrategy<Op> {
    let limit = prop_oneof![2 => Just(10_u8), 1 => 1..3_u8];
    let cursor_of = prop_oneof![4 => Just(None), 1 => (0..2_u8).prop_map(Some)];
    let expire = (limit.clone(), cursor_of).prop_map(|(limit, cursor_of)| Op::Expire { limit, cursor_of });
    let unpark = limit.prop_map(|limit| Op::Unpark { limit });
    let beat = (0..2_u8, prop::bool::weighted(0.1)).prop_map(|(worker, stopped)| Op::Heartbeat { worker, stopped });
    let fresh = u32::from(SLOTS).saturating_sub(u32::try_from(state.lives.len()).unwrap_or(u32::MAX));
    let mut ops: Weighted = vec![
        (1 + 3 * fresh, enqueue()),
        (if state.lives.is_empty() { 1 } else { 9 }, claim()),
        (2, expire.boxed()),
        (if state.owed.is_empty() { 1 } else { 5 }, unpark.boxed()),
        (1, beat.boxed()),
        (1, change(contract)),
    ];
    ops.extend(of_leases(state));
    ops.extend(pause(state));
    ops.extend(people(state));
    Union::new_weighted(ops).boxed()
}

pub(super) fn transitions(contract: Contract, state: &State) -> BoxedStrategy<Transition> {
    let call = calls(contract, state);
    let is_leased = state.lives.values().any(|life| life.lease.is_some());
    let pass = prop_oneof![
        2 => 1..4_i64, if is_leased { 8 } else { 2 } => Just(super::model::LEASE), 3 => Just(super::model::DOUBT),
        1 => Just(4 * super::model::RAIL_TIMEOUT), 1 => Just(super::model::KEY_WINDOW)
    ];
    let overlap = (call.clone(), vec(call.clone(), 1..3), any::<bool>())
        .prop_map(|(first, second, commits)| Transition::Overlap { first, second, commits });
    let state = state.clone();
    // Workers that vanish, and vanish again, are what takes the longest to come about.
    let passing = match (state.lives.is_empty(), is_leased) {
        (true, _) => 0,
        (false, false) => 6,
        (false, true) => 12,
    };
    let overlapping = if state.lives.is_empty() { 1 } else { 8 };
    Union::new_weighted(
        [
            (40, call.prop_map(Transition::Call).boxed()),
            (passing, pass.prop_map(Transition::Pass).boxed()),
            (overlapping, overlap.boxed()),
        ]
        .into_iter()
        .filter(|(weight, _)| *weight > 0)
        .collect::<Vec<_>>(),
    )
    .prop_filter("a step that is allowed", move |transition| state.allows(transition))
    .boxed()
}

macro_rules! machine {
    ($name:ident, $contract:expr) => {
        /// Sequences on a rail that begins under one contract.
        pub(super) struct $name;

        impl ReferenceStateMachine for $name {
            type State = State;
            type Transition = Transition;

            fn init_state() -> BoxedStrategy<State> {
                init($contract)
            }

            fn transitions(state: &State) -> BoxedStrategy<Transition> {
                transitions($contract, state)
            }

            fn apply(state: State, transition: &Transition) -> State {
                state.step(transition)
            }

            fn preconditions(state: &State, transition: &Transition) -> bool {
                state.allows(transition)
            }
        }
    };
}

machine!(OnResend, Contract::Resend);
machine!(OnInquire, Contract::Inquire);
machine!(OnHold, Contract::Hold);
machine!(OnAny, Contract::Any);
