"""How to ask a model of each task, once it is deployed, as its card tells."""

from __future__ import annotations

from collections.abc import Sequence

from jobspecs.tasks import SENTENCE_SIMILARITY, TEXT_CLASSIFICATION, TEXT_GENERATION, TEXT_RANKING

_SHOWN = "deployed"
#: task -> the command, and the route with its JSON; {name} is the deployment's.
_WORDS = {
    TEXT_CLASSIFICATION.name: (
        'eigenwerk classify {name} "A text"',
        "/v1/classify",
        '{{"model": "{name}", "input": ["A text"]}}',
    ),
    SENTENCE_SIMILARITY.name: (
        'eigenwerk embed {name} "A text"',
        "/v1/embeddings",
        '{{"model": "{name}", "input": ["A text"]}}',
    ),
    TEXT_RANKING.name: (
        'eigenwerk rerank {name} "A question" "A passage" "Another"',
        "/v1/rerank",
        '{{"model": "{name}", "query": "A question", "documents": ["A passage", "Another"]}}',
    ),
    TEXT_GENERATION.name: (
        'eigenwerk chat {name} "Hello"',
        "/v1/chat/completions",
        '{{"model": "{name}", "messages": [{{"role": "user", "content": "Hello"}}]}}',
    ),
}


def how_to_ask(task: str | None, reference: str, deployments: Sequence[str]) -> list[str]:
    """Paragraphs of Markdown; none for what isn't served. `deployments`: those that serve it already."""
    if task not in _WORDS:
        return []
    name = deployments[0] if deployments else _SHOWN
    command, route, body = _WORDS[task]
    asked = [
        *([] if deployments else [f"eigenwerk deploy {_SHOWN} --model {reference}"]),
        command.format(name=name),
        f'curl "$EIGENWERK_URL{route}" -H "Authorization: Bearer $EIGENWERK_TOKEN" \\',
        f"  -H 'Content-Type: application/json' -d '{body.format(name=name)}'",
    ]
    named = ", ".join(f"`{one}`" for one in deployments)
    served = f"Deployed as {named}." if deployments else "None of your deployments serves it."
    return [served, "```sh\n" + "\n".join(asked) + "\n```"]
