"""Runs the command line many times for the price of one import: a process that has loaded everything forks for each run.

Started by `runs.Launcher`. Reads one job per line of stdin, as JSON, and answers on stdout with the pid of the child as
soon as it lives, and with how it ended as soon as it is dead. A job may ask to be killed, from outside and by SIGKILL,
when the child has used so much processor time: a moment that does not depend on how busy the machine is.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

LAZY = [
    "accelerate", "accelerate.tracking", "jinja2", "safetensors.numpy", "safetensors.torch", "scipy.stats",
    "sklearn.metrics", "torch._dynamo", "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert", "transformers.models.bert.tokenization_bert",
    "understudy.check", "understudy.cli", "understudy.run",
]  # fmt: skip
"""What a run imports when it gets there; here it is imported before the first fork."""


def install_fault(fault: dict[str, Any]) -> None:
    """Make `disk.fault` write down, kill or fail at a disk operation.

    Keys: `log` (a file that gets every operation), `match` (a pattern looked for in "operation path"), `at` (which
    match, from 0), `do` ("kill", "term", "int", or the name of an errno), `again` (a pattern: where to do it once more).
    """
    import errno
    import re

    from understudy.base import disk

    seen = done = 0
    log = open(fault["log"], "a", buffering=1) if "log" in fault else None  # noqa: SIM115 lives as long as the process
    wanted = re.compile(fault.get("match", ""))

    def hook(name: str, path: Path) -> None:
        nonlocal seen, done
        if log:
            log.write(f"{name} {path}\n")
        if done == 1 and "again" in fault and re.search(fault["again"], f"{name} {path}"):
            done += 1
        elif "do" in fault and done == 0 and wanted.search(f"{name} {path}"):
            seen += 1
            if seen - 1 != fault.get("at", 0):
                return
            done += 1
        else:
            return
        signals = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}
        if fault["do"] in signals:
            os.kill(os.getpid(), signals[fault["do"]])
            return
        number = getattr(errno, fault["do"])
        raise OSError(number, os.strerror(number), str(path))

    disk.fault = hook


def child(job: dict[str, Any]) -> None:
    """Become the command; never returns."""
    os.environ.update(job.get("env", {}))
    os.chdir(job["cwd"])
    for number, name in ((1, "stdout"), (2, "stderr")):
        handle = os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(handle, number)
    faulthandler.dump_traceback_later(900, exit=True)  # a command that hangs says where
    if "file_bytes" in job:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_bytes"], job["file_bytes"]))
    if "fault" in job:
        install_fault(job["fault"])
    if "bug" in job:
        module, _, name = job["bug"].partition(":")
        setattr(importlib.import_module(module), name, lambda *_: 1 // 0)
    from understudy.cli import main

    sys.argv = ["understudy", *job["arguments"]]
    code: Any = 0
    try:
        main()
    except SystemExit as leaving:
        code = leaving.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def serve() -> None:
    for name in LAZY:
        importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    answers.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            answers.close()
            try:
                child(job)
            finally:
                os._exit(99)
        answers.write(json.dumps({"pid": pid}) + "\n")
        limit = job.get("kill_after_cpu")
        while True:
            done, status, usage = os.wait4(pid, 0 if limit is None else os.WNOHANG)
            if done:
                break
            if cpu_seconds(pid) >= limit:
                os.kill(pid, signal.SIGKILL)
                limit = float("inf")
            time.sleep(0.001)
        cpu = usage.ru_utime + usage.ru_stime
        answers.write(json.dumps({"code": os.waitstatus_to_exitcode(status), "cpu": cpu}) + "\n")


if __name__ == "__main__":
    serve()
    os._exit(0)  # nothing to tidy up, and libraries take their time to do it
