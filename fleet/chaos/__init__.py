"""Disturbing a real fleet on purpose, and judging what is left: kill -9, freezes, faults on its lines.

An entry point like the commands: it starts real homes, and nothing imports it but ``fleet.cli``.
"""
