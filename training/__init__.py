"""What every training loop shares: checkpoints, averaged weights, metrics log, progress, step seeding."""
