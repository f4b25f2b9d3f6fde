"""What a chat template asks of messages: the roles that it tells apart, and the fields that it reads."""

from __future__ import annotations

from dataclasses import dataclass

import jinja2
from jinja2 import nodes

from corpus.conversations.chat_template import environment

_ROLE = "role"


@dataclass(frozen=True)
class TemplateWords:
    """`roles`: texts that a role is compared with. `fields`: names that are looked up in anything."""

    roles: frozenset[str] = frozenset()
    fields: frozenset[str] = frozenset()

    @classmethod
    def of(cls, source: str) -> TemplateWords:
        """Of a template that can be read; none of another, which fails when it is rendered."""
        try:
            parsed = environment().parse(source)
        except (jinja2.TemplateError, RecursionError):
            return cls()
        roles, fields = set[str](), set[str]()
        called = {id(call.node) for call in parsed.find_all(nodes.Call)}
        for compare in parsed.find_all(nodes.Compare):
            sides = (compare.expr, *(operand.expr for operand in compare.ops))
            if any(map(_is_role, sides)):
                roles.update(word for side in sides if not _is_role(side) for word in _texts(side))
            elif any(operand.op in ("in", "notin") for operand in compare.ops):
                fields.update(_texts(compare.expr))
        for item in parsed.find_all(nodes.Getitem):
            if isinstance(item.node, nodes.Dict) and _is_role(item.arg):
                roles.update(word for pair in item.node.items for word in _texts(pair.key))
            fields.update(_texts(item.arg))
        gets = [one for one in parsed.find_all(nodes.Call) if _gets(one.node)]
        arguments = [one.args[:1] for one in gets] + [one.args[:1] for one in parsed.find_all(nodes.Filter)]
        fields.update(word for first in arguments for argument in first for word in _texts(argument))
        fields.update(one.attr for one in parsed.find_all(nodes.Getattr) if id(one) not in called)
        return cls(frozenset(roles), frozenset(fields))


def _gets(method: nodes.Node) -> bool:
    return isinstance(method, nodes.Getattr) and method.attr == "get"


def _is_role(node: nodes.Node) -> bool:
    """Whether a role, or what is made of one, is what it says."""
    return any(
        (isinstance(one, nodes.Getattr) and one.attr == _ROLE)
        or (isinstance(one, nodes.Name) and one.name == _ROLE)
        or (isinstance(one, nodes.Const) and one.value == _ROLE and not isinstance(node, nodes.Const))
        for one in (node, *node.find_all((nodes.Getattr, nodes.Name, nodes.Const)))
    )


def _texts(node: nodes.Node) -> list[str]:
    """The node, if it is a text, or the texts within a list."""
    found = (node, *node.find_all(nodes.Const)) if isinstance(node, nodes.Const | nodes.List | nodes.Tuple) else ()
    return [one.value for one in found if isinstance(one, nodes.Const) and isinstance(one.value, str)]
