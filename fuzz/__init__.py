"""Feeds damaged images to the image code: `make fuzz`.

- __main__: the command; runs worker processes and saves findings
- worker: one process that tries one case after another
- mutations: how a file is damaged
- bytewise: damage to bytes, whatever they mean
- formats: damage to what a format consists of: chunks, segments, boxes, tags, frames
- seeds: the intact files that are damaged
"""
