"""Patches of ministack that restore behaviour of AWS which this pipeline depends on.

One module for each AWS service and for signatures, one function for each patch. Its docstring says
what AWS does and what ministack does instead. In tests/local_stack, test_ministack_patches.py,
test_services_patches.py, test_cloudfront_patches.py and test_gate.py show for every patch that
ministack still needs it. Two differences stay: failed events are retried after 1 and 2 seconds,
where AWS waits 1 and 2 minutes, and CloudFront caches nothing.

This package runs in ministack's own environment, so it imports nothing of the project but itself.
"""
