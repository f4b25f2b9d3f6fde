"""The files for containers: valid by their own linters, and saying what our processes understand."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.settings import ApiSettings
from deploy.compose.__main__ import GENERATED, write_secrets
from storage.settings import Settings
from workers.daemon.host import HostConfig

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "deploy" / "compose"
#: ${NAME}, ${NAME:-default}, ${NAME:?message}.
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<how>[-?])(?P<text>[^}]*))?\}")


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _parsed() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    return parsed


def _environment(service: str, variables: Mapping[str, str]) -> dict[str, str]:
    """What the service's processes see, as compose fills it in."""

    def value(match: re.Match[str]) -> str:
        if match["how"] == "?":
            return variables[match["name"]]
        return variables.get(match["name"]) or match["text"] or ""

    stated = _parsed()["services"][service]["environment"]
    return {name: _VARIABLE.sub(value, str(text)) for name, text in stated.items()}


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """Those of a fresh `.env`."""
    lines = write_secrets(tmp_path).read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_the_compose_files_keep_to_the_compose_specification() -> None:
    files = [str(path) for path in sorted(FOLDER.glob("compose*.yaml"))]
    command = [_program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    command = [_program("hadolint"), "--no-color", str(FOLDER / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and not done.stdout, done.stdout + done.stderr


def test_what_compose_demands_is_what_is_generated() -> None:
    demanded = re.findall(r"\$\{(\w+):\?", (FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    assert set(demanded) == set(GENERATED)
    secret = _parsed()["secrets"]["admin_token"]["environment"]
    assert secret == "EIGENWERK_ADMIN_TOKEN"


def test_secrets_are_their_owners_alone_and_never_overwritten(tmp_path: Path) -> None:
    path = write_secrets(tmp_path)
    before = path.read_text(encoding="utf-8")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    values = [line.partition("=")[2] for line in before.splitlines()]
    assert len(set(values)) == len(GENERATED) + 2 and all(len(value) >= 43 for value in values)
    with pytest.raises(FileExistsError):
        write_secrets(tmp_path)
    assert path.read_text(encoding="utf-8") == before


def test_the_api_reads_its_settings_from_compose(variables: dict[str, str]) -> None:
    settings = ApiSettings.from_environment(_environment("api", variables))
    assert (settings.host, settings.public_url) == ("0.0.0.0", "http://localhost:8480")  # noqa: S104
    assert settings.hosts is not None and {"localhost", "api"} <= settings.hosts
    assert settings.s3_public_endpoint is None
    assert variables["POSTGRES_PASSWORD"] in settings.storage.database_url


@pytest.mark.parametrize("service", ["scheduler", "errands", "worker", "inference", "migrate"])
def test_every_process_finds_the_services_in_compose(service: str, variables: dict[str, str]) -> None:
    settings = Settings.from_environment(_environment(service, variables))
    assert settings.s3_access_key == variables["MINIO_ROOT_USER"]
    assert settings.redis_url == f"redis://:{variables['REDIS_PASSWORD']}@redis:6379/0"


def test_worker_and_inference_worker_are_one_host_with_one_disk(variables: dict[str, str]) -> None:
    names = {HostConfig.from_environment(_environment(one, variables)).name for one in ("worker", "inference")}
    assert names == {"compose"}
    services = _parsed()["services"]
    assert services["worker"]["volumes"] == services["inference"]["volumes"]


def test_every_variable_of_ours_in_compose_is_one_that_the_code_reads(variables: dict[str, str]) -> None:
    folders = ("api", "storage", "workers", "deploy/embedded")
    source = "\n".join(
        path.read_text(encoding="utf-8") for folder in folders for path in (REPOSITORY / folder).rglob("*.py")
    )
    stated = {name for one in _parsed()["services"] for name in _parsed()["services"][one].get("environment", {})}
    ours = {name for name in stated if name.startswith("EIGENWERK_")} - {"EIGENWERK_DOMAIN"}
    assert len(ours) > 10
    unknown = [name for name in ours if not re.search(rf"\b{name}\b", source)]
    assert unknown == []


def test_the_image_holds_every_package() -> None:
    packages = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
        "packages"
    ]
    wanted = {name.removesuffix("*") for name in packages["find"]["include"]}
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert wanted | {"README.md", "constraints.txt", "pyproject.toml"} == sent


def test_foreign_images_are_named_with_a_version() -> None:
    images = {name: service["image"] for name, service in _parsed()["services"].items()}
    assert len(images) == len(_parsed()["services"])
    for image in images.values():
        assert re.search(r":[^/]*\d|:\$\{EIGENWERK_TAG", image), image
