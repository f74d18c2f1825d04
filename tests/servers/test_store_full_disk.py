"""A disk that is really full: a small tmpfs, mounted in a name space of its own."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.servers

PROGRAM = """
import errno, itertools, os, sys
from fluxsrc.errors import StoreError
from fluxsrc.stores import LocalStore
from fluxsrc.testing.store_contract import put_new

store = LocalStore(sys.argv[1] + "/store")
before, wanted = put_new(store, "before"), None
for number in itertools.count():
    try:
        # As incompressible as it gets: each takes a few pages.
        wanted = put_new(store, os.urandom(4000).hex())
    except StoreError as exc:
        assert exc.__cause__.errno == errno.ENOSPC, exc
        assert "free some space" in str(exc), exc
        break
assert number > 3
found = store.lookup(before.key)
assert found == wanted, (found, wanted)
assert len(store.history(before.key)) == number + 1
for artifact in store.history(before.key):
    store.open(artifact).close()
report = store.verify()
assert not report.problems, report

os.remove(sys.argv[1] + "/reserve")  # a record needs a page to be replaced
store.retain(records=1)
assert store.gc(grace=-60).blobs >= 2 * number
store.flush()
last = put_new(store, "there is room again")
assert store.lookup(before.key) == last
report = store.verify()
assert report.clean and not report.orphaned and not report.leftovers, report
"""


def test_a_full_disk_leaves_the_old_state_and_can_be_collected(tmp_path):
    """ENOSPC from the kernel, wherever it strikes; every artifact stays whole, and letting go makes room again."""
    mount = tmp_path / "small"
    mount.mkdir()
    script = (
        'mount -t tmpfs -o size=512k none "$1" && dd if=/dev/zero of="$1/reserve" bs=16k count=1 status=none'
        ' && "$2" -c "$3" "$1"'
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", mount, sys.executable, PROGRAM],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
