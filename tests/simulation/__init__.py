"""The function's real code over a simulated S3, SQS and Lambda, from a seed: `make simulate`.

- isolation: the modules of lambda/, imported afresh over stand-ins for what leaves the process
- clients: obstore and boto3 as storage.py and dead_letters.py use them, over the wire
- wire: what goes over it: requests, answers, and nothing at all
- s3: the service that answers
- scheduler: many threads, of which one runs: until its next request
- scenario: what a seed decides beforehand: keys, settings, how much goes wrong
- faults: what may become of a request
- world: one seed: users, events, invocations and faults, until all is quiet
- invariants: what must be true then
- mutations: faults put into the real code, each of which some invariant must see
- seeds: what the processes of a long run do
"""
