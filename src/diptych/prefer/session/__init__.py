"""A session: images are proposed, judged, and proposed better."""
