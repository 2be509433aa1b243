"""The demo: a small project and six tickets that show what the fleet promises, each checked against the record."""
