"""What a parameter is for one tensor: mergekit's rules of filters and of values that are spread over layers."""

from __future__ import annotations

from collections.abc import Iterable

from jobspecs.kinds.merge import FilteredValue, Parameter, Setting, Settings
from jobspecs.lifecycle import Reason
from workers.run.context import RunFailed

Value = float | bool | None


def value_of(name: str, parameter: Parameter, settings: Iterable[Settings], tensor: str, depth: float) -> Value:
    """The nearest setting that says something of the tensor, `settings` from the nearest to the farthest.

    `depth`: 0 for the first layer and for what is in none, 1 for the last. Raises RunFailed(invalid_model) where it
    is needed and absent.
    """
    for one in settings:
        if name in one and (value := _chosen(one[name], tensor, depth)) is not None:
            return value
    if parameter.default is None and not parameter.optional:
        message = f"no {name} is given for the tensor {tensor}: add a value without a filter, which is for all others."
        raise RunFailed(Reason.invalid_model, message)
    return parameter.default


def _chosen(setting: Setting, tensor: str, depth: float) -> Value:
    conditions = [setting] if isinstance(setting, FilteredValue) else setting
    if not isinstance(conditions, list):
        return conditions
    for one in conditions:
        if isinstance(one, FilteredValue) and (one.filter in (None, "*") or str(one.filter) in tensor):
            return _chosen(one.value, tensor, depth)
    numbers = [one for one in conditions if not isinstance(one, FilteredValue)]
    return _spread(numbers, depth) if numbers else None


def _spread(values: list[float | bool], depth: float) -> Value:
    """Linear between neighbours; a switch is the one before."""
    place = depth * (len(values) - 1)
    first = int(place)
    if isinstance(values[first], bool):
        return values[first]
    share = place - first
    return (1 - share) * values[first] + share * values[min(len(values) - 1, first + 1)]
