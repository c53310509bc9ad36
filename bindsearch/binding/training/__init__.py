"""The training loop: loss, gradients in parts, checkpoints, log and validation."""
