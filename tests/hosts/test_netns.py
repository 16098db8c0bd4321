"""The hosts that other tests stand on: apart, known by name, gone afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from netns import MAX_HOSTS, virtual_hosts
from servers import S3Server

pytestmark = pytest.mark.process

WAIT_SECONDS = 60


def names_and_addresses() -> str:
    listed = (["ip", "netns"], ["ip", "-o", "link"], ["ip", "-o", "address"])
    return "".join(subprocess.check_output(command, text=True) for command in listed)


def python(script: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", script, *arguments]


SERVE = """
import socket, sys
with socket.create_server((sys.argv[1], 7000)) as server:
    print("listening", flush=True)
    while True:
        peer, address = server.accept()
        peer.sendall(f"{socket.gethostname()} saw {address[0]}".encode())
        peer.close()
"""
ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], 7000), timeout=float(sys.argv[2])) as peer:
    print(peer.recv(100).decode())
"""


def test_hosts_reach_one_another_by_name_and_vanish_with_their_processes() -> None:
    with virtual_hosts(3) as network:
        first, second, third = network.hosts
        assert first.address != second.address
        server = second.start(python(SERVE, "0.0.0.0"), stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        assert server.stdout.readline() == "listening\n"
        answer = first.run(python(ASK, "host1", "10"))
        assert answer.stdout == f"host1 saw {first.address}\n", answer.stderr
        assert third.run(["hostname"]).stdout == "host2\n"
        assert server.pid in second.process_ids()
        assert not third.process_ids()
        tag = first.namespace.removesuffix("h0")
        assert tag in names_and_addresses()
    assert server.poll() == -9
    assert tag not in names_and_addresses()
    assert not (Path("/etc/netns") / first.namespace).exists()


def test_a_host_that_is_unplugged_is_silent_until_it_is_plugged_in() -> None:
    with virtual_hosts(2) as network:
        first, second = network.hosts
        server = second.start(python(SERVE, second.address), stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        server.stdout.readline()
        second.unplug()
        assert first.run(python(ASK, "host1", "1")).returncode != 0
        assert server.poll() is None
        second.plug()
        deadline = time.monotonic() + WAIT_SECONDS
        while first.run(python(ASK, "host1", "1")).returncode:
            assert time.monotonic() < deadline


def test_two_networks_at_once_are_apart_and_nothing_outside_is_reached() -> None:
    with virtual_hosts(1) as one, virtual_hosts(MAX_HOSTS) as other:
        assert len({host.address for host in (*one.hosts, *other.hosts)} | {one.address, other.address}) == 16
        server = other.hosts[-1].start(python(SERVE, "0.0.0.0"), stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        server.stdout.readline()
        asked = one.hosts[0].run(python(ASK, other.hosts[-1].address, "5"))
        assert "Network is unreachable" in asked.stderr


@pytest.mark.server
@pytest.mark.xdist_group("hosts")
def test_hosts_read_and_write_the_store_of_the_session(s3: S3Server) -> None:
    script = """
import json, sys
from weave_data.storage import open_store
store = open_store(sys.argv[1])
store.check(write=True)
store.put_new(sys.argv[2], bytes(3_000_000))
print(json.dumps([len(store.get(sys.argv[2])), sorted(item.key for item in store.list("h"))]))
"""
    uri = f"s3://{s3.new_bucket()}/out"
    with virtual_hosts(2) as network, network.store(s3) as environment:
        for host in network.hosts:
            done = host.run(python(script, uri, host.name), env={**os.environ, **environment})
            assert done.returncode == 0, done.stderr
        size, listed = json.loads(done.stdout)
    assert size == 3_000_000
    assert listed == ["host0", "host1"]
