"""What figures and pages are made of: primitives, axes, and the one theme of colours and type."""
