"""From operations to seconds: by what earlier jobs reached here, or by what such machines usually reach."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from jobspecs.estimate import Duration

#: Operations per second of one CPU thread in fp32: 50 to 60 GFLOP/s in large products of a core with AVX2, 235 of a
#: Zen 5 core with AVX-512 (`workers.local_models.linear`), a seventh of the former in small ones and on older machines.
CPU_RANGE = (8e9, 240e9)
#: Of one GPU: 20 TFLOP/s is a small card's share in fp32 or small batches, 300 what an H100 reaches in bf16 training.
GPU_RANGE = (20e12, 300e12)
#: Seconds of a job that are no computing: fetching, loading, tokenizing, saving.
_OVERHEAD_S = (4.0, 40.0)
#: Jobs of one kind and model differ by less than this from their median, and a busy host slows them.
_MEASURED_BAND = (0.75, 1.6)
#: On another model: small ones reach a seventh of the operations per second of large ones, and less on a busy host.
_OTHER_MODEL_BAND = (0.4, 4.0)


def duration_of(
    operations: float, gpus: int, speeds: Sequence[float] = (), other_speeds: Sequence[float] = ()
) -> Duration:
    """`speeds`: operations per second that finished jobs of this kind and model reached, overhead included;
    `other_speeds`: those of this kind on other models, which count where there are no `speeds`.
    """
    # What counts no operations is not as fast as what does.
    if operations and (measured := speeds or other_speeds):
        seconds = operations / median(measured)
        low, high = (seconds * factor for factor in (_MEASURED_BAND if speeds else _OTHER_MODEL_BAND))
        return Duration(low_s=round(low, 1), high_s=round(high, 1), basis="measured")
    slow, fast = GPU_RANGE if gpus else CPU_RANGE
    # A job uses one CPU thread, and one GPU so far.
    low, high = operations / fast + _OVERHEAD_S[0], operations / slow + _OVERHEAD_S[1]
    return Duration(low_s=round(low, 1), high_s=round(high, 1), basis="assumed")
