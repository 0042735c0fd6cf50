"""Initial guesses: from the options, an estimated probe, or a trained network; short trials that compare them."""
