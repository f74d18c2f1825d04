"""Where there is no place for temporary files, and for users without a home: containers are often so."""

import pwd

import pytest

from fluxsrc import GitSource, MemoryStore
from fluxsrc.cli import main
from fluxsrc.errors import ConfigurationError, StoreError
from fluxsrc.keychains import DockerConfig
from fluxsrc.tarball.tree import Spool


@pytest.fixture
def no_temporary_files(monkeypatch, tmp_path):
    """No directory there is can be written to."""
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: [str(tmp_path / "nowhere")])


@pytest.fixture
def no_home(monkeypatch):
    """The user of a container may be a number of which the system knows nothing."""

    def unknown(user):
        raise KeyError(user)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.usefixtures("no_temporary_files")
def test_content_that_finds_no_place_says_how_to_give_it_one():
    with pytest.raises(StoreError, match="cannot make a temporary file: No usable") as caught:
        Spool().write(bytes(9 << 20))
    assert "TMPDIR" in caught.value.hint


@pytest.mark.usefixtures("no_temporary_files")
def test_a_clone_that_finds_no_place_says_how_to_give_it_one(repository, serve):
    repository.commit({"a": b"1"})
    with pytest.raises(StoreError, match="cannot make a temporary directory: No usable") as caught:
        GitSource(serve().url("repository.git"), cache=None).produce_artifact(MemoryStore())
    assert "TMPDIR" in caught.value.hint


@pytest.mark.usefixtures("no_temporary_files")
@pytest.mark.parametrize("words", [["pull", "src", "--output", "out"], ["demo"]])
def test_the_command_line_says_how_to_give_it_a_place(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLUXSRC_STORE", raising=False)
    (tmp_path / "src").mkdir()
    assert main(words) not in (0, 70)
    printed = capsys.readouterr().err
    assert "cannot make a temporary directory" in printed
    assert "TMPDIR" in printed
    assert "bug" not in printed


@pytest.mark.usefixtures("no_home")
def test_without_a_home_an_output_is_replaced_all_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("src", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(name)
    assert main(["pull", "src", "--output", "out", "--replace"]) == 0
    assert (tmp_path / "out" / "a").read_text() == "src"


@pytest.mark.usefixtures("no_home")
def test_without_a_home_there_is_no_docker_configuration_of_ones_own(tmp_path):
    with pytest.raises(ConfigurationError, match="DOCKER_CONFIG"):
        DockerConfig.from_env({})
    assert DockerConfig.from_env({"DOCKER_CONFIG": str(tmp_path)}).path == str(tmp_path / "config.json")
