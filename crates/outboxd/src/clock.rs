//! The machine's boot clock, which leases are counted by. It goes on through a suspend and is never
//! stepped; what a reading means is decided in `outbox_core`.

use outbox_core::BootTime;
use rustix::time::{ClockId, clock_gettime};

/// CLOCK_BOOTTIME now, in whole milliseconds.
#[must_use]
pub fn boot_now() -> BootTime {
    let now = clock_gettime(ClockId::Boottime);
    // The clock counts from the boot, so neither part is ever negative.
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let millis = u64::try_from(now.tv_nsec / 1_000_000).unwrap_or(0);
    BootTime(seconds.saturating_mul(1_000).saturating_add(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_agrees_with_the_kernels_own_count_of_its_uptime() {
        let before = boot_now();
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        let after = boot_now();
        // `SECONDS.HUNDREDTHS`, cut off.
        let uptime_ms: u64 = text.split_whitespace().next().unwrap().replace('.', "").parse::<u64>().unwrap() * 10;
        assert!(before.0 / 10 * 10 <= uptime_ms && uptime_ms <= after.0, "{before:?} {uptime_ms} {after:?}");
    }
}
