"""Models of others: PyTorch's recurrent layers, read from a file of their weights."""
