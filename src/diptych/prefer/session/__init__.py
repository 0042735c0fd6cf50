"""Sessions: images are proposed, judged, and better ones proposed."""
