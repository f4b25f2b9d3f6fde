"""Which tensors a merged model has, and what each is made of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobspecs.kinds.merge import METHODS, Merge, MergedModel, SliceSource
from workers.local_models.base_model import invalid_model
from workers.merging.settings import Value, value_of
from workers.merging.weights import TensorShape

#: How many layers a model has, by the names of different architectures.
LAYER_COUNTS = ("num_hidden_layers", "n_layers", "n_layer")
_LAYER = re.compile(r"(?P<before>(?:[A-Za-z_]\w*\.)+)(?P<layer>\d+)\.(?P<rest>.+)")
#: What stands before the layers; all else that is in none stands behind them.
_BEFORE = re.compile(r"embed|\bw[tp]e\b")


@dataclass(frozen=True)
class Parent:
    """A model that is merged: its tensors, and how many layers it has; None where that can't be told."""

    reference: str
    tensors: Mapping[str, TensorShape]
    layers: int | None

    @classmethod
    def of(cls, reference: str, config: Mapping[str, Any], tensors: Mapping[str, TensorShape]) -> Parent:
        count = next((config[key] for key in LAYER_COUNTS if isinstance(config.get(key), int)), None)
        numbers = {int(found["layer"]) for name in tensors if (found := _LAYER.fullmatch(name)) is not None}
        return cls(reference, tensors, count if count is not None and numbers == set(range(count)) else None)


@dataclass(frozen=True)
class Ingredient:
    """One parent's part in a tensor."""

    reference: str
    name: str
    settings: Mapping[str, Value]


@dataclass(frozen=True)
class Mixture:
    """One tensor of the result. `base`: the place among the ingredients of what changes are counted from."""

    name: str
    shape: TensorShape
    ingredients: tuple[Ingredient, ...]
    settings: Mapping[str, Value]
    base: int | None

    @property
    def origin(self) -> int:
        """`base`, of a method that always has one."""
        if self.base is None:
            raise RuntimeError(f"{self.name} is made without a base model")
        return self.base


class MergePlan:
    """Raises RunFailed(invalid_model) where the models' tensors don't fit each other."""

    def __init__(self, spec: Merge, parents: Mapping[str, Parent]) -> None:
        self._spec, self._parents = spec, parents
        self._slices = spec.sources()
        #: Of each layer of the result: the slice, and how far into it.
        self.layers = [(number, depth) for number in range(len(self._slices)) for depth in range(self._length(number))]
        self.mixtures = tuple(self._mixtures())

    @property
    def source_layers(self) -> list[int]:
        """Of each layer of the result: the number that it has in the first model that it is made of."""
        return [_start(self._slices[number][0]) + depth for number, depth in self.layers]

    def _length(self, number: int) -> int:
        """Layers of a slice."""
        for source in self._slices[number]:
            parent = self._parents[source.model]
            if not isinstance(source, SliceSource):
                continue
            if parent.layers is None:
                raise invalid_model(
                    f"the layers of {source.model} can't be told by its tensors' names: merge it whole."
                )
            if source.layer_range[1] > parent.layers:
                raise invalid_model(
                    f"{source.model} has {parent.layers} layers; layer_range ends at {source.layer_range[1]}."
                )
        first = self._slices[number][0]
        if isinstance(first, SliceSource):
            return first.layer_range[1] - first.layer_range[0]
        counts = {self._parents[source.model].layers for source in self._slices[number]}
        if len(counts) > 1:
            told = ", ".join(f"{source.model}: {self._parents[source.model].layers}" for source in self._slices[number])
            raise invalid_model(f"the models have different numbers of layers ({told}): merge slices of them.")
        return counts.pop() or 0

    def _mixtures(self) -> Iterator[Mixture]:
        first, last = self._slices[0], self._slices[-1]
        before, rests, behind = _sorted_names(self._parents[first[0].model])
        for name in before:
            yield self._mixture(name, 0, [name] * len(first), 0.0)
        for layer, (number, depth) in enumerate(self.layers):
            sources, length = self._slices[number], self._length(number)
            at = depth / (length - 1) if length > 1 else 1.0
            for before_layer, rest in rests:
                names = [f"{before_layer}{_start(source) + depth}.{rest}" for source in sources]
                yield self._mixture(f"{before_layer}{layer}.{rest}", number, names, at)
        for name in behind:
            yield self._mixture(name, len(self._slices) - 1, [name] * len(last), 0.0)

    def _mixture(self, name: str, number: int, names: Sequence[str], depth: float) -> Mixture:
        spec, sources = self._spec, self._slices[number]
        around = [spec.slices[number].parameters] if spec.slices is not None else []
        around.append(spec.parameters)
        rules = METHODS[spec.method].parameters
        shapes = [self._shape(source, own, name) for source, own in zip(sources, names, strict=True)]
        if len({shape.shape for shape in shapes}) > 1:
            told = "; ".join(
                f"{source.model}: {list(shape.shape)}" for source, shape in zip(sources, shapes, strict=True)
            )
            raise invalid_model(f"the tensor {name} has different shapes ({told}); such models can't be merged.")
        ingredients = tuple(
            Ingredient(
                source.model,
                own,
                {
                    key: value_of(key, rule, [source.parameters, *around], own, depth)
                    for key, rule in rules.items()
                    if rule.of == "each" or (rule.of == "others" and source.model != spec.base_model)
                },
            )
            for source, own in zip(sources, names, strict=True)
        )
        shared = {key: value_of(key, rule, around, name, depth) for key, rule in rules.items() if rule.of == "all"}
        base = next((at for at, source in enumerate(sources) if source.model == spec.base_model), None)
        return Mixture(name, shapes[0], ingredients, shared, base)

    def _shape(self, source: MergedModel, name: str, made: str) -> TensorShape:
        found = self._parents[source.model].tensors.get(name)
        if found is None:
            raise invalid_model(
                f"{source.model} has no tensor {name}, of which {made} would be made: it is another model."
            )
        return found


def check_nothing_left(plan: MergePlan, spec: Merge, parents: Mapping[str, Parent]) -> None:
    """Raises RunFailed(invalid_model) where whole models are merged and one has tensors that the result lacks."""
    if spec.slices is not None:
        return
    made = {mixture.name for mixture in plan.mixtures}
    for source in spec.sources()[0]:
        if left := sorted(set(parents[source.model].tensors) - made):
            message = f"{source.model} has {len(left)} tensors that the first model lacks, such as {left[0]}"
            raise invalid_model(f"{message}: a head of its own, or weights that are tied in the other.")


def _start(source: MergedModel) -> int:
    return source.layer_range[0] if isinstance(source, SliceSource) else 0


def _sorted_names(parent: Parent) -> tuple[list[str], list[tuple[str, str]], list[str]]:
    """Names before the layers, those of one layer, and those behind: in the order of the file."""
    before: list[str] = []
    behind: list[str] = []
    rests: dict[tuple[str, str], None] = {}
    for name in parent.tensors:
        found = _LAYER.fullmatch(name) if parent.layers else None
        if found is not None:
            rests[found["before"], found["rest"]] = None
        else:
            (before if _BEFORE.search(name) else behind).append(name)
    return before, list(rests), behind
