"""Builds as jobs of a Ray cluster, through its job server: submit, follow, stop, exit code."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from weave_data.errors import ConfigError, IncompleteError, SourceError
from weave_data.execute.job_spec import JobSpec

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

__all__ = ["Job", "JobServer", "new_job_id"]

STOPPED_CODE = 130
ANSWER_SECONDS = 20.0
"""Longest silence of the server in an answer to a question."""

SUBMIT_SECONDS = 120.0
"""The same where it has something to do: to store a folder, to start a job."""

POLL_SECONDS = 1.0
LOST_AFTER_SECONDS = 60.0
APPEARS_SECONDS = 3.0
"""A request to start a job that we did not wait for may still be on its way for so long."""

_NO_SUCH_JOB = "status code 404"
NEVER_BEGAN = {
    "RUNTIME_ENV_SETUP_FAILURE",
    "JOB_SUPERVISOR_ACTOR_START_TIMEOUT",
    "JOB_SUPERVISOR_ACTOR_START_FAILURE",
    "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE",
    "JOB_ENTRYPOINT_COMMAND_START_ERROR",
}
"""What Ray calls a job whose driver never ran."""


class JobServer:
    """A cluster's job server.

    Authentication is Ray's own: with `RAY_AUTH_MODE=token` the token of `RAY_AUTH_TOKEN`,
    `RAY_AUTH_TOKEN_PATH` or `~/.ray/auth_token` goes along with every request.

    Args:
        address: `http://HEAD:8265`.

    Raises:
        SourceError: Nobody answers there, or our token is refused.
    """

    def __init__(self, address: str) -> None:
        for name in ("ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging"):
            logging.getLogger(name).setLevel(logging.WARNING)
        # Ray prefers these variables to what it is told
        os.environ.pop("RAY_ADDRESS", None)
        os.environ["RAY_API_SERVER_ADDRESS"] = address
        self.address = address
        with _explained(address):
            self._client = _client(address)

    def job(self, job_id: str) -> Job:
        """The job of this name, which need not be there (yet)."""
        return Job(self._client, self.address, job_id)

    def submit(self, spec: JobSpec, job_id: str) -> Job:
        """Pack and send the folder, start the job.

        Args:
            spec: What to run.
            job_id: From `new_job_id`: known before, so that an interrupted submission can be stopped.

        Raises:
            ConfigError: The folder or the runtime environment is not acceptable to Ray.
            SourceError: The server does not answer or refuses.
        """
        with _explained(self.address):
            self._client.submit_job(
                entrypoint=spec.entrypoint, runtime_env=spec.runtime_env, submission_id=job_id
            )
        return self.job(job_id)


def new_job_id() -> str:
    """A name that no other job has."""
    return f"weave-{secrets.token_hex(6)}"


def _client(address: str) -> JobSubmissionClient:
    """Ray's client, which by itself would wait for ever for a head whose cable is pulled."""
    from ray.job_submission import JobSubmissionClient

    class Impatient(JobSubmissionClient):
        def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
            options.setdefault("timeout", ANSWER_SECONDS if method == "GET" else SUBMIT_SECONDS)
            return super()._do_request(method, endpoint, **options)

    return Impatient(address)


class Job:
    """A submitted job, and how much of its log was passed on."""

    def __init__(self, client: JobSubmissionClient, address: str, job_id: str) -> None:
        self.job_id = job_id
        self._client = client
        self._address = address
        self._num_passed = 0  # characters

    def follow(self, write: Callable[[str], None]) -> int:
        """Pass the log on as it grows, until the job ends; the exit code of its driver.

        A server that is away for less than a minute is asked again. Called again after an interruption it
        goes on where it was.

        Raises:
            IncompleteError: The driver did not end by itself: its node died, or the cluster or its job
                server is gone.
            SourceError: The job never began.
        """
        answered = time.monotonic()
        while True:
            try:
                info = self._client.get_job_info(self.job_id)
                log = self._client.get_job_logs(self.job_id)
            except (OSError, RuntimeError) as error:  # nobody, or a server that can't say
                if time.monotonic() - answered > LOST_AFTER_SECONDS:
                    raise IncompleteError(
                        f"job {self.job_id}: its server {self._address} is gone ({_one_line(error)}); "
                        "look with `ray job status` when it is back, or submit again: it does the rest"
                    ) from error
            else:
                answered = time.monotonic()
                fresh, self._num_passed = log[self._num_passed :], len(log)
                write(fresh)
                if info.status.is_terminal():
                    return self._exit_code(info)
            time.sleep(POLL_SECONDS)

    def stop(self) -> bool:
        """Ask the job to end; it has `STOP_SECONDS` to do so by itself.

        A submission that nobody waited for may still be on its way, so a job that is not there, or has no
        process yet, is asked for again during `APPEARS_SECONDS`.

        Returns:
            False where the job never came to be.

        Raises:
            SourceError: The server does not answer.
        """
        asked = time.monotonic()
        while True:
            is_last = time.monotonic() - asked > APPEARS_SECONDS
            with _explained(self._address):
                try:
                    is_stopping = self._client.stop_job(self.job_id)
                    if is_last or is_stopping or self._client.get_job_status(self.job_id).is_terminal():
                        return True
                except RuntimeError as error:
                    if _NO_SUCH_JOB not in str(error):
                        raise
                    if is_last:
                        return False
            time.sleep(POLL_SECONDS / 2)

    def _exit_code(self, info: Any) -> int:
        code: int | None = info.driver_exit_code
        if str(info.status) == "STOPPED":
            return STOPPED_CODE
        if code is not None:
            return 128 - code if code < 0 else code
        message = _one_line(info.message)
        if info.error_type in NEVER_BEGAN:
            raise SourceError(f"job {self.job_id} could not begin: {message}")
        raise IncompleteError(
            f"job {self.job_id}: its driver is gone: {message}; submit it again, it does the rest"
        )


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """Ray's errors as ours."""
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        raise SourceError(
            f"{address} refuses us: {str(error).splitlines()[0]}; set RAY_AUTH_MODE=token and the token "
            "of the cluster (RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token)"
        ) from error
    except OSError as error:
        raise SourceError(
            f"no Ray job server answers at {address} ({_one_line(error)}); give the head's dashboard, "
            "http://HEAD:8265, through a tunnel if need be (`ray dashboard FILE`, `kubectl port-forward`)"
        ) from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"Ray can't take this job: {_one_line(error)}") from error
    except RuntimeError as error:
        raise SourceError(f"{address} refused the job: {_one_line(error)}") from error


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:500]
