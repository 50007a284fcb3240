//! A run: everybody begins, faults and payments go on beside each other, everything is healed, what is left ends or is
//! held, and the checker says what it found.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::checker::{Checker, Verdict};
use crate::daemon_faults::Effect;
use crate::error::NemesisError;
use crate::journal::now_us;
use crate::kind::{Kind, Place};
use crate::pace::{Pace, quotas};
use crate::patience::Patience;
use crate::rails::RAILS;
use crate::schedule::Schedule;
use crate::settings::Settings;
use crate::world::{DAEMONS, World};
use crate::{daemon_faults, database_faults, fitness, operators, producer, rail_faults};

/// Producers that record payments beside each other.
const PRODUCERS: u64 = 2;
/// Between two looks at the queue.
const OBSERVE: Duration = Duration::from_millis(250);
/// A fault that met nothing is followed by another so much later.
const AFTER_A_MISS: Duration = Duration::from_millis(100);
/// A run in which no payment ends and no fault takes effect for so long stands still for good: the longest fault takes a minute.
const STUCK: Duration = Duration::from_secs(120);
/// A kind that meets nothing so often is left out this time.
const TRIES: u32 = 10;
/// A kind that is owed at the end of a track meets something at last, or is missing after so many more rounds.
const ROUNDS_FOR_OWED: u32 = 30;

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// Faults that took effect.
    pub faults: u64,
    /// Of so many kinds.
    pub kinds: BTreeSet<Kind>,
    /// Kinds that could not be dealt out here, or were not asked for.
    pub left_out: Vec<Kind>,
    /// Kinds that were to be dealt out and met nothing, of a run that has faults enough for each.
    pub missing: Vec<Kind>,
    /// Payments that were neither over nor held at the end.
    pub unsettled: u64,
    /// What the checker says.
    pub verdict: Verdict,
}

/// What the tracks did.
#[derive(Debug, Default)]
struct Dealt {
    kinds: Mutex<BTreeSet<Kind>>,
}

impl Dealt {
    fn kinds(&self) -> std::sync::MutexGuard<'_, BTreeSet<Kind>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who deals out what.
#[derive(Debug)]
struct Track {
    place: Place,
    /// Which daemon, or which rail.
    number: usize,
    target: String,
    schedule: Schedule,
}

/// Runs it.
///
/// # Errors
/// When a program under test does what it never should, or the run could not go on.
pub async fn run(settings: Settings) -> Result<Outcome, NemesisError> {
    let tracks = tracks(&settings);
    let counts: Vec<usize> = tracks.iter().map(|track| track.schedule.kinds().len()).collect();
    let possible: BTreeSet<Kind> = tracks.iter().flat_map(|track| track.schedule.kinds()).copied().collect();
    let pace = Pace::new(settings.payments, &quotas(settings.faults, &counts));
    let is_enough = settings.faults >= counts.iter().map(|count| *count as u64).sum();
    let world = World::start(settings, pace).await?;
    if let Some(mutant) = &world.settings.mutant {
        let sql = std::fs::read_to_string(mutant).map_err(NemesisError::io("read the mutant"))?;
        world.run(&sql).await?;
    }
    for daemon in &world.daemons {
        daemon.lock().await.ready().await?;
    }
    let checker = Checker::start(&world)?;
    let dealt = Arc::new(Dealt::default());
    let mut parts = JoinSet::new();
    for n in 0..PRODUCERS {
        parts.spawn(producer::run(Arc::clone(&world), world.settings.seed.wrapping_mul(31).wrapping_add(n)));
    }
    for (index, track) in tracks.into_iter().enumerate() {
        parts.spawn(follow(Arc::clone(&world), Arc::clone(&dealt), index, track));
    }
    let observer = tokio::spawn(observe(Arc::clone(&world)));
    let watch = tokio::spawn(fitness::watch(Arc::clone(&world)));
    let went = all(&world, &checker, &mut parts).await;
    observer.abort();
    if let Err(error) = went {
        world.pace.give_up();
        parts.abort_all();
        watch.abort();
        keep(&world, &checker.accused()).await;
        let NemesisError::Found(_) = &error else { return Err(error) };
        let verdict = broken_off(&world, checker).await.map_err(|_| error)?;
        let (faults, kinds) = (world.pace.faults(), dealt.kinds().clone());
        return Ok(Outcome { faults, kinds, left_out: Vec::new(), missing: Vec::new(), unsettled: 0, verdict });
    }
    world.heal().await?;
    let unsettled = settle(&world).await?;
    watch.abort();
    world.end().await?;
    let verdict = checker.end().await?;
    if !verdict.passed {
        keep(&world, &verdict.accused).await;
    }
    let kinds = dealt.kinds().clone();
    let left_out = Kind::ALL.iter().copied().filter(|kind| !possible.contains(kind)).collect();
    let missing = possible.difference(&kinds).copied().filter(|_| is_enough).collect();
    Ok(Outcome { faults: world.pace.faults(), kinds, left_out, missing, unsettled, verdict })
}

/// What the checker says of a run that ends with its first finding.
async fn broken_off(world: &World, checker: Checker) -> Result<Verdict, NemesisError> {
    world.heal().await?;
    world.end().await?;
    checker.end().await
}

/// Writes down what the database has of these payments: it goes with the run.
async fn keep(world: &World, ids: &[String]) {
    let list = ids.join("','");
    let each = [
        "payment_outbox_pending",
        "payment_outbox_attempts",
        "payment_outbox_late_outcomes",
        "operator_action_results",
    ];
    let mut lines = Vec::new();
    for table in each {
        let sql = format!("select row_to_json(t)::text from outbox.{table} t where t.outbox_id::text in ('{list}')");
        let rows = world.texts(&sql).await.unwrap_or_else(|error| vec![error.to_string()]);
        lines.extend(rows.into_iter().map(|row| format!("{table} {row}\n")));
    }
    let log = world.server.lock().await.as_ref().map(outbox_testkit::PgServer::log).unwrap_or_default();
    let _ = std::fs::write(world.settings.dir.join("server.log"), log);
    // The finding itself is more important than that it can be read here.
    let _ = std::fs::write(world.settings.dir.join("accused.txt"), lines.concat());
}

/// A track for each daemon and each rail, one for the database, one beside everything, one for people.
fn tracks(settings: &Settings) -> Vec<Track> {
    let daemons = (0..DAEMONS).map(|number| (Place::Daemon, number, format!("d{}", number + 1)));
    let rails = RAILS.iter().enumerate().map(|(number, rail)| (Place::Rail, number, rail.name.to_owned()));
    let others = [(Place::Database, "database"), (Place::Background, "database"), (Place::Operator, "payments")];
    let others = others.map(|(place, target)| (place, 0, target.to_owned()));
    let track = |(place, number, target): (Place, usize, String)| {
        let may_be = |kind: Kind| {
            let wanted = settings.only.is_empty() || settings.only.contains(&kind);
            let possible = match kind {
                Kind::DiskFull => settings.disk.is_some(),
                Kind::OtherVersion => settings.other_bin.is_some(),
                // Before 17 the queue takes 8 GiB, whatever is configured.
                Kind::NotificationsFill => settings.postgres.major() >= 17,
                _ => place != Place::Rail || rail_faults::fits(&RAILS[number], kind),
            };
            wanted && possible
        };
        Track { place, number, target, schedule: Schedule::new(settings.seed, place, number, may_be) }
    };
    daemons.chain(rails).chain(others).map(track).collect()
}

/// Waits for all parts; the first that fails ends the run, as does a finding of the checker.
async fn all(
    world: &World,
    checker: &Checker,
    parts: &mut JoinSet<Result<(), NemesisError>>,
) -> Result<(), NemesisError> {
    let mut look = tokio::time::interval(OBSERVE);
    let (mut last, mut moved) = (world.pace.progress(), Instant::now());
    loop {
        tokio::select! {
            ended = parts.join_next() => match ended {
                None => return Ok(()),
                Some(Ok(done)) => done?,
                Some(Err(panic)) => return Err(NemesisError::Wrong(format!("a part of the harness ended: {panic}"))),
            },
            _ = look.tick() => {
                if let Some(finding) = checker.finding() {
                    return Err(NemesisError::Found(finding));
                }
                let now = world.pace.progress();
                if now != last {
                    (last, moved) = (now, Instant::now());
                } else if moved.elapsed() > STUCK {
                    return Err(NemesisError::Wrong(format!("nothing moved for {} s", STUCK.as_secs())));
                }
                for daemon in &world.daemons {
                    // One that is being killed is in its fault's hands.
                    if let Ok(mut daemon) = daemon.try_lock() {
                        daemon.must_run()?;
                    }
                }
            }
        }
    }
}

/// Deals out a track's faults. What met nothing is tried again, as a kind that never comes shows nothing; and the last faults
/// of a track are kept for the kinds that have not come yet.
async fn follow(world: Arc<World>, dealt: Arc<Dealt>, index: usize, mut track: Track) -> Result<(), NemesisError> {
    let mut rounds_for_owed = 0;
    while world.pace.may_begin(index).await {
        let Some(kind) = track.schedule.draw() else { return Ok(()) };
        let owed = track.schedule.kinds().iter().filter(|kind| !dealt.kinds().contains(kind)).count() as u64;
        if world.pace.left(index) <= owed && rounds_for_owed < ROUNDS_FOR_OWED {
            if dealt.kinds().contains(&kind) {
                continue;
            }
            rounds_for_owed += 1;
        }
        for _ in 0..TRIES {
            let from_us = now_us();
            world.journal.begins(kind, &track.target);
            if deal(&world, &track, kind).await? == Effect::Took {
                world.journal.fault(world.pace.dealt(index), kind, &track.target, from_us);
                dealt.kinds().insert(kind);
                break;
            }
            tokio::time::sleep(AFTER_A_MISS).await;
        }
    }
    Ok(())
}

async fn deal(world: &Arc<World>, track: &Track, kind: Kind) -> Result<Effect, NemesisError> {
    let (number, rng) = (track.number, &mut track.schedule.details());
    match track.place {
        Place::Daemon => {
            let _disabled = world.fitness.disable(number, kind);
            daemon_faults::deal(world, number, kind, rng).await
        }
        Place::Rail => rail_faults::deal(world, &world.rails[number], kind, rng).await,
        Place::Database | Place::Background => unless_away(database_faults::deal(world, kind, rng).await),
        Place::Operator => unless_away(operators::deal(world, kind, rng).await),
    }
}

/// A question to a database that is away because of another fault is no reason to end: this fault met nothing.
fn unless_away(effect: Result<Effect, NemesisError>) -> Result<Effect, NemesisError> {
    match effect {
        Err(NemesisError::Sql { .. } | NemesisError::Testkit(outbox_testkit::TestkitError::Sql { .. })) => {
            Ok(Effect::Missed)
        }
        other => other,
    }
}

/// Counts what is neither over nor held, as often as the database answers.
async fn observe(world: Arc<World>) {
    let mut session: Option<PgConnection> = None;
    loop {
        match open(&world, &mut session).await {
            Ok(count) => world.pace.observe(count),
            Err(_) => session = None,
        }
        tokio::time::sleep(OBSERVE).await;
    }
}

async fn open(world: &World, session: &mut Option<PgConnection>) -> Result<u64, NemesisError> {
    if session.is_none() {
        *session = Some(world.session("postgres").await?);
    }
    let sql = "select count(*) from outbox.payment_outbox_pending where disposition <> 'HELD'";
    let asked = sqlx::query(sql).fetch_one(session.as_mut().expect("made above"));
    match tokio::time::timeout(Duration::from_secs(5), asked).await {
        Ok(answered) => {
            let count: i64 = answered.map_err(NemesisError::sql(sql))?.get(0);
            Ok(u64::try_from(count).unwrap_or(0))
        }
        Err(_) => Err(NemesisError::Wrong("no answer within 5 s".to_owned())),
    }
}

/// Waits until everything is over or held; returns what is not.
async fn settle(world: &World) -> Result<u64, NemesisError> {
    let mut session = None;
    let mut left = u64::MAX;
    let patience = Patience::of(world.settings.settle_limit());
    while left > 0 {
        match open(world, &mut session).await {
            Ok(count) => left = count,
            Err(_) => session = None,
        }
        if !patience.again().await {
            break;
        }
    }
    Ok(left)
}
