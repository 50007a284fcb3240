//! The reference page of log events and the code say the same.

use std::collections::BTreeMap;

const PAGE: &str = include_str!("../../../../docs/LOG_EVENTS.md");

#[test]
fn the_page_of_log_events_says_what_the_code_says() {
    let page: BTreeMap<&str, &str> =
        PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | ")).collect();
    let code: BTreeMap<&str, String> =
        outboxd::events::ALL.iter().map(|(name, says)| (*name, says.trim().replace(".  ", ". "))).collect();
    assert_eq!(code.len(), outboxd::events::ALL.len(), "two events have one name");
    for (name, says) in &code {
        assert_eq!(page.get(name), Some(&says.as_str()), "{name}; the page should have\n| `{name}` | {says} |");
    }
    assert_eq!(page.len(), code.len(), "the page lists events that the code does not have");
    let in_order: Vec<_> = PAGE.lines().filter(|line| line.starts_with("| `")).collect();
    assert!(in_order.is_sorted(), "the page is not in the order of the names");
}
