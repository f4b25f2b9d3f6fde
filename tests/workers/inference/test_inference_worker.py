"""The inference worker on real services: what is deployed is served, and nothing else is."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.workers.inference.conftest import Place, Worker, classify, eventually
from tests.workers.inference.processes import arguments_and_variables, is_running, listens_on


def _engine_of(worker: Worker, endpoint: str | None) -> list[int]:
    port = int(str(endpoint).rsplit(":", 1)[1])
    return [pid for pid in worker.engines() if listens_on(pid, port)]


def test_a_deployed_model_classifies_over_http(place: Place, worker: Worker) -> None:
    version_id, manifest, _ = place.register("headlines", ("good", "bad"))
    place.deploy("headlines", version_id)
    row = place.in_state("headlines", "ready")
    answer = classify(row, ["good news from the sea", "the train is late"])
    assert answer.status_code == 200
    assert answer.headers["x-model"] == "alice/headlines@1"
    results = answer.json()["results"]
    assert [sorted(score["label"] for score in scores) for scores in results] == [["bad", "good"]] * 2
    assert all(abs(sum(score["score"] for score in scores) - 1) < 1e-5 for scores in results)
    headers = {"Authorization": f"Bearer {row.endpoint_key}"}
    assert httpx.get(f"{row.endpoint}/info", headers=headers).json()["model_sha"] == manifest.digest
    predicted = httpx.post(f"{row.endpoint}/predict", json={"inputs": [["good"], ["bad"]]}, headers=headers).json()
    assert [set(entry) for entry in predicted[0]] == [{"label", "score"}] * 2


def test_an_engine_refuses_a_wrong_key_but_tells_its_health(place: Place, worker: Worker) -> None:
    row = place.in_state("headlines", "ready")
    assert classify(row, ["good"], key="wrong").status_code == 401
    assert httpx.get(f"{row.endpoint}/info").status_code == 401
    assert httpx.get(f"{row.endpoint}/health").status_code == 200


def test_the_key_of_an_engine_is_in_no_argument_or_variable(place: Place, worker: Worker) -> None:
    row = place.in_state("headlines", "ready")
    (pid,) = _engine_of(worker, row.endpoint)
    arguments, environment = arguments_and_variables(pid)
    assert str(row.endpoint_key) not in " ".join([*arguments, *environment.values()])
    assert not [name for name in environment if name.startswith("EIGENWERK_")]


def test_a_killed_engine_comes_back(place: Place, worker: Worker) -> None:
    before = place.in_state("headlines", "ready")
    (pid,) = _engine_of(worker, before.endpoint)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_running(pid), "the old engine is reaped")

    def answers() -> bool:
        row = place.row("headlines")
        return row is not None and row.state == "ready" and bool(_engine_of(worker, row.endpoint))

    eventually(answers, "another engine serves")
    assert classify(place.in_state("headlines", "ready"), ["good"]).status_code == 200


def test_a_new_version_replaces_the_old_one_without_a_failed_request(place: Place, worker: Worker) -> None:
    first_id, _, _ = place.register("moving", ("old-a", "old-b"), seed=1)
    second_id, _, _ = place.register("moving", ("new-a", "new-b"), seed=2)
    place.deploy("moving", first_id)
    place.in_state("moving", "ready")
    failed, seen, enough = [], [], threading.Event()

    def ask() -> None:
        # As the API does: the row is read for each request, and is used while it has an endpoint.
        while not enough.is_set():
            row = place.row("moving")
            answer = classify(row, ["good news"]) if row and row.endpoint else None
            if answer is None or answer.status_code != 200:
                failed.append(answer)
            else:
                seen.append(answer.json()["results"][0][0]["label"][:3])

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            eventually(lambda: "old" in seen, "the old version answers")
            place.deploy("moving", second_id)
            eventually(lambda: "new" in seen, "the new version answers")
        finally:
            enough.set()
        asking.result()
    assert not failed
    assert seen == sorted(seen, reverse=True), "after the first new answer no old one"
    place.undeploy("moving")


def test_a_version_that_cannot_be_served_leaves_the_old_one_serving(place: Place, worker: Worker) -> None:
    good_id, _, _ = place.register("steady", ("good", "bad"), seed=3)
    bad_id, _, prefix = place.register("steady", ("good", "bad"), seed=4)
    place.store.delete(f"{prefix}/model.safetensors")
    place.deploy("steady", good_id)
    place.in_state("steady", "ready")
    place.deploy("steady", bad_id)
    row = place.in_state("steady", "failed")
    assert row.reason == "corrupt_artifact"
    answer = classify(row, ["good"])
    assert answer.status_code == 200
    assert answer.headers["x-model"] == "alice/steady@1"
    place.undeploy("steady")


def test_a_flipped_bit_in_a_stored_object_is_never_served(place: Place, worker: Worker) -> None:
    version_id, _, prefix = place.register("damaged", ("good", "bad"), seed=5)
    key = f"{prefix}/model.safetensors"
    weights = bytearray(place.store.get_bytes(key))
    weights[-1] ^= 1
    place.store.put_bytes(key, bytes(weights))
    place.deploy("damaged", version_id)
    row = place.in_state("damaged", "failed")
    assert row.reason == "corrupt_artifact"
    assert row.message is not None
    assert "model.safetensors" in row.message
    assert row.endpoint is None
    place.undeploy("damaged")


def test_an_undeployed_model_is_gone_and_its_engine_too(place: Place, worker: Worker) -> None:
    version_id, _, _ = place.register("brief", ("good", "bad"), seed=7)
    place.deploy("brief", version_id)
    row = place.in_state("brief", "ready")
    assert len(_engine_of(worker, row.endpoint)) == 1
    place.undeploy("brief")
    eventually(lambda: place.row("brief") is None, "the row is deleted")
    assert not _engine_of(worker, row.endpoint)


def test_a_flipped_bit_in_the_cached_copy_is_mended_from_the_store(place: Place, worker: Worker) -> None:
    version_id, manifest, _ = place.register("mended", ("good", "bad"), seed=7)
    (weights_file,) = [file for file in manifest.files if file.path == "model.safetensors"]
    cached = place.scratch / "first" / "cache" / "sha256" / weights_file.sha256
    weights = cached.read_bytes()  # the files are those of the model that was undeployed just now
    cached.chmod(0o644)
    cached.write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    place.deploy("mended", version_id)
    assert classify(place.in_state("mended", "ready"), ["good"]).status_code == 200
    assert cached.read_bytes() == weights
    place.undeploy("mended")


def test_an_unknown_engine_fails_with_the_ones_that_exist(place: Place, worker: Worker) -> None:
    version_id, _, _ = place.register("elsewhere", ("good", "bad"))
    place.deploy("elsewhere", version_id, engine="steam")
    row = place.in_state("elsewhere", "failed")
    assert (row.reason, "embedded" in (row.message or "")) == ("unsatisfiable", True)
    place.undeploy("elsewhere")


def test_replicas_share_a_port_and_one_serves_when_the_other_dies(place: Place, worker: Worker) -> None:
    version_id, _, _ = place.register("twins", ("good", "bad"), seed=8)
    place.deploy("twins", version_id, replicas=2)
    row = place.in_state("twins", "ready")
    pids = _engine_of(worker, row.endpoint)
    assert len(pids) == 2
    os.kill(pids[0], signal.SIGKILL)
    # Not merely a zombie: its other threads may still be ending, and with them its listening socket.
    eventually(lambda: not Path(f"/proc/{pids[0]}").exists(), "the killed replica is reaped")
    assert {classify(row, ["good"]).status_code for _ in range(10)} == {200}
    place.undeploy("twins")


def test_what_is_served_is_served_on_while_the_database_is_away(place: Place, worker: Worker) -> None:
    row = place.in_state("headlines", "ready")
    with place.database_away():
        eventually(lambda: "goes on being served" in worker.log_path.read_text(), "the worker notices")
        assert classify(row, ["good"]).status_code == 200
    assert row.model_version_id is not None
    place.deploy("headlines", row.model_version_id)
    again = place.in_state("headlines", "ready")
    assert (again.generation, again.endpoint) == (row.generation + 1, row.endpoint)
    assert worker.process.poll() is None


def test_a_worker_killed_and_started_again_takes_over(place: Place, worker: Worker) -> None:
    before = place.in_state("headlines", "ready")
    engines = worker.engines()
    worker.process.kill()
    worker.process.wait()
    eventually(lambda: not any(is_running(pid) for pid in engines), "the engines die with their worker")
    place.start_worker("first")
    row = eventually(
        lambda: (row := place.row("headlines")) and row.endpoint != before.endpoint and row.endpoint and row,
        "the engine serves at another address",
    )
    assert classify(row, ["good"]).status_code == 200


def test_a_stopped_worker_leaves_nothing_running_and_another_takes_over(place: Place) -> None:
    old = place.workers[-1]
    engines = old.engines()
    assert engines
    assert old.stop() == 0
    assert not any(is_running(pid) for pid in engines)
    row = place.row("headlines")
    assert row is not None
    assert (row.host, row.endpoint, row.state) == (None, None, "pending")
    other = place.start_worker("second")
    assert classify(place.in_state("headlines", "ready"), ["good"]).status_code == 200
    assert other.stop() == 0
