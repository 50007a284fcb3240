//! A rail's `Retry-After`: whole seconds or a date to come, anything else is none; and whatever it says, the next send is no
//! further away than the cap.

use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue};
use outbox_core::Millis;
use outbox_core::retry::{RETRY_AFTER_MAX, next_delay};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// The wait between sends without a rail's wish, at most.
const BACKOFF_CAP: Millis = Millis(300_000);

/// Panics unless it holds of `data`: the header's value, of several one a line.
pub(crate) fn target(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let Ok(value) = HeaderValue::from_bytes(line) else { return };
        headers.append(RETRY_AFTER, value);
    }
    for seconds in [0, 784_111_777, 1_800_000_000, 4_102_444_800] {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        judge(&headers, now, outbox_rail::retry_after(&headers, now));
    }
}

/// What must hold of the wait that was read from `headers`.
pub(crate) fn judge(headers: &HeaderMap, now: SystemTime, read: Option<Millis>) {
    let values: Vec<&HeaderValue> = headers.get_all(RETRY_AFTER).iter().collect();
    let text = if let [only] = values[..] { only.to_str().ok().map(str::trim) } else { None };
    let is_digits = text.is_some_and(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    match read {
        None => assert!(!is_digits, "seconds were not read: {text:?}"),
        Some(wait) if is_digits => {
            let digits = text.unwrap_or_default().trim_start_matches('0');
            let seconds: u128 = if digits.is_empty() { 0 } else { digits.parse().unwrap_or(u128::MAX) };
            assert_eq!(u128::from(wait.0), seconds.saturating_mul(1_000).min(u64::MAX.into()));
        }
        Some(wait) => {
            let text = text.expect("a wait out of no value, or out of two");
            assert!(wait > Millis::ZERO);
            let until = now + Duration::from(wait);
            if let Ok(date) = OffsetDateTime::parse(text, &Rfc2822) {
                assert_eq!(OffsetDateTime::from(until).unix_timestamp(), date.unix_timestamp(), "{text}");
            }
            assert_eq!(httpdate::parse_http_date(text).ok(), Some(until), "{text}");
        }
    }
    for jitter in [0, u64::MAX, 0x9e37_79b9_7f4a_7c15] {
        let delay = next_delay(Millis(500), BACKOFF_CAP, 30, read, jitter);
        assert!(delay <= RETRY_AFTER_MAX.max(BACKOFF_CAP), "{read:?} waits for {delay}");
        assert!(read.is_none_or(|asked| delay >= asked.min(RETRY_AFTER_MAX)), "{read:?} waits for {delay}");
    }
}
