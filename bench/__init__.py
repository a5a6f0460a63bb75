"""Ours beside its peers: `python -m bench`, in one run, on one machine, round by round.

`servers` says what is run and how, `scenarios` what is measured, `load` and `memory` how;
`figures` makes medians and ratios of it, `report` and `plot` make them readable.
Programs that the servers' environment runs are in `serve`.

Apart from these, `restarts` counts the requests that `clients` lose while a service restarts.
"""
