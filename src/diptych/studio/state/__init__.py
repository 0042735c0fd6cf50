"""What pages show and do, without a browser: plain Python that tests can call."""
