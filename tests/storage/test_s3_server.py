"""The tests' own server: one per session, real where promised, loud where not."""

from __future__ import annotations

import threading

import pytest
import servers

pytestmark = pytest.mark.process


@pytest.fixture
def no_ceph(tmp_path, monkeypatch):
    """A machine where Ceph can't be installed."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for name, body in (("ceph-up", "echo 'no Ceph here' >&2; exit 3"), ("ceph-down", "exit 0")):
        (scripts / name).write_text(f"#!/bin/sh\n{body}\n")
        (scripts / name).chmod(0o755)
    monkeypatch.setattr(servers, "SCRIPTS", scripts)


def test_where_ceph_is_promised_its_absence_is_a_failure(no_ceph, tmp_path):
    for _ in range(2):  # the worker that tried, and one that waited
        with pytest.raises(servers.S3UnavailableError, match="CI=true promises .* no Ceph here"):
            servers.start_s3(tmp_path / "s3", require_ceph=True)
    assert servers.running_s3(tmp_path / "s3") is None


def test_elsewhere_one_stand_in_is_shared_by_all_workers_and_says_why(no_ceph, tmp_path):
    found = []
    start = lambda: found.append(servers.start_s3(tmp_path / "s3", require_ceph=False))  # noqa: E731
    workers = [threading.Thread(target=start) for _ in range(3)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(found) == 3
        assert len(set(found)) == 1
        assert found[0].kind == "moto"
        assert "no Ceph here" in found[0].reason
        assert found[0].new_bucket() != found[0].new_bucket()
    finally:
        servers.stop_s3(tmp_path / "s3")
