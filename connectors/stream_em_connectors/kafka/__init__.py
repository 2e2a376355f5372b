"""Kafka in and out: one small client port, two clients behind it."""
