//! What became of each test of a run, from the JUnit file that cargo-nextest leaves. Only what nextest writes is read.

use std::collections::BTreeMap;

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It ran, and everything in it held.
    Passed,
    /// It failed, also if another of the same name passed.
    Failed,
    /// It was not run.
    Skipped,
}

/// The outcomes by the test's own name, without its modules. Of several tests with one name the worst counts.
///
/// # Errors
/// What is wrong with the file, if it holds no test case or breaks off.
pub fn outcomes(text: &str) -> Result<BTreeMap<String, Outcome>, String> {
    if !text.trim_end().ends_with("</testsuites>") {
        return Err("is no whole report: it does not end with </testsuites>".to_owned());
    }
    let mut found: BTreeMap<String, Outcome> = BTreeMap::new();
    for case in text.split("<testcase ").skip(1) {
        let (head, rest) = case.split_once('>').ok_or("a test case does not end")?;
        let name = attribute(head, "name").ok_or("a test case has no name")?;
        let inside = if head.ends_with('/') { "" } else { rest.split("</testcase>").next().unwrap_or_default() };
        let outcome = if inside.contains("<failure") || inside.contains("<error") {
            Outcome::Failed
        } else if inside.contains("<skipped") {
            Outcome::Skipped
        } else {
            Outcome::Passed
        };
        let name = name.rsplit("::").next().unwrap_or(name).to_owned();
        let before = found.get(&name).copied().unwrap_or(Outcome::Passed);
        found.insert(name, if before == Outcome::Passed || outcome == Outcome::Failed { outcome } else { before });
    }
    if found.is_empty() { Err("holds no test case".to_owned()) } else { Ok(found) }
}

/// The first attribute: nextest writes the name there.
fn attribute<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.strip_prefix(&format!("{name}=\""))?.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="5" failures="1">
    <testsuite name="a::it" tests="5">
        <testcase name="claim::it_passes" classname="a::it" timestamp="2026-01-01T00:00:00" time="0.1">
        </testcase>
        <testcase name="it_is_short" classname="a::it" time="0.1"/>
        <testcase name="claim::it_fails" classname="a::it" time="0.1">
            <failure message="it_passes &lt;/testcase&gt;" type="test failure">no</failure>
        </testcase>
        <testcase name="left::twice" classname="a::it"><error type="x"/></testcase>
        <testcase name="right::twice" classname="a::it"></testcase>
        <testcase name="it_waits" classname="a::it"><skipped/></testcase>
    </testsuite>
</testsuites>
"#;

    #[test]
    fn each_test_has_its_outcome() {
        let found = outcomes(REPORT).unwrap();
        let expected = [
            ("it_fails", Outcome::Failed),
            ("it_is_short", Outcome::Passed),
            ("it_passes", Outcome::Passed),
            ("it_waits", Outcome::Skipped),
            ("twice", Outcome::Failed),
        ];
        assert_eq!(found, expected.into_iter().map(|(name, outcome)| (name.to_owned(), outcome)).collect());
    }

    #[test]
    fn a_report_that_broke_off_or_says_nothing_is_refused() {
        assert!(outcomes(&REPORT[..REPORT.len() / 2]).is_err());
        assert!(outcomes("<testsuites></testsuites>").is_err());
        assert!(outcomes("").is_err());
    }
}
