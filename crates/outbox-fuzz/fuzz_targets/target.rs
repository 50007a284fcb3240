//! One target under libFuzzer, chosen by OUTBOXD_FUZZ_TARGET; scripts/fuzz.sh starts it. Any build but cargo-fuzz's does nothing.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    use std::sync::OnceLock;

    static CHECK: OnceLock<fn(&[u8])> = OnceLock::new();
    let check = CHECK.get_or_init(|| {
        let name = std::env::var("OUTBOXD_FUZZ_TARGET").unwrap_or_default();
        outbox_fuzz::target(&name).expect("OUTBOXD_FUZZ_TARGET names a target").check
    });
    check(data);
});

#[cfg(not(fuzzing))]
fn main() {}
