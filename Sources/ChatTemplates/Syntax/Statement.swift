// SPDX-License-Identifier: Apache-2.0

/// Statements with a scope of their own. What is set inside is not seen outside.
struct Scope: Sendable {
    var statements: [Statement] = []
    /// Names that are undefined at the beginning, whatever the caller has given: those that are set in this scope before anything
    /// reads them there. Jinja decides so when it compiles, and a scope further in may read them earlier.
    var masked: [Name] = []
}

indirect enum Statement: Sendable {
    struct Loop: Sendable {
        let target: AssignmentTarget
        let items: Expression
        let test: Expression?
        var body: Scope
        var otherwise: Scope?
        let position: TemplatePosition
    }

    struct Macro: Sendable {
        let name: Name?
        let label: String
        let parameters: [(name: Name, label: String, initial: Expression?)]
        var body: Scope
        /// Whether its body reads these names, which only then it takes.
        let takesCaller: Bool
        let takesKeywords: Bool
        let takesList: Bool
        let position: TemplatePosition
    }

    case text(Text)
    case print(Expression)
    case condition([(test: Expression, body: [Statement])], otherwise: [Statement])
    case loop(Loop)
    case assign(AssignmentTarget, Expression, TemplatePosition)
    /// `value` is what becomes of the captured text.
    case assignBlock(AssignmentTarget, Scope, value: Expression, TemplatePosition)
    case macro(Macro)
    /// A call with a block that the macro calls as `caller()`.
    case callBlock(Expression, Macro)
    case filterBlock(Scope, value: Expression)
    case with([(AssignmentTarget, Expression)], Scope, TemplatePosition)
    /// `{% generation %}`: marks what the assistant wrote, and is written like anything else.
    case generation(Scope)
    case breakLoop, continueLoop
}
