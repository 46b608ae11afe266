// SPDX-License-Identifier: Apache-2.0

import CLinux
import Foundation
package import SystemPackage

/// A client of a share socket that sends the very bytes it is told to.
package final class RawShareSocket {
    package let descriptor: Int32

    package init(_ path: String) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let connected = withUnsafeBytes(of: &address) {
            connect(
                descriptor, $0.baseAddress!.assumingMemoryBound(to: sockaddr.self),
                socklen_t($0.count))
        }
        guard connected == 0 else { throw Errno(rawValue: errno) }
        var limit = timeval(tv_sec: 120, tv_usec: 0)
        setsockopt(
            descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { close(descriptor) }

    /// - Returns: whether the system took it.
    @discardableResult
    package func send(_ bytes: [UInt8], with other: Int32 = -1) -> Bool {
        cl_send_descriptor(descriptor, bytes, bytes.count, other) == bytes.count
    }

    /// The next datagram and the descriptor beside it; no bytes at the end.
    package func receive() throws -> (bytes: [UInt8], descriptor: FileDescriptor?) {
        var bytes = [UInt8](repeating: 0, count: 8192)
        var found: Int32 = -1
        let count = cl_receive_descriptor(descriptor, &bytes, bytes.count, &found)
        guard count >= 0 else { throw Errno(rawValue: -count) }
        return (
            Array(bytes[..<Int(count)]), found >= 0 ? FileDescriptor(rawValue: found) : nil
        )
    }
}

/// The descriptors this process has open of a file.
package func openDescriptors(of path: FilePath) -> Int {
    let all = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? []
    return all.count {
        (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/" + $0))
            == path.string
    }
}

/// Runs a shell command as the user nobody, who has no other rights, with `input` as its standard input. Needs root.
///
/// - Returns: its exit status.
package func asNobody(_ command: String, input: FileDescriptor) throws -> Int32 {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/setpriv")
    process.arguments = [
        "--reuid=65534", "--regid=65534", "--clear-groups", "--", "/bin/sh", "-c",
        "exec 2>/dev/null; \(command)",
    ]
    process.standardInput = FileHandle(fileDescriptor: input.rawValue, closeOnDealloc: false)
    try process.run()
    process.waitUntilExit()
    return process.terminationStatus
}
