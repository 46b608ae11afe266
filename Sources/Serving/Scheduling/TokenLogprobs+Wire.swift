// SPDX-License-Identifier: Apache-2.0

import Engine
import RPC

extension TokenLogprobs {
    init(_ token: SampledToken, _ tokenizer: Tokenizer?) {
        func logprob(_ id: UInt32, _ value: Float) -> TokenLogprob {
            TokenLogprob(token: id, logprob: value, text: tokenizer?.bytes(of: id) ?? [])
        }
        self.init(
            chosen: logprob(token.id, token.logprob),
            top: token.top.map { logprob($0.id, $0.logprob) })
    }
}
