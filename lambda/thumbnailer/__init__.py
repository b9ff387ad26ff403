"""The function's code. Imports point one way (ADR 15, checked by `make lint`)."""
