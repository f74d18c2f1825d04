"""known_hosts: which keys prove which host."""

import base64
import hashlib
import hmac

import pytest

from fluxsrc.errors import ConfigurationError
from fluxsrc.git.known_hosts import KnownHosts


def key(name: str, algorithm: str = "ssh-ed25519") -> str:
    blob = len(algorithm).to_bytes(4, "big") + algorithm.encode() + name.encode()
    return f"{algorithm} {base64.b64encode(blob).decode()}"


def trusted(text: str, host: str, port: int | None = None) -> list[str]:
    return [known.text for known in KnownHosts.parse(text).lookup(host, port).trusted]


def test_a_plain_name_matches_without_regard_to_case():
    assert trusted(f"Git.Example.com {key('a')} comment", "git.example.COM") == [key("a")]


def test_port_22_is_the_same_host_written_or_not():
    assert trusted(f"git.example.com {key('a')}", "git.example.com", 22) == [key("a")]


def test_another_port_is_another_host():
    text = f"host {key('a')}\n[host]:2222 {key('b')}"
    assert trusted(text, "host", 2222) == [key("b")]
    assert trusted(text, "host") == [key("a")]
    assert trusted(f"host {key('a')}", "host", 2222) == []


def test_a_hashed_host_matches_only_itself():
    salt = bytes(range(20))

    def field(name: str) -> str:
        digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
        return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"

    text = f"{field('host')} {key('a')}\n{field('[host]:2222')} {key('b')}\n"
    assert trusted(text, "Host") == [key("a")]
    assert trusted(text, "host", 2222) == [key("b")]
    assert trusted(text, "other") == []


def test_wildcards_match_and_a_negated_pattern_takes_the_whole_line_back():
    text = f"*.example.com,!bad.example.com {key('a')}"
    assert trusted(text, "git.example.com") == [key("a")]
    assert trusted(text, "bad.example.com") == []
    assert trusted(f"[10.0.0.?]:* {key('a')}", "10.0.0.7", 2200) == [key("a")]


def test_a_line_of_negations_alone_matches_nothing():
    assert trusted(f"!bad.example.com {key('a')}", "git.example.com") == []


def test_ipv6_addresses_are_written_as_openssh_writes_them():
    text = f"::1 {key('a')}\n[::1]:2222 {key('b')}"
    assert trusted(text, "::1") == [key("a")]
    assert trusted(text, "::1", 2222) == [key("b")]


def test_a_revoked_key_is_not_trusted_whatever_the_order():
    text = f"host {key('a')}\n@revoked * {key('a')}\nhost {key('b')}"
    keys = KnownHosts.parse(text).lookup("host")
    assert [known.text for known in keys.trusted] == [key("b")]
    assert [known.text for known in keys.revoked] == [key("a")]


def test_a_revoked_line_for_another_host_does_not_count():
    assert trusted(f"host {key('a')}\n@revoked other {key('a')}", "host") == [key("a")]


def test_a_host_whose_only_key_is_revoked_is_not_known():
    assert not KnownHosts.parse(f"host {key('a')}\n@revoked * {key('a')}").lookup("host")


def test_certificate_authorities_are_kept_apart():
    keys = KnownHosts.parse(f"@cert-authority *.example.com {key('ca')}").lookup("git.example.com")
    assert [known.text for known in keys.authorities] == [key("ca")]
    assert keys.trusted == ()
    assert keys


def test_comments_blank_lines_and_keys_of_protocol_1_are_passed_over():
    assert trusted(f"# note\n\n  \nold 1024 35 1234567 comment\nhost {key('a')}", "host") == [key("a")]


@pytest.mark.parametrize(
    "line",
    [
        "host",
        "host ssh-ed25519",
        "host ssh-ed25519 !!!",
        f"host ssh-rsa {key('a').split()[1]}",
        f"@trusted host {key('a')}",
        "@revoked host",
        f"|1|c2FsdA==|aGFzaA== {key('a')}",
        f"|2|{'A' * 28}|{'A' * 28} {key('a')}",
        f"|1|{'A' * 28} {key('a')}",
    ],
)
def test_a_line_that_cannot_be_read_is_an_error_with_its_number(line):
    with pytest.raises(ConfigurationError, match="known_hosts, line 2"):
        KnownHosts.parse(f"# first\n{line}\n")


def test_the_fingerprint_is_the_one_ssh_keygen_shows():
    line = "github.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    known = KnownHosts.parse(line).lookup("github.com").trusted[0]
    assert known.fingerprint == "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"
