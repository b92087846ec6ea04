"""What every test may rely on: one thread, no network, a home of its own, and a toy world that trains in seconds."""

from __future__ import annotations

import os
import tempfile

# Before anything imports torch: bits depend on the number of threads, and the suite runs in parallel processes.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
_HOME = tempfile.TemporaryDirectory(prefix="understudy-tests-")
os.environ["UNDERSTUDY_HOME"] = os.path.join(_HOME.name, "understudy")
os.environ["HF_HOME"] = os.path.join(_HOME.name, "huggingface")
os.environ.pop("UNDERSTUDY_LOG", None)

import ipaddress  # noqa: E402
import socket  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import hypothesis  # noqa: E402
import pytest  # noqa: E402

# The same examples in every run, however slow the machine is: a suite that fails now and then teaches people to look away.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--renew-digests", action="store_true", help="write tests/conformance/digests.json anew")


class NetworkUsed(RuntimeError):
    """A test tried to reach another machine."""


def _is_local(address: object) -> bool:
    if not isinstance(address, tuple):
        return True  # AF_UNIX paths
    host = str(address[0])
    if host in ("", "localhost", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Connecting to anything but this machine, or asking a name server, fails the test."""
    connect, connect_ex, lookup = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guarded(original):
        def inner(self, address):
            if not _is_local(address):
                raise NetworkUsed(f"a test tried to connect to {address}")
            return original(self, address)

        return inner

    def guarded_lookup(host, *args, **kwargs):
        name = host.decode() if isinstance(host, bytes) else host
        if name is not None and not _is_local((name,)):
            raise NetworkUsed(f"a test tried to look up {name}")
        return lookup(host, *args, **kwargs)

    socket.socket.connect = guarded(connect)  # type: ignore[method-assign]
    socket.socket.connect_ex = guarded(connect_ex)  # type: ignore[method-assign]
    socket.getaddrinfo = guarded_lookup
    yield
    socket.socket.connect, socket.socket.connect_ex = connect, connect_ex  # type: ignore[method-assign]
    socket.getaddrinfo = lookup


@pytest.fixture(autouse=True)
def guess_times_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """`check` times steps of a second or so; for tests hundredths will do."""
    monkeypatch.setattr("understudy.probe._OPERATIONS", 5e8)


@pytest.fixture
def understudy_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty shared store for this test alone."""
    home = tmp_path / "understudy-home"
    monkeypatch.setenv("UNDERSTUDY_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def toy_tokenizer():
    """A word tokenizer of 64 entries, BERT's special tokens included."""
    from toys import tokenizer

    return tokenizer()


@pytest.fixture
def toy_bert():
    """A new two-layer BERT of width 32 with a two-class head, the same weights each time."""
    from toys import bert

    return bert()


@pytest.fixture(scope="session")
def toy_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder of the pretrained kind: the toy BERT's backbone and tokenizer, no task head."""
    from toys import save_checkpoint

    return save_checkpoint(tmp_path_factory.mktemp("toy") / "checkpoint")


@pytest.fixture(scope="session")
def toy_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.csv, dev.csv and test.csv: a two-class task (columns `body`, `mood`) a toy can learn."""
    from toys import save_csv

    return save_csv(tmp_path_factory.mktemp("toy") / "data")
