"""`weave-data submit CONFIG --address http://HEAD:8265`."""

from __future__ import annotations

import contextlib
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from weave_data.commands.interruption import interruptible
from weave_data.commands.terminal import INTERRUPTED, Debug, err, escape, one_line_errors, out

if TYPE_CHECKING:
    from weave_data.config import BuildConfig
    from weave_data.execute import Job

__all__ = ["register"]

ENDING_SECONDS = 9.0
"""From Ctrl-C to the end: the job has `STOP_SECONDS` to end by itself."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="submit")(_submit)


def _submit(
    config: Annotated[Path, typer.Argument(help="YAML configuration, as for `build`.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings as dotted.path=value.")] = None,
    *,
    address: Annotated[
        str, typer.Option("--address", envvar="RAY_API_SERVER_ADDRESS", help="The head's job server.")
    ] = "http://127.0.0.1:8265",
    runtime_env: Annotated[
        Path | None,
        typer.Option("--runtime-env", help="YAML of what the job's processes need; no credentials."),
    ] = None,
    working_dir: Annotated[
        Path | None,
        typer.Option("--working-dir", help="Folder to send; without it the configuration alone is sent."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Publish over a recipe built with other settings.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only the first clips of the catalog: a preview.")
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Name the job and leave; it goes on by itself.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Build on a Ray cluster: sends the configuration, shows the log, ends with the build's exit code."""
    command = [*(overrides or ()), *(["--replace"] if replace else ())]
    command += [] if limit is None else ["--limit", str(limit)]
    farewell = _Farewell(address)
    with (
        one_line_errors(debug=debug),
        interruptible(farewell, ending_seconds=ENDING_SECONDS, last_words=farewell.last_words),
    ):
        from weave_data.config import load_build_config
        from weave_data.execute import JobServer, make_job_spec, new_job_id, read_runtime_env

        _check_output(load_build_config(config, list(overrides or ())))
        with tempfile.TemporaryDirectory(prefix="weave-job-") as scratch:
            spec = make_job_spec(
                command,
                config=config,
                scratch=Path(scratch),
                working_dir=working_dir,
                runtime_env=read_runtime_env(runtime_env) if runtime_env else None,
            )
            server = JobServer(address)
            job = server.job(new_job_id())
            with farewell.stopping(job):
                server.submit(spec, job.job_id)
                err.print(escape(f"job {job.job_id} at {address}: {spec.entrypoint}"))
                if no_wait:
                    where = f"--address {shlex.quote(address)} {job.job_id}"
                    follow, stop = f"ray job logs --follow {where}", f"ray job stop {where}"
                    out.print(escape(f"follow it: {follow}"))
                    out.print(escape(f"stop it: {stop}"))
                    return
                code = job.follow(_write)
        if code == INTERRUPTED:
            err.print(escape(f"the job was stopped; continue with: {farewell.command}"))
        if code:
            raise typer.Exit(code)


class _Farewell:
    """What can be said when a signal comes, and what is done about the job then."""

    def __init__(self, address: str) -> None:
        self.command = shlex.join(["weave-data", *sys.argv[1:]])
        self._address = address
        self._job_id: str | None = None
        self._is_over = False

    def __call__(self) -> str:
        if self._job_id is None:
            return f"interrupted: nothing was submitted; start with: {self.command}"
        return (
            f"interrupted: stopping job {self._job_id}; what it committed stays, "
            f"continue with: {self.command}"
        )

    def last_words(self) -> str:
        """That the job may go on; empty when nothing is left to stop."""
        if self._job_id is None or self._is_over:
            return ""
        where = f"{self._job_id} --address {shlex.quote(self._address)}"
        return (
            f"job {self._job_id} may still run: look with `ray job status {where}`, "
            f"stop it with `ray job stop {where}`"
        )

    @contextlib.contextmanager
    def stopping(self, job: Job) -> Iterator[None]:
        """Stop the job when what is done with it is interrupted, and pass on what it says to its end."""
        from weave_data.errors import WeaveError

        self._job_id = job.job_id
        try:
            yield
        except KeyboardInterrupt:
            try:
                if job.stop():
                    job.follow(_write)
                else:
                    err.print(escape(f"job {job.job_id} had not been submitted yet"))
            except WeaveError as error:
                err.print(escape(str(error)))
                err.print(escape(self.last_words()))
            self._is_over = True
            raise


def _check_output(config: BuildConfig) -> None:
    from weave_data.errors import ConfigError

    output = config.output
    if "://" not in output and not Path(output).is_absolute():
        raise ConfigError(
            f"output: {output!r} is a relative path, on a cluster a folder that ends with the job; use "
            "s3://bucket/prefix, or an absolute path on storage that every node shares"
        )


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
