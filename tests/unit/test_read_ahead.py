"""Reading ahead by a second process: what it reads is what its caller would have read, whatever happens to it."""

import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxsrc._io import ahead, listed
from fluxsrc.directory import DirectorySource
from fluxsrc.errors import SourceChangedError
from fluxsrc.stores.memory import MemoryStore


@pytest.fixture
def eager(monkeypatch):
    """Begin after four files in order, with three files to a request."""
    for name, value in {"_AFTER": 4, "_LEAD": 2, "_WORTH": 8, "_BATCH": 3}.items():
        monkeypatch.setattr(ahead, name, value)
    monkeypatch.setattr(ahead, "cores", lambda: 2)
    ahead._is_possible.cache_clear()
    yield
    ahead._is_possible.cache_clear()


@pytest.fixture
def programs(monkeypatch):
    """The processes that were started."""
    started = []

    class Spy(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Spy)
    return started


def make(root, count, size=10):
    """Files with a content of their own; as `ReadAhead` is told of them."""
    files = []
    for number in range(count):
        path = f"{number:05d}"
        (root / path).write_bytes(content(number, size))
        status = (root / path).stat()
        files.append((path, 0o100644, status.st_size, listed.state_of(status)))
    return files


def content(number, size=10):
    return f"{number:09d}\n".encode() * (size // 10)


def test_what_is_read_ahead_is_what_is_there(tmp_path, eager, programs):
    files = make(tmp_path, 100)
    with ahead.ReadAhead(os.fspath(tmp_path), files) as reader:
        read = [reader.read(number) for number in range(100)]
    assert len(programs) == 1
    by_caller = [number for number, data in enumerate(read) if data is None]
    assert by_caller == list(range(3 + 2))  # until it was noticed, and while it started
    assert all(data == content(number) for number, data in enumerate(read) if data is not None)


def test_no_process_is_left(tmp_path, eager, programs):
    files = make(tmp_path, 100)
    with ahead.ReadAhead(os.fspath(tmp_path), files) as reader:
        for number in range(50):
            reader.read(number)
        assert programs[0].poll() is None
    assert programs[0].returncode is not None
    assert programs[0].stdin.closed
    assert programs[0].stdout.closed
    assert reader.read(50) is None
    assert len(programs) == 1


def test_an_iteration_that_is_abandoned_leaves_no_process(tmp_path, eager, programs):
    make(tmp_path, 100)
    with DirectorySource(tmp_path).fetch() as snapshot:
        for number, entry in enumerate(snapshot.entries()):
            entry.read()
            if number == 50:
                break
    assert [program.poll() is None for program in programs] == [False]


def test_the_artifact_is_the_same(tmp_path, eager, programs, monkeypatch):
    root = tmp_path / "tree"
    root.mkdir()
    make(root, 100)
    (root / "00050").unlink()
    (root / "00050").symlink_to("00049")
    (root / "00060").write_bytes(b"")
    (root / "00070").write_bytes(os.urandom(300_000))
    source = DirectorySource(root, symlinks="keep")
    with_it = source.produce_artifact(MemoryStore())
    assert len(programs) == 1
    monkeypatch.setattr(ahead, "_WORTH", 1000)
    assert source.produce_artifact(MemoryStore()).digest == with_it.digest
    assert len(programs) == 1


@pytest.mark.parametrize("why", ["few files", "one core", "another program", "no program", "frozen"])
def test_it_is_not_started_where_it_cannot_help(tmp_path, eager, programs, monkeypatch, why):
    match why:
        case "few files":
            monkeypatch.setattr(ahead, "_WORTH", 101)
        case "one core":
            monkeypatch.setattr(ahead, "cores", lambda: 1)
        case "another program":
            monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
        case "no program":
            monkeypatch.setattr(sys, "executable", None)
        case "frozen":
            monkeypatch.setattr(listed, "__file__", os.fspath(tmp_path / "library.zip" / "listed.py"))
    make(tmp_path, 100)
    assert DirectorySource(tmp_path).produce_artifact(MemoryStore()).files == 100
    assert programs == []


def test_a_process_that_cannot_be_started_is_done_without(tmp_path, eager, monkeypatch):
    monkeypatch.setattr(sys, "executable", os.fspath(tmp_path / "python-that-is-not-there"))
    (tmp_path / "tree").mkdir()
    make(tmp_path / "tree", 100)
    assert DirectorySource(tmp_path / "tree").produce_artifact(MemoryStore()).files == 100


def test_a_process_that_dies_is_done_without(tmp_path, eager, programs):
    files = make(tmp_path, 200)
    with ahead.ReadAhead(os.fspath(tmp_path), files) as reader:
        for number in range(50):
            reader.read(number)
        programs[0].kill()
        programs[0].wait()
        read = {number: reader.read(number) for number in range(50, 200)}
    assert read[199] is None
    assert all(data in (None, content(number)) for number, data in read.items())
    assert len(programs) == 1


def test_what_is_no_interpreter_is_done_without(tmp_path, eager, monkeypatch):
    fake = tmp_path / "python3"
    fake.write_text("#!/bin/sh\nexit 0\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", os.fspath(fake))
    (tmp_path / "tree").mkdir()
    make(tmp_path / "tree", 100)
    assert DirectorySource(tmp_path / "tree").produce_artifact(MemoryStore()).files == 100


@pytest.mark.parametrize("change", ["written", "replaced", "gone", "a link"])
def test_a_file_that_changed_is_not_read_ahead(tmp_path, eager, programs, change):
    files = make(tmp_path, 100)
    victim = tmp_path / "00070"
    with ahead.ReadAhead(os.fspath(tmp_path), files) as reader, DirectorySource(tmp_path).fetch() as snapshot:
        match change:
            case "written":
                victim.write_bytes(b"x" * 10)
            case "replaced":
                (tmp_path / "other").write_bytes(content(70))
                (tmp_path / "other").replace(victim)
            case "gone":
                victim.unlink()
            case "a link":
                victim.unlink()
                victim.symlink_to("00071")
        assert [number for number in range(10, 100) if reader.read(number) is None][-1] == 70
        with pytest.raises(SourceChangedError, match="00070"):
            for entry in snapshot.entries():
                entry.read()
    assert len(programs) == 2


def test_large_files_are_left_to_the_caller(tmp_path, eager, programs, monkeypatch):
    files = make(tmp_path, 40)
    large = make_large(tmp_path, files, 20)
    with ahead.ReadAhead(os.fspath(tmp_path), large) as reader:
        read = [reader.read(number) for number in range(40)]
    assert read[19] == content(19)
    assert read[20] is None
    assert read[21] == content(21)
    assert len(programs) == 1


def make_large(root, files, number):
    path = files[number][0]
    (root / path).write_bytes(bytes(ahead._LARGE + 1))
    status = (root / path).stat()
    return [*files[:number], (path, 0o100644, status.st_size, listed.state_of(status)), *files[number + 1 :]]


def test_nothing_but_large_files_at_the_end_ends_it(tmp_path, eager, programs):
    files = make(tmp_path, 30)
    for number in range(20, 30):
        files = make_large(tmp_path, files, number)
    with ahead.ReadAhead(os.fspath(tmp_path), files) as reader:
        read = [reader.read(number) for number in range(30)]
    assert read[10:20] == [content(number) for number in range(10, 20)]
    assert read[20:] == [None] * 10


@pytest.mark.timeout(60)
def test_requests_and_answers_of_any_size_pass(tmp_path, eager, programs, monkeypatch):
    """More than a pipe holds, both ways at once: neither side waits for the other to take."""
    monkeypatch.setattr(ahead, "_BATCH", 128)
    monkeypatch.setattr(ahead, "_BATCH_BYTES", 1 << 30)
    deep = tmp_path.joinpath(*["d" * 200] * 8)
    deep.mkdir(parents=True)
    below = os.path.relpath(deep, tmp_path)
    files = [(f"{below}/{path}", *rest) for path, *rest in make(deep, 600, 20_000)]
    with ahead.ReadAhead(os.fspath(tmp_path), files) as reader:
        read = [reader.read(number) for number in range(600)]
    assert read[5:] == [content(number, 20_000) for number in range(5, 600)]


@settings(max_examples=25)
@given(order=st.lists(st.one_of(st.integers(0, 59), st.tuples(st.integers(0, 59), st.integers(1, 60))), max_size=8))
def test_in_any_order_each_file_is_its_own(tmp_path_factory, order):
    root = tmp_path_factory.mktemp("order")
    files = make(root, 60)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"_AFTER": 3, "_LEAD": 1, "_WORTH": 4, "_BATCH": 5, "_GAP": 3}.items():
            patch.setattr(ahead, name, value)
        patch.setattr(ahead, "_is_possible", lambda: True)
        with ahead.ReadAhead(os.fspath(root), files) as reader:
            for step in order:
                numbers = [step] if isinstance(step, int) else range(step[0], min(60, sum(step)))
                assert all(reader.read(number) in (None, content(number)) for number in numbers)


def test_threads_may_read_together(tmp_path, eager, programs):
    files = make(tmp_path, 400)
    wrong = []
    with ahead.ReadAhead(os.fspath(tmp_path), files) as reader:
        for number in range(10):
            reader.read(number)

        def read(start):
            for number in range(start, 400, 4):
                if reader.read(number) not in (None, content(number)):
                    wrong.append(number)

        threads = [threading.Thread(target=read, args=(10 + n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert programs


def test_a_forked_child_takes_nothing_away(tmp_path, eager, programs):
    files = make(tmp_path, 100)
    with ahead.ReadAhead(os.fspath(tmp_path), files) as reader:
        for number in range(10):
            reader.read(number)
        child = os.fork()
        if not child:
            os._exit(not all(reader.read(number) in (None, content(number)) for number in range(20, 60)))
        assert os.waitpid(child, 0)[1] == 0
        read = {number: reader.read(number) for number in range(10, 100)}
    assert all(data in (None, content(number)) for number, data in read.items())


def test_the_program_loads_next_to_nothing():
    """It has to be there before the caller could have read the files itself."""
    script = (
        "import os, sys; before = set(sys.modules); "
        "exec(compile(open(sys.argv[1]).read(), 'listed', 'exec'), {'__name__': 'listed'}); "
        "print(sorted(set(sys.modules) - before))"
    )
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, listed.__file__], check=True, capture_output=True, text=True
    )
    assert said.stdout.strip() == "[]"
