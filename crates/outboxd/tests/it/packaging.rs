//! The units agree with each other, with the exit codes and with the defaults of the configuration.

use outboxd::exit::Exit;

const UNIT: &str = include_str!("../../packaging/outboxd.service");
const TEMPLATE: &str = include_str!("../../packaging/outboxd@.service");
const PARTITIONS: &str = include_str!("../../packaging/outboxd-partitions.service");
const TIMER: &str = include_str!("../../packaging/outboxd-partitions.timer");
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
fn the_partitions_unit_is_as_closed_as_the_daemons() {
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
    let mut ours = closed(PARTITIONS);
    ours.retain(|line| daemon.contains(line));
    assert_eq!(ours, daemon);
}
