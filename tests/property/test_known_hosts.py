"""known_hosts patterns against oracles, and the parser against noise."""

import base64
import fnmatch
import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from fluxsrc.errors import ConfigurationError
from fluxsrc.git.known_hosts import KnownHosts, matches_list, matches_pattern

names = st.text("ab.", max_size=8)
patterns = st.text("ab.*?", max_size=8)
hosts = st.from_regex(r"[a-z0-9]{1,8}(\.[a-z0-9]{1,8}){0,2}", fullmatch=True)
ports = st.none() | st.integers(1, 65535)
KEY = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519" + b"k" * 36).decode()


@given(names, patterns)
def test_patterns_match_as_globs_do(name, pattern):
    assert matches_pattern(name, pattern) == fnmatch.fnmatchcase(name, pattern)


@given(names, st.lists(patterns, max_size=4), st.lists(patterns, max_size=3))
def test_a_list_matches_if_one_pattern_does_and_no_negated_one(name, positive, negated):
    expected = any(fnmatch.fnmatchcase(name, p) for p in positive) and not any(
        fnmatch.fnmatchcase(name, p) for p in negated
    )
    assert matches_list(name, [*positive, *(f"!{p}" for p in negated)]) == expected


@given(st.integers(1, 40))
def test_many_stars_take_steps_of_the_order_of_their_product(stars):
    assert not matches_pattern("a" * 200, "*a" * stars + "b")


@given(hosts, ports, st.binary(min_size=20, max_size=20), st.booleans())
def test_a_host_finds_its_own_line_plain_or_hashed_and_no_other_host_does(host, port, salt, hashed):
    name = host if port in (None, 22) else f"[{host}]:{port}"
    field = name
    if hashed:
        digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
        field = f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"
    known = KnownHosts.parse(f"{field} {KEY}\n")
    assert [key.text for key in known.lookup(host, port).trusted] == [KEY]
    assert not known.lookup(f"x{host}", port)
    assert not known.lookup(host, 40000 if port != 40000 else 40001)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_with_a_line_number(text):
    said = "known_hosts, line 1"
    try:
        KnownHosts.parse(text).lookup("host")
    except ConfigurationError as exc:
        said = str(exc)
    assert said.startswith("known_hosts, line ")
