"""A spool directory, with real files, locks and processes."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from asynctrace.export.spool.format import HEADER, OVERHEAD, Record
from asynctrace.export.spool.segments import Claim, Writing, list_segments
from asynctrace.export.spool.store import Store
from tests.support.programs import LIBRARY, run_program

PLENTY = 2**20


def store(directory: Path, *, max_bytes: int = PLENTY, exporter: str = "otlp") -> Store:
    return Store(directory, exporter=exporter, max_bytes=max_bytes)


def bodies(claim: Claim) -> list[bytes]:
    return [record.body for record in claim.read().records]


def drain(spool: Store) -> list[bytes]:
    """Read everything that can be claimed, and delete it."""
    found: list[bytes] = []
    while (claim := spool.claim()) is not None:
        found += bodies(claim)
        claim.delete()
    return found


@contextmanager
def writer_process(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that appends records `0`, `1`, ... and prints each when it is written."""
    program = (
        "import sys; from pathlib import Path\n"
        "from asynctrace.export.spool.store import Store\n"
        "store = Store(Path(sys.argv[1]), exporter='otlp', max_bytes=2**24)\n"
        "for number in range(10**9):\n"
        "    store.append(b'%d' % number + bytes(5000), 1); print(number, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(directory)],
        env={**os.environ, "PYTHONPATH": str(LIBRARY)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


# ---- writing and reading


def test_what_was_appended_is_claimed(tmp_path: Path) -> None:
    """The store's own segment, too: it is sealed for that, and the next record begins another."""
    spool = store(tmp_path / "new" / "spool")
    spool.append(b"one", 1)
    spool.append(b"two", 2)
    claim = spool.claim()
    assert claim is not None
    assert [(r.body, r.spans) for r in claim.read().records] == [(b"one", 1), (b"two", 2)]
    spool.append(b"three", 3)
    claim.delete()
    assert drain(spool) == [b"three"]
    assert list_segments(spool.directory) == []


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    """Spans may hold what is nobody's business."""
    spool = store(tmp_path / "spool")
    spool.append(b"one", 1)
    (segment,) = (tmp_path / "spool").iterdir()
    assert stat.S_IMODE(segment.stat().st_mode) & 0o077 == 0
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) & 0o077 == 0


def test_nothing_to_claim(tmp_path: Path) -> None:
    """Neither a missing directory, nor files of others, nor other exporters' segments."""
    assert store(tmp_path / "missing").claim() is None
    (tmp_path / "notes.txt").write_text("mine")
    store(tmp_path, exporter="other").append(b"one", 1)
    assert store(tmp_path).claim() is None


def test_acknowledged_records_are_not_sent_again(tmp_path: Path) -> None:
    """Somebody who was stopped in the middle of a segment goes on where it was."""
    spool = store(tmp_path)
    for body in (b"one", b"two", b"three"):
        spool.append(body, 1)
    claim = spool.claim()
    assert claim is not None
    claim.acknowledge(claim.read().records[1])
    claim.release()
    again = store(tmp_path).claim()
    assert again is not None
    assert bodies(again) == [b"three"]
    again.release()


def test_a_claim_is_exclusive(tmp_path: Path) -> None:
    """Two senders in one process or in two never send the same segment at the same time."""
    spool = store(tmp_path)
    spool.append(b"one", 1)
    claim = spool.claim()
    assert claim is not None
    other = store(tmp_path)
    assert other.claim() is None
    claim.release()
    found = other.claim()
    assert found is not None
    found.delete()
    assert spool.claim() is None


def test_what_is_being_written_is_not_claimed_by_others(tmp_path: Path) -> None:
    """Until its writer seals it, or ends."""
    spool = store(tmp_path)
    spool.append(b"one", 1)
    other = store(tmp_path)
    assert other.claim() is None
    spool.seal()
    assert drain(other) == [b"one"]


def test_a_released_segment_takes_nothing(tmp_path: Path) -> None:
    """A thread that comes late cannot write into a file that is somebody else's by now."""
    segment = Writing.create(tmp_path, "otlp")
    segment.release()
    segment.release()
    with pytest.raises(OSError, match="released"):
        segment.append(b"one", 1)


def test_a_deleted_directory_is_made_anew(tmp_path: Path) -> None:
    """Somebody tidied up: what comes later is not written into a file that has no name."""
    spool = store(tmp_path / "spool")
    spool.append(b"one", 1)
    for segment in (tmp_path / "spool").iterdir():
        segment.unlink()
    (tmp_path / "spool").rmdir()
    spool.append(b"two", 1)
    assert drain(spool) == [b"two"]


def test_threads_write_whole_records(tmp_path: Path) -> None:
    """However many write and claim at once."""
    spool = store(tmp_path)
    written = [b"%d" % number for number in range(200)]

    def write(part: int) -> None:
        for body in written[part::4]:
            spool.append(body, 1)

    threads = [threading.Thread(target=write, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    found: list[bytes] = []
    while any(thread.is_alive() for thread in threads):
        found += drain(spool)
    for thread in threads:
        thread.join()
    found += drain(spool)
    assert sorted(found) == sorted(written)


# ---- the bound


def test_the_oldest_segment_goes_first(tmp_path: Path) -> None:
    """The directory stays below the bound; what was deleted unsent is counted in spans."""
    spool = store(tmp_path, max_bytes=8000)
    for number in range(40):
        spool.append(b"%02d" % number + bytes(480), 3)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 8000
    left = [int(body[:2]) for body in drain(spool)]
    assert left == list(range(40 - len(left), 40))
    assert len(left) >= 8
    assert spool.evicted == 3 * (40 - len(left))


def test_what_is_being_sent_is_not_deleted(tmp_path: Path) -> None:
    """The next oldest goes instead; when nothing may go, the newcomer does not fit."""
    spool = store(tmp_path, max_bytes=1000)
    spool.append(bytes(400), 1)
    claim = spool.claim()
    assert claim is not None
    spool.append(bytes(400), 1)
    spool.append(b"new" + bytes(397), 1)
    assert spool.evicted == 1
    with pytest.raises(OSError, match="do not fit") as refused:
        spool.append(bytes(900), 1)
    assert refused.value.errno == errno.ENOSPC
    assert len(bodies(claim)) == 1
    claim.release()


def test_acknowledged_spans_are_not_counted_as_deleted(tmp_path: Path) -> None:
    """They have arrived."""
    spool = store(tmp_path, max_bytes=2000)
    spool.append(bytes(700), 5)
    spool.append(bytes(700), 7)
    claim = spool.claim()
    assert claim is not None
    claim.acknowledge(claim.read().records[0])
    claim.release()
    spool.append(bytes(1500), 1)
    assert spool.evicted == 7 + 5 - 5 * (len(list_segments(tmp_path)) > 0)


# ---- disks


def test_a_full_disk_is_told_and_leaves_whole_records(tmp_path: Path) -> None:
    """The record that did not fit is taken off again; when there is room, writing goes on."""
    ended = run_program(
        """
        import errno, resource, sys
        from pathlib import Path
        from asynctrace.export.spool.store import Store
        store = Store(Path(sys.argv[1]), exporter="otlp", max_bytes=2**20)
        store.append(b"one", 1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
        for _ in range(3):
            try:
                store.append(bytes(5000), 1)
            except OSError as error:
                print(errno.errorcode[error.errno])
        store.append(b"two", 1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        store.append(b"three", 1)
        """,
        str(tmp_path),
    )
    assert ended.err == ""
    assert ended.out.split() == ["EFBIG"] * 3
    spool = store(tmp_path)
    claim = spool.claim()
    assert claim is not None
    contents = claim.read()
    assert [record.body for record in contents.records] == [b"one", b"two", b"three"]
    assert contents.damaged == 0
    claim.delete()
    assert list_segments(tmp_path) == []


def test_a_disk_without_room_for_the_header_is_left_clean(tmp_path: Path) -> None:
    """No empty files pile up while it lasts."""
    ended = run_program(
        """
        import resource, sys
        from pathlib import Path
        from asynctrace.export.spool.store import Store
        resource.setrlimit(resource.RLIMIT_FSIZE, (3, resource.RLIM_INFINITY))
        try:
            Store(Path(sys.argv[1]), exporter="otlp", max_bytes=2**20).append(b"one", 1)
        except OSError as error:
            print(error.strerror)
        """,
        str(tmp_path),
    )
    assert "large" in ended.out
    assert list(tmp_path.iterdir()) == []


def test_a_torn_segment_gives_what_is_whole(tmp_path: Path) -> None:
    """Cut anywhere, as by a crash of the machine."""
    spool = store(tmp_path)
    for body in (b"one", b"two"):
        spool.append(body, 1)
    spool.seal()
    (segment,) = tmp_path.iterdir()
    os.truncate(segment, len(HEADER) + 2 * OVERHEAD + 5)
    claim = spool.claim()
    assert claim is not None
    contents = claim.read()
    assert [record.body for record in contents.records] == [b"one"]
    assert contents.damaged == 1
    claim.delete()


def test_a_directory_that_is_a_file_is_told(tmp_path: Path) -> None:
    """An OSError, which the layer above counts."""
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(NotADirectoryError):
        store(tmp_path / "spool").append(b"one", 1)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_segments_of_other_users_are_left(tmp_path: Path) -> None:
    """What cannot be opened for acknowledging cannot be claimed, and stops nobody."""
    spool = store(tmp_path)
    spool.append(b"one", 1)
    spool.seal()
    for folder in (tmp_path, *tmp_path.parents):
        if Path(tempfile.gettempdir()) in folder.parents:
            folder.chmod(0o755)
    ended = run_program(
        """
        import os, sys
        from pathlib import Path
        from asynctrace.export.spool.store import Store
        os.setuid(65534)
        print(Store(Path(sys.argv[1]), exporter="otlp", max_bytes=1).claim())
        """,
        str(tmp_path),
    )
    assert ended.out == "None\n"


# ---- processes


def test_a_killed_writer_leaves_what_it_had_written(tmp_path: Path) -> None:
    """SIGKILL in the middle of writing: every record that was reported written is there."""
    with writer_process(tmp_path) as process:
        assert process.stdout is not None
        reported = [process.stdout.readline() for _ in range(50)]
        assert store(tmp_path).claim() is None  # it lives, and its segment is its own
        process.send_signal(signal.SIGKILL)
        reported += process.stdout.readlines()
        process.wait()
    spool = store(tmp_path)
    found = [int(body.partition(b"\0")[0]) for body in drain(spool)]
    complete = [int(line) for line in reported if line.endswith("\n")]
    assert found[: len(complete)] == complete
    assert len(found) <= len(complete) + 1


def test_two_processes_share_a_directory(tmp_path: Path) -> None:
    """Both write at the same time; whatever either has written is read once and whole."""
    with writer_process(tmp_path) as one, writer_process(tmp_path) as two:
        reported: list[int] = []
        for process in (one, two):
            assert process.stdout is not None
            reported += [int(process.stdout.readline()) for _ in range(30)]
        for process in (one, two):
            process.kill()
            assert process.stdout is not None
            reported += [int(line) for line in process.stdout if line.endswith("\n")]
            process.wait()
    found = [int(body.partition(b"\0")[0]) for body in drain(store(tmp_path))]
    assert set(found) >= set(reported)
    assert len(found) in range(len(reported), len(reported) + 3)


def test_a_forked_child_does_not_take_the_parents_lock(tmp_path: Path) -> None:
    """The child leaves the parent's segments alone, and does not keep them locked either."""
    ended = run_program(
        """
        import os, sys
        from pathlib import Path
        from asynctrace.export.spool.store import Store
        store = Store(Path(sys.argv[1]), exporter="otlp", max_bytes=2**20)
        store.append(b"parent", 1)
        ready, done = os.pipe(), os.pipe()
        child = os.fork()
        if not child:
            os.close(done[1])
            store.after_fork()
            print("child claims", store.claim(), flush=True)
            store.append(b"child", 1)
            store.seal()
            os.write(ready[1], b".")
            os.read(done[0], 1)
            os._exit(0)
        os.read(ready[0], 1)
        store.append(b"parent again", 1)
        while (claim := store.claim()) is not None:
            print([record.body for record in claim.read().records])
            claim.delete()
        os.close(done[1])
        os.waitpid(child, 0)
        """,
        str(tmp_path),
    )
    assert ended.err == ""
    assert ended.out.splitlines() == [
        "child claims None",
        "[b'child']",
        "[b'parent', b'parent again']",
    ]


def test_a_parent_that_is_killed_frees_its_segment_in_spite_of_a_child(tmp_path: Path) -> None:
    """The child closed the file when it was forked: the lock ends with the parent."""
    ended = run_program(
        """
        import os, signal, sys, time
        from pathlib import Path
        from asynctrace.export.spool.store import Store
        store = Store(Path(sys.argv[1]), exporter="otlp", max_bytes=2**20)
        store.append(b"parent", 1)
        reading, writing = os.pipe()
        if os.fork():
            os.read(reading, 1)
            os.kill(os.getpid(), signal.SIGKILL)
        parent = os.getppid()
        store.after_fork()
        os.write(writing, b".")
        deadline = time.monotonic() + 10
        while os.getppid() == parent and time.monotonic() < deadline:
            time.sleep(0.001)
        claim = store.claim()
        print([record.body for record in claim.read().records], flush=True)
        """,
        str(tmp_path),
    )
    assert ended.out == "[b'parent']\n"


def test_an_acknowledgement_of_a_released_claim_is_refused(tmp_path: Path) -> None:
    """The descriptor may be somebody else's socket by then."""
    spool = store(tmp_path)
    spool.append(b"one", 1)
    claim = spool.claim()
    assert claim is not None
    claim.release()
    with pytest.raises(OSError, match="released"):
        claim.acknowledge(Record(b"one", 1, 40))
