// SPDX-License-Identifier: Apache-2.0

import HTTPTypes

/// What is asked for.
enum Route: Equatable, Sendable {
    case root, openAPI
    case health
    case models
    case model(String)
    case completions
    case embeddings
    case chatCompletions
    case tokenize, detokenize, tokenizerInfo, metrics
    case ollamaVersion, ollamaTags, ollamaShow, ollamaGenerate, ollamaChat, ollamaEmbed,
        ollamaEmbeddings

    /// Of those with a fixed path, all of its spellings. What is read has GET and HEAD; all others have POST, and a body.
    static let paths: [(route: Route, isRead: Bool, spellings: [String])] = [
        (.root, true, ["/"]),
        (.openAPI, true, ["/openapi.json"]),
        (.health, true, ["/health", "/v1/health"]),
        (.models, true, ["/v1/models", "/models"]),
        (.completions, false, ["/v1/completions", "/completions"]),
        (.chatCompletions, false, ["/v1/chat/completions", "/chat/completions"]),
        (.embeddings, false, ["/v1/embeddings", "/embeddings"]),
        (.tokenize, false, ["/tokenize"]),
        (.detokenize, false, ["/detokenize"]),
        (.tokenizerInfo, true, ["/tokenizer_info"]),
        (.metrics, true, ["/metrics"]),
        (.ollamaVersion, true, ["/api/version"]),
        (.ollamaTags, true, ["/api/tags"]),
        (.ollamaShow, false, ["/api/show"]),
        (.ollamaGenerate, false, ["/api/generate"]),
        (.ollamaChat, false, ["/api/chat"]),
        (.ollamaEmbed, false, ["/api/embed"]),
        (.ollamaEmbeddings, false, ["/api/embeddings"]),
    ]

    /// A model's name follows.
    static let modelPath = "/v1/models/"

    /// - Throws: 404 for a path that does not exist, 405 for a method it does not have.
    init(_ method: HTTPRequest.Method, _ path: String) throws(APIError) {
        guard let (route, isRead) = Self.find(path) else {
            throw APIError(
                404, "no_such_path",
                "there is no \(printable(path)) here; GET /openapi.json lists what there is")
        }
        guard isRead ? method == .get || method == .head : method == .post else {
            let methods = isRead ? "GET, HEAD" : "POST"
            throw APIError(
                405, "method_not_allowed",
                "\(printable(path)) has \(methods), not \(printable(method.rawValue))",
                allowed: methods)
        }
        self = route
    }

    private static func find(_ path: String) -> (Route, isRead: Bool)? {
        if let entry = paths.first(where: { $0.spellings.contains(path) }) {
            return (entry.route, entry.isRead)
        }
        guard path.hasPrefix(modelPath), let name = decoded(path.dropFirst(modelPath.count)) else {
            return nil
        }
        return (.model(name), true)
    }

    /// A path's percent-encoding undone; `nil` if it is none, or no name.
    static func decoded(_ text: Substring) -> String? {
        var bytes: [UInt8] = []
        var rest = text.utf8
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            let digits = String(decoding: rest.prefix(2), as: UTF8.self)
            guard digits.utf8.count == 2, digits.allSatisfy(\.isHexDigit),
                let value = UInt8(digits, radix: 16)
            else { return nil }
            bytes.append(value)
            rest = rest.dropFirst(2)
        }
        guard !bytes.isEmpty, !bytes.contains(0) else { return nil }
        return String(validating: bytes, as: UTF8.self)
    }
}
