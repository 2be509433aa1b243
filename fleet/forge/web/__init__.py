"""Pages for people: repositories, issues, pull requests with diff, checks, comment and merge. No script needed."""
