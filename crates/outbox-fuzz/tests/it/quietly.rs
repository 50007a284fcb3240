//! Runs a check that may panic, many times over, without a line on standard error for each panic.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// What the last panic of this thread said, while a check runs on it.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// What `check` says against `bytes`, if anything.
pub(crate) fn fault_of(check: fn(&[u8]), bytes: &[u8]) -> Option<String> {
    HOOK.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            let is_checking =
                SAID.with_borrow_mut(|said| said.as_mut().map(|said| *said = panicked.to_string()).is_some());
            if !is_checking {
                loud(panicked);
            }
        }));
    });
    SAID.set(Some(String::new()));
    let held = panic::catch_unwind(AssertUnwindSafe(|| check(bytes)));
    let said = SAID.take().unwrap_or_default();
    held.err().map(|_| said)
}
