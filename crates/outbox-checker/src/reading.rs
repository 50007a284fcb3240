//! How the database gets into the world: a pass reads what changed since the last, a complete reading everything. Each
//! is one snapshot.
//!
//! A pass trusts no cursor of ids or times: commits come in another order. New rows are told by their transaction, which is
//! not before the horizon of the last snapshot; what is pending is compared as a whole; and of each payment that changed,
//! that is not where it was, or whose turn it is to be read again, all its history is read by its id. A row that was
//! put into a page far behind the end of its table may be missed by a pass, and is found when its payment is read again, or at the end.

use std::collections::{BTreeSet, HashMap};

use crate::{
    checks::Terms,
    copy::Row,
    error::CheckError,
    other_history::OtherHistory,
    payment::{Applied, Attempt, Late, Lease, NO_RAIL, Pending, RailNo, fingerprint},
    queries,
    rail_files::RailSpec,
    session::Session,
    words::{ActionKind, Disposition, HoldReason, Kind, Outcome, State},
    world::World,
};

/// How far behind the end of a table new rows are looked for, in pages.
const PAGES_BACK: i64 = 128;
/// The same after a connection was lost, when the server may have been restarted.
const PAGES_BACK_ANEW: i64 = 4096;
/// How many transactions a crash of the server may take back.
const TRANSACTIONS_BACK: u32 = 10_000;
/// How many payments are read again in a pass, in turn.
const READ_AGAIN: u32 = 500;
/// How many payments one statement asks for.
const IDS_A_STATEMENT: usize = 2000;

/// A range of ids whose month was detached.
pub(crate) type Detached = Vec<(u128, u128)>;

/// What is read, and how far.
#[derive(Debug)]
pub(crate) struct Reader {
    rails: Vec<String>,
    /// The horizon of the last snapshot, without its epoch.
    horizon: Option<u32>,
    lives: u64,
    pages: HashMap<String, i64>,
    next_again: u32,
    /// The contract of each rail.
    pub(crate) terms: Vec<Terms>,
    /// Months that are gone.
    pub(crate) detached: Detached,
    /// The timeline of the last snapshot.
    pub(crate) timeline: Option<i32>,
    /// The database's clock before the last snapshot.
    pub(crate) clock_us: i64,
    /// The furthest that clock was seen.
    pub(crate) clock_max_us: i64,
    /// History that is not of the payments themselves.
    pub(crate) other: OtherHistory,
}

/// The head of a snapshot.
struct Snapshot {
    horizon: u32,
    timeline: i32,
}

impl Reader {
    pub(crate) fn new(rails: &[RailSpec]) -> Self {
        Self {
            rails: rails.iter().map(|rail| rail.name.clone()).collect(),
            horizon: None,
            lives: 0,
            pages: HashMap::new(),
            next_again: 0,
            terms: vec![Terms::default(); rails.len()],
            detached: Vec::new(),
            timeline: None,
            clock_us: 0,
            clock_max_us: 0,
            other: OtherHistory::default(),
        }
    }

    /// Whether nothing was read yet.
    pub(crate) const fn is_new(&self) -> bool {
        self.horizon.is_none()
    }

    pub(crate) fn is_detached(&self, id: u128) -> bool {
        self.detached.iter().any(|(from, before)| (*from..*before).contains(&id))
    }

    /// Opens a snapshot. `Err(FailoverUntold)`: it is on another timeline, and `may_switch` is false.
    async fn begin(&mut self, session: &mut Session, may_switch: bool) -> Result<Snapshot, CheckError> {
        let clock_us = session.begin().await?;
        let mut snapshot = Snapshot { horizon: 0, timeline: 0 };
        session
            .read(queries::SNAPSHOT, |row| {
                // Of eight bytes the row headers have the lower four.
                let horizon = u64::from_be_bytes(row.i64()?.to_be_bytes()) & u64::from(u32::MAX);
                snapshot.horizon = u32::try_from(horizon).map_err(|error| CheckError::Unreadable(error.to_string()))?;
                snapshot.timeline = row.i32()?;
                Ok(())
            })
            .await?;
        if !may_switch && self.timeline.is_some_and(|timeline| timeline != snapshot.timeline) {
            session.end().await?;
            return Err(CheckError::FailoverUntold);
        }
        self.clock_us = clock_us;
        self.clock_max_us = self.clock_max_us.max(clock_us);
        self.read_terms(session).await?;
        Ok(snapshot)
    }

    async fn read_terms(&mut self, session: &mut Session) -> Result<(), CheckError> {
        let Self { rails, terms, detached, .. } = self;
        session
            .read(queries::TERMS, |row| {
                let rail = row.text()?;
                let no = rails.iter().position(|name| name == rail);
                let now = Terms {
                    lease_ms: row.i64()?,
                    max_sends: row.i32()?,
                    max_crashes: row.i32()?,
                    max_inquiries: row.i32()?,
                    window_ms: row.bytes()?.and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes),
                };
                if let Some(known) = no.and_then(|no| terms.get_mut(no)) {
                    *known = mildest(*known, now);
                }
                Ok(())
            })
            .await?;
        detached.clear();
        session
            .read(queries::RECEIPTS, |row| {
                detached.push((row.uuid()?, row.uuid()?));
                Ok(())
            })
            .await?;
        Ok(())
    }

    /// Reads what changed, and looks for the payments `promised`. Everything it looked at is as the snapshot shows it.
    pub(crate) async fn pass(
        &mut self,
        session: &mut Session,
        world: &mut World,
        promised: &[u128],
    ) -> Result<(), CheckError> {
        let snapshot = self.begin(session, false).await?;
        world.reading += 1;
        let horizon = self.horizon.unwrap_or(snapshot.horizon);
        let is_anew = session.lives != self.lives;
        let since = if is_anew { horizon.wrapping_sub(TRANSACTIONS_BACK).max(3) } else { horizon };
        self.read_added(session, world, since, if is_anew { PAGES_BACK_ANEW } else { PAGES_BACK }).await?;
        let mut suspects = self.read_pending(session, world, since).await?;
        suspects.extend(self.next_to_read_again(world));
        for id in promised {
            let place = world.place(*id);
            if world.at(place).identity == 0 {
                suspects.insert(place);
            }
        }
        self.read_payments(session, world, &suspects).await?;
        world.leases_seen(self.clock_us);
        self.other.count(session).await?;
        session.end().await?;
        (self.horizon, self.lives, self.timeline) = (Some(snapshot.horizon), session.lives, Some(snapshot.timeline));
        Ok(())
    }

    /// New identities, instructions and late outcomes.
    async fn read_added(
        &mut self,
        session: &mut Session,
        world: &mut World,
        since: u32,
        back: i64,
    ) -> Result<(), CheckError> {
        let mut tables = Vec::new();
        session
            .read(queries::GROWING, |row| {
                tables.push((row.text()?.to_owned(), row.text()?.to_owned(), row.i64()?));
                Ok(())
            })
            .await?;
        let rails = &self.rails;
        let mut asked: [Vec<String>; 3] = Default::default();
        for (table, parent, pages) in &tables {
            let page = (self.pages.get(table).copied().unwrap_or(0) - back).max(0);
            let (place, columns, alias) = match parent.as_str() {
                "payment_outbox_identities" => (0, queries::IDENTITY, "d"),
                "payment_outbox_instructions" => (1, queries::INSTRUCTION, "i"),
                _ => (2, queries::LATE, "l"),
            };
            asked[place].push(queries::added(columns, alias, table, page.min(*pages), since));
        }
        let [identities, instructions, lates] = asked.map(|each| each.join(" union all "));
        if !identities.is_empty() {
            session.read(&identities, |row| take_identity(world, row)).await?;
        }
        if !instructions.is_empty() {
            session.read(&instructions, |row| take_instruction(world, rails, row)).await?;
        }
        if !lates.is_empty() {
            session.read(&lates, |row| take_late(world, row)).await?;
        }
        self.pages = tables.into_iter().map(|(table, _, pages)| (table, pages)).collect();
        Ok(())
    }

    /// What is pending; gives the payments whose history has to be looked at.
    async fn read_pending(
        &self,
        session: &mut Session,
        world: &mut World,
        since: u32,
    ) -> Result<BTreeSet<u32>, CheckError> {
        let (mut unknown, mut changed) = (Vec::new(), Vec::new());
        session
            .read(queries::PENDING_IDS, |row| {
                let (ids, _) = row.bytes()?.unwrap_or_default().as_chunks::<16>();
                for id in ids {
                    let id = u128::from_be_bytes(*id);
                    if !world.is_pending(id) {
                        unknown.push(world.place(id));
                    }
                }
                Ok(())
            })
            .await?;
        // A row that is not known changed since the horizon, unless a transaction before it came late.
        let query = queries::pending(Some(since));
        session.read(&query, |row| take_pending(world, &self.rails, row, &mut changed)).await?;
        if !unknown.iter().all(|place| world.at(*place).pending.is_some()) {
            session.read(&queries::pending(None), |row| take_pending(world, &self.rails, row, &mut changed)).await?;
        }
        let mut suspects: BTreeSet<u32> = world.sweep_pending().into_iter().collect();
        suspects.extend(changed.into_iter().filter(|place| !is_whole(world, *place)));
        suspects.extend(world.touched.iter().copied().filter(|place| !is_whole(world, *place)));
        Ok(suspects)
    }

    fn next_to_read_again(&mut self, world: &World) -> Vec<u32> {
        let count = world.places().end;
        let from = if self.next_again >= count { 0 } else { self.next_again };
        self.next_again = from.saturating_add(READ_AGAIN).min(count);
        (from..self.next_again).filter(|place| world.at(*place).is_recorded()).collect()
    }

    /// Reads all history of some payments by their ids.
    async fn read_payments(
        &self,
        session: &mut Session,
        world: &mut World,
        places: &BTreeSet<u32>,
    ) -> Result<(), CheckError> {
        let places: Vec<u32> = places.iter().copied().collect();
        // With the ids at hand every one of these is a search of an index.
        session
            .run("set local enable_seqscan = off; set local enable_hashjoin = off; set local enable_mergejoin = off")
            .await?;
        for some in places.chunks(IDS_A_STATEMENT) {
            let ids = ids_of(world, some);
            let rails = &self.rails;
            session.read(&queries::instructions(Some(&ids)), |row| take_instruction(world, rails, row)).await?;
            session.read(&queries::identities(Some(&ids)), |row| take_identity(world, row)).await?;
            session.read(&queries::attempts(Some(&ids)), |row| take_attempt(world, row)).await?;
            for place in some {
                world.forget_unseen(*place, self.is_detached(world.at(*place).id));
            }
            let of_people: Vec<u32> = some.iter().copied().filter(|place| needs_people(world, *place)).collect();
            if !of_people.is_empty() {
                let ids = ids_of(world, &of_people);
                session.read(&queries::applied(Some(&ids)), |row| take_applied(world, row)).await?;
            }
        }
        session.run("reset enable_seqscan; reset enable_hashjoin; reset enable_mergejoin").await
    }

    /// Reads everything anew, and takes away what is not there any more.
    pub(crate) async fn everything(&mut self, session: &mut Session, world: &mut World) -> Result<(), CheckError> {
        let snapshot = self.begin(session, true).await?;
        // If this breaks off, everything is read again.
        self.horizon = None;
        world.reading += 1;
        world.begin_complete_reading();
        let rails = &self.rails;
        session.read(&queries::identities(None), |row| take_identity(world, row)).await?;
        session.read(&queries::instructions(None), |row| take_instruction(world, rails, row)).await?;
        session.read(&queries::attempts(None), |row| take_attempt(world, row)).await?;
        session.read(&queries::lates(), |row| take_late(world, row)).await?;
        session.read(&queries::applied(None), |row| take_applied(world, row)).await?;
        let mut changed = Vec::new();
        session.read(&queries::pending(None), |row| take_pending(world, rails, row, &mut changed)).await?;
        for place in changed {
            world.is_pending(world.at(place).id);
        }
        let mut pages = HashMap::new();
        session
            .read(queries::GROWING, |row| {
                let (table, _) = (row.text()?.to_owned(), row.text()?);
                pages.insert(table, row.i64()?);
                Ok(())
            })
            .await?;
        self.other.compare_all(session).await?;
        session.end().await?;
        let detached = &self.detached;
        world.end_complete_reading(|id| detached.iter().any(|(from, before)| (*from..*before).contains(&id)));
        world.leases_seen(self.clock_us);
        (self.horizon, self.lives, self.timeline) = (Some(snapshot.horizon), session.lives, Some(snapshot.timeline));
        self.pages = pages;
        Ok(())
    }
}

/// Of two contracts of a rail at different times, what allows the most.
fn mildest(known: Terms, now: Terms) -> Terms {
    if known == Terms::default() {
        return now;
    }
    Terms {
        lease_ms: known.lease_ms.min(now.lease_ms),
        max_sends: known.max_sends.min(now.max_sends),
        max_crashes: known.max_crashes.min(now.max_crashes),
        max_inquiries: known.max_inquiries.min(now.max_inquiries),
        window_ms: known.window_ms.max(now.window_ms),
    }
}

/// Whether what is known of a payment fits together, so that nothing new of it needs to be looked for.
fn is_whole(world: &World, place: u32) -> bool {
    let payment = world.at(place);
    let count = i32::try_from(payment.attempts.len()).unwrap_or(i32::MAX);
    let is_counted =
        payment.pending.as_ref().is_none_or(|row| row.attempt_count == count + i32::from(row.lease.is_some()));
    let is_held = payment.pending.as_ref().is_some_and(|row| row.disposition == Disposition::Held);
    payment.identity != 0 && payment.instruction != 0 && is_counted && !is_held
}

/// Whether people may have done something to a payment that explains where it stands.
fn needs_people(world: &World, place: u32) -> bool {
    let payment = world.at(place);
    let is_held = payment.pending.as_ref().is_some_and(|row| row.disposition == Disposition::Held);
    is_held || payment.attempts.iter().any(|attempt| attempt.kind == Kind::Operator)
}

fn ids_of(world: &World, places: &[u32]) -> String {
    let ids = places.iter().map(|place| uuid::Uuid::from_u128(world.at(*place).id).to_string());
    format!("'{{{}}}'::uuid[]", ids.collect::<Vec<_>>().join(","))
}

fn rail_no(rails: &[String], rail: &str) -> RailNo {
    let no = rails.iter().position(|name| name == rail);
    no.and_then(|no| RailNo::try_from(no).ok()).unwrap_or(NO_RAIL)
}

fn take_identity(world: &mut World, row: &mut Row<'_>) -> Result<(), CheckError> {
    world.identity(row.uuid()?, row.digest()?);
    Ok(())
}

fn take_instruction(world: &mut World, rails: &[String], row: &mut Row<'_>) -> Result<(), CheckError> {
    let (id, rail) = (row.uuid()?, rail_no(rails, row.text()?));
    let payload = row.bytes()?.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
    world.instruction(id, rail, payload, row.time_us()?, row.digest()?);
    Ok(())
}

fn take_attempt(world: &mut World, row: &mut Row<'_>) -> Result<(), CheckError> {
    let id = row.uuid()?;
    let attempt = Attempt {
        no: row.i32()?,
        kind: Kind::of(row.text()?)?,
        state: State::of(row.text()?)?,
        outcome: row.maybe_text()?.map(Outcome::of).transpose()?,
        is_timeout: row.bool()?,
        worker: world.worker(row.text()?),
        token: fingerprint(row.uuid()?),
        claimed_us: row.time_us()?,
        first_byte_us: row.maybe_time_us()?.unwrap_or(0),
        completed_us: row.time_us()?,
        reference: row.maybe_text()?.map_or(0, fingerprint),
        digest: row.digest()?,
        seen: world.reading,
    };
    world.attempt(id, attempt);
    Ok(())
}

fn take_late(world: &mut World, row: &mut Row<'_>) -> Result<(), CheckError> {
    let id = row.uuid()?;
    let late = Late {
        attempt_no: row.i32()?,
        outcome: Outcome::of(row.text()?)?,
        reference: row.maybe_text()?.map_or(0, fingerprint),
        recorded_us: row.time_us()?,
    };
    world.late(id, late, row.text()?);
    Ok(())
}

fn take_applied(world: &mut World, row: &mut Row<'_>) -> Result<(), CheckError> {
    let (id, kind) = (row.uuid()?, ActionKind::of(row.text()?)?);
    world.applied(id, Applied { kind, token: fingerprint(row.uuid()?) });
    Ok(())
}

fn take_pending(
    world: &mut World,
    rails: &[String],
    row: &mut Row<'_>,
    changed: &mut Vec<u32>,
) -> Result<(), CheckError> {
    let (id, rail) = (row.uuid()?, rail_no(rails, row.text()?));
    let mut pending = Pending {
        disposition: Disposition::of(row.text()?)?,
        hold_reason: row.maybe_text()?.map(HoldReason::of).transpose()?,
        attempt_count: row.i32()?,
        send_count: row.i32()?,
        crash_count: row.i32()?,
        inquiry_count: row.i32()?,
        was_sent: row.bool()?,
        is_in_doubt: row.bool()?,
        late_success: row.bool()?,
        is_redrive: row.bool()?,
        not_after_us: row.maybe_time_us()?,
        lease: None,
    };
    let (worker, token) = (row.maybe_text()?, row.maybe_uuid()?);
    let (claimed_us, expires_us) = (row.maybe_time_us()?, row.maybe_time_us()?);
    if let (Some(worker), Some(token), Some(claimed_us), Some(expires_us)) = (worker, token, claimed_us, expires_us) {
        let worker = world.worker(worker);
        pending.lease = Some(Lease { worker, token: fingerprint(token), claimed_us, expires_us, seen_us: 0 });
    }
    world.pending(id, rail, pending);
    changed.push(world.place(id));
    Ok(())
}
