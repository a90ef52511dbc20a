"""Adapters to what other people's users have: their spaces, objectives, blackboxes and drivers.

Each module needs the package that it is named after, and nothing here is imported by the rest of metaquery.
"""
