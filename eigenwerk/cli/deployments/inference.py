"""classify, embed, rerank: what is asked of deployed models."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import ValidationError

from eigenwerk.cli.console import DeploymentName, JsonOption, note, platform, say, say_json
from eigenwerk.cli.deployments.classified_files import classify_table
from eigenwerk.errors import EigenwerkError
from eigenwerk.files.text_tables import column_of, lines_of, portions, readable
from eigenwerk.resources.answers import Classification, Embedding, Embeddings, Ranking
from jobspecs.dialect import Dialect

commands = typer.Typer()

#: Numbers of a vector that people are shown.
_NUMBERS_SHOWN = 6

Answer = TypeVar("Answer", Classification, Embeddings, Ranking)

Texts = Annotated[
    list[str] | None,
    typer.Argument(metavar="TEXT...", help="Texts, or - for one per line of stdin.", show_default=False),
]
TextFile = Annotated[Path | None, typer.Option("--file", metavar="FILE", help="A file with one text per line.")]


@commands.command()
def classify(
    name: DeploymentName,
    texts: Texts = None,
    file: TextFile = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="FILE is CSV with a header; all its columns are kept.")] = False,
    column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The CSV's column with the texts; `text` or the only one if absent."),
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option(help="What separates the CSV's fields: comma, semicolon, tab, pipe or a character.")
    ] = None,
    quote: Annotated[str | None, typer.Option(metavar="none|\"|'", help="What quotes the CSV's fields.")] = None,
    encoding: Annotated[str | None, typer.Option(help="How FILE is encoded; UTF-8 if absent.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where a file's rows go; stdout if absent.")] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Labels per text, the best first.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Sort texts into the classes of a deployed classifier.

    With --file the rows come out in their order as CSV, or with --json as JSON Lines. Rows without a text stay, without
    a label.

    Example: eigenwerk classify newsticker-quality --file news.csv --csv --column headline --out labelled.csv
    """
    if file is None and (as_csv or out is not None):
        raise typer.BadParameter("needs --file FILE.", param_hint="--csv" if as_csv else "--out")
    for option, value in (("--column", column), ("--delimiter", delimiter), ("--quote", quote)):
        if value is not None and not as_csv:
            raise typer.BadParameter("needs --csv: other files have no columns.", param_hint=option)
    if file is not None and not texts:
        told = _told(delimiter=delimiter, quote=quote, encoding=encoding)
        table = column_of(file, column, told) if as_csv else lines_of(file, told)
        with platform() as client:
            ask = partial(client.classify, name, top_k=top_k)
            classify_table(table, ask, out=out, top_k=top_k, as_json=as_json)
        return
    asked = _texts_of(texts, file)
    with platform() as client:
        answers = _answers(name, asked, lambda part: client.classify(name, part, top_k=top_k))
    answer = _joined(answers, {"results": [labels for part in answers for labels in part.results]})
    if as_json:
        say_json(answer)
        return
    for text, labels in zip(asked, answer.results if answer else [], strict=True):
        for label in labels:
            say(f"{label.label}\t{label.score:.3f}\t{text}")


@commands.command()
def embed(
    name: DeploymentName,
    texts: Texts = None,
    file: TextFile = None,
    dimensions: Annotated[int | None, typer.Option(min=1, help="The first so many numbers of each vector.")] = None,
    prompt_name: Annotated[str | None, typer.Option("--prompt", help="A prompt of the model's, such as query.")] = None,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Cut texts that are longer than the model reads, instead of refusing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Turn texts into vectors with a deployed embedder. --json prints the vectors, otherwise their beginnings.

    Example: eigenwerk embed sentences "A plane is taking off." --json
    """
    asked = _texts_of(texts, file)
    with platform() as client:
        answers = _answers(
            name,
            asked,
            lambda part: client.embed(
                name, part, dimensions=dimensions, prompt_name=prompt_name, truncate=truncate or None
            ),
        )
    vectors = [vector for part in answers for vector in part.vectors]
    if as_json:
        data = [Embedding(index=index, embedding=vector) for index, vector in enumerate(vectors)]
        say_json(_joined(answers, {"data": data}))
        return
    for text, vector in zip(asked, vectors, strict=True):
        beginning = " ".join(f"{number:.4f}" for number in vector[:_NUMBERS_SHOWN])
        say(f"{len(vector)} dimensions\t{beginning} …\t{text}")


@commands.command()
def rerank(
    name: DeploymentName,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What the texts should answer.")],
    texts: Texts = None,
    file: TextFile = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="The best texts only.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Order texts by how well they answer a query, with a deployed reranker: score, number of the text, text.

    Example: eigenwerk rerank judge "Who pays for the repair?" --file answers.txt --top-k 3
    """
    asked = _texts_of(texts, file)
    with platform() as client:
        answers = _answers(name, asked, lambda part: client.rerank(name, query, part))
    ranked, before = [], 0
    for portion, answer in zip(portions(asked, str), answers, strict=True):
        ranked += [item.model_copy(update={"index": item.index + before}) for item in answer.results]
        before += len(portion)
    best = sorted(ranked, key=lambda item: (-item.relevance_score, item.index))[:top_k]
    if as_json:
        say_json(_joined(answers, {"results": best}))
        return
    for item in best:
        say(f"{item.relevance_score:.3f}\t{item.index + 1}\t{asked[item.index]}")


def _told(**values: str | None) -> Dialect:
    """How a file is written, in the words that `datasets push` takes."""
    try:
        return Dialect.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = first["msg"].removeprefix("Value error, ")
        raise typer.BadParameter(f"{first['input']!r}: {reason}", param_hint=f"--{first['loc'][0]}") from error


def _texts_of(texts: Sequence[str] | None, file: Path | None) -> list[str]:
    """What is asked about: the arguments, the lines of stdin for `-`, or those of a file."""
    if (file is None) == (not texts):
        raise typer.BadParameter("give texts, - for one per line of stdin, or --file FILE.", param_hint="TEXT")
    if file is not None:
        with readable(file), file.open(encoding="utf-8") as stream:
            return [line.rstrip("\n") for line in stream]
    if texts == ["-"]:
        texts = [line.rstrip("\n") for line in sys.stdin]
        if not texts:
            note("There was nothing on stdin.")
    return list(texts or [])


def _answers(name: str, texts: Sequence[str], ask: Callable[[list[str]], Answer]) -> list[Answer]:
    """One answer per portion, all by the same version of the model."""
    answers: list[Answer] = []
    for portion in portions(texts, str):
        answers.append(ask(portion))
        if answers[-1].version != answers[0].version:
            raise EigenwerkError(f"The deployment {name} got a new version between two portions. Ask again.")
    if cut := sum(answer.truncated for answer in answers):
        note(f"texts that were cut because the model reads fewer tokens: {cut:,}")
    return answers


def _joined(answers: Sequence[Answer], fields: dict[str, object]) -> Answer | None:
    """The first answer with the fields of all of them; None for no texts."""
    return answers[0].model_copy(update=fields) if answers else None
