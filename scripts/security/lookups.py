"""Whether each look-up in a table that is partitioned by id carries a constant range of ids.

A plan opens, and locks, every partition that its constants do not rule out. A join alone rules out none. A lower bound
is enough: months are made a fixed number ahead, and only the past grows.
"""

from pglast import ast
from pglast.enums import A_Expr_Kind, BoolExprType

import sql_tree

_VARIABLE = ("p_", "v_")


def without_range(query: ast.Node, key_of: dict[str, str]) -> list[str]:
    """The tables of `key_of` (name: partition key) that a query reads without a constant range of their key."""
    found: list[str] = []
    _level(query, [], key_of, frozenset(), found)
    return found


def _level(node, outer, key_of, hidden, found):
    """One level of a query: `outer` are the names of relations around it, `hidden` the names of its WITH queries."""
    if isinstance(node, list | tuple):
        for part in node:
            _level(part, outer, key_of, hidden, found)
        return
    if not isinstance(node, ast.Node):
        return
    if not isinstance(node, ast.SelectStmt | ast.UpdateStmt | ast.DeleteStmt | ast.MergeStmt):
        for name in node:
            _level(getattr(node, name), outer, key_of, hidden, found)
        return
    clause = getattr(node, "withClause", None)
    if clause is not None:
        hidden = hidden | {cte.ctename for cte in clause.ctes}
        _level(clause, outer, key_of, hidden, found)
    relations, joined, below = [], [], []
    sources = list(getattr(node, "fromClause", None) or getattr(node, "usingClause", None) or ())
    if isinstance(node, ast.UpdateStmt | ast.DeleteStmt | ast.MergeStmt):
        sources.append(node.relation)
    for source in sources:
        _read_source(source, relations, joined, below)
    conjuncts = [part for quals in [*joined, getattr(node, "whereClause", None)] for part in _conjuncts(quals)]
    scope = outer + [alias for alias, _ in relations] + [item.alias.aliasname for item in below if getattr(item, "alias", None)]
    for alias, table in relations:
        if table in key_of and table not in hidden and not _has_range(alias, key_of[table], conjuncts, scope, len(relations)):
            found.append(table)
    for name in node:
        if name not in ("withClause", "fromClause", "usingClause", "relation"):
            _level(getattr(node, name), scope, key_of, hidden, found)
    for item in below:
        _level(item.subquery if isinstance(item, ast.RangeSubselect) else item, scope, key_of, hidden, found)
    # What a JOIN says under ON; WHERE has been gone through with the rest of the level.
    for quals in joined:
        _level(quals, scope, key_of, hidden, found)


def _read_source(source, relations, joined, below):
    if isinstance(source, ast.RangeVar):
        relations.append((source.alias.aliasname if source.alias else source.relname, sql_tree.relation_name(source)))
    elif isinstance(source, ast.JoinExpr):
        _read_source(source.larg, relations, joined, below)
        _read_source(source.rarg, relations, joined, below)
        joined.append(source.quals)
    else:
        below.append(source)


def _conjuncts(node) -> list:
    if isinstance(node, ast.BoolExpr) and node.boolop == BoolExprType.AND_EXPR:
        return [part for arg in node.args for part in _conjuncts(arg)]
    return [] if node is None else [node]


def _has_range(alias, key, conjuncts, scope, relation_count) -> bool:
    for conjunct in conjuncts:
        if not isinstance(conjunct, ast.A_Expr):
            continue
        operator = sql_tree.qualified(conjunct.name)
        left, right = conjunct.lexpr, conjunct.rexpr
        if not _is_key(left, alias, key, relation_count):
            left, right = right, left
            operator = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}.get(operator, operator)
        if not _is_key(left, alias, key, relation_count) or not _is_constant(right, scope):
            continue
        if conjunct.kind in (A_Expr_Kind.AEXPR_BETWEEN, A_Expr_Kind.AEXPR_IN, A_Expr_Kind.AEXPR_OP_ANY) or operator == "=":
            return True
        if operator in (">", ">="):
            return True
    return False


def _is_key(node, alias, key, relation_count) -> bool:
    if not isinstance(node, ast.ColumnRef):
        return False
    written = sql_tree.qualified(node.fields)
    return written == f"{alias}.{key}" or (written == key and relation_count == 1)


def _is_constant(node, scope) -> bool:
    for part in sql_tree.walk(node):
        if isinstance(part, ast.SubLink):
            return False
        if isinstance(part, ast.ColumnRef):
            names = sql_tree.qualified(part.fields).split(".")
            if names[0] in scope or (len(names) == 1 and not names[0].startswith(_VARIABLE)):
                return False
    return True
