"""What notebooks show: everything that matters, short, and nothing that a stranger's text could do."""

import ast
import datetime as dt
import json
import socket
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from fluxsrc import (
    Digest,
    GitSource,
    Include,
    Included,
    LocalBucket,
    LocalStore,
    MemoryFile,
    MemorySource,
    MemoryStore,
    Mode,
    OCISource,
    Revision,
    notebook,
)
from fluxsrc._html.tree import Tree
from fluxsrc.artifact import Artifact, SourceKey
from fluxsrc.bucket import BucketSource
from fluxsrc.entry import Skipped
from fluxsrc.errors import MissingExtraError, VerificationError
from fluxsrc.inspect import Change, ChangeKind, Listed, Stored
from fluxsrc.oci import push
from fluxsrc.stores import Observation
from fluxsrc.verify import CONTENT

START = dt.datetime(2026, 3, 2, 9, 30, tzinfo=dt.UTC)
FILES = {
    "README.md": "# podinfo\n",
    "deploy/base/app.yaml": "replicas: 1\n",
    "deploy/prod/app.yaml": "replicas: 3\n",
    "run.sh": MemoryFile(b"#!/bin/sh\n", Mode.EXECUTABLE),
}


class Clock:
    """One hour passes whenever somebody looks."""

    def __init__(self):
        self.now = START

    def __call__(self):
        now, self.now = self.now, self.now + dt.timedelta(hours=1)
        return now


def digest(number):
    return Digest.sha256(f"{number:064x}")


def artifact(**changes):
    fields = {
        "key": SourceKey("gitrepository", "default", "podinfo"),
        "url": "https://example.com/podinfo",
        "revision": Revision(digest(1), "main"),
        "content_digest": digest(2),
        "digest": digest(3),
        "size": 2048,
        "content_size": 10240,
        "files": 4,
        "media_type": "application/vnd.cncf.flux.content.v1.tar+gzip",
        "recipe": digest(4),
    }
    return Artifact(**fields | changes)


@pytest.fixture
def watched(tmp_path):
    """A store that saw `prod` go from 3 replicas to 0 and back."""
    store = LocalStore(tmp_path / "store", clock=Clock(), durable=False)
    for replicas in (3, 0, 3):
        files = FILES | {"deploy/prod/app.yaml": f"replicas: {replicas}\n"}
        made = MemorySource(files, pointer="prod").produce_artifact(store, name="podinfo")
    return store, made.key


# --- artifacts -------------------------------------------------------------------------------------------------------


def test_an_artifact_shows_what_it_is_and_where_it_came_from():
    """All of its identities in full: they are there to be copied."""
    shown = artifact(created=START, observed=START, annotations={"team": "a"})._repr_html_()
    for fact in (
        "gitrepository/default/podinfo",
        f"main@{digest(1)}",
        str(digest(2)),
        str(digest(3)),
        "2.0 KiB",
        "4 files",
    ):
        assert fact in shown
    assert shown.count("2026-03-02 09:30:00 UTC") == 2
    assert "1 annotation" in shown
    assert "team" in shown


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ((), "not verified: no policy asked"),
        ((("policy", "unsafe-no-verification"),), "not verified, as configured"),
        ((("oci.level", "skip"), ("oci.statement", "all"), ("policy", "sha256:1")), "not verified, as configured"),
        ((("git.commit.signer", "ada@example.com"),), "verified"),
        ((("oci.warning.expiry", "it ended"), ("oci.signer", "CN=Ada")), "verified, with warnings"),
        ((("policy", "unsafe-no-verification"), ("git.commit.signer", "ada@example.com")), "verified"),
    ],
)
def test_only_what_somebody_vouched_for_is_called_verified(facts, said):
    """A policy that accepts everything vouches for nothing, and one that only warns says so."""
    shown = artifact(verification=facts)._repr_html_()
    assert f">{said}</span>" in shown
    assert all(value in shown for _, value in facts)


def test_a_history_tells_who_vouched_for_what():
    """On pointing at it: a table of artifacts has no room for all of them."""
    made = [artifact(verification=facts) for facts in ((("git.commit.signer", "Ada <ada@example.com>"),), ())]
    shown = notebook.History(made[0].key, tuple(made), ())._repr_html_()
    assert 'title="git.commit.signer: Ada &lt;ada@example.com&gt;">yes</span>' in shown
    assert ">no</span>" in shown


def test_the_origin_of_an_artifact_is_what_its_publisher_names():
    """An artifact that was never published is no origin of itself."""
    commit = f"main@sha1:{'a' * 40}"
    assert artifact(annotations={"org.opencontainers.image.revision": commit}).origin == commit
    itself = artifact(annotations={"org.opencontainers.image.revision": str(artifact().revision)})
    assert itself.origin == artifact().origin == ""


def test_what_was_skipped_is_counted_and_cut():
    """A source with a thousand symbolic links does not make a page of a thousand lines."""
    skipped = tuple(Skipped(f"link{number}", "symlink", "../secret") for number in range(1000))
    shown = artifact(skipped=skipped)._repr_html_()
    assert "1,000 paths of the source not in it" in shown
    assert "800 more not shown" in shown
    assert "link199" in shown
    assert "link200" not in shown


# --- snapshots and files ---------------------------------------------------------------------------------------------


def git_source(tmp_path):
    for command in ("init -q -b main", "commit -q --allow-empty -m first"):
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
        subprocess.run(["git", *identity, *command.split()], cwd=tmp_path, check=True)
    (tmp_path / "app.yaml").write_text("replicas: 3\n")
    subprocess.run(
        "git add . && git -c user.name=A -c user.email=a@b commit -q -m x", shell=True, cwd=tmp_path, check=True
    )
    return GitSource(str(tmp_path), branch="main")


def bucket_source(tmp_path):
    (tmp_path / "app.yaml").write_text("replicas: 3\n")
    return BucketSource(LocalBucket(tmp_path))


def oci_source(tmp_path):
    push(memory_source(tmp_path), f"oci-layout:{tmp_path}/registry:v1")
    return OCISource(f"oci-layout:{tmp_path}/registry:v1")


def including_source(tmp_path):
    return Include(source=MemorySource({}), includes=[Included(memory_source(tmp_path))])


def memory_source(_):
    return MemorySource({"app.yaml": "replicas: 3\n"})


@pytest.mark.parametrize("make", [git_source, bucket_source, oci_source, including_source, memory_source])
def test_every_snapshot_shows_its_files_as_a_tree(make, tmp_path):
    """Whatever it is a snapshot of."""
    with make(tmp_path).fetch() as snapshot:
        shown = snapshot._repr_html_()
        assert str(snapshot.revision) in shown
        assert "app.yaml" in shown
        assert "1 file, 12 B" in shown
        assert [file.path for file in notebook.files(snapshot)] == ["app.yaml"]


def test_a_snapshot_whose_context_is_over_still_shows_what_is_known(tmp_path):
    """An output must not be a traceback because a `with` ended."""
    with git_source(tmp_path).fetch() as snapshot:
        revision = str(snapshot.revision)
    assert revision in snapshot._repr_html_()
    assert "cannot be read" in snapshot._repr_html_()


class Refusing:
    """A policy about the content."""

    digest = digest(1)
    needs = frozenset({CONTENT})

    def check(self, _):
        raise VerificationError("nobody vouched for this")


def test_a_snapshot_that_does_not_hold_shows_its_revision_and_why():
    """No file, no annotation, no traceback."""
    with MemorySource(FILES, verify=Refusing()).fetch() as snapshot:
        shown = snapshot._repr_html_()
        assert str(snapshot.revision) in shown
    assert "nobody vouched for this" in shown
    assert "app.yaml" not in shown


def test_a_sealed_snapshot_that_holds_shows_its_files():
    """Sealed or not, a snapshot is a snapshot."""

    class Accepting(Refusing):
        def check(self, _):
            return (("lock.signer", "Ada"),)

    with MemorySource(FILES, verify=Accepting()).fetch() as snapshot:
        shown = snapshot._repr_html_()
    assert ">verified</span>" in shown
    assert "Ada" in shown
    assert "<bdi>README.md</bdi>" in shown


def test_files_are_the_same_of_a_source_and_of_its_artifact():
    """One look into either."""
    store = MemoryStore()
    source = MemorySource(FILES)
    made = source.produce_artifact(store)
    assert notebook.files(source) == notebook.files(Stored(made, store))
    assert repr(notebook.files(source)) == "<4 files, 44 B>"


def test_a_tree_folds_directories_with_their_sums():
    """Directories that hold nothing but a directory share a row with it."""
    shown = notebook.files(MemorySource(FILES | {"a/b/c/d.txt": "x" * 2000}))._repr_html_()
    assert "<bdi>a/b/c/</bdi>" in shown
    assert "1 file, 2.0 KiB" in shown
    assert "<bdi>deploy/</bdi>" in shown
    assert "2 files, 24 B" in shown
    assert ">executable</span>" in shown


def test_a_huge_tree_is_cut_and_says_what_is_left_out():
    """A hundred rows of one directory, a thousand of all, fifty thousand files looked at: each rest is counted."""
    leaves = [(f"dir{number // 500:04}/file{number:06}", 1, "") for number in range(60_000)]
    tree = Tree.of(iter(leaves))
    shown = tree.html()
    assert tree.files == 50_000
    assert not tree.complete
    assert tree.summary.startswith("more than 50,000 files")
    assert "There are more files" in shown
    assert shown.count("<li") <= 1000 + 101 * 2 + 2
    assert "400 more files not shown, 400 B" in shown
    assert "500 files not shown" in shown
    assert len(shown) < 300_000


@pytest.mark.parametrize("path", ["/".join(["d"] * 3000) + "/f", "/".join(f"d{n}" for n in range(3000))])
def test_a_deep_tree_does_not_exhaust_the_stack(path):
    """Paths are checked for depth where they enter; a listing that somebody made up is not."""
    other = path.rpartition("/")[0] + "/g"
    steps = [f"{'x/' * depth}{depth}" for depth in range(300)]
    tree = Tree.of([(each, 1, "") for each in (path, other, *steps)])
    assert "not shown" in tree.html()


# --- differences -----------------------------------------------------------------------------------------------------


def test_changes_show_the_lines_that_differ():
    """Added, removed, changed, mode: each is named, text is shown by lines, and what is not text is counted."""
    store = MemoryStore()
    old = MemorySource(FILES)
    new = MemorySource(
        {
            "deploy/base/app.yaml": "replicas: 2\n",
            "deploy/prod/app.yaml": "replicas: 3\n",
            "run.sh": "#!/bin/sh\n",
            "b": b"\0",
        }
    )
    found = notebook.changes(old, Stored(new.produce_artifact(store), store))
    assert repr(found) == "<4 paths: 1 added, 1 removed, 1 changed, 1 mode>"
    shown = found._repr_html_()
    assert '<span class="fx-line fx-del">-replicas: 1</span><span class="fx-line fx-add">+replicas: 2</span>' in shown
    assert "mode 100755 to 100644" in shown
    assert "+++ b/" not in shown
    assert found[1]._repr_html_().count("<details") == 0  # one byte that is no text


def test_no_change_is_said():
    """An empty output would be a question."""
    found = notebook.changes(MemorySource(FILES), MemorySource(FILES))
    assert "no differences" in found._repr_html_()
    assert repr(found) == "<no differences>"


def test_large_differences_are_cut_and_say_what_is_left_out():
    """Lines of one path, lines of all, and paths."""
    text = "--- a/x\n+++ b/x\n" + "+line\n" * 1000
    found = notebook.Changes(Change(kind=ChangeKind.CHANGED, path=f"p{number}", text=text) for number in range(300))
    shown = found._repr_html_()
    assert "600 more lines not shown" in shown
    assert "100 more paths not shown" in shown
    assert shown.count("fx-add") <= 2000 + 5
    wide = notebook.Changes([Change(kind=ChangeKind.ADDED, path="x", text="--- a\n+++ b\n+" + "y" * 9000 + "\n")])
    assert "7,001 more characters" in wide._repr_html_()


# --- histories -------------------------------------------------------------------------------------------------------


def test_a_history_shows_artifacts_and_moves(watched):
    """Also the move back, which is no new artifact."""
    store, key = watched
    found = notebook.history(store, str(key))
    assert repr(found) == "<memory/default/podinfo: 2 artifacts, seen 3 times>"
    shown = found._repr_html_()
    assert "moved 2 times" in shown
    assert "<svg" in shown
    assert all(each.revision.short in shown for each in found.artifacts)
    assert ">no</span>" in shown
    assert "made from" not in shown


def test_a_history_says_what_was_published_from_what():
    """By the annotation that `push` leaves; which may say anything."""
    origins = [f"main@sha1:{'a' * 40}", "<b>who knows</b>", ""]
    made = tuple(artifact(annotations={"org.opencontainers.image.revision": origin}) for origin in origins)
    shown = notebook.History(made[0].key, made, ())._repr_html_()
    assert '<bdi title="main@sha1:' in shown
    assert ">main@sha1:aaaaaaaaaaaa</bdi>" in shown
    assert "&lt;b&gt;who knows&lt;/b&gt;" in shown


def test_a_source_never_seen_has_an_empty_history():
    """No error, no picture."""
    found = notebook.history(MemoryStore(), "memory/default/nobody")
    assert "0 artifacts" in found._repr_html_()
    assert "nothing was seen yet" in found.timeline().svg
    assert "there is nothing yet" in found.sizes().svg


def test_a_store_without_observations_shows_its_artifacts():
    """The contract of `Store` has a history, and no more."""

    class Plain:
        def history(self, key):
            return [artifact(observed=START)]

    assert len(notebook.history(Plain(), "gitrepository/default/podinfo").observations) == 1


def test_a_long_history_is_cut():
    """Fifty rows, and how many more there are."""
    made = tuple(artifact(observed=START) for _ in range(70))
    assert "20 older artifacts not shown" in notebook.History(made[0].key, made, ())._repr_html_()


# --- pictures --------------------------------------------------------------------------------------------------------


def shapes(picture):
    """The elements of a picture, which any XML parser has to understand."""
    return list(ET.fromstring(picture.svg).iter())


def test_the_timeline_has_a_row_for_each_digest_and_a_dot_for_each_look(watched):
    """Back to an earlier digest is back to its row."""
    store, key = watched
    picture = notebook.history(store, key).timeline()
    circles = [element for element in shapes(picture) if element.tag.endswith("circle")]
    assert len(circles) == 3
    assert circles[0].get("cy") == circles[2].get("cy") != circles[1].get("cy")
    assert [float(c.get("cx")) for c in circles] == sorted(float(c.get("cx")) for c in circles)
    assert "2026-03-02 09:30:00 UTC to 2026-03-02 11:30:00 UTC" in picture.svg


@pytest.mark.parametrize(
    ("span", "label"),
    [
        (dt.timedelta(seconds=20), "09:30:05"),
        (dt.timedelta(hours=5), "10:00"),
        (dt.timedelta(days=5), "2026-03-03"),
        (dt.timedelta(days=4000), "2033"),
        (dt.timedelta(days=300_000), "2026-03-02 09:30:00 UTC to 2847"),
    ],
)
def test_the_axis_has_a_few_round_moments(span, label):
    """For seconds as for years."""
    seen = [Observation(Revision(digest(1)), START), Observation(Revision(digest(2)), START + span)]
    picture = notebook.timeline(seen)
    ticks = [element for element in shapes(picture) if element.get("text-anchor") == "middle"]
    assert len(ticks) <= 7
    assert label in picture.svg


def test_many_moves_are_cut_to_the_latest():
    """Twenty rows at most; the rest is counted."""
    seen = [Observation(Revision(digest(number)), START + dt.timedelta(days=number)) for number in range(50)]
    picture = notebook.timeline(seen)
    assert "30 earlier moves not shown" in picture.svg
    assert str(digest(49)) in picture.svg
    assert str(digest(29)) not in picture.svg


def test_several_pointers_are_told_apart():
    """A range goes from tag to tag."""
    seen = [Observation(Revision(digest(n), f"v1.{n}.0"), START + dt.timedelta(days=n)) for n in range(2)]
    assert "v1.1.0" in notebook.timeline(seen).svg


def test_a_single_look_is_a_picture_too():
    """No division by the time that passed."""
    assert "2026-03-02 09:30:00 UTC" in notebook.timeline([Observation(Revision(digest(1), "main"), START)]).svg


def test_sizes_are_bars_within_their_axis():
    """Stored before unpacked, oldest first, the largest below the top."""
    picture = notebook.sizes([artifact(size=size, content_size=size * 5) for size in (4000, 0, 1)])
    boxes = [e for e in shapes(picture) if e.tag.endswith("rect")]
    assert len(boxes) == 2 + 2 * 3
    assert all(float(box.get("y")) >= 0 <= float(box.get("height")) for box in boxes)
    assert max(float(box.get("height")) for box in boxes) <= 150
    assert "3.9 KiB stored, 19.5 KiB unpacked" in picture.svg


def test_many_sizes_are_cut_to_the_latest():
    """Sixty bars, and how many there were before."""
    picture = notebook.sizes([artifact() for _ in range(100)])
    assert "40 earlier ones not shown" in picture.svg


def test_a_picture_takes_the_colors_of_its_page_and_has_its_own_as_a_file(watched):
    """Inline there is no style that would reach the rest of the page; the file asks whether its reader is in the dark."""
    store, key = watched
    picture = notebook.history(store, key).timeline()
    assert "prefers-color-scheme" in picture._repr_svg_()
    assert "prefers-color-scheme" not in picture._repr_html_()
    assert "currentColor" in picture._repr_html_()


# --- tables ----------------------------------------------------------------------------------------------------------


def test_tables_have_types_also_when_they_are_empty(watched):
    """What is concatenated later must not change its types by chance."""
    store, key = watched
    for full, empty in [
        (notebook.files(MemorySource(FILES)), notebook.Files()),
        (notebook.changes(MemorySource(FILES), MemorySource({"a": "b"})), notebook.Changes()),
        (notebook.history(store, key), notebook.history(store, "memory/default/nobody")),
    ]:
        assert list(full.to_pandas().dtypes) == list(empty.to_pandas().dtypes)
        assert list(full.to_pandas().columns) == list(empty.to_pandas().columns)
        assert len(full.to_pandas()) > len(empty.to_pandas()) == 0


def test_a_table_of_files_adds_up():
    """Numbers are numbers, modes are as people write them."""
    table = notebook.files(MemorySource(FILES)).to_pandas()
    assert table["size"].sum() == 44
    assert list(table["mode"]) == ["100644", "100644", "100644", "100755"]
    assert list(table.columns) == ["path", "mode", "size"]


def test_a_table_of_artifacts_has_times_and_names(watched):
    """Times can be subtracted; digests are text that can be pasted."""
    store, key = watched
    table = notebook.history(store, key).to_pandas()
    assert (table["observed"].max() - table["observed"].min()).total_seconds() == 3600
    assert set(table["key"]) == {str(key)}
    assert table["content_digest"].str.startswith("sha256:").all()
    assert list(table["created"].isna()) == [True, True]


def test_anything_made_of_values_is_a_table(watched):
    """Observations, tags, candidates: one function for all."""
    store, key = watched
    table = notebook.to_pandas(store.observations(key))
    assert list(table.columns) == ["revision", "observed", "url"]
    assert len(table) == 3
    assert len(notebook.to_pandas([])) == 0


def test_a_table_of_mixed_things_is_refused():
    """Columns of two kinds of things would say nothing."""
    with pytest.raises(TypeError, match="one attrs class"):
        notebook.to_pandas([Listed("a", Mode.FILE, 1), Skipped("a", "symlink")])
    with pytest.raises(TypeError, match="one attrs class"):
        notebook.to_pandas([1])


def test_without_pandas_everything_is_shown_and_tables_name_the_extra(monkeypatch):
    """The library's own values need no other library to be looked at."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    found = notebook.files(MemorySource(FILES))
    assert "app.yaml" in found._repr_html_()
    with pytest.raises(MissingExtraError, match=r"fluxsrc\[notebook\]"):
        found.to_pandas()


def test_looking_loads_no_pandas():
    """`import fluxsrc.notebook` is cheap, and so is everything that is not a table."""
    program = (
        "import sys; from fluxsrc import MemorySource, notebook; notebook.files(MemorySource({'a': 'b'}))._repr_html_();"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'pandas', 'numpy', 'matplotlib', 'html'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- the notebooks of the documentation ------------------------------------------------------------------------------

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))


def run(cell, names):
    """Run a cell as a notebook does: what its last expression gives is shown."""
    *body, last = ast.parse("".join(cell["source"])).body
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    if not isinstance(last, ast.Expr):
        exec(compile(ast.Module([last], []), "cell", "exec"), names)
        return
    value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    if value is not None:
        names["display"](value)


def test_there_are_notebooks():
    """Or the next test would test nothing."""
    assert [path.stem for path in NOTEBOOKS] == ["explore-a-bundle", "who-moved-prod"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_without_network_and_is_kept_without_outputs(path, tmp_path, monkeypatch):
    """The job that builds the documentation runs them in Jupyter; here the cells run as they are, in a moment."""

    def refuse(*_):
        raise AssertionError("a notebook reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shown = []
    names = {"display": lambda value: shown.append(value._repr_html_())}
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    for cell in cells:
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        run(cell, names)
    assert len(shown) >= 5
    assert sum("fluxsrc" in each for each in shown) >= 3
