"""`python tests/benchmarks NAME`: one of the benchmarks."""

import sys
from pathlib import Path

# as in the tests: `benchmarks` and what they share lie in this folder's parent
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.runner import main

if __name__ == "__main__":
    main()
