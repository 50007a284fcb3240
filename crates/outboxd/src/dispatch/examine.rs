//! What would keep a dispatcher from its work, asked without dispatching: the same judgements as at its start and in
//! its lanes, in the same words. Nothing is claimed, and nothing is written.

use std::sync::Arc;
use std::time::SystemTime;

use outbox_core::{Millis, RailName, WorkerId};
use outbox_store::{ConnectSettings, Memory, Preflight, RailRow, Session, StoreError};
use time::OffsetDateTime;
use uuid::Uuid;

use super::connection::ConnectionError;
pub(crate) use super::db_clock::DIFFERENCE_MAX;
use super::governed::{Times, govern};
use super::lane_parts::LaneSettings;
use super::off::{Abilities, Off};
use super::policy_watch::PolicyNow;
use super::preflight::{Demands, judge_all};
use super::start::{Trouble, lane_settings, try_preflight};
use super::state_file;
use crate::config::Config;

/// Everything about a connection that is not as `config` demands.
pub(crate) fn refusals(found: &Preflight, config: &Config) -> Vec<String> {
    judge_all(found, Demands::of(config)).into_iter().map(|refusal| refusal.what).collect()
}

/// Whether several sessions at once are several, and hear hints: what goes wrong first, in the daemon's words.
///
/// # Errors
/// Those words.
pub(crate) async fn sessions(database: &Arc<ConnectSettings>, config: &Config) -> Result<(), String> {
    let rails: Vec<RailName> = config.rails.keys().cloned().collect();
    try_preflight(database, Demands::of(config), &rails).await.map_err(words)
}

/// An error of the store, in the daemon's words.
pub(crate) fn store_words(error: StoreError) -> String {
    words(Trouble::from(ConnectionError::from(error)))
}

fn words(trouble: Trouble) -> String {
    match trouble {
        Trouble::Passing(text) => text,
        Trouble::Fatal(failure) => failure.message,
    }
}

/// Why the lane of a configured `rail` would not claim under the contract in `row` and the `policy`.
pub(crate) fn lane_off(config: &Config, rail: &RailName, row: Option<&RailRow>, policy: &PolicyNow) -> Option<String> {
    let worker_id = WorkerId::new(&config.dispatcher.name, Uuid::nil()).ok()?;
    let governed = match govern(rail, &config.rails[rail], &policy.of_rail(rail, row)) {
        Ok(governed) => governed,
        Err(why) => return Some(why),
    };
    let configured = &governed.rail;
    let settings =
        LaneSettings { times: Times::of(&config.dispatcher, configured), ..lane_settings(config, rail, worker_id) };
    let contract = row.and_then(|row| row.contract.as_ref());
    let can = Abilities { inquire: configured.inquiry.is_some(), fall_back: !configured.fallback_urls.is_empty() };
    Off::judge(contract, &settings, can).reason().map(str::to_owned)
}

/// What the dispatcher of this host remembers of the database, by its state file; none: nothing yet, or it keeps none.
///
/// # Errors
/// Why the file cannot be read, as the daemon would say it.
pub(crate) fn seen(config: &Config) -> Result<Option<Memory>, String> {
    let Some(directory) = &config.dispatcher.state_directory else { return Ok(None) };
    state_file::read(directory, &config.dispatcher.name).map_err(|failure| failure.message)
}

/// How far the database's clock is from this host's at least, whatever part of the call the reply took.
///
/// # Errors
/// [`StoreError`].
pub(crate) async fn clock_difference(session: &mut Session) -> Result<Millis, StoreError> {
    let before = SystemTime::now();
    let db_now = outbox_store::preflight(session).await?.db_now;
    Ok(apart(db_now, before.into(), OffsetDateTime::now_utc()))
}

fn apart(db_now: OffsetDateTime, before: OffsetDateTime, after: OffsetDateTime) -> Millis {
    let apart = (before - db_now).max(db_now - after).max(time::Duration::ZERO);
    Millis(u64::try_from(apart.whole_milliseconds()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_reply_is_no_difference_of_clocks() {
        let at = |ms| OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(ms);
        for (db, before, after, expected) in
            [(5, 0, 10, 0), (0, 0, 10, 0), (10, 0, 10, 0), (11, 0, 10, 1), (0, 1_500, 1_600, 1_500)]
        {
            assert_eq!(apart(at(db), at(before), at(after)), Millis(expected), "{db} {before} {after}");
        }
    }
}
