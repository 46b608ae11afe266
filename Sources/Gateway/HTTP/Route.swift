// SPDX-License-Identifier: Apache-2.0

import HTTPTypes

/// What is asked for.
enum Route: Equatable, Sendable {
    case root
    case health
    case models
    case model(String)
    case completions
    case embeddings
    case chatCompletions
    case tokenize, detokenize, tokenizerInfo, metrics
    case ollamaVersion, ollamaTags, ollamaShow, ollamaGenerate, ollamaChat, ollamaEmbed,
        ollamaEmbeddings

    /// - Throws: 404 for a path that does not exist, 405 for a method it does not have.
    init(_ method: HTTPRequest.Method, _ path: String) throws(APIError) {
        guard let (route, methods) = Self.find(path) else {
            throw APIError(
                404, "no_such_path",
                "there is no \(printable(path)) here; GET /v1/models and POST /v1/completions are two that exist"
            )
        }
        let isRead = method == .get || method == .head
        guard methods == "POST" ? method == .post : isRead else {
            throw APIError(
                405, "method_not_allowed",
                "\(printable(path)) has \(methods), not \(printable(method.rawValue))",
                allowed: methods)
        }
        self = route
    }

    private static func find(_ path: String) -> (Route, methods: String)? {
        let reads = "GET, HEAD"
        switch path {
        case "/": return (.root, reads)
        case "/health", "/v1/health": return (.health, reads)
        case "/v1/models", "/models": return (.models, reads)
        case "/v1/completions", "/completions": return (.completions, "POST")
        case "/v1/embeddings", "/embeddings": return (.embeddings, "POST")
        case "/v1/chat/completions", "/chat/completions": return (.chatCompletions, "POST")
        case "/tokenizer_info": return (.tokenizerInfo, reads)
        case "/api/chat": return (.ollamaChat, "POST")
        case "/tokenize": return (.tokenize, "POST")
        case "/detokenize": return (.detokenize, "POST")
        case "/metrics": return (.metrics, reads)
        case "/api/version": return (.ollamaVersion, reads)
        case "/api/tags": return (.ollamaTags, reads)
        case "/api/show": return (.ollamaShow, "POST")
        case "/api/generate": return (.ollamaGenerate, "POST")
        case "/api/embed": return (.ollamaEmbed, "POST")
        case "/api/embeddings": return (.ollamaEmbeddings, "POST")
        default:
            guard path.hasPrefix("/v1/models/"), let name = decoded(path.dropFirst(11)) else {
                return nil
            }
            return (.model(name), reads)
        }
    }

    var hasBody: Bool {
        switch self {
        case .completions, .chatCompletions, .ollamaChat, .embeddings, .tokenize, .detokenize,
            .ollamaShow, .ollamaGenerate,
            .ollamaEmbed, .ollamaEmbeddings:
            true
        case .root, .health, .models, .model, .tokenizerInfo, .metrics, .ollamaVersion, .ollamaTags:
            false
        }
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
