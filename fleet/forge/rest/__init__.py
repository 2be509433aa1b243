"""The REST subset of GitHub's API v3 (and two GraphQL mutations) that the fleet's forge client speaks."""
