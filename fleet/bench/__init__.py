"""What the fleet costs, measured on the machine at hand: every figure beside its reference, in one run.

An entry point like the commands: it starts real homes, and nothing imports it but ``fleet.cli``.
"""
