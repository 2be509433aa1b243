"""The supervisor: folds events into views, decides, and orders effects. It alone moves a ticket.

``fold`` and ``decide`` are what it thinks, ``shard`` and ``service`` what it does.
"""
