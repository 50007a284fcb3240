//! `outboxd check-config`: every fault of the configuration, or every value in force. It reads the
//! files of secrets and of certificates, shows nothing of them, and connects nowhere.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::output::Output;
use crate::cli::ConfigArgs;
use crate::config::{self, Loaded};
use crate::exit::{Exit, Failure};

/// What is checked, and how the answer looks.
#[derive(Debug, Args)]
pub(crate) struct CheckConfig {
    #[command(flatten)]
    config: ConfigArgs,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Checks the configuration.
pub(crate) fn run(command: &CheckConfig, out: &mut dyn Write) -> Result<(), Failure> {
    let loaded = config::load(&command.config.sources())
        .map_err(|faults| Failure::new(Exit::BadConfiguration, format!("the configuration is refused\n{faults}")))?;
    match command.output {
        Output::Table => table(&loaded, out),
        Output::Json => {
            let Loaded { config_sha256, warnings, config } = &loaded;
            let values = config::describe(config);
            Ok(writeln!(out, "{}", json!({"config_sha256": config_sha256, "warnings": warnings, "values": values}))?)
        }
    }
}

fn table(loaded: &Loaded, out: &mut dyn Write) -> Result<(), Failure> {
    let lines = config::describe(&loaded.config);
    let width = lines.keys().map(String::len).max().unwrap_or_default();
    for (key, value) in &lines {
        writeln!(out, "{key:width$}  {value}")?;
    }
    writeln!(out, "{:width$}  {}", "config_sha256", loaded.config_sha256)?;
    for warning in &loaded.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(())
}
