"""The past of a configuration's statistics: `taskrouter-exporter backfill`."""
