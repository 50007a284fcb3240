//! The endpoints of one rail, in order, each with its breaker: where new payments are sent, and where a payment
//! that is bound to an endpoint goes. A payment is bound in the database, by the claim; see
//! docs/decisions/2026-11-24-routes.md.

use std::sync::Arc;

use outbox_core::breaker::{BreakerLimits, Generation, Permit};
use outbox_core::{BootTime, RailName};
use outbox_rail::Rail;

use super::lane_breaker::LaneBreaker;
use super::off::Abilities;
use super::sender::Said;
use crate::health::HealthState;

/// One endpoint.
struct Route {
    client: Arc<dyn Rail>,
    breaker: LaneBreaker,
    under_way: usize,
}

/// Where the next claim's payments go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// To this endpoint, so many at most.
    Send {
        /// Which.
        to: RouteNo,
        /// How many more.
        free: usize,
    },
    /// Nowhere before a send has ended.
    Full,
    /// Nowhere before then.
    NotBefore(BootTime),
}

/// The place of an endpoint in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RouteNo(usize);

/// What an exchange that is under way hands in when it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnderWay {
    route: RouteNo,
    generation: Generation,
}

/// Why a bound payment cannot be sent now; the class of its attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withheld {
    /// Its endpoint is left alone.
    Open,
    /// This dispatcher has no such endpoint.
    NotConfigured,
    /// It may have been sent to any of several: commits were lost since.
    Unknown,
}

impl Withheld {
    /// The error class of the attempt.
    pub(crate) const fn class(self) -> &'static str {
        match self {
            Self::Open => "endpoint_open",
            Self::NotConfigured => "endpoint_not_configured",
            Self::Unknown => "endpoint_unknown",
        }
    }
}

/// The endpoints of one rail.
pub(crate) struct Routes {
    concurrency: usize,
    routes: Vec<Route>,
}

impl Routes {
    /// `clients`: at least one, in order, no two with one endpoint.
    pub(crate) fn new(
        rail: &RailName,
        limits: BreakerLimits,
        clients: Vec<Arc<dyn Rail>>,
        health: &Arc<HealthState>,
    ) -> Self {
        let alone = clients.len() == 1;
        let route = |client: Arc<dyn Rail>| {
            let endpoint = (!alone).then(|| client.endpoint().to_owned());
            let breaker = LaneBreaker::new(rail.clone(), endpoint, limits, Arc::clone(health));
            Route { client, breaker, under_way: 0 }
        };
        let routes = clients.into_iter().map(route).collect();
        Self { concurrency: limits.concurrency as usize, routes }
    }

    /// Other clients of the same endpoints; what is under way keeps those that it began with.
    pub(crate) fn replace(&mut self, clients: Vec<Arc<dyn Rail>>) {
        assert_eq!(clients.len(), self.routes.len(), "a rail has the endpoints of its configuration");
        for (route, client) in self.routes.iter_mut().zip(clients) {
            assert_eq!(
                client.endpoint(),
                route.client.endpoint(),
                "payments in doubt are bound to an endpoint by its name"
            );
            route.client = client;
        }
    }

    /// What these endpoints can do.
    pub(crate) fn abilities(&self) -> Abilities {
        let inquire = self.routes.iter().all(|route| route.client.can_inquire());
        Abilities { inquire, fall_back: self.routes.len() > 1 }
    }

    /// Where the next claim's payments go.
    pub(crate) fn choose(&mut self, now: BootTime) -> Choice {
        let mut not_before: Option<BootTime> = None;
        for (no, route) in self.routes.iter_mut().enumerate() {
            match route.breaker.permit(now) {
                Permit::UpTo(sends) => {
                    let sends = sends as usize;
                    if sends > route.under_way {
                        return Choice::Send { to: RouteNo(no), free: sends - route.under_way };
                    }
                    // An endpoint that is well and busy is waited for; one that is coming back takes no more now.
                    if sends >= self.concurrency {
                        return Choice::Full;
                    }
                }
                Permit::NotBefore(until) => not_before = Some(not_before.map_or(until, |at| at.min(until))),
            }
        }
        not_before.map_or(Choice::Full, Choice::NotBefore)
    }

    /// The name of an endpoint, as the claim binds payments to it.
    pub(crate) fn endpoint(&self, route: RouteNo) -> &str {
        self.routes[route.0].client.endpoint()
    }

    /// Begins an exchange of a payment that was claimed for `chosen` and is bound to `bound`; none: it was in doubt
    /// before, and nobody knows where, unless the contract never let it `fall_back`: other dispatchers may have had
    /// endpoints that this one has not.
    pub(crate) fn begin(
        &mut self,
        now: BootTime,
        chosen: RouteNo,
        bound: Option<&str>,
        fall_back: bool,
    ) -> Result<(Arc<dyn Rail>, UnderWay), Withheld> {
        let no = match bound {
            Some(endpoint) => self
                .routes
                .iter()
                .position(|route| route.client.endpoint() == endpoint)
                .map(RouteNo)
                .ok_or(Withheld::NotConfigured)?,
            None if fall_back => return Err(Withheld::Unknown),
            None => chosen,
        };
        let route = &mut self.routes[no.0];
        let lets_in = match route.breaker.permit(now) {
            Permit::UpTo(sends) => sends as usize > route.under_way || sends as usize >= self.concurrency,
            Permit::NotBefore(_) => false,
        };
        if no != chosen && !lets_in {
            return Err(Withheld::Open);
        }
        route.under_way += 1;
        Ok((Arc::clone(&route.client), UnderWay { route: no, generation: route.breaker.generation() }))
    }

    /// Notes the end of an exchange and what it said; returns whether it opened the endpoint's breaker.
    pub(crate) fn ended(&mut self, now: BootTime, ended: UnderWay, said: Option<Said>) -> bool {
        let route = &mut self.routes[ended.route.0];
        route.under_way -= 1;
        let Some(said) = said else { return false };
        route.breaker.ended(now, ended.generation, said)
    }
}

#[cfg(test)]
mod tests {
    use outbox_core::{Millis, RailHealth};
    use outbox_rail::{Exchanging, Inquiry, MaySend, Submission};

    use super::*;

    const LIMITS: BreakerLimits =
        BreakerLimits { failures: 2, open_base: Millis(100), open_cap: Millis(100), concurrency: 4 };
    const FAILED: Said = Said { health: RailHealth::Failing, reason: "connect" };
    const WELL: Said = Said { health: RailHealth::Well, reason: "ACCEPTED" };

    struct Named(&'static str);

    impl Rail for Named {
        fn endpoint(&self) -> &str {
            self.0
        }
        fn can_inquire(&self) -> bool {
            false
        }
        fn submit(&self, _: Submission, _: MaySend) -> Exchanging<'_> {
            unreachable!("nothing is sent here")
        }
        fn inquire(&self, _: Inquiry, _: MaySend) -> Exchanging<'_> {
            unreachable!("nothing is asked here")
        }
    }

    struct Kit {
        routes: Routes,
        health: Arc<HealthState>,
    }

    impl Kit {
        fn new(endpoints: &[&'static str]) -> Self {
            let health = HealthState::new();
            let clients = endpoints.iter().map(|name| Arc::new(Named(name)) as Arc<dyn Rail>).collect();
            let rail = RailName::new("a").unwrap();
            let routes = Routes::new(&rail, LIMITS, clients, &health);
            Self { routes, health }
        }

        /// Begins at the endpoint that is chosen now.
        fn begin(&mut self, now: u64) -> UnderWay {
            let Choice::Send { to, .. } = self.routes.choose(BootTime(now)) else { panic!("nothing may be sent") };
            let endpoint = self.routes.endpoint(to).to_owned();
            self.routes.begin(BootTime(now), to, Some(&endpoint), true).unwrap_or_else(|_| panic!("withheld")).1
        }

        fn end(&mut self, now: u64, under_way: UnderWay, said: Said) -> bool {
            self.routes.ended(BootTime(now), under_way, Some(said))
        }

        fn chosen(&mut self, now: u64) -> Option<(usize, usize)> {
            match self.routes.choose(BootTime(now)) {
                Choice::Send { to, free } => Some((to.0, free)),
                Choice::Full | Choice::NotBefore(_) => None,
            }
        }

        fn shown(&self) -> Vec<String> {
            self.health.breakers_open().into_iter().map(|open| format!("{}: {}", open.subject, open.reason)).collect()
        }

        /// Two failures at the first endpoint, which open its breaker; returns when it ends.
        fn first_fails(&mut self) -> u64 {
            let (one, two) = (self.begin(0), self.begin(0));
            assert!(!self.end(0, one, FAILED));
            assert!(self.end(0, two, FAILED));
            let Permit::NotBefore(until) = self.routes.routes[0].breaker.permit(BootTime(0)) else {
                panic!("it is open, and lets sends begin")
            };
            until.0
        }
    }

    #[test]
    fn nothing_is_claimed_from_the_opening_on_but_one_probe_until_it_was_answered() {
        let mut kit = Kit::new(&["https://one"]);
        let until = kit.first_fails();
        assert_eq!(kit.shown(), ["rail a: connect"]);
        assert_eq!(kit.routes.choose(BootTime(0)), Choice::NotBefore(BootTime(until)));
        assert_eq!(kit.chosen(until), Some((0, 1)));
        let probe = kit.begin(until);
        assert_eq!(kit.chosen(until), None, "a probe is under way");
        assert!(!kit.end(until, probe, WELL));
        assert_eq!((kit.chosen(until), kit.shown()), (Some((0, 2)), Vec::new()));
        assert_eq!(kit.health.reasons(), [], "an open breaker does not make the daemon unready");
    }

    #[test]
    fn the_second_endpoint_is_used_while_the_first_is_open_and_gets_what_a_recovering_first_does_not_take() {
        let mut kit = Kit::new(&["https://one", "https://two"]);
        let until = kit.first_fails();
        assert_eq!(kit.shown(), ["rail a at https://one: connect"]);
        assert_eq!(kit.chosen(0), Some((1, 4)));
        let probe = kit.begin(until);
        assert_eq!((probe.route.0, kit.chosen(until)), (0, Some((1, 4))));
        kit.end(until, probe, WELL);
        assert_eq!(kit.chosen(until), Some((0, 2)));
        let (_one, _two) = (kit.begin(until), kit.begin(until));
        assert_eq!(kit.chosen(until), Some((1, 4)));
    }

    #[test]
    fn a_healthy_endpoint_that_is_busy_is_waited_for() {
        let mut kit = Kit::new(&["https://one", "https://two"]);
        let busy: Vec<UnderWay> = (0..4).map(|_| kit.begin(0)).collect();
        assert_eq!(kit.routes.choose(BootTime(0)), Choice::Full);
        kit.end(0, busy[0], WELL);
        assert_eq!(kit.chosen(0), Some((0, 1)));
    }

    #[test]
    fn a_bound_payment_goes_to_its_endpoint_or_nowhere() {
        let mut kit = Kit::new(&["https://one", "https://two"]);
        let bound = |kit: &mut Kit, now: u64, chosen: usize, to: &str| {
            let begun = kit.routes.begin(BootTime(now), RouteNo(chosen), Some(to), true);
            begun.map(|(client, under_way)| (client.endpoint().to_owned(), under_way))
        };
        let (to, _) = bound(&mut kit, 0, 0, "https://two").unwrap();
        assert_eq!(to, "https://two");
        assert_eq!(bound(&mut kit, 0, 0, "https://gone").unwrap_err(), Withheld::NotConfigured);
        let until = kit.first_fails();
        assert_eq!(bound(&mut kit, 0, 1, "https://one").unwrap_err(), Withheld::Open);
        // When a probe is due, a bound payment is as good as another; then nothing more until it is answered.
        let (to, probe) = bound(&mut kit, until, 1, "https://one").unwrap();
        assert_eq!(to, "https://one");
        assert_eq!(bound(&mut kit, until, 1, "https://one").unwrap_err(), Withheld::Open);
        kit.end(until, probe, WELL);
        assert!(bound(&mut kit, until, 1, "https://one").is_ok());
    }

    #[test]
    fn a_payment_in_doubt_nobody_knows_where_is_sent_only_if_there_never_was_a_second_endpoint() {
        let begin = |kit: &mut Kit, fall_back| kit.routes.begin(BootTime(0), RouteNo(0), None, fall_back).map(|_| ());
        assert_eq!(begin(&mut Kit::new(&["https://one", "https://two"]), true), Err(Withheld::Unknown));
        assert_eq!(begin(&mut Kit::new(&["https://one"]), true), Err(Withheld::Unknown), "the second was taken out");
        assert_eq!(begin(&mut Kit::new(&["https://one"]), false), Ok(()));
    }

    #[test]
    fn with_every_endpoint_open_nothing_is_claimed_before_the_first_may_be_probed() {
        let mut kit = Kit::new(&["https://one", "https://two"]);
        let first = kit.first_fails();
        let (one, two) = (kit.begin(0), kit.begin(0));
        kit.end(0, one, FAILED);
        kit.end(0, two, FAILED);
        let Choice::NotBefore(at) = kit.routes.choose(BootTime(0)) else { panic!("something may be sent") };
        assert!(at.0 <= first, "{at:?} {first}");
    }
}
