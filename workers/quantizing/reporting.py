"""What a quantization's report and card say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from corpus.markdown import Section, Table, card
from jobspecs.kinds.quantize import Quantize
from workers.judging.llm_verdict import perplexity
from workers.judging.parity import Cost
from workers.parity.gate import Comparison
from workers.quantizing.interface import Written


@dataclass(frozen=True)
class Outcome:
    """Everything that is known at the end. Bytes are of the weights' files."""

    spec: Quantize
    #: The model's name for people.
    source: str
    written: Written
    bytes: int
    source_bytes: int
    cost: Cost
    comparison: Comparison
    #: In its engine on this host, one answer at a time.
    tokens_per_s: float | None

    @property
    def metrics(self) -> dict[str, float]:
        """Figures that an interrupted run repeats exactly; times belong to the report."""
        parity = {"kl_divergence": self.comparison.kl_divergence, "agreement": self.comparison.agreement}
        return {
            **self.cost.metrics("validation"),
            "size/bits_per_weight": self.written.bits_per_weight,
            "size/bytes": float(self.bytes),
            "size/baseline_bytes": float(self.source_bytes),
            **{f"parity/{name}": value for name, value in parity.items() if value is not None},
        }

    @property
    def sentence(self) -> str:
        cost = self.cost
        before, after = perplexity(cost.before.value), perplexity(cost.after.value)
        said = (
            f"{self.written.bits_per_weight:.2f} bits per weight with scales, {self.bytes / 1e6:,.1f} MB for "
            f"{self.source_bytes / 1e6:,.1f} MB. It costs: perplexity {after:.2f} against {before:.2f} on {cost.texts} "
            f"held-out texts (difference {cost.difference.value:+.3f} nats per token, {cost.difference.low:+.3f} to "
            f"{cost.difference.high:+.3f}), KL {cost.divergence.value:.4f} nats per token, the same greedy token in "
            f"{cost.agreement.value:.1%} ({cost.agreement.low:.1%} to {cost.agreement.high:.1%})."
        )
        verification = self.comparison.verification
        if verification.cause is None:
            return f"{said} In {verification.engine} it does as its source does."
        return f"{said} Unverified ({verification.cause}) in {verification.engine}: {verification.message}"

    @property
    def report(self) -> dict[str, Any]:
        """Plain JSON."""
        after, before = perplexity(self.cost.after.value), perplexity(self.cost.before.value)
        verdict = {
            "sentence": self.sentence,
            "helped": "unclear",
            "metric": "perplexity on held-out texts; lower is better",
            "systems": [{"system": "quantized", "value": after}, {"system": "source", "value": before}],
        }
        size = {"bits_per_weight": self.written.bits_per_weight, "bytes": self.bytes}
        return {
            "verdict": verdict,
            "source": self.source,
            "scheme": self.spec.scheme,
            "target": self.spec.target_engine,
            "size": {**size, "weights": self.written.weights, "baseline_bytes": self.source_bytes},
            "stored_as": self.written.stored_as,
            "notes": list(self.written.notes),
            "cost": self.cost.as_json(),
            "parity": self.comparison.as_json(),
            "speed": {"tokens_per_s": self.tokens_per_s},
        }

    @property
    def card(self) -> str:
        """README.md."""
        cost = self.cost.as_json()
        figures = [
            (name.replace("_", " "), f"{one['value']:.4f}", f"{one['low']:.4f} to {one['high']:.4f}")
            for name, one in cost.items()
            if isinstance(one, dict)
        ]
        stored = [(name, str(count)) for name, count in self.written.stored_as.items()]
        return card(
            self.spec.name,
            f"`{self.source}` quantized by `{self.spec.scheme}` for {self.spec.target_engine}.",
            [
                Section("Verdict", (self.sentence, *self.written.notes)),
                Section("What it costs", (Table(("figure", "value", "95 % interval"), figures),)),
                Section("Stored as", (Table(("type", "tensors"), stored),)),
            ],
        )
