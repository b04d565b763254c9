"""The configuration: YAML document, schema, checks and the model that the exporter runs by."""
