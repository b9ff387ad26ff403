"""Feeds damaged images to the image code: `make fuzz`.

- __main__: the command; runs worker processes and saves findings
- worker: one process that tries one case after another
- mutations: ways to damage a file
- seeds: the intact files that are damaged
"""
