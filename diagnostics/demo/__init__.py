"""The demo: train three cells on real text, with and without clipping, and report on them."""
