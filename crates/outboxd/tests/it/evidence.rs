//! `evidence`: one file of what was checked and on what, that is refused if anything in it, or what it speaks of, is another.

use std::fs;

use outbox_testkit::workspace_root;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::commands_binary::{Desk, Ended, text};

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

/// A tree with one gate, its result, and a desk with a database.
struct Office {
    desk: Desk,
    tree: tempfile::TempDir,
}

impl Office {
    async fn open() -> Self {
        let office = Self { desk: Desk::with_rails().await, tree: tempfile::tempdir().unwrap() };
        office.put("gates.txt", "rules\trules.sql\tpsql -f rules.sql\n");
        office.put("rules.sql", "select 1\n");
        office.put("output", "all rules hold\n");
        office.ran("rules", 0);
        office
    }

    fn put(&self, name: &str, content: &str) {
        fs::write(self.tree.path().join(name), content).unwrap();
    }

    fn at(&self, name: &str) -> String {
        self.tree.path().join(name).display().to_string()
    }

    fn ran(&self, gate: &str, code: i32) {
        let output = self.at("output");
        self.put(
            "results",
            &format!("{{\"gate\":\"{gate}\",\"exit_code\":{code},\"seconds\":3,\"output\":{output:?}}}\n"),
        );
    }

    /// Collects into `file`, which is written anew.
    fn collect(&self, file: &str, more: &[&str]) -> (Ended, Value) {
        let _ = fs::remove_file(self.tree.path().join(file));
        let (gates, results, out) = (self.at("gates.txt"), self.at("results"), self.at(file));
        let fixed = ["evidence", "collect", "--gates", &gates, "--results", &results, "--out", &out, "--tree"];
        let words = [&fixed[..], &[text(self.tree.path())], more].concat();
        let ended = self.desk.run("t_auditor", &words);
        let written =
            fs::read_to_string(self.tree.path().join(file)).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
        (ended, serde_json::from_str(&written).unwrap())
    }

    fn sound(&self, file: &str) -> Value {
        let (ended, document) = self.collect(file, &["--git-sha", SHA, "--dirty", "false"]);
        assert_eq!((ended.code, &document["status"]), (Some(0), &"PASS".into()), "{ended:?}");
        document
    }

    fn verify(&self, file: &str, more: &[&str]) -> Ended {
        let file = self.at(file);
        self.desk.run("t_auditor", &[&["evidence", "verify", &file][..], more].concat())
    }

    fn verify_all(&self, file: &str) -> Ended {
        self.verify(file, &["--tree", text(self.tree.path()), "--gates", "gates.txt", "--with-database"])
    }
}

/// The keys of each object of `found` are those that `schema` lists, no more and no fewer.
fn fits(schema: &Value, found: &Value, place: &str) {
    if let Some(object) = found.as_object() {
        let keys: Vec<&String> = object.keys().collect();
        let listed: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
        let mut required: Vec<&str> = schema["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let mut sorted = keys.clone();
        sorted.sort();
        required.sort_unstable();
        assert_eq!(sorted, required, "{place}");
        assert_eq!(keys.len(), listed.len(), "{place}");
        assert_eq!(schema["additionalProperties"], false, "{place}");
        for (key, value) in object {
            fits(&schema["properties"][key], value, &format!("{place}/{key}"));
        }
    }
    for value in found.as_array().into_iter().flatten() {
        fits(&schema["items"], value, &format!("{place}/*"));
    }
}

#[tokio::test]
async fn evidence_has_the_form_that_its_schema_says() {
    let office = Office::open().await;
    let schema = fs::read_to_string(workspace_root().join("evidence/evidence.schema.json")).unwrap();
    let schema = serde_json::from_str(&schema).unwrap();
    let document = office.sound("a.json");
    assert!(
        document["gates"][0]["inputs"][0]["path"] == "rules.sql"
            && document["database"]["migrations"][2]["version"] == 3
    );
    fits(&schema, &document, "");
}

#[tokio::test]
async fn gate_without_a_result_and_an_input_that_is_not_there_fail_by_name() {
    let office = Office::open().await;
    let known = ["--git-sha", SHA, "--dirty", "false"];
    office.sound("sound.json");
    assert_eq!(office.verify_all("sound.json").code, Some(0));
    let fails = |words: &str, more: &[&str]| {
        let (ended, document) = office.collect("failed.json", more);
        assert_eq!((ended.code, &document["status"]), (Some(65), &"FAIL".into()), "{words}: {ended:?}");
        assert!(ended.out.contains(words), "{words}: {ended:?}");
        assert_eq!(office.verify("failed.json", &[]).code, Some(65), "{words}");
    };
    office.put("gates.txt", "rules\trules.sql\tpsql -f rules.sql\nother\trules.sql\tsh other\n");
    fails("gate other: it did not run", &known);
    assert!(office.verify_all("sound.json").out.contains("gate other is listed in the tree and was not run"));
    office.put("gates.txt", "rules\trules.sql gone.sql\tpsql -f rules.sql\n");
    fails("gate rules: input gone.sql", &known);
    office.put("gates.txt", "rules\trules.sql\tpsql -f rules.sql\n");
    fails("the commit is not known", &known[2..]);
    fails("the tree has changes", &["--git-sha", SHA, "--dirty", "true"]);
    office.ran("rules", 2);
    fails("failed   rules", &known);
    office.ran("rules", 0);
    let sql = "delete from outbox.schema_migrations where version = 3";
    sqlx::query(sql).execute(&mut office.desk.dba().await).await.unwrap();
    fails("migrations [1, 2] are applied", &known);
    let gone = "alter table outbox.schema_migrations rename to elsewhere";
    sqlx::query(gone).execute(&mut office.desk.dba().await).await.unwrap();
    fails("missing  database: ", &known);
}

#[tokio::test]
async fn file_that_was_changed_is_refused_whatever_was_changed() {
    let office = Office::open().await;
    office.sound("sound.json");
    let sound = fs::read_to_string(office.tree.path().join("sound.json")).unwrap();
    for (was, is) in [
        (SHA, "1123456789abcdef0123456789abcdef01234567"),
        ("all rules hold", "all rules held"),
        ("\"seconds\": 3", "\"seconds\": 4"),
        ("\"breaches\": 0", "\"breaches\": 1"),
        ("\"missing\": []", "\"missing\": [], \"more\": 1"),
    ] {
        assert!(sound.contains(was), "{was}: {sound}");
        office.put("changed.json", &sound.replacen(was, is, 1));
        assert_eq!(office.verify("changed.json", &[]).code, Some(65), "{was}");
    }
    // Failures that are called passes, with a hash of their own.
    office.ran("rules", 1);
    let (_, failed) = office.collect("failed.json", &["--git-sha", SHA, "--dirty", "false"]);
    let lie = fs::read_to_string(office.tree.path().join("failed.json")).unwrap().replacen("\"FAIL\"", "\"PASS\"", 1);
    let compact = serde_json::to_string(&serde_json::from_str::<Value>(&lie).unwrap()).unwrap();
    assert_ne!(failed["sha256"], "");
    assert!(compact.contains("\"PASS\""));
    office.put("lie.json", &lie);
    let ended = office.verify("lie.json", &[]);
    assert!(ended.out.contains("it says PASS, and what stands in it says FAIL"), "{ended:?}");
    // What it was made from has changed.
    office.ran("rules", 0);
    office.put("rules.sql", "select 2\n");
    assert!(office.verify_all("sound.json").out.contains("gate rules: rules.sql is another"));
    office.put("rules.sql", "select 1\n");
    assert_eq!(office.verify_all("sound.json").code, Some(0));
}

#[tokio::test]
async fn two_databases_that_were_migrated_have_one_fingerprint_and_a_changed_one_another() {
    let (one, other) = (Office::open().await, Office::open().await);
    let mut fingerprint = String::new();
    let catalogue = fs::read(workspace_root().join("scripts/db/catalogue.txt")).unwrap();
    for byte in Sha256::digest(&catalogue) {
        fingerprint.push_str(&format!("{byte:02x}"));
    }
    for office in [&one, &other] {
        assert_eq!(office.sound("a.json")["database"]["schema_sha256"], fingerprint.as_str());
    }
    let mut dba = other.desk.dba().await;
    for (change, back) in [
        (
            "alter table outbox.payment_outbox_attempts disable trigger history_is_never_changed",
            "alter table outbox.payment_outbox_attempts enable always trigger history_is_never_changed",
        ),
        ("grant select on outbox.payment_rails to public", "revoke all on outbox.payment_rails from public"),
        (
            "alter function outbox.new_outbox_id() security definer",
            "alter function outbox.new_outbox_id() security invoker",
        ),
    ] {
        sqlx::query(change).execute(&mut dba).await.unwrap();
        let (_, document) = other.collect("b.json", &["--git-sha", SHA, "--dirty", "false"]);
        assert_ne!(document["database"]["schema_sha256"], fingerprint.as_str(), "{change}");
        assert!(other.verify("a.json", &["--with-database"]).out.contains("differs  the schema"), "{change}");
        sqlx::query(back).execute(&mut dba).await.unwrap();
        assert_eq!(other.sound("c.json")["database"]["schema_sha256"], fingerprint.as_str(), "{back}");
    }
    // A login's own path changes no name.
    sqlx::query("alter role t_auditor set search_path = outbox, public").execute(&mut dba).await.unwrap();
    let (_, document) = other.collect("d.json", &["--git-sha", SHA, "--dirty", "false"]);
    sqlx::query("alter role t_auditor reset search_path").execute(&mut dba).await.unwrap();
    assert_eq!(document["database"]["schema_sha256"], fingerprint.as_str());
}
