"""Credentials that expire midway: a clear end within a minute; with good ones the same command goes on."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from build_runs import ENDPOINT, contents, finished, manifests, start
from expected_ledgers import expected_ledgers
from faults_world import Undisturbed, build_here, storm_of_everything, write_small_config
from s3server.faults import FaultProxy, Refusal
from s3server.users import second_user
from servers import S3Server
from training_runs import Training, column, wait_for_steps

from weave_data.errors import StoreError
from weave_data.storage import open_source, open_store

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]

A_MINUTE = 60.0
EXPIRED = Refusal(400, "ExpiredToken")
REFUSALS = [EXPIRED, Refusal(403, "InvalidAccessKeyId"), Refusal(403, "TokenRefreshRequired")]
WORDS = r"refused the credentials \({code}\); renew .* run the same command again"


def test_a_build_whose_credentials_expire_stops_and_goes_on_with_good_ones(
    s3: S3Server, undisturbed: Undisturbed, own_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = f"{own_bucket}/woven"
    with FaultProxy(s3.endpoint) as proxy, monkeypatch.context() as patch:
        patch.setenv(ENDPOINT, proxy.endpoint)
        proxy.refuse_after(60, EXPIRED)
        begin = time.monotonic()
        with pytest.raises(StoreError, match=WORDS.format(code="ExpiredToken")) as caught:
            build_here(undisturbed.source, output)
        assert time.monotonic() - begin < A_MINUTE
        assert caught.value.exit_code == 3
        proxy.refusal = None
        assert build_here(undisturbed.source, output).files_reused > 0
    assert manifests(output) == undisturbed.manifests
    assert contents(output) == undisturbed.contents


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.code)
def test_every_kind_of_request_says_that_the_credentials_were_refused(
    s3: S3Server, own_bucket: str, monkeypatch: pytest.MonkeyPatch, refusal: Refusal
) -> None:
    store, source = open_store(own_bucket), open_source(own_bucket)
    store.put_new("a", b"data")
    with FaultProxy(s3.endpoint) as proxy, monkeypatch.context() as patch:
        patch.setenv(ENDPOINT, proxy.endpoint)
        proxy.refusal = refusal
        for ask in (
            lambda: store.head("a"),  # whose reply has no body to say why
            lambda: store.get("a"),
            lambda: store.put_new("b", b""),
            lambda: list(store.list("")),
            lambda: source.read("a"),
            lambda: source.size("a"),
        ):
            with pytest.raises(StoreError, match=WORDS.format(code=refusal.code)) as caught:
                ask()
            assert caught.value.is_refusal
            assert not caught.value.is_transient


@pytest.mark.process
def test_a_run_through_a_storm_whose_credentials_expire_resumes_with_an_exact_ledger(
    s3: S3Server, training: Training, own_bucket: str
) -> None:
    flags = ("--max_steps", "12", "--save_every_steps", "2", "--checkpoint.uri", f"{own_bucket}/run")
    with FaultProxy(s3.endpoint, stall_seconds=0.5) as proxy:
        proxy.storm = storm_of_everything(seed=5)
        process = training.begin("expired", *flags, **{ENDPOINT: proxy.endpoint})
        wait_for_steps(training.root / "expired", 4, process)
        proxy.refusal = EXPIRED
        began = time.monotonic()
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 3, errors
        assert time.monotonic() - began < A_MINUTE
        assert "refused the credentials (ExpiredToken)" in errors
        assert "Traceback" not in errors
        proxy.refusal = None
        again = training.begin("expired", *flags, **{ENDPOINT: proxy.endpoint})
        _, errors = again.communicate(timeout=600)
        assert again.returncode == 0, errors
        assert proxy.happened
    whole = training.root / "expired"
    assert column(whole, "Step") == list(range(1, 13))
    assert column(whole, "Ledger") == expected_ledgers(training, *flags, num_steps=12)


@pytest.mark.slow
@pytest.mark.process
def test_a_build_on_ray_whose_key_is_taken_away_stops_and_goes_on_when_it_is_back(
    real_s3: S3Server, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    user = second_user(real_s3)
    source, output = user.copy_of(undisturbed.source), f"s3://{user.new_bucket()}/woven"
    config = write_small_config(tmp_path, source, output, in_process=False)
    with FaultProxy(real_s3.endpoint) as counting:  # how far the build is
        environment = {**user.environment, ENDPOINT: counting.endpoint}
        process = start(config, **environment)
        deadline = time.monotonic() + 300
        while not any(method == "PUT" and "/frames/" in path for method, path, _ in counting.requests):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        user.lose_key()
        begin = time.monotonic()
        said = finished(process, code=3)
        assert time.monotonic() - begin < A_MINUTE
        assert "refused the credentials (InvalidAccessKeyId)" in said
        assert "Traceback" not in said
        user.get_key_back()
        finished(start(config, **environment))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in user.environment.items():
            patch.setenv(name, value)
        assert manifests(output) == undisturbed.manifests
        assert contents(output) == undisturbed.contents


@pytest.mark.slow
@pytest.mark.process
def test_two_ranks_whose_key_is_taken_away_stop_and_go_on_when_it_is_back(
    real_s3: S3Server, training: Training
) -> None:
    user = second_user(real_s3)
    ours = Training(f"{user.copy_of(training.manifest.rsplit('/', 2)[0])}/l4/manifest.json", training.root)
    flags = (
        *("--max_steps", "150", "--save_every_steps", "5", "--num_ranks", "2", "--feed.max_memory_mib", "1"),
        *("--checkpoint.uri", f"s3://{user.new_bucket()}/run"),
    )
    process = ours.begin("taken-away", *flags, **user.environment)
    wait_for_steps(ours.root / "taken-away", 6, process)
    user.lose_key()
    begin = time.monotonic()
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 3, errors
    assert time.monotonic() - begin < A_MINUTE
    assert "refused the credentials (InvalidAccessKeyId)" in errors
    user.get_key_back()
    again = ours.begin("taken-away", *flags, **user.environment)
    _, errors = again.communicate(timeout=900)
    assert again.returncode == 0, errors
    assert column(ours.root / "taken-away", "Step") == list(range(1, 151))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in user.environment.items():
            patch.setenv(name, value)
        expected = expected_ledgers(ours, *flags, num_steps=150)
    assert column(ours.root / "taken-away", "Ledger") == expected
