"""Questions that go beyond the papers, one file a question."""
