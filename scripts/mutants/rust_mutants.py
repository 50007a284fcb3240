#!/usr/bin/env python3
"""Has cargo-mutants change the money path's Rust in one place at a time, and judges what the tests let pass.

Run by scripts/mutants.sh. The parts, their files and the tests that are meant for each are in rust.toml; so are the mutants that no
test can notice, each with the reason. A survivor that is not listed there fails, and so does a listed one that is noticed.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NOTICED = {"CaughtMutant": "killed by", "Timeout": "killed: the tests did not end, after"}
# The line that nextest writes of a test that failed; the log is plain text.
FAILED = re.compile(r"^ +(?:FAIL|TIMEOUT|SIGABRT|SIGKILL|SIGTERM) \[[^]]*\] (?:\([^)]*\) )?\S+ (\S+)$", re.MULTILINE)
PLACE = re.compile(r":\d+:\d+:")


def fail(text):
    sys.exit(f"scripts/mutants.sh: {text}")


def run(group, number, part, options):
    """One run of cargo-mutants over the files of a group; gives its outcomes."""
    output = ROOT / "target/mutants" / f"{part}-{number}"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    # Its list of files is no path of the command: a name that matches nothing would mutate everything.
    for file in group["files"]:
        if not (ROOT / group["crate"] / "src" / file).is_file():
            fail(f"rust.toml names {group['crate']}/src/{file}, which is not there")
    command = ["cargo", "mutants", "--package", Path(group["crate"]).name, "--test-tool", "nextest", "--jobs", "1",
               "--output", str(output), "--no-shuffle", "--colors", "never", "--timeout", "240",
               "--minimum-test-timeout", "120", "--cargo-arg=--locked"]
    for file in group["files"]:
        command += ["--file", f"{group['crate']}/src/{file}"]
    for pattern in options.only or []:
        command += ["--re", re.escape(pattern)]
    # The crate's tests beside its code need no database, and neither are those that do built for them.
    command += ["--", "--fail-fast", *(["--lib"] if group.get("lib") else [])]
    if group.get("tests"):
        command += ["-E", " or ".join(f"test(/^{module}::/)" for module in group["tests"])]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(ROOT / "target/mutants/build"), "RUST_BACKTRACE": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, check=False)
    # 2: some survived; 3: some did not end. Both are judged here.
    if done.returncode not in (0, 2, 3):
        fail(f"cargo-mutants ended with {done.returncode}; its logs are in {output.relative_to(ROOT)}")
    found = output / "mutants.out/outcomes.json"
    outcomes = json.loads(found.read_text())["outcomes"] if found.is_file() else []
    return [(o, found.parent) for o in outcomes if o["scenario"] != "Baseline"]


def named(outcomes):
    """Each outcome with the mutant's name without its place, which changes with every line above it; the second of one name is #2."""
    seen = Counter()
    for outcome, folder in outcomes:
        name = PLACE.sub(":", outcome["scenario"]["Mutant"]["name"], count=1)
        seen[name] += 1
        yield f"{name} #{seen[name]}" if seen[name] > 1 else name, outcome, folder


def killer(outcome, folder):
    """The first test that failed."""
    text = (folder / outcome["log_path"]).read_text(errors="replace")
    found = FAILED.search(text)
    return found.group(1) if found else "the build of the tests"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=["core", "store"])
    parser.add_argument("--only", action="append")
    parser.add_argument("--report", required=True)
    options = parser.parse_args()
    settings = tomllib.loads((HERE / "rust.toml").read_text())
    groups = settings[options.part]
    listed = {e["mutant"]: e["reason"] for e in settings.get("equivalent", []) if e["mutant"].startswith(groups[0]["crate"])}
    outcomes = [o for number, group in enumerate(groups) for o in run(group, number, options.part, options)]
    lines, faults, counts = [], [], Counter()
    for name, outcome, folder in named(outcomes):
        summary = outcome["summary"]
        if summary == "Unviable":
            counts["unviable"] += 1
            continue
        if summary == "MissedMutant" and name in listed:
            counts["equivalent"] += 1
            lines.append(f"{name}: equivalent: {listed[name]}")
            continue
        if summary in NOTICED:
            counts["killed"] += 1
            lines.append(f"{name}: {NOTICED[summary]} {killer(outcome, folder)}")
            if name in listed:
                faults.append(f"{name}: is listed as equivalent, and is noticed")
            continue
        counts["survived"] += 1
        lines.append(f"{name}: SURVIVES" if summary == "MissedMutant" else f"{name}: {summary}")
        faults.append(lines[-1])
    if not options.only:
        names = {name for name, _, _ in named(outcomes)}
        faults += [f"{name}: is listed as equivalent, and there is no such mutant" for name in listed if name not in names]
    judged = sum(counts.values()) - counts["unviable"]
    head = (f"{options.part}: {judged} mutants, {counts['killed']} killed, {counts['equivalent']} equivalent, {counts['survived']} survive; "
            f"{counts['unviable']} more do not compile")
    Path(options.report).write_text("\n".join([head, *lines]) + "\n")
    print("\n".join([*faults, head]))
    if faults:
        fail(f"{len(faults)} mutants of {options.part} are not as written down")
    if not judged:
        fail(f"no mutant of {options.part} was made")


if __name__ == "__main__":
    main()
