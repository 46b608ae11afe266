// SPDX-License-Identifier: Apache-2.0

/// One rendering: what it has written and what it may still use.
final class Renderer {
    enum Flow {
        case normal, breakLoop, continueLoop
    }

    let labels: [String]
    let time: TemplateTime
    private let variables: [Name: Value]
    /// Left to do.
    private var steps: Int
    private var depth = 0
    private var buffer: [Unicode.Scalar] = []
    /// What `.captured` stands for.
    var captured: [Value] = []
    /// The place that an error is about.
    var position = TemplatePosition(line: 1, column: 1)

    init(labels: [String], variables: [Name: Value], time: TemplateTime, steps: Int) {
        self.steps = steps
        self.labels = labels
        self.variables = variables
        self.time = time
    }

    func render(_ template: Scope) throws(TemplateError) -> String {
        let root = Frame(in: nil, masked: template.masked)
        defer { root.clear() }
        _ = try execute(template.statements, in: root)
        var text = String.UnicodeScalarView()
        text.append(contentsOf: buffer)
        let output = String(text)
        guard output.utf8.count <= TemplateLimits.output else { throw tooLong() }
        return output
    }

    // MARK: Limits and errors

    func fail(_ message: String) -> TemplateError {
        TemplateError(.value, message, at: position)
    }

    func unsupported(_ what: String) -> TemplateError {
        TemplateError(.unsupported, what, at: position)
    }

    func charge(_ count: Int) throws(TemplateError) {
        steps -= count
        guard steps >= 0 else {
            throw TemplateError(
                .limit, "more work than a template may do (\(TemplateLimits.steps) steps)",
                at: position)
        }
    }

    /// Pays for a text of `count` scalars.
    func charge(text count: Int) throws(TemplateError) {
        guard count <= TemplateLimits.output else { throw tooLong() }
        try charge(1 + count / 8)
    }

    private func tooLong() -> TemplateError {
        TemplateError(
            .limit, "more than \(TemplateLimits.output) bytes of text", at: position)
    }

    /// One level further in.
    func nested<T>(_ body: () throws(TemplateError) -> T) throws(TemplateError) -> T {
        guard depth < TemplateLimits.evaluation else {
            throw TemplateError(
                .limit, "macros and blocks within each other, \(depth) levels deep", at: position)
        }
        depth += 1
        defer { depth -= 1 }
        return try body()
    }

    // MARK: Writing

    func write(_ text: Text) throws(TemplateError) {
        try charge(text: text.count)
        guard buffer.count + text.count <= TemplateLimits.output else { throw tooLong() }
        buffer += text.scalars
    }

    /// What `body` writes, instead of writing it.
    func capture<T>(
        _ body: () throws(TemplateError) -> T
    ) throws(TemplateError) -> (Text, T) {
        var outer: [Unicode.Scalar] = []
        swap(&outer, &buffer)
        defer { swap(&outer, &buffer) }
        let result = try body()
        let text = Text(buffer)
        return (text, result)
    }

    // MARK: Names

    func value(_ name: Name, in frame: Frame) -> Value {
        if let value = frame[name] ?? variables[name] { return value }
        if let builtin = Builtin(rawValue: labels[name]) { return .builtin(builtin) }
        return .undefined("'\(labels[name])' is undefined")
    }

    func assign(
        _ value: Value, to target: AssignmentTarget, in frame: Frame
    ) throws(TemplateError) {
        switch target {
        case .name(let name): frame[name] = value
        case .attribute(let name, let attribute, let place):
            position = place
            guard case .namespace(let namespace) = self.value(name, in: frame) else {
                throw fail("'\(labels[name])' is no namespace, so its attributes cannot be set")
            }
            _ = try depth(containing: [value])
            namespace.attributes[attribute] = value
        case .tuple(let targets, let place):
            position = place
            let values = try elements(value)
            guard values.count == targets.count else {
                throw fail("\(values.count) values for \(targets.count) names")
            }
            for (target, value) in zip(targets, values) {
                try assign(value, to: target, in: frame)
            }
        }
    }

    // MARK: Values made of values

    /// Levels of a value that contains these.
    func depth(containing values: some Sequence<Value>) throws(TemplateError) -> Int {
        var depth = 0
        for value in values {
            switch value {
            case .namespace, .macro, .loop, .builtin, .method:
                throw unsupported("a \(value.type) as an element or attribute of another value")
            default: depth = Swift.max(depth, value.depth)
            }
        }
        guard depth < TemplateLimits.nesting else {
            throw TemplateError(
                .limit, "values nested more than \(TemplateLimits.nesting) levels deep",
                at: position)
        }
        return depth + 1
    }

    func items(_ values: [Value]) throws(TemplateError) -> Items {
        try charge(values.count)
        return Items(values, depth: try depth(containing: values))
    }

    func dict(_ pairs: [(key: Value, value: Value)]) throws(TemplateError) -> Dict {
        try charge(pairs.count)
        var hashed: [(key: Value, hash: Value.Key, value: Value)] = []
        hashed.reserveCapacity(pairs.count)
        for (key, value) in pairs {
            if case .text(let text) = key { try charge(text: text.count) }
            hashed.append((key, try hash(key), value))
        }
        let depth = try depth(containing: pairs.lazy.map(\.value))
        return Dict(
            hashed, depth: Swift.max(depth, try self.depth(containing: pairs.lazy.map(\.key))))
    }

    func hash(_ value: Value) throws(TemplateError) -> Value.Key {
        guard let key = value.key else {
            throw fail("a \(value.type) cannot be the key of a mapping")
        }
        return key
    }
}
