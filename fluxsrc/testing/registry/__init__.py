"""`Registry`: an OCI registry in this process, on a real socket, for tests. It keeps everything in memory.

```python
from fluxsrc.oci import OCISource

with Registry() as registry:
    registry.put("team/app", "v1", layers=[("application/vnd.cncf.flux.content.v1.tar+gzip", b"an archive")])
    revision = OCISource(f"oci://{registry.host}/team/app:v1", insecure=True).resolve_revision()
```

It speaks the distribution API as far as clients use it: manifests, blobs with ranges, monolithic and chunked uploads,
mounts, paged tags, referrers, deletion, and logging in by basic or token. `inject` makes it fail on purpose. The same
client tests run against real registries, so that this one cannot drift from them.
"""

from fluxsrc.testing._loopback import Fault, Request
from fluxsrc.testing.registry.server import Registry

__all__ = ["Fault", "Registry", "Request"]
