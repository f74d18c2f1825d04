"""A trusted root over TUF: fetched into the directory that is named, checked all the way, and never older than it was."""

import datetime as dt
import functools
import http.server
import sys

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp

from fluxsrc.errors import ConfigurationError, MissingExtraError, TransportError
from fluxsrc.signatures import TrustedRoot
from fluxsrc.testing._loopback import Loopback

TARGET = "trusted_root.json"


class Repository:
    """A TUF repository with one key for everything, in a directory that is served."""

    def __init__(self, directory, content):
        self.directory, self.key = directory, CryptoSigner.generate_ed25519()
        self.parts = {"timestamp": Timestamp(), "snapshot": Snapshot(), "targets": Targets()}
        root = Root(consistent_snapshot=True, expires=self.expiry())
        for role in ("root", *self.parts):
            root.add_key(self.key.public_key, role)
        self.root = self.write("1.root.json", root)
        (directory / "targets").mkdir()
        self.publish(content)

    @staticmethod
    def expiry(days=1):
        return dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(days=days)

    def write(self, name, part, key=None):
        signed = Metadata(part)
        signed.sign(key or self.key)
        path = self.directory / name
        path.write_bytes(signed.to_bytes())
        return path

    def publish(self, content, *, version=1, key=None, days=1):
        """A target, and the metadata that leads to it."""
        target = TargetFile.from_data(TARGET, content, ["sha256"])
        (self.directory / "targets" / f"{target.hashes['sha256']}.{TARGET}").write_bytes(content)
        self.parts["targets"].targets = {TARGET: target}
        for part in self.parts.values():
            part.version, part.expires = version, self.expiry(days)
        self.parts["snapshot"].meta["targets.json"].version = version
        self.parts["timestamp"].snapshot_meta.version = version
        self.write(f"{version}.targets.json", self.parts["targets"], key)
        self.write(f"{version}.snapshot.json", self.parts["snapshot"], key)
        self.write("timestamp.json", self.parts["timestamp"], key)


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "tuf").mkdir()
    return Repository(tmp_path / "tuf", TrustedRoot.bundled().content)


@pytest.fixture
def url(repository):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with Loopback(functools.partial(Handler, directory=str(repository.directory))) as server:
        yield f"{server.url}/"


def test_what_is_fetched_is_the_repositorys_and_lies_where_it_was_told_to(repository, url, tmp_path, monkeypatch):
    """Nothing is written anywhere else: not even the home directory is known."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    fetched = TrustedRoot.refresh(tmp_path / "cache", url=url, root=repository.root)
    assert fetched == TrustedRoot.bundled()
    assert (tmp_path / "cache" / "metadata" / "timestamp.json").exists()
    assert [path.read_bytes() for path in (tmp_path / "cache" / "targets").iterdir()] == [fetched.content]
    assert not (tmp_path / "home").exists()


def test_a_newer_one_takes_its_place_and_an_older_one_does_not(repository, url, tmp_path):
    """What is in the cache guards against rollback."""
    first = TrustedRoot.refresh(tmp_path / "cache", url=url, root=repository.root)
    repository.publish(first.content + b"\n", version=2)
    assert TrustedRoot.refresh(tmp_path / "cache", url=url, root=repository.root).content == first.content + b"\n"
    repository.publish(first.content, version=1)
    with pytest.raises(TransportError, match="cannot refresh"):
        TrustedRoot.refresh(tmp_path / "cache", url=url, root=repository.root)


@pytest.mark.parametrize(
    "attack", ["another key", "expired", "another content", "longer content", "gone", "no metadata"]
)
def test_what_is_not_as_it_was_signed_is_refused(repository, url, tmp_path, attack):
    """Whoever runs the repository's server can withhold a trusted root, but not make one."""
    [target] = (repository.directory / "targets").iterdir()
    content = target.read_bytes()
    match attack:
        case "another key":
            repository.publish(content, version=2, key=CryptoSigner.generate_ed25519())
        case "expired":
            repository.publish(content, version=2, days=-1)
        case "another content":
            target.write_bytes(b"x" * len(content))
        case "longer content":
            target.write_bytes(content + b"x")
        case "gone":
            target.unlink()
        case _:
            (repository.directory / "timestamp.json").write_bytes(b"{")
    with pytest.raises(TransportError, match="cannot refresh"):
        TrustedRoot.refresh(tmp_path / "cache", url=url, root=repository.root)


def test_a_target_that_is_no_trusted_root_is_refused(repository, url, tmp_path):
    """However well it is signed."""
    repository.publish(b"{}", version=2)
    with pytest.raises(ConfigurationError, match="trusted root"):
        TrustedRoot.refresh(tmp_path / "cache", url=url, root=repository.root)


def test_a_repository_without_the_target_says_so(repository, url, tmp_path):
    repository.parts["targets"].targets = {}
    repository.write("1.targets.json", repository.parts["targets"])
    with pytest.raises(ConfigurationError, match=f"has no {TARGET}"):
        TrustedRoot.refresh(tmp_path / "cache", url=url, root=repository.root)


def test_another_repository_needs_a_root_that_can_be_read(tmp_path):
    """The public instance's comes with the library; nothing is trusted on first use."""
    with pytest.raises(ConfigurationError, match="nothing says what to trust"):
        TrustedRoot.refresh(tmp_path, url="https://tuf.example.com")
    with pytest.raises(ConfigurationError, match="cannot read"):
        TrustedRoot.refresh(tmp_path, url="https://tuf.example.com", root=tmp_path / "absent.json")


def test_a_server_that_is_not_there_is_an_error_of_transport(repository, tmp_path):
    with pytest.raises(TransportError, match="cannot refresh"):
        TrustedRoot.refresh(tmp_path / "cache", url="http://127.0.0.1:1", root=repository.root)


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tuf.ngclient.updater", None)
    with pytest.raises(MissingExtraError, match=r"fluxsrc\[verify\]"):
        TrustedRoot.refresh(tmp_path)
