"""Pure core: no I/O, no clock, no randomness.

Read in this order: ticket, states, events, view, gates, effects, ports.
"""
