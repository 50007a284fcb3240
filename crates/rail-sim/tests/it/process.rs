//! The rail as a process that is killed, fails to write, and goes on from its ledger.

use std::{
    collections::{HashMap, HashSet},
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use rail_sim::{Answer, Ledger, Received, Sim, SimConfig, SimError, unknown_answers};
use tokio::{sync::mpsc, task::JoinSet};

use crate::raw::{End, Raw, pay, within};

struct Process {
    child: Child,
    addr: SocketAddr,
}

impl Process {
    fn start(flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rail-sim"));
        let mut child = command.args(flags).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let addr = line.strip_prefix("LISTENING ").unwrap_or_else(|| panic!("{line:?}")).trim().parse().unwrap();
        Self { child, addr }
    }

    fn in_dir(dir: &Path, more: &[&str]) -> Self {
        let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        let (ledger, answers, received) = (path("ledger.jsonl"), path("answers.jsonl"), path("received.jsonl"));
        let files = ["--ledger", &ledger, "--answers", &answers, "--received", &received];
        Self::start(&[&files, more].concat())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Pays from several connections until they break, and gives reference by key of what was answered.
async fn pay_until_killed(mut process: Process, senders: usize, kill_after: usize) -> HashMap<String, String> {
    let addr = process.addr;
    let (answered, mut answers) = mpsc::unbounded_channel();
    let mut all = JoinSet::new();
    for sender in 0..senders {
        let answered = answered.clone();
        all.spawn(async move {
            let mut client = Raw::connect(addr).await;
            for n in 0.. {
                let key = format!("{sender}-{n}");
                client.0.writable().await.unwrap();
                if client.0.try_write(&crate::raw::request(&key, b"body")).is_err() {
                    break;
                }
                let seen = client.answer().await;
                if seen.end != End::Complete {
                    break;
                }
                assert_eq!(seen.status(), 201);
                answered.send((key, seen.json()["reference"].as_str().unwrap().to_owned())).unwrap();
            }
        });
    }
    drop(answered);
    let mut references = HashMap::new();
    while let Some((key, reference)) = within(answers.recv()).await {
        references.insert(key, reference);
        if references.len() == kill_after {
            process.child.kill().unwrap();
        }
    }
    within(all.join_all()).await;
    references
}

#[tokio::test]
async fn a_killed_rail_has_every_answered_effect_in_its_ledger_and_goes_on_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let ledger_path = dir.path().join("ledger.jsonl");
    let senders = 16;
    let answered = pay_until_killed(Process::in_dir(dir.path(), &["--seed", "5"]), senders, 500).await;
    assert!(answered.len() >= 500);

    let ledger = Ledger::read(&ledger_path).unwrap();
    let effects: HashMap<_, _> =
        ledger.effects.iter().map(|effect| (effect.key.clone(), effect.reference.clone())).collect();
    for (key, reference) in &answered {
        assert_eq!(effects.get(key), Some(reference), "{key} was answered");
    }
    let unanswered: Vec<_> = effects.keys().filter(|key| !answered.contains_key(*key)).collect();
    assert!(unanswered.len() <= senders, "only what was in flight: {unanswered:?}");
    assert_eq!(ledger.duplicates(), 0);

    let again = Process::in_dir(dir.path(), &["--seed", "5"]);
    for (key, reference) in effects.iter().take(50) {
        let seen = pay(again.addr, key, b"body").await;
        assert_eq!((seen.status(), seen.json()["reference"].as_str()), (200, Some(reference.as_str())));
    }
    assert_eq!(pay(again.addr, "new", b"body").await.status(), 201);
    let after = Ledger::read(&ledger_path).unwrap();
    assert_eq!((after.effects.len(), after.duplicates()), (ledger.effects.len() + 1, 0));

    let answers = Answer::read(&dir.path().join("answers.jsonl")).unwrap();
    let requests: HashSet<_> = answers.iter().map(|answer| answer.request).collect();
    assert_eq!(requests.len(), answers.len(), "numbers go on after a restart");
    let received = Received::read(&dir.path().join("received.jsonl")).unwrap();
    assert!(unknown_answers(&answers, &received) <= senders as u64);
}

#[tokio::test]
async fn a_rail_that_cannot_write_its_ledger_answers_nothing_and_stops() {
    let mut process = Process::start(&["--ledger", "/dev/full", "--no-sync"]);
    let seen = pay(process.addr, "k", b"body").await;
    assert_eq!((seen.end, seen.head.as_str()), (End::Reset, ""));
    let status = within(tokio::task::spawn_blocking(move || process.child.wait())).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[tokio::test]
async fn sigterm_ends_the_rail_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::in_dir(dir.path(), &[]);
    let mut client = Raw::connect(process.addr).await;
    assert_eq!(client.pay("k", b"body").await.status(), 201);
    let pid = process.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let status = within(tokio::task::spawn_blocking(move || process.child.wait())).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(client.answer().await.end, End::Reset);
}

#[tokio::test]
async fn flags_profile_and_script_reach_the_rail() {
    let dir = tempfile::tempdir().unwrap();
    let (profile, script) = (dir.path().join("profile.toml"), dir.path().join("script.json"));
    std::fs::write(&profile, "forbidden = 1000\n").unwrap();
    std::fs::write(&script, r#"{"keys": {"k": ["none", "refuse"]}}"#).unwrap();
    let files = ["--profile", profile.to_str().unwrap(), "--script", script.to_str().unwrap()];
    let flags = ["--non-idempotent", "--refuse-code", "AM04", "--key-header", "X-Key"];
    let process = Process::in_dir(dir.path(), &[&files[..], &flags].concat());
    let mut client = Raw::connect(process.addr).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let request = "POST / HTTP/1.1\r\nhost: rail\r\nx-key: k\r\ncontent-length: 0\r\n\r\n";
        client.send(request.as_bytes()).await;
        seen.push(client.answer().await);
    }
    assert_eq!(seen.iter().map(crate::raw::Seen::status).collect::<Vec<_>>(), [201, 422, 403]);
    assert_eq!(seen[1].code(), "AM04");
}

#[test]
fn bad_flags_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("ledger.jsonl");
    let profile = dir.path().join("profile.toml");
    std::fs::write(&profile, "hagn = 5\n").unwrap();
    for (flags, said) in [
        (&["--fault", "hagn=5"][..], "there is no fault hagn"),
        (&["--fault", "hang=1001"], "the faults add up to 1001 per mille"),
        (&["--profile", profile.to_str().unwrap()], "unknown variant"),
        (&["--latency-min-ms", "2", "--latency-max-ms", "1"], "latency"),
        (&["--tls-certificate", "x"], "--tls-key"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rail-sim"));
        let output = command.arg("--ledger").arg(&ledger).args(flags).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(said), "{flags:?}: {text}");
    }
}

#[tokio::test]
async fn two_rails_do_not_share_a_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let first = Sim::start(SimConfig::in_dir(dir.path())).await.unwrap();
    let second = Sim::start(SimConfig::in_dir(dir.path())).await;
    assert!(matches!(second, Err(SimError::FileInUse { .. })));
    first.stop().await;
    let third = Sim::start(SimConfig::in_dir(dir.path())).await.unwrap();
    third.stop().await;
}

#[tokio::test]
async fn a_torn_ledger_is_taken_up_without_its_torn_line() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = SimConfig::in_dir(dir.path());
    let sim = Sim::start(cfg.clone()).await.unwrap();
    for key in ["a", "b"] {
        pay(sim.addr(), key, b"body").await;
    }
    sim.stop().await;
    let whole = std::fs::read(&cfg.ledger).unwrap();
    std::fs::write(&cfg.ledger, &whole[..whole.len() - 10]).unwrap();
    let sim = Sim::start(cfg).await.unwrap();
    let (kept, lost) = (pay(sim.addr(), "a", b"body").await, pay(sim.addr(), "b", b"body").await);
    assert_eq!((kept.status(), lost.status()), (200, 201));
    let keys: Vec<_> = sim.effects().unwrap().into_iter().map(|effect| (effect.seq, effect.key)).collect();
    assert_eq!(keys, [(1, "a".to_owned()), (2, "b".to_owned())]);
    sim.stop().await;
}

/// Many clients at once: every request has one effect and one line, whatever shares a sync.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_of_many_clients_are_all_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Arc::new(Sim::start(SimConfig::in_dir(dir.path())).await.unwrap());
    let mut all = JoinSet::new();
    for sender in 0..32 {
        let addr = sim.addr();
        all.spawn(async move {
            let mut client = Raw::connect(addr).await;
            for n in 0..50 {
                assert_eq!(client.pay(&format!("{sender}-{n}"), b"body").await.status(), 201);
            }
        });
    }
    within(all.join_all()).await;
    let effects = sim.effects().unwrap();
    let keys: HashSet<_> = effects.iter().map(|effect| &effect.key).collect();
    assert_eq!((effects.len(), keys.len()), (1600, 1600));
    assert_eq!((sim.answers().unwrap().len(), sim.received().unwrap().len()), (1600, 1600));
    assert_eq!(sim.stats().connections, 32);
}
