"""`merge`: one model of several, computed from their weights alone; the fields are those of a mergekit file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, StrictBool, StrictFloat, StrictInt, field_validator, model_validator

from jobspecs.kinds.base import Section, SpecBase
from jobspecs.problems import Problem
from jobspecs.references import ModelReference
from jobspecs.tasks import SENTENCE_SIMILARITY

#: The role of the model that the others are compared with.
MERGE_BASE_ROLE = "base_model"
Method = Literal["linear", "slerp", "task_arithmetic", "ties", "passthrough"]
Dtype = Literal["float32", "bfloat16", "float16"]
Number = StrictInt | StrictFloat
Scalar = StrictBool | Number


@dataclass(frozen=True)
class Parameter:
    """What a method is told. `of`: one value for all models, one for each, or one for each but the base."""

    of: Literal["all", "each", "others"]
    #: None: it must be given, unless it may be left out.
    default: float | bool | None = None
    optional: bool = False
    low: float = float("-inf")
    high: float = float("inf")


@dataclass(frozen=True)
class MethodRules:
    parameters: Mapping[str, Parameter]
    needs_base: bool = False
    #: Models that a tensor is made of, the base among them.
    inputs_min: int = 2
    inputs_max: int = 64


#: mergekit's int8_mask saves it memory and changes no result; nothing is saved by it here.
_DELTAS = {
    "lambda": Parameter("all", 1.0),
    "weight": Parameter("others"),
    "int8_mask": Parameter("all", default=False),
    "rescale": Parameter("all", default=False),
}
_NORMALIZE = {"normalize": Parameter("all", default=True)}
METHODS: Mapping[str, MethodRules] = MappingProxyType(
    {
        "linear": MethodRules({"weight": Parameter("each"), **_NORMALIZE}),
        "slerp": MethodRules({"t": Parameter("all")}, needs_base=True, inputs_max=2),
        "task_arithmetic": MethodRules({**_DELTAS, "normalize": Parameter("all", default=False)}, needs_base=True),
        "ties": MethodRules(
            {**_DELTAS, **_NORMALIZE, "density": Parameter("others", 1.0, low=0, high=1)}, needs_base=True
        ),
        "passthrough": MethodRules({"scale": Parameter("each", optional=True)}, inputs_min=1, inputs_max=1),
    }
)


class FilteredValue(Section):
    """A value for the tensors whose names contain `filter`; for all where it is absent or `*`."""

    value: Scalar | Annotated[list[Scalar], Field(min_length=1, max_length=1024)]
    filter: str | None = Field(default=None, min_length=1, max_length=200)


#: One value, values spread over the layers from the first to the last, or values by the names of tensors.
Setting = (
    Scalar
    | Annotated[list[Scalar], Field(min_length=1, max_length=1024)]
    | FilteredValue
    | Annotated[list[FilteredValue], Field(min_length=1, max_length=256)]
)
Settings = dict[str, Setting]


class MergedModel(Section):
    """A model that is merged, and what the method is told of it."""

    model: ModelReference
    parameters: Settings = Field(default={}, description="of this model alone, such as weight")


class SliceSource(MergedModel):
    """Some layers of a model."""

    layer_range: tuple[int, int] = Field(description="the first layer, and the one after the last; counted from 0")

    @field_validator("layer_range")
    @classmethod
    def _holds_layers(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not 0 <= value[0] < value[1]:
            raise ValueError("layer_range is the first layer and the one after the last, such as [0, 12]")
        return value


class Slice(Section):
    """Layers of the result that follow each other, and what they are made of."""

    sources: list[SliceSource] = Field(min_length=1, max_length=64)
    parameters: Settings = Field(default={}, description="of its sources")

    @model_validator(mode="after")
    def _as_many_layers(self) -> Slice:
        if len({end - start for start, end in (source.layer_range for source in self.sources)}) > 1:
            raise ValueError("the sources of a slice have different numbers of layers; give each as many")
        return self


class Merge(SpecBase):
    """`models` are merged whole; `slices` puts a model together from layers of others."""

    kind: Literal["merge"]
    method: Method = Field(
        validation_alias=AliasChoices("method", "merge_method"), description="also called merge_method"
    )
    base_model: ModelReference | None = Field(
        default=None, description="what changes are counted from; its configuration and tokenizer are the result's"
    )
    models: list[MergedModel] | None = Field(default=None, min_length=1, max_length=64)
    slices: list[Slice] | None = Field(default=None, min_length=1, max_length=1024)
    parameters: Settings = Field(default={}, description="of all models, where nothing nearer says otherwise")
    dtype: Dtype | None = Field(default=None, description="what is computed in; that of the first model when absent")
    out_dtype: Dtype | None = Field(default=None, description="of the result's weights; dtype when absent")
    tokenizer_source: ModelReference | Literal["base"] | None = Field(
        default=None, description="whose tokenizer the result has; that of base_model, or of the first model"
    )

    @model_validator(mode="after")
    def _can_be_merged(self) -> Merge:
        if (self.models is None) == (self.slices is None):
            raise ValueError("say with one of models and slices what is merged")
        rules = METHODS[self.method]
        if rules.needs_base and self.base_model is None:
            raise ValueError(f"{self.method} needs base_model: what the other models differ from")
        for number, sources in enumerate(self.sources()):
            place = f"slices[{number}]" if self.slices is not None else "models"
            self._check_sources(place, [source.model for source in sources], rules)
        known = {source.model for sources in self.sources() for source in sources}
        if self.tokenizer_source not in (None, "base", *known):
            raise ValueError(f"tokenizer_source {self.tokenizer_source!r} is none of the models that are merged")
        self._check_parameters(rules)
        return self

    def _check_sources(self, place: str, named: list[str], rules: MethodRules) -> None:
        if len(set(named)) < len(named):
            raise ValueError(f"{place} names a model twice; name each once")
        if not rules.inputs_min <= len(named) <= rules.inputs_max:
            wanted = (
                str(rules.inputs_min) if rules.inputs_min == rules.inputs_max else f"{rules.inputs_min} models or more"
            )
            told = ", base_model among them" if rules.needs_base else ""
            raise ValueError(f"{self.method} makes a tensor of {wanted}{told}; {place} has {len(named)}")
        if rules.needs_base and self.base_model not in named:
            raise ValueError(f"{place} lacks base_model, which {self.method} needs there")
        if not rules.needs_base and self.models is not None and self.base_model not in (None, *named):
            raise ValueError(f"{self.method} merges what models names; add base_model to them, with its weight")

    def _check_parameters(self, rules: MethodRules) -> None:
        known = ", ".join(rules.parameters)
        for place, settings in self._settings():
            for name, setting in settings.items():
                if name not in rules.parameters:
                    raise ValueError(f"{place} has {name!r}, which {self.method} doesn't know; it knows: {known}")
                _check_values(f"{place}.{name}", rules.parameters[name], setting)
        for number, sources in enumerate(self.sources()):
            around = [self.parameters, *([self.slices[number].parameters] if self.slices is not None else [])]
            for name, parameter in rules.parameters.items():
                if parameter.default is not None or parameter.optional:
                    continue
                lacking = [
                    source.model
                    for source in sources
                    if not (parameter.of == "others" and source.model == self.base_model)
                    and not any(name in settings for settings in (source.parameters, *around))
                ]
                if lacking:
                    raise ValueError(f"{self.method} needs {name} for {lacking[0]}: write it under parameters")

    def _settings(self) -> Iterator[tuple[str, Settings]]:
        yield "parameters", self.parameters
        for number, model in enumerate(self.models or ()):
            yield f"models[{number}].parameters", model.parameters
        for number, piece in enumerate(self.slices or ()):
            yield f"slices[{number}].parameters", piece.parameters
            for place, source in enumerate(piece.sources):
                yield f"slices[{number}].sources[{place}].parameters", source.parameters

    def sources(self) -> list[list[MergedModel]]:
        """What each slice of the result is made of; one slice where `models` are merged, the base among them."""
        if self.slices is not None:
            return [list(piece.sources) for piece in self.slices]
        models = list(self.models or ())
        named = [source.model for source in models]
        if METHODS[self.method].needs_base and self.base_model is not None and self.base_model not in named:
            models.append(MergedModel(model=self.base_model))
        return [models]

    @property
    def leading_model(self) -> str:
        """Whose configuration and other files the result has."""
        return self.base_model or self.sources()[0][0].model

    def model_references(self) -> dict[str, str]:
        """Each model once, in the role that is the place where the spec names it first."""
        places = [(MERGE_BASE_ROLE, self.base_model)] if self.base_model is not None else []
        if self.models is not None:
            places += [(f"models[{number}].model", source.model) for number, source in enumerate(self.models)]
        for number, piece in enumerate(self.slices or ()):
            places += [(f"slices[{number}].sources[{at}].model", one.model) for at, one in enumerate(piece.sources)]
        found: dict[str, str] = {}
        for role, reference in places:
            if reference not in found.values():
                found[role] = reference
        return found

    def role_of(self, reference: str) -> str:
        return next(role for role, text in self.model_references().items() if text == reference)

    def problems_of_models(self, tasks: Mapping[str, str | None]) -> list[Problem]:
        """Models of different tasks have different heads. A bare encoder may be an embedder's base."""
        first_role, *others = list(tasks) or [""]
        mixed = {None, SENTENCE_SIMILARITY.name}
        return [
            Problem(
                field=role,
                message=f"its task is {tasks[role] or 'none'}, that of {first_role} is {tasks[first_role] or 'none'}.",
                remedy="Merge models of one task.",
            )
            for role in others
            if tasks[role] != tasks[first_role] and not {tasks[role], tasks[first_role]} <= mixed
        ]


def _check_values(place: str, parameter: Parameter, setting: Setting) -> None:
    switch = isinstance(parameter.default, bool)
    for value in _values(setting):
        if isinstance(value, bool) != switch:
            raise ValueError(f"{place} takes {'true or false' if switch else 'numbers'}")
        if not parameter.low <= value <= parameter.high:
            raise ValueError(f"{place} is from {parameter.low:g} to {parameter.high:g}")


def _values(setting: Setting) -> Iterator[float | bool]:
    for one in setting if isinstance(setting, list) else [setting]:
        if isinstance(one, FilteredValue):
            yield from one.value if isinstance(one.value, list) else [one.value]
        else:
            yield one
