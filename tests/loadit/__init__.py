"""Tests of `LoadIt`."""
