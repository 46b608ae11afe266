// SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage
import TestSupport
import Testing

#if FUZZER
    import CFuzzer
#endif

@Suite("Any bytes are read or refused")
struct FuzzTests {
    static let corpus = FilePath(#filePath).removingLastComponent().appending("Corpus")

    @Test(
        "the corpus, and every input cut short or with a byte changed",
        arguments: FuzzTarget.allCases)
    func corpus(_ target: FuzzTarget) throws {
        let directory = Self.corpus.appending(target.rawValue)
        let inputs = try names(in: directory).map { try bytes(of: directory.appending($0)) }
        #expect(!inputs.isEmpty)
        target.run([])
        for input in inputs {
            target.run(input)
            for at in stride(from: 0, to: input.count, by: 1 + input.count / 50) {
                target.run(Array(input[..<at]))
                var changed = input
                changed[at] ^= 0x81
                target.run(changed)
            }
        }
    }

    #if FUZZER
        /// dev/fuzz runs this alone: MMFREED_FUZZ names the target, MMFREED_FUZZ_ARGUMENTS are libFuzzer's, between spaces.
        @Test("libFuzzer", .enabled(if: getenv("MMFREED_FUZZ") != nil))
        func fuzz() throws {
            let name = String(cString: getenv("MMFREED_FUZZ"))
            let target = try #require(FuzzTarget(rawValue: name))
            Self.fuzzed = target
            let arguments = getenv("MMFREED_FUZZ_ARGUMENTS").map { String(cString: $0) } ?? ""
            let all = ["fuzz"] + arguments.split(separator: " ").map(String.init)
            var argv: [UnsafeMutablePointer<CChar>?] = all.map { strdup($0) } + [nil]
            var argc = Int32(all.count)
            argv.withUnsafeMutableBufferPointer { buffer in
                var base = buffer.baseAddress!
                _ = LLVMFuzzerRunDriver(&argc, &base) { bytes, count in
                    FuzzTests.fuzzed?.run(Array(UnsafeBufferPointer(start: bytes, count: count)))
                    return 0
                }
            }
        }

        private nonisolated(unsafe) static var fuzzed: FuzzTarget?
    #endif
}
