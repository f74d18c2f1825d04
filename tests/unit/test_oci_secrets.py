"""No secret in any text: the OCI client fails in every way that has a secret near it, and all that is said is searched."""

import base64
import json
import logging
import traceback
from collections.abc import Callable, Iterator

import pytest

from fluxsrc._io.http import retry
from fluxsrc.auth import BasicAuth, BearerToken, Proxy, StaticKeychain
from fluxsrc.errors import FluxSrcError
from fluxsrc.keychains import DockerConfig
from fluxsrc.memory import MemorySource
from fluxsrc.oci import Access, OCISource, delete, list_tags, promote, push
from fluxsrc.testing.registry import Registry

SECRET = "s3cr3t-p4ssw0rd"
ENCODED = base64.b64encode(f"robot:{SECRET}".encode()).decode()
TYPE = "application/vnd.cncf.flux.content.v1.tar+gzip"
ECHO = f'{{"errors":[{{"code":"DENIED","message":"bad credentials {SECRET} Basic {ENCODED}"}}]}}'.encode()


def texts(error: BaseException) -> Iterator[str]:
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        exc = todo.pop()
        if exc is None or id(exc) in seen:
            continue
        seen.add(id(exc))
        yield from (str(exc), repr(exc), repr(exc.args), repr(vars(exc)))
        yield from traceback.format_exception(exc)
        todo += [exc.__cause__, exc.__context__]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(retry.retrying, "__kwdefaults__", {"policy": retry.RetryPolicy(base=0.001)})
    monkeypatch.setattr(retry.Attempts.__init__, "__defaults__", (retry.RetryPolicy(base=0.001),))


def basic(registry: Registry, password: str = SECRET) -> Access:
    return Access(keychain=StaticKeychain.for_url(registry.url, BasicAuth("robot", password)), insecure=True)


def pull(registry: Registry, access: Access) -> None:
    source = OCISource(
        f"oci://{registry.host}/app:v1", keychain=access.keychain, proxy=access.proxy, insecure=True, timeout=20.0
    )
    with source.fetch() as snapshot:
        list(snapshot.entries())


def wrong_password(registry: Registry) -> None:
    registry.users = {"robot": "another"}
    pull(registry, basic(registry))


def wrong_password_for_a_token(registry: Registry) -> None:
    registry.users, registry.token = {"robot": "another"}, True
    pull(registry, basic(registry))


def a_token_service_that_repeats_what_it_got(registry: Registry) -> None:
    registry.users, registry.token = {"robot": SECRET}, True
    registry.inject("/token", times=None, status=400, body=ECHO, headers={"Content-Type": "application/json"})
    pull(registry, basic(registry))


def a_token_that_is_none(registry: Registry) -> None:
    registry.users, registry.token = {"robot": SECRET}, True
    registry.inject("/token", times=None, status=200, body=json.dumps({"refresh": SECRET}).encode())
    pull(registry, basic(registry))


def a_refused_identity_token(registry: Registry) -> None:
    registry.users, registry.token = {"robot": "another"}, True
    keychain = StaticKeychain.for_url(registry.url, BasicAuth("<token>", SECRET))
    pull(registry, Access(keychain=keychain))


def a_refused_bearer_token(registry: Registry) -> None:
    registry.users, registry.token = {"robot": "another"}, True
    registry.inject("HEAD", times=None, status=404)
    registry.inject("GET", times=None, status=403, body=f"no: Bearer {SECRET}".encode())
    pull(registry, Access(keychain=StaticKeychain.for_url(registry.url, BearerToken(SECRET))))


def a_registry_that_repeats_the_password(registry: Registry) -> None:
    registry.users = {"robot": SECRET}
    registry.inject("HEAD", times=1, status=401, headers={"WWW-Authenticate": "Basic realm=x"})
    registry.inject("HEAD", times=None, status=404)
    registry.inject("GET", times=None, status=500, body=ECHO, headers={"Content-Type": "text/plain"})
    pull(registry, basic(registry))


def a_signed_redirect_that_fails(registry: Registry) -> None:
    location = f"{registry.url}/elsewhere?X-Signature={SECRET}"
    registry.inject("/blobs/", times=None, status=307, headers={"Location": location})
    pull(registry, basic(registry))


def a_signed_redirect_to_nobody(registry: Registry) -> None:
    location = f"http://127.0.0.1:1/{'x'}?X-Signature={SECRET}"
    registry.inject("/blobs/", times=None, status=307, headers={"Location": location})
    pull(registry, basic(registry))


def a_redirect_with_a_password(registry: Registry) -> None:
    registry.inject("/blobs/", times=None, status=307, headers={"Location": f"http://u:{SECRET}@127.0.0.1/"})
    pull(registry, basic(registry))


def an_upload_whose_location_is_secret(registry: Registry) -> None:
    location = f"{registry.url}/v2/app/blobs/uploads/1?_state={SECRET}"
    registry.inject("POST", times=None, status=202, headers={"Location": location})
    registry.inject("PUT", times=None, status=400)
    push(MemorySource({"a": "1"}), f"oci://{registry.host}/app:v1", access=basic(registry))


def a_page_with_a_secret_link(registry: Registry) -> None:
    link = f'<http://127.0.0.1:1/v2/app/tags/list?token={SECRET}>; rel="next"'
    registry.inject("tags/list", times=None, status=200, headers={"Link": link}, body=b'{"tags":["a"]}')
    list_tags(f"oci://{registry.host}/app", access=basic(registry))


def a_promotion_that_is_refused(registry: Registry) -> None:
    registry.users = {"robot": "another"}
    promote(f"oci://{registry.host}/app:v1", f"oci://{registry.host}/b:v1", access=basic(registry))


def a_deletion_that_is_refused(registry: Registry) -> None:
    registry.users = {"robot": "another"}
    delete(f"oci://{registry.host}/app:v1", confirmed=True, access=basic(registry))


def a_broken_docker_config(registry: Registry) -> None:
    pull(registry, Access(keychain=DockerConfig.from_secret(f'{{"auths": {{"x": {{"auth": "{SECRET}')))


def a_proxy_that_refuses(registry: Registry) -> None:
    registry.inject(".", times=None, status=407, body=ECHO)
    pull(registry, Access(proxy=Proxy(url=registry.url, username="robot", password=SECRET)))


def a_reference_with_a_password(registry: Registry) -> None:
    OCISource(f"oci://robot:{SECRET}@{registry.host}/app")


SCENARIOS: list[Callable[[Registry], None]] = [
    wrong_password, wrong_password_for_a_token, a_token_service_that_repeats_what_it_got, a_token_that_is_none,
    a_refused_identity_token, a_refused_bearer_token, a_registry_that_repeats_the_password, a_signed_redirect_that_fails,
    a_signed_redirect_to_nobody, a_redirect_with_a_password, an_upload_whose_location_is_secret,
    a_page_with_a_secret_link, a_promotion_that_is_refused, a_deletion_that_is_refused, a_broken_docker_config,
    a_proxy_that_refuses, a_reference_with_a_password,
]  # fmt: skip


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_nothing_that_is_said_holds_a_secret(scenario, caplog):
    caplog.set_level(logging.DEBUG)
    with Registry() as registry:
        registry.put("app", "v1", layers=[(TYPE, b"x")])
        with pytest.raises(FluxSrcError) as caught:
            scenario(registry)
    for text in [*texts(caught.value), caplog.text]:
        # A traceback quotes lines of this file; what they are made of is a name there, and no secret.
        assert SECRET not in text
        assert ENCODED not in text
