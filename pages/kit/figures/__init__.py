"""The pictures: pure functions from a trace to plates, one file a page."""
