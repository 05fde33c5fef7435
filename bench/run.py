"""Runs every benchmark of this folder, one after the other, and prints their tables."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Run each script of the folder but this one; fail where one fails."""
    for script in sorted(HERE.glob("bench_*.py")):
        print(f"\n## {script.stem.removeprefix('bench_')}\n", flush=True)
        subprocess.run([sys.executable, script], check=True)


if __name__ == "__main__":
    main()
