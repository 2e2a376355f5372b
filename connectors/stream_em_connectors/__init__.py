"""The wing of connectors: sources and sinks for stream-em, found by entry point."""
