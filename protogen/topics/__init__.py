"""Texts of `protogen help TOPIC`: what the README has no room for, a topic a file."""
