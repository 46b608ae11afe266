// SPDX-License-Identifier: Apache-2.0

import CMessages

/// A description of all services and messages, for clients that have no .proto file.
package enum DescriptorSet {
    /// A serialized google.protobuf.FileDescriptorSet.
    package static let bytes = [UInt8](
        UnsafeBufferPointer(start: mmf_descriptor_set_bytes(), count: mmf_descriptor_set_size))
}
