"""The browser app over both panels (extra ``studio``)."""
