// SPDX-License-Identifier: Apache-2.0

import RPC

/// Models by digest, which is known of those that have been opened.
extension ModelCatalog {
    /// As `withModel`, for the model that has this digest, whatever it is called: of those that are mapped, else of all there are.
    func withModel(
        digest: String, for call: Call, bytes: Int,
        _ body: @escaping @Sendable (Result<LoadedModel, CatalogError>) -> Void
    ) {
        withModel(digest: digest, after: [.openAll, .scan, .openAll], call, bytes, body)
    }

    /// What is done about a digest that no mapped model has.
    private enum Step {
        case scan, openAll
    }

    private func withModel(
        digest: String, after steps: ArraySlice<Step>, _ call: Call, _ bytes: Int,
        _ body: @escaping @Sendable (Result<LoadedModel, CatalogError>) -> Void
    ) {
        let known = update { $0.state.digests }
        if let name = known.first(where: { $0.value == digest })?.key {
            return withModel(name, for: call, bytes: bytes) { [self] found in
                // It may have been replaced just now.
                guard case .success(let model) = found, model.info.digest != digest else {
                    return body(found)
                }
                body(.failure(.unknownDigest(digest, update { $0.state.digests })))
            }
        }
        guard let step = steps.first else { return body(.failure(.unknownDigest(digest, known))) }
        let awaited: Set<String>
        switch step {
        case .scan: awaited = [WaitingRequests.scan]
        case .openAll:
            awaited = Set(names)
            want(names)
        }
        let waits = wait(
            for: awaited, account: call.peer.account, bytes: bytes, until: call.deadline,
            onCancel: call.onCancel
        ) { [self] outcome in
            switch outcome {
            case .settled:
                withModel(digest: digest, after: steps.dropFirst(), call, bytes, body)
            case .expired: body(.failure(.tooLate(digest)))
            case .stopping: body(.failure(.stopping))
            }
        }
        if !waits { body(.failure(isStopping ? .stopping : .crowded(digest))) }
    }
}
