// SPDX-License-Identifier: Apache-2.0

/// Where something stands in a template, from 1. Columns count Unicode scalars.
package struct TemplatePosition: Equatable, Sendable {
    package let line: Int
    package let column: Int

    package init(line: Int, column: Int) {
        self.line = line
        self.column = column
    }
}

/// Why a template is refused or could not be rendered.
package struct TemplateError: Error, Equatable, Sendable {
    package enum Kind: Equatable, Sendable {
        /// No template: what stands there is against Jinja's grammar.
        case syntax
        /// Jinja has it, this renderer does not.
        case unsupported
        /// An operation that the values do not allow, as in Jinja.
        case value
        /// The template called `raise_exception`: the conversation is not one that it renders.
        case raised
        /// More source, output, work or nesting than is allowed.
        case limit
    }

    package let kind: Kind
    package let message: String
    package let position: TemplatePosition?

    package init(_ kind: Kind, _ message: String, at position: TemplatePosition? = nil) {
        self.kind = kind
        self.message = message
        self.position = position
    }
}

extension TemplateError: CustomStringConvertible {
    package var description: String {
        let message = kind == .unsupported ? "not supported: \(self.message)" : self.message
        guard let position else { return message }
        return "line \(position.line), column \(position.column): \(message)"
    }
}

/// What one rendering may use, so that no template can stop a program.
enum TemplateLimits {
    /// Bytes of source.
    static let source = 256 << 10
    /// Bytes of output; also Unicode scalars of any text on the way.
    static let output = 16 << 20
    /// Evaluated nodes, made elements, and every eighth scalar of made text.
    static let steps = 10_000_000
    /// Levels of parentheses, blocks, operators and values.
    static let nesting = 100
    /// Levels of evaluation, macros' included.
    static let evaluation = 250
    /// As in Jinja's sandbox.
    static let range = 100_000
}
