//! Faults of one rail: what it does with a request and how it answers. Which requests meet them is chance.

use std::time::Duration;

use fastrand::Rng;
use rail_sim::{Fault, Script};

use crate::daemon_faults::{Effect, some_ms};
use crate::error::NemesisError;
use crate::kind::Kind;
use crate::rails::{CONTRACT_WINDOW_MS, Rail, RailKind};
use crate::world::World;

/// As long as a fault waits for requests to hit.
const REACH_LIMIT: Duration = Duration::from_secs(3);

/// Whether a kind can happen on this rail at all.
#[must_use]
pub(crate) fn fits(rail: &RailKind, kind: Kind) -> bool {
    match kind {
        Kind::WrongCertificate => rail.has_certificate(),
        Kind::KeysExpire => rail.forgets(),
        Kind::Inquiries => rail.on_unknown == "inquire",
        _ => true,
    }
}

/// Deals `kind` out to `rail`.
///
/// # Errors
/// When the rail cannot do it.
pub(crate) async fn deal(world: &World, rail: &Rail, kind: Kind, rng: &mut Rng) -> Result<Effect, NemesisError> {
    let _turn = rail.turn().await;
    let order: &[Fault] = match kind {
        Kind::Hang => &[Fault::Hang],
        Kind::ResetAfter => &[Fault::Reset],
        Kind::ResetBefore => &[Fault::ResetBefore],
        Kind::ErrorAfter => &[Fault::ErrorAfter],
        Kind::ErrorBefore => &[Fault::ErrorBefore],
        Kind::Garbage => &[Fault::Garbage, Fault::Truncate, Fault::Oversize, Fault::Interim],
        Kind::Unauthorized => &[Fault::Unauthorized, Fault::Forbidden],
        Kind::Refuse => &[Fault::Refuse],
        Kind::Inquiries => {
            let spoiled = [Fault::Hang, Fault::ErrorBefore, Fault::Truncate, Fault::Garbage, Fault::Reset];
            let script = Script::default().with_inquiries(some(&spoiled, rng));
            return Ok(Effect::of(rail.spoil(script, REACH_LIMIT).await));
        }
        Kind::Storm => return Ok(Effect::of(rail.lean(Fault::Throttle, 800, some_ms(rng, 300, 1_500)).await?)),
        Kind::Slow => return Ok(Effect::of(rail.lean(Fault::Slow, 700, some_ms(rng, 300, 2_000)).await?)),
        Kind::WrongCertificate => {
            let wrong = [&world.certs.server_other_name, &world.certs.server_wrong_ca, &world.certs.server_expired];
            rail.show(wrong[rng.usize(..wrong.len())], some_ms(rng, 300, 1_500)).await?;
            return Ok(Effect::Took);
        }
        Kind::KeysExpire => {
            let hung = rail.spoil(Script::by_order([Fault::Hang; 4]), REACH_LIMIT).await;
            rail.down(Duration::from_millis(CONTRACT_WINDOW_MS) + some_ms(rng, 500, 2_000)).await?;
            return Ok(Effect::of(hung));
        }
        _ => {
            // Seldom for long: everything else on this rail waits meanwhile.
            let at_most = if rng.u8(..10) == 0 { world.settings.longest_away_ms() } else { 3_000 };
            rail.down(some_ms(rng, 200, at_most)).await?;
            return Ok(Effect::Took);
        }
    };
    Ok(Effect::of(rail.spoil(Script::by_order(some(order, rng)), REACH_LIMIT).await))
}

/// One to six of these.
fn some(faults: &[Fault], rng: &mut Rng) -> Vec<Fault> {
    let count = rng.usize(1..=6);
    std::iter::repeat_with(|| faults[rng.usize(..faults.len())]).take(count).collect()
}
