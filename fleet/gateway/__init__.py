"""The model gateway: the only process that holds real model keys, and the one place where money is counted."""
