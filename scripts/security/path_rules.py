"""The rules about names and about transactions."""

from pathlib import Path

from pglast import ast
from pglast.enums import ObjectType, TransactionStmtKind, VariableSetKind

import sql_tree

RULES = {
    "search-path-not-pinned": "needs `set search_path = pg_catalog, pg_temp`",
    "search-path-changed": "a function's pin is part of its CREATE, and a session's path is its owner's",
    "name-without-schema": "is looked for in the caller's path, or among its temporary tables",
}
TRANSACTION_RULES = {
    "transaction-control": "whoever applies a migration opens and ends its transaction",
    "set-without-local": "stays behind in the session: `set local`",
    "no-transaction-not-alone": "`-- no-transaction` are the first bytes of a file with one statement",
}
PINNED = ["pg_catalog", "pg_temp"]


def breaches(migration):
    """(line, rule, object, message) about names."""
    bodies = {body.line: body for body in migration.bodies}
    for statement in migration.statements:
        node, line = statement.node, statement.line
        if isinstance(node, ast.CreateFunctionStmt):
            yield from _of_function(node, line)
        yield from _of_path(node, line)
        created = _created(node)
        if created is not None and "." not in created:
            yield line, "name-without-schema", created, RULES["name-without-schema"]
        queries = bodies[line].queries if line in bodies else [node]
        owner = bodies[line].name if line in bodies else None
        for query in queries:
            yield from _of_path(query, line) if owner == "do" else ()
            hidden = {part.ctename for part in sql_tree.walk(query) if isinstance(part, ast.CommonTableExpr)}
            for part in sql_tree.walk(query):
                if isinstance(part, ast.RangeVar) and not part.schemaname and part.relname not in hidden and not part.relname.startswith("pg_"):
                    yield line, "name-without-schema", owner or part.relname, f"{part.relname} {RULES['name-without-schema']}"


def _created(node) -> str | None:
    if isinstance(node, ast.CreateFunctionStmt):
        return sql_tree.qualified(node.funcname)
    if isinstance(node, ast.CreateEnumStmt | ast.CreateRangeStmt):
        return sql_tree.qualified(node.typeName)
    if isinstance(node, ast.CreateDomainStmt):
        return sql_tree.qualified(node.domainname)
    return None


def _of_function(node, line):
    """A plain SQL function may be inlined into a caller that is pinned; every other one is pinned itself."""
    language = sql_tree.option(node.options, "language")
    security = sql_tree.option(node.options, "security")
    is_definer = security is not None and security.boolval
    paths = [
        [_value(value) for value in entry.arg.args or ()]
        for entry in node.options or ()
        if entry.defname == "set" and entry.arg.name == "search_path"
    ]
    is_inlined = language is not None and language.sval == "sql" and not is_definer and not paths
    if not is_inlined and paths != [PINNED]:
        yield line, "search-path-not-pinned", sql_tree.qualified(node.funcname), RULES["search-path-not-pinned"]


def _value(constant) -> str:
    """A constant of a SET as text."""
    return getattr(constant.val, "sval", "") if isinstance(constant, ast.A_Const) else ""


def _of_path(node, line):
    """A path that is set for a session, a role or a database, or taken from a function that was pinned."""
    settings, name = [], ""
    if isinstance(node, ast.VariableSetStmt):
        settings, name = [node], "session"
    elif isinstance(node, ast.AlterRoleSetStmt | ast.AlterDatabaseSetStmt):
        settings, name = [node.setstmt], "role or database"
    elif isinstance(node, ast.AlterFunctionStmt):
        name = sql_tree.qualified(node.func.objname)
        settings = [action.arg for action in node.actions if action.defname == "set"]
        if any(action.defname == "security" and action.arg.boolval for action in node.actions):
            yield line, "search-path-changed", name, RULES["search-path-changed"]
    changed = [one for one in settings if one.name == "search_path" or one.kind == VariableSetKind.VAR_RESET_ALL]
    if changed:
        yield line, "search-path-changed", name, RULES["search-path-changed"]
    for call in sql_tree.walk(node) if isinstance(node, ast.SelectStmt) else ():
        if isinstance(call, ast.FuncCall) and sql_tree.qualified(call.funcname).endswith("set_config"):
            if call.args and _value(call.args[0]).lower() == "search_path":
                yield line, "search-path-changed", "session", RULES["search-path-changed"]


def transaction_breaches(migration, no_transaction: str):
    """(line, rule, object, message) about transactions."""
    is_alone = migration.text.startswith(no_transaction)
    name = Path(migration.path).name
    if no_transaction in migration.text and not (is_alone and len(migration.statements) == 1):
        yield 1, "no-transaction-not-alone", name, TRANSACTION_RULES["no-transaction-not-alone"]
    for statement in migration.statements:
        node, line = statement.node, statement.line
        if isinstance(node, ast.TransactionStmt):
            yield line, "transaction-control", _kind(node), TRANSACTION_RULES["transaction-control"]
        if isinstance(node, ast.VariableSetStmt) and not node.is_local:
            yield line, "set-without-local", node.name or "all", TRANSACTION_RULES["set-without-local"]
        if not is_alone and _is_concurrent(node):
            yield line, "no-transaction-not-alone", name, "CONCURRENTLY: " + TRANSACTION_RULES["no-transaction-not-alone"]
    for body in migration.bodies:
        if body.has_transaction_control:
            yield body.line, "transaction-control", body.name, TRANSACTION_RULES["transaction-control"]


def _kind(node) -> str:
    return TransactionStmtKind(node.kind).name.removeprefix("TRANS_STMT_").lower()


def _is_concurrent(node) -> bool:
    if isinstance(node, ast.IndexStmt):
        return node.concurrent
    if isinstance(node, ast.DropStmt):
        return node.removeType == ObjectType.OBJECT_INDEX and node.concurrent
    if isinstance(node, ast.ReindexStmt):
        return any(entry.defname == "concurrently" for entry in node.params or ())
    return False
