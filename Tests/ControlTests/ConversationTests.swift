// SPDX-License-Identifier: Apache-2.0

import ChatTemplates
import Testing

@testable import mmfreectl

@Suite("A conversation under a chat template")
struct ConversationTests {
    private func conversation(
        _ source: String, system: String? = nil
    ) throws -> Conversation {
        Conversation(
            ConversationStyle(
                template: try ChatTemplate(source), bosToken: "<s>", eosToken: "</s>", name: "T"),
            system: system)
    }

    private static let plain =
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"

    @Test("each turn appends what goes beyond what the session has read, the answer's end included")
    func appends() throws {
        var talk = try conversation(Self.plain, system: "S")
        #expect(try talk.say("a") == .append("<s>[system]S</s>[user]a</s>[assistant]"))
        talk.hear("b")
        #expect(try talk.say("c") == .append("</s>[user]c</s>[assistant]"))
        talk.hear("d")
        #expect(
            talk.read
                == "<s>[system]S</s>[user]a</s>[assistant]b</s>[user]c</s>[assistant]d")
        #expect(talk.messages.count == 5)
    }

    @Test("a template that writes earlier messages in another way makes the session begin anew")
    func restarts() throws {
        var talk = try conversation(
            "{% for m in messages %}<{{ m.content | trim }}>{% if loop.last %}!{% endif %}{% endfor %}"
        )
        #expect(try talk.say("a") == .append("<a>!"))
        talk.hear("b")
        #expect(
            try talk.say("c")
                == .restart(
                    "<a><b><c>!",
                    why: "T writes what was said before in another way now (byte 3 of 5)"))
        talk.hear("")
        #expect(talk.read == "<a><b><c>!")
    }

    @Test("a refusal of the template's is told in its words, and changes nothing")
    func refusals() throws {
        var talk = try conversation(
            "{% if messages | length > 1 %}{{ raise_exception('one message only') }}{% endif %}x")
        #expect(try talk.say("a") == .append("x"))
        talk.hear("b")
        let error = #expect(throws: Failure.self) { _ = try talk.say("c") }
        #expect(error?.message == "T refuses the conversation: one message only")
        #expect(error?.status == .data)
        #expect(talk.messages.count == 2 && talk.read == "xb")
    }

    @Test("a file that begins with a section's line is sections, another one a chat template")
    func sections() {
        #expect(ChatStyle.isSections("\n--- turn\n{prompt}"))
        #expect(!ChatStyle.isSections("{% if true %}\n--- turn\n{% endif %}"))
    }
}
