"""What tests share, a module each; fixtures are in the `conftest.py` files.

In this process: `asgi`, `served`, `git_sources`, `http_server`, `web_server`, `registries`, `tls`, `small_proxies`, `small_sigstore`,
`notation_keys`, `soak`, `waiting`. Around real programs, which the scripts in tests/servers install: `programs`, `bucket_servers`,
`git_servers`, `kubernetes_servers`, `oci_servers`, `sigstore_servers`, `git_workshop`, `notation_workshop`.
"""
