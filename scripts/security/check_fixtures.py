"""Runs every file of fixtures/ through the lints: each is refused by the rule that it is named after, and by no other.

`RULE.sql` and `RULE.what-it-is-about.sql` break RULE, `sound.*` breaks nothing, and of a folder so named the last file is
judged after the others; `squawk.RULE.sql` is refused by squawk, `exceptions/RULE.toml` is a file of exceptions, `released/*/`
a folder of migrations with its manifest. Every rule has one.

    check_fixtures.py SQUAWK
"""

import datetime
import subprocess
import sys
from pathlib import Path

import lint_migrations as lint

FIXTURES = Path("scripts/security/fixtures")
# Of the rules that squawk has anyway, those that the migrations' safety leans on.
BY_SQUAWK = {
    "constraint-missing-not-valid",
    "disallowed-unique-constraint",
    "adding-foreign-key-constraint",
    "ban-drop-column",
    "ban-drop-table",
    "renaming-column",
    "require-lock-timeout",
}
EXCEPTION_RULES = {"exception-expired", "exception-unused", "exception-without-reason", "exception-without-expiry"}


def rules_of(path: Path, before: list[lint.Migration]) -> set[str]:
    """The rules of all families that a fixture breaks, judged as the newest migration."""
    files = sorted(path.glob("*.sql")) if path.is_dir() else [path]
    migrations = [*before, *map(lint.Migration.read, files)]
    judged = {str(files[-1])}
    return {breach.rule for family in lint.FAMILIES.values() for breach in family(migrations, judged, [])}


def by_squawk(squawk: str, path: Path) -> set[str]:
    """The rules by which squawk refuses a file."""
    done = subprocess.run([squawk, "--reporter", "gcc", str(path)], capture_output=True, text=True, check=False)
    said = [line.split(": ")[2].split()[0] for line in done.stdout.splitlines() if line.count(": ") >= 2]
    return set(said) if done.returncode != 0 else set()


def main() -> int:
    before = [lint.Migration.read(path) for path in sorted(Path("migrations").glob("*.sql")) if lint.NUMBERED.match(path.name)]
    today = datetime.date.today()
    proved: set[str] = set()
    wrong: list[str] = []
    fixtures = 0

    def expect(path: Path, rule: str, found: set[str]) -> None:
        nonlocal fixtures
        fixtures += 1
        proved.add(rule)
        if found != ({rule} if rule != "sound" else set()):
            wrong.append(f"{path}: expected {rule}, found {', '.join(sorted(found)) or 'nothing'}")

    folders = [path for path in FIXTURES.iterdir() if path.is_dir() and path.name not in ("exceptions", "released")]
    for path in sorted([*FIXTURES.glob("*.sql"), *folders]):
        rule = path.name.split(".")[0]
        if rule == "squawk":
            expected = path.name.split(".")[1]
            expect(path, expected, by_squawk(sys.argv[1], path) & {expected})
        else:
            expect(path, rule, rules_of(path, before))
    for path in sorted((FIXTURES / "exceptions").glob("*.toml")):
        broken = FIXTURES / "index-not-concurrently.sql"
        breaches = list(lint.ddl_lock_risk([*before, lint.Migration.read(broken)], {str(broken)}, []))
        found = {breach.rule for breach in lint.excused(breaches, path, lint.RULES["ddl-lock-risk"], today)}
        # An exception that does not count leaves the breach.
        expect(path, path.stem, found - ({"index-not-concurrently"} if path.stem != "sound" else set()))
    for path in sorted((FIXTURES / "released").glob("*/released.sha256")):
        rule = "sound" if path.parent.name == "sound" else "released-migration-edited"
        expect(path, rule, {breach.rule for breach in lint.released_breaches(path)})
    every = set().union(*lint.RULES.values()) | EXCEPTION_RULES | BY_SQUAWK | {"sound"}
    wrong += [f"no fixture breaks {rule}" for rule in sorted(every - proved)]
    wrong += [f"no rule is called {rule}" for rule in sorted(proved - every)]
    for line in wrong:
        print(line)
    print(f"{fixtures} fixtures, {len(every) - 1} rules, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
