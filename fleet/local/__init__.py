"""One fleet on one machine: its home, its process tree, and how the services are put together.

``home`` knows the folders, secrets and settings; ``wiring`` builds the services; ``host`` keeps their processes
running; ``client`` is how a command finds or starts all that.
"""
