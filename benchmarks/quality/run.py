"""How good one pass is: every table of the specification's quality section, with its peers.

    python benchmarks/quality/run.py [--seeds 8] [--quick] [--only Q1,Q3]

Prints Markdown. Jobs run on two processes of one thread each; figures depend on the seeds
alone. `--quick` takes two seeds and leaves out what takes long.
"""

import argparse
import importlib
import multiprocessing
import os
import time
import warnings
from concurrent.futures import ProcessPoolExecutor

TABLES = {
    "Q1": "mixture_tables:q1",
    "Q2": "mixture_tables:q2",
    "Q3": "kmeans_tables:q3",
    "P22": "kmeans_tables:p22",
    "Q4": "kmeans_tables:q4",
    "Q5": "mixture_order:q5",
    "Q6": "mixture_order:q6",
    "Q7": "mixture_order:q7",
    "Q10": "curve_tables:q10",
    "Q12": "replay_tables:q12",
    "faces": "faces:faces",
    "cost": "cost:cost",
}
QUICK = ("P22", "Q5", "Q6", "Q7", "Q12")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def main() -> None:
    """Run the tables asked for and print them."""
    options = _options()
    os.environ.update(dict.fromkeys(THREADS, "1"))  # before numpy is loaded
    warnings.simplefilter("ignore")
    bench_room = importlib.import_module("bench")
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(2, context, warnings.simplefilter, ("ignore",)) as workers:
        bench = bench_room.Bench(workers, 2 if options.quick else options.seeds, options.quick)
        print(f"{bench.seeds} seeds; mean (worst) ± standard error\n")
        for name in options.only or (QUICK if options.quick else TABLES):
            start = time.perf_counter()
            room, function = TABLES[name].split(":")
            for table in getattr(importlib.import_module(room), function)(bench):
                print(table.markdown(), flush=True)
            print(f"<!-- {name}: {time.perf_counter() - start:.0f} s -->\n", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="two seeds, less of everything")
    parser.add_argument("--only", type=_names, default=[], help="Q1,Q3,faces,cost,...")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = sorted(set(names) - set(TABLES))
    if unknown:
        raise argparse.ArgumentTypeError(f"no table {unknown}; there are {', '.join(TABLES)}")
    return names


if __name__ == "__main__":
    main()
