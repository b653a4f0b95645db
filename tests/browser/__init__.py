"""Pages opened in a real browser: `make browser`."""
