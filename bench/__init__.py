"""The benchmark: minirnn beside its peers. ``make bench`` runs it, bench/README.md explains it."""
