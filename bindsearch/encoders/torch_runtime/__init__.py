"""PyTorch at run time: devices, threads, towers and tensor files."""
