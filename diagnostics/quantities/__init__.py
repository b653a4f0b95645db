"""The numbers: each quantity is a pure function of arrays, apart from rules and plots."""
