"""Every reason for a gap that the code of a source can give, read from the code itself."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

NOTING = ("note", "_gap", "listed", "_listed")
"""Functions that make a gap of a reason among their arguments."""
LISTS = ("gaps", "lacks")
"""Lists of sentences that become gaps."""


def said(source: str) -> frozenset[str]:
    """The reasons in `collectors/SOURCE`: what is filled in stands as {}, what is no literal as its expression."""
    return frozenset(text for path in sorted((ROOT / "collectors" / source).glob("*.py")) for text in _in_file(path))


def _in_file(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        for value in _reasons(node):
            yield from _texts(value, constants)


def _reasons(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name == "Gap":
            yield from (word.value for word in node.keywords if word.arg == "reason")
        elif name in NOTING and node.args:
            yield from (one for one in node.args if _may_be_a_reason(one))
        elif name == "append" and isinstance(node.func, ast.Attribute) and _is_list(node.func.value):
            yield from (one for one in node.args if isinstance(one, ast.JoinedStr | ast.Constant))
    elif isinstance(node, ast.AugAssign | ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.ListComp):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(_is_list(target) for target in targets) and isinstance(node.value.elt, ast.JoinedStr):
            yield node.value.elt


def _is_list(node: ast.expr) -> bool:
    return (node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")) in LISTS


def _may_be_a_reason(node: ast.expr) -> bool:
    """A sentence, or a name that a file gives to one; not a subject and not a metric."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and " " in node.value
    return isinstance(node, ast.JoinedStr | ast.BinOp) or (isinstance(node, ast.Name) and node.id.isupper())


def _texts(node: ast.expr, constants: dict[str, str]) -> Iterator[str]:
    if isinstance(node, ast.IfExp):
        yield from _texts(node.body, constants)
        yield from _texts(node.orelse, constants)
    elif isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    elif isinstance(node, ast.Name) and node.id in constants:
        yield constants[node.id]
    elif isinstance(node, ast.Name) and not node.id.isupper():
        return  # handed on from where it was made
    elif isinstance(node, ast.Name | ast.Attribute):
        yield ast.unparse(node)
