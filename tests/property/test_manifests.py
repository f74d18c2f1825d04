"""Manifests of any values: what becomes of one is what becomes of the one that is written from it."""

from hypothesis import given
from hypothesis import strategies as st

from fluxsrc.manifests import load_manifests, to_manifest, to_yaml

API = "source.toolkit.fluxcd.io/v1"
DURATIONS = st.one_of(
    st.builds("{}{}".format, st.integers(1, 500), st.sampled_from("smh")),
    st.builds("{}h{}m{}s".format, st.integers(0, 48), st.integers(0, 90), st.integers(1, 90)),
    st.builds("{}.{}s".format, st.integers(0, 99), st.integers(1, 999)),
    st.builds("{}ms".format, st.integers(1, 100_000)),
)
NAMES = st.sampled_from(["app", "a-b", "123", "null", "yes", "0x1f", "1e3", "on-call"])
BUCKETS = st.sampled_from(["apps", "123", "null", "yes"])
TEXT = st.text(max_size=30)
"""Also what YAML has other plans for: numbers, `yes`, quotes, line ends, no letters at all."""
REF = st.sampled_from(["main", "1.1", "yes", "null", "0x1f", "feature/x+y", "on", "1e3", "2026-01-02", "ünïcode"])
# Flux's API takes no hours there: such a manifest is read, with a warning, and written anew in minutes.
COMMON = {"timeout": DURATIONS.map(lambda text: text.replace("h", "m")), "suspend": st.booleans(), "ignore": TEXT}
DIGEST = st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:{}".format)
PATHS = st.lists(st.sampled_from(["deploy", "a b", "x/y", "ü", "1"]), min_size=1, max_size=3, unique=True)


def spec(needed, **optional):
    """These, an interval, and any of those."""
    return st.fixed_dictionaries({"interval": DURATIONS} | needed, optional=COMMON | optional)


def one_of(**strategies):
    """A mapping with exactly one of these."""
    return st.one_of([st.fixed_dictionaries({name: values}) for name, values in strategies.items()])


GIT = spec(
    {
        "url": st.sampled_from(
            ["https://example.com/x", "http://example.com:8080/a%20b.git", "ssh://git@example.com:2222/~/x.git"]
        ),
        "ref": one_of(
            branch=REF,
            tag=REF,
            semver=st.sampled_from(["1.x", ">=1 <2", "*"]),
            name=REF.map("refs/heads/{}".format),
            commit=st.text("0123456789abcdef", min_size=40, max_size=40),
        ),
    },
    recurseSubmodules=st.booleans(),
    sparseCheckout=PATHS,
)
OCI = spec(
    {"url": st.sampled_from(["oci://ghcr.io/team/app", "oci://localhost:5000/a/b/c"])},
    ref=st.one_of(
        one_of(tag=st.sampled_from(["latest", "1.10", "v1", "true"]), digest=DIGEST),
        st.fixed_dictionaries(
            {"semver": st.sampled_from(["1.x", "*"])},
            optional={"semverFilter": st.sampled_from([".*-rc", "^v[0-9]+$"])},
        ),
    ),
    insecure=st.booleans(),
    layerSelector=st.fixed_dictionaries(
        {"mediaType": st.sampled_from(["x/y", "application/vnd.cncf.helm.chart.content.v1.tar+gzip"])},
        optional={"operation": st.sampled_from(["extract", "copy"])},
    ),
)
BUCKET = st.one_of(
    spec(
        {"bucketName": BUCKETS, "endpoint": st.just("minio.example.com:9000")},
        provider=st.just("generic"),
        prefix=TEXT,
        insecure=st.booleans(),
        region=st.just("eu-west-1"),
    ),
    spec(
        {"bucketName": BUCKETS, "endpoint": st.just("s3.amazonaws.com"), "provider": st.just("aws")},
        prefix=TEXT,
        region=st.just("eu-west-1"),
    ),
    spec(
        {
            "bucketName": BUCKETS,
            "endpoint": st.just("https://acct.blob.core.windows.net"),
            "provider": st.just("azure"),
        },
        prefix=TEXT,
    ),
)
DOCUMENTS = st.one_of(
    [
        st.fixed_dictionaries(
            {
                "apiVersion": st.just(API),
                "kind": st.just(kind),
                "metadata": st.fixed_dictionaries({"name": NAMES, "namespace": NAMES}),
                "spec": specs,
            }
        )
        for kind, specs in (("GitRepository", GIT), ("OCIRepository", OCI), ("Bucket", BUCKET))
    ]
)


@given(DOCUMENTS)
def test_a_manifest_survives_the_way_to_a_source_and_back(document):
    """As a value, and through YAML."""
    [managed] = load_manifests(document)
    written = to_manifest(managed)
    assert load_manifests(written) == (managed,)
    assert load_manifests(to_yaml(written)) == (managed,)
    assert to_manifest(load_manifests(written)[0]) == written
