"""Diagnostics inside a user's own training loop: what is measured, written down, and judged."""
