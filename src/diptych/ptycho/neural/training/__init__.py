"""Training: the loop, the loss, clipping, schedules and callbacks."""
