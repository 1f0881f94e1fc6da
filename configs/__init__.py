"""Configs of the paper's experiments; `default` is the schema."""
