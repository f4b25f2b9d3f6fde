"""The real servers as child processes: they answer, keep their data, keep out strangers, and leave nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psycopg
import pytest
import redis

from deploy.embedded import postgres_placement
from deploy.embedded.errors import EmbeddedError
from deploy.embedded.home import open_home
from deploy.embedded.objects import objects_server
from deploy.embedded.postgres_placement import place, reachable
from deploy.embedded.processes import Account, ManagedProcess, free_port
from deploy.embedded.stack import EmbeddedServices

#: Starts the servers, says so, and waits to be killed.
_HOLDER = """
import sys, time
from pathlib import Path
from deploy.embedded.stack import EmbeddedServices
with EmbeddedServices(Path(sys.argv[1]), durable=False) as services:
    print(*(server.pid for server in services.servers()), flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServices]:
    """Servers of this module's own, as it kills them."""
    embedded = EmbeddedServices(tmp_path_factory.mktemp("own") / "home", durable=False)
    with embedded:
        yield embedded
    embedded.remove_data()


def query(services: EmbeddedServices, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(services.database_url.replace("+psycopg", ""), autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def s3_status(services: EmbeddedServices) -> int:
    try:
        with urllib.request.urlopen(f"{services.object_access.endpoint}/eigenwerk", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def gone(pid: int, within_s: float = 15.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def test_postgres_answers_and_wants_its_password(own: EmbeddedServices) -> None:
    assert query(own, "SELECT current_database()::text") == [("eigenwerk",)]
    wrong = own.database_url.replace("+psycopg", "").replace(own.home.secret("postgres_password"), "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_redis_answers_and_wants_its_password(own: EmbeddedServices) -> None:
    with redis.Redis.from_url(own.redis_url) as client:
        assert client.ping()
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    anonymous = own.redis_url.replace(f":{own.home.secret('redis_password')}@", "")
    with (
        redis.Redis.from_url(anonymous, retry=None) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()


def test_an_unsigned_s3_request_is_refused(own: EmbeddedServices) -> None:
    assert s3_status(own) == 403


def test_s3_is_ready_once_its_master_knows_where_the_objects_lie(tmp_path: Path) -> None:
    known: list[dict[str, str]] = []

    class Weed(BaseHTTPRequestHandler):
        """S3, whose bucket is there at once, and the master, to which the volume service comes late."""

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.end_headers()

        def do_GET(self) -> None:
            assert self.path == "/dir/status"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"Topology": {"DataCenters": known or None}}).encode())

        def log_message(self, *_: object) -> None:
            """Quiet."""

    home = open_home(tmp_path / "home")
    s3, _ = objects_server(home)
    with ExitStack() as exits:
        for name in ("s3.port", "master.port"):
            weed = exits.enter_context(ThreadingHTTPServer(("127.0.0.1", home.port(name)), Weed))
            threading.Thread(target=weed.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
            exits.callback(weed.shutdown)
        assert not s3.is_ready()
        known.append({"Id": "DefaultDataCenter"})
        assert s3.is_ready()


def test_the_store_behind_s3_refuses_unsigned_reads(own: EmbeddedServices) -> None:
    port = _port_of(own, "-filer.port=")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/buckets/eigenwerk/", timeout=5)
    with refused.value as error:
        assert error.code == 401


def _port_of(services: EmbeddedServices, flag: str) -> int:
    return next(int(word.removeprefix(flag)) for word in services.objects.process.argv if word.startswith(flag))


def test_rows_survive_a_killed_postgres(own: EmbeddedServices) -> None:
    query(own, "CREATE TABLE kept (value int)")
    query(own, "INSERT INTO kept VALUES (42)")
    own.postgres.kill()
    assert not own.postgres.alive()
    own.postgres.start()
    assert query(own, "SELECT value FROM kept") == [(42,)]


def test_keys_survive_a_killed_redis(own: EmbeddedServices) -> None:
    with redis.Redis.from_url(own.redis_url) as client:
        client.set("kept", "yes")
    own.redis.kill()
    own.redis.start()
    with redis.Redis.from_url(own.redis_url) as client:
        assert client.get("kept") == b"yes"


def test_the_bucket_survives_a_killed_object_store(own: EmbeddedServices) -> None:
    own.objects.kill()
    with pytest.raises(urllib.error.URLError):
        s3_status(own)
    own.objects.start()  # ready only when a signed request finds the bucket
    assert s3_status(own) == 403


def test_a_paused_redis_answers_again_when_resumed(own: EmbeddedServices) -> None:
    own.redis.pause()
    try:
        with (
            redis.Redis.from_url(own.redis_url, socket_timeout=0.2, retry=None) as client,
            pytest.raises(redis.TimeoutError),
        ):
            client.ping()
    finally:
        own.redis.resume()
    with redis.Redis.from_url(own.redis_url) as client:
        assert client.ping()


def test_two_platforms_on_one_home_are_refused(own: EmbeddedServices) -> None:
    with pytest.raises(EmbeddedError, match=rf"running on .* already \(pid {os.getpid()}\)"):
        EmbeddedServices(own.home.path).__enter__()
    assert query(own, "SELECT 1") == [(1,)]


def test_secrets_are_for_the_owner_only(own: EmbeddedServices) -> None:
    for name in ("secrets.json", "redis/redis.conf", "logs/postgres.log"):
        assert stat.S_IMODE((own.home.path / name).stat().st_mode) == 0o600
    for name in (".", "logs", "redis", "objects"):
        assert stat.S_IMODE((own.home.path / name).stat().st_mode) == 0o700
    for server in own.servers():
        command_line = Path(f"/proc/{server.pid}/cmdline").read_bytes().decode()
        for secret in ("postgres_password", "redis_password", "s3_secret_key"):
            assert own.home.secret(secret) not in command_line


def test_nothing_is_left_running_and_parents_keep_their_modes(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    parents = [closed, *closed.parents]
    before = [parent.stat().st_mode for parent in parents]
    embedded = EmbeddedServices(closed / "home", durable=False)
    with embedded:
        pids = [server.pid for server in embedded.servers()]
        query(embedded, "CREATE TABLE kept (value int)")
        secret = embedded.home.secret("postgres_password")
    assert all(pid is not None and gone(pid) for pid in pids)
    assert [parent.stat().st_mode for parent in parents] == before
    with embedded:  # the second start finds the same data under the same password
        assert query(embedded, "SELECT count(*) FROM kept") == [(0,)]
        assert embedded.home.secret("postgres_password") == secret
    data = place(embedded.home).folder
    embedded.remove_data()
    assert not data.exists()
    assert list(closed.iterdir()) == []


def test_the_servers_die_with_the_process_that_started_them(tmp_path: Path) -> None:
    home = tmp_path / "home"
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, str(home)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    with holder.stdout:
        pids = [int(pid) for pid in holder.stdout.readline().split()]
    holder.kill()
    holder.wait()
    assert len(pids) == 3
    assert all(gone(pid) for pid in pids)
    embedded = EmbeddedServices(home, durable=False)
    with embedded:
        assert query(embedded, "SELECT 1") == [(1,)]
    embedded.remove_data()


def test_a_server_that_cannot_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    embedded = EmbeddedServices(tmp_path / "home", durable=False)
    (embedded.home.folder("redis") / "appendonly.aof").write_text("not a log of commands\n")
    with pytest.raises(EmbeddedError, match=r"(?s)redis ended while starting.*Bad file format"):
        embedded.__enter__()
    embedded.remove_data()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run PostgreSQL as somebody else")
def test_root_places_the_database_where_its_user_can_reach_it(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    placement = place(home)
    assert placement.account is not None
    assert placement.account.uid != 0
    assert reachable(placement.folder, placement.account)
    assert not placement.folder.is_relative_to(home.path)
    assert place(home) == placement
    assert stat.S_IMODE(placement.folder.stat().st_mode) == 0o711
    EmbeddedServices(home.path).remove_data()
    assert not placement.folder.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run PostgreSQL as somebody else")
def test_a_copied_home_opens_no_database_of_the_original(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    placement = place(home)
    shutil.copytree(home.path, tmp_path / "copy", symlinks=True)
    copy = open_home(tmp_path / "copy")
    with pytest.raises(EmbeddedError, match=rf"copy is a copy: .* belongs to {home.path}\. .*eigenwerk backup"):
        place(copy)
    EmbeddedServices(copy.path).remove_data()
    assert placement.folder.exists()
    assert place(home) == placement

    # Moved, it is the same home; a copy that takes its old place is still a copy.
    home.path.rename(tmp_path / "moved")
    assert place(open_home(tmp_path / "moved")) == placement
    shutil.copytree(tmp_path / "moved", home.path, symlinks=True)
    with pytest.raises(EmbeddedError, match="is a copy"):
        place(open_home(home.path))
    EmbeddedServices(tmp_path / "moved").remove_data()
    assert not placement.folder.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run PostgreSQL as somebody else")
def test_a_copied_home_of_an_earlier_version_is_known_by_its_path(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    placement = place(home)
    (placement.folder / "home.json").unlink()
    (placement.folder / "home.txt").write_text(f"The database of {home.path}\n")
    shutil.copytree(home.path, tmp_path / "copy", symlinks=True)
    with pytest.raises(EmbeddedError, match=r"is a copy: .*home\.txt"):
        place(open_home(tmp_path / "copy"))
    assert place(home) == placement
    assert not (placement.folder / "home.txt").exists()
    EmbeddedServices(home.path).remove_data()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run PostgreSQL as somebody else")
def test_the_systems_folder_can_be_entered_whatever_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_placement, "_SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.setattr(postgres_placement, "reachable", lambda *_: True)
    before = os.umask(0o077)
    try:
        postgres_placement._own_folder(tmp_path / "system", "one", Account("nobody", 65534, 65534))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "system").stat().st_mode) == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run PostgreSQL as somebody else")
def test_programs_in_a_closed_folder_are_copied_and_the_folder_stays_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    wheel = postgres_placement.wheel_folder()
    for folder in (wheel, wheel.with_name(f"{wheel.name}.libs")):
        shutil.copytree(folder, closed / folder.name)
    monkeypatch.setattr(postgres_placement, "wheel_folder", lambda: closed / wheel.name)
    embedded = EmbeddedServices(tmp_path / "home", durable=False)
    with embedded:
        assert query(embedded, "SELECT 1") == [(1,)]
        assert not place(embedded.home).programs.is_relative_to(closed)
    embedded.remove_data()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_a_process_that_ignores_the_request_to_end_is_killed_with_its_group(tmp_path: Path) -> None:
    script = "trap '' TERM INT; sleep 600 & echo $!; while true; do sleep 0.05; done"
    process = ManagedProcess(
        name="stubborn",
        argv=("/bin/sh", "-c", script),
        environment={"PATH": os.defpath},
        directory=tmp_path,
        log=tmp_path / "log",
    )
    process.start()
    while not process.log_tail():
        time.sleep(0.01)
    process.stop(grace_s=0.2)
    assert not process.alive()
    assert gone(int(process.log_tail().split()[0]))


def test_free_ports_are_below_those_of_outgoing_connections() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    port = free_port(pair_offset=10000)
    assert 1024 < port < port + 10000 < max(lowest, 32768)
