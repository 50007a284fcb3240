//! A dispatcher's state file: it is one that this program wrote, or it is refused; what was read is written the same.

use outbox_store::LogMark;
use outboxd::parsers::state;

use crate::json::{self, Json};

/// Panics unless it holds of `data`.
pub(crate) fn target(data: &[u8]) {
    let Ok((memory, written)) = state(data) else { return };
    let json = json::read(data).expect("taken, and is no JSON");
    let members = json.members().expect("taken, and is no object with each name once");
    assert_eq!(members.len(), 4, "{members:?}");
    let number = |name: &str| match json.member(name) {
        Some(Json::Number(digits)) => digits.parse::<i64>().expect("taken, and is no whole number"),
        other => panic!("{name} was taken: {other:?}"),
    };
    let LogMark { epoch_us, log_position, beat } = memory.mark;
    assert_eq!((epoch_us, log_position, beat), (number("epoch_us"), number("log_position"), number("beat")));
    let id = json.member("memory_id").and_then(Json::text).expect("a memory without an id was taken");
    let digits = |text: &str| text.chars().filter(char::is_ascii_hexdigit).collect::<String>().to_lowercase();
    let own = memory.id.expect("a file is somebody's").to_string();
    assert!(digits(id).ends_with(&digits(&own)), "{id} was read as {own}");
    assert_eq!(state(&written), Ok((memory, written.clone())), "written out and read again it is another memory");
}
