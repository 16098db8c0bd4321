"""Threads and interfaces that a rank chooses are the same under every launcher."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import psutil
import pytest
import torch

from weave_train.placement import address_towards, choose_interface, choose_threads, local_world_size

LAUNCHERS = (
    *("TORCHELASTIC_RUN_ID", "RAY_JOB_ID", "OMP_NUM_THREADS"),
    *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_SIZE"),
)


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (*LAUNCHERS, "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "unset")
        monkeypatch.delenv(name)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("variables", "asked_for", "threads"),
    [
        ({"LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x", "OMP_NUM_THREADS": "1"}, None, 4),
        ({"LOCAL_SIZE": "2"}, None, 4),  # deepspeed
        ({"LOCAL_WORLD_SIZE": "2", "RAY_JOB_ID": "x", "OMP_NUM_THREADS": "1"}, None, 4),
        ({"LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x", "OMP_NUM_THREADS": "3"}, None, 3),
        ({"LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}, None, 1),
        ({"LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}, 5, 5),
        ({"LOCAL_WORLD_SIZE": "100"}, None, 1),
        ({}, None, 8),
    ],
)
def test_launchers_defaults_do_not_count(variables, asked_for, threads, monkeypatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    choose_threads(asked_for)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(("has_gpus", "threads"), [(False, [2, 2, 2]), (True, [2, 4, 8])])
def test_losses_are_rounded_alike_wherever_four_ranks_are_and_gpus_share_their_own_cores(
    has_gpus, threads, monkeypatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpus)
    monkeypatch.setenv("WORLD_SIZE", "4")
    chosen = []
    for local in ("4", "2", "1"):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
        choose_threads(None)
        chosen.append(torch.get_num_threads())
    assert chosen == threads


def test_deepspeed_counts_local_ranks_under_another_name(monkeypatch) -> None:
    monkeypatch.setenv("LOCAL_SIZE", "4")
    assert local_world_size() == 4


def test_an_interface_asked_for_is_everybodys(monkeypatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "other")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "other")
    choose_interface("ib0", towards="127.0.0.1")
    assert os.environ["GLOO_SOCKET_IFNAME"] == os.environ["NCCL_SOCKET_IFNAME"] == "ib0"


def test_no_interface_is_chosen_within_one_host_or_where_one_is_set(monkeypatch) -> None:
    choose_interface(None, towards="localhost")
    assert "GLOO_SOCKET_IFNAME" not in os.environ
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "mine")
    choose_interface(None, towards=_own_address())
    assert os.environ["GLOO_SOCKET_IFNAME"] == "mine"


def test_the_interface_that_leads_to_the_first_host_is_chosen() -> None:
    address = _own_address()
    choose_interface(None, towards=address)
    chosen = os.environ["GLOO_SOCKET_IFNAME"]
    assert address in {item.address for item in psutil.net_if_addrs()[chosen]}
    assert address_towards("no-such-host.invalid") is None


def _own_address() -> str:
    for items in psutil.net_if_addrs().values():
        for item in items:
            if item.family == socket.AF_INET and not item.address.startswith("127."):
                return str(item.address)
    pytest.skip("this machine has no network interface beside the loopback")
