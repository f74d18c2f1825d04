"""Ignore rules against pathspec: time for each path, and memory, in one run.

    python benchmarks/bench_ignore.py [--paths N]

pathspec answers for one list of patterns without git's pruning; that is the nearest it has to the same question.
"""

import argparse
import random
import time
import tracemalloc

import pathspec

from fluxsrc.ignore import NAMED_SETS, IgnoreRules

TARGET_US = {"24 default patterns": 1.5, "500 mixed patterns": 10.0}


def tree(count: int) -> list[str]:
    """Paths of a monorepo, sorted: apps, environments, and some of everything else."""
    names = [
        "deployment.yaml",
        "service.yaml",
        "kustomization.yaml",
        "values.yaml",
        "README.md",
        "main.go",
        "logo.png",
        "notes.txt",
    ]
    seen = random.Random(7)
    paths = []
    for number in range(count):
        app, environment = f"app-{number // 40:04d}", ("base", "dev", "staging", "prod")[number // 10 % 4]
        name = f"{seen.choice(('cm', 'job', 'crd'))}-{number}.yaml" if number % 10 >= len(names) else names[number % 10]
        paths.append(f"teams/{'abcdefgh'[number // 40 % 8]}/{app}/{environment}/{name}")
    return sorted(paths)


def mixed(count: int) -> list[str]:
    """Patterns of every kind in the proportions of large ignore files, a tenth of them negated or wild."""
    seen = random.Random(8)
    kinds = [
        lambda n: f"build-{n}/",
        lambda n: f"*.ext{n}",
        lambda n: f"/teams/a/app-{n:04d}/base/local.yaml",
        lambda n: f"tmp-{n}*",
        lambda n: f"out{n}.log",
        lambda n: f"**/cache-{n}/data",
        lambda n: f"/vendor-{n}/",
        lambda n: f"teams/*/app-{n:04d}/dev/*.bak",
        lambda n: f"[Dd]ebug{n}/",
        lambda n: f"!keep-{n}.ext{n}",
        lambda n: f"gen-*-{n}.go",
        lambda n: f"*_test{n}.?o",
        lambda n: f"docs/**/draft-{n}.md",
    ]
    some = ["notes.txt", "job-*[05].yaml", "/teams/h/*/dev/", "!/teams/h/app-0015/"]  # these do match something
    return [seen.choice(kinds)(number) for number in range(count - len(some))] + some


def measure(decide, paths) -> tuple[float, int]:
    """Best microseconds of CPU a path in five passes, and how many were excluded."""
    best = float("inf")
    for _ in range(5):
        begin = time.process_time()
        excluded = sum(map(decide, paths))
        best = min(best, time.process_time() - begin)
    return best / len(paths) * 1e6, excluded


def peak(make, paths) -> float:
    """Peak MiB of making the matcher and asking it about all paths."""
    tracemalloc.start()
    decide = make()
    for path in paths:
        decide(path)
    top = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return top / 2**20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--paths", type=int, default=20_000)
    paths = tree(parser.parse_args().paths)
    shuffled = random.Random(9).sample(paths, len(paths))
    for title, patterns in {
        "24 default patterns": [pattern for some in NAMED_SETS.values() for pattern in some],
        "500 mixed patterns": mixed(500),
    }.items():
        text = "\n".join(patterns)
        spec = pathspec.GitIgnoreSpec.from_lines(patterns)
        print(f"{title}, {len(paths):,} paths; target {TARGET_US[title]} us a path")
        reference, reference_excluded = measure(spec.match_file, paths)
        rows = {
            "pathspec": (
                reference,
                reference_excluded,
                peak(lambda some=patterns: pathspec.GitIgnoreSpec.from_lines(some).match_file, paths),
            )
        }
        for dialect in ("gitignore", "flux"):
            for order, some in (("sorted", paths), ("shuffled", shuffled)):

                def fresh(dialect=dialect, text=text):
                    return IgnoreRules(dialect, {"": text}, defaults=()).excluded

                cold = float("inf")
                for _ in range(5):
                    begin = time.process_time()
                    first = fresh()
                    excluded = sum(map(first, some))
                    cold = min(cold, (time.process_time() - begin) / len(some) * 1e6)
                warm, _ = measure(first, some)
                rows[f"{dialect}, {order}, cold"] = (cold, excluded, peak(fresh, some))
                rows[f"{dialect}, {order}, warm"] = (warm, excluded, rows[f"{dialect}, {order}, cold"][2])
        for name, (microseconds, excluded, memory) in rows.items():
            print(
                f"  {name:28} {microseconds:8.2f} us  {reference / microseconds:7.1f}x  {excluded:6} excluded  {memory:6.1f} MiB"
            )


if __name__ == "__main__":
    main()
