"""Runs benchmarks of this folder one after the other, and prints their tables: all, or those that are named.

python bench/run.py                      all, each as it is by default
python bench/run.py livefire random_k    bench_livefire.py and bench_random_k.py
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
PREFIX = "bench_"


def main() -> None:
    """Run the scripts, and say how long each took; fail where one fails."""
    names = [script.stem.removeprefix(PREFIX) for script in sorted(HERE.glob(f"{PREFIX}*.py"))]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    wanted = parser.parse_args().names or names
    if unknown := sorted(set(wanted) - set(names)):
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(names)}")
    for name in wanted:
        print(f"\n## {name}\n", flush=True)
        started_s = time.monotonic()
        subprocess.run([sys.executable, HERE / f"{PREFIX}{name}.py"], check=True)
        print(f"\n({time.monotonic() - started_s:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
