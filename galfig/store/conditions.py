"""Conditions on the columns of a catalog, such as ``oh_p50 > 9.15 and type in ['Sb', 'Sc']``.

``DataFrame.query`` of pandas is not used: it can call functions, it counts an empty cell as unequal
to any value, and its error messages name pandas internals.
"""

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galfig.errors import SelectionError
from galfig.runtime.messages import quote, shorten, suggest

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_WHAT_IS_ALLOWED = (
    "comparisons (==, <, ...) of columns with numbers or quoted text, 'in', and, or, not"
)


def find_where(condition: str, columns: Mapping[str, pd.Series], n_rows: int) -> NDArray[np.bool_]:
    """Find the rows of a table for which a condition holds.

    The condition is parsed and never executed. It may compare columns with numbers, with text and
    with each other (``0.05 < z < 0.08``), test whether they are ``in`` a list, and combine such
    tests with ``and``, ``or`` and ``not``. A column whose name is not a valid Python name is
    written in backquotes. An empty cell satisfies no comparison.

    Parameters
    ----------
    condition : str
        The condition, such as ``"oh_p50 > 9.15 and not (type == 'merger')"``.
    columns : mapping of str to Series
        The columns that the condition may name. Only those that it names are looked up.
    n_rows : int
        Number of rows, N.

    Returns
    -------
    (N,) ndarray of bool
        True for the rows that satisfy the condition.

    Raises
    ------
    SelectionError
        If the condition cannot be parsed, names an unknown column, or compares text with a
        number.
    """
    quoted: dict[str, str] = {}

    def unquote(match: re.Match[str]) -> str:
        name = f"_column_{len(quoted)}"
        quoted[name] = match[1]
        return name

    try:
        tree = ast.parse(re.sub(r"`([^`]+)`", unquote, condition.strip()), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        raise SelectionError(
            f"`where` {quote(condition)}: cannot be read, expected {_WHAT_IS_ALLOWED}"
        ) from exc
    reader = _Reader(condition, columns, quoted, n_rows)
    try:
        return reader.truth(tree.body)
    except RecursionError as exc:
        raise SelectionError(
            f"`where` {quote(condition)}: nested too deeply, expected {_WHAT_IS_ALLOWED}"
        ) from exc


class _Reader:
    """Evaluates the syntax tree of one condition on the columns of one table."""

    def __init__(
        self, condition: str, columns: Mapping[str, pd.Series], quoted: dict[str, str], n: int
    ) -> None:
        self._condition = condition
        self._columns = columns
        self._quoted = quoted
        self._n = n
        self._read: dict[str, pd.Series] = {}

    def truth(self, node: ast.expr) -> NDArray[np.bool_]:
        """Evaluate a node that is true or false in each row."""
        if isinstance(node, ast.BoolOp):
            join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            return np.asarray(join.reduce([self.truth(value) for value in node.values]), dtype=bool)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.truth(node.operand)
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            steps = zip(operands, node.ops, operands[1:], strict=False)
            return np.logical_and.reduce([self._compare(*step) for step in steps])
        if isinstance(node, ast.Name):
            column = self._column(node)
            if column.dtype.kind == "b":
                return column.fillna(False).to_numpy(dtype=bool)
        raise self._refuse(ast.unparse(node))

    def _compare(self, left: ast.expr, kind: ast.cmpop, right: ast.expr) -> NDArray[np.bool_]:
        if isinstance(kind, ast.In | ast.NotIn):
            if not isinstance(right, ast.List | ast.Tuple):
                raise self._refuse(ast.unparse(right))
            column = self._operand(left)
            is_in = np.zeros(self._n, dtype=bool)
            for element in right.elts:
                is_in |= self._hold(operator.eq, column, self._operand(element))
            return is_in if isinstance(kind, ast.In) else ~is_in & self._is_there(column)
        if type(kind) not in _COMPARISONS:
            raise self._refuse("is")
        return self._hold(_COMPARISONS[type(kind)], self._operand(left), self._operand(right))

    def _hold(self, compare: Callable[[Any, Any], Any], left: Any, right: Any) -> NDArray[np.bool_]:
        kinds = {_kind(left), _kind(right)}
        if len(kinds) > 1:
            raise SelectionError(
                f"`where` {quote(self._condition)}: compares text with a number, expected two of a "
                "kind; identifiers, and anything in quotes, are text"
            )
        outcome = compare(left, right)
        if isinstance(outcome, bool):
            return np.full(self._n, outcome)
        outcome = outcome.astype("boolean").fillna(False).to_numpy(dtype=bool)
        return outcome & self._is_there(left) & self._is_there(right)

    def _is_there(self, operand: Any) -> NDArray[np.bool_]:
        """Find the cells that are not empty; ``!=`` alone would hold for empty ones."""
        if isinstance(operand, pd.Series):
            return operand.notna().to_numpy(dtype=bool)
        return np.ones(self._n, dtype=bool)

    def _operand(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str):
            return _limit(node.value)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value = self._operand(node.operand)
            if isinstance(value, int | float):
                return -value
        if isinstance(node, ast.Name):
            return self._column(node)
        raise self._refuse(ast.unparse(node))

    def _column(self, node: ast.Name) -> pd.Series:
        name = self._quoted.get(node.id, node.id)
        if name not in self._columns:
            hint = suggest(name, self._columns, f"there are {shorten([*self._columns])}")
            raise SelectionError(
                f"`where` {quote(self._condition)}: no column {quote(name)}, expected a "
                f"column, or text in quotes; {hint}"
            )
        if name not in self._read:
            self._read[name] = self._columns[name]
        return self._read[name]

    def _refuse(self, part: str) -> SelectionError:
        part = re.sub(
            r"\b_column_\d+\b",
            lambda found: f"`{self._quoted[found[0]]}`" if found[0] in self._quoted else found[0],
            part,
        )
        return SelectionError(
            f"`where` {quote(self._condition)}: {quote(part)} is not understood, expected "
            f"{_WHAT_IS_ALLOWED}"
        )


def _limit(value: float | str) -> float | str:
    """Replace an integer that no column can hold, and that pandas cannot compare, by infinity."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return math.inf if value > 0 else -math.inf
    return value


def _kind(operand: Any) -> str:
    """Return "text" for text, and "number" for numbers and Booleans."""
    if isinstance(operand, pd.Series):
        return "number" if operand.dtype.kind in "iufb" else "text"
    return "text" if isinstance(operand, str) else "number"
