// SPDX-License-Identifier: Apache-2.0

import ModelStore

extension JSON {
    /// A float, written with the fewest digits that give it back.
    ///
    /// - Parameter value: what is not finite becomes -9999, as OpenAI writes a log-probability of nothing.
    static func float(_ value: Float) -> JSON {
        // The double that is nearest to those digits is written with the same digits.
        .number(value.isFinite ? Double(value.description) ?? Double(value) : -9999)
    }
}

/// RFC 4648, with padding.
func base64(_ bytes: [UInt8]) -> String {
    let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    var text: [UInt8] = []
    text.reserveCapacity((bytes.count + 2) / 3 * 4)
    for start in stride(from: 0, to: bytes.count, by: 3) {
        let group = bytes[start..<min(start + 3, bytes.count)]
        var bits: UInt32 = 0
        for (place, byte) in group.enumerated() { bits |= UInt32(byte) << (16 - 8 * place) }
        for place in 0..<4 {
            text.append(
                place <= group.count
                    ? digits[Int(bits >> (18 - 6 * place)) & 63] : UInt8(ascii: "="))
        }
    }
    return String(decoding: text, as: UTF8.self)
}
