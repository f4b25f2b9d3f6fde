"""An engine that somebody else runs: nothing is started, it is only asked after its health."""

from __future__ import annotations

from pathlib import Path

from jobspecs.engines import EXTERNAL, origin_of
from jobspecs.lifecycle import Reason
from storage.settings import EXTERNAL_ENGINES, external_engine_origins
from workers.engines.interface import EngineOrder, Installed, Launch, Measured, StartsOnly
from workers.run.context import RunFailed


class External(StartsOnly):
    """Its attendant ends when the engine is no longer well; then the deployment isn't either, until it is."""

    kind = EXTERNAL
    #: Whose engine it is nobody knows; the names of the most used one.
    measured = Measured(
        prompt_tokens="vllm:prompt_tokens_total",
        generated_tokens="vllm:generation_tokens_total",
        running="vllm:num_requests_running",
        waiting="vllm:num_requests_waiting",
        cache_share="vllm:kv_cache_usage_perc",
    )

    def installed(self) -> Installed:
        return Installed("1")

    def served_name(self, order: EngineOrder) -> str | None:
        return order.external.model if order.external else None

    def launch(self, order: EngineOrder, folder: Path) -> Launch:
        external = order.external
        if external is None or origin_of(external.url) not in external_engine_origins():
            where = origin_of(external.url) if external else "an unknown address"
            raise RunFailed(
                Reason.unsatisfiable,
                f"Engines at {where} are not allowed on this host. An administrator allows them: "
                f"{EXTERNAL_ENGINES} in the environment of the API and of the inference workers.",
            )
        return Launch((), url=external.url, health_path=external.health_path, metrics_path=external.metrics_path)
