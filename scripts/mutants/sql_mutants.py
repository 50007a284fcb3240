#!/usr/bin/env python3
"""Runs the tests of the store against a database that does wrong, once for each entry of sql.toml.

Run by scripts/mutants.sh beside a Postgres of target/debug/testkit-pg. A mutant is a change of one function (`piece`, which
occurs in it once, becomes `instead`) or one statement (`sql`), made on a copy of the migrated database. Each test that it
names has to fail, by what it asserts: a function that Postgres cannot run at all proves nothing. Judges no Rust.
"""

import argparse
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# What compares texts and shapes with what is on record notices every mutant, and says nothing of its harm.
FINGERPRINTS = ("schema::", "invariant_gate::", "statements::", "migrations::", "privileges::", "upgrade::")
# A test that waits for what never happens has noticed.
TEST_LIMIT_S = 240
# Class 42, but for missing rights: the mutant itself cannot be run.
UNRUNNABLE = re.compile(r'code: "42(?!501)|syntax error at or near|(column|function|relation|operator|type) \S+ does not exist|is ambiguous')


def fail(text):
    sys.exit(f"scripts/mutants.sh: {text}")


def read_mutants():
    mutants = tomllib.loads((HERE / "sql.toml").read_text())["mutant"]
    names = [mutant.get("name") for mutant in mutants]
    for mutant in mutants:
        name = mutant.get("name")
        if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9_]+", name) or names.count(name) > 1:
            fail(f"sql.toml: the name {name} is missing, malformed or not the only one")
        shape = set(mutant) - {"name", "why", "killed_by", "short", "equivalent", "survives"}
        if "equivalent" in mutant and ("killed_by" in mutant or not mutant.get("survives")):
            fail(f"sql.toml: {name} is equivalent: it names the tests that it survives, and none that kills it")
        if shape not in ({"function", "piece", "instead"}, {"sql"}) or not mutant.get("why"):
            fail(f"sql.toml: {name} needs function, piece and instead, or sql; and why")
        if mutant.get("piece") == mutant.get("instead", ""):
            fail(f"sql.toml: {name} changes nothing")
        for test in tests_of(mutant):
            if test.startswith(FINGERPRINTS):
                fail(f"sql.toml: {name}: {test} compares texts; a test of what happens has to notice")
    return mutants


def tests_of(mutant):
    return mutant.get("survives") or mutant.get("killed_by", [])


def statement_of(mutant):
    """The SQL that makes the mutant out of a sound database."""
    if "sql" in mutant:
        return mutant["sql"]
    return f"""do $mutant$
declare
    v_piece text := $piece${mutant["piece"]}$piece$;
    v_text text;
    v_times bigint;
begin
    select pg_get_functiondef(f.oid) into strict v_text from pg_proc f
     where f.proname = '{mutant["function"]}' and f.pronamespace = 'outbox'::regnamespace;
    v_times := (length(v_text) - length(replace(v_text, v_piece, ''))) / length(v_piece);
    if v_times <> 1 then
        raise exception 'outbox.{mutant["function"]} contains % times: %', v_times, v_piece;
    end if;
    execute replace(v_text, v_piece, $instead${mutant["instead"]}$instead$);
end
$mutant$;
"""


def psql(database, text):
    host = os.environ["OUTBOXD_TEST_PG_HOST"]
    command = ["psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-h", host, "-U", "postgres", "-d", database]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def test_program():
    """The built tests of the store, and their names."""
    command = ["cargo", "test", "-p", "outbox-store", "--test", "it", "--no-run", "--message-format", "json", "--quiet"]
    built = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, check=False, cwd=ROOT)
    found = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
    programs = [m["executable"] for m in found if m.get("target", {}).get("name") == "it" and m.get("executable")]
    if built.returncode or not programs:
        fail("the tests of the store were not built")
    listed = subprocess.run([programs[-1], "--list"], capture_output=True, text=True, check=True)
    return programs[-1], [line.removesuffix(": test") for line in listed.stdout.splitlines() if line.endswith(": test")]


def run_tests(program, tests, threads, mutant_file=None):
    """Runs the tests, each in a process of its own, as the gate does; gives what each said where it failed."""
    environment = {**os.environ, "RUST_BACKTRACE": "0"}
    if mutant_file:
        environment["OUTBOXD_TEST_MUTANT"] = mutant_file

    def run(test):
        command = [program, "--exact", test, "--test-threads", "1"]
        try:
            done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=TEST_LIMIT_S, check=False, cwd=ROOT / "crates/outbox-store")
        except subprocess.TimeoutExpired:
            return f"did not end within {TEST_LIMIT_S} s"
        if done.returncode == 0 and "1 passed" in done.stdout:
            return None
        return done.stdout + done.stderr

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        said = list(pool.map(run, tests))
    return {test: text for test, text in zip(tests, said, strict=True) if text is not None}


def check_pieces(mutants):
    """Every mutant can be made; on one connection, each taken back at once."""
    template = psql("postgres", "select datname from pg_database where datname like 'outbox_template_%'").stdout.split()[0]
    psql("postgres", f"drop database if exists mutants; create database mutants template {template};")
    faults = []
    for mutant in mutants:
        made = psql("mutants", f"begin;\n{statement_of(mutant)}\nrollback;")
        if made.returncode:
            faults.append(f"{mutant['name']}: {made.stderr.strip()[:300]}")
    psql("postgres", "drop database mutants")
    if faults:
        fail("these mutants cannot be made:\n" + "\n".join(faults))


def drop_mutants():
    """Their templates; a run of all would fill the server's disk."""
    ours = "from pg_database where datname like 'outbox\\_mutant\\_%'"
    psql("postgres", f"select format('alter database %I is_template false', datname) {ours} \\gexec\n"
                     f"select format('drop database %I', datname) {ours} \\gexec\n")


def judge(program, mutant, batches, threads):
    """What became of one mutant: the tests of the first batch that notices it, and what is wrong with it."""
    failed = {}
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(statement_of(mutant))
        file.flush()
        for tests in batches:
            failed = run_tests(program, tests, threads, file.name)
            if failed:
                break
    for test, text in failed.items():
        if UNRUNNABLE.search(text):
            return list(failed), f"cannot be run by Postgres: {test} says {UNRUNNABLE.search(text).group()}"
    return list(failed), None


def judged(program, mutants, threads):
    """Each mutant with what became of it, several at a time: most name one test, which waits as much as it works."""
    for at in range(0, len(mutants), 24):
        some = mutants[at:at + 24]
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            yield from zip(some, pool.map(lambda m: judge(program, m, [tests_of(m)], 1), some), strict=True)
        drop_mutants()


def first_reason(text):
    """Why a test failed, in one line."""
    lines = [line.strip() for line in text.splitlines()]
    at = next((n for n, line in enumerate(lines) if "panicked at" in line), None)
    return " | ".join(lines[at + 1:at + 4])[:300] if at is not None else text.strip()[-200:]


def search(program, names, mutant, modules, threads):
    """For people who write mutants: the tests of these modules, in their order, until some notice it."""
    tests = [n for m in modules for n in names if n.startswith(m + "::") and not n.startswith(FINGERPRINTS)]
    batches = [tests[at:at + 2 * threads] for at in range(0, len(tests), 2 * threads)]
    failed, fault = judge(program, mutant, batches, threads)
    return failed, fault if failed else "no test of these modules notices it"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", action="append")
    parser.add_argument("--search", metavar="MODULE,…", help="which tests of these modules notice it, instead of those named")
    parser.add_argument("--report", required=True)
    options = parser.parse_args()
    mutants = read_mutants()
    if options.only:
        mutants = [m for m in mutants if m["name"] in options.only]
    if options.short:
        mutants = [m for m in mutants if m.get("short")]
    if not mutants:
        fail("no such mutant of SQL")
    program, names = test_program()
    threads = (os.cpu_count() or 1) + 1
    named = sorted({test for mutant in mutants for test in tests_of(mutant)})
    unknown = [test for test in named if test not in names]
    if unknown:
        fail(f"sql.toml names tests that are not there: {', '.join(unknown)}")
    sound = run_tests(program, named or ["claim::claim_goes_by_due_time_then_id"], threads)
    if sound:
        fail("these tests fail on the sound database:\n" + "\n".join(f"{t}: {first_reason(s)}" for t, s in sound.items()))
    check_pieces(mutants)
    if options.search:
        for mutant in mutants:
            drop_mutants()
            failed, fault = search(program, names, mutant, options.search.split(","), threads)
            print(f"{mutant['name']}: {fault or ''} {json.dumps(failed)}", flush=True)
        return
    lines, faults, equivalent = [], [], 0
    for mutant, (failed, fault) in judged(program, mutants, threads):
        tests = tests_of(mutant)
        passed = [test for test in tests if test not in failed]
        became = f"killed by {', '.join(failed)}"
        if "equivalent" in mutant:
            equivalent += not failed
            fault = f"is called equivalent, and killed by {', '.join(failed)}" if failed else None
            became = f"equivalent: {mutant['equivalent']}"
        elif not tests:
            fault = "no test is named that notices it"
        elif passed:
            fault = f"SURVIVES {', '.join(passed)}"
        if fault:
            faults.append(f"{mutant['name']}: {fault}")
            print(faults[-1], flush=True)
        lines.append(f"{mutant['name']} ({mutant.get('function', 'table')}): {fault or became}")
    killed = len(mutants) - len(faults) - equivalent
    head = f"sql: {len(mutants)} mutants, {killed} killed, {equivalent} equivalent, {len(faults)} survive; {len(named)} tests judge"
    Path(options.report).write_text("\n".join([head, *lines]) + "\n")
    print(head)
    if faults:
        fail(f"{len(faults)} mutants of SQL are not as written down")


if __name__ == "__main__":
    main()
