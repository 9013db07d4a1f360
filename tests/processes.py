"""Processes of a test: they share its memory as it stands, so that a local function can be one's work."""

import multiprocessing

FORK = multiprocessing.get_context("fork")
