"""The only holder of the write token: pushes H, finds or creates the pull request, writes evidence and comments."""
