"""Line S of the comparison alone, in 5 rounds: `python -m benchmarks.stores`. Takes the options of `benchmarks.run`."""

import sys

from . import run

if __name__ == "__main__":
    sys.argv[1:1] = ["--lines", "S", "--peers", "stores", "--repeat", "5"]
    run.main()
