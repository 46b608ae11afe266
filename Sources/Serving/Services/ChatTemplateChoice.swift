// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore
import RPC
import SystemPackage

/// Which chat template a model has: NAME.jinja beside NAME.gguf where there is one, which an administrator puts there, or else the one
/// that it was packed with.
enum ChatTemplateChoice {
    static func path(beside model: FilePath) -> FilePath {
        model.removingLastComponent().appending((model.lastComponent?.stem ?? "") + ".jinja")
    }

    static func answer(
        _ request: ChatTemplateRequest, _ loaded: LoadedModel
    ) throws(RPCError) -> ChatTemplateResponse {
        var response = ChatTemplateResponse()
        response.model = loaded.name
        response.modelDigest = loaded.model.digest
        let templates: PackedTemplates
        do { templates = try PackedTemplates(loaded.model.file.metadata) } catch {
            throw RPCError(
                .failedPrecondition,
                "the chat templates of model '\(loaded.name)' are refused: \(error); pack the model again",
                reason: "CHAT_TEMPLATE_REFUSED")
        }
        let tokenizer = loaded.model.tokenizer
        func piece(_ id: UInt32?) -> String { id.flatMap { tokenizer?.piece($0) } ?? "" }
        response.bosToken = templates.bosToken ?? piece(tokenizer?.bos)
        response.eosToken = templates.eosToken ?? piece(tokenizer?.endTokens.first)
        if request.name.isEmpty, let source = try beside(loaded) {
            response.template = source
            response.fromSetting = true
            return response
        }
        guard let source = templates[request.name] else {
            throw missing(request, loaded, templates)
        }
        response.template = source
        return response
    }

    private static func missing(
        _ request: ChatTemplateRequest, _ loaded: LoadedModel, _ templates: PackedTemplates
    ) -> RPCError {
        let wanted = request.name.isEmpty ? "" : " '\(request.name)'"
        let others =
            templates.isEmpty
            ? ""
            : "; it has \((templates.named.map(\.name) + (templates.standard == nil ? [] : ["default"])).joined(separator: ", "))"
        let supply =
            request.name.isEmpty
            ? "; the file \(path(beside: loaded.model.file.path)) supplies one, or packing a checkpoint that has one in tokenizer_config.json or chat_template.jinja"
            : ""
        return RPCError(
            .notFound, "model '\(loaded.name)' has no chat template\(wanted)\(others)\(supply)",
            reason: "NO_CHAT_TEMPLATE")
    }

    /// - Returns: nil if there is no such file.
    private static func beside(_ loaded: LoadedModel) throws(RPCError) -> String? {
        let path = path(beside: loaded.model.file.path)
        do {
            let file = try MappedFile(path: path, untrusted: .refuse)
            guard file.count <= PackedTemplates.sizeLimit else {
                throw StoreError.malformed(
                    "it is \(file.count) bytes long; at most \(PackedTemplates.sizeLimit) are allowed"
                )
            }
            let bytes = file.withBytes { Array($0) }
            try file.checkUnchanged()
            guard let source = String(validating: bytes, as: UTF8.self) else {
                throw StoreError.malformed("it is not UTF-8")
            }
            return source
        } catch StoreError.io(.noSuchFileOrDirectory, _, _) {
            return nil
        } catch {
            throw RPCError(
                .failedPrecondition,
                "the chat template \(path) of model '\(loaded.name)' is refused: \(error); replace or remove the file",
                reason: "CHAT_TEMPLATE_REFUSED")
        }
    }
}
