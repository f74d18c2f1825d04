"""The URL of a source says all that a URL may say: from there the same source is made again."""

import re

from hypothesis import given
from hypothesis import strategies as st

from fluxsrc import source_from_url
from fluxsrc.auth import Anonymous
from fluxsrc.bucket import Addressing, AWSProfile, AzureBucket, BucketSource, Etags, GCSBucket, LocalBucket, S3Bucket
from fluxsrc.directory import DirectorySource
from fluxsrc.errors import ConfigurationError, FluxSrcError
from fluxsrc.git import GitSource
from fluxsrc.oci import LayerOperation, LayoutReference, OCISource, Reference

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)
"""All that can be in a name, with what means something in a URL more often than by chance."""
TRICKY = st.text("ab %+&=?#,/;:@\u00fc\u2028'\"\\~", min_size=1, max_size=8)
ANY = TEXT | TRICKY
WORD = st.text("abcxyz019", min_size=3, max_size=8)
DIGEST = st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:{}".format)


def _is_name(text: str) -> bool:
    return text not in (".", "..") and "/" not in text and "\\" not in text


SEGMENT = ANY.filter(_is_name)
REF = st.text("ab%+&=#,;'\"\u00fc", min_size=1, max_size=8)
"""What git allows in the name of a branch or a tag."""
PATH = st.lists(SEGMENT, max_size=3).map("/".join)
ROOT = st.lists(SEGMENT, min_size=1, max_size=3).map(lambda segments: "/" + "/".join(segments))
ENDPOINT = st.none() | st.builds("http://{}.example:{}/{}".format, WORD, st.integers(1, 65535), WORD)


def options(**strategies):
    """Some of these, in any combination."""
    return st.fixed_dictionaries({}, optional=strategies)


REFERENCES = st.one_of(
    st.just({}),
    options(branch=REF),
    options(tag=REF),
    st.fixed_dictionaries({"semver": st.sampled_from([">=1.0 <2", "1.x", "^1 || ~2"])}),
    st.fixed_dictionaries({"semver": st.just("*"), "tag_pattern": st.sampled_from([r"^app/(v.+)$", "a&b=c", "[+?#]"])}),
    st.fixed_dictionaries({"commit": st.text("0123456789abcdef", min_size=40, max_size=40)}),
)


@st.composite
def git(draw):
    address = draw(
        st.sampled_from(["git+https://example.com/team/app.git", "git@example.com:team/app.git", "git://e.example:1/a"])
        | ROOT.map(lambda root: GitSource(root).address.url)
    )
    reference = draw(REFERENCES)
    more = draw(
        options(
            path=PATH,
            submodules=st.booleans(),
            sparse=st.lists(PATH.filter(bool), max_size=3),
            lfs=st.sampled_from(["keep", "error", "fetch"]),
            lfs_url=st.just("https://lfs.example:1/a b/+c"),
        )
    )
    return address, reference | more


@st.composite
def oci(draw):
    digest = draw(st.none() | DIGEST)
    tag = draw(st.none() | WORD)
    ranged = digest is None and tag is None and draw(st.booleans())
    if not ranged and digest is None:
        tag = tag or "latest"
    place = draw(st.booleans())
    text = (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    reference = (
        Reference.parse(f"oci://{draw(WORD)}.example:5000/team/{draw(WORD)}{text}")
        if place
        else LayoutReference.parse(f"oci-layout:{draw(ROOT.filter(_is_layout))}{text}")
    )
    more = draw(
        options(
            path=PATH,
            layer=st.sampled_from(["application/vnd.cncf.flux.content.v1.tar+gzip"]) | ANY,
            layer_operation=st.sampled_from(list(LayerOperation)),
            platform=st.sampled_from(["linux/amd64", "linux/arm64/v8", "a&b/c=d"]),
        )
    )
    if ranged:
        more |= {"semver": ">=1.0.0-0"} | draw(options(semver_filter=st.sampled_from(["^v(.*)$", "a&b", "#+?"])))
    return OCISource(reference, **more)


def _is_layout(root: str) -> bool:
    return not any(character in root for character in ":?#@")


KEYS = ANY.filter(lambda text: "\0" not in text)


@st.composite
def bucket(draw):
    anonymous = draw(st.booleans())
    credentials = {"credentials": Anonymous()} if anonymous else {}
    kind = draw(st.sampled_from(["s3", "gs", "az", "file"]))
    match kind:
        case "s3":
            profile = {} if anonymous else draw(options(credentials=ANY.map(AWSProfile)))
            more = draw(
                options(region=st.just("eu-west-1"), addressing=st.sampled_from(list(Addressing)), endpoint=ENDPOINT)
            )
            made = S3Bucket(draw(WORD), **more, **credentials, **profile)
        case "gs":
            made = GCSBucket(draw(WORD), endpoint=draw(ENDPOINT), **credentials)
        case "az":
            made = AzureBucket(draw(WORD), account=draw(WORD), endpoint=draw(ENDPOINT), **credentials)
        case _:
            made = LocalBucket(draw(ROOT), etags=draw(st.sampled_from(list(Etags))))
    prefix = draw(st.just("") | KEYS)
    strip = draw(st.booleans())
    if strip and prefix:
        prefix = f"{prefix.rstrip('/')}/"
    return BucketSource(made, prefix, strip_prefix=strip)


@given(git())
def test_a_git_url_says_all(what):
    """Which revision, and what of it: submodules, sparse paths with commas in them, LFS."""
    address, given_options = what
    source = GitSource(address, **given_options)
    again = source_from_url(source.url)
    assert again == source
    assert again.url == source.url


@given(oci())
def test_an_oci_url_says_all(source):
    """Which manifest, which of its layers, for which platform, and what becomes of it."""
    again = source_from_url(source.url)
    assert again == source
    assert again.url == source.url


@given(bucket())
def test_a_bucket_url_says_all(source):
    """Where, how it is addressed, by whose profile, and which keys."""
    again = source_from_url(source.url)
    assert again == source
    assert again.url == source.url


@given(ROOT, PATH)
def test_a_directory_url_says_all(root, path):
    """Two paths."""
    source = DirectorySource(root, path=path)
    assert source_from_url(source.url) == source


SCHEMES = [
    "git+https",
    "git+ssh",
    "git+file",
    "git",
    "oci",
    "oci-layout",
    "s3",
    "gs",
    "az",
    "file",
    "bucket+file",
    "https",
    "",
]
PIECES = [
    "/",
    ":",
    "@",
    "//",
    "ada:hunter2@",
    "example.com",
    "[::1]",
    "[",
    "%2f",
    "%zz",
    "%ff",
    "\0",
    "\udcff",
    "é",
    "?",
    "&",
    "=",
]
PIECES += [
    "#",
    "#path=",
    "..",
    "branch=",
    "semver=",
    "1.x",
    "sparse=,",
    "lfs=",
    "operation=",
    "account=",
    "etags=",
    "@sha256:",
]


@given(st.sampled_from(SCHEMES), st.sampled_from(["://", ":", ":///"]), st.lists(st.sampled_from(PIECES), max_size=8))
def test_any_text_is_a_source_or_a_mistake_of_the_caller(scheme, colon, pieces):
    """Never another error; and the password of a URL is in neither."""
    text = f"{scheme}{colon}{''.join(pieces)}"
    try:
        source = source_from_url(text)
    except ConfigurationError as exc:
        shown = f"{exc}{exc!r}"
    except FluxSrcError as exc:
        assert "path" in text  # a sub-tree that leads out
        shown = f"{exc}{exc!r}"
    else:
        shown = f"{source.url}{source!r}"
    if text.count("hunter2") == 1 and re.match(r"[^:]*[^e]://ada:hunter2@[a-z]", text):  # a path of a file may hold it
        assert "hunter2" not in shown
