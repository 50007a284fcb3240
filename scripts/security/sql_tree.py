"""What the migration lints read: the statements of a file, the functions among them, and the queries of a body.

Parsing is Postgres' own (pglast). No rule is here.
"""

import re
from dataclasses import dataclass, field

import pglast
from pglast import ast


class NotReadable(Exception):
    """A file or a body that cannot be parsed: nothing can be said of it."""


@dataclass
class Statement:
    """One statement of a file, with the line that it begins on."""

    node: ast.Node
    line: int


@dataclass
class Body:
    """The body of a function or of a DO block: its queries, and its constant texts, which may be statements too."""

    name: str
    line: int
    language: str
    texts: list[str] = field(default_factory=list)
    queries: list[ast.Node] = field(default_factory=list)
    has_transaction_control: bool = False


def statements(text: str) -> list[Statement]:
    """The statements of a file."""
    try:
        parsed = pglast.parse_sql(text)
    except pglast.parser.ParseError as error:
        raise NotReadable(str(error)) from error
    found = []
    for raw in parsed:
        start = raw.stmt_location
        # A statement's place begins with the blanks and comments before it.
        blank = re.compile(r"(\s+|--[^\n]*(\n|$)|/\*.*?\*/)*", re.DOTALL).match(text, start)
        found.append(Statement(raw.stmt, text.count("\n", 0, blank.end()) + 1))
    return found


def walk(node):
    """Every node below a node, itself first."""
    if isinstance(node, ast.Node):
        yield node
        for name in node:
            yield from walk(getattr(node, name))
    elif isinstance(node, tuple | list):
        for part in node:
            yield from walk(part)


def qualified(names) -> str:
    """A name as it is written: its parts with dots."""
    return ".".join(part.sval for part in names if isinstance(part, ast.String))


def option(options, name):
    """The value of an option of a statement, or None."""
    return next((entry.arg for entry in options or () if entry.defname == name), None)


def relation_name(relation: ast.RangeVar) -> str:
    """A relation's name as it is written."""
    return f"{relation.schemaname}.{relation.relname}" if relation.schemaname else relation.relname


def body_of(statement: Statement) -> Body | None:
    """The body of a CREATE FUNCTION or DO, read; None for another statement."""
    node = statement.node
    if isinstance(node, ast.CreateFunctionStmt):
        language = option(node.options, "language")
        language = language.sval if language else "sql"
        text = option(node.options, "as")
        name = qualified(node.funcname)
        source = text[0].sval if text else ""
    elif isinstance(node, ast.DoStmt):
        language, name = "plpgsql", "do"
        source = option(node.args, "as").sval
    else:
        return None
    body = Body(name, statement.line, language)
    if language == "sql":
        body.queries = [one.node for one in statements(source)]
    elif language == "plpgsql":
        _read_plpgsql(body, node, source)
    for query in body.queries:
        body.texts += [const.val.sval for const in walk(query) if isinstance(const, ast.A_Const) and isinstance(const.val, ast.String)]
    return body


# The parser of bodies knows no schema but pg_catalog and public. Which type a variable has does not matter here.
_DECLARED = re.compile(r"^(\s*\w+\s+(?:constant\s+)?)outbox\.\w+(?:%rowtype)?(\s*(?:;|:=|--|not\s+null))", re.MULTILINE | re.IGNORECASE)


def _read_plpgsql(body: Body, node: ast.Node, source: str) -> None:
    """Reads a body. Its parameters are declared as texts, for the same reason."""
    source = _DECLARED.sub(r"\1record\2", source)
    head = _head_of(node) if isinstance(node, ast.CreateFunctionStmt) else "f() returns void"
    function = f"create function {head} language plpgsql as $outbox_lint$ {source} $outbox_lint$"
    try:
        tree = pglast.parse_plpgsql(function)
    except pglast.parser.ParseError as error:
        raise NotReadable(f"{body.name}: {error}") from error
    for kind, value in _plpgsql_nodes(tree):
        if kind in ("PLpgSQL_stmt_commit", "PLpgSQL_stmt_rollback"):
            body.has_transaction_control = True
        if kind == "PLpgSQL_expr":
            body.queries += _parse_expression(body.name, value["query"])


def _head_of(node: ast.CreateFunctionStmt) -> str:
    """Name, parameters and result in types that every parser knows, so that each RETURN is the right one."""
    modes = [(parameter.mode.name, f'"{parameter.name}" text') for parameter in node.parameters or () if parameter.name]
    columns = [name for mode, name in modes if mode == "FUNC_PARAM_TABLE"]
    given = [name for mode, name in modes if mode in ("FUNC_PARAM_IN", "FUNC_PARAM_DEFAULT")]
    out = [f"out {name}" for mode, name in modes if mode in ("FUNC_PARAM_OUT", "FUNC_PARAM_INOUT")]
    returned = qualified(node.returnType.names) if node.returnType is not None else ""
    if returned.endswith("trigger"):
        return "f() returns trigger"
    if columns:
        returns = f"returns table ({', '.join(columns)})"
    elif out:
        returns = ""
    elif node.returnType is not None and node.returnType.setof:
        returns = "returns setof text"
    else:
        returns = "returns void" if returned.endswith("void") else "returns text"
    return f"f({', '.join(given + out)}) {returns}"


def _plpgsql_nodes(tree):
    if isinstance(tree, list):
        for part in tree:
            yield from _plpgsql_nodes(part)
    elif isinstance(tree, dict):
        for kind, value in tree.items():
            yield kind, value
            yield from _plpgsql_nodes(value)


def _parse_expression(name: str, text: str) -> list[ast.Node]:
    """A statement, an expression, or an assignment with its target left out."""
    for candidate in (text, f"select {text}", re.sub(r"^[^=]*?:=", "select ", text, count=1)):
        try:
            return [raw.stmt for raw in pglast.parse_sql(candidate)]
        except pglast.parser.ParseError:
            continue
    raise NotReadable(f"{name}: {text[:60]!r} is neither a statement nor an expression")


