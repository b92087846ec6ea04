"""The only file that writes, renames and syncs.

A file appears whole or not at all; a checkpoint is a directory that appears by one rename, with a manifest of checksums
inside it. `latest_valid` is the only way to find "the last one". Every write, sync and rename passes `_op`, so that a
test can fail or kill the process at each of them (`fault`).

Source of the rules: promises R1, R3, R4, R17 in docs/reliability.md.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import xxhash

from understudy.base.errors import ResourceError, UnderstudyError, VerifyError
from understudy.base.home import home

MANIFEST = "manifest.json"

fault: Callable[[str, Path], None] | None = None
"""Test hook: called before and after each operation with its name ("before-rename", …) and path."""


@contextmanager
def _op(name: str, path: Path) -> Iterator[None]:
    """One disk operation: fault points around it, operating-system errors in words."""
    try:
        if fault:
            fault(f"before-{name}", path)
        yield
        if fault:
            fault(f"after-{name}", path)
    except OSError as error:
        raise explain(error, path) from error


def explain(error: OSError, path: Path) -> ResourceError:
    where = path if _exists(path) else path.parent
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        try:
            free = f"{shutil.disk_usage(_existing(path)).free / 1e6:,.0f} MB are free"
        except OSError:
            free = "the free space is unknown"
        return ResourceError(
            f"The disk is full: could not write {path} ({free}). Nothing that was saved is damaged; "
            "free some space (`understudy clean` deletes stored teacher outputs) and repeat the command to continue."
        )
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        remedy = "Set UNDERSTUDY_HOME to another folder" if _in_store(path) else "Choose another folder with --out"
        return ResourceError(f"{where} cannot be written ({error.strerror}). {remedy}.")
    return ResourceError(f"Writing {path} failed: {error.strerror or error}. Nothing that was saved is damaged.")


def _as_os_error(error: Exception) -> OSError | None:
    """The operating system's error behind one of a library written in Rust, which carries it only in its words."""
    if isinstance(error, OSError):
        return error
    found = re.search(r"\(os error (\d+)\)", str(error))
    number = int(found[1]) if found else errno.ENOSPC if "StorageFull" in str(error) else None
    return None if number is None else OSError(number, os.strerror(number))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, a folder that may not be looked into
        return False


def _existing(path: Path) -> Path:
    while not _exists(path):
        path = path.parent
    return path


def make_dir(path: Path) -> Path:
    """Make a folder and those above it. The store is made for its owner alone, whatever the umask allows others."""
    with _op("mkdir", path):
        if _in_store(path) and not (store := home()).exists():
            store.parent.mkdir(parents=True, exist_ok=True)
            store.mkdir(mode=0o700, exist_ok=True)
        path.mkdir(parents=True, exist_ok=True)
    return path


def _in_store(path: Path) -> bool:
    with contextlib.suppress(UnderstudyError):
        return home() in (path, *path.parents)
    return False


def sync_file(path: Path) -> None:
    with _op("sync", path):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _temporary(path: Path, what: str = "") -> Path:
    """A name beside `path` that no other process gives, in whatever container or machine it shares the folder from."""
    return path.with_name(f".tmp-{os.getpid()}@{_place()}-{what}{path.name}")


@cache
def _place() -> str:
    """Where the number of this process means something: a host, its boot, and a namespace of processes."""
    named = socket.gethostname()
    with contextlib.suppress(OSError):  # not Linux: the host alone
        named += Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")
    return xxhash.xxh32_hexdigest(named.encode())


def _rename(source: Path, target: Path) -> None:
    with _op("rename", target):
        os.replace(source, target)
    sync_file(target.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that at every moment either the old or the new content is there."""
    path = Path(path)
    make_dir(path.parent)
    temporary = _temporary(path)
    try:
        with _op("write", temporary), open(temporary, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        _rename(temporary, path)
    except ResourceError:
        with contextlib.suppress(OSError):  # on a read-only file system this fails as well, and must not hide the reason
            temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, _json_bytes(value))


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def read_json(path: Path) -> Any:
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise VerifyError(f"{path} is damaged: {error}. Delete it and repeat the command.") from error


def append_line(path: Path, line: str) -> None:
    """Append to a log. A torn last line is possible after a crash; `truncate` to a committed offset removes it."""
    with _op("append", path), open(path, "ab") as handle:
        handle.write(line.encode("utf-8") + b"\n")


def truncate(path: Path, size: int) -> None:
    with _op("truncate", path), open(path, "ab") as handle:
        handle.truncate(size)


def remove(path: Path) -> None:
    """Delete a file or a directory. A directory first loses its name, so that half of it is never taken for it."""
    path = Path(path)
    if not path.exists():
        return
    with _op("remove", path):
        if path.is_dir():
            doomed = _temporary(path, "gone-")
            os.replace(path, doomed)
            shutil.rmtree(doomed)
        else:
            path.unlink()


def size(folder: Path) -> int:
    """Bytes of all files below; what another process deletes meanwhile counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def checksum(path: Path) -> str:
    """xxh3-128 of a file's bytes, as hex: integrity, not identity."""
    digest = xxhash.xxh3_128()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _files(folder: Path, without: tuple[str, ...] = ()) -> list[Path]:
    """Every file in a folder but its own manifest, locks, what a killed process left unfinished, and `without`."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    ours = (".tmp-", ".lock")
    kept = [path for path in found if not any(part.startswith(ours) for part in path.relative_to(folder).parts)]
    return [path for path in kept if not path.relative_to(folder).as_posix().startswith(without)] if without else kept


def manifest(folder: Path, *, without: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    """Size and checksum of each file, by its path in the folder."""
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "xxh3": checksum(path)}
        for path in _files(folder, without)
    }


def seal(folder: Path, mark: str, value: Any, *, without: tuple[str, ...] = ()) -> None:
    """Finish a folder that was filled over time: a manifest of what is in it, then the JSON file `mark`, whose presence
    says that it is complete. `problems` finds any later change, but for what begins with one of `without`."""
    data = _json_bytes(value)
    files = manifest(folder, without=without)
    files[mark] = {"bytes": len(data), "xxh3": xxhash.xxh3_128_hexdigest(data)}
    write_json(folder / MANIFEST, {"files": files, "without": list(without)})
    write_bytes(folder / mark, data)


@contextmanager
def commit_dir(path: Path) -> Iterator[Path]:
    """Fill a directory and make it appear by one rename.

    Yields a temporary folder beside `path`; on a clean exit every file in it is synced, a manifest of checksums is
    added, and the folder takes its name. An existing `path` is replaced. On an error nothing appears.
    """
    path = Path(path)
    make_dir(path.parent)
    sweep(path.parent)
    temporary = _temporary(path)
    shutil.rmtree(temporary, ignore_errors=True)
    make_dir(temporary)
    try:
        try:
            yield temporary
        except Exception as error:
            cause = _as_os_error(error)
            if cause is None:
                raise
            raise explain(cause, temporary) from error
        for file in _files(temporary):
            sync_file(file)
        content = json.dumps({"files": manifest(temporary)}, indent=2, sort_keys=True) + "\n"
        write_bytes(temporary / MANIFEST, content.encode("utf-8"))
        sync_file(temporary)
        with _set_aside(path):
            _rename(temporary, path)
    except Exception:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def copy_dir(source: Path, target: Path) -> None:
    """A committed directory's files under another name, which appears when all of them are there."""
    with commit_dir(target) as temporary:
        for file in _files(source):
            write_bytes(temporary / file.relative_to(source), file.read_bytes())


@contextmanager
def _set_aside(path: Path) -> Iterator[None]:
    """Move what is at `path` out of the way; it comes back if the block fails, and goes for good if it does not."""
    old = _temporary(path, "gone-")
    try:
        if path.exists():
            _rename(path, old)
        yield
    except BaseException:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise
    remove(old)


def problems(folder: Path) -> list[str]:
    """What is wrong with a committed directory: missing, extra or changed files. Empty when it is intact."""
    folder = Path(folder)
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        recorded = {str(name): dict(entry) for name, entry in content["files"].items()}
        without = tuple(str(prefix) for prefix in content.get("without", ()))
    except FileNotFoundError:
        return [f"{folder / MANIFEST} is missing: the folder was never completed"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"{folder / MANIFEST} cannot be read ({error})"]
    found = []
    present = {path.relative_to(folder).as_posix(): path for path in _files(folder, without)}
    for name, entry in recorded.items():
        if name not in present:
            found.append(f"{folder / name} is missing")
        elif present[name].stat().st_size != entry.get("bytes"):
            found.append(f"{folder / name} has {present[name].stat().st_size} bytes, {entry.get('bytes')} were saved")
        elif checksum(present[name]) != entry.get("xxh3"):
            found.append(f"{folder / name} does not match its checksum")
    found += [f"{folder / name} does not belong there" for name in present if name not in recorded]
    return found


def require_intact(folder: Path, names: Sequence[str]) -> None:
    """Refuse files of a committed directory that are not as they were written; one that is still being filled passes.

    Raises:
        VerifyError: the first that differs.
    """
    if not (folder / MANIFEST).exists():
        return
    files = (read_json(folder / MANIFEST) or {}).get("files", {})
    for name in names:
        if name in files and (not (folder / name).is_file() or checksum(folder / name) != files[name].get("xxh3")):
            raise VerifyError(f"{folder / name} does not match its checksum. Restore it from a copy.")


def renew(folder: Path, name: str) -> None:
    """Note a file that was written again in the manifest of a committed directory."""
    if (folder / MANIFEST).exists():
        content = read_json(folder / MANIFEST)
        content["files"][name] = {"bytes": (folder / name).stat().st_size, "xxh3": checksum(folder / name)}
        write_json(folder / MANIFEST, content)


def latest_valid(
    parent: Path, prefix: str, *, also: Callable[[Path], list[str]] | None = None
) -> tuple[Path | None, list[str]]:
    """The newest intact committed directory `prefix…` (names sort by age), and what is wrong with newer ones.

    `also` may find further problems with an intact one, in what belongs to it but lies elsewhere.
    """
    skipped: list[str] = []
    if not parent.is_dir():
        return None, skipped
    for path in sorted((p for p in parent.iterdir() if p.is_dir() and p.name.startswith(prefix)), reverse=True):
        wrong = problems(path) or (also(path) if also else [])
        if not wrong:
            return path, skipped
        skipped.append(wrong[0])
    return None, skipped


def sweep(folder: Path) -> None:
    """Remove what a killed process left unfinished in this folder."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name.startswith(".tmp-") and not _alive(path):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _alive(path: Path) -> bool:
    """Whether the process that owns a temporary name is a running one other than this. Elsewhere, one of a day ago is not."""
    pid, _, place = path.name.removeprefix(".tmp-").split("-", 1)[0].partition("@")
    if place not in ("", _place()):
        with contextlib.suppress(OSError):
            return time.time() - path.stat().st_mtime < 24 * 3600
    if not pid.isdigit() or int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    except (OSError, IndexError):  # no /proc
        return True
    return state != "Z"  # killed, but its parent has not asked for it yet


def note(path: Path, text: str) -> None:
    """Write a short text into a file in place: of a lock file it is the file itself that is locked, not its name."""
    with _op("note", path), open(path, "w", encoding="utf-8") as handle:
        handle.write(text)
