"""The messages of Prometheus remote write 1.0.

    syntax = "proto3";
    package prometheus;
    message Label { string name = 1; string value = 2; }
    message Sample { double value = 1; int64 timestamp = 2; }
    message TimeSeries { repeated Label labels = 1; repeated Sample samples = 2; }
    message WriteRequest { repeated TimeSeries timeseries = 1; }

They are described here instead of being generated: protoc is not needed, and no version of it is tied to one
of the library. Source: https://prometheus.io/docs/specs/prw/remote_write_spec/
"""

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_PACKAGE: Final = "prometheus"
_MESSAGES: Final[Mapping[str, Mapping[str, str | FieldDescriptorProto.Type.ValueType]]] = {
    "Label": {"name": FieldDescriptorProto.TYPE_STRING, "value": FieldDescriptorProto.TYPE_STRING},
    "Sample": {"value": FieldDescriptorProto.TYPE_DOUBLE, "timestamp": FieldDescriptorProto.TYPE_INT64},
    "TimeSeries": {"labels": "Label", "samples": "Sample"},
    "WriteRequest": {"timeseries": "TimeSeries"},
}
"""The fields of each message, numbered from 1. Those that are messages are repeated."""


def _write_request() -> Any:  # noqa: ANN401 -- a class that the library makes
    file = FileDescriptorProto(name="remote_write.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), 1):
            if isinstance(kind, str):
                message.field.add(
                    name=field,
                    number=number,
                    label=FieldDescriptorProto.LABEL_REPEATED,
                    type=FieldDescriptorProto.TYPE_MESSAGE,
                    type_name=f".{_PACKAGE}.{kind}",
                )
            else:
                message.field.add(
                    name=field, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL, type=kind
                )
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.WriteRequest"))


WriteRequest: Final = _write_request()
