# SPDX-License-Identifier: Apache-2.0
"""The protocol's messages, made at run time in a descriptor pool of their own.

Any protobuf runtime from 4.21 on can do that, and google/rpc/status.proto of other packages stays in the default pool.
"""

from __future__ import annotations

import base64
from typing import Any, TypeAlias

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError as DecodeError

from ._descriptors import SET

# protobuf's classes are made at run time, so there is nothing to check their fields against.
Message: TypeAlias = Any

_pool = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(base64.b64decode(SET)).file:
    _pool.AddSerializedFile(_file.SerializeToString())
_classes: dict[str, Any] = {}


def message_class(name: str) -> Any:
    """The class of a message by its full name."""
    found = _classes.get(name)
    if found is None:
        descriptor = _pool.FindMessageTypeByName(name)
        if hasattr(message_factory, "GetMessageClass"):
            found = message_factory.GetMessageClass(descriptor)
        else:  # before protobuf 4.22
            found = message_factory.MessageFactory(_pool).GetPrototype(descriptor)
        _classes[name] = found
    return found


def parse(name: str, data: bytes) -> Message:
    """Raises DecodeError."""
    return message_class(name).FromString(data)
