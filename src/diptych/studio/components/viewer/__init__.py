"""The image viewer: the server renders what the screen shows, so that the browser never holds a whole result."""
