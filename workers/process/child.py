"""The child: one attempt at one job, in a process forked from the zygote.

It knows no secret and no address. A spec and folders go in; JSON events, one per line, come out of a pipe.
SIGUSR1 asks it to write a checkpoint and stop; SIGTERM and SIGKILL end it. A job on several GPUs is run by processes
that the child forks; they share its group, so that these signals reach all.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from jobspecs.events import ChildEvent, FailureEvent
from jobspecs.kinds.base import SpecBase
from jobspecs.kinds.finetune_llm import FinetuneLlm
from jobspecs.lifecycle import Reason
from jobspecs.manifest import MANIFEST_NAME, Manifest
from jobspecs.problems import InvalidInput
from jobspecs.registry import JobSpec, parse_spec
from workers.daemon.process_control import die_with_parent
from workers.process.accelerate_config import accelerate_config, write_accelerate_config
from workers.process.child_task import EXIT_FAILED, EXIT_STOPPED, ChildTask
from workers.process.data_check import check_before_running
from workers.process.ranks import Tell, run_ranks
from workers.process.usage import Usage, add_usage
from workers.run.context import RankPlace, RunContext, RunFailed, RunStopped
from workers.run.failures import reason_of

Runner = Callable[[RunContext], Manifest]

#: Messages of a FailureEvent are cut here: a library may put a whole tensor into its error.
_MESSAGE_CHARS_MAX = 2000
#: Added to the score by which the kernel chooses what to kill when memory runs out: the child, never the worker.
_OOM_SCORE_ADJUSTMENT = 500


class _StopRequest:
    """Set by SIGUSR1. The zygote installs the handler before it forks, so that no signal is lost or deadly."""

    requested = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


STOP = _StopRequest()


class EventWriter:
    """Writes events to the pipe as whole lines, from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def __call__(self, event: ChildEvent) -> None:
        rest = memoryview(event.model_dump_json().encode() + b"\n")
        with self._lock:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]


def enter(zygote_pid: int, event_fd: int, log_fd: int) -> None:
    """Turns a fresh fork into a process of its own: session, descriptors, limits."""
    die_with_parent(zygote_pid)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    os.dup2(event_fd, 3)
    os.closerange(4, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    os.set_inheritable(3, False)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE_ADJUSTMENT), encoding="ascii")
    except OSError as error:
        sys.stderr.write(f"the out-of-memory score stays as it is: {error}\n")


def run(task: ChildTask, runners: Mapping[str, Runner], event_fd: int) -> int:
    """Runs the job and returns the exit code."""
    emit = EventWriter(event_fd)
    _log_to_stderr(logging.INFO)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(task.gpus)
    os.chdir(task.work_dir)

    def work() -> int:
        spec = _parsed(task)
        if spec.processes > 1:
            return _run_together(task, spec, runners, emit)
        _run_job(task, spec, runners, emit, None)
        return 0

    return _outcome(work, emit)


def _parsed(task: ChildTask) -> JobSpec:
    try:
        return parse_spec(task.spec)
    except InvalidInput as error:
        # It was valid when it was submitted: the worker is of another version than the API.
        raise RunFailed(Reason.host_defect, f"This worker does not know such a spec: {error}") from error


def _run_together(task: ChildTask, spec: SpecBase, runners: Mapping[str, Runner], emit: EventWriter) -> int:
    if not isinstance(spec, FinetuneLlm):
        raise RunFailed(Reason.internal_error, f"{spec.kind} can't run in several processes.")
    on_cpu = not task.gpus
    config, meeting_file = task.work_dir / "accelerate.yaml", task.work_dir / "ranks"
    write_accelerate_config(config, accelerate_config(spec.training, spec.processes, on_cpu=on_cpu))

    def body(rank: int, tell: Tell) -> int:
        if rank:
            _log_to_stderr(logging.WARNING, f"[rank {rank}] ")
        place = RankPlace(rank, spec.processes, spec.training.distributed, on_cpu, config, meeting_file)
        speak = emit if rank == 0 else _say_nothing

        def work() -> int:
            _run_job(task, spec, runners, speak, place)
            return 0

        return _outcome(work, tell)

    return run_ranks(spec.processes, body, emit)


def _run_job(
    task: ChildTask,
    spec: SpecBase,
    runners: Mapping[str, Runner],
    emit: Callable[[ChildEvent], None],
    place: RankPlace | None,
) -> None:
    runner = runners.get(spec.kind)
    if runner is None:
        raise RunFailed(Reason.host_defect, f"This worker has no runner for {spec.kind!r}.")
    usage, leads = Usage(), place is None or place.rank == 0
    context = _context(task, spec, emit, place)
    if leads and not task.checked:
        check_before_running(context)
    runner(context)
    if not (task.output_dir / MANIFEST_NAME).is_file():
        raise RunFailed(Reason.internal_error, "The runner ended without a manifest.")
    if leads:
        add_usage(task.output_dir, usage, task.estimate, resumed=task.resume_from is not None)


def _context(
    task: ChildTask, spec: SpecBase, emit: Callable[[ChildEvent], None], place: RankPlace | None
) -> RunContext:
    return RunContext(
        spec=spec,
        dataset_path=task.dataset_path,
        dataset_dialect=task.dataset_dialect,
        held_out_path=task.held_out_path,
        held_out_dialect=task.held_out_dialect,
        test_path=task.test_path,
        test_dialect=task.test_dialect,
        datasets=task.datasets,
        model_dir=task.model_dir,
        models=task.models,
        origins=task.origins,
        output_dir=task.output_dir,
        checkpoints_dir=task.checkpoints_dir,
        resume_from=task.resume_from,
        emit=emit,
        stop_requested=lambda: STOP.requested,
        place=place,
    )


def _outcome(work: Callable[[], int], tell: Tell) -> int:
    """The exit code of `work`, or the one that says what it raised; `tell` takes the reason."""
    try:
        return work()
    except RunStopped:
        return EXIT_STOPPED
    # Everything that a runner can raise must become a reason; nobody above could do better.
    except Exception as error:
        reason, message = reason_of(error)
        if not isinstance(error, RunFailed):
            traceback.print_exc()
        tell(FailureEvent(reason=reason, message=message[:_MESSAGE_CHARS_MAX]))
        return EXIT_FAILED


def _log_to_stderr(level: int, prefix: str = "") -> None:
    logging.basicConfig(
        level=level, stream=sys.stderr, format=f"{prefix}%(levelname)s %(name)s: %(message)s", force=True
    )


def _say_nothing(event: ChildEvent) -> None:
    """Events of a process that is not the main one: it does the same as the main one does."""
