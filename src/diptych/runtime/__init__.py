"""What every long job needs: devices, progress, run directories, logs and seeds."""
