//! The logins that tests use, one for each role of `scripts/db/bootstrap.sql`, as a bank's DBA would
//! create them. They have no password: the test servers trust their private socket.

/// A login and the role it is a member of.
pub const LOGINS: [(&str, &str); 7] = [
    ("t_migrator", "outbox_migrator"),
    ("t_ingest", "outbox_ingest"),
    ("t_dispatcher", "outbox_dispatcher"),
    ("t_operator", "outbox_operator"),
    ("t_approver", "outbox_approver"),
    ("t_auditor", "outbox_auditor"),
    ("t_monitor", "outbox_monitor"),
];

/// The statements that create the logins; safe to repeat, since roles outlive a database.
///
/// The migrator works as the owner, so that what a migration creates belongs to no login.
pub(crate) fn create_logins_sql() -> String {
    let mut sql = String::new();
    for (login, role) in LOGINS {
        sql.push_str(&format!(
            "do $$ begin create role {login} login; exception when duplicate_object then null; end $$;\n\
             grant {role} to {login};\n"
        ));
    }
    sql.push_str("grant outbox_owner to t_migrator;\nalter role t_migrator set role = 'outbox_owner';\n");
    sql
}
