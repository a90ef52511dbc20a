"""Files that a peer's own Python runs; they must not import metaquery. Each prints one JSON object of CPU seconds."""
