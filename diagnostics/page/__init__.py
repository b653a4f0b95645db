"""Showing: figures as inline SVG and the page around them; computes nothing that is reported."""
