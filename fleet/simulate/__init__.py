"""The whole fleet on a virtual clock: real thinking, simulated outside, faults by seed, promises checked at every step.

Real: ``fleet.core``, the supervisor whole, the agents' task, the publisher's plan. Simulated: store, broker, forge,
attempts, gates, publisher, people. docs/simulation.md tells what that proves and what it does not.
"""
