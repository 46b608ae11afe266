// SPDX-License-Identifier: Apache-2.0

/// The methods a server answers, by service and name. Handlers run on threads that may block (`RPCServer.handlerThreads` of
/// them), quick ones on a thread of their own; none runs on an event loop.
package struct Services: Sendable {
    /// Takes a request's payload, which is a part of its frame.
    typealias Handler =
        @Sendable (ArraySlice<UInt8>, Call, ServerStreams.Mode, StreamOutput) -> Void
    struct Method: Sendable {
        /// It starts no work: it answers while the server drains, too, and never waits for methods that may block.
        let isQuick: Bool
        let handler: Handler
    }
    private var methods: [String: [String: Method]] = [:]
    /// Told of what a handler threw that is no `RPCError`, with the number the caller gets.
    private let onBug: @Sendable (any Error, Call, String) -> Void

    package init(onBug: @escaping @Sendable (any Error, Call, String) -> Void = { _, _, _ in }) {
        self.onBug = onBug
    }

    /// What a caller is told of an error: an `RPCError` as it is; anything else is a bug, with a number to look it up by.
    private static func answer(
        _ error: any Error, _ call: Call, _ onBug: (any Error, Call, String) -> Void
    ) -> RPCError {
        if let error = error as? RPCError { return error }
        let number = "b" + String(UInt64.random(in: .min ... .max) >> 4, radix: 36)
        onBug(error, call, number)
        return RPCError(
            .internal, "a bug in the daemon; its log has it as \(number)", reason: "BUG")
    }

    /// A method with one answer. A thrown `RPCError` is sent as it is; anything else is INTERNAL, with a number.
    ///
    /// - Parameter isQuick: it starts no work and never blocks: it answers while the server drains, too, on a thread of its own.
    package mutating func unary<Question: WireMessage, Answer: WireMessage>(
        _ service: String, _ method: String, isQuick: Bool = false,
        _ handler: @escaping @Sendable (Question, Call) throws -> Answer
    ) {
        deferred(service, method, isQuick: isQuick) { question, call, reply in
            reply(Result { try handler(question, call) })
        }
    }

    /// Takes a method's one answer, on any thread.
    package typealias Reply<Answer> = @Sendable (Result<Answer, any Error>) -> Void

    /// As `unary`, for a handler that may answer later: once, on any thread.
    package mutating func deferred<Question: WireMessage, Answer: WireMessage>(
        _ service: String, _ method: String, isQuick: Bool = false,
        _ handler: @escaping @Sendable (Question, Call, @escaping Reply<Answer>) -> Void
    ) {
        add(service, method, isQuick) { [onBug] payload, call, mode, output in
            guard let question: Question = Self.decode(payload, output) else { return }
            handler(question, call) { result in
                do {
                    let answer = try result.get().encoded()
                    let advice = "ask for less at a time"
                    switch mode {
                    case .unary: output.respond(answer, ifTooLarge: advice)
                    case .streaming where answer.count > FrameHeader.dataLimit:
                        output.respond(StreamOutput.tooLarge("\(answer.count)", advice))
                    case .streaming: output.end(.data, flags: .remoteClosed, data: answer)
                    }
                } catch {
                    output.respond(Self.answer(error, call, onBug))
                }
            }
        }
    }

    /// A method that answers in parts, from any thread, through its outbox. What the handler throws ends the call.
    package mutating func stream<Question: WireMessage, Answer: MergeableMessage>(
        _ service: String, _ method: String,
        _ handler: @escaping @Sendable (Question, Call, Outbox<Answer>) throws -> Void
    ) {
        add(service, method, false) { [onBug] payload, call, mode, output in
            guard let question: Question = Self.decode(payload, output) else { return }
            let outbox = Outbox<Answer>(call: call, mode: mode, output: output)
            do { try handler(question, call, outbox) } catch {
                outbox.fail(Self.answer(error, call, onBug))
            }
        }
    }

    private mutating func add(
        _ service: String, _ method: String, _ isQuick: Bool, _ handler: @escaping Handler
    ) {
        methods[service, default: [:]][method] = Method(
            isQuick: isQuick, handler: handler)
    }

    private static func decode<Question: WireMessage>(
        _ payload: ArraySlice<UInt8>, _ output: StreamOutput
    ) -> Question? {
        do throws(WireError) { return try Question(decoding: payload) } catch {
            output.respond(RPCError(error))
            return nil
        }
    }

    func find(_ service: String, _ method: String) throws(RPCError) -> Method {
        guard let known = methods[service] else {
            throw RPCError(
                .unimplemented,
                "no service \(service); there are \(methods.keys.sorted().joined(separator: ", "))")
        }
        guard let found = known[method] else {
            throw RPCError(
                .unimplemented,
                "\(service) has no method \(method); it has \(known.keys.sorted().joined(separator: ", "))"
            )
        }
        return found
    }
}

/// The names of what goes over the wire.
package enum ServiceName {
    package static let inference = "mmfree.v1.Inference"
    package static let session = "mmfree.v1.Session"
    package static let control = "mmfree.v1.Control"
    package static let health = "grpc.health.v1.Health"
}
