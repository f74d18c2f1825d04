"""Chains, variables and .netrc files: credentials for one origin and for no other."""

import pickle

import pytest

from fluxsrc.auth import Anonymous, BasicAuth, BearerToken, Origin, SSHKey, StaticKeychain
from fluxsrc.errors import ConfigurationError
from fluxsrc.keychains import ChainKeychain, NetrcKeychain, keychain_from_env

HERE = Origin.of("https://git.example.com")
ELSEWHERE = Origin.of("https://elsewhere.example")


class Failing:
    def credentials(self, origin, *, operation):
        raise ConfigurationError("cannot ask")


# --- chains ----------------------------------------------------------------------------------------------------------


def test_the_first_keychain_that_knows_answers():
    first = StaticKeychain.for_url("https://git.example.com", BearerToken("one"))
    second = StaticKeychain.for_url("https://git.example.com", BearerToken("two"))
    assert ChainKeychain.of(StaticKeychain(()), first, second).credentials(HERE) == BearerToken("one")
    assert ChainKeychain.of(first, second).credentials(ELSEWHERE) is None
    assert ChainKeychain.of().credentials(HERE) is None


def test_anonymous_is_an_answer_and_ends_the_search():
    first = StaticKeychain.for_url("https://git.example.com", Anonymous())
    second = StaticKeychain.for_url("https://git.example.com", BearerToken("two"))
    assert ChainKeychain.of(first, second).credentials(HERE) == Anonymous()


def test_a_keychain_that_cannot_be_asked_is_not_passed_over():
    second = StaticKeychain.for_url("https://git.example.com", BearerToken("two"))
    with pytest.raises(ConfigurationError):
        ChainKeychain.of(Failing(), second).credentials(HERE)


def test_a_chain_pickles():
    chain = ChainKeychain.of(NetrcKeychain("/x"), StaticKeychain.for_url("https://git.example.com", BearerToken("t")))
    assert pickle.loads(pickle.dumps(chain)) == chain


# --- variables -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"FLUXSRC_TOKEN": ""}, None),
        ({"FLUXSRC_TOKEN": "t"}, BearerToken("t")),
        ({"FLUXSRC_USERNAME": "u", "FLUXSRC_PASSWORD": "p"}, BasicAuth("u", "p")),
        (
            {"FLUXSRC_SSH_IDENTITY": "k", "FLUXSRC_SSH_KNOWN_HOSTS": "h", "FLUXSRC_SSH_PASSPHRASE": "s"},
            SSHKey(identity="k", known_hosts="h", passphrase="s"),
        ),
    ],
)
def test_variables_make_credentials_for_the_origin_of_the_url_only(environ, expected):
    keychain = keychain_from_env("https://git.example.com/team/repo.git", environ=environ)
    assert keychain.credentials(HERE) == expected
    assert keychain.credentials(ELSEWHERE) is None


@pytest.mark.parametrize(
    "environ",
    [
        {"X_USERNAME": "u"},
        {"X_PASSWORD": "p"},
        {"X_SSH_IDENTITY": "k"},
        {"X_SSH_KNOWN_HOSTS": "h"},
        {"X_TOKEN": "t", "X_USERNAME": "u", "X_PASSWORD": "p"},
    ],
)
def test_half_or_ambiguous_variables_are_an_error(environ):
    with pytest.raises(ConfigurationError):
        keychain_from_env("https://git.example.com", prefix="X", environ=environ)


# --- .netrc ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def netrc(tmp_path):
    def write(text, **options):
        path = tmp_path / "netrc"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return NetrcKeychain(path, **options)

    return write


def test_a_machine_is_https_on_its_usual_port(netrc):
    keychain = netrc("machine git.example.com login me password pw\n")
    assert keychain.credentials(HERE) == BasicAuth("me", "pw")
    for other in ("http://git.example.com", "https://git.example.com:8443", "ssh://git.example.com", str(ELSEWHERE)):
        assert keychain.credentials(Origin.of(other)) is None


def test_a_machine_with_a_port_is_that_port(netrc):
    keychain = netrc("machine git.example.com:8443 login me password pw\n")
    assert keychain.credentials(Origin.of("https://git.example.com:8443")) == BasicAuth("me", "pw")
    assert keychain.credentials(HERE) is None


def test_plain_http_has_to_be_allowed(netrc):
    keychain = netrc("machine git.example.com login me password pw\n", allow_http=True)
    assert keychain.credentials(Origin.of("http://git.example.com")) == BasicAuth("me", "pw")


def test_the_default_entry_is_for_nobody(netrc):
    keychain = netrc("default login me password pw\n")
    assert keychain.credentials(HERE) is None
    assert keychain.credentials(Origin.of("https://default")) is None


def test_machines_compare_without_case_and_need_a_login(netrc):
    assert netrc("machine Git.Example.COM login me password pw\n").credentials(HERE) == BasicAuth("me", "pw")
    assert netrc("machine git.example.com password pw\n").credentials(HERE) is None


def test_the_file_is_read_anew_each_time(netrc):
    keychain = netrc("machine git.example.com login me password old\n")
    assert keychain.credentials(HERE) == BasicAuth("me", "old")
    netrc("machine git.example.com login me password new\n")
    assert keychain.credentials(HERE) == BasicAuth("me", "new")


@pytest.mark.parametrize(
    "text", ["machine a login b password c hunter2 d\n", b"machine \xff login b password hunter2\n"]
)
def test_a_file_that_cannot_be_read_is_an_error_that_quotes_nothing(netrc, text):
    keychain = netrc(text)
    with pytest.raises(ConfigurationError) as caught:
        keychain.credentials(HERE)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_file_that_was_named_and_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match="No such file"):
        NetrcKeychain(tmp_path / "missing").credentials(HERE)


def test_the_environment_is_looked_at_only_when_asked(tmp_path):
    assert NetrcKeychain.from_env({"NETRC": "/n", "HOME": "/h"}) == NetrcKeychain("/n")
    assert NetrcKeychain.from_env({"HOME": "/h"}) == NetrcKeychain("/h/.netrc")
    with pytest.raises(ConfigurationError):
        NetrcKeychain.from_env({})
