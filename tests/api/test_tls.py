"""The API with a certificate of its own, as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from api.__main__ import _try_certificate
from api.settings import ApiSettings
from deploy.embedded.api_address import ApiAddress
from deploy.embedded.processes import free_port
from tests.certificates import certificate_in
from tests.workers.inference.conftest import eventually


@pytest.fixture
def start(database_url: str, object_settings: dict[str, str], tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    def run(*arguments: object, port: int = 0) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "EIGENWERK_DATABASE_URL": database_url,
            "EIGENWERK_REDIS_URL": "redis://127.0.0.1:9",
            "EIGENWERK_S3_ENDPOINT": object_settings["endpoint_url"],
            "EIGENWERK_S3_ACCESS_KEY": object_settings["access_key"],
            "EIGENWERK_S3_SECRET_KEY": object_settings["secret_key"],
            "EIGENWERK_API_PORT": str(port),
            "EIGENWERK_SPOOL_DIR": str(tmp_path),
        }
        command = [sys.executable, "-m", "api", *map(str, arguments)]
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    return run


def test_the_api_serves_https_with_a_certificate_and_plain_http_no_more(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    cert_file, key_file = certificate_in(tmp_path / "ours")
    others, _ = certificate_in(tmp_path / "others")
    port = free_port()
    process = start("--tls-cert", cert_file, "--tls-key", key_file, port=port)
    try:
        eventually(ApiAddress("127.0.0.1", port, cert_file).is_alive, "the API answers")
        assert not ApiAddress("127.0.0.1", port, others).is_alive()
        assert not ApiAddress("127.0.0.1", port).is_alive()
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_a_key_of_another_certificate_is_named(api_settings: ApiSettings, tmp_path: Path) -> None:
    cert_file, _ = certificate_in(tmp_path / "ours")
    _, key_file = certificate_in(tmp_path / "others")
    with pytest.raises(ValueError, match=r"cert.pem and .*key.pem are no certificate with its key"):
        _try_certificate(ApiSettings(api_settings.storage, tls_cert=cert_file, tls_key=key_file))


def test_a_certificate_without_its_key_is_refused(api_settings: ApiSettings) -> None:
    with pytest.raises(RuntimeError, match="EIGENWERK_TLS_CERT and EIGENWERK_TLS_KEY"):
        ApiSettings(api_settings.storage, tls_cert=Path("cert.pem"))
