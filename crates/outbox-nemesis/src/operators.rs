//! Two people with the product's own commands: one proposes, another approves. What they decide about held payments is
//! what the rail's own books say, as docs/RUNBOOK.md has it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use rail_sim::Ledger;

use crate::daemon_faults::{Effect, some_ms};
use crate::error::NemesisError;
use crate::kind::Kind;
use crate::world::World;

/// Nobody repeats a command for longer.
const TRIES: u32 = 100;

/// What a command said.
struct Said {
    code: Option<i32>,
    out: String,
}

/// Deals `kind` out.
///
/// # Errors
/// When a command that must succeed never does.
pub(crate) async fn deal(world: &Arc<World>, kind: Kind, rng: &mut Rng) -> Result<Effect, NemesisError> {
    match kind {
        Kind::Pause => pause(world, rng).await,
        Kind::HoldAndRelease => hold_and_release(world, rng).await,
        Kind::Settle => settle(world, rng).await,
        _ => cancel(world).await,
    }
}

/// Says that the database of now may be dispatched from, though commits since `lost_from` are missing.
///
/// # Errors
/// When it is refused.
pub(crate) async fn acknowledge(world: &World, lost_from: &str) -> Result<(), NemesisError> {
    let words = ["failover", "acknowledge", "--lost-from", lost_from, "--reason", "promoted"];
    let said = until_done(world, "t_operator", &words).await?;
    let approved = approve(world, &said, 0).await?;
    match approved.code {
        Some(0) => Ok(()),
        _ => Err(NemesisError::Program { what: "an acknowledged failover".to_owned(), output: approved.out }),
    }
}

async fn pause(world: &World, rng: &mut Rng) -> Result<Effect, NemesisError> {
    let rail = world.rails[rng.usize(..world.rails.len())].kind.name;
    {
        let _deciding = world.recording.read().await;
        until_done(world, "t_operator", &["pause", "--rail", rail, "--reason", "maintenance"]).await?;
    }
    tokio::time::sleep(some_ms(rng, 300, 3_000)).await;
    let _deciding = world.recording.read().await;
    until_done(world, "t_operator", &["resume", "--rail", rail, "--reason", "over"]).await?;
    Ok(Effect::Took)
}

async fn some_payments(world: &World, which: &str, limit: u32) -> Result<Vec<String>, NemesisError> {
    let sql = format!("select outbox_id::text from outbox.payment_outbox_pending where {which} limit {limit}");
    world.texts(&sql).await
}

async fn hold_and_release(world: &World, rng: &mut Rng) -> Result<Effect, NemesisError> {
    let _deciding = world.recording.read().await;
    let held = unsent_and_held(world).await?;
    if held.is_empty() {
        return Ok(Effect::Missed);
    }
    tokio::time::sleep(some_ms(rng, 100, 1_000)).await;
    Ok(Effect::of(act(world, "release", &held, &[]).await? > 0))
}

async fn cancel(world: &World) -> Result<Effect, NemesisError> {
    let _deciding = world.recording.read().await;
    let held = unsent_and_held(world).await?;
    if held.is_empty() {
        return Ok(Effect::Missed);
    }
    Ok(Effect::of(act(world, "cancel", &held, &[]).await? > 0))
}

/// Holds a few payments; returns those that were held before they were sent.
async fn unsent_and_held(world: &World) -> Result<Vec<String>, NemesisError> {
    let ids =
        some_payments(world, "disposition = 'READY' and first_sent_at is null and lease_token is null", 8).await?;
    if ids.is_empty() {
        return Ok(ids);
    }
    act(world, "hold", &ids, &[]).await?;
    let list = ids.join("','");
    let unsent = format!("outbox_id in ('{list}') and hold_reason = 'REQUESTED' and first_sent_at is null");
    some_payments(world, &unsent, 8).await
}

/// Held payments end as the rail's books say, or are sent again where it has none of them.
async fn settle(world: &World, rng: &mut Rng) -> Result<Effect, NemesisError> {
    let _deciding = world.recording.read().await;
    let which = "disposition = 'HELD' and hold_reason in ('UNKNOWN', 'EXHAUSTED', 'KEY_WINDOW') \
                 and quarantine_until < clock_timestamp() - interval '10 s'";
    let rails = format!("select distinct rail from outbox.payment_outbox_pending where {which}");
    let rails = world.texts(&rails).await?;
    if rails.is_empty() {
        return Ok(Effect::Missed);
    }
    let name = &rails[rng.usize(..rails.len())];
    let ids = some_payments(world, &format!("rail = '{name}' and {which} order by outbox_id desc"), 6).await?;
    let rail = world.rails.iter().find(|rail| rail.kind.name == name).expect("payments go over these rails only");
    if ids.is_empty() {
        return Ok(Effect::Missed);
    }
    let path = rail.ledger().to_owned();
    let ledger = tokio::task::spawn_blocking(move || books(&path)).await;
    let ledger = ledger.map_err(|_| NemesisError::Wrong("reading a ledger failed".to_owned()))??;
    let mut settled = 0;
    for id in ids {
        let executed = ledger.effects.iter().find(|effect| effect.key == id);
        settled += match executed {
            Some(effect) => {
                act(world, "resolve", &[id], &["--as", "dispatched", "--evidence", &effect.reference]).await?
            }
            None => act(world, "release", &[id], &["--as-resend", "--evidence", "STATEMENT"]).await?,
        };
    }
    Ok(Effect::of(settled > 0))
}

fn books(path: &Path) -> Result<Ledger, NemesisError> {
    Ok(Ledger::read(path)?)
}

/// Proposes and, where it takes two, approves; returns how many payments were changed.
async fn act(world: &World, action: &str, ids: &[String], words: &[&str]) -> Result<usize, NemesisError> {
    // Before it happens: what follows from it may be read before it is written down.
    for id in ids {
        world.journal.operator(action, id);
    }
    let count = ids.len().to_string();
    let mut all = vec![action];
    all.extend(ids.iter().map(String::as_str));
    all.extend(["--reason", "nemesis", "--confirm", &count]);
    all.extend(words);
    let said = once(world, "t_operator", &all).await?;
    // Payments move on while people type: what does not fit any more is skipped or refused, and that is right.
    if !matches!(said.code, Some(0 | 1)) {
        return Ok(0);
    }
    if matches!(action, "release" | "resolve") {
        return approve(world, &said, ids.len()).await.map(|said| usize::from(said.code == Some(0)));
    }
    Ok(ids.len())
}

async fn approve(world: &World, proposed: &Said, payments: usize) -> Result<Said, NemesisError> {
    let told: serde_json::Value = serde_json::from_str(&proposed.out).unwrap_or_default();
    let Some(action) = told["action_id"].as_str() else { return Ok(Said { code: None, out: proposed.out.clone() }) };
    let count = payments.to_string();
    until_done(world, "t_approver", &["approve", action, "--reason", "seen", "--confirm", &count]).await
}

/// Runs a command until it is carried out: the database may be away. A refusal is an answer.
async fn until_done(world: &World, login: &str, words: &[&str]) -> Result<Said, NemesisError> {
    let mut last = None;
    for _ in 0..TRIES {
        let said = once(world, login, words).await?;
        match said.code {
            Some(0 | 1 | 65 | 66) => return Ok(said),
            _ => last = Some(said),
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let output = last.map(|said| said.out).unwrap_or_default();
    Err(NemesisError::Program { what: format!("outboxd {}", words.join(" ")), output })
}

async fn once(world: &World, login: &str, words: &[&str]) -> Result<Said, NemesisError> {
    let (program, url) = (world.settings.program("outboxd"), world.url(login));
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let ran = tokio::task::spawn_blocking(move || {
        Command::new(program).args(&words).args(["--output", "json", "--database-url", &url]).env_clear().output()
    });
    let ran = ran.await.map_err(|_| NemesisError::Wrong("a command was not run".to_owned()))?;
    let ran = ran.map_err(NemesisError::io("run a command"))?;
    let mut out = String::from_utf8_lossy(&ran.stdout).into_owned();
    if out.is_empty() {
        out = String::from_utf8_lossy(&ran.stderr).into_owned();
    }
    Ok(Said { code: ran.status.code(), out })
}
