"""How good the original models are: `python -m tests.benchmarks.measures`."""

from __future__ import annotations

import argparse
import time

from tests.benchmarks.measures import real_models, runner


def main() -> None:
    """Print a line per model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="models, by a part of their names; all if there is none")
    names = parser.parse_args().names
    print(f"{'model':<20} {'measure':<46} {'expected':>8} {'measured':>9} {'seconds':>8}")
    for model in real_models():
        if names and not any(part in model.name for part in names):
            continue
        run = runner(model.proto())
        model.score(run)  # makes the data
        start = time.perf_counter()
        measured = model.score(run)
        seconds = time.perf_counter() - start
        print(f"{model.name:<20} {model.measure:<46} {model.expected:>8.2f} {measured:>9.4f} {seconds:>8.2f}")


if __name__ == "__main__":
    main()
