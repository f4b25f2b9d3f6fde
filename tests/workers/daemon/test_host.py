from __future__ import annotations

import pytest

from workers.daemon.host import HostConfig


def gpu_ids(**environment: str) -> tuple[str, ...]:
    return HostConfig.from_environment(environment).gpu_ids


@pytest.mark.parametrize(
    ("visible", "ids"),
    [
        ("2,3", ("2", "3")),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("1,-1,2", ("1",)),
        (" 0, GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", ("0", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6")),
        ("MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/2", ("MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/2",)),
    ],
)
def test_a_worker_counts_and_hands_out_only_the_gpus_that_it_may_see(visible: str, ids: tuple[str, ...]) -> None:
    assert gpu_ids(CUDA_VISIBLE_DEVICES=visible) == ids


def test_a_worker_may_offer_fewer_gpus_than_it_sees() -> None:
    assert gpu_ids(CUDA_VISIBLE_DEVICES="4,5,6", EIGENWERK_GPUS="2") == ("4", "5")
    assert gpu_ids(EIGENWERK_GPUS="2") == ("0", "1")


def test_a_worker_that_is_told_to_offer_more_gpus_than_it_sees_does_not_start() -> None:
    with pytest.raises(RuntimeError, match=r"EIGENWERK_GPUS=3.*shows 2"):
        gpu_ids(CUDA_VISIBLE_DEVICES="0,1", EIGENWERK_GPUS="3")


def test_a_gpu_that_is_named_twice_is_refused() -> None:
    with pytest.raises(RuntimeError, match="twice"):
        gpu_ids(CUDA_VISIBLE_DEVICES="0,0")
