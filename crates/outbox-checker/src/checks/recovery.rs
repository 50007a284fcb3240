//! How long after a crash the last lease of the crashed was settled, by the rows' times and the machine's clock, without
//! the time in which the database was away. A crash that left no lease open needs no recovery.

use serde::Serialize;

use crate::faults::Faults;

/// A lease that was lost, or still stands.
#[derive(Clone, Debug)]
pub struct LostLease<'a> {
    /// Whose.
    pub worker: &'a str,
    /// Since when, by the database's clock.
    pub claimed_us: i64,
    /// When it was settled; `None`: it still stands.
    pub settled_us: Option<i64>,
}

/// What became of the leases of one crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recovery {
    /// Who crashed.
    pub worker: String,
    /// When, in microseconds since 1970.
    pub at_us: i64,
    /// How long its leases were, in milliseconds.
    pub lease_ms: i64,
    /// How many it left open.
    pub leases: u64,
    /// From the crash to the last settlement, in milliseconds, without outages.
    pub took_ms: i64,
    /// The outages within the longest of them, in milliseconds.
    pub outages_ms: i64,
    /// Whether a lease of it still stands.
    pub is_open: bool,
}

/// The recoveries of every crash that left a lease open. `now_us` is the machine's clock.
#[must_use]
pub fn recoveries(faults: &Faults, leases: &[LostLease<'_>], now_us: i64) -> Vec<Recovery> {
    let mut found = Vec::new();
    // By the machine's clock, once for all crashes.
    let times = leases.iter().map(|lease| {
        let settled_us = lease.settled_us.map_or(now_us, |settled_us| faults.earliest_host_us(settled_us));
        (faults.earliest_host_us(lease.claimed_us), settled_us)
    });
    let times: Vec<(i64, i64)> = times.collect();
    for kill in &faults.kills {
        let mut recovery = Recovery {
            worker: kill.worker.clone(),
            at_us: kill.at_us,
            lease_ms: kill.lease_ms,
            leases: 0,
            took_ms: 0,
            outages_ms: 0,
            is_open: false,
        };
        for (lease, (claimed_us, until_us)) in leases.iter().zip(&times) {
            let until_us = *until_us;
            if *claimed_us > kill.at_us || until_us <= kill.at_us || !lease.worker.starts_with(&kill.worker) {
                continue;
            }
            let outages_us = faults.outage_us(kill.at_us, until_us);
            let took_us = until_us - kill.at_us - outages_us;
            recovery.leases += 1;
            recovery.is_open |= lease.settled_us.is_none();
            (recovery.took_ms, recovery.outages_ms) =
                (recovery.took_ms, recovery.outages_ms).max((took_us / 1000, outages_us / 1000));
        }
        if recovery.leases > 0 {
            found.push(recovery);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Kill;

    fn lease(worker: &str, claimed_us: i64, settled_us: Option<i64>) -> LostLease<'_> {
        LostLease { worker, claimed_us, settled_us }
    }

    fn faults() -> Faults {
        let kill = Kill { worker: "d1/a".to_owned(), at_us: 10_000_000, lease_ms: 5000 };
        Faults { kills: vec![kill], ..Faults::default() }
    }

    #[test]
    fn a_recovery_lasts_until_the_last_lease_is_settled() {
        let leases = [
            lease("d1/a", 9_000_000, Some(14_000_000)),
            lease("d1/a", 9_500_000, Some(17_500_000)),
            lease("d1/b", 9_500_000, Some(90_000_000)),
            lease("d1/a", 2_000_000, Some(9_000_000)),
            lease("d1/a", 11_000_000, Some(99_000_000)),
        ];
        let found = recoveries(&faults(), &leases, 100_000_000);
        assert_eq!((found.len(), found[0].leases, found[0].took_ms, found[0].is_open), (1, 2, 7500, false));
    }

    #[test]
    fn an_outage_does_not_count_and_an_open_lease_does() {
        let mut faults = faults();
        faults.outages.push((11_000_000, 13_000_000));
        let found = recoveries(&faults, &[lease("d1/a", 9_000_000, None)], 20_000_000);
        assert_eq!((found[0].took_ms, found[0].outages_ms, found[0].is_open), (8000, 2000, true));
    }

    #[test]
    fn a_crash_without_an_open_lease_needs_no_recovery() {
        assert_eq!(recoveries(&faults(), &[lease("d2/a", 9_000_000, Some(14_000_000))], 20_000_000), []);
    }
}
