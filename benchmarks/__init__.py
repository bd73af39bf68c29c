"""How fast it is: `python -m benchmarks` (`make bench`) measures on a platform of its own and writes `RESULTS.md`."""
