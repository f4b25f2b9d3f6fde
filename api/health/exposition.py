"""The platform's figures as Prometheus's metrics. Names, labels and units are a contract:
alerts and dashboards use them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate, product

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from api.health.figures import Figures, HostFigures
from api.health.service import SCHEDULER_SILENT_S
from jobspecs.hosts import HostReason
from jobspecs.lifecycle import REASONS, JobState
from jobspecs.tasks import SERVED_TASKS, TEXT_GENERATION
from storage.repositories.serving.answers import ANSWER_BUCKETS_S
from storage.repositories.tallies import DURATION_BUCKETS_S, Total
from storage.tables import AnswerCountRow

_DEPLOYMENT_STATES = ("pending", "starting", "ready", "asleep", "failed", "lost")
#: Ends of attempts that show 0 until the first: of a series that begins with 1 no rule sees that it has risen.
_ATTEMPT_ENDS = (
    ("succeeded", ""),
    ("cancelled", "cancelled_by_user"),
    ("paused", "paused_by_user"),
    *((("queued" if rule.retried else "failed"), reason.value) for reason, rule in REASONS.items()),
)
_HOST_STATES = (
    *(("accepting", ""), ("serving", ""), ("silent", "")),
    *product(("refusing",), [reason.value for reason in HostReason]),
)
_OF_HOSTS: tuple[tuple[str, str, Callable[[HostFigures], int]], ...] = (
    ("eigenwerk_host_slots", "Jobs that the host takes at once.", lambda host: host.slots),
    ("eigenwerk_host_slots_used", "Slots that jobs take.", lambda host: host.slots_used),
    ("eigenwerk_host_gpus", "GPUs of the host.", lambda host: host.gpus),
    ("eigenwerk_host_gpus_used", "GPUs that jobs and deployments take.", lambda host: host.gpus_used),
)


def exposition(figures: Figures) -> bytes:
    """The text format."""
    registry = CollectorRegistry()
    registry.register(_Platform(figures))
    return generate_latest(registry)


class _Platform(Collector):
    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def describe(self) -> Iterable[Metric]:
        # Names need not be compared: there is nothing else in the registry.
        return []

    def collect(self) -> Iterator[Metric]:
        yield from _queue(self._figures)
        yield from _scheduler(self._figures)
        yield from _hosts(self._figures.hosts)
        yield from _counted(self._figures.totals)
        yield from _answers(self._figures.answers)


def _queue(figures: Figures) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("eigenwerk_jobs", "Jobs by state.", labels=("state",))
    for state in JobState:
        jobs.add_metric((state.value,), figures.jobs.get(state.value, 0))
    yield jobs
    yield GaugeMetricFamily(
        "eigenwerk_queue_age_seconds",
        "Time since the job that waits longest came into the queue, for the last time.",
        figures.queue_age_s,
    )
    yield GaugeMetricFamily("eigenwerk_outbox_unsent", "Messages that were not sent yet.", figures.outbox_unsent)
    deployments = GaugeMetricFamily(
        "eigenwerk_deployments",
        "Deployments that are wanted, by state; lost: the worker that served it is silent.",
        labels=("state",),
    )
    for name in _DEPLOYMENT_STATES:
        deployments.add_metric((name,), figures.deployments.get(name, 0))
    yield deployments


def _scheduler(figures: Figures) -> Iterator[Metric]:
    leader = figures.leader
    leads = leader is not None and leader.silent_for_s <= SCHEDULER_SILENT_S
    yield GaugeMetricFamily("eigenwerk_scheduler_leading", "1 when a scheduler looks at the queue, else 0.", leads)
    if leader is not None:
        text = "Time since the leading scheduler last looked at the queue."
        yield GaugeMetricFamily("eigenwerk_scheduler_silent_seconds", text, leader.silent_for_s)
        text = "Time since the newest leading scheduler began to lead."
        yield GaugeMetricFamily("eigenwerk_scheduler_leads_seconds", text, leader.leads_for_s)
    ticks, ticks_s = (0, 0.0) if leader is None else (leader.ticks, leader.ticks_s)
    yield SummaryMetricFamily("eigenwerk_scheduler_tick_seconds", "Looks at the queue.", ticks, ticks_s)


def _hosts(hosts: Iterable[HostFigures]) -> Iterator[Metric]:
    """Hosts that are silent offer nothing; when they were heard of last is told of all."""
    by_state: dict[tuple[str, str], int] = dict.fromkeys(_HOST_STATES, 0)
    silent = GaugeMetricFamily(
        "eigenwerk_host_silent_seconds",
        "Time since the host was last heard of; after a week it is forgotten.",
        labels=("host",),
    )
    free = GaugeMetricFamily(
        "eigenwerk_host_scratch_free_bytes", "Free on the disk of the host's scratch folder.", labels=("host",)
    )
    offers = [(GaugeMetricFamily(name, text, labels=("host",)), value) for name, text, value in _OF_HOSTS]
    for host in hosts:
        by_state[host.state, host.reason] = by_state.get((host.state, host.reason), 0) + 1
        silent.add_metric((host.name,), host.silent_for_s)
        if host.state == "silent":
            continue
        if host.scratch_free_bytes is not None:
            free.add_metric((host.name,), host.scratch_free_bytes)
        for family, value in offers:
            family.add_metric((host.name,), value(host))
    states = GaugeMetricFamily(
        "eigenwerk_hosts",
        "Hosts seen within a week: accepting jobs, refusing them (and why), only serving, or silent.",
        labels=("state", "reason"),
    )
    for key, count in by_state.items():
        states.add_metric(key, count)
    yield from (states, silent, free)
    yield from (family for family, _ in offers)


def _counted(totals: Iterable[Total]) -> Iterator[Metric]:
    by_event: dict[str, list[Total]] = defaultdict(list)
    for total in totals:
        by_event[total.event].append(total)
    yield _counter("eigenwerk_jobs_submitted", "Jobs by kind.", by_event["job_submitted"], ("kind",))
    text = "Jobs that have ended, by kind, state and reason."
    yield _counter("eigenwerk_jobs_ended", text, by_event["job_ended"], ("kind", "state", "reason"))
    yield _durations(by_event["job_ended"])
    text = "Attempts that got a place, by the job's kind."
    yield _counter("eigenwerk_attempts_started", text, by_event["attempt_started"], ("kind",))
    yield _counter(
        "eigenwerk_attempts_ended",
        "Attempts that have ended, by the state that the job went to, and why.",
        by_event["attempt_ended"],
        ("state", "reason"),
        zeros=_ATTEMPT_ENDS,
    )
    text = "Attempts whose worker did not renew the lease."
    yield _counter("eigenwerk_lease_expiries", text, by_event["lease_expired"])
    yield _tokens(by_event)


def _answers(answers: Iterable[tuple[str, AnswerCountRow]]) -> Iterator[Metric]:
    """How deployments answer; with a candidate, the old version and the new one."""
    labels = ("owner", "deployment", "model")
    errors = CounterMetricFamily(
        "eigenwerk_answer_errors", "Requests that a deployed version failed to answer, or broke off.", labels=labels
    )
    times = HistogramMetricFamily(
        "eigenwerk_answer_seconds",
        "Until a deployed version had answered, or its stream had begun; requests that failed included.",
        labels=labels,
    )
    counts: dict[tuple[str, ...], dict[float, int]] = defaultdict(lambda: dict.fromkeys(ANSWER_BUCKETS_S, 0))
    sums_s: dict[tuple[str, ...], float] = defaultdict(float)
    failed: dict[tuple[str, ...], int] = defaultdict(int)
    for owner, row in answers:
        key = owner, row.deployment, row.model
        counts[key][row.seconds_max] += row.count
        sums_s[key] += row.seconds
        failed[key] += row.count if row.failed else 0
    for version, by_bucket in counts.items():
        times.add_metric(version, _cumulated(by_bucket), sums_s[version])
        errors.add_metric(version, failed[version])
    yield from (times, errors)


def _tokens(by_event: Mapping[str, Iterable[Total]]) -> CounterMetricFamily:
    text = "Tokens that deployed models have read and written, by the model's task."
    counts = {("prompt", task): 0 for task in SERVED_TASKS} | {("generated", TEXT_GENERATION.name): 0}
    for direction in ("prompt", "generated"):
        for total in by_event.get(f"{direction}_tokens", ()):
            counts[direction, total.kind] = counts.get((direction, total.kind), 0) + total.count
    family = CounterMetricFamily("eigenwerk_tokens", text, labels=("direction", "task"))
    for key, count in counts.items():
        family.add_metric(key, count)
    return family


def _counter(
    name: str, text: str, totals: Iterable[Total], labels: tuple[str, ...] = (), zeros: Iterable[tuple[str, ...]] = ()
) -> CounterMetricFamily:
    counts: dict[tuple[str, ...], int] = dict.fromkeys(zeros if labels else [()], 0)
    for total in totals:
        key = tuple(str(getattr(total, label)) for label in labels)
        counts[key] = counts.get(key, 0) + total.count
    family = CounterMetricFamily(name, text, labels=labels)
    for key, count in counts.items():
        family.add_metric(key, count)
    return family


def _durations(ended: Iterable[Total]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(
        "eigenwerk_job_duration_seconds",
        "From a job's first place to its end; further attempts, and waiting between them, included.",
        labels=("kind", "state"),
    )
    counts: dict[tuple[str, str], dict[float, int]] = defaultdict(lambda: dict.fromkeys(DURATION_BUCKETS_S, 0))
    sums_s: dict[tuple[str, str], float] = defaultdict(float)
    for total in ended:
        # Null: it ended in the queue.
        if total.seconds_max is not None:
            counts[total.kind, total.state][total.seconds_max] += total.count
            sums_s[total.kind, total.state] += total.seconds
    for key, by_bucket in counts.items():
        family.add_metric(key, _cumulated(by_bucket), sums_s[key])
    return family


def _cumulated(by_bucket: Mapping[float, int]) -> list[tuple[str, float]]:
    names = ("+Inf" if bound_s == float("inf") else str(bound_s) for bound_s in by_bucket)
    return list(zip(names, accumulate(by_bucket.values()), strict=True))
