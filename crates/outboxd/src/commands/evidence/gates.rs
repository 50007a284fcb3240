//! The gates that there have to be, and what their runs left: read from files, and matched. A gate without a result is one
//! that failed.

use std::path::Path;

use serde::Deserialize;

use super::document::{Gate, Input, Status};
use super::fingerprint::{sha256_at, sha256_of};
use crate::exit::{Exit, Failure};

/// A line of the list of gates: name, what it reads, command, separated by tabs; `#` begins a comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) inputs: Vec<String>,
    pub(super) command: String,
}

/// What the run of a gate left: a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ran {
    gate: String,
    exit_code: i32,
    seconds: u64,
    /// The file with what it printed.
    output: String,
}

fn bad(what: &str, line: usize, why: &str) -> Failure {
    Failure::new(Exit::BadData, format!("{what}, line {}: {why}", line + 1))
}

/// The list of gates in `text`.
///
/// # Errors
/// A line of another form, or a name that stands twice.
pub(super) fn listed(text: &str) -> Result<Vec<Listed>, Failure> {
    let mut gates: Vec<Listed> = Vec::new();
    for (place, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, inputs, command] = fields[..] else {
            return Err(bad("the list of gates", place, "not name, inputs and command, separated by tabs"));
        };
        if name.is_empty() || command.is_empty() || inputs.is_empty() {
            return Err(bad("the list of gates", place, "a field is empty"));
        }
        if gates.iter().any(|gate| gate.name == name) {
            return Err(bad("the list of gates", place, &format!("`{name}` stands twice")));
        }
        let inputs = inputs.split(' ').map(str::to_owned).collect();
        gates.push(Listed { name: name.to_owned(), inputs, command: command.to_owned() });
    }
    if gates.is_empty() {
        return Err(Failure::new(Exit::BadData, "the list of gates is empty"));
    }
    Ok(gates)
}

/// The results in `text`, lines of JSON.
///
/// # Errors
/// A line that is none, or a gate that stands twice: one of the two would be believed.
pub(super) fn results(text: &str) -> Result<Vec<Ran>, Failure> {
    let mut all: Vec<Ran> = Vec::new();
    for (place, line) in text.lines().enumerate() {
        let ran: Ran = serde_json::from_str(line).map_err(|error| bad("the results", place, &error.to_string()))?;
        if all.iter().any(|other| other.gate == ran.gate) {
            return Err(bad("the results", place, &format!("`{}` stands twice", ran.gate)));
        }
        all.push(ran);
    }
    Ok(all)
}

/// Each listed gate with its result, and what is missing, in words.
pub(super) fn matched(listed: &[Listed], results: &[Ran], tree: &Path) -> (Vec<Gate>, Vec<String>) {
    let mut missing = Vec::new();
    for ran in results.iter().filter(|ran| !listed.iter().any(|gate| gate.name == ran.gate)) {
        missing.push(format!("gate {}: it ran and is not listed", ran.gate));
    }
    let gates = listed.iter().map(|gate| judged(gate, results, tree, &mut missing)).collect();
    (gates, missing)
}

fn judged(gate: &Listed, results: &[Ran], tree: &Path, missing: &mut Vec<String>) -> Gate {
    let mut inputs = Vec::new();
    let mut is_whole = true;
    for path in &gate.inputs {
        match sha256_at(tree, path) {
            Ok(sha256) => inputs.push(Input { path: path.clone(), sha256 }),
            Err(error) => {
                is_whole = false;
                missing.push(format!("gate {}: input {path}: {error}", gate.name));
            }
        }
    }
    let ran = results.iter().find(|ran| ran.gate == gate.name);
    let output = ran.map(|ran| std::fs::read(&ran.output));
    match &output {
        None => missing.push(format!("gate {}: it did not run", gate.name)),
        Some(Err(error)) => missing.push(format!("gate {}: its output: {error}", gate.name)),
        Some(Ok(_)) => {}
    }
    let output = output.and_then(Result::ok);
    let said = output.as_deref().map(last_line).unwrap_or_default();
    let status = match ran {
        Some(ran) if is_whole && ran.exit_code == 0 && output.is_some() => {
            if said.starts_with("FAIL_CLOSED ") {
                Status::FailClosed
            } else {
                Status::Pass
            }
        }
        _ => Status::Fail,
    };
    Gate {
        name: gate.name.clone(),
        command: gate.command.clone(),
        status,
        exit_code: ran.map(|ran| ran.exit_code),
        seconds: ran.map(|ran| ran.seconds),
        said,
        output_sha256: output.as_deref().map(sha256_of),
        inputs,
    }
}

/// The last line that is not blank, cut to what fits a line of the file.
fn last_line(output: &[u8]) -> String {
    const CHARS_MAX: usize = 300;
    let text = String::from_utf8_lossy(output);
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    last.chars().filter(|c| !c.is_control()).take(CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gate_is_believed_only_with_its_result_its_output_and_its_inputs() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("input"), "x").unwrap();
        std::fs::write(at("closed"), "…\nFAIL_CLOSED disk full\n\n").unwrap();
        std::fs::write(at("fine"), "ok\n").unwrap();
        let list = listed(
            "# names\na\tinput\tsh a\nb\tinput\tsh b\nc\tinput\tsh c\nd\tgone\tsh d\ne\tinput\tsh e\nf\tinput\tsh f\n",
        )
        .unwrap();
        let ran = |gate: &str, code: i32, output: &str| {
            let output = at(output).display().to_string();
            format!("{{\"gate\":\"{gate}\",\"exit_code\":{code},\"seconds\":1,\"output\":{output:?}}}\n")
        };
        let text = ran("a", 0, "fine")
            + &ran("b", 0, "closed")
            + &ran("c", 1, "closed")
            + &ran("d", 0, "fine")
            + &ran("f", 0, "nowhere")
            + &ran("g", 0, "fine");
        let (gates, missing) = matched(&list, &results(&text).unwrap(), dir.path());
        let statuses: Vec<&str> = gates.iter().map(|gate| gate.status.name()).collect();
        assert_eq!(statuses, ["PASS", "FAIL_CLOSED", "FAIL", "FAIL", "FAIL", "FAIL"]);
        assert_eq!(missing.len(), 4, "{missing:?}");
        for words in
            ["gate g: it ran and is not listed", "gate d: input gone", "gate e: it did not run", "gate f: its output"]
        {
            assert!(missing.iter().any(|one| one.contains(words)), "{words}: {missing:?}");
        }
        assert_eq!(gates[1].said, "FAIL_CLOSED disk full");
    }

    #[test]
    fn lists_that_leave_something_open_are_refused() {
        for text in ["", "a\tb", "a\t\tc", "a\tb\tc\na\tb\tc"] {
            assert!(listed(text).is_err(), "{text:?}");
        }
        let one = "{\"gate\":\"a\",\"exit_code\":0,\"seconds\":1,\"output\":\"x\"}\n";
        assert!(results(one).is_ok() && results(&one.repeat(2)).is_err() && results("{}").is_err());
    }
}
