//! The units agree with each other, with the exit codes and with the defaults of the configuration.

use std::os::unix::fs::PermissionsExt as _;

use outboxd::config::{Host, pulled};
use outboxd::exit::Exit;

const UNIT: &str = include_str!("../../packaging/outboxd.service");
const TEMPLATE: &str = include_str!("../../packaging/outboxd@.service");
const PARTITIONS: &str = include_str!("../../packaging/outboxd-partitions.service");
const TIMER: &str = include_str!("../../packaging/outboxd-partitions.timer");
const SECRETS: &str = include_str!("../../packaging/outboxd-secrets.service");
const PULLED: &str = include_str!("../../packaging/secrets.example.toml");
const AGENT: &str = include_str!("../../packaging/bao-agent.example.hcl");
const USERS: &str = include_str!("../../packaging/outboxd.sysusers");
const EXAMPLE: &str = include_str!("../../packaging/outboxd.example.toml");

fn directive<'a>(unit: &'a str, name: &str) -> &'a str {
    unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_else(|| panic!("no {name}="))
}

#[test]
fn systemd_restarts_unless_a_person_is_needed() {
    let all = [
        Exit::Ok,
        Exit::Failure,
        Exit::Usage,
        Exit::BadData,
        Exit::NoInput,
        Exit::Unavailable,
        Exit::InvariantBroken,
        Exit::WrongSchema,
        Exit::WrongLogin,
        Exit::BadConfiguration,
    ];
    let codes: Vec<String> =
        all.iter().filter(|exit| exit.needs_a_person()).map(|exit| exit.code().to_string()).collect();
    assert_eq!(directive(UNIT, "RestartPreventExitStatus"), codes.join(" "));
}

#[test]
fn the_template_is_the_unit_with_a_configuration_for_each_shard() {
    let lines = |unit: &str| -> Vec<String> {
        unit.lines()
            .filter(|line| !line.starts_with(['#']) && !line.starts_with("Description="))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(lines(&TEMPLATE.replace("%i.toml", "outboxd.toml").replace("=outboxd/%i", "=outboxd")), lines(UNIT));
}

#[test]
fn systemd_waits_longer_for_a_stop_than_the_drain_takes() {
    let stop: u64 = directive(UNIT, "TimeoutStopSec").parse().unwrap();
    let seconds = |key: &str| -> u64 {
        let value = EXAMPLE.lines().find_map(|line| line.strip_prefix(&format!("#{key} = \""))).unwrap();
        value.trim_end_matches("s\"").parse().unwrap()
    };
    // Once for the sends, once as long again for recording their results, and the goodbye to the database.
    let drain = 2 * seconds("drain_timeout") + seconds("connect_timeout") + seconds("call_timeout");
    assert!(stop > drain, "{stop} s against {drain} s");
    let advice =
        UNIT.lines().take_while(|line| !line.starts_with("TimeoutStopSec=")).filter(|line| line.starts_with('#'));
    assert!(advice.collect::<String>().contains("twice drain_timeout"), "the unit says what to keep");
}

#[test]
fn the_unit_begins_the_command_that_exists() {
    let start = directive(UNIT, "ExecStart");
    assert_eq!(start, format!("/usr/bin/outboxd run --config {}", outboxd::config::CONFIG_FILE));
}

#[test]
fn the_partitions_are_made_by_a_timer_as_a_user_that_is_not_the_daemons() {
    let start = directive(PARTITIONS, "ExecStart");
    let words: Vec<&str> = start.split(' ').collect();
    assert_eq!(words[..3], ["/usr/bin/outboxd", "partitions", "ensure"], "{start}");
    // The command takes these words: what it lacks here is a database alone.
    let mut command = std::process::Command::new(crate::commands_binary::OUTBOXD);
    command.args(&words[1..]).env_clear().env("PGHOST", "/nonexistent");
    assert_eq!(crate::commands_binary::end(&mut command, b"").code, Some(69));
    assert_eq!(directive(TIMER, "Persistent"), "yes", "a host that was off makes up for it");
    assert_eq!(directive(TIMER, "OnCalendar"), "weekly");
    let (daemon, migrator) = (directive(UNIT, "User"), directive(PARTITIONS, "User"));
    assert_ne!(daemon, migrator, "the daemon's user must not read the migrator's credential");
    for user in [daemon, migrator] {
        assert!(USERS.lines().any(|line| line.split_whitespace().take(2).eq(["u", user])), "{user}");
    }
}

#[test]
fn the_units_beside_the_daemons_are_as_closed_as_it() {
    let closed = |unit: &str| -> Vec<String> {
        let names = [
            "Protect",
            "Private",
            "Restrict",
            "Capability",
            "Ambient",
            "NoNew",
            "SystemCall",
            "IPAddress",
            "Device",
            "Lock",
            "Memory",
            "Keyring",
            "UMask",
            "SecureBits",
            "RemoveIPC",
            "ProcSubset",
            "LimitCORE",
        ];
        unit.lines().filter(|line| names.iter().any(|name| line.starts_with(name))).map(str::to_owned).collect()
    };
    let daemon = closed(UNIT);
    assert!(daemon.len() > 25, "{daemon:?}");
    for unit in [PARTITIONS, SECRETS] {
        let mut ours = closed(unit);
        ours.retain(|line| daemon.contains(line));
        assert_eq!(ours, daemon);
    }
}

#[test]
fn the_secrets_are_pulled_as_the_daemons_user_by_words_that_the_command_takes() {
    assert_eq!(directive(SECRETS, "User"), directive(UNIT, "User"), "the files are for their owner alone");
    let start = directive(SECRETS, "ExecStart");
    let words: Vec<&str> = start.split(' ').collect();
    let to = format!("/run/{}", directive(SECRETS, "RuntimeDirectory"));
    assert_eq!(words[..5], ["/usr/bin/outboxd", "secrets", "pull", "--to", &to], "{start}");
    // It takes these words: what it lacks here is its file alone.
    let mut command = std::process::Command::new(crate::commands_binary::OUTBOXD);
    command.args(&words[1..]).env_clear().env("OUTBOXD_SECRETS", "/nonexistent/secrets.toml");
    let ended = crate::commands_binary::end(&mut command, b"");
    assert_eq!(ended.code, Some(78), "{ended:?}");
    for id in ["role-id", "secret-id"] {
        assert!(
            SECRETS.contains(&format!("LoadCredential={id}:")) && PULLED.contains(&format!("_credential = \"{id}\""))
        );
    }
}

#[test]
fn the_example_of_secrets_is_taken_and_the_agents_template_renders_the_same_files() {
    let dir = tempfile::tempdir().unwrap();
    for id in ["role-id", "secret-id"] {
        std::fs::write(dir.path().join(id), "id").unwrap();
        std::fs::set_permissions(dir.path().join(id), std::fs::Permissions::from_mode(0o400)).unwrap();
    }
    let file = dir.path().join("secrets.toml");
    let host = Host { name: String::new(), credentials_directory: Some(dir.path().to_owned()), state_directory: None };
    let read = |text: &str| {
        std::fs::write(&file, text).unwrap();
        pulled::read(&file, &host, None).unwrap_or_else(|faults| panic!("{faults}"))
    };
    let given = read(PULLED);
    // What is commented out is the default, but for what is called an example, and a file that is not there.
    let defaults = PULLED.lines().map(|line| {
        let key = line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
        key.filter(|key| !key.starts_with("ca_file") && !key.starts_with("namespace")).unwrap_or(line)
    });
    let spelled_out = read(&defaults.collect::<Vec<_>>().join("\n"));
    assert_eq!(format!("{given:?}"), format!("{spelled_out:?}"));
    assert!(AGENT.contains(&given.address));
    assert_eq!(AGENT.matches("template {").count(), given.files.len());
    for pulled::PulledFile { name, wanted, .. } in &given.files {
        let (place, field) = (&wanted.place, &wanted.field);
        let template = format!("secret \\\"{}/data/{}\\\" }}}}{{{{ .Data.data.{field} }}}}", place.mount, place.path);
        let rendered = AGENT.split("template {").find(|block| block.contains(&template));
        assert!(rendered.is_some_and(|block| block.contains(&format!("/run/outboxd-secrets/{name}\""))), "{template}");
    }
}
