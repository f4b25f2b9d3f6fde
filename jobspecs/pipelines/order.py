"""In which order steps can be done, and that there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobspecs.problems import Problem


def in_order(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """The names, each behind those that it needs; otherwise in their order. There is no circle."""
    ordered: dict[str, None] = {}
    stack = [iter(needs)]
    path: list[str] = []
    while stack:
        name = next((name for name in stack[-1] if name not in ordered), None)
        if name is None:
            stack.pop()
            if path:
                ordered[path.pop()] = None
        else:
            path.append(name)
            stack.append(iter(needs[name]))
    return list(ordered)


def problem_of_circle(needs: Mapping[str, Sequence[str]]) -> Problem | None:
    """That steps wait for each other, told of the first circle; None when there is none."""
    done: set[str] = set()
    for start in needs:
        if start in done:
            continue
        stack = [(start, iter(needs[start]))]
        while stack:
            path = [name for name, _ in stack]
            following = next((name for name in stack[-1][1] if name not in done), None)
            if following is None:
                done.add(path[-1])
                stack.pop()
            elif following in path:
                circle = [*path[path.index(following) :], following]
                return Problem(
                    field=f"steps.{following}",
                    message=f"these steps wait for each other for ever: {' waits for '.join(circle)}.",
                    remedy="Remove one of the references, or of the entries in `after`.",
                )
            else:
                stack.append((following, iter(needs[following])))
    return None
