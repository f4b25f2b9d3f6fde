"""The model card, and curves as pictures."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID
from xml.etree import ElementTree

from api.registry.curves import Curve, curves, svg
from jobspecs.events import MetricEvent, ProgressEvent, RecordedEvent
from jobspecs.frozen import FrozenInputs
from jobspecs.lineage import Lineage
from jobspecs.manifest import CARD, Manifest, ManifestFile
from tests.api.conftest import Api, sha256

MODELS = "/v1/registry/models"
WRITTEN = "# made\n\nA text classifier.\n\n## Verdict\n\nFine-tuning helped.\n"
AT = datetime(2026, 1, 1, tzinfo=UTC)


def told(number: int, event: ProgressEvent | MetricEvent, fence: int = 1) -> RecordedEvent:
    return RecordedEvent(fence=fence, number=number, at=AT, event=event)


def losses(*values: float, fence: int = 1, first_step: int = 0) -> list[RecordedEvent]:
    return [
        told(place, ProgressEvent(stage="train", step=first_step + place, steps_total=9, loss=value), fence)
        for place, value in enumerate(values)
    ]


def trained(api: Api) -> str:
    """A version that a job made, with losses and a written card; returns its path."""
    job_id = UUID(api.submit()["id"])
    with api.database.unit_of_work() as work:
        work.jobs.assign(job_id, "host", lease_s=60)
        events = losses(2.0, 1.5, 0.5)
        events.append(told(9, MetricEvent(name="validation/accuracy", value=0.75, step=2)))
        assert work.events.add(job_id, 1, events)
        row = work.jobs.get(job_id)
        assert row is not None
        prefix = f"artifacts/{job_id}/1"
        manifest = Manifest(
            artifact="model",
            task="text-classification",
            files=(ManifestFile(path=CARD, bytes=len(WRITTEN), sha256=sha256(WRITTEN.encode())),),
            metrics={"validation/accuracy": 0.75},
            report={"verdict": {"sentence": "Fine-tuning helped."}},
        )
        lineage = Lineage.of_job(row.kind, row.spec, FrozenInputs.model_validate(row.inputs))
        work.models.add_version(row.owner_id, "made", manifest=manifest, prefix=prefix, job_id=job_id, lineage=lineage)
    api.objects().put_bytes(f"{prefix}/{CARD}", WRITTEN.encode())
    return f"{MODELS}/{api.user}/made/versions/1/card"


def test_a_card_has_data_curves_verdict_limits_how_to_ask_and_what_the_job_wrote(ready: Api) -> None:
    path = trained(ready)
    assert ready.client.get(path).text.startswith(f"# {ready.user}/made@1\n\n## Facts\n\n|")
    ready.client.patch(f"{MODELS}/{ready.user}/made", json={"description": "For headlines.", "license": "mit"})
    answer = ready.client.get(path)
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    for part in (
        f"# {ready.user}/made@1\n\nFor headlines.",
        "| licence | mit |",
        f"| dataset | {ready.user}/headlines@1 |",
        "![loss by step](card/loss.svg)",
        "- Fine-tuning helped.",
        f"eigenwerk deploy deployed --model {ready.user}/made@1",
        "/v1/classify",
        "*As its job wrote it:*\n\nA text classifier.\n\n## Verdict",
    ):
        assert part in answer.text, part
    assert "accuracy.svg" not in answer.text, "one point is no curve"
    picture = ready.client.get(f"{path}/loss.svg")
    assert picture.headers["content-type"] == "image/svg+xml"
    assert "sandbox" in picture.headers["content-security-policy"]
    assert ElementTree.fromstring(picture.text).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 (our own)
    assert ready.client.get(f"{path}/other.svg").status_code == 404
    assert ready.client.put("/v1/deployments/served", json={"model": "made"}).status_code == 202
    assert "Deployed as `served`" in ready.client.get(path).text


def test_a_card_of_an_import_is_what_came_without_its_front_matter(api: Api) -> None:
    api.import_model(files={CARD: b"---\nlicense: mit\n---\n# Tiny\n\nSmall & quick | cheap.\n"})
    text = api.client.get(f"{MODELS}/{api.user}/tiny/versions/1/card").text
    assert "| licence | mit |" in text and "No curves" in text and "| made by | import |" in text
    assert text.endswith("*As it came:*\n\nSmall & quick | cheap.\n")
    with api.as_user(api.new_user()) as other:
        assert other.get(f"{MODELS}/{api.user}/tiny/versions/1/card").status_code == 404


def test_a_curve_goes_by_the_last_attempt_and_has_no_more_points_than_can_be_seen() -> None:
    found = curves(
        [*losses(3.0, 2.0, 1.0), *losses(9.0, 8.0, fence=2, first_step=1), told(7, MetricEvent(name="a", value=1))]
    )
    assert found == [Curve("loss", [(0, 3.0), (1, 9.0), (2, 8.0)])]
    (long,) = curves(losses(*(1.0 / (step + 1) for step in range(3001))))
    assert len(long.points) <= 401 and (long.points[0][0], long.points[-1][0]) == (0, 3000)


def test_a_picture_shows_the_whole_range_also_of_a_flat_curve() -> None:
    for points in ([(0, 1.0), (5, 1.0)], [(3, -2.5), (4, 1e6)]):
        root = ElementTree.fromstring(svg(Curve("a<b/&c", points)))  # noqa: S314 (our own)
        (line,) = root.iter("{http://www.w3.org/2000/svg}polyline")
        places = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
        assert all(0 <= x <= 640 and 0 <= y <= 240 for x, y in places) and places[0][0] < places[-1][0]
