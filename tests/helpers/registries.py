"""Registries that do what `fluxsrc.testing.registry` itself would not."""

from fluxsrc.digest import Digest
from fluxsrc.testing.registry import handler as fake


def let_referrers_be_endless(monkeypatch):
    """Each page of them leads to another, with something new in it."""

    def endless(handler, name, digest):
        number = len(handler.registry.requests)
        item = {"mediaType": fake.MANIFEST, "size": 2}
        page = [item | {"digest": str(Digest.of(b"%d-%d" % (number, at)))} for at in range(100)]
        headers = {"Link": f'</v2/{name}/referrers/{digest}?page={number}>; rel="next"'}
        handler._json({"schemaVersion": 2, "mediaType": fake.INDEX, "manifests": page}, headers)

    route = next(route for route in fake._ROUTES if "referrers" in route[1])
    monkeypatch.setattr(fake, "_ROUTES", [(("GET",), route[1], endless), *fake._ROUTES])
