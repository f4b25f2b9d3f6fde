"""What an inference worker serves deployments with."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field

from workers.daemon.wakeup import Wakeup
from workers.engines.interface import Engine, EngineOrder, Installed
from workers.inference.model_folders import ModelFolders
from workers.inference.pulls import HubAccessOf, Pulled, StoredModel
from workers.inference.replicas import RestartPolicy, TokenCounts
from workers.inference.wanted import Wanted


@dataclass(frozen=True)
class Means:
    """What deployments are served with."""

    engines: Mapping[str, Engine]
    folders: ModelFolders
    #: Downloads run here. Engines are never started here: they would end with the thread.
    pool: Executor
    wakeup: Wakeup
    threads: int = 1
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    #: What engines have told of and the database does not know yet.
    tokens: TokenCounts = field(default_factory=Counter)
    #: For the models of a hub that deployed adapters change.
    hub_access: HubAccessOf = lambda owner_id: None

    def installed(self) -> dict[str, Installed]:
        """The engines that this host can start now."""
        found = {name: engine.installed() for name, engine in self.engines.items()}
        return {name: installed for name, installed in found.items() if installed is not None}

    def order_for(self, wanted: Wanted, pulled: Pulled) -> EngineOrder:
        """What an engine is told; its port is chosen later."""
        base, external = wanted.base, wanted.external
        return EngineOrder(
            model=wanted.model,
            task=wanted.task,
            model_dir=pulled.model_dir,
            base_dir=pulled.base_dir,
            base_digest=base.manifest.digest if isinstance(base, StoredModel) else None,
            digest=wanted.digest,
            external=external,
            port=0,
            key=secrets.token_urlsafe(32) if external is None else external.key,
            threads=self.threads,
            memory_bytes=wanted.memory_bytes,
            context_tokens=wanted.context_tokens,
            sequences=wanted.sequences,
            gpu_ids=wanted.gpu_ids,
            adapters=pulled.adapters,
            drain_s=self.policy.drain_s,
        )
