"""A GitHub-shaped forge on disk for one machine: REST subset, git over smart HTTP, signed webhooks, pages.

The fleet speaks to it with the same client and the same git as to GitHub. Start reading at ``app.py`` (the outside),
``rest/table.py`` (every verb with the permission it needs) and ``store.py`` (what is on disk).
"""
