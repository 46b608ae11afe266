// SPDX-License-Identifier: Apache-2.0
import RPC
@main struct Main {
    static func main() async throws {
        let a = CommandLine.arguments
        let client = try await RPCClient.connect(path: a[1])
        var q = GenerateRequest()
        q.prompt = .text(a[2])
        q.maxTokens = 48
        var s = Sampling(); s.temperature = 0; q.sampling = s
        for try await r in InferenceClient(client).generate(q) { print(r.started.map { "\($0)\n" } ?? "", r.text, r.finished.map { "\n\($0)" } ?? "", separator: "", terminator: "") }
        print()
        print(try await ControlClient(client).status())
        print(try await ControlClient(client).models())
        var e = EmbedRequest(); var i = EmbedInput(); i.input = .text("hello"); e.input = [i]
        let r = try await InferenceClient(client).embedWhole(e)
        print(r.embeddings[0].values.prefix(4), r.embeddings[0].dimensions)
    }
}
