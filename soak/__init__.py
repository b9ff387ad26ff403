"""Sends many uploads through a local stack and accounts for each of them: `make soak`.

- __main__: the command; deploys a stack, runs everything and prints a report
- plan: what is uploaded, overwritten and deleted
- load: uploads it, about as fast as the stack processes it
- faults: a proxy that makes requests of the function fail
- environments: memory of the function's processes; kills some of them on demand
- reconciliation: compares buckets and queues with the plan
"""
