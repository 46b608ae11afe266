// SPDX-License-Identifier: Apache-2.0

import Glibc
import NIOCore
import SystemPackage

/// One end of a TCP connection.
struct TCPEnd: Equatable {
    /// 16 bytes; an IPv4 address as ::ffff:a.b.c.d.
    let address: [UInt8]
    let port: UInt16

    init(address: [UInt8], port: UInt16) {
        self.address = address
        self.port = port
    }

    init?(_ address: NIOCore.SocketAddress?) {
        guard let text = address?.ipAddress, let number = address?.port,
            let port = UInt16(exactly: number)
        else { return nil }
        var four = in_addr()
        var six = in6_addr()
        if inet_pton(AF_INET, text, &four) == 1 {
            self.address = Self.mapped + withUnsafeBytes(of: &four) { Array($0) }
        } else if inet_pton(AF_INET6, text, &six) == 1 {
            self.address = withUnsafeBytes(of: &six) { Array($0) }
        } else {
            return nil
        }
        self.port = port
    }

    static let mapped: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]
}

/// The kernel's tables of TCP sockets (/proc/net/tcp, proc(5)), which say whose socket is at the other end of a loopback connection.
enum SocketTable {
    /// The user whose socket is connected from `client` to `server`; `nil` if no user's is.
    static func owner(client: TCPEnd, server: TCPEnd) throws(Errno) -> UInt32? {
        for path in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
            let text: String
            do throws(Errno) { text = try read(path) } catch {
                // A kernel without IPv6 has no table of it.
                if error == .noSuchFileOrDirectory, path.hasSuffix("6") { continue }
                throw error
            }
            for line in text.split(separator: "\n").dropFirst() {
                if let row = Row(line), row.isConnected, row.local == client, row.remote == server {
                    return row.uid
                }
            }
        }
        return nil
    }

    /// A line of the table.
    struct Row {
        let local, remote: TCPEnd
        /// ESTABLISHED, and a process has it open. Of a socket that is closing the table says that it is root's.
        let isConnected: Bool
        let uid: UInt32

        init?(_ line: Substring) {
            let fields = line.split(separator: " ", maxSplits: 10)
            guard fields.count > 9, let local = Self.end(fields[1]),
                let remote = Self.end(fields[2]),
                let uid = UInt32(fields[7]), let inode = UInt64(fields[9])
            else { return nil }
            self.local = local
            self.remote = remote
            self.uid = uid
            isConnected = fields[3] == "01" && inode != 0
        }

        /// "0100007F:1F90": words of the address as this machine has them, and the port.
        private static func end(_ text: Substring) -> TCPEnd? {
            let parts = text.split(separator: ":")
            guard parts.count == 2, let port = UInt16(parts[1], radix: 16),
                parts[0].utf8.count == 8 || parts[0].utf8.count == 32
            else { return nil }
            var address = parts[0].utf8.count == 8 ? TCPEnd.mapped : []
            var rest = parts[0]
            while !rest.isEmpty {
                guard let word = UInt32(rest.prefix(8), radix: 16) else { return nil }
                withUnsafeBytes(of: word) { address += $0 }
                rest = rest.dropFirst(8)
            }
            return TCPEnd(address: address, port: port)
        }
    }

    private static func read(_ path: String) throws(Errno) -> String {
        do {
            let file = try FileDescriptor.open(path, .readOnly, options: .closeOnExec)
            return try file.closeAfter {
                var bytes: [UInt8] = []
                var chunk = [UInt8](repeating: 0, count: 64 << 10)
                while true {
                    let count = try chunk.withUnsafeMutableBytes { try file.read(into: $0) }
                    if count == 0 { return String(decoding: bytes, as: UTF8.self) }
                    bytes += chunk[..<count]
                }
            }
        } catch {
            throw error as? Errno ?? .ioError
        }
    }
}
