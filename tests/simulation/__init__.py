"""Runs the function's real code over a simulated S3, SQS and Lambda, from a seed: `make simulate`.

- isolation: imports the code of lambda/ with simulated clients instead of the real ones
- clients: simulated obstore and boto3, which send requests over the simulated network
- wire: requests, responses, and the errors of requests without a response
- s3: a simulated S3, which handles the requests
- scheduler: threads of which one runs at a time, until its next request
- scenario: what a seed decides in advance: keys, settings and how much goes wrong
- faults: what can happen to a request
- world: the run of one seed: users, events, invocations and faults, until nothing is left to do
- invariants: what must hold during the run and at its end
- mutations: deliberate faults in the real code; some invariant must detect each of them
- caught.json: for each mutation, a seed that detects it
- seeds: runs many seeds, in the processes of a long run
- calm: the simulated S3 without faults, for the storage contract (tests/bucket_contract.py)
"""
