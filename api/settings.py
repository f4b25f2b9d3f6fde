"""What the API must know beside the addresses of the parts. Read from EIGENWERK_* variables."""

from __future__ import annotations

import ipaddress
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from jobspecs.addresses import PUBLIC_ONLY, AddressRules
from jobspecs.limits import UNSAID, RequestLimits
from storage.settings import Settings, external_engine_origins, seconds, webhook_addresses, whole_number
from storage.tabular.formats import TABLE_BYTES_MAX, TABLE_ROWS_MAX

DEFAULT_PORT = 8480
GIB = 1024**3
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class ApiSettings:
    """Where the API listens, whom it answers, and its limits."""

    storage: Settings
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    #: Files of a certificate and its key, to be reached by https without a proxy in front.
    tls_cert: Path | None = None
    tls_key: Path | None = None
    #: The address under which people reach the API, such as https://eigenwerk.example.
    public_url: str | None = None
    #: Listen beyond loopback without a public URL, and answer to any Host.
    allow_public: bool = False
    #: More names that a Host header may carry.
    allowed_hosts: tuple[str, ...] = ()
    #: Largest data set file, in bytes as sent.
    dataset_bytes_max: int = 20 * GIB
    #: Content of a table, and of each file of several, when it is unpacked, in bytes; and rows of a data set.
    table_bytes_max: int = TABLE_BYTES_MAX
    table_rows_max: int = TABLE_ROWS_MAX
    #: Seconds of CPU that reading a compressed table may take for each megabyte of it as it was sent.
    table_seconds_per_mb: int = 20
    #: Largest file of an imported model, in bytes.
    model_file_bytes_max: int = 50 * GIB
    #: Data sets up to this size, in bytes as stored, are checked whole before a job is queued; larger ones by the job.
    check_bytes_max: int = 64 * 1024**2
    #: Seconds that the check of one data set may take; the job checks what is left.
    check_seconds_max: float = 15.0
    #: Where bodies are kept while they are received and checked.
    spool_dir: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))
    #: The object store as users see it, for presigned URLs. When absent, files are sent by the API, but to clients of
    #: the same machine where the store is on loopback.
    s3_public_endpoint: str | None = None
    #: The model hub whose references are resolved; no network is used when `hub_offline`.
    hub_endpoint: str = "https://huggingface.co"
    hub_token: str | None = field(default=None, repr=False)
    hub_offline: bool = False
    #: `scheme://host:port` of engines that somebody else runs and that may be registered.
    external_engines: frozenset[str] = frozenset()
    #: Where webhooks may lead; whoever sends has the same setting, and the last word.
    webhook_addresses: AddressRules = PUBLIC_ONLY
    #: What each user may ask of deployed models, unless an administrator says otherwise for one.
    request_limits: RequestLimits = UNSAID
    #: Seconds for which OpenAI's way to test a webhook waits for what comes of it: `workers.errands.sending.ANSWER_S`,
    #: and a look at the database before.
    webhook_test_s: float = 15.0
    #: Seconds between two comments on a quiet event stream, so that proxies keep it open.
    keep_alive_s: float = 15.0
    #: Seconds between two looks at PostgreSQL while somebody watches a job.
    watch_poll_s: float = 1.0
    #: Seconds that a request waits for a deployment that sleeps.
    wake_wait_s: float = 60.0

    def __post_init__(self) -> None:
        if not is_loopback(self.host) and not self.public_url and not self.allow_public:
            raise RuntimeError(
                f"EIGENWERK_API_HOST={self.host} is reachable from outside this machine. Set EIGENWERK_PUBLIC_URL to "
                "the https:// address under which people reach it, or EIGENWERK_ALLOW_PUBLIC=1 in a trusted network."
            )

        if (self.tls_cert is None) != (self.tls_key is None):
            raise RuntimeError("EIGENWERK_TLS_CERT and EIGENWERK_TLS_KEY belong together. Set both, or neither.")

    @property
    def hosts(self) -> frozenset[str] | None:
        """The names that a Host header may carry; None: any."""
        if self.allow_public and not self.public_url:
            return None
        public = urlsplit(self.public_url).hostname if self.public_url else None
        return frozenset({*_LOOPBACK_NAMES, self.host, *self.allowed_hosts, *([public] if public else [])})

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> ApiSettings:
        """Raises RuntimeError when a variable is missing, or when it would listen to the world by accident.

        ValueError, with the variable's name, for a value that can't be one.
        """
        values = os.environ if environment is None else environment
        spool = values.get("EIGENWERK_SPOOL_DIR")
        return cls(
            storage=Settings.from_environment(values),
            host=values.get("EIGENWERK_API_HOST", cls.host),
            port=whole_number(values, "EIGENWERK_API_PORT", cls.port),
            tls_cert=_path(values, "EIGENWERK_TLS_CERT"),
            tls_key=_path(values, "EIGENWERK_TLS_KEY"),
            public_url=values.get("EIGENWERK_PUBLIC_URL") or None,
            allow_public=values.get("EIGENWERK_ALLOW_PUBLIC") == "1",
            allowed_hosts=tuple(values.get("EIGENWERK_ALLOWED_HOSTS", "").replace(",", " ").split()),
            dataset_bytes_max=whole_number(values, "EIGENWERK_DATASET_BYTES_MAX", cls.dataset_bytes_max),
            table_bytes_max=whole_number(values, "EIGENWERK_TABLE_BYTES_MAX", cls.table_bytes_max),
            table_rows_max=whole_number(values, "EIGENWERK_TABLE_ROWS_MAX", cls.table_rows_max),
            table_seconds_per_mb=whole_number(values, "EIGENWERK_TABLE_SECONDS_PER_MB", cls.table_seconds_per_mb),
            model_file_bytes_max=whole_number(values, "EIGENWERK_MODEL_FILE_BYTES_MAX", cls.model_file_bytes_max),
            check_bytes_max=whole_number(values, "EIGENWERK_CHECK_BYTES_MAX", cls.check_bytes_max),
            check_seconds_max=seconds(values, "EIGENWERK_CHECK_SECONDS_MAX", cls.check_seconds_max),
            spool_dir=Path(spool or tempfile.gettempdir()),
            s3_public_endpoint=values.get("EIGENWERK_S3_PUBLIC_ENDPOINT") or None,
            hub_endpoint=values.get("HF_ENDPOINT", cls.hub_endpoint).rstrip("/"),
            # The operator's token reads private models: it serves every user only where the operator says so.
            hub_token=values.get("HF_TOKEN") if values.get("EIGENWERK_HUB_TOKEN_FOR_ALL") == "1" else None,
            hub_offline=values.get("HF_HUB_OFFLINE", "") in ("1", "true", "True"),
            wake_wait_s=seconds(values, "EIGENWERK_WAKE_WAIT_S", cls.wake_wait_s),
            external_engines=external_engine_origins(values),
            webhook_addresses=webhook_addresses(values),
            request_limits=RequestLimits(
                requests_per_minute=whole_number(values, "EIGENWERK_REQUESTS_PER_MINUTE", 0),
                tokens_per_minute=whole_number(values, "EIGENWERK_TOKENS_PER_MINUTE", 0),
                concurrent_requests=whole_number(values, "EIGENWERK_CONCURRENT_REQUESTS", 0),
            ),
        )


def _path(values: Mapping[str, str], name: str) -> Path | None:
    return Path(values[name]) if values.get(name) else None


def is_loopback(host: str) -> bool:
    """Whether the name or address is one of this machine that nobody else can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
