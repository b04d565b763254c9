"""The Grafana dashboards, written with Grafana's Foundation SDK.

`python -m tools.dashboards` writes them into `monitoring/dashboards/`, and a test says when that is needed.
"""
