"""The rules about what a migration makes others wait for. A table is hot unless the same file creates it."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from pglast import ast
from pglast.enums import AlterTableType, ConstrType, NullTestType, ObjectType, PartitionStrategy

import sql_tree

RULES = {
    "index-not-concurrently": "an index on a table that is in use is made, remade and dropped CONCURRENTLY",
    "index-on-partitioned-parent": "on ONLY the parent, CONCURRENTLY on each partition, then attached",
    "set-not-null": "only after a CHECK (column IS NOT NULL) was added NOT VALID and validated",
    "rewriting-alter": "add a new column, copy, switch, and drop the old one later",
    "table-rewrite": "needs a plan: `-- shadow copy: docs/decisions/…`",
    "partition-of": "waits for every open transaction, and everybody behind it: create, check, attach",
}
PLAN = re.compile(r"^-- shadow copy: (docs/decisions/[\w.-]+\.md)$", re.MULTILINE)
# Their value is one for the whole statement: Postgres keeps it in the catalogue and rewrites nothing.
STABLE = {"now", "transaction_timestamp", "statement_timestamp"}
REWRITES = {
    AlterTableType.AT_SetLogged: "set logged",
    AlterTableType.AT_SetUnLogged: "set unlogged",
    AlterTableType.AT_SetAccessMethod: "set access method",
    AlterTableType.AT_SetTableSpace: "set tablespace",
}
# What is put together at run time is text; these are told by their words.
IN_TEXT = {
    "index-not-concurrently": re.compile(r"\b(create\s+(unique\s+)?index|reindex\s+\w+|drop\s+index)\s+(?!concurrently\b)", re.IGNORECASE),
    "set-not-null": re.compile(r"\bset\s+not\s+null\b", re.IGNORECASE),
    "rewriting-alter": re.compile(r"\balter\s+column\s+\S+\s+(set\s+data\s+)?type\b", re.IGNORECASE),
    "table-rewrite": re.compile(r"\b(vacuum\s*\(?\s*full|cluster\s|set\s+(un)?logged|set\s+tablespace|create\s+table\s.*\sas\s+select)", re.IGNORECASE | re.DOTALL),
    "partition-of": re.compile(r"\bpartition\s+of\b", re.IGNORECASE),
}


@dataclass
class Known:
    """What the migrations read so far have made."""

    # Partitioned by range: name, and the column.
    key_of: dict[str, str] = field(default_factory=dict)
    partitioned: set[str] = field(default_factory=set)
    # CHECK (column IS NOT NULL): by table and constraint the column, and those that were validated.
    not_null_checks: dict[tuple[str, str], str] = field(default_factory=dict)
    proved: set[tuple[str, str]] = field(default_factory=set)


def breaches(migration, known: Known):
    """(line, rule, object, message) for each breach; `known` learns what the migration makes."""
    new: set[str] = set()
    proved_before = set(known.proved)
    plan = PLAN.search(migration.text)
    has_plan = plan is not None and Path(plan.group(1)).is_file()
    found = []
    bodies = {body.line: body for body in migration.bodies}
    for statement in migration.statements:
        inner = [statement.node]
        if isinstance(statement.node, ast.DoStmt):
            inner += bodies[statement.line].queries
        for node in inner:
            found += [(statement.line, *breach) for breach in _of_statement(node, new, known, proved_before)]
        if statement.line in bodies:
            body = bodies[statement.line]
            # The text of a function is not run by the migration; what it says is run by its caller.
            rules = IN_TEXT if isinstance(statement.node, ast.DoStmt) else {"partition-of": IN_TEXT["partition-of"]}
            found += [(statement.line, rule, body.name, RULES[rule]) for rule, words in rules.items() if any(map(words.search, body.texts))]
    return [breach for breach in found if not (breach[1] == "table-rewrite" and has_plan)]


def _of_statement(node, new, known, proved_before):
    if isinstance(node, ast.CreateStmt):
        name = sql_tree.relation_name(node.relation)
        new.add(name)
        _learn_table(node, name, known)
        if node.partbound is not None:
            yield "partition-of", name, RULES["partition-of"]
    elif isinstance(node, ast.CreateTableAsStmt):
        new.add(sql_tree.relation_name(node.into.rel))
        if any(isinstance(part, ast.RangeVar) and sql_tree.relation_name(part) not in new for part in sql_tree.walk(node.query)):
            yield "table-rewrite", sql_tree.relation_name(node.into.rel), RULES["table-rewrite"]
    elif isinstance(node, ast.IndexStmt):
        yield from _of_index(node, new, known)
    elif isinstance(node, ast.ReindexStmt):
        if sql_tree.option(node.params, "concurrently") is None and not _has_flag(node.params, "concurrently"):
            name = sql_tree.relation_name(node.relation) if node.relation else node.name
            yield "index-not-concurrently", name, RULES["index-not-concurrently"]
    elif isinstance(node, ast.DropStmt) and node.removeType == ObjectType.OBJECT_INDEX and not node.concurrent:
        yield "index-not-concurrently", sql_tree.qualified(node.objects[0]), RULES["index-not-concurrently"]
    elif isinstance(node, ast.AlterTableStmt):
        yield from _of_alter(node, sql_tree.relation_name(node.relation), new, known, proved_before)
    elif isinstance(node, ast.VacuumStmt) and _has_flag(node.options, "full"):
        yield "table-rewrite", "vacuum full", RULES["table-rewrite"]
    elif isinstance(node, ast.ClusterStmt):
        yield "table-rewrite", "cluster", RULES["table-rewrite"]
    elif isinstance(node, ast.UpdateStmt | ast.DeleteStmt) and node.whereClause is None:
        name = sql_tree.relation_name(node.relation)
        if name not in new:
            yield "table-rewrite", name, "every row at once; " + RULES["table-rewrite"]


def _has_flag(options, name) -> bool:
    return any(entry.defname == name for entry in options or ())


def _learn_table(node, name, known):
    if node.partspec is None:
        return
    known.partitioned.add(name)
    if node.partspec.strategy == PartitionStrategy.PARTITION_STRATEGY_RANGE:
        known.key_of[name] = node.partspec.partParams[0].name


def _of_index(node, new, known):
    name = sql_tree.relation_name(node.relation)
    if name in new:
        return
    if name in known.partitioned:
        if node.relation.inh:
            yield "index-on-partitioned-parent", name, RULES["index-on-partitioned-parent"]
    elif not node.concurrent:
        yield "index-not-concurrently", name, RULES["index-not-concurrently"]


def _of_alter(node, name, new, known, proved_before):
    for command in node.cmds:
        kind, definition = command.subtype, command.def_
        if kind == AlterTableType.AT_AddConstraint and definition.contype == ConstrType.CONSTR_CHECK:
            test = definition.raw_expr
            if isinstance(test, ast.NullTest) and test.nulltesttype == NullTestType.IS_NOT_NULL and isinstance(test.arg, ast.ColumnRef):
                known.not_null_checks[name, definition.conname] = sql_tree.qualified(test.arg.fields)
        if kind == AlterTableType.AT_ValidateConstraint and (name, command.name) in known.not_null_checks:
            known.proved.add((name, known.not_null_checks[name, command.name]))
        if name in new:
            continue
        # Validated in the same transaction, the scan would be under the lock of this ALTER.
        if kind == AlterTableType.AT_SetNotNull and (name, command.name) not in proved_before:
            yield "set-not-null", name, f"{command.name}: {RULES['set-not-null']}"
        elif kind == AlterTableType.AT_AlterColumnType:
            yield "rewriting-alter", name, f"{command.name}: {RULES['rewriting-alter']}"
        elif kind == AlterTableType.AT_AddColumn and (why := _rewrites(definition)):
            yield "rewriting-alter", name, f"{definition.colname} {why}: {RULES['rewriting-alter']}"
        elif kind in REWRITES:
            yield "table-rewrite", name, f"{REWRITES[kind]}; {RULES['table-rewrite']}"


def _rewrites(column) -> str | None:
    """Why a new column is written into every row; None if it is not."""
    if sql_tree.qualified(column.typeName.names).endswith(("serial", "serial4", "serial8", "smallserial", "bigserial")):
        return "is a serial"
    kinds = {constraint.contype: constraint for constraint in column.constraints or ()}
    if ConstrType.CONSTR_IDENTITY in kinds:
        return "is an identity"
    if ConstrType.CONSTR_GENERATED in kinds:
        return "is generated"
    default = kinds.get(ConstrType.CONSTR_DEFAULT)
    calls = {sql_tree.qualified(part.funcname).removeprefix("pg_catalog.") for part in sql_tree.walk(default) if isinstance(part, ast.FuncCall)}
    if calls - STABLE:
        return f"has the default {', '.join(sorted(calls - STABLE))}(), another for each row"
    if ConstrType.CONSTR_NOTNULL in kinds and default is None:
        return "is not null and has no default"
    return None
