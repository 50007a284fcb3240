"""Lints of migrations that need Postgres' own parser; run by the lint_*.sh beside it, which say what each family is for.

    lint_migrations.py FAMILY [--exceptions FILE] [--released FILE] [MIGRATION...]

Without MIGRATION: those of migrations/ in their order, each judged with what those before it made, and the current text of
each function. A MIGRATION that is named is judged as if it came after all of these. Prints `path:line: rule: object: what`
for each breach, and ends with 1 if there is one.
"""

import argparse
import datetime
import hashlib
import re
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import ddl_rules
import lookups
import path_rules
import sql_tree

NUMBERED = re.compile(r"^\d{4}_\w+\.sql$")
NO_TRANSACTION = "-- no-transaction"


@dataclass(frozen=True)
class Breach:
    """One breach of a rule. `what_of` is the table or function that an exception names."""

    path: str
    line: int
    rule: str
    what_of: str
    message: str


@dataclass
class Migration:
    """A file, parsed."""

    path: str
    text: str
    statements: list[sql_tree.Statement]
    bodies: list[sql_tree.Body] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "Migration":
        text = path.read_text()
        parsed = sql_tree.statements(text)
        return cls(str(path), text, parsed, [body for one in parsed if (body := sql_tree.body_of(one))])


def ddl_lock_risk(migrations: list[Migration], judged: set[str], functions: list[Migration]):
    """What makes others wait: indexes, ALTER, rewrites, partitions, look-ups without a range."""
    known = ddl_rules.Known()
    for migration in migrations:
        breaches = ddl_rules.breaches(migration, known)
        if migration.path in judged:
            yield from (Breach(migration.path, *breach) for breach in breaches)
    # A migration's functions are judged by their current text, where that is given.
    for one in functions or [one for one in migrations if one.path in judged]:
        for body in one.bodies:
            tables = sorted({name for query in body.queries for name in lookups.without_range(query, known.key_of)})
            if tables:
                yield Breach(one.path, body.line, "lookup-without-id-range", body.name, f"reads {', '.join(tables)} in every month")


def search_path(migrations, judged, functions):
    """What a name could mean to a caller."""
    for one in [one for one in migrations if one.path in judged] + functions:
        yield from (Breach(one.path, *breach) for breach in path_rules.breaches(one))


def transaction_control(migrations, judged, functions):
    """Who opens and ends the transaction of a migration: whoever applies it, and nobody else."""
    for one in [one for one in migrations if one.path in judged] + functions:
        yield from (Breach(one.path, *breach) for breach in path_rules.transaction_breaches(one, NO_TRANSACTION))


FAMILIES = {"ddl-lock-risk": ddl_lock_risk, "search-path": search_path, "transaction-control": transaction_control}


def released_breaches(manifest: Path):
    """A released migration is what it was, and none before it is new."""
    released = {}
    for line in manifest.read_text().splitlines():
        if line and not line.startswith("#"):
            digest, name = line.split()
            released[name] = digest
    for name, digest in released.items():
        file = manifest.parent / name
        if not file.is_file():
            yield Breach(str(file), 0, "released-migration-edited", name, "is gone")
        elif hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            yield Breach(str(file), 0, "released-migration-edited", name, "is not what was released: a new migration mends it")
    last = max(released, default="")
    for file in sorted(manifest.parent.glob("[0-9]*.sql")):
        if file.name <= last and file.name not in released:
            yield Breach(str(file), 0, "released-migration-edited", file.name, f"comes before {last}, which is released")


def excused(breaches: list[Breach], exceptions_file: Path, rules: set[str], today: datetime.date) -> list[Breach]:
    """The breaches that no exception covers, and what is wrong with the exceptions themselves."""
    left, path = list(breaches), str(exceptions_file)
    for entry in tomllib.loads(exceptions_file.read_text()).get("exception", []):
        rule, file, objects = entry.get("rule", ""), entry.get("file", ""), entry.get("objects", [])
        if rule not in rules:
            continue
        if not str(entry.get("reason", "")).strip():
            left.append(Breach(path, 0, "exception-without-reason", rule, f"{file}: says no reason"))
            continue
        expires = entry.get("expires")
        if not isinstance(expires, datetime.date):
            left.append(Breach(path, 0, "exception-without-expiry", rule, f"{file}: expires on no date"))
            continue
        if expires < today:
            left.append(Breach(path, 0, "exception-expired", rule, f"{file}: expired on {expires}"))
            continue
        for name in objects:
            covered = [one for one in left if (one.rule, one.path, one.what_of) == (rule, file.replace("OBJECT", name.removeprefix("outbox.")), name)]
            if not covered:
                left.append(Breach(path, 0, "exception-unused", rule, f"{file}: {name} does not need it"))
            left = [one for one in left if one not in covered]
    return left


RULES = {
    "ddl-lock-risk": set(ddl_rules.RULES) | {"lookup-without-id-range"},
    "search-path": set(path_rules.RULES),
    "transaction-control": set(path_rules.TRANSACTION_RULES) | {"released-migration-edited"},
}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("family", choices=sorted(FAMILIES))
    parser.add_argument("--exceptions", type=Path, default=Path("scripts/security/lint_exceptions.toml"))
    parser.add_argument("--released", type=Path, default=Path("migrations/released.sha256"))
    parser.add_argument("migrations", nargs="*", type=Path)
    arguments = parser.parse_args()
    try:
        before = [path for path in sorted(Path("migrations").glob("*.sql")) if NUMBERED.match(path.name) and path not in arguments.migrations]
        migrations = [Migration.read(path) for path in [*before, *arguments.migrations]]
        functions = [] if arguments.migrations else [Migration.read(path) for path in sorted(Path("migrations/functions").glob("*.sql"))]
    except sql_tree.NotReadable as error:
        print(f"not-readable: {error}")
        return 1
    judged = {str(path) for path in arguments.migrations or before}
    breaches = list(FAMILIES[arguments.family](migrations, judged, functions))
    if arguments.family == "transaction-control":
        breaches += released_breaches(arguments.released)
    # With a migration named, the others' exceptions are not asked whether they are needed.
    if not arguments.migrations or arguments.exceptions != parser.get_default("exceptions"):
        breaches = excused(breaches, arguments.exceptions, RULES[arguments.family], datetime.date.today())
    for one in breaches:
        print(f"{one.path}:{one.line}: {one.rule}: {one.what_of}: {one.message}")
    print(f"{arguments.family}: {len(judged)} migrations, {len(functions)} functions, {len(breaches)} breaches")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
