"""Prometheus exporter for Twilio TaskRouter."""

__version__ = "0.1.0"
