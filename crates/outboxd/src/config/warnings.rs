//! What a configuration may say, and should not on a system that moves money.

use super::check::{human, is_loopback};
use super::model::{Config, Decisions};

/// Each such thing, in a sentence.
#[must_use]
pub fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.database.allow_unsafe_durability {
        warnings.push("database.allow_unsafe_durability is on: a crash of the database may lose payments".to_owned());
    }
    if config.credentials.allow_world_readable {
        warnings.push("credentials.allow_world_readable is on: secrets may be read by other users".to_owned());
    }
    if config.dispatcher.state_directory.is_none() {
        warnings.push(
            "neither dispatcher.state_directory nor $STATE_DIRECTORY is set, as the unit does: a disk snapshot of the \
             database that is put back while this dispatcher is down is not noticed"
                .to_owned(),
        );
    }
    let drain = config.dispatcher.drain_timeout;
    for (name, rail) in &config.rails {
        let plain = rail.url.scheme_str() == Some("http") && !rail.url.host().is_some_and(is_loopback);
        if plain {
            warnings.push(format!("rails.{name}.allow_plain_http is on: payments cross the network in the clear"));
        }
        if rail.decisions == Decisions::File && rail.timeout > drain {
            let (timeout, drain) = (human(rail.timeout), human(drain));
            warnings.push(format!(
                "rails.{name}.timeout is {timeout}, longer than dispatcher.drain_timeout ({drain}): \
                 a stop may leave sends with an unknown outcome"
            ));
        }
    }
    warnings
}
