"""How fast metaquery is, each figure beside a peer and beside the plain way: `python -m metaquery.bench`.

All times are CPU seconds, the least of several rounds, so that other work on the machine does not count. A peer runs
in an environment of its own, given as its Python executable, on the same made-up table, by a file in `peers`.
"""
