"""Where the platform's parts are and how patient it is. Read from EIGENWERK_* variables, never from a job."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from jobspecs.addresses import PUBLIC, AddressRules
from jobspecs.engines import origin_of
from storage.secret_box import KEY_VARIABLE, SecretBox

#: What says where the services are, and what has no default.
NEEDED = (
    *("EIGENWERK_DATABASE_URL", "EIGENWERK_REDIS_URL"),
    *("EIGENWERK_S3_ENDPOINT", "EIGENWERK_S3_ACCESS_KEY", "EIGENWERK_S3_SECRET_KEY"),
)
EXTERNAL_ENGINES = "EIGENWERK_EXTERNAL_ENGINES"
WEBHOOK_ADDRESSES = "EIGENWERK_WEBHOOK_ADDRESSES"
#: Whole numbers among the settings of all parts, and the least that each may be. They are looked at together, so that
#: `eigenwerk up` says at once what a worker would stumble over later.
_LEAST = {
    **{f"EIGENWERK_TABLE_{name}": 1 for name in ("BYTES_MAX", "ROWS_MAX", "SECONDS_PER_MB")},
    **{f"EIGENWERK_{name}": 1 for name in ("DATASET_BYTES_MAX", "MODEL_FILE_BYTES_MAX", "MEMORY_BYTES")},
    **{f"EIGENWERK_{name}": 0 for name in ("CACHE_BYTES_MAX", "SCRATCH_FREE_MIN_BYTES", "CHECK_BYTES_MAX")},
    **{f"EIGENWERK_{name}": 0 for name in ("API_PORT", "SLOTS", "GPUS", "ENGINE_THREADS", "TORCH_THREADS")},
    **{f"EIGENWERK_{name}": 0 for name in ("REQUESTS_PER_MINUTE", "TOKENS_PER_MINUTE", "CONCURRENT_REQUESTS")},
}


@dataclass(frozen=True)
class LeaseTimes:
    """How long a host may be silent. The order lease > self-fence > heartbeat is what makes the fence safe."""

    #: Seconds by the database's clock after which an unrenewed lease is void.
    lease_s: float = 60.0
    #: Seconds between renewals.
    heartbeat_s: float = 10.0
    #: Seconds by the host's monotonic clock without a renewal after which the host kills the child itself.
    self_fence_s: float = 45.0
    #: Seconds between SIGTERM and SIGKILL.
    kill_grace_s: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.heartbeat_s < self.self_fence_s < self.lease_s:
            raise ValueError(
                "EIGENWERK_HEARTBEAT_S must be above 0 and less than EIGENWERK_SELF_FENCE_S, and that less than "
                "EIGENWERK_LEASE_S; correct them, or unset them."
            )


@dataclass(frozen=True)
class Settings:
    """Addresses and secrets of the parts. `repr` shows no secret."""

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    s3_endpoint: str
    s3_access_key: str = field(repr=False)
    s3_secret_key: str = field(repr=False)
    #: Seals what users entrust to the platform; None: they can entrust nothing.
    secrets_key: str | None = field(default=None, repr=False)
    s3_bucket: str = "eigenwerk"
    s3_region: str = "us-east-1"
    #: Seconds between two looks at PostgreSQL when no hint comes.
    poll_s: float = 3.0
    #: Seconds without a heartbeat after which a leading scheduler is replaced. A look at the queue takes far less.
    leader_silent_s: float = 10.0
    #: Seconds for which the checkpoints of a failed or cancelled job are kept, so that it can be retried from them.
    checkpoints_kept_s: float = 7 * 24 * 3600.0
    lease: LeaseTimes = LeaseTimes()

    def secret_box(self) -> SecretBox | None:
        """Raises ValueError for a key that is none."""
        return SecretBox(self.secrets_key) if self.secrets_key else None

    @property
    def scheduler_lock_timeout_s(self) -> float:
        """How long a scheduler waits for a lock: one that waits must not look like one that hangs."""
        return self.leader_silent_s / 4

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Raises RuntimeError naming every variable that is missing, ValueError for a value that can't be one."""
        values = os.environ if environment is None else environment
        missing = [name for name in NEEDED if not values.get(name)]
        if missing:
            raise RuntimeError(f"{', '.join(missing)} not set. `eigenwerk up` sets them for the platform it starts.")
        for name in _LEAST:
            whole_number(values, name, 0)
        seconds(values, "EIGENWERK_CHECK_SECONDS_MAX", 0)
        default = LeaseTimes()
        return cls(
            database_url=values["EIGENWERK_DATABASE_URL"],
            redis_url=values["EIGENWERK_REDIS_URL"],
            s3_endpoint=values["EIGENWERK_S3_ENDPOINT"],
            s3_access_key=values["EIGENWERK_S3_ACCESS_KEY"],
            s3_secret_key=values["EIGENWERK_S3_SECRET_KEY"],
            secrets_key=values.get(KEY_VARIABLE) or None,
            s3_bucket=values.get("EIGENWERK_S3_BUCKET", cls.s3_bucket),
            s3_region=values.get("EIGENWERK_S3_REGION", cls.s3_region),
            poll_s=seconds(values, "EIGENWERK_POLL_S", cls.poll_s),
            leader_silent_s=seconds(values, "EIGENWERK_LEADER_SILENT_S", cls.leader_silent_s),
            checkpoints_kept_s=seconds(values, "EIGENWERK_CHECKPOINTS_KEPT_S", cls.checkpoints_kept_s),
            lease=LeaseTimes(
                lease_s=seconds(values, "EIGENWERK_LEASE_S", default.lease_s),
                heartbeat_s=seconds(values, "EIGENWERK_HEARTBEAT_S", default.heartbeat_s),
                self_fence_s=seconds(values, "EIGENWERK_SELF_FENCE_S", default.self_fence_s),
                kill_grace_s=seconds(values, "EIGENWERK_KILL_GRACE_S", default.kill_grace_s),
            ),
        )


def external_engine_origins(environment: Mapping[str, str] | None = None) -> frozenset[str]:
    """Where engines that somebody else runs may be: the addresses in EIGENWERK_EXTERNAL_ENGINES, by commas or blanks.

    Nowhere, unless an administrator says so: who registers an engine makes the platform ask that address. Raises
    ValueError for what is no address.
    """
    values = os.environ if environment is None else environment
    origins = []
    for word in values.get(EXTERNAL_ENGINES, "").replace(",", " ").split():
        try:
            origins.append(origin_of(word))
        except ValueError as error:
            raise ValueError(f"{EXTERNAL_ENGINES} names {word}: {error}.") from error
    return frozenset(origins)


def webhook_addresses(environment: Mapping[str, str] | None = None) -> AddressRules:
    """Where webhooks may lead: EIGENWERK_WEBHOOK_ADDRESSES, by commas or blanks; public addresses if it is absent.

    Raises ValueError for what is no network.
    """
    values = os.environ if environment is None else environment
    try:
        return AddressRules.parse(values.get(WEBHOOK_ADDRESSES, PUBLIC))
    except ValueError as error:
        raise ValueError(f"{WEBHOOK_ADDRESSES}: {error}.") from error


#: Of a line in the log of each process of the platform.
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
#: Seconds that answers in hand get when the process that gives them is told to end (EIGENWERK_DRAIN_S).
DRAIN_S = 120.0


def seconds(values: Mapping[str, str], name: str, default: float) -> float:
    """Raises ValueError, with the variable's name, for what is no number or below 0."""
    text = values.get(name)
    try:
        number = default if text is None else float(text)
    except ValueError:
        number = math.nan
    if not number >= 0:
        raise ValueError(f"{name}={text} is no number of seconds; correct the variable, or unset it.")
    return number


def whole_number(values: Mapping[str, str], name: str, default: int) -> int:
    """Of one of the variables of `_LEAST`; the default if it is absent or empty. Raises ValueError with its name."""
    text, least = values.get(name), _LEAST[name]
    try:
        number = int(text) if text else default
    except ValueError:
        number = least - 1
    if text and number < least:
        raise ValueError(
            f"{name}={text} is no whole number of at least {least} in digits; correct the variable, or unset it."
        )
    return number
