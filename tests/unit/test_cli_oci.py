"""The commands about registries: publish, move, list, compare and roll back, over HTTP and in an image layout."""

import base64
import json
import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from fluxsrc.auth import BasicAuth, BearerToken, Origin
from fluxsrc.cli import main
from fluxsrc.cli.credentials import keychain_for
from fluxsrc.cli.remotes import Remotes
from fluxsrc.errors import ConfigurationError
from fluxsrc.testing.registry import Registry
from helpers.tls import TLS, server_context

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


@pytest.fixture
def run(capfd, tmp_path, monkeypatch):
    """Runs the program beside a small tree, `src`; gives exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLUXSRC_STORE", raising=False)
    Path("src").mkdir()
    Path("src/app.yaml").write_text("replicas: 3\n")
    Path("src/logo.png").write_bytes(b"\x89PNG\0")

    def execute(*words):
        capfd.readouterr()
        code = main(words)
        return code, *capfd.readouterr()

    return execute


@pytest.fixture
def document(run):
    """Runs the program for its JSON document, every key of which is in the reference."""
    page = REFERENCE.read_text()

    def keys(value):
        if isinstance(value, dict):
            yield from value
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from keys(item)

    def execute(*words):
        code, out, err = run(*words, "--json")
        assert (code, err) == (0, "")
        parsed = json.loads(out)
        undocumented = {key for key in keys(parsed) if f"`{key}`" not in page and f'"{key}"' not in page}
        assert {key for key in undocumented if "." not in key} == set()  # names of annotations have dots
        return parsed

    return execute


@pytest.fixture
def two(document):
    """A layout with v1, v2 and prod, which was v1 and is v2 now; a store watched. Gives the digests of the two."""
    first = document("push", "src", "oci-layout:images:v1")
    document("promote", "oci-layout:images:v1", "oci-layout:images:prod")
    document("pull", "oci-layout:images:prod", "--store", "store")
    Path("src/app.yaml").write_text("replicas: 0\n")
    Path("src/logo.png").chmod(0o755)
    second = document("push", "src", "oci-layout:images:v2")
    document("promote", "oci-layout:images:v2", "oci-layout:images:prod")
    document("pull", "oci-layout:images:prod", "--store", "store")
    return first["digest"], second["digest"]


def test_the_whole_way_through_a_registry(run, document):
    """Push, list, tag, promote to another repository, look at one file, delete: over HTTP, and only when it is said."""
    with Registry() as registry:
        home = f"oci://{registry.host}/team/app"
        assert document("push", "src", f"{home}:v1.0.0", "--insecure", "--annotation", "team=a=b")["uploaded"] > 0
        again = document("push", "src", f"{home}:v1.0.0", "--insecure", "--annotation", "team=a=b")
        assert again["uploaded"] == 0
        (moved,) = document("tag", f"{home}:v1.0.0", "stable", "--insecure")["tags"]
        assert (moved["digest"], moved["previous"]) == (again["digest"], None)
        there = f"oci://{registry.host}/production/app"
        assert document("promote", f"{home}:stable", f"{there}:v1.0.0", "--insecure")["digest"] == again["digest"]
        listed = document("list", home, "--semver", "1.x", "--insecure")
        assert [(tag["tag"], tag["digest"]) for tag in listed["tags"]] == [("v1.0.0", again["digest"])]
        names = run("list", home, "--no-details", "--insecure")[1].split()
        assert sorted(names) == ["stable", "v1.0.0"]
        assert run("cat", f"{there}:v1.0.0", "app.yaml", "--insecure")[1] == "replicas: 3\n"
        assert document("resolve", f"{home}?semver=1.x", "--insecure")["pointer"] == "v1.0.0"
        assert run("delete", f"{home}:stable", "--insecure")[0] == 2
        assert document("delete", f"{home}:stable", "--yes", "--insecure") == {"deleted": f"{home}:stable"}
        code, _, err = run("resolve", f"{home}:v1.0.0", "--json")
        assert code == 3, "without --insecure nobody tries plain HTTP"
        assert registry.host in json.loads(err)["error"]["message"] + str(json.loads(err)["error"]["where"])


def test_docker_credentials_open_a_registry_and_are_never_shown(run, document, monkeypatch):
    """As `docker login` left them; without `--auth docker` nobody looks there."""
    with Registry(users={"ada": "pa55word"}, token=True) as registry:
        url = f"oci://{registry.host}/team/app:v1"
        entry = base64.b64encode(b"ada:pa55word").decode()
        Path("docker").mkdir()
        Path("docker/config.json").write_text(json.dumps({"auths": {registry.host: {"auth": entry}}}))
        monkeypatch.setenv("DOCKER_CONFIG", "docker")
        closed = run("push", "src", url, "--insecure", "--json")
        assert (closed[0], json.loads(closed[2])["error"]["class"]) == (3, "AuthenticationError")
        assert run("push", "src", url, "--insecure", "--auth", "docker", "--debug")[0] == 0
        shown = run("cat", url, "app.yaml", "--insecure", "--auth", "docker:docker/config.json", "--debug")
        assert shown[1] == "replicas: 3\n"
        assert "pa55word" not in "".join((*closed[1:], *shown[1:]))


def test_a_stored_artifact_is_pushed_as_it_is(document):
    """By any of its digests; nothing is packed again, so the layer is the stored blob."""
    stored = document("pull", "src", "--store", "store")
    Path("src/app.yaml").unlink()
    pushed = document("push", stored["content_digest"], "oci-layout:images:v1", "--store", "store")
    assert pushed["artifact"]["digest"] == stored["digest"]


def test_history_names_every_move(two, run, document):
    """Who moved the tag, and when."""
    old, new = two
    found = document("history", "oci-layout:images:prod", "--store", "store")
    assert [each["revision"] for each in found["observations"]] == [f"prod@{new}", f"prod@{old}"]
    assert all(each["artifact"]["revision"] == each["revision"] for each in found["observations"])
    (move,) = found["moves"]
    assert (move["pointer"], move["old"], move["new"]) == ("prod", old, new)
    assert (move["observed"], move["url"]) == (found["observations"][0]["observed"], found["url"])
    assert f"from {old} to {new}" in run("history", "oci-layout:images:prod", "--store", "store")[1]


def test_history_remembers_what_the_store_let_go(two, run, document):
    """The artifact is gone, that the tag pointed there is not."""
    old, _ = two
    run("store", "gc", "--keep", "1", "--grace", "0", "--store", "store")
    found = document("history", "oci-layout:images:prod", "--store", "store")
    assert [each["artifact"] is None for each in found["observations"]] == [False, True]
    assert [move["old"] for move in found["moves"]] == [old]
    assert f"prod@{old}" in run("history", "oci-layout:images:prod", "--store", "store")[1]


def test_no_candidates_are_said_and_what_may_know_some(run):
    """A head of a table with nothing below it looks like a failure."""
    Path("other").mkdir()
    Path("other/app.yaml").write_text("kind: Deployment\n")
    run("push", "other", "oci-layout:single:v1")
    assert (
        run("candidates", "oci-layout:single:v1")[2] == "nothing to go back to; --store also knows what the tag was\n"
    )


def test_candidates_tell_what_is_whole_and_promoting_one_is_the_way_back(two, run, document):
    """Also where the registry lost a part."""
    old, _ = two
    (found,) = document("candidates", "oci-layout:images:prod", "--store", "store")["candidates"]
    assert (found["digest"], found["complete"], found["stored"], found["tags"]) == (old, True, True, ["v1"])
    manifest = json.loads(Path("images/blobs/sha256", old.removeprefix("sha256:")).read_text())
    layer = Path("images/blobs/sha256", manifest["layers"][0]["digest"].removeprefix("sha256:"))
    content = layer.read_bytes()
    layer.unlink()
    shown = run("candidates", "oci-layout:images:prod", "--store", "store")[1]
    assert "the registry lost 1 part of it, in the store" in shown
    layer.write_bytes(content)
    back = document("promote", f"oci-layout:images@{old}", "oci-layout:images:prod")
    assert (back["digest"], back["previous"]) == (old, two[1])


def test_what_the_registry_lost_is_pushed_from_the_store_by_its_revision(two, run, document):
    """The digest that `candidates` shows is enough."""
    old, _ = two
    assert document("push", old, "oci-layout:elsewhere:back", "--store", "store")["uploaded"] > 0
    assert run("cat", "oci-layout:elsewhere:back", "app.yaml")[1] == "replicas: 3\n"


def test_diff_compares_any_two(two, run, document):
    """A registry with a directory, two of a registry, an artifact of a store with any."""
    old, _ = two
    expected = (
        "diff --git a/app.yaml b/app.yaml\n--- a/app.yaml\n+++ b/app.yaml\n@@ -1 +1 @@\n-replicas: 3\n+replicas: 0\n"
    )
    code, out, err = run("diff", "oci-layout:images:v1", "src")
    assert (code, out) == (0, expected + "diff --git a/logo.png b/logo.png\nold mode 100644\nnew mode 100755\n")
    assert err == "2 paths: 1 changed, 1 mode\n"
    assert run("diff", "oci-layout:images:v1", "oci-layout:images:v2", "--names", "--exit-code") == (
        1,
        "M  app.yaml\nT  logo.png\n",
        "",
    )
    changes = document("diff", old, "src", "--store", "store")["changes"]
    assert [(change["path"], change["kind"]) for change in changes] == [("app.yaml", "changed"), ("logo.png", "mode")]
    assert run("diff", "src", "oci-layout:images:v2", "--exit-code") == (0, "", "no differences\n")


def test_cat_gives_the_bytes_and_json_gives_them_as_text_or_base64(two, document):
    """Whatever they are."""
    assert document("cat", "src", "app.yaml") | {"url": ""} == {
        "url": "",
        "path": "app.yaml",
        "size": 12,
        "encoding": "utf-8",
        "content": "replicas: 0\n",
    }
    shown = document("cat", "oci-layout:images:v1", "logo.png")
    assert (shown["encoding"], base64.b64decode(shown["content"])) == ("base64", b"\x89PNG\0")


def test_a_terminal_shows_what_is_in_a_file_and_does_not_obey_it(run, monkeypatch):
    """A file must not write to the screen of whoever reads it."""
    Path("src/app.yaml").write_text("a\x1b]0;owned\x07b\n")
    reading, writing = pty.openpty()
    with os.fdopen(writing, "w") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        assert main(["cat", "src", "app.yaml"]) == 0
        assert main(["diff", "src", "src"]) == 0
        terminal.flush()
        drawn = os.read(reading, 4096)
    os.close(reading)
    assert drawn == b"a\\x1b]0;owned\\x07b\r\n"


@pytest.mark.parametrize(
    "words",
    [
        ["push", "src", "oci-layout:images:v1", "--annotation", "novalue"],
        ["push", "src", "oci-layout:images:v1", "--annotation", "a=1", "--annotation", "a=2"],
        ["push", "src", "oci-layout:images@sha256:" + "0" * 64],
        ["push", "sha256:" + "0" * 64, "oci-layout:images:v1"],
        ["push", "src", "registry.example.com/app:v1"],
        ["tag", "oci-layout:images:v1"],
        ["delete", "oci-layout:images:v1"],
        ["list", "oci-layout:images", "--semver", "not a range"],
        ["list", "oci-layout:images", "--filter", "("],
        ["history", "oci-layout:images:v1"],
        ["resolve", "src", "--insecure"],
        ["resolve", "src", "--sparse", "deploy"],
        ["resolve", "git+file://src", "--insecure"],
        ["resolve", "oci-layout:images:v1", "--lfs", "fetch"],
        ["resolve", "oci://registry.example.com/app", "--ca-file", "missing.pem"],
        ["resolve", "oci://registry.example.com/app", "--auth", "ecr:x"],
        ["pull", "src", "--store", "src"],
        ["pull", "src", "--output", "src/../src"],
        ["push", "src", "oci-layout:src:v1"],
    ],
    ids=" ".join,
)
def test_mistakes_of_the_caller_end_with_2(run, words):
    """Whoever found them; and nothing is made."""
    before = sorted(Path().rglob("*"))
    code, out, err = run(*words)
    assert (code, out, err[:7]) == (2, "", "error: ")
    assert sorted(Path().rglob("*")) == before


def test_what_a_command_writes_is_no_part_of_the_source_it_lies_in(run, document):
    """The second run, which finds the first one's output there, makes the same artifact; and it is said."""
    words = ["pull", "src", "--output", "src/out [1]", "--store", "src/.store", "--archive", "src/a.tgz"]
    first, second = document(*words), document(*words)
    assert first["content_digest"] == second["content_digest"]
    assert second["unchanged"] is True
    assert sorted(first["left_out"]) == [".store", "a.tgz", "out [1]"]
    code, _, err = run(*words)
    assert (code, min(err.splitlines())) == (0, "left out: .store, which this command writes")
    assert sorted(os.listdir("src/out [1]")) == ["app.yaml", "logo.png"]
    for _ in range(2):
        pushed = document("push", "src", "oci-layout:src/images:v1", "--ignore", "/out*", "--ignore", ".store")
        assert (pushed["left_out"], pushed["artifact"]["files"]) == (["images"], 3)


def test_the_environment_has_one_login_and_it_goes_to_one_host(monkeypatch):
    """Of two hosts, one would be shown the other's password."""
    monkeypatch.setenv("FLUXSRC_TOKEN", "t0ken")
    one, other = "oci://a.example.com/app:v1", "oci://b.example.com:5000/app:v1"
    with pytest.raises(ConfigurationError, match="two hosts"):
        keychain_for(one, ["env"], beside=[other])
    keychain = keychain_for(one, ["env"], beside=["oci-layout:images", "src", "oci://A.example.com/other"])
    assert keychain.credentials(Origin.of("https://a.example.com")) == BearerToken("t0ken")
    assert keychain.credentials(Origin.of("http://a.example.com")) is None
    by_http = keychain_for(other, ["env"], insecure=True)
    assert by_http.credentials(Origin.of("http://b.example.com:5000")) == BearerToken("t0ken")


def test_the_environments_login_also_knows_the_form_of_scp(monkeypatch):
    """`git@host:path` is a host, too."""
    monkeypatch.setenv("FLUXSRC_USERNAME", "ada")
    monkeypatch.setenv("FLUXSRC_PASSWORD", "pa55")
    keychain = keychain_for("git@git.example.com:team/app.git", ["env"])
    assert keychain.credentials(Origin.of("ssh://git.example.com")) == BasicAuth("ada", "pa55")


def test_how_a_remote_is_reached_arrives():
    """Each option where the library takes it."""
    ca = Path(__file__).parent / "data" / "tls" / "ca.pem"
    remotes = Remotes(ca_file=ca, proxy="socks5h://proxy.example.com:1080", insecure=True)
    options = remotes.options("oci://registry.example.com/app")
    assert options["tls"].ca == ca.read_text()
    assert options["proxy"].url == "socks5h://proxy.example.com:1080"
    assert (options["insecure"], "keychain" in options) == (True, False)
    assert re.search("BEGIN CERTIFICATE", options["tls"].ca)


@pytest.mark.parametrize(
    ("query", "kept"),
    [("", ["a b/x", "y"]), ("?prefix=a%20b/&strip_prefix=true", ["x"]), ("#path=a%20b", ["x"])],
    ids=["all", "below a stripped prefix", "a sub-tree"],
)
def test_what_is_written_into_a_directory_that_plays_a_bucket_is_no_part_of_it(document, query, kept):
    """Twice the same revision, whatever was written between."""
    for name in kept:
        Path("bucket", "a b", name).parent.mkdir(parents=True, exist_ok=True)
    Path("bucket/a b/x").write_text("1")
    Path("bucket/y").write_text("2")
    url = f"{Path('bucket').absolute().as_uri().replace('file', 'bucket+file')}{query}"
    place = Path("bucket/a b") if query else Path("bucket")
    words = (
        "pull",
        url,
        "--output",
        str(place / "out [1]"),
        "--archive",
        str(place / "a.tgz"),
        "--store",
        str(place / "s"),
    )
    first, second = document(*words), document(*words)
    assert (first["revision"], first["files"]) == (second["revision"], len(kept))
    assert sorted(second["left_out"]) == ["a.tgz", "out [1]", "s"]


@pytest.mark.parametrize("option", ["--output", "--archive"])
def test_nothing_is_written_among_the_files_of_a_layout_or_a_repository(run, document, option):
    """They would be damaged, not packed. A store is a layout, and takes what is made of it."""
    document("push", "src", "oci-layout:images:v1")
    before = sorted(Path("images").rglob("*"))
    code, _, err = run("pull", "oci-layout:images:v1", option, "images/index.json", "--replace")
    assert (code, "is inside images" in err) == (2, True)
    assert sorted(Path("images").rglob("*")) == before
    document("pull", "oci-layout:images:v1", "--store", "images")
    subprocess.run(["git", "init", "-q", "repo"], check=True)
    code, _, err = run("pull", "git+file://repo", option, "repo/.git/HEAD", "--replace")
    assert (code, "is inside" in err) == (2, True)


def test_a_registry_that_asks_who_we_are_is_shown_a_certificate(run, monkeypatch):
    """Both files, or it is a mistake of the caller; without them the registry hangs up."""
    ours = ("--cert-file", str(TLS / "client.pem"), "--key-file", str(TLS / "client.key"))
    with Registry(context=server_context(client_ca=True)) as registry:
        words = ("push", "src", f"oci://{registry.host}/team/app:v1", "--ca-file", str(TLS / "ca.pem"))
        code, _, err = run(*words, *ours)
        assert (code, err) == (0, "")
        assert run(*words, "--timeout", "5s")[0] == 3
        code, _, err = run(*words, *ours[:2])
        assert (code, "both or neither" in err) == (2, True)


@pytest.mark.parametrize("way", ["method", "environment"])
def test_a_proxy_is_told_who_we_are_and_nobody_else(run, monkeypatch, way):
    """By a method of `--auth`, or as the environment has it; never on the command line."""
    with Registry() as proxy:  # asked for absolute URLs, it answers for every host
        if way == "method":
            monkeypatch.setenv("PROXY_USERNAME", "ada")
            monkeypatch.setenv("PROXY_PASSWORD", "pa55word")
            words = ("--proxy", proxy.url, "--proxy-auth", "env:PROXY")
        else:
            monkeypatch.setenv("http_proxy", f"http://ada:pa55word@{proxy.host}")
            words = ("--proxy", "env")
        code, out, err = run("push", "src", "oci://registry.invalid/team/app:v1", "--insecure", *words)
        assert code == 0, err
        pair = base64.b64encode(b"ada:pa55word").decode()
        assert {request.headers.get("Proxy-Authorization") for request in proxy.requests} == {f"Basic {pair}"}
        assert all(request.path.startswith("http://registry.invalid/v2/") for request in proxy.requests)
        assert "pa55word" not in out + err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--proxy", "http://ada:pa55word@proxy.invalid"), "no place for a proxy's password"),
        (("--proxy-auth", "env"), "for which proxy"),
        (("--proxy", "env", "--proxy-auth", "env"), "drop --proxy-auth"),
        (("--proxy", "http://proxy.invalid", "--proxy-auth", "netrc:none"), "none"),
        (("--proxy", "http://proxy.invalid", "--proxy-auth", "env:NOBODY"), "knows no user name"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_a_mistake_of_the_caller(run, words, said):
    """Said before anybody is asked, and without the password."""
    code, out, err = run("resolve", "oci://registry.invalid/team/app:v1", *words)
    assert code == 2
    assert said in err
    assert "pa55word" not in out + err
