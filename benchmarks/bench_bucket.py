"""A bucket becomes an artifact: fluxsrc against Flux's path, `rclone` and `aws s3 sync`, all from one MinIO on loopback.

    python benchmarks/bench_bucket.py [--who TEXT] [case ...]        cases: small large changed listing

fluxsrc does what a user does, `BucketSource(...).produce_artifact(LocalStore(...))`: listing, ignore rules, preconditions,
checksums, two digests, manifest, record and fsync included. Flux's path is source-controller's: list, then a hundred
workers with minio-go into a directory, then `Storage.Archive`. rclone and aws copy into a directory; `tar | gzip` follows.
"process" includes starting it; "call" is the time inside of it where a program tells: where nothing changed, that is what
listing costs, and the rest is what Python takes to start. No program in Python that lists can take less than "the listing alone":
an interpreter that asks for the pages, one after the other, and does not look at them. `--who` leaves out whoever has not the
text in his name. Needs `minio` (and for the others `rclone`, `aws`, `go`) in $GOBIN or on the PATH.
"""

import argparse
import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import _common as common
import boto3
from botocore.config import Config

USER, PASSWORD = "fluxsrc", "fluxsrc-secret-key"
WHO = ""
CASES = ["small", "large", "changed", "listing"]
MIB = common.MIB

OURS = """
import json, sys, time
from fluxsrc.bucket import AWSKeys, BucketSource, S3Bucket
from fluxsrc.stores.local import LocalStore
endpoint, user, password, name, store = sys.argv[1:]
bucket = S3Bucket(name, endpoint=endpoint, region="us-east-1", credentials=AWSKeys(user, password))
started = time.perf_counter()
with LocalStore(store) as store:
    artifact = BucketSource(bucket, timeout=None).produce_artifact(store)
print(json.dumps({"size": artifact.size, "files": artifact.files, "revision": str(artifact.revision),
                  "seconds": time.perf_counter() - started}))
"""

BARE = """
import datetime as dt, http.client, json, re, sys, time
from fluxsrc.bucket.sigv4 import AWSKeys, Signer, canonical_query, timestamp
host, user, password, name = sys.argv[1:]
started = time.perf_counter()
signer, connection, query = Signer(AWSKeys(user, password), "us-east-1"), http.client.HTTPConnection(host), ""
while query is not None:
    text = canonical_query([("list-type", "2"), *([("start-after", query)] * bool(query))])
    fields = signer.sign("GET", host, f"/{name}", text, {}, timestamp(dt.datetime.now(dt.UTC)))
    fields["authorization"] = fields["authorization"].reveal()
    connection.request("GET", f"/{name}?{text}", headers=fields)
    page = connection.getresponse().read()
    query = re.findall(b"<Key>([^<]*)", page[-1000:])[-1].decode() if b"<IsTruncated>true<" in page else None
print(json.dumps({"seconds": time.perf_counter() - started}))
"""
BARE_NAME = "the listing alone, unread"

LISTING = """
import contextlib, hashlib, json, sys, time
from fluxsrc.bucket import BucketObject, BucketSource
class Million:
    url, jumps = "s3://million", True
    @contextlib.contextmanager
    def connect(self, operation):
        yield self
    def pages(self, prefix="", *, after=""):
        for page in range(1000 * (prefix == "")):
            yield [BucketObject(f"datasets/2026/part-{page:05}/shard-{n:05}.parquet", n,
                   hashlib.md5(b"%d" % (page * 1000 + n)).hexdigest()) for n in range(1000)]
    def read(self, item, start=0, length=None):
        raise AssertionError
started = time.perf_counter()
source = BucketSource(Million(), timeout=None)
revision = source.resolve_revision()
resolved = time.perf_counter() - started
with source.fetch() as snapshot:
    paths = sum(1 for _ in snapshot.entries())
print(json.dumps({"objects": paths, "resolve": resolved, "all": time.perf_counter() - started}))
"""


def tool(name):
    return shutil.which(name, path=os.pathsep.join([os.environ.get("GOBIN", ""), os.environ.get("PATH", "")]))


@contextlib.contextmanager
def minio():
    """A MinIO with its data kept between runs; yields HOST:PORT."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        address, console = (f"127.0.0.1:{s.getsockname()[1]}" for s in (one, other))
    binary = tool("minio")
    if binary is None:
        raise SystemExit("there is no `minio` in $GOBIN or on the PATH: run tests/servers/install-buckets.sh")
    command = [
        binary,
        "server",
        "--quiet",
        "--address",
        address,
        "--console-address",
        console,
        common.scratch() / "minio",
    ]
    env = {**os.environ, "MINIO_ROOT_USER": USER, "MINIO_ROOT_PASSWORD": PASSWORD, "MINIO_BROWSER": "off"}
    server = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://{address}/minio/health/ready", timeout=2)
                break
            time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait()


def client(address):
    config = Config(max_pool_connections=8, request_checksum_calculation="when_required", proxies={})
    keys = {"aws_access_key_id": USER, "aws_secret_access_key": PASSWORD, "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=f"http://{address}", config=config, **keys)


def small_key(number):
    return f"d{number % 100:02}/f{number:05}.bin"


def small_body(number):
    return secrets.token_bytes(3072) + b"%0128d" % number * 8


def fill(s3, name, count, key, body):
    """A bucket that is filled once and kept."""
    if name in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
        return
    s3.create_bucket(Bucket=name)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: s3.put_object(Bucket=name, Key=key(n), Body=body(n)), range(count)))


def contestants(address, name, out, flux, revision="none"):
    """Name and command of each that takes part; what they keep is in `out`."""
    return [(who, command) for who, command in everybody(address, name, out, flux, revision) if WHO in who]


def everybody(address, name, out, flux, revision):
    yield "fluxsrc", common.python(OURS, f"http://{address}", USER, PASSWORD, name, out / "store")
    if flux is not None:
        yield "Flux's path", [flux, "bucket", address, USER, PASSWORD, name, revision, out / "artifact.tar.gz"]
    pack = f"tar -C {out}/files -cf - . | gzip -6 | tee {out}/a.tar.gz | sha256sum > {out}/sum"
    if tool("rclone"):
        remote = (
            f":s3,provider=Minio,access_key_id={USER},secret_access_key={PASSWORD},endpoint='http://{address}':{name}"
        )
        copy = f'rclone --config "" sync "{remote}" {out}/files --fast-list'
        yield "rclone + tar | gzip", ["sh", "-c", f"{copy} && {pack}"]
        yield "rclone, 32 transfers", ["sh", "-c", f"{copy} --transfers 32 --checkers 32 && {pack}"]
    if tool("aws"):
        copy = f"aws --endpoint-url http://{address} s3 sync --only-show-errors s3://{name} {out}/files"
        yield "aws s3 sync + tar | gzip", ["sh", "-c", f"{copy} && {pack}"]


def clear(out):
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)


def restore(saved, out):
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(saved, out, symlinks=True)


def report(title, results):
    print(f"\n## {title}\n")
    ours = results["fluxsrc"].seconds
    rows = []
    for name, r in results.items():
        call = f"{common.last_json(r.output)['seconds']:.2f} s" if r.output.startswith("{") else ""
        row = [f"{r.seconds:.2f} s", f"{r.seconds / ours:.2f}x", f"{r.cpu:.2f} s", call, f"{r.peak / MIB:.0f} MiB"]
        rows.append([name, *row])
    print(common.table(["", "process", "to ours", "CPU", "call", "peak memory"], rows), flush=True)


def from_nothing(title, address, name, flux, runs, *, warm=True):
    out = common.scratch() / "out"
    results = {}
    for who, command in contestants(address, name, out, flux):
        results[who] = common.measure(command, before=lambda: clear(out), runs=runs, warm=warm)
    clear(out)
    report(title, results)


def from_before(address, s3, name, flux, runs):
    """Everybody has done it once. First nothing changes, then ten objects do."""
    out, saved = common.scratch() / "out", common.scratch() / "saved"
    places, known = {}, "none"
    for number, (who, command) in enumerate(contestants(address, name, out, flux)):
        clear(out)
        said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=common.REPOSITORY).stdout
        known = common.last_json(said)["revision"] if who == "fluxsrc" else known
        places[who] = saved / str(number)
        restore(out, places[who])
    for title in ("(d) 10,000 objects, unchanged", "(c) 10,000 objects, of which 10 changed"):
        results = {}
        commands = [(BARE_NAME, common.python(BARE, address, USER, PASSWORD, name))]
        commands += contestants(address, name, out, flux, known)
        for _ in range(runs):  # by turns: a machine that is busy for a while is so for all
            for who, command in commands:
                prepare = partial(restore, places[who], out) if who in places else lambda: None
                result = common.measure(command, before=prepare, runs=1, warm=False)
                results[who] = min(results.get(who, result), result, key=lambda found: found.seconds)
        report(title, results)
        change_ten(s3, name)
    clear(out)
    shutil.rmtree(saved)


def change_ten(s3, name):
    """Ten objects spread over the bucket get new content."""
    for number in range(0, 10_000, 1000):
        s3.put_object(Bucket=name, Key=small_key(number + 7), Body=small_body(number))


def listing():
    print("\n## A listing of a million keys (simulated pages)\n")
    bare = common.bare_interpreter()
    result = common.measure(common.python(LISTING), runs=1)
    found = common.last_json(result.output)
    rows = [[f"{found['objects']:,}", f"{found['resolve']:.1f} s", f"{found['all']:.1f} s"]]
    rows[0] += [f"{result.peak / MIB:.0f} MiB", f"{(result.peak - bare) / MIB:.0f} MiB"]
    head = ["objects", "resolve", "resolve, list again, iterate", "peak memory", "over bare Python"]
    print(common.table(head, rows), flush=True)


def main(cases):
    print(f"# Buckets, on {common.machine()}")
    os.environ.pop("AWS_CA_BUNDLE", None)  # rclone cannot have its own transport and this
    os.environ |= {"AWS_ACCESS_KEY_ID": USER, "AWS_SECRET_ACCESS_KEY": PASSWORD, "AWS_DEFAULT_REGION": "us-east-1"}
    if "listing" in cases:
        listing()
    if {"small", "large", "changed"} & set(cases):
        flux = common.flux_peer()
        with minio() as address:
            s3 = client(address)
            fill(s3, "small", 10_000, small_key, small_body)
            if "small" in cases:
                from_nothing("(a) 10,000 objects of 4 KB", address, "small", flux, 2)
            if "large" in cases:
                fill(s3, "large", 20, lambda n: f"model-{n:02}.bin", lambda _: secrets.token_bytes(100_000_000))
                from_nothing("(b) 20 objects of 100 MB", address, "large", flux, 1, warm=False)
            if "changed" in cases:
                from_before(address, s3, "small", flux, 3)
            s3.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--who", default="")
    parser.add_argument("case", nargs="*", default=CASES, help=" ".join(CASES))
    arguments = parser.parse_args()
    WHO = arguments.who
    main(arguments.case)
