"""What `eigenwerk deploy` can be told."""

from __future__ import annotations

from typing import Annotated

import typer

DeployedName = Annotated[
    str,
    typer.Argument(metavar="NAME[@V]", help="The deployment's name, or OWNER/NAME; without --model also the model's."),
]
ServedModel = Annotated[str | None, typer.Option(help="The model to serve, if it has another name: NAME[@V].")]
Replicas = Annotated[
    int | None, typer.Option(min=1, max=8, help="Engine processes that share the work; one if absent.")
]
Hosts = Annotated[
    int | None, typer.Option(min=1, max=8, help="Hosts that the replicas are spread over; one if absent.")
]
MemoryGib = Annotated[float | None, typer.Option(help="Main memory of all replicas in GiB; estimated when absent.")]
Gpus = Annotated[
    int | None, typer.Option(min=0, max=8, help="GPUs of all replicas, one each at most. Without: the CPU.")
]
EngineName = Annotated[
    str | None, typer.Option(help="embedded, llamacpp, vllm, tgi; chosen by the model and the hosts when absent.")
]
Adapters = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME[@V]", help="A LoRA adapter of the model to serve beside it; may be given again."),
]
Idle = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Sleep after so long without a request, such as 30m; never when absent."),
]
Traffic = Annotated[
    str | None,
    typer.Option(metavar="SHARE", help="Beside what is deployed: only so much of the requests, such as 10%."),
]
ExternalUrl = Annotated[
    str | None,
    typer.Option(metavar="URL", help="An engine that somebody else runs, in the place of a model of the registry."),
]
ExternalModel = Annotated[str | None, typer.Option(help="What that engine calls its model.")]
ExternalKey = Annotated[
    str | None, typer.Option(envvar="EIGENWERK_EXTERNAL_KEY", help="The key that it asks for.", show_envvar=True)
]
HealthPath = Annotated[str | None, typer.Option(help="Where it says that it is well; /health when absent.")]
MetricsPath = Annotated[str | None, typer.Option(help="Where it has figures in Prometheus' format.")]
ContextTokens = Annotated[
    int | None, typer.Option("--context", min=256, help="Tokens of an answer with its prompt to keep memory for.")
]
Sequences = Annotated[
    int | None, typer.Option(min=1, max=256, help="Answers at once in each replica to keep memory for.")
]
