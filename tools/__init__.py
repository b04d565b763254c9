"""Generators of committed files: dashboards, the chart's copies, the configuration page, release notes."""
