"""Serve a store over HTTP: artifacts at the URLs that Flux gives them, and as a registry.

`app` makes an ASGI application of a store; any ASGI server runs it, and any ASGI framework mounts it. `serving` runs it with
uvicorn (extra `server`) while a block lasts:

```python
from fluxsrc import MemorySource, MemoryStore
from fluxsrc.server import app, serving

store = MemoryStore()
artifact = MemorySource({"app.yaml": "kind: Deployment"}).produce_artifact(store, name="podinfo")
with serving(app(store)) as url:
    ...  # {url}/memory/default/podinfo/latest.tar.gz
```

Bytes are served only after all of them were hashed and found to be what the store says.
"""

from fluxsrc.server._app import app
from fluxsrc.server._http import ASGIApplication
from fluxsrc.server._uvicorn import Listener, listening, run, serving

__all__ = ["ASGIApplication", "Listener", "app", "listening", "run", "serving"]
